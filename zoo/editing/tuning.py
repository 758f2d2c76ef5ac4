"""Pivotal tuning: a copy of the generator learns one photograph (Roich, Mokady, Bermano, Cohen-Or 2021).

Code, pose and light stay where inversion has found them, at the pivot. Between the pivot and objects that the generator
draws itself the copy must go on showing what the original shows, from random poses. So what it learns stays with the
one person, who can still be turned, lit and mixed with others. One photograph says hardly anything of depth, so a field
is also held to its values around the surface of the pivot: likeness is to come from colours.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..generators.base import Generator
from ..generators.field import VolumeGenerator
from ..geometry import Render
from .codes import at
from .reconstruction import Reconstruction, fingerprint

STEPS = 80  # at most
_RATE = 1e-3
_LOCALITY = 1.0  # weight of pictures near the pivot beside that of the photograph
_SHAPE = 0.1  # weight of the pivot's field around its surface, where changes are compared with its variance
_SHELL = torch.tensor([-8, -4, -2, 0, 2, 4, 8]) / 96  # around the surface, as shares of the depth of the scene
_SHELL_POINTS = 4096  # of these, drawn anew for each step
_NEAR = 0.5  # how far from the pivot, of the way to an object that the generator draws, pictures are kept
_PATIENCE, _PROGRESS = 30, 0.02  # stop when so many steps have lowered the logarithm of the distance by less
_NEAR_SIZE = 16  # side in pixels of the pictures that are kept


def tune(
    found: Reconstruction, target: Tensor, *, seed: int = 0, advance: Callable[[int], None] = lambda _: None
) -> Reconstruction:
    """Teach a copy of the generator the photograph. The original is left exactly as it was.

    Ctrl-C ends it with the best so far.

    Args:
        found: What inversion has found, with the original generator.
        target: (1, 3, S, S) the photograph at the size of the comparison, in [-1, 1].
        seed: Draws the objects and poses that are kept.
        advance: Is called with 1 after each of at most `STEPS` steps; there are fewer if the picture stops improving.

    Returns:
        The same object, camera and light with a generator of its own, which `Reconstruction.save` keeps.
    """
    origin = found.generator
    own = copy.deepcopy(origin)
    weights = _learnt(own)
    stopped, taken = _learn(own, weights, found, target, torch.Generator().manual_seed(seed), advance)
    own.requires_grad_(False)
    own.zero_grad()
    fit = replace(found.fit, steps=found.fit.steps + taken, stopped=stopped)
    return replace(found, generator=own, fit=fit, origin=fingerprint(origin))


def _learn(
    own: Generator,
    weights: list[nn.Parameter],
    found: Reconstruction,
    target: Tensor,
    source: torch.Generator,
    advance: Callable[[int], None],
) -> tuple[str, int]:
    """Leave the best weights in the copy; say why it ended, as in `Fit`, and after how many steps."""
    optimiser = torch.optim.Adam(weights, lr=_RATE, betas=(0.9, 0.99))
    sampling = own.search_sampling()
    shape = _Shape(found) if isinstance(found.generator, VolumeGenerator) else None
    best, lowest, mark, since, step = _values(weights), math.inf, math.inf, 0, 0
    try:
        for step in range(1, STEPS + 1):
            distance = _distance(own(found.latents, found.camera, found.light, sampling), target, found.weight)
            value = distance.detach().log().item()
            if not math.isfinite(value):
                return "not finite", step
            if value < lowest:
                lowest, best = value, _values(weights)
            since = 0 if lowest < mark - _PROGRESS else since + 1
            if since == 0:
                mark = lowest
            if since >= _PATIENCE:
                return "plateau", step
            loss = distance + _LOCALITY * _locality(own, found, source)
            if shape is not None:
                loss = loss + _SHAPE * shape.moved(own, source)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            advance(1)
        return "", step
    except KeyboardInterrupt:
        return "interrupted", step
    finally:
        with torch.no_grad():
            for weight, kept in zip(weights, best, strict=True):
                weight.copy_(kept)


def _learnt(generator: Generator) -> list[nn.Parameter]:
    """What learns: all but the mapping network, so that codes keep their meaning."""
    generator.requires_grad_(True)
    generator.mapping.requires_grad_(False)
    return [p for p in generator.parameters() if p.requires_grad]


def _values(weights: list[nn.Parameter]) -> list[Tensor]:
    return [weight.detach().clone() for weight in weights]


def _distance(render: Render, target: Tensor, weight: Tensor) -> Tensor:
    """Squares, and absolute differences at coarser scales, over the pixels that count."""
    share = weight.mean().clamp_min(1e-3)
    error = (render.rgb - target) * weight
    distance = (error * (render.rgb - target)).mean() / share
    for step in (2, 4):
        distance = distance + 0.2 * F.avg_pool2d(error, step).abs().mean() / share
    return distance


def _locality(own: Generator, found: Reconstruction, source: torch.Generator) -> Tensor:
    """How far one picture near the pivot is from what the original shows there."""
    origin = found.generator
    camera = origin.cameras(1, source, _NEAR_SIZE)
    light = origin.lights(1, source) if origin.uses_light else None
    sampling = origin.search_sampling()
    with torch.no_grad():
        pivot, drawn = origin.code(found.latents), origin.code(origin.latents(1, source))
        latents = at(origin, pivot + (drawn - pivot) * (_NEAR + (1 - _NEAR) * torch.rand(1, generator=source).item()))
        kept = origin(latents, camera, light, sampling).rgb
    out: Tensor = (own(latents, camera, light, sampling).rgb - kept).square().mean()
    return out


class _Shape:
    """The raw density of a field around the surface that the photograph shows."""

    @torch.no_grad()
    def __init__(self, found: Reconstruction) -> None:
        origin, camera = found.generator, found.camera
        assert isinstance(origin, VolumeGenerator)
        render = origin(found.latents, camera, found.light, origin.search_sampling())
        origins, directions, cosine = camera.rays()
        assert render.depth is not None
        assert render.mask is not None
        depth, mask = (value.flatten(2).transpose(1, 2) for value in (render.depth, render.mask))
        shell = (origin.scene.far - origin.scene.near) * _SHELL.to(depth)
        points = origins[:, :, None] + ((depth + shell) / cosine[..., None])[..., None] * directions[:, :, None]
        self.points = points[:, mask[0, :, 0] > 0.5].flatten(1, 2)
        self.code = origin.code(found.latents)
        self.density = origin.raw_density(self.points, self.code)

    def moved(self, own: Generator, source: torch.Generator) -> Tensor:
        """How far a copy is from it, as a share of its variance; 0 where there is no surface."""
        assert isinstance(own, VolumeGenerator)
        if not self.points.shape[1]:
            return self.points.new_zeros(())
        some = torch.randint(self.points.shape[1], (_SHELL_POINTS,), generator=source).to(self.points.device)
        error = own.raw_density(self.points[:, some], self.code) - self.density[:, some]
        return error.square().mean() / self.density.var().clamp_min(1e-12)
