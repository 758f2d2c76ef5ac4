"""What this machine can do at best, measured in the run that compares with it: tall products, copies, sines."""

import math
from functools import cache

import numba
import numpy as np
import torch

from ..runtime.compiled import njit
from .harness import interleaved

_ROWS, _SECONDS = 2**15, 3.0
_PI = math.pi


@cache
def products(width: int, device: str) -> float:
    """Floating-point operations per second of (32768, width) times (width, width) in float32, written in place."""
    a, b = torch.randn(_ROWS, width, device=device), torch.randn(width, width, device=device)
    out = torch.empty_like(a)
    return 2 * _ROWS * width**2 / _best(lambda: torch.mm(a, b, out=out))


@cache
def copies(device: str) -> float:
    """Bytes per second, read and written, of a copy that no cache holds."""
    a = torch.zeros(2**26, device=device)
    b = torch.empty_like(a)
    return 2 * a.nbytes / _best(lambda: b.copy_(a))


@cache
def sines(device: str) -> float:
    """Sines per second in float32, of values in cache; on a CPU by a polynomial that a compiler vectorises."""
    x = torch.linspace(-100, 100, 2**15, device=device)
    if device != "cpu":
        return x.numel() / _best(lambda: torch.sin_(x))
    threads, before, blocks = torch.get_num_threads(), numba.get_num_threads(), np.tile(x.numpy(), (16, 1))
    numba.set_num_threads(min(threads, before))
    rate = blocks.size / _best(lambda: _sine_rows(blocks))
    numba.set_num_threads(before)
    torch.set_num_threads(threads)  # numba's threads may be OpenMP's, whose number is then torch's, too
    return rate


@njit(parallel=True, fastmath=True)
def _sine_rows(rows: np.ndarray) -> None:
    for i in numba.prange(rows.shape[0]):
        row = rows[i]
        for j in range(row.shape[0]):
            x = row[j]
            turns = np.rint(x * np.float32(1 / _PI))
            r = x - turns * np.float32(_PI)
            odd = turns - np.float32(2) * np.floor(turns * np.float32(0.5))
            s = r * r
            p = np.float32(-1.951e-4)
            p = p * s + np.float32(8.332e-3)
            p = p * s + np.float32(-0.1666665)
            # Added to the next turn's angles instead of replacing them, so that the values never settle.
            row[j] = x + np.float32(1e-3) * (np.float32(1) - np.float32(2) * odd) * (r + r * s * p)


def seconds(flops: float, sine_count: float, width: int, device: str) -> float:
    """The least time that so many operations take here: their products alone or their sines alone."""
    return max(flops / products(width, device), sine_count / sines(device) if sine_count else 0.0)


def _best(call: object) -> float:
    """The faster quartile: nothing makes a machine faster than it is."""
    return interleaved({"limit": call}, 25, _SECONDS)["limit"].low  # type: ignore[dict-item]
