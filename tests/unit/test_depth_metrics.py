"""SIDE and MAD: slow twins, properties, shapes known in closed form, and what they refuse."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zoo.geometry import Camera, depth_to_normal
from zoo.metrics import MAD, SIDE, angle_per_image, erode, evaluation_mask, side_per_image


def depths(n: int = 3, size: int = 12, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    prediction = 0.9 + 0.2 * torch.rand(n, 1, size, size, generator=draw)
    target = 0.9 + 0.2 * torch.rand(n, 1, size, size, generator=draw)
    mask = torch.rand(n, 1, size, size, generator=draw) < 0.6
    return prediction, target, mask


def normals(n: int = 3, size: int = 12, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, 3, size, size, generator=draw), dim=1)


def slow_side(prediction: Tensor, target: Tensor, mask: Tensor) -> float:
    inside = mask.flatten().tolist()
    pairs = zip(prediction.flatten().tolist(), target.flatten().tolist(), inside, strict=True)
    logs = [math.log(p) - math.log(t) for p, t, m in pairs if m]
    mean = sum(logs) / len(logs)
    return math.sqrt(sum((e - mean) ** 2 for e in logs) / len(logs))


def slow_angle(a: Tensor, b: Tensor, mask: Tensor) -> float:
    angles = []
    for row, column in mask[0].nonzero().tolist():
        u, v = a[:, row, column].tolist(), b[:, row, column].tolist()
        angles.append(math.degrees(math.acos(max(-1.0, min(1.0, sum(x * y for x, y in zip(u, v, strict=True)))))))
    return sum(angles) / len(angles)


def test_side_equals_its_slow_twin() -> None:
    prediction, target, mask = depths()
    expected = [slow_side(*maps) for maps in zip(prediction, target, mask, strict=True)]
    assert side_per_image(prediction, target, mask).tolist() == pytest.approx(expected, abs=1e-12)


def test_mad_equals_its_slow_twin() -> None:
    a, b, mask = normals(seed=1), normals(seed=2), depths()[2]
    expected = [slow_angle(*maps) for maps in zip(a, b, mask, strict=True)]
    assert angle_per_image(a, b, mask).tolist() == pytest.approx(expected, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 10_000))
def test_side_does_not_feel_a_common_scale(scale: float, seed: int) -> None:
    prediction, target, mask = depths(seed=seed)
    same = side_per_image(prediction.double() * scale, target, mask)
    assert torch.allclose(same, side_per_image(prediction, target, mask), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(shift=st.floats(0.2, 5.0), seed=st.integers(0, 10_000))
def test_side_feels_a_shift_and_is_symmetric(shift: float, seed: int) -> None:
    prediction, _, mask = depths(seed=seed)
    moved = prediction + shift
    assert (side_per_image(moved, prediction, mask) > 1e-3).all()
    assert torch.allclose(side_per_image(moved, prediction, mask), side_per_image(prediction, moved, mask))


def test_both_are_exactly_zero_for_equal_maps() -> None:
    prediction, _, mask = depths()
    assert side_per_image(prediction, prediction, mask).tolist() == [0, 0, 0]
    assert angle_per_image(normals(), normals(), mask).tolist() == [0, 0, 0]


def test_what_lies_outside_the_mask_does_not_matter() -> None:
    prediction, target, mask = depths()
    broken = torch.where(mask, prediction, torch.nan)
    assert torch.equal(side_per_image(broken, target, mask), side_per_image(prediction, target, mask))
    zero = torch.where(mask, target, 0.0)
    assert torch.equal(side_per_image(prediction, zero, mask), side_per_image(prediction, target, mask))


def test_side_of_two_planes_in_closed_form() -> None:
    # Depth e^x against depth 1 with x evenly spaced: SIDE is the standard deviation of x.
    x = torch.linspace(-0.1, 0.1, 33).expand(1, 1, 33, 33)
    expected = x.double().std(correction=0)
    got = side_per_image(x.exp(), torch.ones_like(x), torch.ones_like(x))
    assert got.item() == pytest.approx(expected.item(), abs=1e-7)


@pytest.mark.parametrize("degrees", [0.0, 0.5, 10.0, 60.0])
def test_mad_of_a_tilted_plane_is_its_tilt(degrees: float) -> None:
    camera = Camera.orbit(fov=10.0, size=32)
    grid = camera.pixel_grid().double().T.reshape(1, 3, 32, 32)
    # Plane through (0,0,-1) with unit normal (sin, 0, cos): depth t along each ray where the plane is met.
    tilt = math.radians(degrees)
    ray = grid / -grid[:, 2:]
    depth = (math.cos(tilt) / -(math.sin(tilt) * ray[:, :1] + math.cos(tilt) * ray[:, 2:])).float()
    mask = evaluation_mask(torch.ones(1, 1, 32, 32))
    flat = depth_to_normal(torch.ones_like(depth), camera)
    got = angle_per_image(depth_to_normal(depth, camera), flat, mask).item()
    assert got == pytest.approx(degrees, abs=0.02)


def test_normals_of_a_sphere_agree_with_its_formula() -> None:
    camera, radius = Camera.orbit(fov=10.0, size=128), 0.06
    ray = camera.pixel_grid().double().T.reshape(1, 3, 128, 128)
    along = -ray[:, 2:]  # the centre of the sphere is at (0,0,-1)
    discriminant = along.square() - 1 + radius**2
    # Near the silhouette one pixel spans a large angle; compare where the surface turns by less than 45 degrees.
    distance = along - discriminant.clamp_min(0).sqrt()
    point = ray * distance
    true = (point - torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64).view(1, 3, 1, 1)) / radius
    mask = (discriminant > 0) & (true[:, 2:] > math.cos(math.pi / 4))
    got = depth_to_normal((distance * along).float(), camera)
    assert angle_per_image(got, true.float(), mask.float()).item() < 0.3


def test_erosion_drops_the_border_of_mask_and_image() -> None:
    mask = torch.ones(1, 1, 5, 5)
    assert erode(mask).sum() == 9
    mask[..., 2, 2] = 0
    assert erode(mask).sum() == 0
    hole = torch.ones(1, 1, 7, 7)
    hole[..., 3, 3] = 0
    both = evaluation_mask(torch.ones(1, 1, 7, 7), hole)
    assert both.sum() == 25 - 9


def test_empty_masks_are_refused_or_counted() -> None:
    prediction, target, mask = depths()
    mask[1] = False
    with pytest.raises(ValueError, match=r"empty mask for image\(s\) \[1\]"):
        SIDE().update(prediction, target, mask)
    side, mad = SIDE(on_empty="skip"), MAD(on_empty="skip")
    side.update(prediction, target, mask)
    mad.update(normals(), normals(seed=1), mask)
    for metric in (side, mad):
        assert (int(metric.count), int(metric.skipped)) == (2, 1)
        assert metric.compute().isfinite()
    expected = side_per_image(prediction, target, mask)[[0, 2]]
    assert side.compute() == expected.mean()
    assert side.spread() == pytest.approx(expected.std(correction=0).item(), abs=1e-9)


def test_nothing_valid_is_an_error_not_a_nan() -> None:
    side = SIDE(on_empty="skip")
    prediction, target, mask = depths()
    side.update(prediction, target, torch.zeros_like(mask))
    with pytest.raises(ValueError, match="skipped for an empty mask: 3"):
        side.compute()


@pytest.mark.parametrize("value", [0.0, -1.0, torch.nan, torch.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_impossible_depth_is_refused(value: float, which: int) -> None:
    maps = [*depths()]
    maps[2] = torch.ones_like(maps[2])
    maps[which][0, 0, 3, 3] = value
    with pytest.raises(ValueError, match="prediction" if which == 0 else "target"):
        side_per_image(*maps)


def test_wrong_shapes_and_masks_are_refused() -> None:
    prediction, target, mask = depths()
    with pytest.raises(ValueError, match=r"mask must be \(B,1,H,W\)"):
        side_per_image(prediction, target, mask[:, 0])
    with pytest.raises(ValueError, match="target must be"):
        side_per_image(prediction, target[:1], mask)
    with pytest.raises(ValueError, match="only 0 and 1"):
        side_per_image(prediction, target, mask.float() * 0.7)
    with pytest.raises(ValueError, match="prediction must be"):
        angle_per_image(prediction, normals(), mask)
    with pytest.raises(ValueError, match="length 1"):
        angle_per_image(normals() * 2, normals(), mask)
    with pytest.raises(ValueError, match="differ in shape"):
        evaluation_mask(mask, mask[:1])
    with pytest.raises(ValueError, match="on_empty"):
        SIDE(on_empty="ignore")  # type: ignore[arg-type]


def test_parts_add_up_as_in_distributed_runs() -> None:
    prediction, target, mask = depths(n=5)
    whole, first, second = SIDE(), SIDE(), SIDE()
    whole.update(prediction, target, mask)
    first.update(prediction[:1], target[:1], mask[:1])
    second.update(prediction[1:], target[1:], mask[1:])
    for name, reduction in first._reductions.items():
        parts = torch.stack([getattr(first, name), getattr(second, name)])
        setattr(first, name, reduction(parts))
    assert first.compute().item() == pytest.approx(whole.compute().item(), abs=1e-12)
    assert first.count == whole.count == 5
