"""Options that several commands share, and what is made of them."""

import logging
import math
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..api import draw, seeds_of
from ..errors import ConfigError
from ..output.films import need_film
from ..output.meshes import need_mesh_file
from ..output.sheets import maps_of, need_png
from ..registry import list_models
from ..runtime.files import need_place

if TYPE_CHECKING:
    from ..generators.base import Generator, Latents
    from ..geometry import Light


def finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def ready(need: Callable[[Path], None]) -> Callable[[Path], Path]:
    """Check --out before anything is loaded: what cannot be written must not cost the work."""

    def check(out: Path) -> Path:
        need(out)
        need_place(out)
        return out

    return check


def _known_maps(param: typer.CallbackParam, maps: str) -> str:
    """Refuse unknown maps before anything is loaded; none may be given where none is the default."""
    if maps or param.default:
        maps_of(maps)
    return maps


def known(incomplete: str) -> list[str]:
    """Names of methods and weights that begin so, for shells that complete them."""
    return [name for name in list_models() if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(
        help="What zoo.load takes: shadegan, shadegan.heads32, file:DIR, a run's folder.", autocompletion=known
    ),
]


Size = Annotated[int, typer.Option(help="Side of each picture in pixels.", min=8, max=1024)]


Psi = Annotated[float, typer.Option(help="Truncation: 1 = none, 0 = the average object.", callback=finite)]


Yaw = Annotated[float, typer.Option(help="Radians; positive turns the head to its left.", callback=finite)]


Pitch = Annotated[float, typer.Option(help="Radians; positive raises the chin.", callback=finite)]


Sheet = Annotated[Path, typer.Option(help="PNG.", callback=ready(need_png))]


Film = Annotated[Path, typer.Option(help=".mp4, .webp, .gif, or a new folder for PNGs.", callback=ready(need_film))]


Mesh = Annotated[Path, typer.Option(help=".glb, .obj, .ply or .stl.", callback=ready(need_mesh_file))]


Maps = Annotated[str, typer.Option(help="Rows, out of rgb, albedo, normal, depth, shading.", callback=_known_maps)]


Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


From = Annotated[list[Path] | None, typer.Option("--from", help="A file from zoo invert; may be repeated.")]


EditPsi = Annotated[
    float | None,
    typer.Option(
        help="Truncation: 0 = the average object; default: 0.7 for seeds, 1 for photographs.", callback=finite
    ),
]


def subjects(
    name: str, seed: str, source: list[Path] | None, psi: float | None, device: str
) -> "tuple[Generator, Latents, Light | None]":
    """The generator and the objects that are asked for: photographs, then seeds; seed 0 if there are neither.

    The light of each object comes with them, if the generator has any: that of the photograph, or the mean light.
    """
    import torch

    from ..editing.codes import at, truncate
    from ..editing.reconstruction import read
    from ..geometry import Light
    from ..hub import load

    generator = load(name, device=device)
    found = [read(path, generator) for path in source or []]
    tuned = [rec.generator for rec in found if rec.origin]
    if tuned and len(found) > 1:
        has = f"{len(tuned)} of {len(found)} photographs have tuned weights of their own"
        raise ConfigError(f"{has}, in which the others have no place; give one alone, or invert them without --tune")
    generator = tuned[0] if tuned else generator
    parts = [truncate(generator, rec.latents, 1 if psi is None else psi) for rec in found]
    lights = [rec.light.params for rec in found if rec.light is not None]
    if seed or not parts:
        drawn = draw(generator, seeds_of(seed or "0"), 0.7 if psi is None else psi)
        parts.append(at(generator, generator.code(drawn)))
        lights.append(generator.mean_light.params.expand(len(drawn), 4))
    return generator, type(parts[0]).cat(parts), Light(torch.cat(lights)) if generator.uses_light else None


def notes_of(generator: "Generator", seeds: str, source: list[Path] | None = None) -> dict[str, str]:
    """What a picture must say about itself so that it can be made again."""
    command = shlex.join(["zoo", *sys.argv[1:]])
    notes = {"model": str(getattr(generator, "name", "")), "command": command}
    if source:
        notes["from"] = ",".join(map(str, source))
    if seeds or not source:
        notes["seed"] = ",".join(map(str, seeds_of(seeds or "0")))
    return notes


Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def watched(as_json: bool) -> bool:
    """Whether to show progress, on the error stream. Scripts that read JSON get none; people who pipe it do."""
    return not as_json or sys.stderr.isatty()


Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value, e.g. data=folder data.root=DIR trainer.devices=4")
]


RunSeed = Annotated[
    int | None, typer.Option("--seed", "--seeds", help="The same as seed=N; default: the recipe's.", min=0)
]


def seeded(overrides: list[str] | None, seed: int | None) -> list[str]:
    """Overrides of a run, with the seed that stands beside them."""
    return [*(overrides or []), *([] if seed is None else [f"seed={seed}"])]


def speak() -> None:
    """Show what zoo says while it works."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("zoo")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
