"""Pose, shape, R2, albedo and relighting: the checks of the instrument on rendered heads, and closed cases."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.geometry import Camera, Light, continued, depth_to_normal, depth_to_points
from zoo.heads.dataset import render_heads
from zoo.heads.model import HeadModel
from zoo.heads.sampling import sample_heads
from zoo.metrics import erode
from zoo.metrics.shape import (
    ShapeErrors,
    albedo_error,
    errors_by_pixel,
    errors_by_surface,
    match_albedo,
    person_r2,
    relighting_error,
)

Errors = Callable[[dict[str, Tensor], dict[str, Tensor]], ShapeErrors]
SIZE, CAMERA = 48, Camera.orbit(size=48)


@cache
def heads(shift: int = 0, spread: float = 1.0, yaw: float = 0.0, n: int = 6) -> dict[str, Tensor]:
    """Heads `shift` to `shift + n`, their shapes `spread` times as far from the mean; all turned to one side."""
    people = sample_heads(np.arange(n) + shift, 0, "val", HeadModel.load())
    people = people._replace(shape=spread * people.shape)
    poses = np.stack([np.zeros(n), np.linspace(-0.3, 0.3, n) + yaw], 1)
    maps = render_heads(people, poses, np.zeros((n, 4)), SIZE)._asdict()
    return {name: torch.from_numpy(value) for name, value in maps.items()}


def surfaces(maps: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return depth_to_points(maps["depth"], CAMERA), depth_to_normal(maps["depth"], CAMERA), erode(maps["mask"])


def by_surface(prediction: dict[str, Tensor], truth: dict[str, Tensor]) -> ShapeErrors:
    return errors_by_surface(*surfaces(prediction), *surfaces(truth))[0]


def by_pixel(prediction: dict[str, Tensor], truth: dict[str, Tensor]) -> ShapeErrors:
    (*found, valid), (*true, mask) = surfaces(prediction), surfaces(truth)
    return errors_by_pixel(*found, *true, mask & valid)[0]


@pytest.mark.parametrize("errors", [by_pixel, by_surface])
def test_the_truth_has_no_error_whatever_its_scale(errors: Errors) -> None:
    truth = errors({**heads(), "depth": 1.7 * heads()["depth"]}, heads())
    assert max(truth.pose.max(), truth.normals.max()) < 1e-3  # degrees
    assert truth.shape.max() < 1e-6
    assert person_r2(truth.shape, errors(heads(spread=0.0), heads()).shape) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("errors", [by_pixel, by_surface])
def test_knowing_the_person_is_told_from_knowing_the_pose(errors: Errors) -> None:
    mean = errors(heads(spread=0.0), heads()).shape
    assert person_r2(mean, mean) == 0
    assert person_r2(errors(heads(spread=0.6), heads()).shape, mean) > 0.5
    assert person_r2(errors(heads(shift=50), heads()).shape, mean) < 0


def test_noise_of_pose_shows_in_pose_and_hardly_in_shape() -> None:
    turned, other = by_surface(heads(yaw=math.radians(5)), heads()), by_surface(heads(shift=50), heads())
    assert (turned.pose - 5).abs().max() < 0.5
    assert turned.shape.mean() < 0.7 * other.shape.mean()  # what the turn hides is missing
    points, normals, mask = surfaces(heads())
    for _ in range(4):
        mask = erode(mask)
    seen = errors_by_surface(*surfaces(heads(yaw=math.radians(5))), points, normals, mask)[0]
    assert seen.shape.mean() < 0.15 * other.shape.mean()
    blind = by_pixel(heads(yaw=math.radians(5)), heads())  # why surfaces are registered at all
    assert blind.pose.mean() < 2
    assert blind.shape.mean() > 1.5 * turned.shape.mean()


@pytest.mark.parametrize("angle", [-10, 10])
def test_places_are_found_from_far_away(angle: int) -> None:
    errors = by_surface(heads(yaw=math.radians(angle)), heads())
    assert errors.pose.tolist() == pytest.approx([abs(angle)] * 6, abs=1.2)


def test_a_mean_head_gains_nothing_by_turning_away_or_by_showing_less() -> None:
    mean = heads(spread=0.0)
    ahead = by_surface(mean, heads()).shape
    for angle in (-8, -4, 4, 8):
        assert person_r2(by_surface(heads(spread=0.0, yaw=math.radians(angle)), heads()).shape, ahead) < 0.02
    less = {**mean, "mask": erode(erode(mean["mask"])).to(mean["mask"])}
    assert person_r2(by_surface(less, heads()).shape, ahead) < -1


def test_distances_are_those_of_the_nearest_of_all_points() -> None:
    """A slow twin: every point of a surface five times as fine."""
    points, normals, mask = surfaces(heads(shift=50))
    true, true_normals, true_mask = surfaces(heads())
    errors, found = errors_by_surface(points, normals, mask, true, true_normals, true_mask)
    fine = F.interpolate(found.similarity.apply(points), size=5 * (SIZE - 1) + 1, mode="bilinear", align_corners=True)
    inside = F.interpolate(mask.double(), size=5 * (SIZE - 1) + 1, mode="bilinear", align_corners=True) > 0.999
    for b in range(6):
        surface, wanted = fine[b][:, inside[b, 0]].T, true[b][:, true_mask[b, 0] > 0].T.double()
        slow = torch.cdist(wanted, surface).amin(1).square().mean().sqrt()
        assert errors.shape[b].item() == pytest.approx(slow.item(), rel=0.06)


def test_no_surface_runs_away() -> None:
    """Leaning surfaces had been turned and shrunk until they lay across the head."""
    whole = continued(heads()["depth"], heads()["mask"] > 0.5) + 0.3 * torch.linspace(-0.1, 0.1, SIZE)
    points, normals, _ = surfaces({"depth": whole, "mask": torch.ones_like(whole)})
    true, true_normals, mask = surfaces(heads())
    blind = errors_by_pixel(points, normals, true, true_normals, mask)[0]
    errors, found = errors_by_surface(points, normals, torch.ones_like(mask), true, true_normals, mask)
    assert (errors.shape < blind.shape).all()
    assert (found.similarity.scale - 1).abs().max() < 0.2


def test_surfaces_without_shape_are_far_from_any_face() -> None:
    flat, hollow = (
        {**heads(), "depth": depth} for depth in (torch.ones_like(heads()["depth"]), 1.95 - heads()["depth"])
    )
    other = by_surface(heads(shift=50), heads()).shape.mean()
    for bad in (flat, hollow):
        errors = by_surface(bad, heads())
        assert errors.shape.mean() > 1.5 * other


@pytest.mark.parametrize("by", ["pixel", "surface"])
def test_a_turned_surface_has_the_pose_and_no_error_of_shape(by: str) -> None:
    points, normals, mask = surfaces(heads())
    turn = Camera.orbit(math.radians(7)).cam2world[0, :3, :3]
    moved, turned = (torch.einsum("ij,bjhw->bihw", turn, x) for x in (points, normals))
    if by == "pixel":
        found = errors_by_pixel(moved, turned, points, normals, mask)[0]
    else:
        found = errors_by_surface(moved, turned, mask, points, normals, mask)[0]
    assert found.pose.tolist() == pytest.approx([7] * 6, abs=1e-3)
    assert max(found.shape.max(), found.normals.max()) < 1e-3


def test_shape_is_the_root_mean_square_of_what_is_left() -> None:
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 8, dtype=torch.float64)] * 2, indexing="ij")
    bumps = 0.01 * torch.tensor([[1.0, -1], [-1, 1]]).repeat(4, 4).double()
    flat, bumpy = (torch.stack([x, y, z])[None] for z in (0 * x, bumps))
    up = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand_as(flat)
    assert errors_by_pixel(flat, up, bumpy, up, torch.ones(1, 1, 8, 8))[0].shape.item() == pytest.approx(0.01, rel=1e-2)


@pytest.mark.parametrize("by", ["pixel", "surface"])
def test_an_image_without_an_answer_is_nan_alone(by: str) -> None:
    points, normals, mask = surfaces(heads())
    empty = mask.clone()
    empty[2] = False
    if by == "pixel":
        errors = errors_by_pixel(points, normals, points, normals, empty)[0]
    else:
        errors = errors_by_surface(points, normals, empty, points, normals, mask)[0]
    for part in errors[:3]:
        assert part.isnan().tolist() == [False, False, True, False, False, False]


def test_r2_can_be_drawn_again() -> None:
    draws = torch.tensor([[0, 0, 1], [1, 2, 2]])
    shape, mean = torch.tensor([1.0, 2, 3]), torch.tensor([4.0, 4, 6])
    assert person_r2(shape[draws], mean[draws]).tolist() == pytest.approx([1 - 6 / 48, 1 - 22 / 88])


def test_albedo_is_free_of_one_factor_per_channel_and_nothing_else() -> None:
    draw = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 5, 5, generator=draw)
    mask = torch.rand(2, 1, 5, 5, generator=draw) < 0.7
    tinted = torch.where(mask, target * torch.tensor([0.2, 1.0, 3.0]).view(1, 3, 1, 1), 9.0)
    assert albedo_error(tinted, target, mask).abs().max() < 1e-6
    grey = target.mean(1, keepdim=True).expand_as(target)
    for b in range(2):  # a twin: least squares, channel by channel
        left = 0.0
        for c in range(3):
            a, t = (x[b, c][mask[b, 0]].double() for x in (grey, target))
            factor = torch.linalg.lstsq(a[:, None], t[:, None]).solution.item()
            left += (factor * a - t).square().sum().item()
        expected = math.sqrt(left / (3 * int(mask[b].sum())))
        assert albedo_error(grey, target, mask)[b].item() == pytest.approx(expected)
    assert (match_albedo(torch.zeros_like(target), target, mask) == 0).all()
    assert albedo_error(grey, target, torch.zeros_like(mask)).isnan().all()


def test_relit_truth_is_what_the_heads_themselves_look_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.heads.render.FINE", 999)  # the smoothed mesh takes seconds
    lights = Light(torch.tensor([[0.2, 0.4, 0.9, -0.3], [-0.5, 0.9, -1, 0.2], [0.0, 0.0, 0.0, 1.0]]))
    people = sample_heads(np.arange(2), 0, "val", HeadModel.load())
    frontal = np.zeros((2, 2))
    maps = [
        render_heads(people, frontal, light.params.repeat(2, 1).numpy(), 130) for light in lights
    ]  # 1 sample a pixel
    albedo, normal, mask = (torch.from_numpy(getattr(maps[0], name)) for name in ("albedo", "normal", "mask"))
    assert relighting_error(albedo, normal, albedo, normal, mask, lights).abs().max() < 1e-6

    facing = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand_as(normal)
    got = relighting_error(albedo, facing, albedo, normal, mask, lights)
    total = torch.zeros(2, dtype=torch.float64)
    for light, shown in zip(lights, maps, strict=True):  # the dataset's own pictures are the truth
        flat = (albedo * (light.ambient + light.diffuse * light.direction[0, 2])).clamp_max(1)
        total += (((torch.from_numpy(shown.image) + 1) / 2 - flat).double().square() * mask).sum((1, 2, 3))
    torch.testing.assert_close(got, (total / (9 * mask.sum((1, 2, 3)))).sqrt(), atol=2e-4, rtol=0)
    assert relighting_error(albedo, facing * math.nan, albedo, normal, mask, lights).isnan().all()
