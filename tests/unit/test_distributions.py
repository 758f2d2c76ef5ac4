"""Distances between sets: known Gaussians, points made by hand, and twins by brute force."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from zoo.metrics import distributions
from zoo.metrics.distributions import density_coverage, frechet_distance, kernel_distance, precision_recall


def draws(n: int, size: int, seed: int) -> Tensor:
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def exactly(n: int, mean: list[float], spread: list[float], seed: int = 0) -> Tensor:
    """Samples whose mean and (diagonal) covariance are exactly those that are asked for."""
    x = draws(n, len(mean), seed)
    x = x - x.mean(0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / (n - 1)).T)
    return white * torch.tensor(spread) + torch.tensor(mean)


def test_frechet_distance_of_known_gaussians() -> None:
    a, b = exactly(50, [0, 0, 0], [1, 2, 3]), exactly(70, [1, 0, -2], [2, 2, 1], seed=1)
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + (1 - 2) ** 2 + (3 - 1) ** 2)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)
    collapsed = torch.zeros(10, 3)
    assert frechet_distance(a, collapsed) == pytest.approx(1 + 4 + 9)  # all that the data have, and the samples do not


@pytest.mark.parametrize(("n", "m", "size"), [(60, 40, 5), (6, 40, 12), (5, 7, 30)])
def test_frechet_distance_is_that_of_the_matrix_root(n: int, m: int, size: int) -> None:
    mix = draws(size, size, 3)
    a, b = draws(n, size, 1) @ mix, draws(m, size, 2) + 0.3
    first, second = np.cov(a.numpy().T), np.cov(b.numpy().T)
    root = sqrtm(sqrtm(first + 1e-13 * np.eye(size)) @ second @ sqrtm(first + 1e-13 * np.eye(size)))
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(first + second - 2 * np.real(root))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)


def test_kid_equals_the_sum_over_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = draws(8, 3, 0), draws(6, 3, 1) + 0.5
    k = [[(float(x @ y) / 3 + 1) ** 3 for y in torch.cat([a, b])] for x in torch.cat([a, b])]
    same = sum(k[i][j] for i in range(8) for j in range(8) if i != j) / 56
    same += sum(k[i][j] for i in range(8, 14) for j in range(8, 14) if i != j) / 30
    expected = same - 2 * sum(k[i][j] for i in range(8) for j in range(8, 14)) / 48
    assert kernel_distance(a, b, blocks=2).value == pytest.approx(expected)
    monkeypatch.setattr(distributions, "_ROWS", 3)
    assert kernel_distance(a, b, blocks=2).value == pytest.approx(expected)


def test_kid_is_unbiased_and_its_error_is_the_spread_over_draws() -> None:
    found = [kernel_distance(draws(40, 4, 2 * i), draws(40, 4, 2 * i + 1) + 0.5) for i in range(40)]
    same = [kernel_distance(draws(20, 4, 2 * i), draws(20, 4, 2 * i + 1), 2).value for i in range(200)]
    assert abs(sum(same)) / 200 < 3 * np.std(same) / math.sqrt(200)
    assert min(same) < 0
    values, errors = zip(*found, strict=True)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.4)


def test_precision_and_recall_of_points_made_by_hand() -> None:
    real, fake = column(0, 1, 2, 10), column(0.4, 3, 3.5, 30)
    # To their first neighbours, balls of the real points reach 1, 1, 1 and 8; of the fake ones 2.6, 0.5, 0.5, 26.5.
    assert precision_recall(real, fake, k=1) == (0.75, 1.0)
    assert precision_recall(real, real, k=1) == (1, 1)
    assert precision_recall(real, real + 1000, k=1) == (0, 0)


def test_density_and_coverage_of_points_made_by_hand() -> None:
    real, fake = column(0, 1, 2, 10), column(0.5, 0.6, 2.5)
    # 0.5 and 0.6 lie in the balls of 0 and 1; 2.5 in those of 2 and 10, whose ball begins at 2.
    assert density_coverage(real, fake, k=1) == (pytest.approx((2 + 2 + 2) / 3), 1.0)
    assert density_coverage(real, column(0.5), k=1) == (2, 0.5)


def test_neighbours_equal_brute_force_in_any_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = draws(23, 4, 0), 0.8 * draws(17, 4, 1) + 0.3

    def reach(x: Tensor) -> list[float]:
        return [sorted(float((p - q).norm()) for j, q in enumerate(x) if j != i)[2] for i, p in enumerate(x)]

    def within(points: Tensor, centres: Tensor) -> list[list[bool]]:
        return [[float((p - c).norm()) <= r for c, r in zip(centres, reach(centres), strict=True)] for p in points]

    hits = within(b, a)
    precision, recall = (sum(map(any, rows)) / len(rows) for rows in (hits, within(a, b)))
    coverage = sum(map(any, zip(*hits, strict=True))) / 23
    for rows in (1024, 5):
        monkeypatch.setattr(distributions, "_ROWS", rows)
        assert precision_recall(a, b, k=3) == pytest.approx((precision, recall))
        assert density_coverage(a, b, k=3) == pytest.approx((sum(map(sum, hits)) / (3 * 17), coverage))


def test_a_collapsed_and_a_shifted_set_both_show() -> None:
    real, same = draws(200, 6, 0), draws(200, 6, 1)
    collapsed, shifted = same[:1] * 0.1 + 0.01 * same, same + 2
    good = density_coverage(real, same)
    assert good.density == pytest.approx(1, abs=0.15)
    assert good.coverage == pytest.approx(1 - 2**-5, abs=0.05)
    for bad in (collapsed, shifted):
        assert density_coverage(real, bad).coverage < 0.5
        assert frechet_distance(real, bad) > 10 * frechet_distance(real, same)
        assert kernel_distance(real, bad).value > 10 * abs(kernel_distance(real, same).value)
    assert precision_recall(real, collapsed).recall < 0.1 < 0.9 < precision_recall(real, collapsed).precision


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match=r"features must be \(N, D\) and \(M, D\), got \(5, 3\) and \(5, 2\)"):
        frechet_distance(draws(5, 3, 0), draws(5, 2, 0))
    with pytest.raises(ValueError, match="1 of 5 fake features are not finite: leave them out, and say so"):
        density_coverage(draws(9, 3, 0), draws(5, 3, 0).index_fill(0, torch.tensor([2]), math.nan))
    with pytest.raises(ValueError, match="3 real features are too few: give at least 4"):
        precision_recall(draws(3, 3, 0), draws(9, 3, 0))
    with pytest.raises(ValueError, match="blocks must be 2 or more"):
        kernel_distance(draws(9, 3, 0), draws(9, 3, 0), blocks=1)
