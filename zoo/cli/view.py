"""The command that opens a page in the browser: `view`."""

import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError, WeightsError
from ..resources import user_path
from ..weights.cards import WEIGHTS
from .options import Device

if TYPE_CHECKING:
    from ..editing.reconstruction import Reconstruction
    from ..generators.base import Generator

RECONSTRUCTION = "reconstruction.safetensors"  # in the folder that zoo invert has written


def view(
    what: Annotated[str, typer.Argument(help="What zoo.load takes, a training run, or a folder of zoo invert.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="A file that zoo invert has written with the weights WHAT.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The next free one is taken if it is in use.", min=1, max=65535)] = 8080,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    threads: Annotated[int | None, typer.Option(help="Threads that draw; default: all cores.", min=1)] = None,
    device: Device = "auto",
) -> None:
    """Open a page in the browser: turn the face with the mouse, change its light, walk to another one.

    The page has sliders for all that the method can honour: seed and truncation, view, light, a walk to another seed.
    It shows colours, albedo, normals, depth, shading or the mesh; it takes a photograph of yours apart; and it hands
    out .png, .glb and .mp4. Pictures are small while something moves and sharp when it rests. Ctrl-C ends it.

    \b
    Examples:
      zoo view shadegan
      zoo view out                   # after: zoo invert shadegan.photos64 photo.jpg --out out
      zoo view runs/mine             # a run of zoo train
      zoo view runs/mine --from out/reconstruction.safetensors
      zoo view shadegan --no-open --port 9000 --threads 2
    """
    import torch

    from ..viewer.server import is_loopback, serve

    if threads is not None:
        torch.set_num_threads(threads)
    generator, photo = _subject(what, source, device)
    if not is_loopback(host):
        typer.echo(
            f"zoo: --host {host}: all who reach this machine can use the page and send it pictures, without a password",
            err=True,
        )
    try:
        with serve(generator, photo, host=host, port=port) as serving:
            if serving.port != port:
                typer.echo(f"port {port} is taken; using {serving.port}")
            typer.echo(f"{serving.url}  (Ctrl-C ends it)")
            sys.stdout.flush()
            if open_:
                webbrowser.open(serving.url)
            threading.Event().wait()
    except KeyboardInterrupt:  # how it is meant to end
        typer.echo("\nthe page is closed")


def _subject(what: str, source: Path | None, device: str) -> "tuple[Generator, Reconstruction | None]":
    """The generator before any tuning, and the reconstruction that is shown first."""
    from ..hub import load, load_reconstruction, shipped_model_of

    place = user_path(what, ConfigError)
    file = place / RECONSTRUCTION if place.is_dir() else place
    if source is None and (_holds_reconstruction(place) or _is_reconstruction(file)):
        what, source = shipped_model_of(file), file
    generator = load(what, device=device)
    return generator, None if source is None else load_reconstruction(source, generator)


def _holds_reconstruction(folder: Path) -> bool:
    """Whether a folder is that of zoo invert; if its reconstruction is damaged, reading it says so."""
    return (folder / RECONSTRUCTION).is_file() and not (folder / WEIGHTS).is_file()


def _is_reconstruction(file: Path) -> bool:
    from ..editing.reconstruction import model_of

    try:
        return file.suffix == ".safetensors" and bool(model_of(file))
    except WeightsError:
        return False
