"""The similarity that best takes one set of points to another (Umeyama 1991, eq. 40 to 43).

A scale, a rotation and a translation are what cameras and units decide. What they cannot explain is a difference of
shape, so the two can be measured apart. Everything runs in float64.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_THIN = 1e-6  # second singular value of the correlation, below which points lie on a line and leave the rotation open


class Similarity(NamedTuple):
    """B similarities p -> scale * rotation @ p + translation, float64; where none is defined, all of it is NaN.

    Attributes:
        scale: (B,), 0 or more.
        rotation: (B, 3, 3), never a reflection.
        translation: (B, 3).
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def apply(self, points: Tensor) -> Tensor:
        """The points, (B, 3, H, W) or (B, N, 3), taken along, in float64."""
        moved = _rows(points) @ (self.scale[:, None, None] * self.rotation).mT + self.translation[:, None]
        return _like(moved, points)

    def turn(self, normals: Tensor) -> Tensor:
        """The directions, (B, 3, H, W) or (B, N, 3), turned by the rotation alone, in float64."""
        return _like(_rows(normals) @ self.rotation.mT, normals)


def align(points: Tensor, targets: Tensor, weight: Tensor) -> Similarity:
    """The similarities that take points to their targets with the least weighted sum of squares.

    A row is NaN where the points that count leave it open: fewer than three, all on a line, or not finite. Points of
    weight 0 may hold anything.

    Args:
        points: (B, 3, H, W) or (B, N, 3).
        targets: Where each point should go, in the same shape.
        weight: (B, 1, H, W) or (B, N), bool or 0 and more; in most cases a mask.

    Raises:
        ValueError: The shapes do not fit together.
    """
    expected = (len(points), 1, *points.shape[2:]) if points.ndim == 4 else points.shape[:2]
    if points.shape != targets.shape or weight.shape != expected or points.shape[1 if points.ndim == 4 else -1] != 3:
        raise ValueError(
            f"points, targets and weight must be (B,3,H,W), (B,3,H,W), (B,1,H,W) or (B,N,3), (B,N,3), (B,N); got "
            f"{tuple(points.shape)}, {tuple(targets.shape)}, {tuple(weight.shape)}"
        )
    w = weight.reshape(len(weight), -1, 1).double()
    p, g = (torch.where(w > 0, _rows(x), 0.0) for x in (points, targets))
    w = w / w.sum(1, keepdim=True)
    p_mean, g_mean = ((w * x).sum(1, keepdim=True) for x in (p, g))
    p, g = p - p_mean, g - g_mean
    p_spread, g_spread = ((w * x.square()).sum((1, 2)) for x in (p, g))
    covariance = (w * g).mT @ p / (p_spread * g_spread).sqrt()[:, None, None]

    finite = covariance.isfinite().all((1, 2))
    u, s, vt = torch.linalg.svd(torch.where(finite[:, None, None], covariance, torch.eye(3).to(covariance)))
    sign = torch.ones_like(s)
    sign[:, 2] = (torch.linalg.det(u) * torch.linalg.det(vt)).sign()  # a reflection would fit mirrored points better
    rotation = (u * sign[:, None]) @ vt
    scale = (s * sign).sum(1) * (g_spread / p_spread).sqrt()
    translation = g_mean[:, 0] - scale[:, None] * (rotation @ p_mean.mT)[..., 0]
    defined = finite & (s[:, 1] > _THIN)
    return Similarity(
        *(x.where(defined.view(-1, *[1] * (x.ndim - 1)), torch.nan) for x in (scale, rotation, translation))
    )


def rotation_angle(rotation: Tensor) -> Tensor:
    """The angles (B,) in degrees, 0..180, of rotations (B, 3, 3); NaN where a rotation is.

    It is atan2 of sine and cosine: arccos of the trace alone loses half its digits near 0.
    """
    skew = rotation - rotation.mT
    sine = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], -1).norm(dim=-1)
    return torch.atan2(sine, rotation.diagonal(dim1=1, dim2=2).sum(1) - 1).rad2deg()


def _rows(points: Tensor) -> Tensor:
    """Points as (B, N, 3), float64."""
    return (points.flatten(2).mT if points.ndim == 4 else points).double()


def _like(rows: Tensor, points: Tensor) -> Tensor:
    """Rows (B, N, 3) in the shape of `points`."""
    return rows.mT.reshape(points.shape) if points.ndim == 4 else rows
