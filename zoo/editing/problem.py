"""What inversion minimises: the distance of a generator's guess from a photograph, and how likely the guess is."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..generators.base import Generator
from ..geometry import Light, Render
from ..priors import light_prior, pose_prior
from .codes import CodeSpace, at
from .photo import Photo, frame_points

_PYRAMID = (2, 4, 8)
_LEAST = 1e-3  # distances below this gain nothing
_OUTSIDE = 0.05  # weight of what lies beyond the rendered object before an unknown background
_RIM_SIZE = 16  # size in pixels at which the border of a photograph is examined
_PLAIN = 0.1  # a border this close to the generator's background colour, in [-1, 1], counts as that background
_CODE, _POSE, _LIGHT = 1.0, 0.3, 0.3  # weights of the mean squares of the priors
_FREE = 0.3  # that of free codes
_SURE = 0.3  # how far poses are from those that the face mesh shows, in deviations of the pose prior
FAR = 2.5  # deviations from the pose prior beyond which a camera is not to be trusted
_STILL = 1e-3  # least deviation of poses, in radians: some models saw one pitch, or one pose, alone
_POINTS = 0.3 / 0.03**2  # weight of the landmarks' misfit: predictor and people differ by 3 % of half the frame


class Perceptual(Protocol):
    """A distance of images (B, 3, S, S) in [-1, 1], S >= 16, such as `LPIPS.from_files(...)`."""

    def __call__(self, first: Tensor, second: Tensor) -> Tensor: ...


@dataclass
class Guess:
    """B guesses, in deviations from the means of the priors: code (B, K), pose (B, 2), light (B, 4) or (B, 0)."""

    code: Tensor
    pose: Tensor
    light: Tensor

    def parts(self) -> list[Tensor]:
        return [self.code, self.pose, self.light]

    def pick(self, rows: Tensor) -> "Guess":
        """Detached copies of some guesses."""
        return Guess(*(part.detach()[rows].clone() for part in self.parts()))


class Problem:
    """One photograph and one generator: what a guess looks like, and how far it is from the photograph."""

    def __init__(self, generator: Generator, photo: Photo, perceptual: Perceptual | None, strength: float) -> None:
        device = generator.device
        self.generator, self.photo, self.perceptual, self.strength = generator, photo.to(device), perceptual, strength
        self.space, self.code_weight = CodeSpace.of(generator), _CODE
        source = torch.Generator().manual_seed(0)
        poses = pose_prior(generator.scene.pose).sample(10_000, source).to(device)
        self.pose_mean, self.pose_std = poses.mean(0), poses.std(0).clamp_min(_STILL)
        lights = light_prior(generator.scene.light)
        self.light_mean, self.light_std = lights.mean.to(device), lights.cov.diagonal().clamp_min(0).sqrt().to(device)
        # Where the face mesh shows a pose, that and how sure it is are the prior; else that of the training images.
        self.likely_pose, self.pose_spread = self.seen_pose.clamp(-FAR, FAR), 1.0 if photo.pose is None else _SURE
        self.plain = photo.mask is not None or self._plain_border()

    def _plain_border(self) -> bool:
        """Whether the photograph ends in the colour that the generator paints behind its objects."""
        image, known, _ = self.photo.cut(None, _RIM_SIZE)
        whole = known > 0.99
        # The photograph's own rim, which a close portrait has inside of what is cut.
        inner = F.avg_pool2d(whole.float(), 3, 1, 1) > 0.99
        rim = whole & ~inner
        backdrop = 1.0 if self.generator.scene.white_back else -1.0
        near = (image - backdrop).abs().amax(1, keepdim=True) < _PLAIN
        return bool(near[rim].float().mean() > 0.75)

    def draw(self, n: int, source: torch.Generator) -> Guess:
        """Draw guesses: codes truncated by half, poses and lights from their priors; the first one is the average."""

        def normal(count: int, scale: float = 1.0) -> Tensor:
            drawn = torch.randn(n, count, generator=source) * scale
            drawn[0] = 0
            return drawn.to(self.pose_mean)

        lights = 4 if self.generator.uses_light else 0
        code, pose = normal(len(self.space.deviations), 0.7), normal(2)
        return Guess(code, self.likely_pose + self.pose_spread * pose, normal(lights))

    @property
    def seen_pose(self) -> Tensor:
        """The pose (2,) that the face mesh shows, in deviations from the prior; 0 if there is none."""
        seen = self.pose_mean if self.photo.pose is None else self.photo.pose
        return (seen - self.pose_mean) / self.pose_std

    def free(self, guess: Guess) -> Guess:
        """Let codes leave what the generator draws, from now on; the same guesses in units of the new space."""
        code = self.space.code(guess.code)
        self.space, self.code_weight = CodeSpace.free(self.generator), _FREE
        return Guess(self.space.weights(code), guess.pose, guess.light)

    def pose(self, guess: Guess) -> Tensor:
        """Pitch and yaw (B, 2) in radians."""
        return self.pose_mean + guess.pose * self.pose_std

    def light(self, guess: Guess) -> Light | None:
        return Light(self.light_mean + guess.light * self.light_std) if self.generator.uses_light else None

    def render(self, guess: Guess, size: int, sampling: Any = None) -> Render:
        pose = self.pose(guess)
        camera = self.generator.camera_at(pose, size)
        latents = at(self.generator, self.space.code(guess.code))
        return self.generator(latents, camera, self.light(guess), sampling)

    def target(self, guess: Guess, size: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """The photograph as these poses frame it, see `Photo.cut`."""
        return self.photo.cut(frame_points(self.generator, self.pose(guess), size), size)

    def weigh(self, render: Render, known: Tensor) -> Tensor:
        """How much each pixel counts, (B, 1, S, S).

        The generator need not explain what is behind the person on a photograph, so pixels beyond the outline that it
        renders count little. The weights pass no gradient: the outline does not move to make them better.
        """
        if self.plain or render.mask is None:
            return known.expand(len(render.rgb), -1, -1, -1)
        return known * render.mask.detach().clamp(_OUTSIDE, 1)

    def losses(self, guess: Guess, size: int, sampling: Any = None) -> tuple[Tensor, Tensor]:
        """What is minimised (B,), and the distance from the photograph (B,) that is part of it."""
        render = self.render(guess, size, sampling)
        image, known, _ = self.target(guess, size)
        weight = self.weigh(render, known)
        share = weight.mean((1, 2, 3)).clamp_min(1e-3)
        error = (render.rgb - image) * weight
        distance = (error * (render.rgb - image)).mean((1, 2, 3)) / share
        for step in _PYRAMID:
            if size // step >= 4:
                distance = distance + 0.2 * F.avg_pool2d(error, step).abs().mean((1, 2, 3)) / share
        if self.perceptual is not None:
            shown = image + weight * (render.rgb - image)
            distance = distance + 0.5 * self.perceptual(shown, image.expand_as(shown)).flatten(1).mean(1)
        turned = (guess.pose - self.likely_pose) / self.pose_spread
        held = (self.space.stiffness * guess.code.square()).mean(1)
        priors = self.code_weight * held + _POSE * turned.square().mean(1)
        if guess.light.shape[1]:
            priors = priors + _LIGHT * guess.light.square().mean(1)
        points = self.photo.misfit(frame_points(self.generator, self.pose(guess), size))
        # The logarithm is the likelihood of an error of unknown size: the less a generator can show of what is on the
        # photograph, the more its priors count.
        return (distance + _LEAST).log() + self.strength * (priors + _POINTS * points), distance
