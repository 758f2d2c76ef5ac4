"""How far two measurements agree that have no unit in common: correlations of relief, and of one number a picture."""

import numpy as np
import torch
from torch import Tensor

_FLAT = 1e-6  # of the size of the values: what is below is rounding


def relief_correlation(first: Tensor, second: Tensor, at: Tensor) -> Tensor:
    """Correlate heights (B, K) at points (B, K, 2) with others, after each has lost the plane that fits it best.

    A plane is what a turn of the head, a shift and a distance do to depth, so the shape is left.

    Returns:
        (B,) in [-1, 1], float64; NaN where one of the two is a plane.

    Raises:
        ValueError: The shapes do not fit together, there are fewer than 4 points, or a value is not finite.
    """
    if first.ndim != 2 or first.shape != second.shape or at.shape != (*first.shape, 2) or first.shape[1] < 4:
        shapes = ", ".join(str(tuple(x.shape)) for x in (first, second, at))
        raise ValueError(f"give heights (B, K) twice and points (B, K, 2), K 4 or more, got {shapes}")
    if not all(bool(x.isfinite().all()) for x in (first, second, at)):
        raise ValueError("heights or points have values that are not finite")
    at = at.double()
    plane = torch.linalg.qr(torch.cat([torch.ones_like(at[..., :1]), at - at.mean(1, keepdim=True)], -1)).Q
    reliefs = []
    for heights in (first.double(), second.double()):
        rest = heights - (plane @ (plane.mT @ heights[..., None]))[..., 0]
        length = rest.norm(dim=1, keepdim=True)
        reliefs.append((rest / length).where(length > _FLAT * heights.norm(dim=1, keepdim=True), torch.nan))
    out: Tensor = (reliefs[0] * reliefs[1]).sum(1).clamp(-1, 1)
    return out


def correlation_samples(first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
    """Two numbers for each of N pictures (N, 2), such that 1 - sum a / sum b is Pearson's correlation of (N,) and (N,).

    This is the form that `zoo.evaluation.statistics` draws from. Means and spreads are those of all pictures in every
    draw. None where there is no correlation: of fewer than 3 pictures, or if one of the two never changes.
    """
    pair = np.stack([first, second]).astype(np.float64)
    centred = pair - pair.mean(1, keepdims=True)
    spread = centred.std(1, keepdims=True)
    if pair.shape[1] < 3 or (spread < _FLAT).any():
        return None
    x, y = centred / spread
    return np.stack([(x - y) ** 2, x**2 + y**2], 1)
