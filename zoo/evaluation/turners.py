"""Ways to turn faces: a camera, a line in a 2D GAN's code, GAN2Shape's two ways, and the renderer of the true heads."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..editing import directions
from ..errors import ConfigError, WeightsError
from ..fitting.runs import LATENT, FinishedRun
from ..fitting.views import Fitted
from ..generators.base import Generator, Latents, PictureGAN
from ..heads.dataset import render_heads
from ..heads.model import HeadModel
from ..heads.sampling import LIGHT_PRIOR, sample_heads
from ..probes.pose import PoseProbe

Turner = Callable[[Sequence[float]], Tensor]  # from V yaws in radians to pictures (N, V, 3, S, S) of N faces


def turners_of(
    name: str, generator: Generator, latents: Latents, size: int, pose_probe: Callable[[], PoseProbe]
) -> dict[str, Turner]:
    """The ways in which a generator called `name` can turn faces, by their row names.

    Those of a 2D GAN call `pose_probe` when they turn.

    Raises:
        ConfigError: The generator can turn no faces.
    """
    if generator.uses_camera:
        return {name: lambda yaws: _by_camera(generator, latents, yaws, size)}
    if not isinstance(generator, PictureGAN):
        raise ConfigError(f"{name}: has no camera and is no 2D GAN, so it cannot turn faces; leave it out")

    def along(find: Callable[[PictureGAN], Tensor]) -> Turner:
        def turner(yaws: Sequence[float]) -> Tensor:
            probe = pose_probe().to(generator.device)
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
    """Turn `n` heads of the test split under their average light."""
    heads = sample_heads(np.arange(n), seed, "test", HeadModel.load())
    lights = np.tile(LIGHT_PRIOR["mean"], (n, 1))

    def turner(yaws: Sequence[float]) -> Tensor:
        views = [render_heads(heads, np.tile([0.0, yaw], (n, 1)), lights, size).image for yaw in yaws]
        return torch.from_numpy(np.stack(views, 1))

    return turner


def fitted_faces(fits: Callable[[], Iterable[Fitted]], *, drawn: bool) -> Turner:
    """Turn faces that GAN2Shape was fitted to: render them, or let the GAN draw them.

    Args:
        fits: Is called when faces are turned, and gone through once, so that the networks need not be in memory all at
            once.
        drawn: Whether the GAN draws them.
    """

    def turner(yaws: Sequence[float]) -> Tensor:
        yaw = torch.tensor(yaws)
        shown = []
        for fit in fits():
            light, view = fit.turned(yaw, torch.zeros_like(yaw))
            shown.append((fit.drawn if drawn else fit.rendered)(light, view).clamp(-1, 1))
        return torch.stack(shown)

    return turner


def turners_of_run(run: FinishedRun, most: int) -> dict[str, Turner]:
    """The two ways in which a run's faces turn, `render` and `GAN`. Networks are loaded one after the other.

    Args:
        run: A run with at least two finished pictures.
        most: Number of faces at most; the first ones are taken.

    Raises:
        ConfigError: The run has a single picture, or its GAN is missing on this disk or no 2D GAN.
        WeightsError: Files are damaged or do not belong together.
    """
    if len(run.pictures) < 2:
        raise ConfigError(f"{run.folder}: has one picture, and faces are compared with each other; run two or more")
    gan, pictures = run.gan(), run.pictures[:most]
    subjects = [picture.subject() for picture in pictures]
    shapes = [(1, gan.config.z_dim), (1, gan.code_layers, gan.config.z_dim)]
    for picture, subject in zip(pictures, subjects, strict=True):
        if subject.w.shape not in shapes:
            name = run.settings["gan"]
            raise WeightsError(f"{picture.folder / LATENT}: is no latent of {name}; run it again with that GAN")

    def fits() -> Iterator[Fitted]:
        for picture, subject in zip(pictures, subjects, strict=True):
            yield Fitted(picture.networks(gan, subject.image.shape[-1]), gan, subject)

    return {how: fitted_faces(fits, drawn=how == "GAN") for how in ("render", "GAN")}
