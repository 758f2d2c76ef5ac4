"""Names of the methods, where their classes live, and names of the weights. It imports nothing heavy (`zoo.list`).

A method is known by its file `configs/generator/<name>.yaml`, whose line `class: module:Class` names the code. A
package of somebody else adds methods through the entry-point group `zoo.generators` (`name = "module:Class"`) and may
bring files like ours (see `resources`).
"""

import fnmatch
import functools
import importlib
import os
import re
from pathlib import Path
from typing import Any

from . import resources
from .errors import ConfigError, unknown

WEIGHTS = "model.safetensors"  # the file that makes a folder of checkpoints/ a set of weights
_CLASS_LINE = re.compile(r"^class:\s*([\w.]+:\w+)\s*$", re.MULTILINE)


def as_name(given: object) -> str:
    """What a user gives for weights, a run or a recipe, as text. A path-like object is a path, whatever it is called.

    Raises:
        ConfigError: It is neither text nor path-like.
    """
    if isinstance(given, str):
        return given
    if not isinstance(given, os.PathLike):
        raise ConfigError(f"an object of type {type(given).__name__} is no name: give a name as text, or a path")
    path = str(os.fspath(given))
    return path if os.path.dirname(path) else os.path.join(os.curdir, path)


def names() -> list[str]:
    """Names of the registered methods, sorted."""
    return sorted({*resources.config_files("generator"), *resources.plugins()["zoo.generators"]})


def weights() -> list[str]:
    """Names of the weights that zoo and its plug-ins ship, and of the user's own, as `method.tag`, in natural order."""
    return sorted({*weight_folders(), *own_folders()}, key=_natural)


def weight_folders() -> dict[str, Path]:
    """Folders of the shipped weights, by name."""
    return resources.weight_folders(WEIGHTS)


def own_folders() -> dict[str, Path]:
    """Folders of the user's own weights, by name. Nobody vouches for them, so they are read like a stranger's."""
    place = resources.own_weights()
    return {path.parent.name: path.parent for path in place.glob(f"*.*/{WEIGHTS}")} if place else {}


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


def list_models(pattern: str = "*", *, pretrained: bool | None = None) -> list[str]:
    """Names of methods (`shadegan`) and of their weights (`shadegan.heads64`), in natural order; does not import torch.

    Args:
        pattern: Shell wildcards, matched against the method and against `method.tag`.
        pretrained: True lists only weights, False only methods, None both.
    """
    both = {*([] if pretrained else names()), *([] if pretrained is False else weights())}
    matching = (n for n in both if any(fnmatch.fnmatchcase(part, pattern) for part in (n, n.partition(".")[0])))
    return sorted(matching, key=_natural)


def target(name: str) -> str:
    """The place of a method's class, as `"module:Class"`.

    Raises:
        ConfigError: The name is not registered; the message offers the nearest names.
    """
    path, point = resources.config_files("generator").get(name), resources.plugins()["zoo.generators"].get(name)
    if path is not None and (match := _CLASS_LINE.search(path.read_text(encoding="utf-8"))):
        return match.group(1)
    if point is not None:
        return point.value
    if path is not None:
        raise ConfigError(f"{path}: the line 'class: module:Class' is missing; add it")
    raise ConfigError(unknown("method", name, names()))


@functools.cache
def resolve(name: str) -> type[Any]:
    """The generator class registered under `name`.

    Raises:
        ConfigError: The name is not registered, or belongs to a plug-in that cannot be imported.
    """
    try:
        return imported(target(name))
    except (ImportError, AttributeError) as error:
        if name not in resources.plugins()["zoo.generators"]:
            raise
        raise ConfigError(
            f"{name}: the package that brings it does not work ({error}); repair it, or remove it"
        ) from error


def imported(path: str) -> type[Any]:
    """Import the class that `"module:name"` stands for."""
    module, _, attribute = path.partition(":")
    found: type[Any] = getattr(importlib.import_module(module), attribute)
    return found
