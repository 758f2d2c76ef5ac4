"""Outlines of a projected mesh, and how much of each pixel beside them the mesh covers.

If every pixel shows what its centre sees, the picture does not change when an outline moves a little. Its derivative
then lacks the outline, and no loss can move one. Here the outline is made part of the picture. The margin (Szabo et al.
2019, fig. 3a, and their published renderer) extends the nearer surface by a strip of decreasing opacity; the picture is
then continuous in the vertices, and autograd gives its derivative. Half-plane coverage does the same without enlarging
the object, but has to know what is behind it.

Only silhouette edges matter: the point of a mesh that is closest to a pixel outside it lies on one of them. All lengths
are in pixels of the rendered image, x right and y down, 0 at the outer corner of the top left pixel.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .topology import Topology

_FLAT = -1e-9  # px^2: twice the signed area above which a face counts as seen from behind
_TINY = 1e-12  # px^2: keeps square roots and quotients differentiable


@dataclass(frozen=True)
class Scene:
    """B projected meshes with V vertices each.

    Attributes:
        corners: (B * V, 3) x and y in pixels and depth along the optical axis in world units.
        facing: (B, F) bool, faces that are seen from the front.
        topology: The connectivity of the meshes.
        size: Image side in pixels.
        near: Depth in world units from which surface is drawn.
    """

    corners: Tensor
    facing: Tensor
    topology: Topology
    size: int
    near: float

    @property
    def batch(self) -> int:
        """The number of meshes, B."""
        return len(self.facing)

    @property
    def pixels(self) -> int:
        """The number of pixels of all images together; a pixel's number counts images, then rows, then columns."""
        return self.batch * self.size**2

    def centres(self, pixel: Tensor) -> Tensor:
        """(L, 2) centres of the pixels with the numbers `pixel` (L,)."""
        column_row = torch.stack([pixel % self.size, pixel // self.size % self.size], -1)
        return column_row.to(self.corners.dtype) + 0.5


class Closest(NamedTuple):
    """The L points of edges that are closest to L pixel centres."""

    distance: Tensor  # (L,) pixels
    depth: Tensor  # (L,) world units
    weight: Tensor  # (L, 2) perspective-correct share of either end
    run: Tensor  # (L, 2) from the first end of the edge to the second, pixels
    gap: Tensor  # (L, 2) from the point to the pixel centre, pixels
    inside: Tensor  # (L,) bool: the pixel is on that side of the edge's line where the face is


class Contour(NamedTuple):
    """L pixels beside outlines, each with the nearest point of its outline."""

    pixel: Tensor  # (L,) number of the pixel
    share: Tensor  # (L,) opacity or covered fraction in [0, 1]
    inside: Tensor  # (L,) bool: the pixel's centre is on the mesh
    uv: Tensor  # (L, 2) of the point on the outline


def cross(a: Tensor, b: Tensor) -> Tensor:
    """The z component (...) of the cross product of plane vectors (..., 2)."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def facing(corners: Tensor, faces: Tensor) -> Tensor:
    """Which faces (F, 3) of corners (B, V, 3), as in `Scene`, show their front side: (B, F) bool.

    The front is the side on which the corners run counter-clockwise. A corner behind the camera projects to the other
    side, which flips the sign.
    """
    px, depth = corners[..., :2], corners[..., 2]
    p0, p1, p2 = (px.index_select(1, faces[:, k]) for k in range(3))
    area = cross(p1 - p0, p2 - p0)
    if (depth <= 0).any():
        area = area * depth[:, faces].sign().prod(-1)
    return area < _FLAT


def margin(scene: Scene, crisp_depth: Tensor, width: float, push: Tensor) -> Contour:
    """The strip around the outlines: its opacity at distance d is 1 - d / width, its colour the nearest outline's.

    The strip recedes by push * d / width and shows only where it is nearer than what the pixel sees, so that
    it hides behind the mesh's own surface and covers what lies farther back. Where several strips meet, the one with
    the nearest outline wins. (The published renderer recedes by half the depth of the scene, which softens outlines
    before the background only, and lets the shallowest strip win.) A convex outline of area A and perimeter P gets the
    total opacity A + width P / 2 + pi width^2 / 3.

    Args:
        scene: The projected meshes.
        crisp_depth: (scene.pixels,) depth that each pixel centre sees, infinite where it sees nothing.
        width: Width of the strip in pixels.
        push: (B,) depth in world units by which the strip recedes at its outer end.
    """
    image, ends, pixel = pairs(scene, width)
    with torch.no_grad():
        near = closest(scene, image, ends, pixel)
        shown = near.depth + push[image] * near.distance / width < crisp_depth[pixel]
        won = nearest(scene.pixels, pixel, near.distance, shown & (near.distance < width))
    image, ends, pixel = image[won], ends[won], pixel[won]
    near = closest(scene, image, ends, pixel)
    return Contour(pixel, 1 - near.distance / width, torch.zeros_like(near.inside), uv_of(scene, ends, near))


def uv_of(scene: Scene, ends: Tensor, near: Closest) -> Tensor:
    """UV coordinates (L, 2) of points on edges."""
    uv = scene.topology.uv.to(near.weight.dtype)
    return (near.weight[..., None] * uv[ends]).sum(1)


def _silhouettes(scene: Scene) -> tuple[Tensor, Tensor]:
    """Image (N,) and ends (N, 2) of the edges where a front face meets a back face or the border.

    The ends are the front face's own vertices, in the order in which the face runs along the edge.
    """
    t = scene.topology
    front = F.pad(scene.facing, (0, 1))  # face -1, beyond the border, counts as seen from behind
    one, two = front[:, t.edge_faces[:, 0]], front[:, t.edge_faces[:, 1]]
    image, edge = (one != two).nonzero(as_tuple=True)
    return image, torch.where(one[image, edge, None], t.edges[edge], t.twins[edge].flip(1))


@torch.no_grad()
def pairs(scene: Scene, reach: float) -> tuple[Tensor, Tensor, Tensor]:
    """Silhouette edges, each with all pixels within `reach` of it and some more: image (L,), ends (L, 2), pixel (L,).

    It walks along the axis on which the edge is longer; across that axis, nothing farther than sqrt(2) reach can be in
    reach. That keeps long edges cheap, which a bounding box would not.
    """
    image, ends = _silhouettes(scene)
    s, v = scene.size, len(scene.corners) // scene.batch
    line = scene.corners.detach()[ends + (image * v)[:, None]]  # (N, end, x y depth)
    whole = (line[..., 2] > scene.near).all(1)
    line, image, ends = line[whole, :, :2], image[whole], ends[whole]
    run = line[:, 1] - line[:, 0]
    flat = run[:, 0].abs() >= run[:, 1].abs()
    line = torch.where(flat[:, None, None], line, line.flip(-1))
    along, across = line.unbind(-1)
    low = (along.amin(1) - reach - 0.5).ceil().clamp(0, s).long()
    high = (along.amax(1) + reach + 0.5).floor().clamp(0, s).long()
    width = int(2 * math.sqrt(2) * reach) + 1
    count = (high - low).clamp_min(0) * width
    source = torch.repeat_interleave(count)
    offset = torch.arange(len(source), device=count.device) - (count.cumsum(0) - count)[source]
    step = low[source] + offset // width
    slope = (across[:, 1] - across[:, 0]) / torch.where(along[:, 0] == along[:, 1], 1, along[:, 1] - along[:, 0])
    at = (step + 0.5).clamp(along.amin(1)[source], along.amax(1)[source]) - along[source, 0]
    middle = across[source, 0] + slope[source] * at
    other = (middle - math.sqrt(2) * reach - 0.5).ceil().clamp(-width, s).long() + offset % width
    kept = ((other >= 0) & (other < s)).nonzero()[:, 0]
    source, step, other = source[kept], step[kept], other[kept]
    column, row = torch.where(flat[source], step, other), torch.where(flat[source], other, step)
    image = image[source]
    return image, ends[source], (image * s + row) * s + column


def closest(scene: Scene, image: Tensor, ends: Tensor, pixel: Tensor) -> Closest:
    """The points closest to pixels `pixel` (L,) on the edges `ends` (L, 2) of the meshes `image` (L,)."""
    at = ends + (image * (len(scene.corners) // scene.batch))[:, None]
    a, b = scene.corners.index_select(0, at[:, 0]), scene.corners.index_select(0, at[:, 1])
    run, to_pixel = b[:, :2] - a[:, :2], scene.centres(pixel) - a[:, :2]
    t = ((to_pixel * run).sum(-1) / run.square().sum(-1).clamp_min(_TINY)).clamp(0, 1)
    gap = to_pixel - t[:, None] * run
    distance = gap.square().sum(-1).clamp_min(_TINY).sqrt()
    near = torch.stack([(1 - t) / a[:, 2], t / b[:, 2]], -1)
    total = near.sum(-1)
    return Closest(distance, 1 / total, near / total[:, None], run, gap, cross(run, to_pixel) < 0)


def nearest(pixels: int, pixel: Tensor, distance: Tensor, candidate: Tensor) -> Tensor:
    """For each pixel that has candidates, the number of the nearest; of equally near ones, the first."""
    pair = candidate.nonzero()[:, 0]
    at, d = pixel[pair], distance[pair]
    best = d.new_full((pixels,), math.inf).scatter_reduce(0, at, d, "amin")
    tied = pair[d <= best[at]]
    winner = pair.new_full((pixels,), len(pixel)).scatter_reduce(0, pixel[tied], tied, "amin")
    return winner[winner < len(pixel)]
