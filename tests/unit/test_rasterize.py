"""The mesh rasterizer: faces against brute force and PyTorch3D's kernel, values and gradients against plain torch."""

import math
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.renderers import rasterize as module
from zoo.renderers.p3d import native, pytorch3d
from zoo.renderers.rasterize import rasterize

needs_kernel = pytest.mark.skipif(not native()[0], reason="PyTorch3D's native part does not load here")
sizes = pytest.mark.parametrize("size", [24, (17, 30), (31, 16)], ids=str)
HAIR = 1e-4  # of a face's height; pixels are snapped by less
NEAR = 1e-3


def meshes(verts: Any, faces: Any) -> Any:
    return pytorch3d().structures.Meshes(verts, faces)


def random_mesh(seed: int, faces: int = 30, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Triangles of all sizes and windings that share corners, some of them without area."""
    rng = torch.Generator().manual_seed(seed)
    count = faces // 2 + 3
    low, high = torch.tensor([-1.6, -1.6, 1.0]), torch.tensor([1.6, 1.6, 3.0])
    verts = torch.rand(count, 3, generator=rng) * (high - low) + low
    index = torch.randint(count, (faces, 3), generator=rng)  # corners that coincide come of themselves
    verts[index[0, 2]] = (verts[index[0, 0]] + verts[index[0, 1]]) / 2
    return verts.to(dtype), index


def grid(n: int, m: int = 0) -> Tensor:
    """Faces of an n x m sheet of vertices."""
    at = torch.arange(n * (m or n)).reshape(n, m or n)
    a, b, c, d = (x.reshape(-1) for x in (at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]))
    return torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])


def centres(size: int | tuple[int, int]) -> np.ndarray:
    """(H, W, 2) NDC x and y of the pixel centres."""
    height, width = (size, size) if isinstance(size, int) else size
    x, y = (np.arange(n - 1, -n, -2) / min(height, width) for n in (width, height))
    return np.stack(np.meshgrid(x, y), -1)


def brute_force(verts: Tensor, faces: Tensor, size: Any, layers: int, cull: bool) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, K) faces by testing every pixel with every face, also behind the camera, and where that is in doubt."""
    corners = verts.double().numpy()[faces.numpy()]  # (F, 3, 3)
    points = np.concatenate([corners[..., :2] * corners[..., 2:], corners[..., 2:]], -1)
    volume = np.linalg.det(points)[:, None, None]
    # The ray through a pixel in terms of the corners: products of the planes through the camera and the edges.
    rays = np.concatenate([centres(size), np.ones((*centres(size).shape[:2], 1))], -1)
    planes = np.cross(np.roll(points, -1, 1), np.roll(points, -2, 1))
    share = np.einsum("hwi,fki->fhwk", rays, planes)
    with np.errstate(all="ignore"):
        z = volume / share.sum(-1)
        weights = share / share.sum(-1, keepdims=True)
    drawn = (volume != 0) & (z > NEAR) & ((volume < 0) | (not cull))
    border = (drawn & (weights < HAIR).any(-1)) | (np.abs(z - NEAR) < HAIR)
    doubt = border & (weights > -HAIR).all(-1)
    z = np.where(drawn & (weights > 0).all(-1), z, np.inf)
    order = np.argsort(z, 0, kind="stable")
    z = np.take_along_axis(z, order, 0)
    with np.errstate(invalid="ignore"):
        doubt = doubt.any(0) | (np.nan_to_num(np.diff(z, axis=0), nan=1.0) < 1e-6).any(0)
    return np.moveaxis(np.where(np.isinf(z), -1, order)[:layers], 0, -1), doubt


@sizes
@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("cull", [False, True])
@pytest.mark.parametrize("behind", [False, True], ids=["in front", "across the camera plane"])
def test_faces_are_those_of_brute_force(size: Any, layers: int, cull: bool, behind: bool) -> None:
    for seed in range(5):
        verts, faces = random_mesh(seed)
        verts[:, 2] -= 1.8 * behind
        expected, doubt = brute_force(verts, faces, size, layers, cull)
        found = rasterize(meshes([verts], [faces]), size, faces_per_pixel=layers, cull_backfaces=cull).pix_to_face[0]
        assert doubt.mean() < 0.25  # one face seen edge-on can fill a corner of the image
        assert (expected >= 0).mean() > 0.1
        np.testing.assert_array_equal(found.numpy()[~doubt], expected[~doubt])


@needs_kernel
@sizes
@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("cull", [False, True])
def test_fragments_are_those_of_pytorch3d(size: Any, layers: int, cull: bool) -> None:
    batch = [random_mesh(seed, 10 * seed + 5) for seed in range(4)]
    mesh = meshes([v for v, _ in batch], [f for _, f in batch])
    theirs = pytorch3d().renderer.mesh.rasterize_meshes(
        mesh, size, faces_per_pixel=layers, perspective_correct=True, cull_backfaces=cull
    )
    ours = rasterize(mesh, size, faces_per_pixel=layers, cull_backfaces=cull)
    sure = ~torch.from_numpy(np.stack([brute_force(*m, size, layers, cull)[1] for m in batch]))
    assert torch.equal(ours.pix_to_face[sure], theirs[0][sure])
    assert sure.float().mean() > 0.95
    # Their float32 products lose digits on thin triangles; the distance to an edge tells which those are.
    xyz = mesh.verts_packed()[mesh.faces_packed()][theirs[0].clamp(min=0)]
    edges = (xyz - xyz.roll(1, -2))[..., :2]
    height = torch.linalg.det(edges[..., :2, :]).abs() / edges.norm(dim=-1).amax(-1)
    sure = sure[..., None] & (height > 0.2)
    for a, b in zip((ours.zbuf, ours.bary_coords, ours.dists), theirs[1:], strict=True):
        torch.testing.assert_close(a[sure], b[sure], atol=2e-6, rtol=0)
    for out in (ours.zbuf, ours.dists, *ours.bary_coords.unbind(-1)):
        assert torch.equal(out == -1, ours.pix_to_face < 0)


@pytest.mark.parametrize("crossing", [False, True])
def test_kernels_equal_plain_torch_forward_and_backward(crossing: bool) -> None:
    verts, faces = random_mesh(7, 40, torch.float64)
    if crossing:
        verts[:, 2] -= 1.8
    verts.requires_grad_()
    out = rasterize(meshes([verts], [faces]), (20, 26), faces_per_pixel=2)
    fast = (out.zbuf, out.bary_coords, out.dists)
    slow = module._interpolate(verts, faces, out.pix_to_face)
    assert (out.pix_to_face >= 0).float().mean() > 0.3
    rng = torch.Generator().manual_seed(0)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)
        cotangent = torch.rand(a.shape, dtype=a.dtype, generator=rng)
        (grad_a,), (grad_b,) = (torch.autograd.grad(x, verts, cotangent, retain_graph=True) for x in (a, b))
        assert grad_b.abs().sum() > 0
        torch.testing.assert_close(grad_a, grad_b, atol=1e-9, rtol=1e-9)


def test_float32_is_as_good_as_float64() -> None:
    verts, faces = random_mesh(9, 60)
    out = rasterize(meshes([verts], [faces]), 48, faces_per_pixel=2)
    exact = module._interpolate(verts.double(), faces, out.pix_to_face)
    for a, b in zip((out.zbuf, out.bary_coords, out.dists), exact, strict=True):
        torch.testing.assert_close(a.double(), b, atol=1e-7, rtol=1e-7)


def test_gradients_are_those_of_finite_differences() -> None:
    """Exact as long as no face wins or loses a pixel, which steps of 1e-6 do not bring about here."""
    verts, faces = random_mesh(3, 12, torch.float64)

    def draw(verts: Tensor) -> tuple[Tensor, ...]:
        out = rasterize(meshes([verts], [faces]), 12, faces_per_pixel=2)
        return out.zbuf, out.bary_coords, out.dists

    assert torch.autograd.gradcheck(draw, (verts.requires_grad_(),), eps=1e-6, atol=1e-6)


def test_a_pixel_on_an_edge_has_the_gradient_of_an_inner_pixel() -> None:
    # A leaning plane, of which the triangle's diagonal edge runs through pixel centres.
    corners = torch.tensor([[1.0, 1, 2], [-1, 1, 3], [-1, -1, 2]], dtype=torch.float64)

    def draw(nudge: float) -> tuple[Tensor, Tensor]:
        verts = (corners - torch.tensor([nudge, 0, 0])).requires_grad_()
        seen = rasterize(meshes([verts], [torch.tensor([[0, 2, 1]])]), 8)
        pixels = torch.arange(8)
        z = seen.zbuf[0, pixels, pixels, 0]
        return z.detach(), torch.autograd.grad(z.sum(), verts)[0]

    # The corners move by less than snapping tells apart: the pixels stay, inside the triangle or outside by a hair.
    (z_in, grad_in), (z_out, grad_out) = draw(-1e-9), draw(1e-9)
    assert (z_in > 0).all()
    torch.testing.assert_close(z_in, z_out, atol=1e-8, rtol=0)
    torch.testing.assert_close(grad_in, grad_out, atol=1e-7, rtol=0)
    assert grad_in[0, 0].abs() > 0.1  # the slope across the edge is in it


def test_a_sheet_whose_edges_run_through_pixel_centres_has_no_gap_and_no_overlap() -> None:
    size = 32
    line = torch.arange(size - 1, -size, -4) / size  # every other pixel centre; the diagonals hit all the others
    x, y = torch.meshgrid(line, line, indexing="xy")
    rng = torch.Generator().manual_seed(0)
    for jitter in (0, 1):
        move = torch.randint(-jitter, jitter + 1, (2, len(line) - 2, len(line) - 2), generator=rng) / size
        sheet = torch.stack([x, y, torch.ones_like(x)])
        sheet[:2, 1:-1, 1:-1] += move
        found = rasterize(meshes([sheet.reshape(3, -1).T], [grid(len(line))]), size, faces_per_pixel=3).pix_to_face[0]
        count = (found >= 0).sum(-1)
        assert torch.equal(count[1:-3, 1:-3], torch.ones(size - 4, size - 4, dtype=torch.int64))
        assert count.max() == 1


@pytest.mark.parametrize("reach", [3.0, 1e2, 1e4, 1e9])
def test_a_fan_of_huge_triangles_has_no_gap_and_no_overlap(reach: float) -> None:
    size, spokes = 17, 11
    for seed in range(5):
        angle = torch.arange(spokes) * (2 * math.pi / spokes) + seed
        rim = torch.stack([angle.cos() * reach * 2, angle.sin() * reach * 2, torch.full((spokes,), 2.0)], -1)
        hub = torch.tensor([[2.0 / size * (seed - 2), 4.0 / size, 2.0]])  # on a pixel centre
        at = torch.arange(spokes)
        faces = torch.stack([torch.full((spokes,), spokes), at, (at + 1) % spokes], -1)
        found = rasterize(meshes([torch.cat([rim, hub])], [faces]), size, faces_per_pixel=2)
        assert torch.equal((found.pix_to_face >= 0).sum(-1), torch.ones(1, size, size, dtype=torch.int64))
        torch.testing.assert_close(found.zbuf[..., 0], torch.full((1, size, size), 2.0))


def around_the_camera(seed: int) -> tuple[Tensor, Tensor]:
    """A closed polyhedron with the camera inside: each ray leaves it once."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    n = 5
    line = torch.linspace(-1, 1, n, dtype=torch.float64)
    a, b = (x.reshape(-1) for x in torch.meshgrid(line, line, indexing="ij"))
    sides = [torch.stack([a, b, torch.full_like(a, s)], -1).roll(k, -1) for k in range(3) for s in (-1, 1)]
    faces = torch.cat([grid(n) + i * n * n for i in range(6)])
    return (torch.cat(sides) + 0.1) @ turn, faces


def test_from_inside_a_closed_mesh_every_pixel_sees_one_face() -> None:
    for seed in range(10):
        points, faces = around_the_camera(seed)
        verts = torch.cat([points[:, :2] / points[:, 2:], points[:, 2:]], -1)
        seen = rasterize(meshes([verts], [faces]), 40, faces_per_pixel=2)
        assert ((points[faces][..., 2] > 0).any(1) & (points[faces][..., 2] < 0).any(1)).any()
        assert torch.equal((seen.pix_to_face >= 0).sum(-1), torch.ones(1, 40, 40, dtype=torch.int64))
        # The corners, weighted, are the point where the ray meets the face.
        corners, weights = points[faces[seen.pix_to_face[0, ..., 0]]], seen.bary_coords[0, ..., 0, :]
        ray = torch.from_numpy(np.concatenate([centres(40), np.ones((40, 40, 1))], -1)) * seen.zbuf[0, ..., :1]
        torch.testing.assert_close((corners * weights[..., None]).sum(-2), ray, atol=1e-4, rtol=0)


def test_the_near_plane_cuts() -> None:
    points = torch.tensor([[-1.0, -1, -0.5], [1, -1, -0.5], [0.1, 1, 2]])  # from behind the camera up into the view
    verts = torch.cat([points[:, :2] / points[:, 2:], points[:, 2:]], -1)
    face = [torch.tensor([[0, 1, 2]])]
    seen = rasterize(meshes([verts], face), 32, z_near=0.5)
    z = seen.zbuf[seen.pix_to_face >= 0]
    assert z.min() >= 0.5
    assert z.min() < 0.6
    assert (rasterize(meshes([verts], face), 32, z_near=2.1).pix_to_face < 0).all()
    flat = torch.tensor([[1.0, 1, 0.7], [1, -1, 0.7], [-1, -1, 0.7]])  # what lies on the near plane is drawn
    assert (rasterize(meshes([flat], face), 9, z_near=float(flat[0, 2])).pix_to_face >= 0).sum() > 30


def test_culling_tells_the_sides_apart_across_the_near_plane_too() -> None:
    for seed in range(10):
        points, faces = around_the_camera(seed)
        verts = torch.cat([points[:, :2] / points[:, 2:], points[:, 2:]], -1)
        corners = points[faces]
        front = torch.linalg.det(corners) < 0
        both = rasterize(meshes([verts], [faces]), 24).pix_to_face
        kept = rasterize(meshes([verts], [faces]), 24, cull_backfaces=True).pix_to_face
        assert torch.equal(kept, torch.where(front[both], both, -1))


def test_each_mesh_of_a_batch_is_drawn_as_if_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [random_mesh(1, 40), (torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)), random_mesh(2, 8)]
    batch += [(batch[0][0], batch[1][1]), random_mesh(3, 25)]
    mesh = meshes([v for v, _ in batch], [f for _, f in batch])
    whole = rasterize(mesh, (15, 22), faces_per_pixel=2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    again = rasterize(mesh, (15, 22), faces_per_pixel=2)
    start = 0
    for i, (verts, faces) in enumerate(batch):
        alone = rasterize(meshes([verts], [faces]), (15, 22), faces_per_pixel=2)
        assert torch.equal(whole.pix_to_face[i], torch.where(alone.pix_to_face >= 0, alone.pix_to_face + start, -1)[0])
        for name in ("zbuf", "bary_coords", "dists"):
            assert torch.equal(getattr(whole, name)[i], getattr(alone, name)[0])
            assert torch.equal(getattr(whole, name), getattr(again, name))
        start += len(faces)
    assert (whole.pix_to_face[[1, 3]] == -1).all()


def test_of_equally_near_faces_the_lower_index_comes_first() -> None:
    verts = torch.tensor([[1.0, 1, 2], [1, -1, 2], [-1, -1, 2]])
    found = rasterize(meshes([verts], [torch.tensor([[0, 1, 2]] * 4)]), 8, faces_per_pixel=3).pix_to_face
    hit = found[found[..., 0] >= 0]
    assert torch.equal(hit, torch.arange(3).expand_as(hit))


def test_hopeless_triangles_leave_the_rest_alone() -> None:
    verts, faces = random_mesh(5)
    expected = rasterize(meshes([verts], [faces]), 24).pix_to_face
    odd = torch.tensor([
        [0.3, 0.3, 0.0], [-0.3, 0.5, 0.0], [0.1, -0.9, 0.0],  # at the camera
        [0.2, 0.1, -1.0], [0.9, 0.3, -2.0], [-0.4, 0.8, -3.0],  # behind it
        [3e38, 3e38, 1e-38], [-3e38, 3e38, 1e-38], [0.0, -3e38, 1e-38],  # nearer than the near plane
        [5.0, 0.0, 2.0], [5.0, 0.5, 2.0], [6.0, 0.0, 2.0],  # outside the image
        [0.0, 0.0, 1.0], [0.5, 0.5, 1.0], [1.0, 1.0, 1.0],  # a line
    ])  # fmt: skip
    more = torch.cat([faces, torch.arange(len(odd)).reshape(-1, 3) + len(verts), torch.zeros(1, 3, dtype=torch.int64)])
    verts = torch.cat([verts, odd]).requires_grad_()
    out = rasterize(meshes([verts], [more]), 24)
    assert torch.equal(out.pix_to_face, expected)
    (out.zbuf.sum() + out.bary_coords[..., 0].sum() + out.dists.sum()).backward()
    assert verts.grad is not None
    assert verts.grad.isfinite().all()
    far = torch.tensor([[1e200, 1e200, 1e200], [-1e200, 0, 1e200], [0, -1e200, -1e200]], dtype=torch.float64)
    rasterize(meshes([far], [torch.tensor([[0, 1, 2]])]), 8)


def test_half_precision_and_autocast_give_float32() -> None:
    verts, faces = random_mesh(5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert rasterize(meshes([verts], [faces]), 8).bary_coords.dtype == torch.float32
        low = verts.bfloat16().requires_grad_()
        out = rasterize(meshes([low], [faces]), 8)
    assert out.zbuf.dtype == torch.float32
    out.zbuf.sum().backward()
    assert low.grad is not None
    assert low.grad.dtype == torch.bfloat16


TRIANGLE = torch.tensor([[1.0, 1, 2], [1, -1, 2], [-1, -1, 2]])


@pytest.mark.parametrize(
    ("verts", "faces", "options", "words"),
    [
        (math.nan, [0, 1, 2], {}, "vertex 1 of mesh 1 is (nan, -1, 2)"),
        (math.inf, [0, 1, 2], {}, "vertex 1 of mesh 1 is (inf, -1, 2)"),
        (0.0, [0, 1, 3], {}, "face 1 of mesh 1 is (0, 1, 3); the mesh has 3 vertices, so use 0 to 2"),
        (0.0, [0, 1, 2], {"image_size": 0}, "image_size=0"),
        (0.0, [0, 1, 2], {"image_size": (4, -1)}, "image_size=(4, -1)"),
        (0.0, [0, 1, 2], {"faces_per_pixel": 0}, "faces_per_pixel=0"),
        (0.0, [0, 1, 2], {"z_near": 0.0}, "z_near=0.0"),
        (0.0, [0, 1, 2], {"z_near": math.nan}, "z_near=nan"),
    ],
)
def test_bad_input_is_refused_in_one_line(verts: float, faces: list[int], options: Any, words: str) -> None:
    bad = TRIANGLE.clone()
    bad[1, 0] += verts
    good = torch.tensor([[0, 1, 2]])
    mesh = meshes([TRIANGLE, bad], [good, torch.cat([good, torch.tensor([faces])])])
    checks = [lambda: rasterize(mesh, **{"image_size": 8, **options})]
    if not options:
        checks.append(lambda: module._check(mesh))  # what a GPU's batch is asked
    for check in checks:
        with pytest.raises(ValueError, match="rasterize: ") as error:
            check()
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_an_empty_batch_and_an_unknown_device_are_refused() -> None:
    with pytest.raises(ValueError, match="0 meshes"):
        rasterize(meshes([], []), 8)
    elsewhere = MagicMock()  # PyTorch3D itself cannot build meshes on the one such device that every machine has
    elsewhere.__len__.return_value = 1
    elsewhere.verts_packed.return_value = TRIANGLE.to("meta")
    with pytest.raises(ValueError, match="device meta"):
        rasterize(elsewhere, 8)


@needs_kernel
def test_the_way_a_gpu_takes_gives_the_same_image() -> None:
    """Its parts run on a CPU as well: faces from PyTorch3D, faces across the near plane from our kernel."""
    for push, dtype in ((0.0, torch.float32), (0.0, torch.float64), (-1.8, torch.float32)):
        verts, faces = random_mesh(11, 30, dtype)
        verts[:, 2] += push
        mesh = meshes([verts, verts[:0]], [faces, faces[:0]])
        ours = rasterize(mesh, 24, faces_per_pixel=2)
        theirs = module._visible(mesh, (24, 24), 2, False, 1e-3)
        assert (ours.pix_to_face != theirs).float().mean() < 0.01
        same = (ours.pix_to_face == theirs) & (theirs >= 0)
        z, bary, _ = module._interpolate(verts, faces, theirs)
        torch.testing.assert_close(z[same], ours.zbuf[same], atol=1e-4, rtol=0)
        torch.testing.assert_close(bary[same], ours.bary_coords[same], atol=1e-4, rtol=0)
    assert (module._visible(meshes([verts[:0]], [faces[:0]]), (4, 4), 1, False, 1e-3) == -1).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@needs_kernel
@pytest.mark.gpu
def test_a_gpu_agrees_with_the_cpu() -> None:
    batch = [random_mesh(seed, 20 * seed + 5) for seed in range(3)]
    mesh = meshes([v for v, _ in batch], [f for _, f in batch])
    here, there = rasterize(mesh, (40, 50)), rasterize(mesh.cuda(), (40, 50))
    same = here.pix_to_face == there.pix_to_face.cpu()
    assert same.float().mean() > 0.99
    for name in ("zbuf", "bary_coords", "dists"):
        pair = getattr(here, name)[same], getattr(there, name).cpu()[same]
        torch.testing.assert_close(*pair, atol=1e-4, rtol=0)
