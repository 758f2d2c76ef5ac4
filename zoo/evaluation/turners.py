"""Ways to turn faces: a camera, a line in a 2D GAN's code, GAN2Shape's two ways, and the renderer of the true heads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..editing import directions
from ..errors import ConfigError, WeightsError
from ..fitting.runs import LATENT, Finished, FinishedRun
from ..fitting.subject import Subject
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
        return {name: _ByCamera(generator, latents, size)}
    if not isinstance(generator, PictureGAN):
        raise ConfigError(f"{name}: has no camera and is no 2D GAN, so it cannot turn faces; leave it out")

    ways = {"GANSpace": directions.ganspace, "SeFa": directions.sefa}
    return {f"{name} ({way})": _Along(generator, latents, find, pose_probe) for way, find in ways.items()}


@dataclass(frozen=True, eq=False)  # and no functions in functions, which could not be sent to other processes
class _ByCamera:
    """Turns a generator's faces by its camera."""

    generator: Generator
    latents: Latents
    size: int

    @torch.no_grad()
    def __call__(self, yaws: Sequence[float]) -> Tensor:
        views = []
        for yaw in yaws:
            camera = self.generator.camera(yaw, size=self.size)
            parts = [self.generator(self.latents[i : i + 4], camera).rgb.cpu() for i in range(0, len(self.latents), 4)]
            views.append(torch.cat(parts).clamp(-1, 1))
        return torch.stack(views, 1)


@dataclass(frozen=True, eq=False)
class _Along:
    """Turns a 2D GAN's faces along the one of the lines that `find` gives which turns heads most."""

    generator: PictureGAN
    latents: Latents
    find: Callable[[PictureGAN], Tensor]
    pose_probe: Callable[[], PoseProbe]

    def __call__(self, yaws: Sequence[float]) -> Tensor:
        probe = self.pose_probe().to(self.generator.device)
        turn = directions.find_turn(self.generator, self.find(self.generator), probe)
        return directions.rotate(self.generator, self.latents, yaws, turn, probe).cpu()


def true_heads(n: int, size: int, seed: int = 0) -> Turner:
    """Turn `n` heads of the test split under their average light."""
    heads = sample_heads(np.arange(n), seed, "test", HeadModel.load())
    lights = np.tile(LIGHT_PRIOR["mean"], (n, 1))

    def turner(yaws: Sequence[float]) -> Tensor:
        views = [render_heads(heads, np.tile([0.0, yaw], (n, 1)), lights, size).image for yaw in yaws]
        return torch.from_numpy(np.stack(views, 1))

    return turner


@dataclass(frozen=True, eq=False)
class _Fits:
    """Turns faces that GAN2Shape was fitted to: renders them, or lets the GAN draw them where they are `drawn`.

    Networks are loaded one after the other, so that they are not in memory all at once.
    """

    pictures: Sequence[Finished]
    subjects: Sequence[Subject]
    gan: PictureGAN
    drawn: bool

    def __call__(self, yaws: Sequence[float]) -> Tensor:
        yaw = torch.tensor(yaws)
        shown = []
        for picture, subject in zip(self.pictures, self.subjects, strict=True):
            fit = Fitted(picture.networks(self.gan, subject.image.shape[-1]), self.gan, subject)
            light, view = fit.turned(yaw, torch.zeros_like(yaw))
            shown.append((fit.drawn if self.drawn else fit.rendered)(light, view).clamp(-1, 1))
        return torch.stack(shown)


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
    return {how: _Fits(pictures, subjects, gan, drawn=how == "GAN") for how in ("render", "GAN")}
