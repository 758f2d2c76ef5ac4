"""A model zoo for learning 3D shape from 2D images. Nothing heavy is imported until it is needed."""

import importlib
from typing import TYPE_CHECKING, Any

from .export import export
from .registry import list_models as list  # noqa: F401
from .version import __version__ as __version__

if TYPE_CHECKING:
    import builtins

    from .editing.inversion import invert as invert
    from .geometry import Camera as Camera
    from .geometry import Light as Light
    from .geometry import Render as Render
    from .hub import build as build
    from .hub import card as card
    from .hub import evaluate as evaluate
    from .hub import load as load
    from .hub import load_reconstruction as load_reconstruction
    from .hub import save as save
    from .importers import import_official as import_official

_LATER = {
    "editing.inversion": ("invert",),
    "geometry": ("Camera", "Light", "Render"),
    "hub": ("build", "card", "evaluate", "load", "load_reconstruction", "save"),
    "importers": ("import_official",),
}
_HOME = {name: module for module, names in _LATER.items() for name in names}
# `list` stays out: a star import must not hide the built-in.
__all__ = ["export", *_HOME]


def __getattr__(name: str) -> Any:
    # Not `from . import hub`: that asks this very function for `hub`, and recurses.
    if name in _HOME:
        return getattr(importlib.import_module(f"zoo.{_HOME[name]}"), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> "builtins.list[str]":
    return sorted([*globals(), *_HOME])
