"""Commands that change objects, drawn or found in photographs: `relight`, `rotate`, `interpolate`, `mix`."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from ..output.films import need_film
from .options import Device, EditPsi, Film, From, Maps, Name, Pitch, Sheet, Size, Yaw, notes_of, ready, subjects

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..generators.base import Generator, Latents
    from ..geometry import Light, Render

Seed = Annotated[str, typer.Option("--seed", "--seeds", help="Objects of the model: 3, or 0-3, or 3,5,8.")]
Frames = Annotated[int, typer.Option(help="Frames in the whole film.", min=2, max=2000)]
Fps = Annotated[int, typer.Option(help="Frames per second.", min=1, max=120)]


def _is_sheet(out: Path) -> bool:
    return out.suffix.lower() == ".png"


def _need_views(out: Path) -> None:
    if not _is_sheet(out):
        need_film(out)


Views = Annotated[
    Path, typer.Option(help=".png for a sheet; .mp4, .webp, .gif or a new folder.", callback=ready(_need_views))
]


def relight(
    name: Name,
    seed: Seed = "",
    source: From = None,
    out: Film = Path("relight.mp4"),
    frames: Frames = 60,
    fps: Fps = 25,
    size: Size = 128,
    psi: EditPsi = None,
    yaw: Yaw = 0.0,
    pitch: Pitch = 0.0,
    maps: Maps = "rgb",
    device: Device = "auto",
) -> None:
    """Film objects while a light moves around them.

    \b
    Examples:
      zoo relight shadegan --seed 3 --out relit.mp4
      zoo relight shadegan --from out/reconstruction.safetensors --out relit.gif --maps rgb,shading
    """
    from ..editing.frames import light_path
    from ..editing.frames import relight as lit

    generator, objects, own = subjects(name, seed, source, psi, device)
    renders = lit(generator, objects, generator.camera(yaw, pitch, size), light_path(frames), own)
    _film(renders, out, frames, fps, maps, notes_of(generator, seed, source), size, len(objects))


def rotate(
    name: Name,
    seed: Seed = "",
    source: From = None,
    out: Views = Path("views.png"),
    yaws: Annotated[str, typer.Option(help="Angles in radians, e.g. -0.5,0,0.5.")] = "-0.5,-0.25,0,0.25,0.5",
    pitch: Pitch = 0.0,
    by: Annotated[
        str, typer.Option(help="camera; for 2D GANs a line in the code: sefa or ganspace. Default: camera, or sefa.")
    ] = "",
    fps: Fps = 25,
    size: Size = 128,
    psi: EditPsi = None,
    maps: Maps = "rgb",
    device: Device = "auto",
) -> None:
    """Show objects from given angles. To swing from side to side, use zoo turntable.

    \b
    Examples:
      zoo rotate shadegan --from out/reconstruction.safetensors --yaws=-0.5,0,0.5 --maps rgb,normal
      zoo rotate stylegan2 --seed 0-3 --by ganspace --yaws=-0.3,0,0.3 --out turned.png
    """
    from ..output.sheets import captioned, save_png

    angles = _angles(yaws)
    generator, objects, light = subjects(name, seed, source, psi, device)
    by = by or ("camera" if generator.uses_camera else "sefa")
    renders = _views(generator, objects, light, angles, pitch, by, size)
    if _is_sheet(out):
        pictures = _pictures(renders, maps)
        shots = {f"yaw {angle:+.2f}": picture for angle, picture in zip(angles, pictures, strict=True)}
        typer.echo(str(save_png(captioned([shots]), out, notes_of(generator, seed, source))))
    else:
        _film(renders, out, len(angles), fps, maps, notes_of(generator, seed, source), size, len(objects))


def interpolate(
    name: Name,
    seed: Seed = "",
    source: From = None,
    out: Film = Path("walk.mp4"),
    frames: Frames = 60,
    fps: Fps = 25,
    size: Size = 128,
    psi: EditPsi = None,
    yaw: Yaw = 0.0,
    pitch: Pitch = 0.0,
    maps: Maps = "rgb",
    device: Device = "auto",
) -> None:
    """Film one object turning into the next: photographs first, in the order given, then seeds.

    \b
    Examples:
      zoo interpolate shadegan --seed 0-3 --out walk.mp4
      zoo interpolate shadegan --from a/reconstruction.safetensors --from b/reconstruction.safetensors --out walk.gif
    """
    from ..editing.frames import interpolate as walk

    generator, objects, light = subjects(name, seed, source, psi, device)
    renders = walk(generator, objects, frames, yaw=yaw, pitch=pitch, size=size, light=light)
    _film(renders, out, frames, fps, maps, notes_of(generator, seed, source), size, 1)


def mix(
    name: Name,
    seed: Seed = "",
    source: From = None,
    layers: Annotated[str, typer.Option(help="Numbers of layers from the first object; one column each.")] = "",
    out: Sheet = Path("mix.png"),
    size: Size = 128,
    psi: EditPsi = None,
    yaw: Yaw = 0.0,
    pitch: Pitch = 0.0,
    maps: Maps = "rgb",
    device: Device = "auto",
) -> None:
    """Mix two objects: the first layers of one, the rest of the other. Photographs come first, then seeds.

    The light is that of the first object.

    Example: zoo mix shadegan --from out/reconstruction.safetensors --seed 8 --layers 0,2,3,4 --out mix.png
    """
    import torch

    from ..editing.codes import layer_count
    from ..editing.codes import mix as mixed
    from ..output.sheets import captioned, save_png

    generator, objects, light = subjects(name, seed, source, psi, device)
    if len(objects) != 2:
        raise ConfigError(f"mix needs two objects, got {len(objects)}; e.g. --seed 3,8")
    if yaw or pitch:
        generator.need_camera("yaw and pitch")
    given = _whole(layers) if layers else list(range(layer_count(generator) + 1))
    camera, light = generator.camera(yaw, pitch, size), None if light is None else light[:1]
    with torch.no_grad():
        renders = [generator(mixed(generator, objects[:1], objects[1:], k), camera, light) for k in given]
    shots = {f"{k} layers": picture for k, picture in zip(given, _pictures(renders, maps), strict=True)}
    typer.echo(str(save_png(captioned([shots]), out, notes_of(generator, seed, source))))


def _views(
    generator: "Generator",
    objects: "Latents",
    light: "Light | None",
    angles: list[float],
    pitch: float,
    by: str,
    size: int,
) -> "Iterator[Render]":
    """Render objects, each under its light, from the angles, turned `by` camera or by a line in the code."""
    from ..editing.frames import LINES, rotate, rotate_along
    from ..runtime.progress import counting

    if by not in ("camera", *LINES):
        raise ConfigError(f"--by {by}: use camera, {', '.join(LINES)}")
    if by == "camera":
        return rotate(generator, objects, angles, pitch, size=size, light=light)
    if pitch:
        raise ConfigError(f"--pitch {pitch:g}: a line in the code turns heads only from side to side; leave it out")
    with counting("training a pose probe", 500) as advance:
        return rotate_along(generator, objects, angles, by, size=size, advance=advance)


def _film(
    renders: "Iterable[Render]", out: Path, frames: int, fps: int, maps: str, notes: dict[str, str], side: int, n: int
) -> None:
    """Write a film from `frames` renders of `n` objects, each `side` pixels wide."""
    from ..output.films import film
    from ..runtime.progress import counting

    whole = (n * side, (maps.count(",") + 1) * side)
    with counting("filming", frames) as advance:
        path = film(_pictures(renders, maps), out, size=whole, fps=fps, notes=notes, advance=advance)
    typer.echo(str(path))


def _pictures(renders: "Iterable[Render]", maps: str) -> "Iterator[Image]":
    from ..output.sheets import grid

    return (grid(render, maps=maps) for render in renders)


def _angles(text: str) -> list[float]:
    try:
        angles = [float(part) for part in text.split(",")]
    except ValueError:
        angles = []
    if not angles or not all(map(math.isfinite, angles)):
        raise ConfigError(f"yaws {text!r}: write radians, e.g. -0.5,0,0.5")
    return angles


def _whole(text: str) -> list[int]:
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise ConfigError(f"layers {text!r}: write whole numbers, e.g. 1,2,3")
    return [int(part) for part in text.split(",")]
