"""A model zoo for learning 3D shape from 2D images. Nothing heavy is imported until it is needed."""

import importlib
from typing import TYPE_CHECKING

from .registry import list_models
from .runtime import deprecation as _deprecation
from .version import __version__ as __version__

if TYPE_CHECKING:
    import builtins

    from .api import compare as compare
    from .api import evaluate as evaluate
    from .api import finetune as finetune
    from .api import invert as invert
    from .api import sample as sample
    from .api import train as train
    from .geometry import Camera as Camera
    from .geometry import Light as Light
    from .geometry import Render as Render
    from .hub import card as card
    from .hub import load as load
    from .hub import load_reconstruction as load_reconstruction
    from .hub import save as save
    from .official.importing import import_official as import_official
    from .output.meshes import export as export
    from .resources import example_photo as example_photo
    from .weights.build import build as build

list = list_models  # not `import ... as list`, which type checkers take for a name of our own

_LATER = {
    "api": ("compare", "evaluate", "finetune", "invert", "sample", "train"),
    "geometry": ("Camera", "Light", "Render"),
    "hub": ("card", "load", "load_reconstruction", "save"),
    "official.importing": ("import_official",),
    "output.meshes": ("export",),
    "resources": ("example_photo",),
    "weights.build": ("build",),
}
_HOME = {name: module for module, names in _LATER.items() for name in names}
# `list` stays out: a star import must not hide the built-in.
__all__ = [*_HOME]
_deprecation.install()

if not TYPE_CHECKING:  # type checkers would take every name for one that this function finds

    def __getattr__(name: str) -> object:
        # Not `from . import hub`: that asks this very function for `hub`, and recurses.
        if name in _HOME:
            return getattr(importlib.import_module(f"zoo.{_HOME[name]}"), name)
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> "builtins.list[str]":
    return sorted(["__version__", "list", *_HOME])
