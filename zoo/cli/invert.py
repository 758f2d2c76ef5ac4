"""The command that turns photographs into objects."""

import json
import shlex
import sys
from collections import Counter
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer

from ..api import MAX_SEED
from ..errors import ConfigError, Interrupted, ZooError
from ..resources import photograph
from ..runtime.files import need_place, printable
from .options import Device, Name

_INTERRUPTED = 2  # SIGINT


def invert(
    name: Name,
    photos: Annotated[list[Path], typer.Argument(help="Pictures; `example` is a portrait that comes with zoo.")],
    out: Annotated[Path, typer.Option(help="Folder; with several pictures, it has a folder for each.")] = Path("out"),
    align: Annotated[bool, typer.Option(help="Find the face; else the largest square in the middle is used.")] = True,
    mask: Annotated[Path | None, typer.Option(help="Picture that is white where the object is.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the search, at most.", min=1, max=10_000)] = 150,
    prior: Annotated[float, typer.Option(help="Higher: objects are likelier, but less similar.", min=0.0)] = 1.0,
    free: Annotated[bool, typer.Option(help="Also search objects that the generator itself would not draw.")] = True,
    tune: Annotated[bool, typer.Option("--tune", help="Teach a copy of the generator the photograph.")] = False,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", "--seeds", help="Seed of the candidates that the search starts from.", min=0, max=MAX_SEED
        ),
    ] = 0,
    vgg: Annotated[Path | None, typer.Option(help="VGG16 weights of torchvision, for LPIPS.")] = None,
    lpips: Annotated[Path | None, typer.Option(help="Linear layers of LPIPS 0.1 with VGG.")] = None,
    size: Annotated[int, typer.Option(help="Side of the written pictures in pixels.", min=16, max=1024)] = 128,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Turn photographs into objects: shape, colours, light, new views, a mesh.

    Methods with an encoder (unsup3d, gan2shape) read objects off without a search: --steps, --prior, --free, --seed,
    --vgg and --lpips change nothing there.

    \b
    Examples:
      zoo invert unsup3d.photos64 example --out out
      zoo invert shadegan.photos64 photo.jpg --tune --out out
      zoo invert shadegan.photos64 head.png --no-align --mask mask.png --out out
    """
    from ..editing.inversion import invert as run
    from ..editing.writing import need_own, write_reconstruction
    from ..hub import load

    if (vgg is None) != (lpips is None):
        raise ConfigError("--vgg and --lpips go together: VGG16's weights and LPIPS' linear layers")
    if mask is not None and len(photos) > 1:
        raise ConfigError(f"--mask is for one picture, not {len(photos)}; give pictures with an alpha channel")
    todo = _folders([photograph(photo) for photo in photos], out)
    for _, folder in todo:  # before minutes of searching
        need_place(folder, folder=True)
        need_own(folder, [*(photo for photo, _ in todo), *([] if mask is None else [mask])])
    generator = load(name, device=device)
    perceptual = None
    if vgg is not None and lpips is not None:
        from ..networks.perceptual import LPIPS

        perceptual = LPIPS.from_files(vgg, lpips).to(generator.device)
    rows: list[dict[str, Any]] = []
    try:
        for photo, folder in todo:
            row: dict[str, Any] = {"photo": printable(photo)}
            try:
                rec = run(
                    generator, photo, steps=steps, align=align, mask=mask, prior=prior, free=free, tune=tune,
                    perceptual=perceptual, seed=seed, progress=not as_json,
                )  # fmt: skip
                notes = {"photo": printable(photo), "command": shlex.join(["zoo", *sys.argv[1:]])}
                files = write_reconstruction(rec, folder, size, notes)
                row |= {"folder": str(folder), "files": [str(file) for file in files]} | asdict(rec.fit)
                pitch, yaw = rec.camera.pose[0].tolist()
                row |= {"yaw": round(yaw, 4), "pitch": round(pitch, 4)}
                if not as_json:
                    typer.echo(f"{printable(folder)}: PSNR {rec.fit.psnr:.1f} dB, yaw {yaw:.2f}, pitch {pitch:.2f}")
                if rec.fit.warning:
                    typer.echo(f"zoo: {row['photo']}: {rec.fit.warning}", err=True)
            except (ZooError, ValueError, OSError) as error:
                row["error"] = printable(" ".join(str(error).split()))
                rows.append(row)
                if len(photos) == 1:
                    raise
                typer.echo(f"zoo: {row['error']}", err=True)
            else:
                rows.append(row)
            if row.get("stopped") == "interrupted":
                raise Interrupted(f"{folder} has the best so far", _INTERRUPTED)
    finally:  # after Ctrl-C, too: the pictures before are finished
        if as_json:
            typer.echo(json.dumps(rows))
    if any("error" in row for row in rows):
        raise typer.Exit(1)


def _folders(photos: list[Path], out: Path) -> list[tuple[Path, Path]]:
    """Give each picture a folder of its own, even on disks that do not tell upper from lower case."""
    if len(photos) == 1:
        return [(photos[0], out)]
    stems = [printable(photo.stem) for photo in photos]
    counts = Counter(stem.casefold() for stem in stems)
    taken = {stem for stem, times in counts.items() if times == 1}
    folders = []
    for number, stem in enumerate(stems):
        name = stem
        if counts[stem.casefold()] > 1:
            free = (f"{stem}-{i}" for i in count(number))
            name = next(name for name in free if name.casefold() not in taken)
            taken.add(name.casefold())
        folders.append(out / name)
    return list(zip(photos, folders, strict=True))
