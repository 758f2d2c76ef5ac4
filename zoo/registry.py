"""Names of the methods, where their classes live, and names of the weights. Imports nothing heavy, see `zoo.list`.

A method is known by its file `configs/generator/<name>.yaml`, whose line `class: module:Class` names the code. A
package of somebody else adds methods through the entry-point group `zoo.generators` (`name = "module:Class"`).
"""

import fnmatch
import importlib
import re
from typing import TYPE_CHECKING, Any

from . import resources
from .errors import ConfigError, unknown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

WEIGHTS = "model.safetensors"  # the file that makes a folder of checkpoints/ a set of weights
_CLASS_LINE = re.compile(r"^class:\s*([\w.]+:\w+)\s*$", re.MULTILINE)


def _plugins() -> "EntryPoints":
    from importlib.metadata import entry_points  # half of what `import zoo` would take

    return entry_points(group="zoo.generators")


def names() -> list[str]:
    """Registered method names, sorted."""
    shipped = {path.stem for path in (resources.configs() / "generator").glob("*.yaml")}
    return sorted(shipped | {point.name for point in _plugins()})


def weights() -> list[str]:
    """Names `method.tag` of the shipped weights, in natural order."""
    return sorted((path.parent.name for path in resources.checkpoints().glob(f"*.*/{WEIGHTS}")), key=_natural)


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


def list_models(pattern: str = "*", *, pretrained: bool | None = None) -> list[str]:
    """Names of methods (`shadegan`) and of their weights (`shadegan.heads64`), in natural order; does not import torch.

    Args:
        pattern: shell wildcards, matched against the method and against `method.tag`.
        pretrained: True only weights, False only methods, None both.
    """
    both = {*([] if pretrained else names()), *([] if pretrained is False else weights())}
    matching = (n for n in both if any(fnmatch.fnmatchcase(part, pattern) for part in (n, n.partition(".")[0])))
    return sorted(matching, key=_natural)


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
    for point in _plugins():
        if point.name == name:
            return point.value
    raise ConfigError(unknown("method", name, names()))


def resolve(name: str) -> type[Any]:
    """The generator class registered under `name`."""
    module, _, attribute = target(name).partition(":")
    return getattr(importlib.import_module(module), attribute)
