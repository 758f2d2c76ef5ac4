"""Faces on photographs, measured once: where eyes and nose lie, and how the head is turned.

The numbers of a folder or zip are one file in the cache folder. A row of it belongs to a picture of a name, size and
time, and not to a place in a list, so that added and changed pictures alone are measured. The file is written after
every thousand, so that a measurement that was stopped goes on. Pictures that could not be read are tried again at the
next start. The numbers hold for any size and framing, whose pictures are cut as they are read.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import DataError
from ..faces.align import eyes_and_nose, find_largest
from ..faces.pose import measure_poses
from ..runtime.files import printable
from ..runtime.launched import launch
from ..runtime.progress import counting
from .cache import keep, kept, place
from .pictures import BadImage, decode
from .shards.reader import is_url
from .store import Files

log = logging.getLogger(__name__)

VERSION = 1  # of the networks and formulas behind the numbers
_TOGETHER = 1000  # pictures that are measured before the cache is written
_COLUMNS = 6  # of its table of int64: `_identity`, and the bytes of eight float32


class Measured(NamedTuple):
    """The faces on N photographs.

    Attributes:
        names: Says which pictures these are; those without a face are left out.
        poses: (N, 2) pitch and yaw in radians, as in `zoo.Camera.pose`.
        places: (N, 3, 2) pixels of both eyes, beginning with the one on the left of the picture, and of the nose.
    """

    names: list[str]
    poses: Tensor
    places: Tensor


def measure(files: Files, names: Sequence[str], *, skip: bool = False) -> Measured:
    """Measure the largest face on each of the pictures, or take the numbers from the cache folder.

    Args:
        files: An open folder or zip.
        names: The pictures.
        skip: Whether pictures that cannot be read are left out like those without a face.

    Raises:
        BadImage: A picture cannot be read.
    """
    # Two folders may hold other pictures of one name, size and time, as unpacked archives do.
    root = str(files.root) if is_url(files.root) else str(files.root.resolve())
    path = place("faces", {"version": VERSION, "root": root})
    own, crowded = torch.tensor([_identity(files, name) for name in names]), list[str]()
    table, there = _found(_table(kept(path)), own)
    todo = table.isneginf().any(1)
    if launch().rank > 0:  # the others take what the first process leaves: all have the same
        todo &= ~there
    with counting("measuring faces", int(todo.sum())) as advance:
        for some in todo.nonzero()[:, 0].split(_TOGETHER):
            for i in some.tolist():
                table[i] = _row(files, names[i], crowded)
                advance(1)
            if len(some):
                _add(path, own[some], table[some])
    if crowded:
        what = "%d pictures show several faces, of which the largest is taken; the first is %s"
        log.warning(what, len(crowded), crowded[0])
    unread = table.isinf().any(1)
    for name in [names[i] for i in unread.nonzero()[:, 0].tolist()]:
        if not skip:
            decode(files.read(name), files.where(name))  # says what is wrong
    seen = table.isfinite().all(1)
    if not seen.all():
        counts = int((~seen & ~unread).sum()), int(unread.sum())
        what = "%s: left out of %d pictures: %d without a face, %d that cannot be read"
        log.warning(what, printable(files.root), len(names), *counts)
    shown = [name for name, good in zip(names, seen.tolist(), strict=True) if good]
    return Measured(shown, table[seen, :2], table[seen, 2:].unflatten(1, (3, 2)))


def _identity(files: Files, name: str) -> tuple[int, int]:
    """Two hashes that a picture is known by: of its name, and of what changes when it does."""
    try:
        stamp = files.stamp(name)
    except BadImage:  # gone since the folder was listed, as `_row` will find
        stamp = ""
    return _hash(name), _hash(stamp)


def _table(found: Tensor | None) -> Tensor:
    """The rows (M, 6) of a file of the cache, of which there are none if it has another form."""
    fits = found is not None and found.dtype == torch.int64 and found.shape[1:] == (_COLUMNS,)
    return found if found is not None and fits else torch.empty(0, _COLUMNS, dtype=torch.int64)


def _found(kept_rows: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """The rows (N, 8) of pictures, negative infinity where none is kept; and whether one is (N,)."""
    places = {name: i for i, name in enumerate(kept_rows[:, 0].tolist())}
    at = torch.tensor([places.get(name, -1) for name in own[:, 0].tolist()])
    there = at >= 0
    there[there.clone()] = kept_rows[at[there], 1] == own[there, 1]  # else another picture had this name
    rows = torch.full((len(own), 8), -torch.inf)
    rows[there] = kept_rows[at[there], 2:].contiguous().view(torch.float32)
    return rows, there


def _add(path: Path, own: Tensor, rows: Tensor) -> None:
    """Write rows (N, 8) beside those of other pictures.

    These are read once more, as another training may have measured other pictures of the folder meanwhile.
    """
    others = _table(kept(path, quiet=True))
    others = others[~torch.isin(others[:, 0], own[:, 0])]
    keep(path, torch.cat([others, torch.cat([own, rows.view(torch.int64)], 1)]))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big", signed=True)


def _row(files: Files, name: str, crowded: list[str]) -> Tensor:
    """Pose and places (8,) of the face on a picture; NaN if there is none, infinite if the picture cannot be used.

    Infinity is negative where the picture could not be read, and may be the next time. If it shows several faces, where
    it lies is added to `crowded`.
    """
    where = files.where(name)
    try:
        faces = find_largest(decode(files.read(name), where).on(white=False), where)
    except BadImage as error:
        return torch.full((8,), torch.inf if error.lasting else -torch.inf)
    except DataError:  # there is no face
        return torch.full((8,), torch.nan)
    if faces.counts[0] > 1:
        crowded.append(where)
    return torch.cat([measure_poses(faces.points)[0, :2], eyes_and_nose(faces.points)[0].flatten()])
