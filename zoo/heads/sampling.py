"""Random parameters of the `heads` data, each a pure function of (seed, split, index).

Random bits come from Philox, a counter-based generator whose stream is fixed by definition; a normal number is the
sum of twelve uniform ones minus six, truncated. Nothing here depends on a maths library or on its version.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .model import HeadModel, Heads

SPLITS = {"train": 0, "val": 1, "test": 2, "sealed": 6}  # at 3, 4 and 5 streams of "sealed" would be those of others
FOV = 12.0  # degrees
POSE_PRIOR = {"mean": np.zeros(2), "std": np.array([0.155, 0.3])}  # pitch, yaw in radians
LIGHT_PRIOR = {
    "mean": np.array([-0.1, 0.1, 0.0, 0.2]),
    "cov": np.diag([0.1**2, 0.15**2, 0.5**2, 0.3**2]),
}  # a, d, dx, dy
BRIGHTEST = 1.1  # upper end of ambient + diffuse, at which no skin saturates

# Separate streams, so that views of one head differ in pose and light only, and options change nothing else.
KINDS = HEAD, POSE, LIGHT, BACKGROUND, VIEW, LOOK = 0, 1, 2, 9, 10, 11
HAIR = np.array(
    [
        [0.085, 0.075, 0.070],
        [0.13, 0.09, 0.065],
        [0.20, 0.13, 0.085],
        [0.30, 0.20, 0.12],
        [0.50, 0.37, 0.22],
        [0.66, 0.53, 0.34],
        [0.38, 0.17, 0.09],
        [0.52, 0.50, 0.48],
    ]
)  # black (not so dark that it melts into the background), dark brown, brown, light brown, dark blond, blond, red, grey
HAIR_SHARE = np.array(
    [
        [0.24, 0.24, 0.20, 0.11, 0.08, 0.04, 0.03, 0.06],  # light skins
        [0.66, 0.22, 0.04, 0.00, 0.00, 0.00, 0.00, 0.08],  # dark skins
    ]
)
IRIS = np.array(
    [
        [0.20, 0.11, 0.06],
        [0.30, 0.18, 0.09],
        [0.34, 0.30, 0.16],
        [0.28, 0.36, 0.30],
        [0.30, 0.40, 0.52],
        [0.38, 0.44, 0.48],
    ]
)
IRIS_SHARE = np.array([[0.30, 0.22, 0.14, 0.10, 0.16, 0.08], [0.80, 0.18, 0.02, 0.0, 0.0, 0.0]])
DARK_SKINS = 3  # the last skins of the model are the dark ones


def sample_heads(identities: np.ndarray, seed: int, split: str, model: HeadModel) -> Heads:
    """Draw the parameters of the heads with the identity numbers (B,)."""
    k, n = model.components, len(model.skins)
    rows = [_sample_head(Bits(seed, split, HEAD, int(i)), k, n) for i in identities]
    return Heads(*(np.array(column, np.float64) for column in zip(*rows, strict=True)))


def mean_heads(count: int) -> Heads:
    """The mean head, `count` times: mean shape, and hair, brows and colours between those of 500 heads of "train"."""
    return Heads(*(np.repeat(field[None], count, 0) for field in _mean_head()))


@cache
def _mean_head() -> Heads:
    heads = sample_heads(np.arange(500), 0, "train", HeadModel.load())
    middle = Heads(*(field.mean(0) for field in heads))
    # The hairlines of bald heads lie far off, so their mean would be nobody's.
    return middle._replace(shape=np.zeros_like(middle.shape), hairline=np.asarray(np.median(heads.hairline)))


def sample_poses(indices: np.ndarray, seed: int, split: str) -> np.ndarray:
    """Draw pitch and yaw (B, 2), float64, in radians, truncated at 2.5 standard deviations."""
    rows = [Bits(seed, split, POSE, int(i)).normal(2, 2.5) for i in indices]
    out: np.ndarray = np.array(rows).reshape(-1, 2) * POSE_PRIOR["std"] + POSE_PRIOR["mean"]
    return out


def sample_lights(indices: np.ndarray, seed: int, split: str) -> np.ndarray:
    """Draw lights (a, d, dx, dy), (B, 4), float64; the diffuse part is lowered so that ambient + diffuse is <= 1.1."""
    rows = np.array([Bits(seed, split, LIGHT, int(i)).normal(4, 2.5) for i in indices]).reshape(-1, 4)
    light: np.ndarray = rows * np.sqrt(np.diag(LIGHT_PRIOR["cov"])) + LIGHT_PRIOR["mean"]
    light[:, 1] = np.minimum(light[:, 1], 2 * BRIGHTEST - 2 - light[:, 0])
    return light


class Bits:
    """A stream of uniform numbers for one (seed, split, kind, index)."""

    def __init__(self, seed: int, split: str, kind: int, index: int) -> None:
        key = np.array([seed, (SPLITS[split] * 3 + kind) << 48 | index], np.uint64)
        self.source = np.random.Philox(key=key)

    def uniform(self, *shape: int) -> np.ndarray:
        """Draw uniform float64 numbers in [0, 1) with 53 random bits."""
        count = int(np.prod(shape, dtype=int))
        return ((self.source.random_raw(count) >> np.uint64(11)) * 2.0**-53).reshape(shape)

    def normal(self, count: int, limit: float) -> np.ndarray:
        """Draw standard normal numbers (count,) within +-limit; of four tries, the first one inside counts."""
        draws = np.zeros((4, count))
        for part in self.uniform(12, 4, count):
            draws += part
        draws -= 6
        inside = np.abs(draws) <= limit
        first = inside.argmax(0)
        out: np.ndarray = draws[first, np.arange(count)].clip(-limit, limit)
        return out

    def choice(self, shares: np.ndarray) -> int:
        """Draw an index in proportion to `shares`."""
        return min(int((np.cumsum(shares) <= self.uniform(1)[0] * shares.sum()).sum()), len(shares) - 1)


def _sample_head(bits: Bits, components: int, skins: int) -> tuple[Any, ...]:
    """Draw the fields of `Heads` for one head."""
    shape = bits.normal(components, 2.0)
    u = bits.uniform(16)
    skin = np.zeros(skins)
    # A quarter dark, half light, and a quarter between: a main skin with a share of one or two others.
    light = skins - DARK_SKINS
    dark = light + int(u[0] * DARK_SKINS)
    first, second = int(u[1] * light), int(u[2] * light)
    darkness = 0.0 if u[3] < 0.55 else (1.0 - 0.25 * u[4] if u[3] > 0.78 else 0.15 + 0.5 * u[4])
    mix = 0.5 * u[5]
    skin[dark] += darkness
    skin[first] += (1 - darkness) * (1 - mix)
    skin[second] += (1 - darkness) * mix
    group = int(darkness > 0.3)
    hair = HAIR[bits.choice(HAIR_SHARE[group])] * (0.8 + 0.4 * u[6])
    iris = IRIS[bits.choice(IRIS_SHARE[group])] * (0.8 + 0.4 * u[7])
    bald = u[8] < 0.06
    hairline = 0.2 if bald else -0.006 + 0.016 * u[9]
    volume = 0.0 if bald else 0.0015 + 0.0075 * u[10]
    brow = np.array([0.45 + 0.45 * u[11], 0.75 + 0.45 * u[12]])
    lips = 0.75 * u[13] * u[13]
    return shape, skin, hair, iris, hairline, volume, brow, lips
