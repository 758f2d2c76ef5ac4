"""What a visitor takes away or brings along: pictures, meshes, films, and objects found in photographs."""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..data.pictures import decode
from ..editing.inversion import invert
from ..editing.reconstruction import Reconstruction
from ..errors import DataError
from ..output.films import film
from ..output.sheets import png
from ..priors import pose_prior
from ..runtime.files import printable
from .state import MESH, State
from .worker import Breathe, Worker

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE, FILM, FRAMES, FPS = 256, 128, 60, 25
_CELLS = 128  # of a mesh, as `zoo export` makes it
_MOST = 64 * 2**20  # bytes of a photograph


class File(NamedTuple):
    """A file for the visitor's folder of downloads."""

    name: str
    data: bytes


def picture(worker: Worker, state: State, breathe: Breathe) -> File:
    """The map that is shown, as a .png of 256 pixels, or of the network's own size where no other shows more."""
    from PIL import Image

    size = max((s for s in worker.sizes if s <= PICTURE), default=worker.sizes[0])
    image = Image.fromarray(worker.picture(_mapped(state), size, final=True))
    return File(f"{_stem(worker, state)}.png", png(image, notes(worker, state)))


def mesh(worker: Worker, state: State, breathe: Breathe) -> File:
    """The object as a .glb."""
    return File(f"{_stem(worker, state)}.glb", worker.mesh(state, _CELLS, notes(worker, state)))


def turntable(worker: Worker, state: State, breathe: Breathe) -> File:
    """A film of the object that swings from side to side, as an .mp4."""
    generator = worker.generator
    reach, state = pose_prior(generator.scene.pose).yaw_reach, _mapped(state)

    def frames() -> "Iterator[Image]":
        from PIL import Image

        for i in range(FRAMES):
            breathe(i / FRAMES)
            yaw = reach * math.sin(2 * math.pi * i / FRAMES)
            turned = State(state.thing, replace(state.view, yaw=yaw), state.lamp, state.shown)
            yield Image.fromarray(worker.picture(turned, FILM, final=True))

    return File(f"{_stem(worker, state)}-turn.mp4", _mp4(frames(), notes(worker, state, reach)))


def walk(worker: Worker, state: State, breathe: Breathe) -> File:
    """A film of the whole walk from the object to the other seed, as an .mp4."""
    state = _mapped(state)
    size = FILM if worker.generator.is_3d else worker.sizes[-1]

    def frames() -> "Iterator[Image]":
        from PIL import Image

        for i in range(FRAMES):
            breathe(i / FRAMES)
            thing = replace(state.thing, share=i / (FRAMES - 1))
            there = State(thing, state.view, state.lamp, state.shown)
            yield Image.fromarray(worker.picture(there, size, final=True))

    said = notes(worker, state) | {"object": state.thing.walk}
    return File(f"{_stem(worker, state, state.thing.walk)}.mp4", _mp4(frames(), said, size))


def photograph(worker: Worker, data: bytes, name: str, align: bool, breathe: Breathe) -> Reconstruction:
    """Find the object, camera and light of a photograph.

    Args:
        worker: Has the generator.
        data: Is the file.
        name: Is what messages call it.
        align: Says whether to find the face first.
        breathe: Is called after each step of the search.

    Raises:
        Cancelled: The visitor has cancelled the search.
        DataError: The file cannot be used as a photograph.
    """
    name = printable(name)
    if len(data) > _MOST:
        raise DataError(f"{name}: {len(data):,} bytes; use a photograph of at most {_MOST:,}")
    return invert(worker.generator, decode(data, name), align=align, watch=breathe)


def notes(worker: Worker, state: State, reach: float | None = None) -> dict[str, str]:
    """What a file says about itself, so that it can be made again; `reach` is the yaw to which a turntable swings."""
    thing, view, lamp = state.thing, state.view, state.lamp
    yaw = f"{view.yaw:.3f}" if reach is None else f"{-reach:.3f} to {reach:.3f}"
    x, y, z = view.target
    return {
        "model": worker.generator.name, "object": thing.title, "psi": f"{thing.psi:g}",
        "view": f"yaw {yaw}, pitch {view.pitch:.3f}, zoom {view.zoom:.3f}, middle {x:.3f} {y:.3f} {z:.3f}",
        **({} if lamp is None else {
            "light": f"ambient {lamp.ambient:.2f}, diffuse {lamp.diffuse:.2f}, x {lamp.right:.2f}, y {lamp.up:.2f}"
        }),
        "map": state.shown,
    }  # fmt: skip


def _stem(worker: Worker, state: State, title: str = "") -> str:
    name = worker.generator.name or type(worker.generator).__name__.lower()
    shown = [] if state.shown in ("rgb", MESH) else [state.shown]
    return "-".join([name.replace(".", "-"), title or state.thing.title, *shown])


def _mapped(state: State) -> State:
    """The state with its picture in place of its mesh, which no film or .png shows."""
    return state if state.shown != MESH else State(state.thing, state.view, state.lamp)


def _mp4(frames: "Iterator[Image]", said: dict[str, str], size: int = FILM) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return film(frames, Path(folder) / "film.mp4", size=(size, size), fps=FPS, notes=said).read_bytes()
