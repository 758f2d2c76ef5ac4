"""Photographs of people cut to the framing of a data set, so that methods can train on them or start from weights."""

import hashlib
import logging
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from torch import Tensor

from ..errors import DataError, unknown
from ..faces.align import FRAMINGS, Framing, align, find_mesh
from ..resources import user_path
from ..runtime.files import at_once, printable
from ..runtime.progress import counting
from .pictures import Picture, decode
from .store import Files, need_empty, open_files
from .transforms import to_uint8

log = logging.getLogger(__name__)
_LONGEST = 200  # bytes of a written name, of the 255 that file systems take


def faces_in(
    files: Files, advance: Callable[[], Any], names: Sequence[str] | None = None
) -> Iterator[tuple[str, Picture | None, Tensor | None]]:
    """Read pictures, all or those with the given names, and find the largest face on each.

    Yields:
        The name of a picture, the picture, and the points (1, 468, 3) of the face. The picture is None if it cannot be
        read, and the points if it shows no face; both is logged.
    """
    for name in files.names if names is None else names:
        where = files.where(name)
        picture, points = None, None
        try:
            picture = decode(files.read(name), where)
            points = find_mesh(picture.on(white=False), where)
        except DataError as error:
            log.warning("left out: %s", error)
        advance()
        yield name, picture, points


def align_photos(source: str | Path, out: str | Path, framing: Framing, size: int) -> tuple[int, int]:
    """Write the faces of photographs as PNG files, framed like the images of a data set.

    A photograph that cannot be used is left out, with a line that says why.

    Args:
        source: A folder or .zip of photographs.
        out: A new or empty folder, which appears when it is complete; files keep the names and folders that they have
            in the source, but for what is longer than 200 bytes.
        framing: Heads, ffhq or celeba.
        size: The side of the written pictures in pixels.

    Returns:
        How many were written, and how many left out.

    Raises:
        DataError: The source is missing or none of its pictures shows a face, `out` is not empty, or the framing is
            unknown.
    """
    out = user_path(out, DataError)
    if framing not in FRAMINGS:
        raise DataError(unknown("framing", framing, FRAMINGS))
    need_empty(out)
    files, written = open_files(source), 0
    folders = {_inside(parent).as_posix() for name in files.names for parent in PurePosixPath(name).parents}
    with at_once(out) as place, counting("aligning", len(files.names)) as advance:
        place.mkdir()
        for name, picture, points in faces_in(files, advance):
            if picture is None or points is None:
                continue
            target = _target(place, name, folders)
            target.parent.mkdir(parents=True, exist_ok=True)
            pixels = to_uint8(align(picture.on(white=False), points, framing, size))
            Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(target)
            written += 1
        if not written:
            raise DataError(
                f"{printable(files.root)}: none of {len(files.names)} pictures shows a face that can be used"
            )
    return written, len(files.names) - written


def _inside(path: PurePosixPath) -> PurePosixPath:
    """A path below a folder, never outside of it, whatever a zip calls its entries."""
    return PurePosixPath(*(_short(printable(part)) for part in path.parts if part not in ("/", "//", "..")))


def _short(part: str) -> str:
    """A name that file systems take also with another suffix behind it: escapes make names four times as long."""
    if len(part.encode()) <= _LONGEST:
        return part
    start, mark = part.encode()[: _LONGEST - 50].decode(errors="ignore"), hashlib.sha256(part.encode()).hexdigest()[:8]
    return f"{start}-{mark}{PurePosixPath(part).suffix[:10]}"


def _target(out: Path, name: str, folders: Container[str]) -> Path:
    """Where the face of a picture goes.

    A name that another picture or one of `folders` has gets another .png: a.jpg beside a.png becomes a.jpg.png.
    """
    path = _inside(PurePosixPath(name))
    target = path.with_suffix(".png")
    if target.as_posix() in folders or (out / target).exists():
        target = path.with_name(f"{path.name}.png")
    while target.as_posix() in folders or (out / target).exists():
        target = target.with_name(f"{target.name}.png")
    return out / target
