"""Ways to turn faces: a camera, a line in a 2D GAN's code, GAN2Shape's two ways, and the renderer of the true heads."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..data.head_model import HeadModel
from ..data.head_sampling import LIGHT_PRIOR, sample_heads
from ..data.heads import render_heads
from ..editing import directions
from ..editing.pose_probe import PoseProbe
from ..errors import ConfigError
from ..generators.base import Generator, Latents
from ..generators.stylegan2 import StyleGAN2
from .instance_views import Fitted

Turner = Callable[[Sequence[float]], Tensor]  # V yaws in radians to pictures (N, V, 3, S, S) in [-1, 1] of N faces


def turners_of(name: str, generator: Generator, latents: Latents, size: int, probe: PoseProbe) -> dict[str, Turner]:
    """The ways in which a generator called `name` can turn faces, by their row names.

    Raises:
        ConfigError: there is none.
    """
    if generator.uses_camera:
        return {name: lambda yaws: _by_camera(generator, latents, yaws, size)}
    if not isinstance(generator, StyleGAN2):
        raise ConfigError(f"{name}: has neither a camera nor a code whose lines turn faces; leave it out")

    def along(find: Callable[[StyleGAN2], Tensor]) -> Turner:
        def turner(yaws: Sequence[float]) -> Tensor:
            probe.to(generator.device)
            turn = directions.find_turn(generator, find(generator), probe)
            return directions.rotate(generator, latents, yaws, turn, probe).cpu()

        return turner

    return {f"{name} (GANSpace)": along(directions.ganspace), f"{name} (SeFa)": along(directions.sefa)}


@torch.no_grad()
def _by_camera(generator: Generator, latents: Latents, yaws: Sequence[float], size: int) -> Tensor:
    views = []
    for yaw in yaws:
        camera = generator.camera(yaw, size=size)
        parts = [generator(latents[i : i + 4], camera).rgb.cpu() for i in range(0, len(latents), 4)]
        views.append(torch.cat(parts).clamp(-1, 1))
    return torch.stack(views, 1)


def true_heads(n: int, size: int, seed: int = 0) -> Turner:
    """`n` heads of the test split under their average light."""
    heads = sample_heads(np.arange(n), seed, "test", HeadModel.load())
    lights = np.tile(LIGHT_PRIOR["mean"], (n, 1))

    def turner(yaws: Sequence[float]) -> Tensor:
        views = [render_heads(heads, np.tile([0.0, yaw], (n, 1)), lights, size).image for yaw in yaws]
        return torch.from_numpy(np.stack(views, 1))

    return turner


def fitted_faces(fits: Callable[[], Iterable[Fitted]], *, drawn: bool) -> Turner:
    """Faces that GAN2Shape was fitted to: their renders, or (`drawn`) what the GAN draws for them.

    fits: called when faces are turned, and gone through once, so that not all networks need be there at once.
    """

    def turner(yaws: Sequence[float]) -> Tensor:
        yaw = torch.tensor(yaws)
        shown = []
        for fit in fits():
            light, view = fit.turned(yaw, torch.zeros_like(yaw))
            shown.append((fit.drawn if drawn else fit.rendered)(light, view).clamp(-1, 1))
        return torch.stack(shown)

    return turner
