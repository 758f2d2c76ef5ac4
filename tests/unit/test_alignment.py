"""Similarities between point sets: SciPy's as a twin, closed cases, and what has no answer."""

import math

import pytest
import torch
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from torch import Tensor

from zoo.metrics.alignment import align, rotation_angle


def cloud(n: int = 40, batch: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(batch, n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turn(angle: float, axis: tuple[float, float, float] = (0.0, 1.0, 0.0)) -> Tensor:
    unit = torch.tensor(axis, dtype=torch.float64) / math.dist(axis, (0, 0, 0))
    return torch.as_tensor(Rotation.from_rotvec(math.radians(angle) * unit.numpy()).as_matrix())


def test_a_known_similarity_is_found_and_its_residuals_vanish() -> None:
    points, rotation, shift = cloud(), turn(40, (1, 2, -1)), torch.tensor([0.3, -2.0, 5.0], dtype=torch.float64)
    targets = 2.5 * points @ rotation.T + shift
    found = align(points, targets, torch.ones(3, 40))
    torch.testing.assert_close(found.scale, torch.full((3,), 2.5, dtype=torch.float64))
    torch.testing.assert_close(found.rotation, rotation.expand(3, 3, 3))
    torch.testing.assert_close(found.translation, shift.expand(3, 3))
    torch.testing.assert_close(found.apply(points), targets)
    assert rotation_angle(found.rotation).tolist() == pytest.approx([40] * 3)


def test_the_rotation_of_weighted_noisy_points_is_scipys_and_nothing_near_it_is_better() -> None:
    points, targets = cloud(batch=1), cloud(batch=1) @ turn(25).T + 0.4 * cloud(batch=1, seed=1)
    weight = torch.rand(1, 40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found, w = align(points, targets, weight), weight[..., None] / weight.sum()
    p, g = points - (w * points).sum(1), targets - (w * targets).sum(1)
    twin, _ = Rotation.align_vectors(g[0].numpy(), p[0].numpy(), weight[0].numpy())
    torch.testing.assert_close(found.rotation[0], torch.as_tensor(twin.as_matrix()), atol=1e-7, rtol=0)

    def loss(x: "list[float]") -> float:
        moved = x[0] * points[0] @ torch.as_tensor(Rotation.from_rotvec(x[1:4]).as_matrix()).T + torch.as_tensor(x[4:])
        return float((weight[0, :, None] * (moved - targets[0]).square()).sum())

    start = [found.scale.item(), *Rotation.from_matrix(found.rotation[0].numpy()).as_rotvec(), *found.translation[0]]
    assert minimize(loss, [float(x) for x in start]).fun == pytest.approx(loss([float(x) for x in start]), rel=1e-9)


def test_maps_are_the_same_as_lists_and_what_is_masked_does_not_count() -> None:
    points, targets = cloud(36), cloud(36, seed=1)
    mask = torch.rand(3, 36, generator=torch.Generator().manual_seed(2)) < 0.7
    listed = align(points, targets, mask)
    points[~mask], targets[~mask] = math.nan, math.inf
    mapped = align(points.mT.reshape(3, 3, 6, 6), targets.mT.reshape(3, 3, 6, 6), mask.view(3, 1, 6, 6))
    for a, b in zip(listed, mapped, strict=True):
        torch.testing.assert_close(a, b)
    shown = mapped.apply(points.mT.reshape(3, 3, 6, 6)).flatten(2).mT
    torch.testing.assert_close(shown[mask], listed.apply(points)[mask])
    torch.testing.assert_close(mapped.turn(points)[mask], (points @ listed.rotation.mT)[mask])


def test_mirrored_points_are_not_answered_by_a_reflection() -> None:
    points = cloud()
    found = align(points, points * torch.tensor([-1.0, 1, 1]), torch.ones(3, 40))
    assert torch.linalg.det(found.rotation).tolist() == pytest.approx([1] * 3)


def test_points_in_a_plane_are_enough() -> None:
    flat = cloud() * torch.tensor([1.0, 1, 0])
    found = align(flat.float(), (flat @ turn(30).T).float(), torch.ones(3, 40))
    assert rotation_angle(found.rotation).tolist() == pytest.approx([30] * 3, abs=1e-4)


def test_rows_without_an_answer_are_nan_and_leave_the_others_alone() -> None:
    points, targets, weight = cloud(batch=6), cloud(batch=6, seed=1), torch.ones(6, 40)
    weight[1], weight[2, 2:] = 0, 0  # none, two
    points[3] = torch.linspace(0, 1, 40)[:, None] * torch.tensor([1.0, 2, 3]) + 0.1  # a line, as float32 has it
    points[4, 0, 0] = math.nan
    targets[5] = 1.0
    found = align(points, targets, weight)
    for part in found:
        broken = part.flatten(1).isnan() if part.ndim > 1 else part.isnan()[:, None]
        assert broken.all(1).tolist() == broken.any(1).tolist() == [False, True, True, True, True, True]
    assert rotation_angle(found.rotation).isnan().tolist() == [False] + [True] * 5
    torch.testing.assert_close(found.scale[:1], align(points[:1], targets[:1], weight[:1]).scale)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 5.0, 90.0, 179.999])
def test_angles_are_exact_at_both_ends(angle: float) -> None:
    assert rotation_angle(turn(angle, (1, 1, 1))[None]).item() == pytest.approx(angle, rel=1e-6, abs=1e-12)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"points, targets and weight must be .* got \(3, 40, 3\)"):
        align(cloud(), cloud(), torch.ones(3, 1, 40))
