"""Turning the heads of a 2D GAN, which has no camera, by moving its code along a straight line.

Two ways to find lines without labels: SeFa (Shen and Zhou, CVPR 2021), the directions that the first layers amplify
most, from their weights alone; GANSpace (Härkönen et al., NeurIPS 2020), the principal axes of the codes. Their authors
pick the line that turns heads by eye; here a pose probe does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ZooError
from ..generators.base import Latents
from ..generators.stylegan2 import StyleGAN2
from .codes import CodeSpace

LAYERS = 4  # of the first layers move: 4 and 8 px and the step to 16 px, which hold the pose
CANDIDATES = 10
_REACH = 5.0  # deviations to each side
_GRID = 21
_CHUNK = 32

Pose = Callable[[Tensor], Tensor]  # pictures (B, 3, S, S) to pitch and yaw (B, 2) in radians


@dataclass(frozen=True)
class Turn:
    """A line in code space along which heads turn.

    Attributes:
        step: (D,) one deviation of the codes along it, towards the heads' left.
        slope: radians of yaw in a step, on average.
        layers: how many of the first layers move.
    """

    step: Tensor
    slope: float
    layers: int = LAYERS

    def moved(self, w: Tensor, steps: Tensor) -> Tensor:
        """Codes w (B, L, D) moved by `steps` (B,)."""
        w = w.clone()
        w[:, : self.layers] += steps.view(-1, 1, 1) * self.step
        return w


def sefa(gan: StyleGAN2, layers: int = LAYERS) -> Tensor:
    """(D, D) orthonormal rows, the most amplified first: eigenvectors of A^T A, where A holds the modulation weights of
    the first `layers` convolutions, rows scaled to length 1."""
    convs = [gan.network.conv1, *gan.network.convs][:layers]
    weights = torch.cat([conv.conv.modulation.weight for conv in convs])
    rows = F.normalize(weights.detach().double(), dim=1)
    return torch.linalg.eigh(rows.T @ rows).eigenvectors.flip(1).T.float()


def ganspace(gan: StyleGAN2) -> Tensor:
    """(K, D) orthonormal rows: the principal axes of 10,000 codes, the widest first."""
    return CodeSpace.of(gan).axes


@torch.no_grad()
def find_turn(gan: StyleGAN2, directions: Tensor, pose: Pose, *, n: int = 32, seed: int = 0, psi: float = 0.7) -> Turn:
    """The one of the first ten `directions` (K, D) along which two steps to each side turn heads most.

    Args:
        gan: frozen.
        directions: of length 1.
        pose: estimates poses from pictures.
        n, seed, psi: the heads that it is tried on.

    Raises:
        ZooError: no direction changes the pose that is estimated.
    """
    w, directions = _codes(gan, gan.latents(n, seed, psi)), directions[:CANDIDATES].to(gan.device)
    codes = gan.mapping(gan.latents(4096, seed).z)
    steps = directions * ((codes - codes.mean(0)) @ directions.T).std(0)[:, None]
    turns = []
    for step in steps:
        ahead, back = (_yaws(gan, Turn(step, 0.0).moved(w, torch.full((n,), x).to(w)), pose) for x in (2.0, -2.0))
        turns.append((ahead - back).mean() / 4)
    slopes = torch.stack(turns)
    best = int(slopes.abs().argmax())
    slope = slopes[best].item()
    if not abs(slope) > 1e-4:  # nor if it is not a number
        raise ZooError(f"{gan.name or 'the GAN'}: no direction turns its pictures; train it first")
    return Turn(steps[best] * (1 if slope > 0 else -1), abs(slope))


def rotate(gan: StyleGAN2, latents: Latents, yaws: Sequence[float], turn: Turn, pose: Pose) -> Tensor:
    """Pictures (B, V, 3, S, S) in [-1, 1] of B heads at V yaws in radians, as far as the line goes; see `turned`."""
    return torch.stack([_drawn(gan, w) for w in turned(gan, latents, yaws, turn, pose)], 1)


@torch.no_grad()
def turned(gan: StyleGAN2, latents: Latents, yaws: Sequence[float], turn: Turn, pose: Pose) -> list[Tensor]:
    """Codes (B, L, D) of B heads for each of the yaws in radians.

    The yaws along the line, five steps to each side, are estimated first; of the places where a wanted yaw is passed
    the one closest to the head as it is counts, or, if it is not reached, the place that comes nearest to it.
    """
    w, steps = _codes(gan, latents), torch.linspace(-_REACH, _REACH, _GRID)
    seen = torch.stack([_yaws(gan, turn.moved(w, x.expand(len(w)).to(w)), pose) for x in steps], 1).cpu()
    return [turn.moved(w, passing(steps, seen - wanted).to(w)) for wanted in yaws]


def passing(steps: Tensor, off: Tensor) -> Tensor:
    """Where curves off(steps) (B, T) pass 0: the place closest to step 0, linear in between; where one never does, the
    step with the smallest |off|. steps: (T,) rising. Returns (B,)."""
    a, b = off[:, :-1], off[:, 1:]
    crosses = (a <= 0) != (b <= 0)
    places = steps[:-1] + steps.diff() * a / torch.where(crosses, a - b, 1.0)
    nearest = torch.where(crosses, places.abs(), torch.inf).argmin(1, keepdim=True)
    return torch.where(crosses.any(1), places.gather(1, nearest)[:, 0], steps[off.abs().argmin(1)])


def _codes(gan: StyleGAN2, latents: Latents) -> Tensor:
    return gan.network.per_layer(gan.code(latents))


@torch.no_grad()
def _drawn(gan: StyleGAN2, w: Tensor) -> Tensor:
    return torch.cat([gan.synthesise(part) for part in w.split(_CHUNK)])


def _yaws(gan: StyleGAN2, w: Tensor, pose: Pose) -> Tensor:
    return torch.cat([pose(gan.synthesise(part))[:, 1] for part in w.split(_CHUNK)])
