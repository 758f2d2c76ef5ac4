"""A model zoo for learning 3D shape from 2D images. Nothing heavy is imported until it is needed."""

import importlib
from typing import TYPE_CHECKING, Any

from .export import export
from .hub import build, card, evaluate, load, save
from .hub import list_models as list  # noqa: F401
from .version import __version__ as __version__

if TYPE_CHECKING:
    import builtins

    from .geometry import Camera as Camera
    from .geometry import Light as Light
    from .geometry import Render as Render

# `list` stays out: a star import must not hide the built-in.
__all__ = ["Camera", "Light", "Render", "build", "card", "evaluate", "export", "load", "save"]
_GEOMETRY = ("Camera", "Light", "Render")


def __getattr__(name: str) -> Any:
    # Not `from . import geometry`: that asks this very function for `geometry`, and recurses.
    if name in _GEOMETRY:
        return getattr(importlib.import_module("zoo.geometry"), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> "builtins.list[str]":
    return sorted([*globals(), *_GEOMETRY])
