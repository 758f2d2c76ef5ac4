"""Where to find the files that travel with zoo and its plug-ins: `configs/` and `checkpoints/`.

In a wheel both sit inside the package (`zoo/_configs`, `zoo/_checkpoints`); in a source checkout they are the
top-level folders, where people can read and edit them. A plug-in is a package of somebody else whose entry points name
a method, a layout of data or a table of published weights. Its folders `zoo_configs` and `zoo_checkpoints` lie beside
the module that the entry point names, and are found without importing that module.
"""

import os
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigError, ZooError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PLUGIN_GROUPS = ("zoo.generators", "zoo.layouts", "zoo.official")
_PACKAGE = Path(__file__).resolve().parent
_MAX_LETTERS = 120  # of a path in a message


def user_path(given: str | os.PathLike[str], error: type[ZooError], setting: str = "") -> Path:
    """A path as people write it, `~` included, that the system can have, whether or not something lies there.

    Args:
        given: The path.
        error: What to raise.
        setting: What the path was given for, such as `background=`, for the message.

    Raises:
        ZooError: It is too long, has a zero byte, lies below a file, or in a home or a folder that is out of reach.
    """
    try:
        path = Path(given).expanduser()
        os.stat(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, RuntimeError) as problem:  # of the system, of zero bytes, and of unknown homes
        reason = problem.strerror if isinstance(problem, OSError) else str(problem).rstrip(".")
        shown = ascii(str(given)[:_MAX_LETTERS])[1:-1]
        raise error(f"{setting}{shown}: no usable path ({reason}); name another") from None
    return path


def _folder(name: str) -> Path:
    shipped = _PACKAGE / f"_{name}"
    return shipped if shipped.is_dir() else _PACKAGE.parent / name


def configs() -> Path:
    """The folder of the YAML configurations."""
    return _folder("configs")


def checkpoints() -> Path:
    """The folder of the shipped weights, with one sub-folder `<name>.<tag>` for each of them."""
    return _folder("checkpoints")


def example_photo() -> Path:
    """The photograph that documents and tests use: the astronaut Eileen Collins, of NASA, in the public domain.

    It is part of scikit-image, 512 x 512 pixels. Commands that take photographs also take the word `example`.
    """
    import skimage

    return Path(skimage.__file__).parent / "data" / "astronaut.png"


def photograph(path: Path) -> Path:
    """The file that a user means: `example` is `example_photo` unless there is a file of that name."""
    return example_photo() if str(path) == "example" and not path.exists() else path


def config_files(kind: str = "") -> dict[str, Path]:
    """YAML files by name. If a plug-in uses a name that zoo has, zoo's own file counts.

    Args:
        kind: Sub-folder of `configs/`, such as "data"; by default the folder itself, which holds the recipes.
    """
    folders = [configs(), *_plugin_folders("zoo_configs")]
    return {path.stem: path for folder in reversed(folders) for path in (folder / kind).glob("*.yaml")}


def weight_folders(file: str) -> dict[str, Path]:
    """Folders that hold `file`, by name `<method>.<tag>`. Zoo's own count before those of plug-ins."""
    folders = [checkpoints(), *_plugin_folders("zoo_checkpoints")]
    return {path.parent.name: path.parent for folder in reversed(folders) for path in folder.glob(f"*.*/{file}")}


def own_weights() -> Path | None:
    """The folder of the user's own weights, `$ZOO_WEIGHTS`, with one sub-folder `<name>.<tag>` for each of them.

    Raises:
        ConfigError: The variable holds no usable path.
    """
    place = os.environ.get("ZOO_WEIGHTS")
    return user_path(place, ConfigError, "ZOO_WEIGHTS=") if place else None


def offline() -> bool:
    """Whether `$ZOO_OFFLINE` forbids the network: any value but 0."""
    return os.environ.get("ZOO_OFFLINE", "0") not in ("", "0")


@once
def plugins() -> dict[str, dict[str, "EntryPoint"]]:
    """Entry points of installed plug-ins, by group and name."""
    from importlib.metadata import entry_points  # half of what `import zoo` would take

    found = entry_points()
    return {group: {point.name: point for point in found.select(group=group)} for group in PLUGIN_GROUPS}


@once
def _plugin_folders(name: str) -> list[Path]:
    modules = {point.module for points in plugins().values() for point in points.values()}
    places = (place / name for module in sorted(modules) for place in _around(module))
    return list(dict.fromkeys(place for place in places if place.is_dir()))


def _around(module: str) -> list[Path]:
    """The folder that a module lies in or stands for, and the folders above it in its package, without importing it."""
    from importlib.util import find_spec

    top, *inner = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return []
    roots = [Path(root) for root in (spec and spec.submodule_search_locations) or []]
    return [root.joinpath(*inner[:n]) for root in roots for n in range(len(inner), -1, -1)]


def cache() -> Path:
    """The folder for files that can be made again: `$ZOO_CACHE`, else `$XDG_CACHE_HOME/zoo`, else `~/.cache/zoo`."""
    if place := os.environ.get("ZOO_CACHE"):
        return Path(os.path.expanduser(place))
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zoo"
