"""Prints what to install beside another torch: for environments that bring a CPU-only one.

`pip install` would take back the torch that is there, since PyTorch3D's native part wants a range that CPU-only builds
need not be in. Without an argument that is what pyproject.toml asks for, with the extra `dev`, but torch; with `pins`,
the lines of pins.txt but torch and what its CUDA builds bring.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def asked_for() -> Iterator[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], "zoo3d[dev]"]
    for need in wanted:
        if own := re.fullmatch(rf"{project['name']}\[(.+)\]", need):
            wanted += [inner for extra in own[1].split(",") for inner in project["optional-dependencies"][extra]]
        elif not re.match(r"torch\b(?!-)", need):
            yield need


def pinned() -> Iterator[str]:
    for block in re.split(r"^(?=\w)", (ROOT / ".ci/pins.txt").read_text("utf-8"), flags=re.MULTILINE):
        if not re.match(r"(torch|triton|cuda-[\w-]+|nvidia-[\w-]+)==", block):
            yield block.rstrip()


print(*(pinned() if sys.argv[1:] == ["pins"] else asked_for()), sep="\n")
