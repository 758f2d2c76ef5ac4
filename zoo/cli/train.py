"""Commands that train, and that keep what was learned: `train`, `finetune`, `save`."""

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from .. import api, hub, registry
from ..config import recipes
from ..config.fill import to_dict
from ..config.schemas import RunConfig
from ..runtime.launched import launch
from ..weights.cards import Half
from .options import Overrides, RunSeed, seeded, speak

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the whole configuration and stop.")]


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe or method name, or a YAML file.")],
    overrides: Overrides = None,
    seed: RunSeed = None,
    dry_run: DryRun = False,
) -> None:
    """Train from scratch, continue a run with resume=auto, or start from weights with init=NAME.

    \b
    Examples:
      zoo train shadegan_heads32
      zoo train shadegan data=celeba data.root=/data/celeba trainer.devices=4
      zoo train shadegan_heads32 resume=auto
    """
    if dry_run:
        _print(recipes.load_run(recipe, seeded(overrides, seed)))
        return
    _speak()
    _tell(api.train(recipe, seeded(overrides, seed)))


def finetune(
    name: Annotated[str, typer.Argument(help="Weights to start from: what zoo.load takes.")],
    overrides: Overrides = None,
    seed: RunSeed = None,
    dry_run: DryRun = False,
) -> None:
    """Train weights further on your own images. A fifth of them is held back, and says when to stop.

    \b
    Examples:
      zoo finetune shadegan.photos32 data.root=my_faces
      zoo finetune shadegan.photos32 data.root=my_faces system.freeze=[mapping] trainer.max_kimg=5
    """
    if dry_run:
        from ..systems.start import finetune as configure

        _print(configure(name, seeded(overrides, seed)))
        return
    _speak()
    _tell(api.finetune(name, seeded(overrides, seed)))


def save(
    run: Annotated[Path, typer.Argument(help="A run's folder, or one of its checkpoints.")],
    out: Annotated[Path, typer.Option(help="Folder to write; its name becomes the name of the weights.")],
    summary: Annotated[str, typer.Option(help="One line for the card.")] = "",
    half: Annotated[Half, typer.Option(help="What to store in 16 bits, at half the size.")] = "none",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace weights that are there.")] = False,
) -> None:
    """Keep the averaged weights of a run, with their discriminator and a card, as zoo.load and the hub take them.

    Example: zoo save runs/shadegan_heads32-1a2b3c4d --out my/shadegan.heads32
    """
    from dataclasses import replace

    from ..systems.start import pair
    from ..weights.places import name_of

    model, discriminator = pair(f"file:{run}")
    assert model.card is not None
    command = run / "command.txt" if run.is_dir() else run.parent.parent / "command.txt"
    lines = command.read_text(encoding="utf-8").splitlines() if command.is_file() else []
    known = model.card  # that of RUN/best, for one, says already how it was made
    made_by = lines[0] if lines else known.command
    card = replace(known, name=out.name, summary=summary or known.summary, command=made_by)
    hub.save(model, out, card=card, discriminator=discriminator, half=half, overwrite=overwrite)
    name = name_of(out)
    typer.echo(f"{out}\nname: {name}\nnext: complete its README.md (data, licence, limits), then zoo info {name}")


def _speak() -> None:
    speak()
    if launch().rank > 0:  # of several processes, the first one speaks
        logging.getLogger("zoo").setLevel(logging.ERROR)


def _print(run: RunConfig) -> None:
    import yaml

    typer.echo(yaml.safe_dump(to_dict(run), sort_keys=False), nl=False)


def _tell(folder: Path) -> None:
    """Say where the run is, which of its weights were best if images were held back, and what to do with them.

    Of several processes, the first says it.
    """
    if launch().rank > 0:
        return
    typer.echo(folder)
    method, place = json.loads((folder / "config.json").read_text("utf-8"))["generator"]["name"], folder
    if (folder / "best").is_dir():
        place = folder / "best"
        first, best = hub.card(f"file:{place}").metrics
        typer.echo(f"best: {place} ({best.name}, {best.protocol}: {first.value:.4g} > {best.value:.4g})")
    film = f"  |  zoo turntable {place} --out film.mp4" if registry.resolve(method).uses_camera else ""
    typer.echo(f"next: zoo sample {place} --out grid.png{film}")
