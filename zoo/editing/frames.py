"""Objects under moving lights, from given angles, and turning into each other; one render for each frame."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..generators.base import Generator, Latents, PictureGAN
from ..geometry import Camera, Light, Render
from ..probes.pose import train_pose_probe
from . import directions
from .codes import at, between, path

LINES: dict[str, Callable[[PictureGAN], Tensor]] = {"sefa": directions.sefa, "ganspace": directions.ganspace}


def light_path(frames: int, reach: float = 1.2, ambient: float = 0.25, diffuse: float = 0.75) -> Light:
    """Lights on a closed path around the camera: right, above, left, below; `reach` is the tangent of their angle."""
    turn = torch.arange(frames) * (2 * math.pi / frames)
    strengths = torch.tensor([2 * ambient - 1, 2 * diffuse - 1]).expand(frames, 2)
    return Light(torch.cat([strengths, reach * torch.stack([turn.cos(), turn.sin()], 1)], 1))


def relight(
    generator: Generator, latents: Latents, camera: Camera, lights: Light, own: Light | None = None
) -> Iterator[Render]:
    """Render B objects from one camera, or from one each, under one light after the other.

    Albedo stays as it is under their `own` light, one or B; by default that is the mean light.

    Raises:
        ConfigError: The method has no light.
    """
    if not generator.uses_light:
        why = "its shading is part of its colours; use a method with one"
        raise ConfigError(f"{generator.title} has no light to change: {why}")
    sampling = generator.keeping_albedo(own)
    return (_render(generator, latents, camera, lights[i : i + 1], sampling) for i in range(len(lights)))


def rotate(
    generator: Generator,
    latents: Latents,
    yaws: Sequence[float],
    pitch: float = 0.0,
    *,
    size: int = 128,
    light: Light | None = None,
) -> Iterator[Render]:
    """Render B objects from one angle after the other, in radians, under one light or one each.

    Raises:
        ConfigError: The method ignores its camera.
    """
    generator.need_camera("view from another angle")
    return (_render(generator, latents, generator.camera(yaw, pitch, size), light) for yaw in yaws)


def rotate_along(
    generator: Generator,
    latents: Latents,
    yaws: Sequence[float],
    line: str = "sefa",
    *,
    size: int = 128,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[Render]:
    """Draw B heads of a 2D GAN from one angle after the other, as far as a line in its code turns them.

    Args:
        generator: Is a `PictureGAN` of heads that are framed like the embedded ones, which the pose probe knows.
        latents: Are the heads.
        yaws: Are the wanted angles in radians, as the pose probe sees them.
        line: Says how the line is found; one of `LINES`.
        size: Is the side of the pictures in pixels.
        advance: Is called with 1 after each of the 500 steps in which the probe is trained.

    Raises:
        ConfigError: The method is no 2D GAN, or `line` is unknown.
        ZooError: No line turns the pictures.
    """
    if line not in LINES:
        raise ConfigError(f"unknown line {line!r}; use {' or '.join(LINES)}")
    if not isinstance(generator, PictureGAN):
        why = "so no line in its code turns heads; use one, e.g. stylegan2"
        raise ConfigError(f"{generator.title} is no 2D GAN, {why}")
    probe = train_pose_probe(advance=advance).to(generator.device)
    turn = directions.find_turn(generator, LINES[line](generator), probe)
    codes, camera = directions.turned(generator, latents, yaws, turn, probe), generator.camera(size=size)
    return (_render(generator, at(generator, w), camera, None) for w in codes)


def interpolate(
    generator: Generator,
    latents: Latents,
    frames: int,
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    size: int = 128,
    light: Light | None = None,
) -> Iterator[Render]:
    """Render objects turning into each other, from the first to the last, in `frames` renders; see `between`.

    The light is one for all, or one for each object; lights turn into each other as the objects do.

    Raises:
        ConfigError: There are fewer than two objects or fewer frames than objects, the objects are photographs, or the
            method has no camera to turn.
    """
    if yaw or pitch:
        generator.need_camera("yaw and pitch")
    walk, camera = between(generator, latents, frames), generator.camera(yaw, pitch, size)
    if light is None:
        return (_render(generator, one, camera, None) for one in walk)
    lights = Light(path(light.expand(len(latents)).params, frames))
    return (_render(generator, one, camera, lit) for one, lit in zip(walk, lights, strict=True))


def _render(
    generator: Generator, latents: Latents, camera: Camera, light: Light | None, sampling: Any = None
) -> Render:
    with torch.no_grad():
        return generator(latents, camera, light, sampling)
