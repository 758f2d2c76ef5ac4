"""The only door to PyTorch3D.

Its native part needs a torch built with CUDA libraries. Where that part cannot load, the Python layer (meshes, cameras,
textures, shaders, files, losses) still works once `pytorch3d._C` is replaced by a stand-in that complains when it is
called. Our own rasteriser then takes over on the CPU.
"""

import importlib
import sys
from functools import cache
from types import ModuleType
from typing import Any

from ..errors import ZooError

_NATIVE = "pytorch3d._C"
INSTALL = "pip install easypytorch3d==0.7.9.post1"
_PARTS = ("structures", "renderer", "io", "loss", "ops", "transforms")


class _Missing:
    """Stands in for one function or constant of the native part."""

    def __init__(self, name: str, reason: str) -> None:
        self._message = f"pytorch3d._C.{name} needs PyTorch3D's native part, which did not load ({reason}): zoo doctor"

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise ZooError(self._message)


class _Stub(ModuleType):
    """Stands in for `pytorch3d._C`: importing from it works, calling what it holds does not."""

    def __init__(self, reason: str) -> None:
        super().__init__(_NATIVE)
        self.reason = reason

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # introspection (inspect, pickle, doctest) must see a plain module
            raise AttributeError(name)
        return _Missing(name, self.reason)


@cache
def _load_native() -> str:
    """Import the native part, or put the stub in its place. Returns why it did not load, or "" if it did."""
    try:
        importlib.import_module("pytorch3d")
    except ModuleNotFoundError:
        raise ZooError(f"PyTorch3D is not installed: {INSTALL}") from None
    import torch  # noqa: F401  its libraries must be in memory before the native part asks for them

    try:
        importlib.import_module(_NATIVE)
    except ImportError as error:
        reason = str(error).strip().split("\n")[0]
        stub = _Stub(reason)
        sys.modules[_NATIVE] = stub
        sys.modules["pytorch3d"]._C = stub  # type: ignore[attr-defined]
        return reason
    return ""


def pytorch3d() -> Any:
    """The package `pytorch3d`, with its parts `structures`, `renderer`, `io`, `loss`, `ops` and `transforms` loaded.

    Raises:
        ZooError: PyTorch3D is not installed.
    """
    _load_native()
    for part in _PARTS:
        importlib.import_module(f"pytorch3d.{part}")
    return sys.modules["pytorch3d"]


def native() -> tuple[bool, str]:
    """Whether the native part works, and if not, why ("" if it does)."""
    try:
        reason = _load_native()
    except ZooError as error:
        return False, str(error)
    return not reason, reason
