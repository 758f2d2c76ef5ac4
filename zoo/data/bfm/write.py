"""A folder in the layout of Unsup3D's `synface` from a Basel Face Model, with albedo and normals beside depth.

<root>/<split>/image/000007_image.png      8-bit RGB
<root>/<split>/depth/000007_depth.png      8-bit grey, 255 = 0.9 (near), 0 = 1.1 (background)
<root>/<split>/albedo/000007_albedo.png    8-bit RGB, 0 where there is no face
<root>/<split>/normal/000007_normal.png    8-bit RGB of (n + 1) / 2 in the camera frame, 0 where there is no face
<root>/bfm.json                            what the folder was made from
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import DataError, Interrupted
from ...heads.backgrounds import draw_backgrounds
from ...heads.dataset import BACKGROUNDS, Rendering
from ...heads.sampling import Bits
from ...resources import user_path
from ...runtime.files import atomic_write, naming, printable, tidy
from ...runtime.lock import locked
from ...runtime.progress import counting
from ..layouts import SPLITS
from ..store import need_empty, open_files
from ..synface import CHUNK, NATIVE, encode_depth, native_fov, split_counts
from ..transforms import load_image
from .faces import render_faces
from .model import FaceModel, read_model

VERSION = 1  # of the pictures; raise it whenever they change
RECORD = "bfm.json"
KINDS = ("depth", "albedo", "normal", "image")  # the image comes last: where it is, the others are
_BACKGROUND = 23  # a stream after those of the faces

Backdrop = Callable[[np.ndarray, str], np.ndarray | float]  # indices (B,) and split to (B, 3, S, S) in [0, 1]


def write_bfm(
    out: str | Path,
    model: str | Path,
    n: int = 4000,
    size: int = NATIVE,
    seed: int = 0,
    background: str = "random",
    *,
    expressions: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Render faces into the layout above. All of it appears at `out` at once.

    Until then it is in a hidden folder beside `out`, and the same call goes on where it was stopped. The same arguments
    write the same pixels.

    Args:
        out: Folder that does not exist yet or is empty.
        model: File of the Basel Face Model, see `read_model`.
        n: Number of images in the train split. Each other split gets an eighth of it, at least one, as in the published
            set.
        size: Pixels per side, of which the benchmark cuts out 170 / 256.
        seed: Makes faces, poses, lights and backgrounds; 0 or more.
        background: "random" for procedural pictures, "black", or a folder or zip of pictures to stand behind the faces.
        expressions: Whether faces of the models of 2017 and 2019 have random expressions.
        progress: Show a bar with the time left.

    Returns:
        What `bfm.json` says: model, arguments, and the number of images in each split.

    Raises:
        DataError: `out` holds files or an unfinished set of other arguments, an argument is out of range, or a file
            cannot be used.
        Interrupted: Ctrl-C; what is finished is kept.
        ZooError: Another process writes to this folder, or a package is missing.
    """
    out = user_path(out, DataError).absolute()
    if n < 1 or not 48 <= size <= 1024 or seed < 0:
        raise DataError(f"n={n}, size={size}, seed={seed}; use n of 1 or more, size of 48 to 1024, seed of 0 or more")
    need_empty(out)
    backdrop = _backdrop(background, seed, size)
    face = read_model(model, expressions=expressions)
    counts = split_counts(n, SPLITS)
    record = {
        "model": face.kind,
        "sha256": face.sha256,
        "size": size,
        "seed": seed,
        "background": background,
        "expressions": expressions,
        "version": VERSION,
        **counts,
    }
    place = out.parent / f".{out.name}.part"
    with locked(place):
        part = place / "set"
        _same_set(part, record)
        tidy(part)
        try:
            _write_missing(part, counts, progress, lambda i, split: _render(face, backdrop, i, seed, split, size))
        except KeyboardInterrupt:
            raise Interrupted("stopped; the same command goes on where it stopped", signal.SIGINT) from None
        if out.exists():
            out.rmdir()
        os.replace(part, out)
    return record


def _same_set(part: Path, record: dict[str, Any]) -> None:
    """Begin a set, or make sure that the unfinished one is of the same arguments."""
    path = part / RECORD
    if not path.is_file():
        atomic_write(path, json.dumps(record, indent=2))
        return
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError:
        found = None
    if found != record:
        theirs = found if isinstance(found, dict) else {}
        odd = ", ".join(key for key, value in record.items() if theirs.get(key) != value)
        where = printable(part.parent)
        raise DataError(f"{where} holds an unfinished set of other arguments ({odd}); repeat those, or delete it")


def _write_missing(
    part: Path, counts: dict[str, int], progress: bool, render: Callable[[np.ndarray, str], Rendering]
) -> None:
    with counting("rendering", sum(counts.values()), enabled=progress) as advance:
        for split, count in counts.items():
            for kind in KINDS:
                (part / split / kind).mkdir(parents=True, exist_ok=True)
            missing = np.array([i for i in range(count) if not _path(part, split, "image", i).is_file()], np.int64)
            advance(count - len(missing))
            for start in range(0, len(missing), CHUNK):
                indices = missing[start : start + CHUNK]
                _write_images(part, split, indices, render(indices, split))
                advance(len(indices))


def _render(face: FaceModel, backdrop: Backdrop, indices: np.ndarray, seed: int, split: str, size: int) -> Rendering:
    rendered = render_faces(face, indices, seed, split, size, native_fov(size))
    rendered.image[:] += (1 - rendered.coverage) * 2 * backdrop(indices, split)
    return rendered


def _write_images(part: Path, split: str, indices: np.ndarray, rendered: Rendering) -> None:
    pictures = {
        "depth": encode_depth(rendered.depth, rendered.mask)[:, 0],
        "albedo": _bytes(rendered.albedo),
        "normal": _bytes((rendered.normal + 1) / 2 * rendered.mask),
        "image": _bytes((rendered.image + 1) / 2),
    }
    for row, index in enumerate(indices):
        for kind in KINDS:
            path = _path(part, split, kind, int(index))
            half = path.with_name(f".{path.name}.tmp")
            with naming(path):
                Image.fromarray(pictures[kind][row]).save(half, format="PNG")
                os.replace(half, path)


def _bytes(values: np.ndarray) -> np.ndarray:
    """Pictures (B, 3, S, S) in [0, 1] as (B, S, S, 3) uint8."""
    return np.round(values.transpose(0, 2, 3, 1) * 255).clip(0, 255).astype(np.uint8)


def _path(part: Path, split: str, kind: str, index: int) -> Path:
    return part / split / kind / f"{index:06}_{kind}.png"


def _backdrop(background: str, seed: int, size: int) -> Backdrop:
    if background == "black":
        return lambda indices, split: 0.0
    if background == "random":
        return lambda indices, split: draw_backgrounds(indices, seed, split, size)
    if not user_path(background, DataError, "background=").exists():
        known = ", ".join(BACKGROUNDS)
        raise DataError(f"background={printable(background)}: use {known}, or a folder or zip of pictures that exists")
    files = open_files(background)

    def photographs(indices: np.ndarray, split: str) -> np.ndarray:
        numbers = [int(Bits(seed, split, _BACKGROUND, int(i)).uniform(1)[0] * len(files.names)) for i in indices]
        pictures = [load_image(files.read(files.names[k]), files.where(files.names[k]), size) for k in numbers]
        return np.stack([picture.numpy() for picture in pictures]) / np.float32(255)

    return photographs
