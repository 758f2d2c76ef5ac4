"""Turning the heads of a 2D GAN, which has no camera, by moving its code along a straight line.

There are two ways to find lines without labels. SeFa (Shen and Zhou, CVPR 2021) takes the directions that the first
layers amplify most, from their weights alone; GANSpace (Härkönen et al., NeurIPS 2020) takes the principal axes of the
codes. Their authors pick the line that turns heads by eye; here a pose probe picks it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ZooError
from ..generators.base import Latents, PictureGAN
from .codes import CodeSpace

LAYERS = 4  # so many of the first layers move: 4 px, 8 px and the step to 16 px, which hold the pose
CANDIDATES = 10
_REACH = 5.0  # deviations to each side
_GRID = 21
_CHUNK = 32

Pose = Callable[[Tensor], Tensor]  # from pictures (B, 3, S, S) to pitch and yaw (B, 2) in radians


@dataclass(frozen=True)
class Turn:
    """A line in code space along which heads turn.

    Attributes:
        step: (D,) is one deviation of the codes along the line, towards the heads' left.
        slope: Says how many radians of yaw a step turns heads, on average.
        layers: Says how many of the first layers move.
    """

    step: Tensor
    slope: float
    layers: int = LAYERS

    def moved(self, w: Tensor, steps: Tensor) -> Tensor:
        """Move codes w (B, L, D) by `steps` (B,)."""
        w = w.clone()
        w[:, : self.layers] += steps.view(-1, 1, 1) * self.step
        return w


def sefa(gan: PictureGAN, layers: int = LAYERS) -> Tensor:
    """The directions (D, D) of SeFa: orthonormal rows, the most amplified first.

    They are the eigenvectors of A^T A, where A holds the modulation weights of the first `layers` convolutions, its
    rows scaled to length 1.
    """
    rows = F.normalize(gan.style_weights(layers).detach().double(), dim=1)
    out: Tensor = torch.linalg.eigh(rows.T @ rows).eigenvectors.flip(1).T.float()
    return out


def ganspace(gan: PictureGAN) -> Tensor:
    """The directions (K, D) of GANSpace: the principal axes of 10,000 codes as orthonormal rows, the widest first."""
    axes = CodeSpace.of(gan).axes
    assert axes is not None
    return axes


@torch.no_grad()
def find_turn(gan: PictureGAN, directions: Tensor, pose: Pose, *, n: int = 32, seed: int = 0, psi: float = 0.7) -> Turn:
    """Find the one of the first ten `directions` along which two steps to each side turn heads most.

    Args:
        gan: Draws the heads; it is frozen.
        directions: (K, D) has rows of length 1.
        pose: Estimates poses from pictures.
        n: Says on how many heads the directions are tried.
        seed: Draws those heads.
        psi: Truncates them.

    Raises:
        ZooError: No direction changes the estimated pose.
    """
    w, directions = _codes(gan, gan.latents(n, seed, psi)), directions[:CANDIDATES].to(gan.device)
    codes = gan.code(gan.latents(4096, seed))
    steps = directions * ((codes - codes.mean(0)) @ directions.T).std(0)[:, None]
    turns = []
    for step in steps:
        ahead, back = (_yaws(gan, Turn(step, 0.0).moved(w, torch.full((n,), x).to(w)), pose) for x in (2.0, -2.0))
        turns.append((ahead - back).mean() / 4)
    slopes = torch.stack(turns)
    best = int(slopes.abs().argmax())
    slope = slopes[best].item()
    if not abs(slope) > 1e-4:  # true as well if it is not a number
        raise ZooError(f"{gan.name or 'the GAN'}: no direction turns its pictures; train it first")
    return Turn(steps[best] * (1 if slope > 0 else -1), abs(slope))


def rotate(gan: PictureGAN, latents: Latents, yaws: Sequence[float], turn: Turn, pose: Pose) -> Tensor:
    """Draw B heads at V yaws in radians, (B, V, 3, S, S) in [-1, 1], as far as the line reaches; see `turned`."""
    return torch.stack([_drawn(gan, w) for w in turned(gan, latents, yaws, turn, pose)], 1)


@torch.no_grad()
def turned(gan: PictureGAN, latents: Latents, yaws: Sequence[float], turn: Turn, pose: Pose) -> list[Tensor]:
    """Codes (B, L, D) of B heads, for each of the yaws in radians.

    The yaws along the line, five steps to each side, are estimated first. Where the line passes a wanted yaw more than
    once, the place closest to the unchanged head counts; where it never does, the place that comes nearest to the yaw.
    """
    w, steps = _codes(gan, latents), torch.linspace(-_REACH, _REACH, _GRID)
    seen = torch.stack([_yaws(gan, turn.moved(w, x.expand(len(w)).to(w)), pose) for x in steps], 1).cpu()
    return [turn.moved(w, passing(steps, seen - wanted).to(w)) for wanted in yaws]


def passing(steps: Tensor, off: Tensor) -> Tensor:
    """Where curves pass 0: the place closest to step 0, interpolated linearly.

    Args:
        steps: (T,) rises.
        off: (B, T) holds the curves at these steps.

    Returns:
        Steps (B,); where a curve never passes 0, the step with the smallest |off|.
    """
    a, b = off[:, :-1], off[:, 1:]
    crosses = (a <= 0) != (b <= 0)
    places = steps[:-1] + steps.diff() * a / torch.where(crosses, a - b, 1.0)
    nearest = torch.where(crosses, places.abs(), torch.inf).argmin(1, keepdim=True)
    return torch.where(crosses.any(1), places.gather(1, nearest)[:, 0], steps[off.abs().argmin(1)])


def _codes(gan: PictureGAN, latents: Latents) -> Tensor:
    return gan.split_code(gan.code(latents))


@torch.no_grad()
def _drawn(gan: PictureGAN, w: Tensor) -> Tensor:
    return torch.cat([gan.synthesise(part) for part in w.split(_CHUNK)])


def _yaws(gan: PictureGAN, w: Tensor, pose: Pose) -> Tensor:
    return torch.cat([pose(gan.synthesise(part))[:, 1] for part in w.split(_CHUNK)])
