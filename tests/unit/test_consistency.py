"""Two views of one head agree; another person, a turned depth map and other colours do not."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.geometry import Camera, depth_to_normal
from zoo.heads.dataset import render_heads
from zoo.heads.model import HeadModel
from zoo.heads.sampling import sample_heads
from zoo.metrics.consistency import own_normals, view_differences

SIZE, YAW = 64, 0.25
Maps = tuple[Tensor, Tensor, Tensor]


def camera(yaw: float) -> Camera:
    return Camera.orbit(yaw, size=SIZE)


@cache
def views(yaw: float, first: int = 0) -> Maps:
    people = sample_heads(np.arange(3) + first, 0, "val", HeadModel.load())
    flat = np.tile([0.8, -1.0, 0, 0], (3, 1))  # ambient light alone
    maps = render_heads(people, np.tile([0.0, yaw], (3, 1)), flat, SIZE)
    return 2 * 0.9 * torch.from_numpy(maps.albedo) - 1, torch.from_numpy(maps.depth), torch.from_numpy(maps.mask)


def sphere(yaw: float) -> Maps:
    """A ball of radius 0.08 around the origin, coloured by its world coordinates, in closed form."""
    origins, directions, cosine = camera(yaw).rays()
    along = -(origins * directions).sum(-1)
    inside = along.square() - origins.square().sum(-1) + 0.08**2
    distance = along - inside.clamp_min(0).sqrt()
    points = origins + distance[..., None] * directions
    maps = points.mT / 0.08, (distance * cosine)[:, None], (inside > 0)[:, None].float()
    return tuple(x.view(1, -1, SIZE, SIZE) for x in maps)  # type: ignore[return-value]


def test_views_of_a_ball_agree() -> None:
    found = view_differences(sphere(0.0), camera(0.0), sphere(YAW), camera(YAW))
    assert found.colour.item() < 5e-3
    assert found.depth.item() < 2e-4
    assert found.compared.item() > 0.8
    same = view_differences(sphere(0.0), camera(0.0), sphere(0.0), camera(0.0))
    assert max(same.colour.item(), same.depth.item()) < 1e-6


def test_views_of_a_head_agree_and_those_of_two_heads_do_not() -> None:
    good = view_differences(views(0.0), camera(0.0), views(YAW), camera(YAW))
    other = view_differences(views(0.0), camera(0.0), views(YAW, first=40), camera(YAW))
    assert good.colour.max() < 0.02
    assert good.depth.max() < 1e-3
    assert other.colour.mean() > 3 * good.colour.mean()
    assert other.depth.mean() > 3 * good.depth.mean()


@pytest.mark.parametrize("wrong", ["turned", "nearer"])
def test_depth_that_does_not_turn_with_the_picture_shows(wrong: str) -> None:
    good = view_differences(views(0.0), camera(0.0), views(YAW), camera(YAW))
    rgb, depth, mask = views(YAW)
    depth = views(YAW + 0.15)[1].where(mask > 0, 0) if wrong == "turned" else 1.02 * depth
    bad = view_differences(views(0.0), camera(0.0), (rgb, torch.where(depth > 0, depth, 1.0), mask), camera(YAW))
    assert bad.depth.mean() > 4 * good.depth.mean()


def test_what_is_hidden_does_not_count_and_what_sees_through_does() -> None:
    flat = torch.ones(1, 1, SIZE, SIZE)
    grey = torch.zeros(1, 3, SIZE, SIZE)
    front, back = (grey, 0.9 * flat, flat), (grey + 1, flat, flat)
    hidden = view_differences(back, camera(0.0), front, camera(0.0))
    assert hidden.compared.item() == 0
    assert hidden.colour.isnan().all()
    through = view_differences(front, camera(0.0), back, camera(0.0))
    assert through.compared.item() == 1  # eroded
    assert through.colour.item() == pytest.approx(0.5)
    assert through.depth.item() == pytest.approx(0.1)


def test_colours_are_measured_on_a_scale_from_black_to_white() -> None:
    rgb, depth, mask = views(0.0)
    found = view_differences((rgb - 0.2, depth, mask), camera(0.0), (rgb, depth, mask), camera(0.0))
    assert found.colour.tolist() == pytest.approx([0.1] * 3, abs=1e-6)


def test_own_normals_are_those_of_the_depth() -> None:
    _rgb, depth, mask = views(0.0)
    exact = depth_to_normal(depth, camera(0.0))
    assert own_normals(3 * exact, depth, mask, camera(0.0)).max() < 1e-4
    turn = Camera.orbit(math.radians(10)).cam2world[0, :3, :3]
    turned = torch.einsum("ij,bjhw->bihw", turn, exact)
    found = own_normals(turned, depth, mask, camera(0.0))
    assert ((found > 5) & (found <= 10 + 1e-4)).all()  # normals near the axis move less
    with pytest.raises(ValueError, match="must have length 1"):
        own_normals(0 * exact, depth, mask, camera(0.0))
