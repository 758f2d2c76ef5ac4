"""Surfaces turned and moved into place without knowing which points belong together (Chen and Medioni 1992, ICP).

`zoo.metrics.alignment` takes pixel x of one map to pixel x of another. That is right only where both show the same
point of the object there. A head that is turned has its nose at another pixel, and pixel by pixel most of its turn
looks like another shape: 5 degrees of yaw appear as 1.4. Here the partner of a pixel is where the surface meets the ray
through it once it is in place. Place and partners are searched together, with distances from points to tangent planes.

The scale is that of the alignment pixel by pixel. If it were free, surfaces that are too flat would shrink to a spot.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Camera
from .alignment import Similarity, align

_STEPS, _LAST = 20, 5  # steps of place and partners together, then of partners alone
_TURN = 0.1  # radians, the longest turn in one step
_SLID = 0.5  # share of the pixels with a partner below which a surface has slid away, and stays as it was


class Registered(NamedTuple):
    """B surfaces in place, float64.

    Attributes:
        similarity: what takes their points there; NaN where `align` has no answer to start from.
        at: (B, S, S, 2) where in the surface's maps the partner of each pixel is; -1 and 1 are the outermost pixels.
        seen: (B, 1, S, S) bool, the pixels whose partner lies inside the surface's mask.
    """

    similarity: Similarity
    at: Tensor
    seen: Tensor

    def look_up(self, maps: Tensor) -> Tensor:
        """The maps (B, C, S, S) of the surfaces, float64, so that each pixel has the value of its partner."""
        return _sample(maps.double(), self.at)


def register(
    points: Tensor,
    mask: Tensor,
    targets: Tensor,
    normals: Tensor,
    target_mask: Tensor,
    camera: Camera,
    crop: Tensor | None = None,
) -> Registered:
    """Bring surfaces to their targets.

    A surface that would lose more than half of its pixels on the way keeps the alignment pixel by pixel.

    Args:
        points: (B, 3, S, S) back-projected, any unit.
        mask: (B, 1, S, S), 0 or 1, the points that are valid; the others must be finite.
        targets: (B or 1, 3, S, S) points where the surfaces should be, in the frame of `camera`.
        normals: (B or 1, 3, S, S) unit normals of the targets, in that frame.
        target_mask: (B or 1, 1, S, S), 0 or 1, the pixels that are compared.
        camera: the targets' view: field of view, size S and pixel rule.
        crop: (B, 3) how the targets' pictures were cut out of that view: enlargement about the middle, then shift right
            and down in pixels. None stands for whole pictures.

    Raises:
        ValueError: the shapes do not fit together.
    """
    b, _, s, _ = points.shape
    p, inside = points.double(), mask.double()
    targets, normals, target_mask = (x.double().expand(b, -1, -1, -1) for x in (targets, normals, target_mask))
    axis = torch.linspace(-1, 1, s, dtype=torch.float64, device=p.device)
    goal = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).expand(b, -1, -1, -1)
    start = align(points, targets, inside * target_mask)
    place, at = start, goal
    view = Camera(torch.eye(4, dtype=torch.float64, device=p.device)[None], camera.fov, s, camera.pixel_centres)
    for step in range(_STEPS + _LAST):
        moved = place.apply(_sample(p, at))
        if step < _STEPS:
            place = _nearer(place, moved, targets, normals, target_mask * _inside(inside, at))
            moved = place.apply(_sample(p, at))
        pixels, _depth = view.project(moved.flatten(2).mT)
        if crop is not None:
            pixels = (pixels - (s - 1) / 2) * crop[:, None, :1].to(pixels) + (s - 1) / 2 + crop[:, None, 1:].to(pixels)
        at = (at + goal - (pixels / (s - 1) * 2 - 1).view_as(goal)).clamp(-1, 1)
    kept = (target_mask * _inside(inside, at)).sum((1, 2, 3)) > _SLID * target_mask.sum((1, 2, 3))
    place = Similarity(*(x.where(kept.view(-1, *[1] * (x.ndim - 1)), y) for x, y in zip(place, start, strict=True)))
    at = at.where(kept.view(-1, 1, 1, 1), goal)
    return Registered(place, at, _inside(inside, at))


def _nearer(place: Similarity, moved: Tensor, targets: Tensor, normals: Tensor, weight: Tensor) -> Similarity:
    """The place after one Gauss-Newton step on the weighted squares of the distances from points to tangent planes."""
    q, g, n = (x.flatten(2).mT for x in (moved, targets, normals))
    w = torch.where(weight > 0, weight, 0.0).flatten(2).mT
    centre = (w * g).sum(1, keepdim=True) / w.sum(1, keepdim=True).clamp_min(1)
    slopes = torch.cat([torch.linalg.cross(q - centre, n, dim=-1), n], -1)
    gap = (n * (q - g)).sum(-1, keepdim=True)
    normal, moment = (w * slopes).mT @ slopes, (w * slopes).mT @ gap
    unit = normal.diagonal(dim1=1, dim2=2).sqrt().clamp_min(1e-30)[..., None]  # turns and shifts have other units
    damped = normal / unit / unit.mT + 1e-6 * torch.eye(6, dtype=w.dtype, device=w.device)
    change = -(torch.linalg.solve(damped, moment / unit) / unit)[..., 0]
    turn = change[:, :3] / (change[:, :3].norm(dim=-1, keepdim=True) / _TURN).clamp_min(1)
    zero = torch.zeros_like(turn[:, 0])
    x, y, z = turn.unbind(-1)
    rotation = torch.linalg.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3))
    about = centre[:, 0]
    shifted = (rotation @ (place.translation - about)[..., None])[..., 0] + about + change[:, 3:]
    return Similarity(place.scale, rotation @ place.rotation, shifted)


def _sample(maps: Tensor, at: Tensor) -> Tensor:
    return F.grid_sample(maps, at, align_corners=True, padding_mode="border")


def _inside(mask: Tensor, at: Tensor) -> Tensor:
    """Where all of the four pixels around a place lie inside the mask: (B, 1, S, S) bool."""
    return _sample(mask, at) > 0.999
