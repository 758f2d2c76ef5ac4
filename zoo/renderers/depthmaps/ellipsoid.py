"""The ellipsoid that GAN2Shape's depth network is first fitted to (Pan et al. 2021, section 3.2)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...errors import ConfigError, unknown


@dataclass(frozen=True)
class Prior:
    """How a category's box around the foreground is adjusted, in fractions of its own height and width.

    Attributes:
        top, bottom: How far the box grows upwards and downwards; "edge" extends it to the last row.
        sides: How far the box shrinks on the left and on the right.
        far: Depth around the ellipsoid and at its rim.
    """

    top: float = 0.0
    bottom: float | Literal["edge"] = 0.0
    sides: float = 0.0
    far: float = 1.02


PRIORS = {
    "face": Prior(bottom="edge", sides=1 / 12),
    "synface": Prior(top=1 / 6),
    "cat": Prior(),
    "car": Prior(bottom=1 / 6),
    "church": Prior(bottom=1 / 6, far=1.0),
}


def ellipsoid_depth(mask: Tensor, category: str = "face", *, near: float = 0.91, radius: float = 0.4) -> Tensor:
    """Depth (S,S) of a cap of a sphere, stretched to the foreground's box.

    As in the published code, heights are stretched about the middle of the image while the centre is not, so an
    off-centre foreground shifts its ellipsoid.

    Args:
        mask: (S,S) opacity of the foreground in [0,1]; pixels of 0.7 or more count.
        category: A name in `PRIORS`.
        near: Depth of the point nearest to the camera.
        radius: Radius of the sphere, in units of depth.

    Raises:
        ConfigError: The category is unknown.
        ValueError: The mask is not square, or its foreground is less than two pixels wide or high.
    """
    if category not in PRIORS:
        raise ConfigError(unknown("category", category, PRIORS))
    if mask.ndim != 2 or mask.shape[0] != mask.shape[1]:
        raise ValueError(f"mask must be (S,S), got {tuple(mask.shape)}")
    prior, size = PRIORS[category], len(mask)
    rows, columns = (((mask >= 0.7).any(axis)).nonzero().flatten().tolist() for axis in (1, 0))
    if not rows or rows[0] == rows[-1] or columns[0] == columns[-1]:
        raise ValueError("the foreground of the mask is less than two pixels wide or high: check the mask (>= 0.7)")
    top, bottom, left, right = float(rows[0]), float(rows[-1]), float(columns[0]), float(columns[-1])
    height, width = bottom - top, right - left
    bottom = size - 1 if prior.bottom == "edge" else bottom + prior.bottom * height
    top, left, right = top - prior.top * height, left + prior.sides * width, right - prior.sides * width

    ratio, half = (bottom - top) / (right - left), (right - left) / 2
    axis = torch.arange(size, device=mask.device, dtype=torch.float32)
    y, x = torch.meshgrid((axis - size / 2) / ratio + size / 2, axis, indexing="ij")
    away = torch.hypot(y - (top + bottom) / 2, x - (left + right) / 2) / half
    rim = math.sqrt(radius**2 - (radius - (prior.far - near)) ** 2)
    cap = near + radius - (radius**2 - (away * rim).square()).abs().sqrt()
    return torch.where(away <= 1, cap, prior.far)
