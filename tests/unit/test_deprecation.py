"""Names that moved work as before, say where they went, and are in docs/UPGRADING.md."""

import importlib
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from zoo.runtime import deprecation
from zoo.version import __version__

pytestmark = pytest.mark.filterwarnings("always::DeprecationWarning")
PAGE = (Path(__file__).parents[2] / "docs" / "UPGRADING.md").read_text("utf-8")


@pytest.fixture(autouse=True)
def nothing_was_said(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts, and leaves the others, without old modules."""
    monkeypatch.setattr(deprecation, "_said", set())
    yield
    for old in deprecation.MODULES.keys() & sys.modules.keys():
        parent, _, name = old.rpartition(".")
        del sys.modules[old]
        vars(sys.modules.get(parent, deprecation)).pop(name, None)


@pytest.mark.parametrize("old", deprecation.MODULES)
def test_old_modules_give_what_is_in_the_new_ones(old: str) -> None:
    with pytest.warns(
        DeprecationWarning, match=rf"{re.escape(old)} is deprecated and goes with zoo 0\.3\.0: use zoo\."
    ):
        module = importlib.import_module(old)
    for place in deprecation.MODULES[old].split():
        for name, value in vars(importlib.import_module(place)).items():
            if getattr(value, "__module__", None) == place:
                assert getattr(module, name) is value
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing


@pytest.mark.parametrize(("old", "new", "names"), deprecation.NAMES)
def test_names_that_left_are_found(old: str, new: str, names: str) -> None:
    for name in names.split():
        with pytest.warns(DeprecationWarning, match=f"{old}.{name} .* use {new}.{name}"):
            assert getattr(importlib.import_module(old), name) is getattr(importlib.import_module(new), name)


def test_a_warning_comes_once_and_points_at_the_import() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile("from zoo.config import to_dict\nfrom zoo.schemas import Card", "script.py", "exec"), {})
        exec("from zoo.config import to_dict; from zoo.schemas import Card", {})
    assert [(w.filename, w.lineno) for w in caught] == [("script.py", 1), ("script.py", 2)]


def test_export_stays_a_function_after_an_old_import() -> None:
    code = "import zoo\nfrom zoo.export import grid\nzoo.export('no mesh', 'x.txt')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ConfigError: x.txt" in done.stderr


def test_the_page_has_both_lists() -> None:
    rows = [re.findall(r"`([\w.]+)`", line) for line in PAGE.splitlines() if line.startswith("| `")]
    named = {(row[0], " ".join(row[1:])) for row in rows}
    assert named == {*deprecation.MODULES.items(), *((old, f"{new} {names}") for old, new, names in deprecation.NAMES)}


def test_what_is_announced_for_this_version_is_gone() -> None:
    assert Version(__version__) < Version(deprecation.GONE)
