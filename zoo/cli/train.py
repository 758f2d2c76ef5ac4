"""Commands that train: train, finetune."""

from pathlib import Path
from typing import Annotated

import typer

from .. import hub, registry
from ..config import recipes
from ..config.fill import to_dict
from ..config.schemas import RunConfig
from ..errors import ConfigError
from .options import Overrides, speak

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the whole configuration and stop.")]


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe or method name, or a YAML file.")],
    overrides: Overrides = None,
    dry_run: DryRun = False,
) -> None:
    """Train from scratch, go on with resume=auto, or start from weights with init=NAME.

    \b
    Examples:
      zoo train shadegan_heads32
      zoo train shadegan data=celeba data.root=/data/celeba trainer.devices=4
      zoo train shadegan_heads32 resume=auto
    """
    _run(recipes.load_run(recipe, overrides or []), dry_run)


def finetune(
    name: Annotated[str, typer.Argument(help="Weights to start from: what zoo.load takes.")],
    overrides: Overrides = None,
    dry_run: DryRun = False,
) -> None:
    """Train weights further on your own images: their recipe, a third of its learning rates.

    Example: zoo finetune shadegan data=folder data.root=my_faces
    """
    from ..systems.start import finetune as start_from

    _run(start_from(name, overrides or []), dry_run)


def save(
    run: Annotated[Path, typer.Argument(help="A run's folder, or one of its checkpoints.")],
    out: Annotated[Path, typer.Option(help="Folder to write; its name becomes the name of the weights.")],
    summary: Annotated[str, typer.Option(help="One line for the card.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace weights that lie there.")] = False,
) -> None:
    """Keep the averaged weights of a run, with their discriminator and a card, as zoo.load and the hub take them.

    Example: zoo save runs/shadegan_heads32-1a2b3c4d --out my/shadegan.heads32
    """
    from dataclasses import replace

    from ..systems.start import pair

    model, discriminator = pair(f"file:{run}")
    assert model.card is not None
    command = run / "command.txt" if run.is_dir() else run.parent.parent / "command.txt"
    lines = command.read_text(encoding="utf-8").splitlines() if command.is_file() else []
    card = replace(model.card, name=out.name, summary=summary, command=lines[0] if lines else "")
    hub.save(model, out, card=card, discriminator=discriminator, overwrite=overwrite)
    typer.echo(f"{out}\nnext: complete its README.md (data, licence, limits), then zoo info file:{out}")


def _run(run: RunConfig, dry_run: bool) -> None:
    if dry_run:
        import yaml

        typer.echo(yaml.safe_dump(to_dict(run), sort_keys=False), nl=False)
        return
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from ..systems.run import train as start
    from ..systems.start import initial

    speak()
    try:
        folder = start(run, *initial(run))
    except MisconfigurationException as error:
        asked = f"trainer.accelerator={run.trainer.accelerator} trainer.devices={run.trainer.devices}"
        raise ConfigError(f"{asked} cannot be had here; leave them out, or see zoo doctor ({error})") from error
    film = f"  |  zoo turntable {folder} --out film.mp4" if registry.resolve(run.generator["name"]).uses_camera else ""
    typer.echo(f"{folder}\nnext: zoo sample {folder} --out grid.png{film}")
