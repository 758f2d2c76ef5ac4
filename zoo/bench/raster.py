"""How long our rasterizer and PyTorch3D's take for the same image on this machine's CPU."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import ZooError
from ..renderers import p3d
from ..renderers.rasterize import rasterize
from .harness import Call, interleaved

if TYPE_CHECKING:
    from pytorch3d.structures import Meshes

_SECONDS = 10.0  # for each row, unless three turns take longer
_Drawing = Callable[["Meshes", int], tuple[Tensor, Tensor, Tensor]]
_FOV = 10.0


@dataclass(frozen=True)
class Case:
    """`batch` depth maps of `grid` x `grid` vertices, in images of `pixels` x `pixels`."""

    grid: int
    pixels: int
    batch: int

    @property
    def name(self) -> str:
        return f"grid{self.grid}_px{self.pixels}_b{self.batch}"


CASES = (Case(64, 128, 1), Case(64, 128, 8), Case(128, 128, 1))


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        case: Is the name of the `Case`.
        passes: "forward", or "forward+backward" with the gradient of depth and barycentric coordinates.
        faces: Counts the faces of all meshes of the batch.
        threads: Counts torch's threads, which both rasterizers use.
        ours_s: Is our median time in seconds.
        pytorch3d_s: Is PyTorch3D's median time in seconds.
        ratio: Is `pytorch3d_s / ours_s`.
        differs: Is the fraction of pixels whose face differs; a pixel exactly on an edge may go to either side.
    """

    case: str
    passes: str
    faces: int
    threads: int
    ours_s: float
    pytorch3d_s: float
    ratio: float
    differs: float


def compare(cases: Sequence[Case] = CASES, progress: Callable[[str], None] = lambda _: None) -> list[Row]:
    """Time both rasterizers in turn, one face per pixel. The default cases take a minute or two at most.

    Args:
        cases: Say what to draw.
        progress: Is called with a line before each measurement.

    Returns:
        Two rows for each case: forward, and forward with backward.

    Raises:
        ZooError: The native part of PyTorch3D does not load.
    """
    works, reason = p3d.native()
    if not works:
        raise ZooError(
            f"zoo bench raster compares with PyTorch3D's CPU kernel, which does not load ({reason}); see zoo doctor"
        )
    rows = []
    for case in cases:
        progress(f"{case.name}: {2 * (case.grid - 1) ** 2 * case.batch} faces")
        rows += _rows(case)
    return rows


def depth_grids(n: int, batch: int) -> tuple[Tensor, Tensor]:
    """Make wavy depth maps at distance 1, each turned another way, that fill most of a narrow camera's image.

    Returns:
        Vertices (batch, n * n, 3) with x, y in NDC and view-space z, and faces (2 * (n - 1)^2, 3).
    """
    half = math.tan(math.radians(_FOV / 2))
    y, x = torch.meshgrid(*[torch.linspace(-0.95, 0.95, n)] * 2, indexing="ij")
    phase = 0.4 + 0.7 * torch.arange(batch)[:, None, None]
    relief = 0.05 * (3 * x + phase).sin() * (3 * y + phase).cos()
    yaw = 0.3 * (2 * phase).sin()
    side, depth = x * (1 + relief) * half, relief
    view_x, view_z = yaw.cos() * side + yaw.sin() * depth, 1 - yaw.sin() * side + yaw.cos() * depth
    view_y = (y * (1 + relief) * half).expand_as(view_x)
    verts = torch.stack([view_x / view_z / half, view_y / view_z / half, view_z], -1)
    at = torch.arange(n * n).reshape(n, n)
    a, b, c, d = (corner.reshape(-1) for corner in (at[:-1, :-1], at[1:, :-1], at[:-1, 1:], at[1:, 1:]))
    return verts.reshape(batch, n * n, 3), torch.cat([torch.stack([a, b, c], -1), torch.stack([c, b, d], -1)])


def _ours(meshes: "Meshes", pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    seen = rasterize(meshes, pixels)
    return seen.pix_to_face, seen.zbuf, seen.bary_coords


def _theirs(meshes: "Meshes", pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    kernel = p3d.pytorch3d().renderer.mesh.rasterize_meshes
    out: tuple[Tensor, Tensor, Tensor] = kernel(meshes, pixels, faces_per_pixel=1, perspective_correct=True)[:3]
    return out


def _rows(case: Case) -> list[Row]:
    verts, faces = depth_grids(case.grid, case.batch)
    index = faces.expand(case.batch, -1, -1)
    shape = (case.batch, case.pixels, case.pixels, 1)
    cotangents = [torch.ones(shape), torch.linspace(-1, 1, 3).expand(*shape, 3).contiguous()]

    def build(gradient: bool) -> "Meshes":
        meshes = p3d.pytorch3d().structures.Meshes(verts.clone().requires_grad_(gradient), index)
        meshes.verts_packed()  # stored by the meshes; packing is no rasterizer's work
        return meshes

    def drawn(draw: _Drawing, backward: bool) -> Call:
        meshes = build(backward)

        def call() -> None:
            _, z, bary = draw(meshes, case.pixels)
            if backward:
                torch.autograd.grad((z, bary), meshes.verts_packed(), cotangents)

        return call

    differs = _ours(build(False), case.pixels)[0] != _theirs(build(False), case.pixels)[0]
    rows = []
    for backward in (False, True):
        found = interleaved({"ours": drawn(_ours, backward), "theirs": drawn(_theirs, backward)}, seconds=_SECONDS)
        ours, theirs = found["ours"].median, found["theirs"].median
        rows.append(
            Row(
                case=case.name,
                passes="forward+backward" if backward else "forward",
                faces=len(faces) * case.batch,
                threads=torch.get_num_threads(),
                ours_s=ours,
                pytorch3d_s=theirs,
                ratio=theirs / ours,
                differs=differs.float().mean().item(),
            )
        )
    return rows
