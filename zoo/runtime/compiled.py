"""Loops that numba compiles once and keeps, where there is a place for it: beside the code, or in the user's cache."""

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.dispatcher import Dispatcher

log = logging.getLogger(__name__)


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` with its cache; without one where numba finds no folder to write to, which it says once.

    Numba compiles a loop anew when the loop's own module has changed. Here it does so, too, when a module has changed
    from which that imports loops or numbers.
    """
    options["no_cfunc_wrapper"] = True  # nobody calls them from C, and it takes time to compile

    def compiled(loop: Callable[..., Any]) -> Any:
        loop.__qualname__ += f"_{_digest(loop)}"  # part of the name of what is kept
        try:
            return numba.njit(cache=True, **options)(loop)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            _say()
            return numba.njit(**options)(loop)

    return compiled


def _digest(loop: Any) -> str:
    """Of a loop's module and of what this has imported: loops, whose names have digests of their own, and numbers."""
    path = Path(loop.__code__.co_filename)
    content = hashlib.sha256(path.read_bytes() if path.is_file() else b"")
    for name, value in sorted(loop.__globals__.items()):
        if isinstance(value, Dispatcher):
            content.update(f"{name} {value.py_func.__qualname__}".encode())
        elif isinstance(value, int | float | np.generic):
            content.update(f"{name} {value!r}".encode())
    return content.hexdigest()[:8]


@cache
def _say() -> None:
    log.warning("no folder to keep compiled loops in, so every start compiles them: set NUMBA_CACHE_DIR=DIR")
