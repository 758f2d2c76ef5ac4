"""Commands that make something to look at: sample, turntable, figure, export."""

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import ConfigError

if TYPE_CHECKING:
    from .generators.base import Generator, Latents


def finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


Name = Annotated[str, typer.Argument(help="What zoo.load takes: shadegan, shadegan.heads32, file:DIR, a run's folder.")]
Size = Annotated[int, typer.Option(help="Pixels.", min=8, max=1024)]
Psi = Annotated[float, typer.Option(help="Truncation: 1 = none, 0 = the average object.", callback=finite)]
Yaw = Annotated[float, typer.Option(help="Radians; positive turns the head to its left.", callback=finite)]
Pitch = Annotated[float, typer.Option(help="Radians; positive raises the chin.", callback=finite)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda.")]
From = Annotated[list[Path] | None, typer.Option("--from", help="A reconstruction of zoo invert; may be repeated.")]
EditPsi = Annotated[
    float | None,
    typer.Option(
        help="Truncation: 0 = the average object; default: 0.7 for seeds, 1 for photographs.", callback=finite
    ),
]
_MAX_SEED, _MAX_OBJECTS = 2**63 - 1, 256
RELIGHT = {"front": (0.0, 0.0), "left": (-1.2, 0.0), "right": (1.2, 0.0), "top": (0.0, 1.2), "below": (0.0, -1.0)}


def seeds_of(text: str) -> list[int]:
    """`"0-3,8"` -> [0, 1, 2, 3, 8]."""
    out: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        ends = (first, last) if dash else (first, first)
        if not all(end.isdecimal() and len(end) < 20 for end in ends):
            raise ConfigError(f"seeds {text!r}: write numbers and ranges, e.g. 0-7 or 3,5,8")
        low, high = map(int, ends)
        if high > _MAX_SEED:
            raise ConfigError(f"seeds {text!r}: {high} is too large; the largest seed is {_MAX_SEED}")
        if low > high or len(out) + high - low >= _MAX_OBJECTS:  # before the range is written out
            raise ConfigError(f"seeds {text!r}: ask for 1 to {_MAX_OBJECTS} objects, ranges from low to high")
        out += range(low, high + 1)
    return out


def draw(generator: "Generator", seeds: list[int], psi: float) -> "Latents":
    """One object for each seed; a seed is the same object alone and in company."""
    parts = [generator.latents(1, seed=seed, psi=psi) for seed in seeds]
    return type(parts[0]).cat(parts)


def subjects(
    name: str, seed: str, source: list[Path] | None, psi: float | None, device: str
) -> "tuple[Generator, Latents]":
    """The generator and the objects that are asked for: photographs, then seeds; seed 0 if nothing is."""
    from .editing.codes import at, truncate
    from .editing.reconstruction import read
    from .hub import load

    generator = load(name, device=device)
    parts = [truncate(generator, read(path, generator).latents, 1 if psi is None else psi) for path in source or []]
    if seed or not parts:
        drawn = draw(generator, seeds_of(seed or "0"), 0.7 if psi is None else psi)
        parts.append(at(generator, generator.code(drawn)))
    return generator, type(parts[0]).cat(parts)


def notes_of(generator: "Generator", seeds: str, source: list[Path] | None = None) -> dict[str, str]:
    """What a picture must say of itself to be made again."""
    command = shlex.join(["zoo", *sys.argv[1:]])
    notes = {"model": str(getattr(generator, "name", "")), "command": command}
    if source:
        notes["from"] = ",".join(map(str, source))
    if seeds or not source:
        notes["seed"] = ",".join(map(str, seeds_of(seeds or "0")))
    return notes


def sample(
    name: Name,
    seeds: Annotated[str, typer.Option(help="Numbers and ranges, e.g. 0-7 or 3,5,8.")] = "0-7",
    out: Annotated[Path, typer.Option(help="PNG.")] = Path("grid.png"),
    size: Size = 128,
    psi: Psi = 0.7,
    yaw: Yaw = 0.0,
    pitch: Pitch = 0.0,
    maps: Annotated[str, typer.Option(help="Rows, out of rgb, albedo, normal, depth, shading.")] = "",
    relight: Annotated[bool, typer.Option("--relight", help="Add a row for each of five lights.")] = False,
    device: Device = "auto",
) -> None:
    """Draw objects as a contact sheet: image, albedo, normals, depth, shading.

    Example: zoo sample shadegan --seeds 0-7 --out grid.png --yaw 0.3 --relight
    """
    import torch

    from .export import MAPS, grid, save_png, stack
    from .geometry import Light, Render
    from .hub import load

    chosen = seeds_of(seeds)
    rows = [row.strip() for row in maps.split(",")] if maps else list(MAPS)
    generator = load(name, device=device)
    if relight and not generator.uses_light:
        raise ConfigError(f"{name} has no light to change; leave --relight out")
    if yaw or pitch:
        generator.need_camera("--yaw and --pitch")
    latents, camera = draw(generator, chosen, psi), generator.camera(yaw, pitch, size)

    def render(light: Light | None) -> Render:
        with torch.no_grad():  # one object at a time keeps 256 px within 2 GB
            return Render.cat([generator(latents[i : i + 1], camera, light) for i in range(len(latents))])

    sheets = [grid(render(None), maps=rows, labels=[str(seed) for seed in chosen])]
    if relight:
        lights = [Light.of(0.25, 0.75, *slope).to(generator.device) for slope in RELIGHT.values()]
        sheets += [grid(render(light), maps=["rgb"]) for light in lights]
    typer.echo(str(save_png(stack(sheets), out, notes_of(generator, seeds))))


def turntable(
    name: Name,
    seed: Annotated[str, typer.Option(help="One or several, e.g. 3 or 0-3, side by side.")] = "",
    source: From = None,
    out: Annotated[Path, typer.Option(help=".mp4, .webp, .gif, or a new folder for PNGs.")] = Path("turntable.mp4"),
    frames: Annotated[int, typer.Option(help="Of one swing.", min=2, max=2000)] = 60,
    fps: Annotated[int, typer.Option(help="Frames per second.", min=1, max=120)] = 25,
    size: Size = 128,
    psi: EditPsi = None,
    yaw: Annotated[
        float | None,
        typer.Option(help="Swing to each side in radians; default: what training saw.", callback=finite),
    ] = None,
    pitch: Pitch = 0.0,
    maps: Annotated[str, typer.Option(help="Rows, out of rgb, albedo, normal, depth, shading.")] = "rgb",
    device: Device = "auto",
) -> None:
    """Film objects while the camera swings from side to side.

    \b
    Examples:
      zoo turntable shadegan --seed 3 --out face.mp4 --maps rgb,normal
      zoo turntable shadegan --from out/reconstruction.safetensors --out photo.mp4
    """
    from rich.console import Console
    from rich.progress import Progress

    from .export import turntable as film

    generator, objects = subjects(name, seed, source, psi, device)
    rows = [row.strip() for row in maps.split(",")]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("filming", total=frames)
        path = film(
            generator, objects, out, frames, size=size, fps=fps, yaw=yaw, pitch=pitch, maps=rows,
            notes=notes_of(generator, seed, source), advance=lambda: progress.advance(task),
        )  # fmt: skip
    typer.echo(str(path))


def export(
    name: Name,
    seed: Annotated[int, typer.Option(help="Which object.", min=0, max=_MAX_SEED)] = 0,
    out: Annotated[Path, typer.Option(help=".glb, .obj or .ply.")] = Path("mesh.glb"),
    resolution: Annotated[int, typer.Option(help="Cells along a volume or across a sphere.", min=16, max=512)] = 128,
    level: Annotated[float | None, typer.Option(help="Density at the surface; default: the method's own.")] = None,
    psi: Psi = 0.7,
    device: Device = "auto",
) -> None:
    """Write a coloured mesh, upright, for Blender and other programs.

    Example: zoo export shadegan --seed 3 --out face.glb
    """
    from .export import export as write
    from .hub import load

    generator = load(name, device=device)
    mesh: Any = generator.mesh(generator.latents(1, seed=seed, psi=psi), resolution=resolution, level=level)
    path = write(mesh, out)
    typer.echo(f"{path}: {len(mesh.verts_packed()):,} vertices, {len(mesh.faces_packed()):,} faces")


def figure(
    name: Name,
    seeds: Annotated[str, typer.Option(help="Objects, e.g. 0-5; with --interpolate from each to the next.")] = "0-5",
    out: Annotated[Path, typer.Option(help="PNG.")] = Path("figure.png"),
    interpolate: Annotated[bool, typer.Option("--interpolate", help="Walk from object to object.")] = False,
    reach: Annotated[float, typer.Option(help="Outermost views, degrees to each side.", min=0, max=180)] = 90.0,
    size: Size = 96,
    psi: Psi = 0.7,
    device: Device = "auto",
) -> None:
    """Draw the figures of the mesh GAN paper: a random view, normals, the method's own maps and five turned views.

    \b
    Examples:
      zoo figure meshgan --seeds 0-5 --out views.png
      zoo figure meshgan --interpolate --seeds 0-3 --reach 45 --out walk.png
    """
    from rich.console import Console
    from rich.progress import Progress

    from .evaluation.figures import canonical_views, interpolation
    from .export import save_png
    from .hub import load

    chosen = seeds_of(seeds)
    if interpolate and len(chosen) < 2:
        raise ConfigError(f"--interpolate needs two seeds or more, got {seeds}; e.g. --seeds 0-3")
    generator = load(name, device=device)
    if interpolate and not generator.interpolates:
        raise ConfigError(f"{name} draws its objects from photographs; leave --interpolate out")
    latents, angle = draw(generator, chosen, psi), math.radians(reach)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        if interpolate:
            steps = 7
            task = progress.add_task("drawing", total=steps * (len(chosen) - 1))
            image = interpolation(
                generator, latents[:-1], latents[1:], steps=steps, yaws=(-angle, 0.0, angle), size=size,
                advance=lambda: progress.advance(task),
            )  # fmt: skip
        else:
            task = progress.add_task("drawing", total=len(chosen))
            image = canonical_views(generator, latents, size=size, reach=angle, advance=lambda: progress.advance(task))
    typer.echo(str(save_png(image, out, notes_of(generator, seeds))))
