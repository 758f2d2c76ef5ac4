"""Names of the methods and where their classes live. Nothing heavy is imported until a class is asked for.

A method is known by its file `configs/generator/<name>.yaml`, whose line `class: module:Class` names the code. A
package of somebody else adds methods through the entry-point group `zoo.generators` (`name = "module:Class"`).
"""

import difflib
import importlib
import re
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any

from . import resources
from .errors import ConfigError

_CLASS_LINE = re.compile(r"^class:\s*([\w.]+:\w+)\s*$", re.MULTILINE)


def names() -> list[str]:
    """Registered method names, sorted."""
    shipped = {path.stem for path in (resources.configs() / "generator").glob("*.yaml")}
    return sorted(shipped | {point.name for point in entry_points(group="zoo.generators")})


def target(name: str) -> str:
    """`"module:Class"` of a method.

    Raises:
        ConfigError: the name is not registered; the message offers the nearest names.
    """
    path = resources.configs() / "generator" / f"{name}.yaml"
    if re.fullmatch(r"\w+", name) and path.is_file():
        match = _CLASS_LINE.search(path.read_text(encoding="utf-8"))
        if match is None:
            raise ConfigError(f"{path}: no line 'class: module:Class'")
        return match.group(1)
    for point in entry_points(group="zoo.generators"):
        if point.name == name:
            return point.value
    raise ConfigError(unknown("method", name, names()))


def resolve(name: str) -> type[Any]:
    """The generator class registered under `name`."""
    module, _, attribute = target(name).partition(":")
    return getattr(importlib.import_module(module), attribute)


def unknown(what: str, value: str, known: Iterable[str]) -> str:
    """One line for an unknown name: what was given, the nearest match, everything there is."""
    known = sorted(known)
    near = difflib.get_close_matches(value, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {value!r}.{hint} Known: {', '.join(known) or 'none'}"
