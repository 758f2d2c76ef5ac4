"""What every test starts from."""

import os
from pathlib import Path

import pytest

from tests.offline import sitecustomize

# Subprocesses load the same file; what is not Python asks a proxy that nobody runs.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(sitecustomize.__file__).parent), os.environ.get("PYTHONPATH")])
)
for scheme in ("http", "https", "all"):
    os.environ[f"{scheme}_proxy"] = os.environ[f"{scheme}_proxy".upper()] = "http://127.0.0.1:9"
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1,::1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` need one, or ZOO_TEST_DEVICE=cpu, which rehearses their lines without proving anything."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or os.environ.get("ZOO_TEST_DEVICE") == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no GPU; ZOO_TEST_DEVICE=cpu rehearses this test"))


@pytest.fixture(scope="session")
def device() -> str:
    """Where tests marked `gpu` work: "cuda", or "cpu" in a rehearsal."""
    return os.environ.get("ZOO_TEST_DEVICE", "cuda")


@pytest.fixture(autouse=True)
def rows_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test finds the rows that another one, or a user, has measured, or what else is a user's own."""
    place = tmp_path_factory.mktemp("results")
    monkeypatch.setenv("ZOO_RESULTS", str(place))
    for setting in ("ZOO_WEIGHTS", "ZOO_OFFLINE"):
        monkeypatch.delenv(setting, raising=False)
    return place
