"""The space of shapes: pose, size and camera do not move a head in it; collapse, a wrong mean and strangers show."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.geometry import Camera
from zoo.heads.dataset import render_heads
from zoo.heads.model import HeadModel
from zoo.heads.sampling import sample_heads
from zoo.metrics import erode
from zoo.metrics.shapespace import ShapeSpace, shape_figures

SIZE = 40


def camera(fov: float = 12.0) -> Camera:
    return Camera.orbit(size=SIZE, fov=fov)


@cache
def heads(n: int, first: int = 0, spread: float = 1.0, yaw: float = 0.0, fov: float = 12.0) -> tuple[Tensor, Tensor]:
    """Depth and masks of heads from the front, their shapes `spread` times as far from the mean."""
    people = sample_heads(np.arange(n) + first, 0, "val", HeadModel.load())
    people = people._replace(shape=spread * people.shape)
    maps = render_heads(people, np.tile([-yaw / 2, yaw], (n, 1)), np.zeros((n, 4)), SIZE, fov)
    return torch.from_numpy(maps.depth), torch.from_numpy(maps.mask)


@cache
def space() -> ShapeSpace:
    mean, mask = heads(1, spread=0.0)
    for _ in range(4):  # away from the outline, where the surface turns out of view
        mask = erode(mask)
    mask[..., :12, :] = False  # the forehead, and hair
    return ShapeSpace.fit(*heads(50), mean, mask, camera(), components=8)


@cache
def real() -> Tensor:
    return space().project(*heads(30, first=100), camera())


def test_real_heads_have_a_spread_of_one_and_little_is_left_over() -> None:
    own = space().project(*heads(50), camera())
    assert own.shape == (50, 9)
    assert own.square().sum(1).mean().item() == pytest.approx(1)
    assert own[:, :8].mean(0).abs().max() < 1e-9
    variance = own[:, :8].var(0)
    assert (variance.diff() <= 0).all()
    assert own[:, 8].square().mean() < 0.2
    torch.testing.assert_close(space().components @ space().components.T, torch.eye(8, dtype=torch.float64))


@pytest.mark.parametrize("change", ["turned", "smaller", "another unit"])
def test_pose_size_and_camera_hardly_move_a_head(change: str) -> None:
    yaw, fov = math.radians(6) * (change == "turned"), 13.5 if change == "smaller" else 12.0
    depth, mask = heads(8, first=100, yaw=yaw, fov=fov)
    unit = 7.0 if change == "another unit" else 1.0
    moved = (space().project(unit * depth, mask, camera(fov)) - real()[:8]).norm(dim=1)
    assert moved.mean() < 0.4 * torch.pdist(real()[:8]).mean()


def test_each_failure_of_a_generator_shows() -> None:
    same = shape_figures(real(), space().project(*heads(30, first=200), camera()))
    narrow = shape_figures(real(), space().project(*heads(30, first=200, spread=0.2), camera()))
    depth, mask = heads(30, first=200)
    flatter = shape_figures(real(), space().project(0.7 * depth + 0.3 * depth[mask > 0].mean(), mask, camera()))
    rough = depth + 0.004 * torch.randn(depth.shape, generator=torch.Generator().manual_seed(0))
    noisy = shape_figures(real(), space().project(rough, mask, camera()))
    assert same.spread == pytest.approx(1, abs=0.25)
    assert narrow.spread < 0.6
    for bad in (narrow, flatter, noisy):
        assert bad.distance > 2 * same.distance
        assert bad.coverage < same.coverage


def test_holes_are_filled_and_a_head_without_depth_is_nan() -> None:
    depth, mask = (x.clone() for x in heads(3, first=100))
    depth[0, 0, 20:22, 15:17] = math.nan
    mask[1, 0, 24:26, 15:17] = 0
    mask[2] = 0
    found = space().project(depth, mask, camera())
    assert (found[:2] - real()[:2]).norm(dim=1).max() < 0.4 * torch.pdist(real()[:8]).mean()
    assert found[2].isnan().all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"depth must be \(N, 1, 40, 40\), got \(1, 1, 8, 8\)"):
        space().project(torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 8), camera())
    with pytest.raises(ValueError, match="30 components need more than 8 heads"):
        ShapeSpace.fit(*heads(8), space().mean, space().region, camera())
