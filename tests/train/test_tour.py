"""The notebook docs/tour.ipynb runs from top to bottom, and is kept without outputs."""

import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "tour.ipynb"


def code() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_is_kept_without_outputs() -> None:
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("missing", [True, False])
def test_the_first_cell_installs_what_is_missing(missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda words, check: ran.append(words))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if missing else object())
    exec(code()[0], {})
    assert ran == [[sys.executable, "-m", "pip", "install", "-q", ".."]] * missing
    assert (NOTEBOOK.parent / ".." / "pyproject.toml").is_file()


def test_badges_wait_for_a_public_home() -> None:
    """Services open notebooks at public addresses: a badge before there is one, or none after, would be wrong."""
    home = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Homepage"]
    for page in (ROOT / "README.md", NOTEBOOK):
        assert ("colab.research.google.com/github/" in page.read_text("utf-8")) == (".example" not in home), page.name


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    # Lightning's workers need the guard that notebooks do not have, so that cells run as one module of their own.
    program = tmp_path / "tour.py"
    program.write_text("\n\n".join(code()), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); exec(open('tour.py').read())"],
        cwd=tmp_path, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("face.glb", "face.html"):
        assert (tmp_path / name).is_file()
