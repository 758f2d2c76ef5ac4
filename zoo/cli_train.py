"""Commands that train: train, finetune."""

import logging
import warnings
from typing import Annotated

import typer

from . import config, hub

Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value, e.g. data=folder data.root=DIR trainer.devices=4")
]
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
    _run(config.load_run(recipe, overrides or []), dry_run)


def finetune(
    name: Annotated[str, typer.Argument(help="Weights to start from: what zoo.load takes.")],
    overrides: Overrides = None,
    dry_run: DryRun = False,
) -> None:
    """Train weights further on your own images: their recipe, a third of its learning rates.

    Example: zoo finetune shadegan data=folder data.root=my_faces
    """
    _run(hub.finetune(name, overrides or []), dry_run)


def _run(run: config.RunConfig, dry_run: bool) -> None:
    if dry_run:
        import yaml

        typer.echo(yaml.safe_dump(config.to_dict(run), sort_keys=False), nl=False)
        return
    from .systems.train import train as start

    _speak()
    initial = hub.load(run.init, device="cpu") if run.init else None
    folder = start(run, initial, hub.discriminator(run.init) if run.init else None)
    typer.echo(f"{folder}\nnext: zoo sample {folder} --out grid.png  |  zoo turntable {folder} --out film.mp4")


def _speak() -> None:
    """Show what zoo says while it works; Lightning's own remarks only when something is wrong."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("zoo")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.pytorch")  # guesses about a training loop that is not its own
