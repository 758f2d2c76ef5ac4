"""Loops that numba compiles once and keeps, where there is a place for it: beside the code, or in the user's cache."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numba

log = logging.getLogger(__name__)


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` with its cache; without one where numba finds no folder to write to, which it says once."""
    options["no_cfunc_wrapper"] = True  # nobody calls them from C, and it takes time to compile

    def compiled(loop: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(loop)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            _say()
            return numba.njit(**options)(loop)

    return compiled


@cache
def _say() -> None:
    log.warning("no folder to keep compiled loops in, so every start compiles them: set NUMBA_CACHE_DIR=DIR")
