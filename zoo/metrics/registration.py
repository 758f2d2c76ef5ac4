"""Surfaces brought into place without knowing which points belong together (ICP, Chen and Medioni 1992).

`zoo.metrics.alignment` takes pixel x of one map to pixel x of another. That is right only where both show the same
point of the object there. A head that is turned has its nose at another pixel, and pixel by pixel most of its turn
looks like another shape: 5 degrees of yaw appear as 1.3. Here the partner of a pixel is where the surface meets the ray
through it once it is in place. Place and partners are searched together.

Steps are Gauss-Newton's on the distance along the ray. How it changes with the place depends on the normals of the
surface that moves, not on the target's: with the latter, surfaces that are too flat would shrink to a spot.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Camera
from .alignment import Similarity, align

_STRIDE = 2  # every which row and column counts in the search for the place
_STEPS, _LAST = 20, 4  # steps of place and partners together, then of partners alone
_LONGEST = 0.1  # radians, or logarithm of scale, in one step
_BLUR = 5  # side in px of the squares over which surfaces are smoothed before their normals are taken
_INSIDE = 0.999  # value of a sampled mask above which all of the four pixels around lie inside


class Registered(NamedTuple):
    """B surfaces in place, float64.

    Attributes:
        similarity: What takes their points there; NaN where `align` has no answer to start from.
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
    target_mask: Tensor,
    camera: Camera,
    crop: Tensor | None = None,
    least: float = 0.5,
) -> Registered:
    """Bring surfaces to their targets, from the alignment pixel by pixel onwards.

    A surface that would slide away, and lose too many of its pixels on the way, keeps that alignment.

    Args:
        points: (B, 3, S, S) back-projected, any unit.
        mask: (B, 1, S, S), 0 or 1, the points that are valid; the others must be finite.
        targets: (B or 1, 3, S, S) points where the surfaces should be, in the frame of `camera`.
        target_mask: (B or 1, 1, S, S), 0 or 1, the pixels that are compared.
        camera: The targets' view: field of view, size S and pixel rule.
        crop: (B, 3) how the targets' pictures were cut out of that view: enlargement about the middle, then shift right
            and down in pixels. None stands for whole pictures.
        least: The share of the pixels that must have a partner in the end.

    Raises:
        ValueError: The shapes do not fit together.
    """
    b, _, s, _ = points.shape
    p, valid = points.double(), mask.double()
    targets, wanted = (x.double().expand(b, -1, -1, -1) for x in (targets, target_mask))
    maps = torch.cat([p, _smooth_normals(p, valid), valid], 1)
    axis = torch.linspace(-1, 1, s, dtype=torch.float64, device=p.device)
    goal = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).expand(b, -1, -1, -1)
    view = Camera(torch.eye(4, dtype=torch.float64, device=p.device)[None], camera.fov, s, camera.pixel_centres)
    start = align(p, targets, valid * wanted)
    place = start

    def nearer_to(goal: Tensor, at: Tensor, partners: Tensor) -> Tensor:
        """Where to look for the partners of the pixels `goal`, after their projection shows by how much they miss."""
        pixels, _depth = view.project(place.apply(partners).flatten(2).mT)
        if crop is not None:
            pixels = (pixels - (s - 1) / 2) * crop[:, None, :1].to(pixels) + (s - 1) / 2 + crop[:, None, 1:].to(pixels)
        return (at + goal - (pixels / (s - 1) * 2 - 1).view_as(goal)).clamp(-1, 1)

    # A quarter of the pixels is enough to find the place; then all of them get their partners.
    coarse, few, counted = goal[:, ::_STRIDE, ::_STRIDE], *(x[:, :, ::_STRIDE, ::_STRIDE] for x in (targets, wanted))
    at = coarse
    for _ in range(_STEPS):
        partners, normals, inside = _sample(maps, at).split([3, 3, 1], 1)
        place = _nearer(place, place.apply(partners), place.turn(normals), few, counted * (inside > _INSIDE))
        at = nearer_to(coarse, at, partners)
    away = F.interpolate((at - coarse).permute(0, 3, 1, 2), (s, s), mode="bilinear").permute(0, 2, 3, 1)
    at = (goal + away).clamp(-1, 1)
    for _ in range(_LAST):
        at = nearer_to(goal, at, _sample(p, at))
    seen = _sample(valid, at) > _INSIDE
    kept = (wanted * seen).sum((1, 2, 3)) > least * wanted.sum((1, 2, 3))
    place = Similarity(*(x.where(kept.view(-1, *[1] * (x.ndim - 1)), y) for x, y in zip(place, start, strict=True)))
    at = at.where(kept.view(-1, 1, 1, 1), goal)
    return Registered(place, at, _sample(valid, at) > _INSIDE)


def _nearer(place: Similarity, moved: Tensor, normals: Tensor, targets: Tensor, weight: Tensor) -> Similarity:
    """The place after one step on weighted squares of the distances from targets to the surface's tangent planes."""
    q, n, g, w = (x.flatten(2).mT for x in (moved, normals, targets, weight))
    total = w.sum((1, 2)).clamp_min(1)
    centre = (w * g).sum(1, keepdim=True) / total[:, None, None]
    c = q - centre
    slopes = torch.cat([torch.linalg.cross(c, n, dim=-1), n, (c * n).sum(-1, keepdim=True)], -1)
    gap = (n * (q - g)).sum(-1, keepdim=True)
    size = (
        ((w * c.square()).sum((1, 2)) / total).sqrt().clamp_min(1e-30)
    )  # turns and growth have another unit than shifts
    unit = total.sqrt()[:, None] * torch.stack([size] * 3 + [torch.ones_like(size)] * 3 + [size], -1)
    normal = (w * slopes).mT @ slopes / unit[:, :, None] / unit[:, None]
    damped = normal + 1e-4 * torch.eye(7, dtype=w.dtype, device=w.device)
    change = -torch.linalg.solve(damped, ((w * slopes).mT @ gap)[..., 0] / unit) / unit
    turn = change[:, :3] / (change[:, :3].norm(dim=-1, keepdim=True) / _LONGEST).clamp_min(1)
    grow = change[:, 6].clamp(-_LONGEST, _LONGEST).exp()
    zero = torch.zeros_like(grow)
    x, y, z = turn.unbind(-1)
    rotation = torch.linalg.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3))
    about = centre[:, 0]
    turned = (rotation @ (place.translation - about)[..., None])[..., 0]
    translation = grow[:, None] * turned + about + change[:, 3:6]
    return Similarity(grow * place.scale, rotation @ place.rotation, translation)


def _smooth_normals(points: Tensor, mask: Tensor) -> Tensor:
    """Unit normals (B, 3, S, S) of points (B, 3, S, S), which are smoothed inside the mask first."""
    near = F.avg_pool2d(mask, _BLUR, 1, _BLUR // 2).clamp_min(1e-9)
    smooth = F.avg_pool2d(torch.where(mask > 0, points, 0.0), _BLUR, 1, _BLUR // 2) / near
    smooth = F.pad(smooth, (1, 1, 1, 1), mode="replicate")
    right = smooth[:, :, 1:-1, 2:] - smooth[:, :, 1:-1, :-2]
    up = smooth[:, :, :-2, 1:-1] - smooth[:, :, 2:, 1:-1]
    return F.normalize(torch.linalg.cross(right, up, dim=1), dim=1)


def _sample(maps: Tensor, at: Tensor) -> Tensor:
    return F.grid_sample(maps, at, align_corners=True, padding_mode="border")
