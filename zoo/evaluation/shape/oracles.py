"""What SIDE and MAD can and cannot say: predictions that need no training, because each knows a part of the truth."""

from collections.abc import Callable, Iterator
from math import radians

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...geometry import continued
from ...heads.model import HeadModel, Heads
from ...heads.sampling import mean_heads, sample_heads
from ...metrics.shape import person_r2
from .predicted import EYES, Reading, errors
from .truth import Truth, heads_at

_NOISE = 5.0  # degrees
_BLUR = 4  # standard deviation in pixels at 64 px
FIGURES = ("SIDE", "MAD", "pose", "shape", "R2")


def oracles(
    n: int = 300, split: str = "val", said: Callable[[str], None] = lambda _: None
) -> dict[str, dict[str, float]]:
    """Figures of predictions that know a part of the truth, on `n` plain heads of a split, by what each knows.

    Args:
        n: Number of heads.
        split: Where they come from.
        said: Is called with the name of each prediction before it is scored.
    """
    truth = Truth.open(split, "plain", n, 64)
    table = {}
    for name, reading in _readings(truth, split):
        said(name)
        found = errors(reading, truth)
        known = person_r2(found["shape"], 100 / EYES * truth.mean_errors)
        table[name] = {key: found[key].mean().item() for key in FIGURES[:-1]} | {"R2": float(known)}
    return table


def _readings(truth: Truth, split: str) -> Iterator[tuple[str, Reading]]:
    n = len(truth.image)
    own, everyone = (sample_heads(np.arange(n) + shift, 0, split, HeadModel.load()) for shift in (0, 1))
    angle = torch.rand(n, generator=torch.Generator().manual_seed(0)) * 2 * torch.pi
    noise = radians(_NOISE) * torch.stack([angle.sin(), angle.cos()], 1)
    yield "the truth", _seen(own, truth.pose, truth)
    yield "one mean head at the true pose, for everybody", _seen(mean_heads(n), truth.pose, truth)
    yield f"the true head with {_NOISE:g} degrees of pose noise", _seen(own, truth.pose + noise, truth)
    yield "somebody else's head at the true pose", _seen(everyone, truth.pose, truth)
    yield f"true depth blurred by {_BLUR} px", Reading(_blurred(_seen(own, truth.pose, truth).depth), view=truth.view)
    yield "one mean head, frontal", _seen(mean_heads(n), torch.zeros_like(truth.pose), truth)
    yield "a flat map", Reading(torch.ones_like(truth.depth))


def _seen(heads: Heads, pose: Tensor, truth: Truth) -> Reading:
    surface = heads_at(heads, pose, truth.view, truth.image.shape[-1])
    return Reading(continued(-surface.points[:, 2:], surface.mask), view=truth.view, valid=surface.mask)


def _blurred(depth: Tensor) -> Tensor:
    reach = 3 * _BLUR
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / _BLUR).square())
    row = (kernel / kernel.sum()).view(1, 1, 1, -1)
    padded = F.pad(depth, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, row), row.mT)
