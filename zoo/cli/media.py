"""Commands that make something to look at: `sample`, `turntable`, `export`, `figure`."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from ..api import MAX_SEED, draw, seeds_of
from ..api import sample as contact_sheet
from ..errors import ConfigError
from .options import (
    Device,
    EditPsi,
    Film,
    From,
    Maps,
    Mesh,
    Name,
    Pitch,
    Psi,
    Sheet,
    Size,
    Yaw,
    finite,
    notes_of,
    subjects,
)


def sample(
    name: Name,
    seeds: Annotated[str, typer.Option("--seeds", "--seed", help="Numbers and ranges, e.g. 0-7 or 3,5,8.")] = "0-7",
    out: Sheet = Path("grid.png"),
    size: Size = 128,
    psi: Psi = 0.7,
    yaw: Yaw = 0.0,
    pitch: Pitch = 0.0,
    maps: Maps = "",
    relight: Annotated[bool, typer.Option("--relight", help="Add a row for each of seven lights.")] = False,
    device: Device = "auto",
) -> None:
    """Draw objects as a contact sheet: image, albedo, normals, depth, shading.

    Example: zoo sample shadegan --seeds 0-7 --out grid.png --yaw 0.3 --relight
    """
    from ..hub import load
    from ..output.sheets import save_png

    chosen = seeds_of(seeds)
    generator = load(name, device=device)
    sheet = contact_sheet(generator, chosen, size=size, psi=psi, yaw=yaw, pitch=pitch, maps=maps, relight=relight)
    typer.echo(str(save_png(sheet, out, notes_of(generator, seeds))))


def turntable(
    name: Name,
    seed: Annotated[str, typer.Option("--seed", "--seeds", help="One or several, e.g. 3 or 0-3, side by side.")] = "",
    source: From = None,
    out: Film = Path("turntable.mp4"),
    frames: Annotated[int, typer.Option(help="Frames in one swing.", min=2, max=2000)] = 60,
    fps: Annotated[int, typer.Option(help="Frames per second.", min=1, max=120)] = 25,
    size: Size = 128,
    psi: EditPsi = None,
    yaw: Annotated[
        float | None,
        typer.Option(help="Swing to each side in radians; default: what training saw.", callback=finite),
    ] = None,
    pitch: Pitch = 0.0,
    maps: Maps = "rgb",
    device: Device = "auto",
) -> None:
    """Film objects while the camera swings from side to side.

    \b
    Examples:
      zoo turntable shadegan --seed 3 --out face.mp4 --maps rgb,normal
      zoo turntable shadegan --from out/reconstruction.safetensors --out photo.mp4
    """
    from ..output.films import turntable as film
    from ..runtime.progress import counting

    generator, objects, light = subjects(name, seed, source, psi, device)
    with counting("filming", frames) as advance:
        path = film(
            generator, objects, out, frames, size=size, fps=fps, yaw=yaw, pitch=pitch, light=light, maps=maps,
            notes=notes_of(generator, seed, source), advance=advance,
        )  # fmt: skip
    typer.echo(str(path))


def export(
    name: Name,
    seed: Annotated[int, typer.Option("--seed", "--seeds", help="Which object, one number.", min=0, max=MAX_SEED)] = 0,
    out: Mesh = Path("mesh.glb"),
    resolution: Annotated[
        int | None, typer.Option(help="Cells along a volume or across a sphere; default: 128.", min=16, max=512)
    ] = None,
    level: Annotated[float | None, typer.Option(help="Density at the surface; default: the method's own.")] = None,
    psi: Psi = 0.7,
    html: Annotated[bool, typer.Option("--html", help="Write a page beside it, in which the mesh turns.")] = False,
    device: Device = "auto",
) -> None:
    """Write a coloured mesh, upright, for Blender and other programs, and for a browser.

    Volumes (pigan, shadegan, gof, graf) take --resolution and --level, meshgan --resolution alone. Meshes of unsup3d
    and gan2shape are as fine as their depth.

    \b
    Examples:
      zoo export shadegan --seed 3 --out face.glb
      zoo export shadegan --seed 3 --out face.glb --html
    """
    from ..errors import ConfigError
    from ..hub import load
    from ..output.meshes import export as write

    generator = load(name, device=device)
    latents = generator.latents(1, seed=seed, psi=psi)
    generator.need_3d("mesh")
    settings: Any = {key: value for key, value in (("resolution", resolution), ("level", level)) if value is not None}
    for key in settings:
        if key not in generator.mesh_settings:
            raise ConfigError(f"{generator.name}: its meshes have no {key}; leave out --{key}")
    mesh: Any = generator.mesh(latents, **settings)
    path = write(mesh, out, notes_of(generator, str(seed)))
    typer.echo(f"{path}: {len(mesh.verts_packed()):,} vertices, {len(mesh.faces_packed()):,} faces")
    if html:
        from ..output.turning import front, write_mesh_page

        page = write_mesh_page(
            out.with_suffix(".html"), mesh, front(generator, latents), f"{generator.name}, seed {seed}"
        )
        typer.echo(str(page))


def figure(
    name: Name,
    seeds: Annotated[
        str,
        typer.Option("--seeds", "--seed", help="Objects, e.g. 0-5; with --interpolate, from each to the next."),
    ] = "0-5",
    out: Sheet = Path("figure.png"),
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
    from ..hub import load
    from ..output.figures import canonical_views, interpolation
    from ..output.sheets import save_png
    from ..runtime.progress import counting

    chosen = seeds_of(seeds)
    if interpolate and len(chosen) < 2:
        raise ConfigError(f"--interpolate needs two seeds or more, got {seeds}; e.g. --seeds 0-3")
    generator = load(name, device=device)
    if interpolate and not generator.interpolates:
        raise ConfigError(f"{name} draws its objects from photographs; leave --interpolate out")
    latents, angle = draw(generator, chosen, psi), math.radians(reach)
    steps = 7
    with counting("drawing", steps * (len(chosen) - 1) if interpolate else len(chosen)) as advance:
        if interpolate:
            image = interpolation(
                generator, latents[:-1], latents[1:], steps=steps, yaws=(-angle, 0.0, angle), size=size, advance=advance
            )
        else:
            image = canonical_views(generator, latents, size=size, reach=angle, advance=advance)
    typer.echo(str(save_png(image, out, notes_of(generator, seeds))))
