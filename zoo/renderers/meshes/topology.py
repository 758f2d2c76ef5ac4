"""Meshes whose connectivity is fixed while their vertices move: UV layout, faces, edges with the faces beside them.

A vertex on a seam of the UV layout exists once for each side of the seam, so that the faces on either side read their
own UV; `weld` says which vertices are one point in space. Two faces are neighbours if they share welded points:
otherwise every seam would look like the border of the mesh and be drawn as a silhouette.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NO_FACE = -1


class Edges(NamedTuple):
    """The E edges of a mesh with F faces, each of them once; the fields are those of `Topology`."""

    edges: Tensor
    twins: Tensor
    edge_faces: Tensor
    face_edges: Tensor


@dataclass(frozen=True, eq=False)
class Topology:
    """Connectivity and UV layout of a mesh with V vertices, F faces and E edges.

    Attributes:
        uv: (V, 2) float32 in [-1, 1], u right and v down, the coordinates of `grid_sample(align_corners=True)`.
        sphere: (V, 3) float32 rest positions: x right, y up, front towards +z; unit vectors for `octa_sphere`.
        faces: (F, 3) int64, counter-clockwise seen from outside.
        weld: (V,) int64, number of the point in space that the vertex stands on, 0, 1, 2, ...
        edges: (E, 2) int64, the ends of each edge in the order in which its first face runs along it.
        twins: (E, 2) int64, the same two points as the second face names them; equal to `edges` off the seams.
        edge_faces: (E, 2) int64, the first and the second face of each edge, -1 where the mesh has a border.
        face_edges: (F, 3) int64, the edges from corner 0 to 1, 1 to 2 and 2 to 0 of each face.
    """

    uv: Tensor
    sphere: Tensor
    faces: Tensor
    weld: Tensor
    edges: Tensor
    twins: Tensor
    edge_faces: Tensor
    face_edges: Tensor

    @classmethod
    def of(cls, uv: Tensor, positions: Tensor, faces: Tensor, weld: Tensor | None = None) -> "Topology":
        """Make the topology of an open or closed mesh.

        Args:
            uv: (V, 2), see `Topology`.
            positions: (V, 3) rest positions.
            faces: (F, 3) int64.
            weld: (V,) int64; without it, every vertex is its own point.

        Raises:
            ValueError: See `edges_of`.
        """
        weld = torch.arange(len(uv)) if weld is None else weld
        return cls(uv, positions, faces, weld, *edges_of(faces, weld))

    def to(self, device: torch.device | str) -> "Topology":
        """The same topology on another device; asking again gives the same copy."""
        device = torch.device(device)
        return self if self.faces.device == device else _copy(self, device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _copy(topology: Topology, device: torch.device) -> Topology:
    return Topology(**{f.name: getattr(topology, f.name).to(device) for f in fields(topology)})


def edges_of(faces: Tensor, weld: Tensor) -> Edges:
    """The edges of faces (F, 3) over vertices that stand on the points `weld` (V,).

    Raises:
        ValueError: `faces` has another shape, a face points outside the vertices or has two corners on one point, more
            than two faces share an edge, or two run along their common edge in the same direction.
    """
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype != torch.int64 or not len(faces):
        raise ValueError(f"faces are {faces.dtype} {tuple(faces.shape)}; give int64 (F, 3) with at least one face")
    low, high = int(faces.min()), int(faces.max())
    if low < 0 or high >= len(weld):
        raise ValueError(f"faces point at vertices {low}..{high}; use 0..{len(weld) - 1}")
    ends = torch.stack([faces, faces.roll(-1, 1)], -1).reshape(-1, 2)  # half-edges, three for each face
    points = weld[ends]
    owner = torch.arange(len(faces), device=faces.device).repeat_interleave(3)
    _refuse(points[:, 0] == points[:, 1], lambda h: f"face {owner[h]} has two corners on one point; remove the face")
    key = points.amin(1) * (int(weld.max()) + 1) + points.amax(1)
    _, edge, count = torch.unique(key, return_inverse=True, return_counts=True)
    _refuse(count[edge] > 2, lambda h: f"edge {ends[h].tolist()} belongs to {count[edge[h]]} faces; two are the most")
    order = edge.argsort(stable=True)
    first = count.cumsum(0) - count
    one, two = order[first], order[(first + 1).clamp_max(len(order) - 1)]
    pair = count == 2
    same = pair & (points[one, 0] == points[two, 0])
    _refuse(same, lambda e: f"faces {owner[one[e]]} and {owner[two[e]]} face opposite ways; orient them alike")
    twins = torch.where(pair[:, None], ends[two].flip(1), ends[one])
    second = torch.where(pair, owner[two], NO_FACE)
    return Edges(ends[one], twins, torch.stack([owner[one], second], 1), edge.reshape(-1, 3))


def _refuse(bad: Tensor, message: Callable[[int], str]) -> None:
    if bad.any():
        raise ValueError(message(int(bad.nonzero()[0])))


@cache
@torch.inference_mode(False)  # the cached tensors must serve training as well
def octa_sphere(n: int) -> Topology:
    """A closed unit sphere from a folded octahedron, with azimuthal equidistant UVs.

    A square grid of 2 floor(n/2) + 1 points a side is folded into an octahedron, so the faces are almost equal in size.
    The UV is the direction in the image plane times the angle from +z over pi. Its length is 0 at the front pole, 1/2
    at the equator and 1 at the back pole; the corners of the texture, beyond radius 1, are unused. The topology and the
    projection are those of the `sphere` mesh in Szabo's pTFrenderer (2020), on which Szabo et al. 2019 build.

    Args:
        n: Number of grid cells across, 2 or more. An odd number counts as the even number below it. There are 2 n^2
            faces.

    Raises:
        ValueError: `n` is below 2.
    """
    if n < 2:
        raise ValueError(f"octa_sphere: n={n} leaves no grid; use 2 or more")
    half = n // 2
    side = 2 * half + 1
    axis = torch.arange(-half, half + 1, dtype=torch.float64) / half
    b, a = torch.meshgrid(axis, axis, indexing="ij")
    z = 1 - a.abs() - b.abs()
    x = torch.where(z < 0, (1 - b.abs()) * _sign(a), a)
    y = torch.where(z < 0, (1 - a.abs()) * _sign(b), b)
    points = F.normalize(torch.stack([x, -y, z], -1).reshape(-1, 3), dim=-1)
    _, weld = torch.unique((points * 1e6).round().long(), dim=0, return_inverse=True)

    sine = points[:, :2].norm(dim=-1)
    pole = sine < 1e-9
    angle = torch.atan2(sine, points[:, 2]) / math.pi
    uv = points[:, :2] * points.new_tensor([1, -1]) * (angle / sine.masked_fill(pole, 1))[:, None]
    uv[pole & (points[:, 2] < 0)] = uv.new_tensor([0.0, -1.0])  # the top of the circle that is the back pole

    at = torch.arange(side * side).reshape(side, side)
    p00, p01, p10, p11 = at[:-1, :-1], at[:-1, 1:], at[1:, :-1], at[1:, 1:]
    falling = torch.stack([p00, p10, p11, p00, p11, p01], -1)
    rising = torch.stack([p00, p10, p01, p01, p10, p11], -1)
    fold = torch.zeros(2 * half, 2 * half, dtype=torch.bool)
    fold[:half, :half] = fold[half:, half:] = True  # here the octahedron folds along the rising diagonals
    faces = torch.where(fold[..., None], rising, falling).reshape(-1, 3)
    return Topology.of(uv.float(), points.float(), faces, weld)


def _sign(x: Tensor) -> Tensor:
    return torch.where(x < 0, -1.0, 1.0).to(x.dtype)


def signed_volume(verts: Tensor, faces: Tensor) -> Tensor:
    """Volume (B,) that closed meshes with vertices (B, V, 3) and faces (F, 3) enclose, in cubed units of the vertices.

    It is one sixth of the sum of p0 . (p1 x p2). It is negative for a mesh turned inside out, for example a hollow
    mask, which back-face culling cannot tell from its convex counterpart.
    """
    p0, p1, p2 = (verts[:, faces[:, k]] for k in range(3))
    out: Tensor = (p0 * torch.linalg.cross(p1, p2)).sum((1, 2)) / 6
    return out


def rms_radius(verts: Tensor) -> Tensor:
    """Root mean square distance (B,) of vertices (B, V, 3) from their mean, in the units of the vertices."""
    spread = verts - verts.mean(1, keepdim=True)
    return spread.square().sum(-1).mean(1).clamp_min(1e-20).sqrt()
