"""Loops that numba compiles once and keeps, where there is a place for it: beside the code, or in the user's cache."""

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

log = logging.getLogger(__name__)


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` with its cache; without one where numba finds no folder to write to, which it says once.

    A loop may call those of modules in its own folder, but of no other: what is kept of it is forgotten when one of
    these modules changes, whereas numba itself looks at the loop's own module only.
    """
    options["no_cfunc_wrapper"] = True  # nobody calls them from C, and it takes time to compile

    def compiled(loop: Callable[..., Any]) -> Any:
        loop.__qualname__ += f"_{_digest(Path(loop.__code__.co_filename).parent)}"  # part of the name of what is kept
        try:
            return numba.njit(cache=True, **options)(loop)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            _say()
            return numba.njit(**options)(loop)

    return compiled


@cache
def _digest(folder: Path) -> str:
    """Of the modules in a folder."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(folder.glob("*.py")))).hexdigest()[:8]


@cache
def _say() -> None:
    log.warning("no folder to keep compiled loops in, so every start compiles them: set NUMBA_CACHE_DIR=DIR")
