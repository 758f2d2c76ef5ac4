"""Faces on photographs, measured once: where eyes and nose lie, and how the head is turned.

The numbers of every thousand pictures are one small file in the cache folder, so that a measurement that was stopped
goes on, and one picture more costs little. Pictures that could not be read are tried again at the next start. The
numbers hold for any size and framing, whose pictures are cut as they are read.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import DataError
from ..faces.align import eyes_and_nose, find_largest
from ..faces.pose import measure_poses
from ..runtime.files import printable
from ..runtime.launched import launch
from ..runtime.progress import counting
from .cache import on_disk
from .pictures import BadImage, decode
from .store import Files

log = logging.getLogger(__name__)

VERSION = 1  # of the networks and formulas behind the numbers
_TOGETHER = 1000  # pictures in a file of the cache


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
    parts, crowded = [], list[str]()
    with counting("measuring faces", len(names)) as advance:
        for start in range(0, len(names), _TOGETHER):
            chunk = names[start : start + _TOGETHER]
            key = {"version": VERSION, "files": [[name, files.stamp(name)] for name in chunk]}

            def rows(chunk: Sequence[str] = chunk) -> Tensor:
                out = []
                for name in chunk:
                    out.append(_row(files, name, crowded))
                    advance(1)
                return torch.stack(out)

            def mended(old: Tensor, chunk: Sequence[str] = chunk) -> Tensor | None:
                lost = old.isneginf().any(1).nonzero()[:, 0].tolist()
                if not lost or launch().rank > 0:  # the others take what the first process leaves: all have the same
                    return None
                new = old.clone()
                for i in lost:
                    new[i] = _row(files, chunk[i], crowded)
                return new

            parts.append(on_disk("faces", key, rows, mended))
    if crowded:
        what = "%d pictures show several faces, of which the largest is taken; the first is %s"
        log.warning(what, len(crowded), crowded[0])
    table = torch.cat(parts)
    unread = table.isinf().any(1)
    for name in [names[i] for i in unread.nonzero()[:, 0].tolist()]:
        if not skip:
            decode(files.read(name), files.where(name))  # says what is wrong
    seen = table.isfinite().all(1)
    if not seen.all():
        counts = int((~seen & ~unread).sum()), int(unread.sum())
        what = "%s: left out of %d pictures: %d without a face, %d that cannot be read"
        log.warning(what, printable(files.root), len(names), *counts)
    kept = [name for name, good in zip(names, seen.tolist(), strict=True) if good]
    return Measured(kept, table[seen, :2], table[seen, 2:].unflatten(1, (3, 2)))


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
