"""Commands that bring weights along and send them: `import`, `pull`, `push`."""

import json
from pathlib import Path
from typing import Annotated

import typer


def import_(
    method: Annotated[
        str, typer.Argument(help="pigan, shadegan, gof, graf, unsup3d, gan2shape, stylegan2; or ffhq, ffhq256.")
    ],
    file: Annotated[
        Path | None, typer.Argument(help="The authors' generator.pth, checkpoint030.pth, ...; see docs/importing.md.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the weights, e.g. my/pigan.celeba.")] = None,
    ema: Annotated[Path | None, typer.Option(help="Their ema.pth: the averaged weights that papers show.")] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="What they were trained on: bfm, cats, carla; syncar, cars, churches, ffhq. Default: celeba."
        ),
    ] = None,
    light: Annotated[
        Path | None, typer.Option(help="Their light_mvn.pth: the lights of the data (ShadeGAN, Unsup3D, GAN2Shape).")
    ] = None,
    view: Annotated[Path | None, typer.Option(help="GAN2Shape's view_mvn.pth: the viewpoints it starts from.")] = None,
    discriminator: Annotated[
        Path | None,
        typer.Option(help="Their discriminator.pth, for further training; GRAF's and StyleGAN2's file has it."),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(help="ShadeGAN with surface tracking, but not CelebA: the width in delta.txt; 0: whole rays."),
    ] = None,
    step: Annotated[int | None, typer.Option(help="In place of --delta: the step they were saved at.", min=0)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace weights that are in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Turn published weights into a folder that every command reads. No code in the file is run.

    Sizes come from the file; camera and samples come from the published curriculum of the data set. The tensors stay as
    they are, bit for bit. The authors' licence stays, too: see the folder's README.md.

    `ffhq` and `ffhq256` take no file: their weights come from the package random-face and go to the cache.

    \b
    Examples:
      zoo import shadegan generator.pth --ema ema.pth --light celeba_light_mvn.pth --out my/shadegan.celeba
      zoo import pigan generator.pth --ema ema.pth --dataset carla --out my/pigan.carla
      zoo sample file:my/shadegan.celeba --out grid.png
    """
    from ..config.fill import to_dict
    from ..errors import ConfigError
    from ..official import ffhq
    from ..official.importing import import_official
    from ..weights.places import CONVERTED

    if method in CONVERTED:
        given = [file, out, ema, dataset, light, view, discriminator, delta, step]
        if overwrite or any(value is not None for value in given):
            raise ConfigError(f"zoo import {method} takes no file, and of the options --json alone; leave the rest out")
        place = ffhq.folder(CONVERTED[method])
        typer.echo(
            json.dumps({"folder": str(place)}) if as_json else f"{place}\nnext: zoo sample {method} --out faces.png"
        )
        return
    if file is None or out is None:
        raise ConfigError(f"zoo import {method} needs the authors' file and --out: zoo import {method} FILE --out DIR")
    model = import_official(
        method,
        file,
        ema=ema,
        out=out,
        dataset=dataset or "celeba",
        light=light,
        view=view,
        discriminator=discriminator,
        delta=delta,
        step=step,
        overwrite=overwrite,
    )
    assert model.card is not None
    if as_json:
        facts = {"folder": str(out), "config": to_dict(model.config), "card": model.card.as_dict()}
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"{out}: {model.card.summary}, {model.card.parameters:,} parameters")
    for limit in model.card.limits[2:]:
        typer.echo(f"note: {limit}", err=True)
    typer.echo(f"next: zoo sample file:{out} --out grid.png  |  zoo info file:{out}")


def pull(
    repo: Annotated[str, typer.Argument(help="org/repo on the Hugging Face hub, or org/repo@revision.")],
    out: Annotated[
        Path | None, typer.Option(help="Also copy them to this new folder, e.g. $ZOO_WEIGHTS/shadegan.mine.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Fetch weights from the Hugging Face hub into the cache, and verify them: hashes, shapes, finite values.

    Afterwards they also load without a network, with ZOO_OFFLINE=1.

    \b
    Examples:
      zoo pull org/repo
      zoo pull org/repo@v1 --out my/shadegan.mine
    """
    import shutil

    from ..errors import WeightsError
    from ..hub import load
    from ..runtime.files import at_once, need_place
    from ..weights.files import discriminator_state
    from ..weights.places import name_of
    from ..weights.remote import FILES, download

    if out is not None:
        if out.exists():
            raise WeightsError(f"{out} exists: choose another folder for --out")
        need_place(out, folder=True)
    place, name = download(repo.removeprefix("hf:")), f"hf:{repo.removeprefix('hf:')}"
    model = load(f"file:{place}", device="cpu")
    discriminator_state(place)
    if model.card is None or not model.card.sha256:
        raise WeightsError(f"{name}: no card with a hash, so nobody can tell whether the weights are whole")
    if out is not None:
        with at_once(out) as whole:
            whole.mkdir()
            for file in FILES:
                if (place / file).is_file():
                    shutil.copyfile(place / file, whole / file)
        place, name = out, name_of(out)
    if as_json:
        typer.echo(json.dumps({"folder": str(place), "name": name, "card": model.card.as_dict()}))
    else:
        typer.echo(f"{place}\nnext: zoo info {name}  |  zoo sample {name} --out grid.png")


def push(
    name: Annotated[str, typer.Argument(help="A folder from zoo save, or a name: shadegan.mine.")],
    repo: Annotated[str, typer.Argument(help="org/repo on the Hugging Face hub; it is made if it is missing.")],
    dataset: Annotated[
        list[str] | None, typer.Option(help="The data set on the hub, org/name; may be repeated.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Only to a private repository, new or not.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be uploaded, and stop.")] = False,
) -> None:
    """Upload weights with their card to the Hugging Face hub, after saying which files go there.

    The licence of the weights on the card becomes that of the repository. Log in first: hf auth login, or set HF_TOKEN.

    \b
    Examples:
      zoo push my/shadegan.mine org/repo --dry-run
      zoo push my/shadegan.mine org/repo --private
    """
    from ..errors import WeightsError
    from ..hub import load
    from ..weights import remote
    from ..weights.cards import CARD, WEIGHTS, front
    from ..weights.files import discriminator_state
    from ..weights.places import locate

    place = locate(name)
    if not (place.is_dir() and (place / WEIGHTS).is_file()):
        raise WeightsError(f"{name}: no folder of saved weights; zoo save {name} --out DIR makes one of a run")
    model = load(f"file:{place}", device="cpu")  # nothing leaves this machine that would not load elsewhere
    discriminator_state(place)
    pipeline = "unconditional-image-generation" if model.interpolates else "image-to-3d"
    upload = remote.plan(place, repo, pipeline, dataset or [])
    typer.echo("\n".join(upload.lines()))
    if dry_run:
        text = upload.files[CARD]
        assert isinstance(text, bytes)
        typer.echo(front(text.decode()), nl=False)
        return
    typer.echo(f"{remote.push(upload, private=private)}\nnext: zoo pull {upload.repo}")
