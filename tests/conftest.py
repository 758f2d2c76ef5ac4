"""What every test starts from."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def rows_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test finds the rows that another one, or a user, has measured."""
    place = tmp_path_factory.mktemp("results")
    monkeypatch.setenv("ZOO_RESULTS", str(place))
    return place
