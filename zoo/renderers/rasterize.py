"""Mesh rasterisation with exact gradients of depth and barycentric coordinates: PyTorch3D's `Fragments`, fast on a CPU.

PyTorch3D's CPU kernel compares every pixel with every face. Here a compiled z-buffer visits only the pixels of each
face and runs over the batch in threads; its backward pass is compiled as well. On a GPU, PyTorch3D's kernel finds the
faces, and the rest is plain torch.
"""

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from .p3d import pytorch3d
from .raster_kernels import draw, draw_backward
from .zbuffer import in_threads

if TYPE_CHECKING:
    from pytorch3d.renderer.mesh.rasterizer import Fragments
    from pytorch3d.structures import Meshes

# PyTorch3D's kernel draws this far around a face, in squared NDC; without it, pixels exactly on an edge stay empty.
_HAIR = 1e-13


def rasterize(
    meshes: "Meshes",
    image_size: int | tuple[int, int],
    *,
    faces_per_pixel: int = 1,
    cull_backfaces: bool = False,
    z_near: float = 1e-3,
) -> "Fragments":
    """Find the nearest faces on every pixel of N meshes, and where on them the pixel lies.

    Depth, weights and distances are differentiable with respect to the vertices, once. Which face a pixel shows is
    held fixed, so silhouettes carry no gradient. It runs outside autocast.

    Args:
        meshes: N meshes of any sizes. Their vertices are as PyTorch3D's `rasterize_meshes` takes them: x, y in NDC (+x
            left, +y up, [-1, 1] over the shorter side of the image) and z in view space. They are float32 or float64;
            half precision is raised to float32.
        image_size: Pixels per side of a square image, or (height, width).
        faces_per_pixel: K, the number of faces to keep, nearest first; of equally near ones, the lower index first.
        cull_backfaces: Whether to leave out faces whose corners run clockwise in the image.
        z_near: View-space z from which surface is drawn, above 0. Faces that reach nearer, or behind the camera, are
            cut there.

    Returns:
        PyTorch3D's Fragments, of the vertices' dtype. Where fewer than K faces are hit, all entries are -1.
        pix_to_face: (N, H, W, K) int64 index into the packed faces. At an edge or a vertex that faces share, one of
            them gets the pixel; on a GPU with K > 1, all of them may.
        zbuf: (N, H, W, K) view-space z.
        bary_coords: (N, H, W, K, 3) perspective-correct weights of the corners, 0 to 1, summing to 1.
        dists: (N, H, W, K) minus the squared distance in NDC to the face's boundary. It means nothing for a face that
            reaches behind the camera, because the x and y of such corners do not bound its picture.

    Raises:
        ValueError: There are no meshes, a vertex is not finite, a face points outside its mesh's vertices, an argument
            is out of range, or the device is neither a CPU nor a CUDA GPU.
        ZooError: The meshes are on a GPU and PyTorch3D's native part does not load.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else (int(image_size[0]), int(image_size[1]))
    if len(meshes) == 0:
        raise ValueError("rasterize: the batch has 0 meshes; give 1 or more")
    if min(size) < 1:
        raise ValueError(f"rasterize: image_size={image_size!r} is empty; use 1 pixel or more each way")
    if faces_per_pixel < 1:
        raise ValueError(f"rasterize: faces_per_pixel={faces_per_pixel} keeps nothing; use 1 or more")
    if not 0 < z_near < float("inf"):
        raise ValueError(f"rasterize: z_near={z_near} is not a distance; use a positive number such as 1e-3")
    verts, faces = meshes.verts_packed(), meshes.faces_packed()
    if verts.dtype not in (torch.float32, torch.float64):
        verts = verts.float()
    settings = (size, faces_per_pixel, bool(cull_backfaces), float(z_near))
    if verts.device.type == "cpu":
        out = _Draw.apply(verts, faces, _parts(meshes), *settings)  # type: ignore[no-untyped-call]
    elif verts.is_cuda:
        _check(meshes)
        with torch.autocast("cuda", enabled=False):
            pix_to_face = _visible(meshes, *settings)
            out = (pix_to_face, *_interpolate(verts, faces, pix_to_face))
    else:
        raise ValueError(f"rasterize: there is no rasteriser for device {verts.device}; move the meshes to cpu or cuda")
    return pytorch3d().renderer.mesh.rasterizer.Fragments(*out)


def _parts(meshes: "Meshes") -> list[tuple[slice, slice]]:
    """The rows of each mesh among the packed vertices and among the packed faces."""
    parts, v, f = [], 0, 0
    for verts, faces in zip(meshes.verts_list(), meshes.faces_list(), strict=True):
        parts.append((slice(v, v + len(verts)), slice(f, f + len(faces))))
        v, f = v + len(verts), f + len(faces)
    return parts


def _bad_vertex(mesh: int, index: int, vertex: Any) -> NoReturn:
    x, y, z = (f"{float(value):g}" for value in vertex)
    raise ValueError(
        f"rasterize: vertex {index} of mesh {mesh} is ({x}, {y}, {z}); make it finite (a vertex in the plane of the "
        "camera has no projection, and NaN often comes from a diverged network)"
    )


def _bad_face(mesh: int, index: int, face: Any, vertices: int) -> NoReturn:
    raise ValueError(
        f"rasterize: face {index} of mesh {mesh} is ({', '.join(str(int(i)) for i in face)}); the mesh has {vertices} "
        f"vertices, so use 0 to {vertices - 1}"
    )


def _check(meshes: "Meshes") -> None:
    """Raise ValueError for the first bad vertex or face, before a kernel reads past the end of an array."""
    verts, faces = meshes.verts_packed(), meshes.faces_packed()
    owner = meshes.faces_packed_to_mesh_idx()
    local = faces - meshes.mesh_to_verts_packed_first_idx()[owner, None]
    infinite = ~verts.isfinite().all(-1)
    outside = ((local < 0) | (local >= meshes.num_verts_per_mesh()[owner, None])).any(-1)
    if not bool(infinite.any() | outside.any()):
        return
    for mesh, (rows, cells) in enumerate(_parts(meshes)):
        for index in infinite[rows].nonzero()[:1, 0].tolist():
            _bad_vertex(mesh, index, verts[rows][index])
        for index in outside[cells].nonzero()[:1, 0].tolist():
            _bad_face(mesh, index, local[cells][index], rows.stop - rows.start)


class _Draw(torch.autograd.Function):
    """The compiled kernels, forward and backward."""

    @staticmethod
    def forward(
        ctx: Any, verts: Tensor, faces: Tensor, parts: list[tuple[slice, slice]], size: tuple[int, int],
        layers: int, cull: bool, near: float,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        shape = (len(parts), *size, layers)
        pix_to_face = torch.empty(shape, dtype=torch.int64)
        zbuf, bary, dists = verts.new_empty(shape), verts.new_empty((*shape, 3)), verts.new_empty(shape)
        points, cells = verts.detach().contiguous().numpy(), faces.contiguous().numpy()
        images = [array.numpy() for array in (pix_to_face, zbuf, bary, dists)]
        state = np.zeros(len(parts), np.int64)

        def work(i: int) -> None:
            rows, own = parts[i]
            state[i] = draw(points[rows], cells[own], rows.start, own.start, near, cull, *(out[i] for out in images))

        in_threads(work, len(parts), torch.get_num_threads())
        for mesh, code in enumerate(state.tolist()):
            rows, own = parts[mesh]
            if code > 0:
                _bad_vertex(mesh, code - 1, points[rows][code - 1])
            if code < 0:
                _bad_face(mesh, -1 - code, cells[own][-1 - code] - rows.start, rows.stop - rows.start)
        ctx.save_for_backward(verts, faces, pix_to_face)
        ctx.parts = parts
        ctx.mark_non_differentiable(pix_to_face)
        ctx.set_materialize_grads(False)
        return pix_to_face, zbuf, bary, dists

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, _: None, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        verts, faces, pix_to_face = ctx.saved_tensors
        points, cells = verts.detach().contiguous().numpy(), faces.contiguous().numpy()
        images = [pix_to_face.numpy()]
        for gradient, channels in zip(grads, ((), (3,), ()), strict=True):
            # Zeros from numpy cost nothing until they are read; torch would start its threads to write them.
            images.append(
                np.zeros((*pix_to_face.shape, *channels), points.dtype)
                if gradient is None
                else gradient.contiguous().numpy()
            )
        total = verts.new_empty(verts.shape)
        grad = total.numpy()

        def work(i: int) -> None:
            rows, own = ctx.parts[i]
            draw_backward(points[rows], cells[own], rows.start, own.start, grad[rows], *(g[i] for g in images))

        in_threads(work, len(ctx.parts), torch.get_num_threads())
        return (total, *[None] * 6)


def _visible(meshes: "Meshes", size: tuple[int, int], layers: int, cull: bool, near: float) -> Tensor:
    """`pix_to_face` from PyTorch3D's kernel, without gradient."""
    if len(meshes.faces_packed()) == 0:
        return torch.full((len(meshes), *size, layers), -1, device=meshes.device)
    meshes = meshes.detach()
    if bool((meshes.verts_packed()[:, 2] < near).any()):
        # PyTorch3D would first cut the faces into new ones, and fails on some batches; such faces are rare.
        there = meshes.cpu()
        args = (there.verts_packed().float(), there.faces_packed(), _parts(there), size, layers, cull, near)
        seen: Tensor = _Draw.apply(*args)[0]  # type: ignore[no-untyped-call]
        return seen.to(meshes.device)
    if meshes.verts_packed().dtype != torch.float32:
        meshes = meshes.update_padded(meshes.verts_padded().float())
    theirs: Tensor = pytorch3d().renderer.mesh.rasterize_meshes(
        meshes,
        image_size=size,
        blur_radius=_HAIR,
        faces_per_pixel=layers,
        # The default drops faces when more than 10,000 crowd into one bin.
        max_faces_per_bin=int(meshes.num_faces_per_mesh().max()),
        perspective_correct=True,
        cull_backfaces=cull,
    )[0]
    return theirs


def _interpolate(verts: Tensor, faces: Tensor, pix_to_face: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`zbuf`, `bary_coords` and `dists` of known faces in plain torch, the same as the kernels compute."""
    _, height, width, layers = pix_to_face.shape
    hit = (pix_to_face.reshape(-1) >= 0).nonzero()[:, 0]
    corners = faces.index_select(0, pix_to_face.reshape(-1)[hit]).reshape(-1)
    xyz = verts.index_select(0, corners).reshape(-1, 3, 3)
    pixel = hit // layers
    col, row = pixel % width, pixel // width % height
    centre = torch.stack([width - 1 - 2 * col, height - 1 - 2 * row], -1).to(verts.dtype) / min(height, width)
    (x, y), z = (xyz[..., :2] - centre[:, None]).unbind(-1), xyz[..., 2]
    x1, y1, z1 = (value.roll(-1, 1) for value in (x, y, z))
    x2, y2, z2 = (value.roll(-2, 1) for value in (x, y, z))
    area = x1 * y2 - y1 * x2
    flipped = area.detach().sum(-1) * z.detach().prod(-1) < 0
    share = area * z1 * z2 * torch.where(flipped, -1, 1)[:, None]
    # A weight that is raised to 0 still passes its gradient on: a pixel on an edge is an inner one.
    share = share + (share.clamp(min=0) - share).detach()
    weights = share / share.sum(-1, keepdim=True).clamp(min=torch.finfo(verts.dtype).tiny)
    depth = (weights * z).sum(-1)
    along_x, along_y = x2 - x1, y2 - y1
    length = (along_x**2 + along_y**2).detach().clamp(min=torch.finfo(verts.dtype).tiny)
    t = (-(x1 * along_x + y1 * along_y).detach() / length).clamp(0, 1)
    distance = ((x1 + t * along_x) ** 2 + (y1 + t * along_y) ** 2).min(-1).values

    def spread(values: Tensor) -> Tensor:
        empty = values.new_full((pix_to_face.numel(), *values.shape[1:]), -1)
        return empty.index_copy(0, hit, values).reshape(*pix_to_face.shape, *values.shape[1:])

    return spread(depth), spread(weights), spread(-distance)
