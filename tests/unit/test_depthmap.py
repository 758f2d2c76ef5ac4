"""Depth maps as surfaces: gradients, a slow twin of the warp, both pixel rules, borders, bad input."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import ConfigError
from zoo.geometry import Camera, Light, depth_to_normal
from zoo.renderers.depthmaps import depthmap as dm
from zoo.renderers.depthmaps.ellipsoid import ellipsoid_depth
from zoo.renderers.depthmaps.gridmesh import grid_faces

SIZE = 12
NEAR, FAR = 0.8, 1.2
VIEWS = [[0.0] * 6, [0.1, 0.3, -0.05, 0.01, -0.02, 0.0], [-0.2, -0.8, 0.3, 0.0, 0.02, 0.03]]


def bumpy(n: int = 3, size: int = SIZE) -> Tensor:
    """Smooth random depth (n,1,S,S) around 1, float64."""
    source = torch.Generator().manual_seed(0)
    coarse = 1 + 0.04 * torch.randn(n, 1, 4, 4, generator=source, dtype=torch.float64)
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)


def views() -> Tensor:
    return torch.tensor(VIEWS, dtype=torch.float64)


def slow_warp(depth: Tensor, view: Tensor, camera: dm.MapCamera) -> tuple[Tensor, Tensor]:
    """`warp_depth` of one item by shooting a ray through every sample at every triangle."""
    points = camera.to_view(camera.lift(depth), view)[0].reshape(-1, 3)
    a, b, c = points[grid_faces(camera.size)].unbind(1)
    parts = (torch.arange(2 * camera.size, dtype=depth.dtype) + 0.5) / 2 - (0.5 if camera.aligned else 0.0)
    slope = (parts - camera.middle) / camera.focal
    y, x = torch.meshgrid(slope, slope, indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 1, 3)
    volumes = [(torch.linalg.cross(p, q) * rays).sum(-1) for p, q in ((b, c), (c, a), (a, b))]
    weights = torch.stack(volumes, -1)
    weights = weights / weights.sum(-1, keepdim=True)
    z = (a[:, 2] * weights[..., 0] + b[:, 2] * weights[..., 1] + c[:, 2] * weights[..., 2]).nan_to_num(100.0)
    z = torch.where((weights > -1e-9).all(-1), z, 100.0).amin(1).view(1, 1, 2 * camera.size, 2 * camera.size)
    warped = F.avg_pool2d(z, 2).clamp(NEAR, FAR)
    return warped, warped < FAR


@pytest.mark.parametrize("aligned", [False, True])
def test_the_warp_equals_its_slow_twin(aligned: bool) -> None:
    camera = dm.MapCamera(SIZE, 10.0, aligned=aligned)
    warped, valid = dm.warp_depth(bumpy(), views(), camera, NEAR, FAR)
    for i in range(len(warped)):
        theirs, there = slow_warp(bumpy()[i : i + 1], views()[i : i + 1], camera)
        assert torch.equal(valid[i : i + 1], there)
        torch.testing.assert_close(warped[i : i + 1], theirs, atol=1e-9, rtol=0)


def test_the_gradient_is_that_of_finite_differences() -> None:
    camera, view = dm.MapCamera(SIZE), views()[1:2]
    depth, weight = bumpy(1), torch.randn(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1)).double()
    _, valid = dm.warp_depth(depth, view, camera, NEAR, FAR)
    # Away from the rim: there a step moves samples on and off the surface.
    weight = weight * (F.avg_pool2d(valid.double(), 3, 1, 1) > 0.99)

    def value(depth: Tensor, view: Tensor) -> Tensor:
        return (dm.warp_depth(depth, view, camera, NEAR, FAR)[0] * weight).sum()

    leaves = depth.clone().requires_grad_(), view.clone().requires_grad_()
    value(*leaves).backward()
    step = 1e-6
    for k, leaf in enumerate(leaves):
        assert leaf.grad is not None
        for index in range(0, leaf.numel(), max(1, leaf.numel() // 24)):
            move = torch.zeros_like(leaf).flatten()
            move[index] = step
            ends = [list(map(torch.Tensor.detach, leaves)) for _ in range(2)]
            ends[0][k], ends[1][k] = ends[0][k] - move.view_as(leaf), ends[1][k] + move.view_as(leaf)
            slope = (value(*ends[1]) - value(*ends[0])).item() / (2 * step)
            assert leaf.grad.flatten()[index].item() == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_which_pixels_the_identity_view_loses() -> None:
    depth, identity = torch.ones(1, 1, SIZE, SIZE), torch.zeros(1, 6)
    shifted = dm.warp_depth(depth, identity, dm.MapCamera(SIZE), NEAR, FAR)[1][0, 0]
    assert shifted[:-1, :-1].all()
    assert not shifted[-1].any()
    assert not shifted[:, -1].any()
    aligned = dm.warp_depth(depth, identity, dm.MapCamera(SIZE, aligned=True), NEAR, FAR)[1][0, 0]
    assert aligned[1:-1, 1:-1].all()
    assert int(aligned.sum()) == (SIZE - 2) ** 2


def test_what_lies_outside_the_range_is_clamped_and_passes_no_gradient() -> None:
    depth = torch.ones(1, 1, SIZE, SIZE)
    depth[..., :4] = 0.7
    depth[..., 8:] = 1.3
    depth.requires_grad_()
    warped, valid = dm.warp_depth(depth, torch.zeros(1, 6), dm.MapCamera(SIZE), NEAR, FAR)
    assert warped[0, 0, 5, 1].item() == pytest.approx(NEAR)
    assert valid[0, 0, 5, 1]
    assert warped[0, 0, 5, 10].item() == pytest.approx(FAR)
    assert not valid[0, 0, 5, 10]
    warped.sum().backward()
    assert depth.grad is not None
    assert depth.grad[..., :3].abs().sum() == depth.grad[..., 9:].abs().sum() == 0
    assert depth.grad[..., 5:7].abs().sum() > 0


def test_nothing_in_view_is_a_picture_without_valid_pixels() -> None:
    depth = torch.ones(1, 1, SIZE, SIZE, requires_grad=True)
    away = torch.tensor([[0.0, 0, 0, 1.0, 0, 0]])
    warped, valid = dm.warp_depth(depth, away, dm.MapCamera(SIZE), NEAR, FAR)
    assert not valid.any()
    assert (warped == FAR).all()
    warped.sum().backward()
    assert depth.grad is not None
    assert depth.grad.abs().sum() == 0


def test_bad_input_is_refused() -> None:
    camera, good = dm.MapCamera(SIZE), torch.ones(1, 1, SIZE, SIZE)
    broken = good.clone()
    broken[0, 0, 3, 4] = math.nan
    with pytest.raises(ValueError, match="finite"):
        dm.warp_depth(broken, torch.zeros(1, 6), camera, NEAR, FAR)
    for wrong in (good[..., 1:], good[:, 0], good.expand(1, 2, -1, -1)):
        with pytest.raises(ValueError, match=r"depth must be \(B,1,12,12\)"):
            camera.lift(wrong)
    with pytest.raises(ValueError, match="3, 5 or 6 numbers"):
        dm.view_transform(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="fov"):
        dm.MapCamera(SIZE, 0.0)
    with pytest.raises(ValueError, match="size"):
        dm.MapCamera(2)


def test_turning_back_undoes_turning() -> None:
    camera = dm.MapCamera(SIZE, centre=1.1)
    points = camera.lift(bumpy())
    torch.testing.assert_close(camera.to_canonical(camera.to_view(points, views()), views()), points)
    assert not torch.allclose(camera.to_view(points, views())[1:], points[1:])
    short = dm.view_transform(views()[:, :3])
    torch.testing.assert_close(short[0], dm.view_transform(views())[0])
    assert short[1].abs().sum() == 0


def test_the_world_sees_the_same_picture() -> None:
    camera, view = dm.MapCamera(SIZE, fov=20.0, centre=1.1), views()
    points = camera.lift(bumpy())
    world = camera.to_world(points).flatten(1, 2)
    seen = camera.to_view(points, view)
    pixels, depth = camera.world_camera(view).project(world)
    torch.testing.assert_close(pixels, camera.pixels(seen).flatten(1, 2))
    torch.testing.assert_close(depth, seen[..., 2].flatten(1))
    frontal = camera.world_camera(torch.zeros(1, 6)).cam2world
    torch.testing.assert_close(frontal, Camera.orbit(radius=1.1).cam2world, atol=1e-4, rtol=0)


def test_normals_are_those_of_the_whole_package() -> None:
    depth = bumpy().float()
    ours = dm.map_normals(depth, dm.MapCamera(SIZE, fov=20.0))[..., 1:-1, 1:-1]
    theirs = depth_to_normal(depth, Camera.orbit(fov=20.0, size=SIZE))[..., 1:-1, 1:-1]
    torch.testing.assert_close(F.normalize(ours, dim=1), theirs, atol=1e-5, rtol=0)
    assert (ours.norm(dim=1) < 1).all()
    assert (ours.norm(dim=1) > 0.999).all()


def test_light_from_the_right_brightens_what_faces_right() -> None:
    x = torch.linspace(-1, 1, SIZE).expand(1, 1, SIZE, SIZE)
    normal = dm.map_normals(1 + 0.1 * x.square(), dm.MapCamera(SIZE))  # a ridge: its right half faces right
    shading = dm.map_shading(normal, Light.of(0.2, 0.8, x=1.0))[0, 0, 5]
    assert shading[8] > shading[3]
    assert dm.map_shading(normal, Light.of(0.2, 0.8, y=1.0))[0, 0, 5, 3] < shading[8]


def test_the_ellipsoid_is_nearest_in_the_middle_of_its_mask() -> None:
    mask = torch.zeros(32, 32)
    mask[8:24, 10:22] = 1
    depth = ellipsoid_depth(mask, "cat")
    assert depth.min() == depth[15:17, 15:17].min()
    assert depth.min() == pytest.approx(0.91, abs=2e-3)
    assert depth[0].unique().tolist() == [pytest.approx(1.02)]
    with pytest.raises(ConfigError, match="Did you mean 'church'"):
        ellipsoid_depth(mask, "curch")
    with pytest.raises(ValueError, match="less than two pixels"):
        ellipsoid_depth(torch.zeros(32, 32))
    with pytest.raises(ValueError, match=r"\(S,S\)"):
        ellipsoid_depth(mask[:10])
