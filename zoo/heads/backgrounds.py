"""Procedural pictures to stand behind the embedded heads instead of black, as pure functions of (seed, split, index).

On a black background, dark matter costs a generator nothing: fins on skulls, lumps behind heads and specks beside them
stay unseen while it learns. On backgrounds that change from picture to picture they show.
"""

from __future__ import annotations

import numpy as np

from .sampling import BACKGROUND, Bits

OCTAVES = (1, 3, 7, 15)  # cells across the picture: a slope, then finer and finer clouds
_SOFTEST, _ROUGHEST = 0.25, 0.75  # strength of an octave relative to the one before


def draw_backgrounds(indices: np.ndarray, seed: int, split: str, size: int) -> np.ndarray:
    """Draw (B, 3, size, size) float32 in [0, 1]: coloured clouds over a mean colour, as varied as rooms are."""
    return np.stack([_draw(Bits(seed, split, BACKGROUND, int(i)), size) for i in indices])


def _draw(bits: Bits, size: int) -> np.ndarray:
    grey, tint, (contrast, colourful, rough) = bits.uniform(1), bits.uniform(3), bits.uniform(3)
    mean = grey + 0.6 * colourful * (tint - grey)
    strength, total = 1.0, np.zeros((3, size, size))
    for cells in OCTAVES:
        grid = 2 * bits.uniform(4, cells + 1, cells + 1) - 1
        own = (1 - colourful) * grid[:1] + colourful * grid[1:]  # from grey clouds to coloured ones
        total += strength * _enlarged(own, size)
        strength *= _SOFTEST + (_ROUGHEST - _SOFTEST) * rough
    out: np.ndarray = np.clip(mean[:, None, None] + 0.6 * contrast * total, 0, 1).astype(np.float32)
    return out


def _enlarged(grid: np.ndarray, size: int) -> np.ndarray:
    """Enlarge a grid (C, N, N) to (C, size, size), corner to corner; the smoothstep between hides the cells."""
    at = np.linspace(0, grid.shape[-1] - 1, size)
    low = np.minimum(at.astype(np.int64), grid.shape[-1] - 2)
    part = at - low
    part = part * part * (3 - 2 * part)
    rows = grid[:, low] * (1 - part)[:, None] + grid[:, low + 1] * part[:, None]
    out: np.ndarray = rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part
    return out
