"""Prints what pyproject.toml asks for, with the extra `dev`, but torch: for environments that bring another torch.

`pip install` would take back the one that is there, since PyTorch3D's native part wants a range that CPU-only builds
need not be in.
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
wanted = [*project["dependencies"], "zoo3d[dev]"]
for need in wanted:
    if own := re.fullmatch(rf"{project['name']}\[(.+)\]", need):
        wanted += [inner for extra in own[1].split(",") for inner in project["optional-dependencies"][extra]]
    elif not re.match(r"torch\b(?!-)", need):
        print(need)
