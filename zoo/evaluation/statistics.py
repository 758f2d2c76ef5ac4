"""How sure a figure is: bootstrap over people, the same draws for every row, so that rows can be compared in pairs.

A figure is either the mean of one number for each person, or one minus the ratio of two sums, as R2 is (Efron and
Tibshirani 1993, chapters 13 and 16). People whose number is NaN are left out, and in pairs those of whom one is.

Where a figure is the mean over a few networks that were trained for it, other trainings would have given another one.
Three are too few to draw from, so a draw of Student's distribution with their spread is added to each draw of people.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

import numpy as np

LEVEL = 0.95
NO_PROBES = np.empty(0)
_DRAWS = 2000


def figure(samples: np.ndarray) -> float:
    """The mean of samples (N,), or 1 - sum a / sum b of samples (N, 2)."""
    samples = samples[_known(samples)]
    if samples.ndim == 1:
        return float(samples.mean())
    sums = samples.sum(0)
    return float(1 - sums[0] / sums[1])


def interval(samples: np.ndarray, probes: np.ndarray = NO_PROBES) -> tuple[float, float]:
    """The 95 % percentile interval of `figure` over draws of people, as (low, high); NaN for fewer than two.

    Args:
        samples: (N,) or (N, 2), see `figure`.
        probes: (P,) the figure of each network alone, where it is a mean over several.
    """
    return _quantiles(_drawn(samples[_known(samples)]) + _away(probes, 0))


def difference(
    first: np.ndarray,
    second: np.ndarray,
    first_probes: np.ndarray = NO_PROBES,
    second_probes: np.ndarray = NO_PROBES,
) -> tuple[float, float]:
    """The 95 % interval of `figure(first) - figure(second)` over draws of the same people for both.

    Networks, see `interval`, are drawn for each of the two by itself.

    Raises:
        ValueError: The two have samples of different people.
    """
    if first.shape != second.shape:
        raise ValueError(f"samples of {first.shape} and {second.shape} are not of the same people")
    both = _known(first) & _known(second)
    people = _drawn(first[both]) - _drawn(second[both])
    return _quantiles(people + _away(first_probes, 1) - _away(second_probes, 2))


def ranks(
    samples: Mapping[str, np.ndarray],
    better: Literal["lower", "higher"],
    probes: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> dict[str, tuple[int, int]]:
    """The best and the worst rank that each row may have; both are one number where its place is resolved.

    A row is before another if the interval of their difference leaves 0. Rows with samples of other people are neither
    before nor behind.

    Args:
        samples: Of each row, see `figure`.
        better: Which way is better.
        probes: Of the rows whose figure is a mean over several networks, see `interval`.
    """
    sign = -1 if better == "higher" else 1
    before = dict.fromkeys(samples, 0)
    behind = dict.fromkeys(samples, 0)
    names = list(samples)
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            if samples[name].shape != samples[other].shape:
                continue
            networks = (probes.get(row, NO_PROBES) for row in (name, other))
            low, high = difference(samples[name], samples[other], *networks)
            if sign * low > 0 and sign * high > 0:  # `name` is worse
                before[name] += 1
                behind[other] += 1
            elif sign * low < 0 and sign * high < 0:
                before[other] += 1
                behind[name] += 1
    return {name: (1 + before[name], len(names) - behind[name]) for name in names}


def _known(samples: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.isfinite(samples.reshape(len(samples), -1)).all(1)
    return out


def _drawn(samples: np.ndarray) -> np.ndarray:
    """`figure` of each draw of people with replacement; the draws depend on the number of people alone."""
    n = len(samples)
    if n < 2:
        return np.full(_DRAWS, np.nan)
    sums = _counts(n) @ samples  # the same sums as indexing, in a hundredth of the memory
    return np.asarray(sums / n if samples.ndim == 1 else 1 - sums[:, 0] / sums[:, 1])


def _away(probes: np.ndarray, stream: int) -> np.ndarray:
    """How far the mean of P networks may lie from that of all that could be trained: one number for each draw."""
    n = len(probes)
    if n < 2:
        return np.zeros(_DRAWS)
    draws = np.random.Generator(np.random.Philox(key=[n, stream])).standard_t(n - 1, _DRAWS)
    away: np.ndarray = draws * probes.std(ddof=1) / n**0.5
    return away


@lru_cache(maxsize=2)  # all pairs of rows share their people
def _counts(n: int) -> np.ndarray:
    """How often each of n people is in each draw (draws, n)."""
    chosen = np.random.Generator(np.random.Philox(n)).integers(0, n, (_DRAWS, n))
    return np.stack([np.bincount(row, minlength=n) for row in chosen]).astype(np.float64)


def _quantiles(values: np.ndarray | Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
