"""Rendering meshes: the same picture as PyTorch3D, the right way up, outlines as published, and nothing that breaks."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from pytorch3d_cameras import to_pytorch3d_camera
from torch import Tensor

from zoo.errors import ZooError
from zoo.geometry import Camera
from zoo.renderers.meshes import antialias
from zoo.renderers.meshes.render import MODES, MeshRenderConfig, render_mesh
from zoo.renderers.meshes.topology import Topology, octa_sphere, signed_volume
from zoo.renderers.p3d import native, pytorch3d

SIZE = 32
UNIT = math.tan(math.radians(12) / 2)  # world units in an object unit, for Camera's defaults
needs_native = pytest.mark.skipif(not native()[0], reason="PyTorch3D's native part does not load here")


def face_like(n: int = 24, batch: int = 1) -> Tensor:
    """(batch, V, 3) world units: an egg with a nose that hides part of it when seen from the side."""
    sphere = octa_sphere(n).sphere
    nose = torch.exp(-(sphere - torch.tensor([0, -0.1, 1])).square().sum(-1, keepdim=True) / 0.06)
    return (0.6 * UNIT * sphere * (1 + 0.5 * nose) * torch.tensor([0.85, 1.1, 0.9])).expand(batch, -1, -1)


def plain(value: float, batch: int = 1, size: int = 4) -> Tensor:
    return torch.full((batch, 3, size, size), value)


def flat(corners: list[list[float]], faces: list[list[int]], depth: float = 0.0, side: int = SIZE) -> tuple:
    """Vertices (1, V, 3) on a plane and their topology, for corners in pixels from the outer corner, "half" rule."""
    pixels = torch.tensor(corners, dtype=torch.float64)
    plane = (pixels * (2 / side) - 1) * pixels.new_tensor([UNIT, -UNIT]) * (1 - depth)
    verts = F.pad(plane, (0, 1), value=depth)[None]
    return verts, Topology.of(torch.zeros(len(corners), 2), verts[0].float(), torch.tensor(faces))


def half(size: int = SIZE) -> Camera:
    return Camera.orbit(size=size, pixel_centres="half")


# ------------------------------------------------------------------------------------------------ against PyTorch3D


@needs_native
@pytest.mark.parametrize("rule", ["corner", "half"])
def test_sees_what_pytorch3d_sees(rule: str) -> None:
    yaw, pitch = torch.tensor([0.4, -1.0, 2.5]), torch.tensor([0.1, -0.3, 0.2])
    camera = Camera.orbit(yaw, pitch, size=SIZE, pixel_centres=rule)  # type: ignore[arg-type]
    topology, verts = octa_sphere(24), face_like(24, 3)
    found = render_mesh(verts, topology, plain(1.0, 3), None, camera, MeshRenderConfig("crisp"))
    p3d = pytorch3d()
    meshes = p3d.structures.Meshes(list(verts), [topology.faces] * 3)
    settings = p3d.renderer.RasterizationSettings(image_size=SIZE, bin_size=0, cull_backfaces=True)
    seen = p3d.renderer.MeshRasterizer(to_pytorch3d_camera(camera), settings)(meshes)
    hit = seen.pix_to_face[..., 0] >= 0
    ours = found.depth[:, 0] > 0
    assert (ours != hit).float().mean() < 1e-3  # centres on an edge may go either way
    both = ours & hit
    assert both.float().mean() > 0.2
    torch.testing.assert_close(found.depth[:, 0][both], seen.zbuf[..., 0][both], atol=1e-4, rtol=0)
    uv = topology.uv[topology.faces[seen.pix_to_face % len(topology.faces)]][..., 0, :, :]
    uv = (uv * seen.bary_coords[..., 0, :, None]).sum(-2)
    close = (found.uv.permute(0, 2, 3, 1) - uv).abs().amax(-1)[both] < 1e-3
    assert close.float().mean() > 0.995


@needs_native
@pytest.mark.parametrize("rule", ["corner", "half"])
def test_vertices_land_where_pytorch3d_puts_them(rule: str) -> None:
    camera = Camera.orbit(0.3, -0.2, size=SIZE, pixel_centres=rule)  # type: ignore[arg-type]
    points = (torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.2
    screen = to_pytorch3d_camera(camera).transform_points_screen(points, with_xyflip=True)[..., :2]
    pixels, _ = camera.project(points)
    assert (pixels + 0.5 - screen).abs().max() < 1e-4


@needs_native
@pytest.mark.parametrize("yaw", [0.0, 0.6])
def test_margin_is_the_distance_that_pytorch3d_measures(yaw: float) -> None:
    """Opacity outside the mesh from PyTorch3D's blurred distances to the front faces on the outline."""
    topology, camera = octa_sphere(24), Camera.orbit(yaw, size=SIZE, pixel_centres="half")
    verts = face_like()
    found = render_mesh(verts, topology, plain(1.0), None, camera)
    pixels, depth = camera.project(verts)
    ndc = torch.cat([1 - (pixels + 0.5) * (2 / SIZE), depth[..., None]], -1)[0]
    p0, p1, p2 = ndc[topology.faces][..., :2].unbind(1)
    front = ((p1 - p0)[:, 0] * (p2 - p0)[:, 1] - (p1 - p0)[:, 1] * (p2 - p0)[:, 0]) < 0  # x runs left
    a, b = topology.edge_faces.unbind(1)
    outline = topology.edge_faces[front[a] != front[b]].unique()
    faces = topology.faces[outline[front[outline]]]
    p3d = pytorch3d()
    _, _, _, dists = p3d.renderer.mesh.rasterize_meshes(
        p3d.structures.Meshes([ndc], [faces]), SIZE, blur_radius=(2 / SIZE) ** 2, faces_per_pixel=16, bin_size=0
    )
    outside = torch.where(dists > 0, dists, torch.inf).amin(-1).sqrt() * SIZE / 2
    expected = (1 - outside).clamp_min(0)
    empty = found.depth[:, 0] == 0
    assert ((expected > 0) & empty).sum() > 40
    assert (found.mask[:, 0] - expected)[empty].abs().max() < 1e-4
    assert (found.mask[:, 0][~empty] == 1).all()


@needs_native
def test_the_soft_rasteriser_covers_about_the_same() -> None:
    camera, config = Camera.orbit(0.4, size=SIZE), MeshRenderConfig("sigmoid")
    verts = face_like(8).clone().requires_grad_()
    out = render_mesh(verts, octa_sphere(8), plain(1.0), plain(-1.0, size=SIZE), camera, config)
    crisp = render_mesh(verts, octa_sphere(8), plain(1.0), None, camera, MeshRenderConfig("crisp"))
    assert (out.mask - crisp.mask).abs().mean() < 0.1  # pinholes at the faces' edges
    torch.testing.assert_close(out.rgb, 2 * out.mask.expand(-1, 3, -1, -1) - 1)
    out.rgb.sum().backward()
    assert verts.grad is not None
    assert verts.grad.isfinite().all()


def test_the_soft_rasteriser_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(antialias, "native", lambda: (False, "libtorch_cuda.so is missing"))
    with pytest.raises(ZooError, match=r"libtorch_cuda.so is missing\); use mode 'soft'"):
        render_mesh(face_like(8), octa_sphere(8), plain(1.0), None, half(), MeshRenderConfig("sigmoid"))


# ------------------------------------------------------------------------------------------------------- the picture


def test_upright_and_not_mirrored() -> None:
    """Red grows to the right of the texture, green upwards; blue is the front pole."""
    v, u = torch.meshgrid(torch.linspace(-1, 1, 33), torch.linspace(-1, 1, 33), indexing="ij")
    texture = torch.stack([u, -v, 1 - 4 * (u**2 + v**2).sqrt()])[None]
    ball = 0.8 * UNIT * octa_sphere(16).sphere[None]
    rgb = render_mesh(ball, octa_sphere(16), texture, None, Camera.orbit(size=33)).rgb[0]
    middle = 16
    assert rgb[0, middle, 24] > 0.15 > -0.15 > rgb[0, middle, 8]
    assert rgb[1, 8, middle] > 0.15 > -0.15 > rgb[1, 24, middle]
    assert rgb[2].flatten().argmax() == middle * 33 + middle
    turned = render_mesh(ball, octa_sphere(16), texture, None, Camera.orbit(0.5, 0.4, size=33)).rgb[0, 2]
    row, column = divmod(int(turned.flatten().argmax()), 33)
    assert column > 18  # positive yaw turns the head to its left, the image's right
    assert row < 14  # positive pitch raises the chin


def test_depth_and_normals_of_a_ball() -> None:
    radius, size = 0.8 * UNIT, 48
    camera = Camera.orbit(torch.tensor([0.0, 0.7]), torch.tensor([0.0, 0.3]), size=size)
    ball = radius * octa_sphere(64).sphere.expand(2, -1, -1)
    out = render_mesh(ball, octa_sphere(64), plain(0.0, 2), None, camera)
    grid = camera.pixel_grid().T.reshape(1, 3, size, size)
    along = -grid[:, 2:]  # cosine; the camera stands 1 from the ball's centre
    root = along**2 - 1 + radius**2
    expected = torch.where(root > 0, (along - root.clamp_min(0).sqrt()) * along, 0).expand(2, -1, -1, -1)
    inner = (root > 0.1 * radius**2).expand(2, -1, -1, -1)
    torch.testing.assert_close(out.depth[inner], expected[inner], atol=0.005 * radius, rtol=0)
    points = grid / along * expected
    centre = torch.tensor([0.0, 0, -1]).view(1, 3, 1, 1)
    cosine = (F.normalize(points - centre, dim=1) * out.normal).sum(1, keepdim=True)
    assert cosine[inner].min() > 0.999
    nothing = out.depth == 0
    assert 0.3 < nothing.float().mean() < 0.7
    assert (out.normal * nothing == 0).all()
    assert (out.uv * nothing == 0).all()


def test_normals_can_be_left_out() -> None:
    out = render_mesh(face_like(), octa_sphere(24), plain(0.0), None, half(), normals=False)
    assert out.normal.shape == (1, 3, SIZE, SIZE)
    assert (out.normal == 0).all()


@pytest.mark.parametrize("mode", [m for m in MODES if m != "sigmoid"])
@pytest.mark.parametrize("supersample", [1, 2])
def test_every_mode_is_a_blend_of_object_and_background(mode: str, supersample: int) -> None:
    camera, config = Camera.orbit(0.5, 0.1, size=SIZE), MeshRenderConfig(mode, supersample=supersample)
    background = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    over = render_mesh(face_like(), octa_sphere(24), plain(1.0), background, camera, config)
    alone = render_mesh(face_like(), octa_sphere(24), plain(1.0), None, camera, config)
    assert 0 <= over.mask.min() < over.mask.max() <= 1 + 1e-6
    if mode == "aa":  # blends the finished picture, so a pixel takes of its neighbour's background too
        empty = F.max_pool2d(over.mask, 3, 1, 1) == 0
        assert torch.equal(over.rgb[empty.expand(-1, 3, -1, -1)], background[empty.expand(-1, 3, -1, -1)])
    else:
        torch.testing.assert_close(over.rgb, alone.rgb + (1 - over.mask) * background)
    torch.testing.assert_close(alone.rgb, alone.mask.expand(-1, 3, -1, -1))
    assert torch.equal(over.depth, alone.depth)


def test_a_picture_is_the_same_alone_and_in_a_batch() -> None:
    near, far = Camera.orbit(0.5, 0.1, size=SIZE), Camera.orbit(-0.3, radius=1.5, size=SIZE)
    camera = replace(near, cam2world=torch.cat([near.cam2world, far.cam2world]))
    verts = torch.cat([face_like(), 0.8 * face_like()])
    texture = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    both = render_mesh(verts, octa_sphere(24), texture, None, camera)
    for i, one in enumerate((near, far)):
        single = render_mesh(verts[i : i + 1], octa_sphere(24), texture[i : i + 1], None, one)
        for a, b in zip(both, single, strict=True):
            torch.testing.assert_close(a[i], b[0], atol=1e-6, rtol=0)


def test_autocast_and_half_precision_change_nothing() -> None:
    camera, texture = Camera.orbit(0.5, size=SIZE), torch.rand(1, 3, 8, 8)
    expected = render_mesh(face_like(), octa_sphere(24), texture.bfloat16().float(), None, camera)
    with torch.autocast("cpu", torch.bfloat16):
        found = render_mesh(face_like(), octa_sphere(24), texture.bfloat16(), None, camera)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


def test_supersampling_averages_what_is_there() -> None:
    """Depth and normals are means over the surface alone; the picture's mean colour hardly changes."""
    camera = Camera.orbit(0.5, size=SIZE)
    one = render_mesh(face_like(), octa_sphere(24), plain(0.5), None, camera, MeshRenderConfig("crisp"))
    four = render_mesh(face_like(), octa_sphere(24), plain(0.5), None, camera, MeshRenderConfig("crisp", supersample=4))
    assert four.rgb.shape == one.rgb.shape
    assert 0 < ((four.mask > 0) & (four.mask < 1)).sum() < 200
    both = (one.depth > 0) & (four.depth > 0)
    assert (one.depth - four.depth)[both].abs().max() < 0.25 * UNIT
    assert four.depth[four.depth > 0].min() > 0.9
    torch.testing.assert_close(four.normal.norm(dim=1, keepdim=True), (four.depth > 0).float())
    torch.testing.assert_close(four.mask.sum(), one.mask.sum(), rtol=0.02, atol=0)


# ---------------------------------------------------------------------------------------------------------- outlines


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_the_margin_enlarges_by_the_published_law(margin: float) -> None:
    """A convex outline of area A and perimeter P covers A + margin P / 2 + pi margin^2 / 3; mean over 16 positions."""
    shape = torch.tensor([[10.0, 9.0], [16.0, 41.0], [49.0, 22.0]])
    x, y = (shape - shape.roll(-1, 0)).unbind(1)
    perimeter = (x**2 + y**2).sqrt().sum()
    area = torch.linalg.det(shape[1:] - shape[0]).abs() / 2
    total = []
    for i in range(16):
        moved = (shape + torch.tensor([i % 4, i // 4]) / 4).tolist()
        verts, topology = flat(moved, [[0, 1, 2]], side=64)
        config = MeshRenderConfig(margin_px=margin)
        total.append(render_mesh(verts, topology, plain(1.0).double(), None, half(64), config).mask.sum())
    expected = area + margin / 2 * perimeter + math.pi * margin**2 / 3
    assert abs(torch.stack(total).mean() / expected - 1) < 0.01


def test_the_picture_is_continuous_across_the_outline() -> None:
    """A square moves by two pixels in steps of 1/32: no pixel jumps, while a crisp one does. (Pairwise blending jumps
    at corners, which the rows looked at leave out.)"""
    jumps = {}
    for mode in ("crisp", "soft", "centred", "aa"):
        masks = []
        for i in range(64):
            left = 10 + i / 32 + 1e-3
            square = [[left, 8.2], [left, 20.3], [left + 11, 20.3], [left + 11, 8.2]]
            verts, topology = flat(square, [[0, 1, 2], [0, 2, 3]])
            out = render_mesh(verts, topology, plain(1.0).double(), None, half(), MeshRenderConfig(mode))
            masks.append(out.mask[:, :, 11:17])
        jumps[mode] = (torch.cat(masks[1:]) - torch.cat(masks[:-1])).abs().max().item()
    assert jumps["crisp"] == 1
    assert jumps["soft"] < 1.01 / 32
    assert jumps["centred"] < 2.1 / 32
    assert jumps["aa"] < 1.01 / 32


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0, 3.0])
def test_centred_coverage_of_a_straight_outline_is_exact(slope: float) -> None:
    from zoo.bench.gradients import exact_coverage

    run = [1.0, slope]
    a, b = [16.2 - 60 * run[0], 15.7 - 60 * run[1]], [16.2 + 60 * run[0], 15.7 + 60 * run[1]]
    corners = [a, [a[0] - 200 * slope, a[1] + 200], [b[0] - 200 * slope, b[1] + 200], b]
    verts, topology = flat(corners, [[0, 1, 2], [0, 2, 3]])
    out = render_mesh(verts, topology, plain(1.0).double(), None, half(), MeshRenderConfig("centred"))
    expected = exact_coverage(torch.tensor(corners), SIZE)
    assert ((expected > 0) & (expected < 1)).sum() > 10
    torch.testing.assert_close(out.mask[0, 0], expected, atol=1e-5, rtol=0)  # a camera's pose is float32


def test_pairwise_antialiasing_is_exact_along_the_axes() -> None:
    square = [[8.25, 6.75], [8.25, 20.0], [19.9, 20.0], [19.9, 6.75]]
    verts, topology = flat(square, [[0, 1, 2], [0, 2, 3]])
    mask = render_mesh(verts, topology, plain(1.0).double(), None, half(), MeshRenderConfig("aa")).mask[0, 0]
    expected = torch.tensor([0, 0.75, *[1] * 10, 0.9], dtype=torch.float64)
    torch.testing.assert_close(mask[12, 7:20].clone(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(mask[5:8, 12].clone(), mask.new_tensor([0, 0.25, 1]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["soft", "centred"])
def test_a_nearer_surface_is_softened_over_a_farther_one_but_not_under_it(mode: str) -> None:
    """A small white square floats before a large one, far enough for its margin; then behind it."""
    for depth, seen in ((0.03, True), (-0.03, False)):
        small, _ = flat([[12.3, 12.3], [12.3, 20.3], [20.3, 20.3], [20.3, 12.3]], [[0, 1, 2]], depth)
        large, _ = flat([[4.1, 4.1], [4.1, 28.1], [28.1, 28.1], [28.1, 4.1]], [[0, 1, 2]])
        faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
        uv = torch.tensor([[0.9, 0.0]] * 4 + [[-0.9, 0.0]] * 4)
        topology = Topology.of(uv, torch.zeros(8, 3), faces)
        texture = torch.tensor([-1.0, 1.0]).repeat_interleave(4).expand(1, 3, 8, 8).double()
        out = render_mesh(torch.cat([small, large], 1), topology, texture, None, half(), MeshRenderConfig(mode))
        values = out.rgb[0, 0, 16, 8:24]
        between = ((values > -0.999) & (values < 0.999)).sum()
        assert between == (2 if seen else 0)
        assert (values.max() > 0.999) == seen
        assert out.mask[0, 0, 16, 8:24].min() > 0.999


def test_the_margin_reads_the_front_faces_side_of_a_seam() -> None:
    """A folded strip: the sides that meet at the welded fold have their own UV, and the back one must not show."""
    size = SIZE
    # The front sheet faces the camera, the back sheet away from it; both end at x = 20.4 px, where they are welded.
    front, _ = flat([[8.0, 8.0], [8.0, 24.0], [20.4, 24.0], [20.4, 8.0]], [[0, 1, 2]])
    back, _ = flat([[20.4, 8.0], [20.4, 24.0], [8.0, 24.0], [8.0, 8.0]], [[0, 1, 2]])
    back[:, 2:, 2] -= 0.02
    verts = torch.cat([back, front], 1)
    faces = torch.tensor([[0, 2, 1], [0, 3, 2], [4, 5, 6], [4, 6, 7]])
    faces = torch.cat([faces[:2].flip(1), faces[2:]])
    faces[:2] = torch.tensor([[0, 2, 3], [0, 1, 2]])
    weld = torch.tensor([0, 1, 2, 3, 4, 5, 1, 0])
    uv = torch.tensor([[-0.9, 0.0]] * 4 + [[0.9, 0.0]] * 4)
    texture = torch.tensor([-1.0, 1.0]).repeat_interleave(4).expand(1, 3, 8, 8).double()
    for order in (faces, faces.flip(0)):
        topology = Topology.of(uv, torch.zeros(8, 3), order, weld)
        out = render_mesh(verts, topology, texture, None, half(size))
        strip = (out.depth == 0) & (out.mask > 0)
        assert strip[0, 0, 10:22, 20].all()
        torch.testing.assert_close(out.rgb[:, :1][strip], out.mask[strip])  # white, not black, over nothing


def test_a_hollow_mask_cannot_be_told_by_its_outline() -> None:
    """Mirrored in depth, a ball covers the same pixels although it is inside out: culling sees only the winding on
    screen. Its signed volume tells."""
    topology = octa_sphere(32)
    camera = Camera.orbit(fov=1.0, size=SIZE)  # nearly parallel rays
    ball = 0.6 * math.tan(math.radians(0.5)) * topology.sphere[None]
    hollow = ball * torch.tensor([1.0, 1.0, -1.0])
    a, b = (render_mesh(v, topology, plain(1.0), None, camera, MeshRenderConfig("crisp")) for v in (ball, hollow))
    assert (a.mask != b.mask).float().mean() < 2e-3
    middle = (0, 0, SIZE // 2, SIZE // 2)
    assert a.depth[middle] < 1 < b.depth[middle]
    assert signed_volume(hollow, topology.faces) < 0 < signed_volume(ball, topology.faces)


# -------------------------------------------------------------------------------------------------------- bad meshes


@pytest.mark.parametrize("mode", [m for m in MODES if m != "sigmoid"])
@pytest.mark.parametrize(
    "case", ["tiny", "huge", "around the camera", "behind", "on the camera", "flat", "point", "far aside", "noise"]
)
def test_any_finite_mesh_has_a_finite_picture_and_gradient(mode: str, case: str) -> None:
    topology = octa_sphere(8)
    sphere = topology.sphere[None] * UNIT
    camera = Camera.orbit(size=SIZE)
    noise = torch.randn(sphere.shape, generator=torch.Generator().manual_seed(0))
    verts = {
        "tiny": 1e-4 * sphere,
        "huge": 5 * sphere,
        "around the camera": 30 * sphere,
        "behind": sphere + torch.tensor([0.0, 0, 3]),
        "on the camera": sphere + torch.tensor([0.0, 0, 1]),
        "flat": sphere * torch.tensor([1.0, 1, 0]),
        "point": 0 * sphere,
        "far aside": sphere + torch.tensor([1e6, 0, 0]),
        "noise": noise,
    }[case].clone()
    verts.requires_grad_()
    out = render_mesh(verts, topology, plain(0.3), plain(0.1, size=SIZE), camera, MeshRenderConfig(mode))
    loss = out.rgb.square().sum() + out.mask.sum() + out.depth.sum() + out.normal[:, 0].sum()
    loss.backward()
    assert verts.grad is not None
    assert all(x.isfinite().all() for x in (*out, verts.grad))
    assert 0 <= out.mask.min() <= out.mask.max() <= 1 + 1e-5
    if case == "huge":
        assert (out.mask == 1).all()


def test_faces_that_reach_behind_the_camera_leave_no_hole() -> None:
    """A floor and a ceiling that run from far ahead to behind the camera, and a wall at their end."""
    corners = [[x, y, z] for z in (2.0, -3.0) for y in (-0.02, 0.02) for x in (-9.0, 9.0)]
    faces = [[0, 1, 5], [0, 5, 4], [4, 5, 7], [4, 7, 6], [6, 7, 3], [6, 3, 2]]
    topology = Topology.of(torch.zeros(8, 2), torch.zeros(8, 3), torch.tensor(faces))
    for mode in ("crisp", "soft"):
        out = render_mesh(torch.tensor(corners)[None], topology, plain(1.0), None, half(), MeshRenderConfig(mode))
        assert (out.mask == 1).all()
        assert out.depth.max() > 3.9


def test_faces_without_area_are_harmless() -> None:
    verts, _ = flat([[8, 8], [8, 24], [24, 24], [24, 8], [16, 16], [20, 20]], [[0, 1, 2]])
    topology = Topology.of(torch.zeros(6, 2), torch.zeros(6, 3), torch.tensor([[0, 1, 2], [0, 2, 3], [0, 4, 5]]))
    verts = verts.requires_grad_()
    out = render_mesh(verts, topology, plain(1.0).double(), None, half())
    assert (out.mask[0, 0, 8:24, 8:24] == 1).all()
    out.mask.sum().backward()
    assert verts.grad.isfinite().all()


def test_a_single_wall_has_no_seam_between_its_faces() -> None:
    """Every pixel of a jittered grid, with edges through pixel centres, is covered exactly."""
    n = 17
    axis = torch.linspace(0, SIZE, n)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    corners = torch.stack([x, y], -1).reshape(-1, 2) * 1.1 - 1
    at = torch.arange(n * n).reshape(n, n)
    a, b, c, d = (part.reshape(-1) for part in (at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]))
    faces = torch.cat([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)])
    verts, topology = flat(corners.tolist(), faces.tolist())
    for dtype in (torch.float32, torch.float64):
        out = render_mesh(verts.to(dtype), topology, plain(1.0).to(dtype), None, half())
        assert (out.mask == 1).all()


def test_bad_input_is_refused_in_one_line() -> None:
    topology, camera, verts = octa_sphere(8), half(), face_like(8)
    broken = verts.clone()
    broken[0, 3, 1] = math.nan
    there = replace(camera, cam2world=torch.eye(4)[None])
    cases = {
        r"verts are \(1, 80, 3\); this topology needs \(B, 81, 3\)": (verts[:, 1:], plain(0.0), None, camera),
        "1 of 81 vertices are not finite": (broken, plain(0.0), None, camera),
        r"texture is \(2, 3, 4, 4\); give \(1, 3, T, T\)": (verts, plain(0.0, 2), None, camera),
        r"background is \(1, 3, 4, 4\); crop it to the camera's \(1, 3, 32, 32\)": (verts, plain(0), plain(0), camera),
        "a camera stands at the origin": (verts, plain(0.0), None, there),
        "2 cameras for 1 objects": (verts, plain(0.0), None, Camera.orbit(torch.zeros(2), size=SIZE)),
    }
    for message, (v, texture, background, view) in cases.items():
        with pytest.raises(ValueError, match=message) as error:
            render_mesh(v, topology, texture, background, view)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "smooth"}, "mode must be one of crisp, soft, centred, aa, sigmoid, got 'smooth'"),
        ({"margin_px": 0.0}, "margin_px must be positive, got 0.0; for no margin use mode 'crisp'"),
        ({"push": -0.1}, "push must be 0 or more"),
        ({"supersample": 0}, "supersample must be at least 1, got 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MeshRenderConfig(**settings)
