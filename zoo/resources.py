"""Where the files that travel with the package lie: `configs/` and `checkpoints/`.

In a wheel both sit inside the package (`zoo/_configs`, `zoo/_checkpoints`); in a source checkout they are the
top-level folders, so that people read and edit them there.
"""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    shipped = _PACKAGE / f"_{name}"
    return shipped if shipped.is_dir() else _PACKAGE.parent / name


def configs() -> Path:
    """Folder of the YAML configurations."""
    return _folder("configs")


def checkpoints() -> Path:
    """Folder of the shipped weights, one sub-folder `<name>.<tag>` each."""
    return _folder("checkpoints")


def cache() -> Path:
    """Folder for what can be made again: `$ZOO_CACHE`, else `$XDG_CACHE_HOME/zoo`, else `~/.cache/zoo`."""
    if "ZOO_CACHE" in os.environ:
        return Path(os.environ["ZOO_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zoo"
