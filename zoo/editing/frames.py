"""Objects under moving lights, from given angles, and on the way to each other; one render for each frame."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..errors import ConfigError
from ..generators.base import Generator, Latents, PictureGAN
from ..geometry import Camera, Light, Render
from ..probes.pose import train_pose_probe
from . import directions
from .codes import at, between

LINES: dict[str, Callable[[PictureGAN], Tensor]] = {"sefa": directions.sefa, "ganspace": directions.ganspace}


def light_path(frames: int, reach: float = 1.2, ambient: float = 0.25, diffuse: float = 0.75) -> Light:
    """Lights on a closed way around the camera: right, above, left, below, each `reach` = tan of the angle away."""
    turn = torch.arange(frames) * (2 * math.pi / frames)
    strengths = torch.tensor([2 * ambient - 1, 2 * diffuse - 1]).expand(frames, 2)
    return Light(torch.cat([strengths, reach * torch.stack([turn.cos(), turn.sin()], 1)], 1))


def relight(generator: Generator, latents: Latents, camera: Camera, lights: Light) -> Iterator[Render]:
    """B objects from one camera (or one each) under one light after the other.

    Raises:
        ConfigError: a method without light.
    """
    if not generator.uses_light:
        name = generator.name or type(generator).__name__
        raise ConfigError(f"{name} has no light to change: its shading is part of its colours; use a method with one")
    return (_render(generator, latents, camera, lights[i : i + 1]) for i in range(len(lights)))


def rotate(
    generator: Generator,
    latents: Latents,
    yaws: Sequence[float],
    pitch: float = 0.0,
    *,
    size: int = 128,
    light: Light | None = None,
) -> Iterator[Render]:
    """B objects from one angle after the other, radians.

    Raises:
        ConfigError: a method without cameras.
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
    """B heads of a 2D GAN from one angle after the other, radians, as far as a line in its code turns them.

    Args:
        generator: a `PictureGAN` of heads framed like the embedded ones, which the pose probe knows.
        latents: of the heads.
        yaws: as the pose probe sees them.
        line: how the line is found, one of `LINES`.
        size: of the pictures.
        advance: called with 1 after each of 500 steps of training the probe.

    Raises:
        ConfigError: another method, or no such way.
        ZooError: no line turns the pictures.
    """
    if line not in LINES:
        raise ConfigError(f"unknown line {line!r}; use {' or '.join(LINES)}")
    if not isinstance(generator, PictureGAN):
        name = generator.name or type(generator).__name__
        raise ConfigError(f"{name} has no code along whose lines heads turn; use a 2D GAN, e.g. stylegan2")
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
    """One object turning into the next, through all of them: `frames` renders of one object, see `between`."""
    path, camera = between(generator, latents, frames), generator.camera(yaw, pitch, size)
    return (_render(generator, path[i : i + 1], camera, light) for i in range(frames))


def _render(generator: Generator, latents: Latents, camera: Camera, light: Light | None) -> Render:
    with torch.no_grad():
        return generator(latents, camera, light)
