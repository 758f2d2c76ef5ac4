"""A depth map as a Wavefront mesh in the layout of the published code (Unsup3D, GAN2Shape), its picture as texture."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .depthmap import MapCamera, map_normals

SCALE = 100  # units of the file per world unit
MATERIAL = "newmtl tex\nKa 1.0 1.0 1.0\nKd 1.0 1.0 1.0\nKs 0.0 0.0 0.0\nd 1.0\nillum 0\nmap_Kd {texture}\n"


def obj_text(depth: Tensor, camera: MapCamera, material: str) -> str:
    """The text of an .obj file of one depth map.

    It has a vertex for each pixel and one in the middle of each quad of pixels, and four triangles for each quad.

    Args:
        depth: (1,1,S,S) along the optical axis.
        camera: The camera of the map.
        material: Name of the .mtl file, see `MATERIAL`.
    """
    size = camera.size
    points = _with_centres(camera.to_world(camera.lift(depth))[0]) * SCALE
    axis = torch.linspace(0, 1, size)
    v, u = torch.meshgrid(1 - axis, axis, indexing="ij")
    coordinates = _with_centres(torch.stack([u, v], -1))
    corners = map_normals(depth, camera)[0].permute(1, 2, 0)
    normals = torch.cat([corners.reshape(-1, 3), F.normalize(_centres(corners), dim=-1)])

    index = torch.arange(1, size * size + 1).view(size, size)
    tl, tr, bl, br = (x.flatten() for x in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    middle = size * size + torch.arange(1, len(tl) + 1)
    triangles = [torch.stack([*pair, middle], 1) for pair in ((tl, bl), (bl, br), (br, tr), (tr, tl))]
    lines = [
        f"mtllib {material}",
        *_lines("v", points),
        *_lines("vt", coordinates),
        *_lines("vn", normals),
        "usemtl tex",
    ]
    lines += ["f " + " ".join(f"{i}/{i}/{i}" for i in triangle) for triangle in torch.cat(triangles).tolist()]
    return "\n".join(lines) + "\n"


def _centres(grid: Tensor) -> Tensor:
    """Means (Q,C) of the corners of the quads of a grid (S,S,C)."""
    return ((grid[:-1, :-1] + grid[:-1, 1:] + grid[1:, :-1] + grid[1:, 1:]) / 4).flatten(0, 1)


def _with_centres(grid: Tensor) -> Tensor:
    return torch.cat([grid.flatten(0, 1), _centres(grid)])


def _lines(kind: str, rows: Tensor) -> list[str]:
    return [f"{kind} " + " ".join(f"{value:.4f}" for value in row) for row in rows.tolist()]
