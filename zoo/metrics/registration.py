"""Surfaces brought into place without knowing which points belong together (ICP, Besl and McKay 1992).

`zoo.metrics.alignment` takes pixel x of one map to pixel x of another. That is right only where both show the same
point of the object there. A head that is turned has its nose at another pixel, and pixel by pixel most of its turn
looks like another shape: 5 degrees of yaw appear as 1.3. Here the partner of a target is the nearest point of the
surface, wherever it is. Place and partners are found in turns.

Steps are Gauss-Newton's on the distance from the surface's tangent planes (Chen and Medioni 1992), damped after
Levenberg and Marquardt: one that does not bring the surface nearer is taken back, and the next is shorter. What lies
far from the surface in the beginning, as parts of a head that another view hides, counts no more than twice the usual
distance while the place is searched.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import KDTree
from torch import Tensor

from .alignment import Similarity, align

_STRIDE = 2  # every which row and column of targets counts in the search for the place
_STEPS = 10  # of the place; 40 give no other pose or R2 to heads that are turned by up to 20 degrees
_SLIDES = 2  # how often points slide over the surface from the nearest sample of it, by at most half a pixel each
_FAR = 2.0  # distances count up to so many times their root mean square before the first step
_DAMPING = 1e-4  # least one, in units of the diagonal
_LONGEST = 0.1  # radians, or logarithm of scale, in one step
_BLUR = 5  # side in px of the squares over which surfaces are smoothed before their normals are taken
_INSIDE = 0.999  # value of a sampled mask above which all of the four pixels around lie inside


class Registered(NamedTuple):
    """B surfaces in place, float64.

    Attributes:
        similarity: What takes their points there; NaN where `align` has no answer to start from.
        nearest: (B, S, S, 2) where in the surface's maps the point nearest to each target is; -1 and 1 are the
            outermost pixels.
    """

    similarity: Similarity
    nearest: Tensor

    def look_up(self, maps: Tensor) -> Tensor:
        """The maps (B, C, S, S) of the surfaces, float64, so that each target has the value of its nearest point."""
        return sample(maps.double(), self.nearest)


def register(points: Tensor, mask: Tensor, targets: Tensor, target_mask: Tensor) -> Registered:
    """Bring surfaces to their targets, from the alignment pixel by pixel onwards.

    Args:
        points: (B, 3, S, S) back-projected, any unit.
        mask: (B, 1, S, S), 0 or 1, the points that are valid; the others must be finite.
        targets: (B or 1, 3, S, S) points where the surfaces should be.
        target_mask: (B or 1, 1, S, S), 0 or 1, the targets that count.

    Raises:
        ValueError: The shapes do not fit together.
    """
    b = len(points)
    p, valid = points.double(), mask.double()
    targets, wanted = (x.double().expand(b, -1, -1, -1) for x in (targets, target_mask))
    start = align(p, targets, valid * wanted)
    surface = _Surface(p, valid)
    normals = _smooth_normals(p, valid)

    # A quarter of the targets is enough to find the place.
    few, counted = (x[..., ::_STRIDE, ::_STRIDE] for x in (targets, wanted))
    total = counted.sum((1, 2, 3))
    place, (at, far) = start, surface.nearest(start, few, counted)
    cap = (_FAR**2 * (counted * far).sum((1, 2, 3)) / total)[:, None, None, None]
    cost = (counted * far.minimum(cap)).sum((1, 2, 3)) / total
    damping = torch.full_like(cost, _DAMPING)
    for _ in range(_STEPS):
        weight = counted * (far < cap)
        tried = _nearer(place, place.apply(sample(p, at)), place.turn(sample(normals, at)), few, weight, damping)
        tried_at, tried_far = surface.nearest(tried, few, counted)
        tried_cost = (counted * tried_far.minimum(cap)).sum((1, 2, 3)) / total
        better = tried_cost < cost
        rows = better[:, None, None, None]
        place = Similarity(*(x.where(rows.view(-1, *[1] * (x.ndim - 1)), y) for x, y in zip(tried, place, strict=True)))
        at, far, cost = tried_at.where(rows, at), tried_far.where(rows, far), cost.minimum(tried_cost)
        damping = torch.where(better, damping / 4, damping * 10).clamp_min(_DAMPING)
    return Registered(place, surface.nearest(place, targets, wanted)[0])


class _Surface:
    """B surfaces that know their nearest points.

    Args:
        points: (B, 3, S, S), float64.
        valid: (B, 1, S, S), 0 or 1, float64.
    """

    def __init__(self, points: Tensor, valid: Tensor) -> None:
        right, down = (F.pad(points, pad, mode="replicate") for pad in ((1, 1, 0, 0), (0, 0, 1, 1)))
        tangents = [(right[..., 2:] - right[..., :-2]) / 2, (down[..., 2:, :] - down[..., :-2, :]) / 2]
        self._maps = torch.cat([points, valid, *tangents], 1)
        self._size = points.shape[-1]
        self._fine = 2 * self._size - 1  # with a point between neighbours, which are far apart across a cliff
        dense, inside = (
            F.interpolate(maps, [self._fine] * 2, mode="bilinear", align_corners=True) for maps in (points, valid)
        )
        self._pixels = [np.flatnonzero(kept) for kept in (inside > _INSIDE).flatten(1).cpu().numpy()]
        rows = dense.flatten(2).mT.cpu().numpy()
        self._trees = [KDTree(row[kept]) if len(kept) else None for row, kept in zip(rows, self._pixels, strict=True)]

    def nearest(self, place: Similarity, targets: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Where the points (B, H, W, 2) nearest to targets (B, 3, H, W) are, and their squared distances (B, 1, H, W).

        Targets that are not wanted have any.
        """
        back = place.rotation.mT @ ((targets.flatten(2) - place.translation[..., None]) / place.scale[:, None, None])
        back = torch.where(back.isfinite().all(1, keepdim=True), back, 0.0).view_as(targets)
        h, w = targets.shape[-2:]
        index = np.zeros((len(targets), h * w), np.int64)
        rows, kept = back.flatten(2).mT.cpu().numpy(), (wanted > 0).flatten(1).cpu().numpy()
        for i, tree in enumerate(self._trees):
            if tree is not None and kept[i].any():
                index[i, kept[i]] = self._pixels[i][tree.query(rows[i][kept[i]])[1]]
        found = torch.from_numpy(index).to(targets.device).view(-1, h, w)
        at = torch.stack([found % self._fine, found // self._fine], -1).double() * 2 / (self._fine - 1) - 1
        best = self._squares(back, at)
        for _ in range(_SLIDES):
            point, _, across, down = sample(self._maps, at).split([3, 1, 3, 3], 1)
            gap = back - point
            aa, ad, dd = ((x * y).sum(1) for x, y in ((across, across), (across, down), (down, down)))
            ga, gd = ((gap * x).sum(1) for x in (across, down))
            area = (aa * dd - ad.square()).clamp_min(1e-30)
            step = torch.stack([ga * dd - gd * ad, gd * aa - ga * ad], -1) / area[..., None]
            tried = (at + step.clamp(-0.5, 0.5) * 2 / (self._size - 1)).clamp(-1, 1)
            far = self._squares(back, tried)
            at, best = torch.where((far < best)[:, 0, ..., None], tried, at), best.minimum(far)
        return at, torch.where(wanted > 0, best, 0.0) * place.scale.square()[:, None, None, None]

    def _squares(self, targets: Tensor, at: Tensor) -> Tensor:
        """Squared distances (B, 1, H, W) from the points `at`, infinite outside the surface."""
        point, inside = sample(self._maps[:, :4], at).split([3, 1], 1)
        squares: Tensor = (targets - point).square().sum(1, keepdim=True)
        return squares.where(inside > _INSIDE, torch.inf)


def _nearer(
    place: Similarity, moved: Tensor, normals: Tensor, targets: Tensor, weight: Tensor, damping: Tensor
) -> Similarity:
    """The place after one step on weighted squares of the distances from targets to the surface's tangent planes."""
    q, n, g, w = (x.flatten(2).mT for x in (moved, normals, targets, weight))
    total = w.sum((1, 2)).clamp_min(1)
    centre = (w * g).sum(1, keepdim=True) / total[:, None, None]
    c = q - centre
    slopes = torch.cat([torch.linalg.cross(c, n, dim=-1), n, (c * n).sum(-1, keepdim=True)], -1)
    gap = (n * (q - g)).sum(-1, keepdim=True)
    size = ((w * c.square()).sum((1, 2)) / total).sqrt().clamp_min(1e-30)  # turns and growth are not in units of length
    unit = total.sqrt()[:, None] * torch.stack([size] * 3 + [torch.ones_like(size)] * 3 + [size], -1)
    normal = (w * slopes).mT @ slopes / unit[:, :, None] / unit[:, None]
    damped = normal + damping[:, None, None] * torch.eye(7, dtype=w.dtype, device=w.device)
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


def sample(maps: Tensor, at: Tensor) -> Tensor:
    """Maps (B, C, S, S) at places (B, H, W, 2), where -1 and 1 are the outermost pixels."""
    return F.grid_sample(maps, at, align_corners=True, padding_mode="border")
