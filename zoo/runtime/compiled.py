"""Loops that numba compiles once and keeps, where there is a place for it: beside the code, or in the user's cache."""

import hashlib
import logging
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import event
from numba.core.dispatcher import Dispatcher

_LONG = 2.0  # seconds of compilation after which people are told what they wait for
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


class _Notice(event.Listener):
    """Says once that loops are being compiled, when that has taken long; a compilation may be part of another."""

    def __init__(self) -> None:
        self.depth, self.since, self.spent = 0, 0.0, 0.0

    def on_start(self, event: object) -> None:
        now = time.monotonic()
        if not self.depth:
            self.since = now
        self.depth += 1
        if self.spent + now - self.since > _LONG:
            _say_what_takes_long()

    def on_end(self, event: object) -> None:
        self.depth -= 1
        if not self.depth:
            self.spent += time.monotonic() - self.since


@cache
def _say_what_takes_long() -> None:
    log.warning("compiling loops for this processor, which takes some seconds")


event.register("numba:compile", _Notice())
