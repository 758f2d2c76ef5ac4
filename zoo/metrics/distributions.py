"""How near a set of samples comes to a set of real things, in any space of features.

All figures take features (N, D), one row for each picture or shape, run in float64 and are exact: nothing is sampled or
approximated. They depend on N and M, so only figures with the same numbers compare.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_ROWS = 1024  # rows of a distance or kernel matrix at a time


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Squared Fréchet distance between the Gaussians of two sets (Dowson and Landau 1982; as FID, Heusel et al. 2017).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2). Each covariance is C = F^T F, where F is a triangular factor
    of the centred features. The last trace is then the sum of the singular values of F1 F2^T, so no root of a nearly
    singular matrix is taken, and sets smaller than D are no special case.

    Args:
        real: (N, D) features, at least two rows.
        fake: (M, D) features, at least two rows.

    Returns:
        The distance, 0 or more, in the squared unit of the features. The smaller the sets, the larger it is.

    Raises:
        ValueError: Shapes disagree, a set is too small, or a value is not finite.
    """
    a, b = _checked(real, fake, 2, 2)
    f, g = (torch.linalg.qr(x - x.mean(0), mode="r").R / (len(x) - 1) ** 0.5 for x in (a, b))
    spread = f.square().sum() + g.square().sum() - 2 * torch.linalg.svdvals(f @ g.T).sum()
    return float(((a.mean(0) - b.mean(0)).square().sum() + spread).clamp_min(0))


class KID(NamedTuple):
    """The kernel distance, 0 on average for equal distributions and so sometimes negative, and its standard error."""

    value: float
    error: float


def kernel_distance(real: Tensor, fake: Tensor, blocks: int = 10) -> KID:
    """KID, the squared maximum mean discrepancy under the kernel (x.y / D + 1)^3 (Bińkowski et al. 2018).

    The estimate is unbiased, so it does not fall when sets grow. It takes all pairs. Its standard error is that of the
    mean over disjoint blocks, with row i in block i mod `blocks`.

    Args:
        real: (N, D) features.
        fake: (M, D) features.
        blocks: Number of blocks, 2 or more; each set needs two rows for each.

    Raises:
        ValueError: Shapes disagree, a set is too small, or a value is not finite.
    """
    if blocks < 2:
        raise ValueError(f"blocks must be 2 or more to give an error, got {blocks}")
    a, b = _checked(real, fake, 2 * blocks, 2 * blocks)
    parts = torch.tensor([_mmd(a[i::blocks], b[i::blocks]) for i in range(blocks)], dtype=torch.float64)
    return KID(_mmd(a, b), float(parts.std() / blocks**0.5))


def squared_mmd(real: Tensor, fake: Tensor) -> float:
    """The value of `kernel_distance` alone, which has no error but takes sets of 2 rows or more.

    Args:
        real: (N, D) features.
        fake: (M, D) features.

    Raises:
        ValueError: Shapes disagree, a set is too small, or a value is not finite.
    """
    return _mmd(*_checked(real, fake, 2, 2))


class PrecisionRecall(NamedTuple):
    """Shares of samples that look real, and of real things that the samples reach, both 0..1."""

    precision: float
    recall: float


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019, eq. 1 and 2).

    A sample counts as real if it lies in a ball around any real point that reaches to its k-th neighbour; recall has
    the two sets swapped. Balls are closed.

    Args:
        real: (N, D) features, more than k rows.
        fake: (M, D) features, more than k rows.
        k: Which neighbour of a point its ball reaches to; the paper takes 3.

    Raises:
        ValueError: Shapes disagree, a set is too small, or a value is not finite.
    """
    a, b = _centred(*_checked(real, fake, k + 1, k + 1))

    def share(points: Tensor, centres: Tensor) -> float:
        reach = _reach(centres, k)
        return float(torch.cat([(d <= reach).any(1) for d in _distances(points, centres)]).double().mean())

    return PrecisionRecall(share(b, a), share(a, b))


class DensityCoverage(NamedTuple):
    """Density, 0 or more and 1 on average for equal distributions, and coverage, 0..1."""

    density: float
    coverage: float


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020), which outliers move less than precision and recall.

    Density is the mean number of real balls that a sample lies in, over k. Coverage is the share of real balls with a
    sample in them. A ball reaches from a real point to its k-th real neighbour and is closed. For equal distributions
    and N = M, coverage is about 1 - 2^-k.

    Args:
        real: (N, D) features, more than k rows.
        fake: (M, D) features.
        k: Which neighbour of a point its ball reaches to; the paper takes 5.

    Raises:
        ValueError: Shapes disagree, a set is too small, or a value is not finite.
    """
    a, b = _centred(*_checked(real, fake, k + 1, 1))
    reach = _reach(a, k)
    hits, covered = 0, torch.zeros(len(a), dtype=torch.bool, device=a.device)
    for d in _distances(b, a):
        within = d <= reach
        hits, covered = hits + int(within.sum()), covered | within.any(0)
    return DensityCoverage(hits / (k * len(b)), float(covered.double().mean()))


def _mmd(a: Tensor, b: Tensor) -> float:
    def total(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([(rows @ y.T / x.shape[1] + 1).pow(3).sum() for rows in x.split(_ROWS)]).sum()

    def pairs(x: Tensor) -> Tensor:  # mean over pairs of different rows
        return (total(x, x) - (x.square().sum(1) / x.shape[1] + 1).pow(3).sum()) / (len(x) * (len(x) - 1))

    return float(pairs(a) + pairs(b) - 2 * total(a, b) / (len(a) * len(b)))


def _centred(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets moved to where squared distances lose the fewest digits."""
    return a - a.mean(0), b - a.mean(0)


def _distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Squared distances from the rows of x to those of y, some rows of x at a time."""
    length = y.square().sum(1)
    for rows in x.split(_ROWS):
        yield (rows.square().sum(1, keepdim=True) + length - 2 * rows @ y.T).clamp_min(0)


def _reach(x: Tensor, k: int) -> Tensor:
    """Squared distance (N,) of each row to its k-th neighbour among the others."""
    found = []
    for i, distance in enumerate(_distances(x, x)):
        own = torch.arange(len(distance), device=x.device)
        distance[own, own + i * _ROWS] = torch.inf  # a point is no neighbour of its own
        found.append(distance.kthvalue(k, 1).values)
    return torch.cat(found)


def _checked(real: Tensor, fake: Tensor, least_real: int, least_fake: int) -> tuple[Tensor, Tensor]:
    """Both sets in float64."""
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"features must be (N, D) and (M, D), got {tuple(real.shape)} and {tuple(fake.shape)}")
    for name, x, least in (("real", real, least_real), ("fake", fake, least_fake)):
        if len(x) < least:
            raise ValueError(f"{len(x)} {name} features are too few: give at least {least}")
        if not x.isfinite().all():
            broken = int((~x.isfinite()).any(1).sum())
            raise ValueError(f"{broken} of {len(x)} {name} features are not finite: leave them out, and say so")
    return real.double(), fake.double()
