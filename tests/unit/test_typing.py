"""What type checkers of users see: the types of the public names, and an objection to a name that is not there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "typing" / "user_script.py"
LINES = SCRIPT.read_text("utf-8").splitlines()
TYPES = {i: line.partition("  # is: ")[2] for i, line in enumerate(LINES, 1) if "  # is: " in line}
WRONG = {i for i, line in enumerate(LINES, 1) if line.endswith("  # wrong")}


def call(*command: str | Path, cwd: Path) -> str:
    """Output of a checker, which finds this copy of zoo."""
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stdout + done.stderr  # it has found something to say, and has not failed
    return done.stdout


def plain(name: str) -> str:
    """`builtins.list[PIL.Image.Image]` -> `list[Image]`."""
    return re.sub(r"[\w.]+\.(?=\w)", "", name).replace("Union[Tensor, None]", "Tensor | None")


@pytest.mark.slow  # it reads all of torch first
def test_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="needs mypy: pip install 'zoo3d[dev]'")
    flags = ("--config-file=", "--ignore-missing-imports", "--follow-imports=silent", f"--cache-dir={tmp_path}")
    found = call(sys.executable, "-m", "mypy", *flags, SCRIPT, cwd=tmp_path)
    notes = re.findall(r":(\d+): note: Revealed type is \"(.*)\"", found)
    assert {int(line): plain(name) for line, name in notes} == TYPES
    assert {int(line) for line in re.findall(r":(\d+): error:", found)} == WRONG, found
    assert 'Module has no attribute "laod"' in found


def test_pyright(tmp_path: Path) -> None:
    pytest.importorskip("basedpyright", reason="needs basedpyright: pip install 'zoo3d[dev]'")
    settings = {"include": [str(SCRIPT)], "extraPaths": [str(ROOT)], "typeCheckingMode": "standard"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    python = ("--pythonpath", sys.executable)
    found = json.loads(
        call(sys.executable, "-m", "basedpyright", "-p", tmp_path, *python, "--outputjson", cwd=tmp_path)
    )
    says = [(d["range"]["start"]["line"] + 1, d["severity"], d["message"]) for d in found["generalDiagnostics"]]
    notes = {line: re.search(r' is "(.*)"', text) for line, severity, text in says if severity == "information"}
    assert {line: plain(note[1]) for line, note in notes.items() if note} == TYPES
    assert {line for line, severity, _ in says if severity == "error"} == WRONG, says
    assert any('"laod" is not a known attribute of module "zoo"' in text for *_, text in says)
