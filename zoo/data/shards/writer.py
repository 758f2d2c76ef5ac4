"""`zoo data shard`: pictures into tar files, in the convention of WebDataset.

Each picture is `<number>.<suffix>`, with `<number>.json` behind it; so WebDataset and other readers of tars take the
same files, and need neither of the two small files beside them that give zoo random access.
"""

import io
import json
import logging
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from ...config.recipes import group, group_file
from ...errors import DataError
from ...faces.align import Framing
from ...resources import user_path
from ...runtime.files import at_once, printable
from ...runtime.progress import counting
from ..layouts import SPLITS
from ..pictures import BadImage, decode
from ..sources import FaceSource, HeadSource, ImageSource, NoSplit, layout, open_source
from ..store import need_empty
from ..transforms import to_uint8
from .reader import CATALOGUE, ROW, TABLE, VERSION, has_shards, is_url

log = logging.getLogger(__name__)
_BLOCK = 512  # bytes of a header in a tar
_MB = 10**6
_TOGETHER = 50  # heads drawn at once
_JPEG = (".jpeg", ".jpe", ".jfif", ".mpo")


class _Sample(NamedTuple):
    """A picture as it is stored; no `data` if it cannot be used."""

    suffix: str
    data: bytes
    notes: dict[str, Any]


def write_shards(
    source: str,
    out: str | Path,
    *,
    name: str = "folder",
    like: Framing | None = None,
    size: int | None = None,
    n: int = 8000,
    seed: int = 0,
    mb: int = 64,
    progress: bool = True,
) -> dict[str, int]:
    """Write the splits of a data set as shards. A picture that cannot be used is left out, with a line that says why.

    Args:
        source: A folder or zip of pictures, or "heads".
        out: A new or empty folder, which appears when it is complete.
        name: The layout of the source, which knows its splits and its crop.
        like: The data set whose framing faces on photographs get; their poses are stored, too. Pictures without a face
            are left out.
        size: Side in pixels of the stored pictures, which are then what training at that size would read, as PNG, with
            the backdrop of the data set's scene; by default files are stored as they are, and faces and heads get 128
            and 64 px.
        n: Number of heads in the train split; the others have a sixteenth each.
        seed: Makes the heads.
        mb: Size of a shard in millions of bytes, about.
        progress: Show a progress bar.

    Returns:
        The number of pictures in each split, of `shards`, and of those `left_out`.

    Raises:
        DataError: The source is missing, is one of shards or has no pictures that can be used, or `out` is not empty.
        OSError: The disk is full.
    """
    if is_url(out):
        raise DataError(f"{printable(out)}: write to a folder, then copy that with the tool of your object store")
    if source == "heads" and like:
        raise DataError(f"--like {like}: the heads are framed already; leave it out")
    out = user_path(out, DataError)
    need_empty(out)
    splits = _heads(size or 64, n, seed) if source == "heads" else _pictures(source, name, like, size)
    total = sum(_length(split, opened, name) for split, opened in splits.items())
    with at_once(out) as place, counting("writing", total, enabled=progress) as advance:
        place.mkdir()
        catalogue: dict[str, list[dict[str, Any]]] = {}
        table: list[tuple[int, int, int, float, float]] = []
        for split, opened in sorted(splits.items()):
            writer = _Writer(place, split, mb * _MB, table, sum(map(len, catalogue.values())))
            for sample in _samples(opened, as_is=size is None):
                if sample:
                    writer.add(sample)
                advance()
            writer.close()
            if writer.shards:
                catalogue[split] = writer.shards
        if not table:
            raise DataError(f"{printable(source)}: none of {total} pictures can be used")
        np.save(place / TABLE, np.array(table, ROW))
        framing = "heads" if source == "heads" else like
        crop = layout(name).crop if source != "heads" and not (like or size) else "square"
        text = json.dumps({"version": VERSION, "framing": framing, "crop": crop, "splits": catalogue}, indent=1)
        (place / CATALOGUE).write_text(text, "utf-8")
    counts = {split: sum(shard["images"] for shard in shards) for split, shards in catalogue.items()}
    return {**counts, "shards": sum(map(len, catalogue.values())), "left_out": total - len(table)}


def _heads(size: int, n: int, seed: int) -> dict[str, ImageSource | HeadSource]:
    lengths = {"train": n, "val": max(1, n // 16), "test": max(1, n // 16)}
    return {split: HeadSource(split, size=size, length=length, seed=seed) for split, length in lengths.items()}


def _pictures(source: str, name: str, like: Framing | None, size: int | None) -> dict[str, ImageSource | HeadSource]:
    if name == "heads":
        raise DataError("--name heads: the heads are a source of their own; write zoo data shard heads")
    if is_url(source) or has_shards(user_path(source, DataError)):
        raise DataError(f"{printable(source)}: these are shards already; copy them, or give the pictures themselves")
    side = size or (128 if like else 64)
    found: dict[str, ImageSource | HeadSource] = {}
    for split in SPLITS:
        try:
            opened = open_source(
                name, source, split, side, align=like or "none", on_error="skip", white_back=_white_back(name)
            )
        except NoSplit:
            continue
        assert isinstance(opened, ImageSource)
        if opened.files.unreadable:
            raise DataError(f"{opened.files.where(opened.files.unreadable[0])}: folder cannot be listed")
        found[split] = opened
    if {"val", "test"} <= found.keys() and _names(found["val"]) == _names(found["test"]):
        del found["val"]  # layouts that have no such split show the test split in its place; readers do that again
    return found


def _white_back(name: str) -> bool:
    """Whether transparent pictures of this data set stand on white in training; a plug-in's set may have no file."""
    scene = group_file("data", name).get("scene", {}) if name in group("data") else {}
    return bool(scene.get("white_back", False))


def _names(source: ImageSource | HeadSource) -> list[str]:
    return source.names if isinstance(source, ImageSource) else []


def _length(split: str, source: ImageSource | HeadSource, name: str) -> int:
    """The number of pictures with those that show no face."""
    if isinstance(source, FaceSource):
        return len(layout(name).select(source.files, split))
    return len(source)


def _samples(source: ImageSource | HeadSource, *, as_is: bool) -> Iterator[_Sample | None]:
    """The pictures of a source in order; None for those that cannot be used."""
    if isinstance(source, HeadSource):
        for start in range(0, len(source), _TOGETHER):
            batch = source.heads.batch(list(range(start, min(start + _TOGETHER, len(source)))))
            for image, pose, light in zip(to_uint8(batch["image"]), batch["pose"], batch["light"], strict=True):
                yield _Sample("png", _png(image), {"pose": pose.tolist(), "light": light.tolist()})
        return
    for index, name in enumerate(source.names):
        notes: dict[str, Any] = {"name": printable(name)}
        try:
            if isinstance(source, FaceSource):
                notes["pose"] = source.poses[index].tolist()
            if as_is and not isinstance(source, FaceSource):
                data = source.files.read(name)
                decode(data, source.files.where(name))
                suffix = PurePosixPath(name).suffix.lower()
                yield _Sample("jpg" if suffix in _JPEG else suffix.lstrip("."), data, notes)
            else:
                yield _Sample("png", _png(source.load(index)), notes)
        except BadImage as error:
            log.warning("left out: %s", error)
            yield None


def _png(pixels: Tensor) -> bytes:
    """A picture (3, S, S) uint8 as a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(buffer, "PNG")
    return buffer.getvalue()


class _Writer:
    """The shards of a split; pictures are counted through all of them.

    Attributes:
        shards: Name, size and number of pictures of those that are finished.
    """

    def __init__(self, folder: Path, split: str, limit: int, table: list[Any], first: int) -> None:
        self.folder, self.split, self.limit, self.table, self.first = folder, split, limit, table, first
        self.shards: list[dict[str, Any]] = []
        self._tar: tarfile.TarFile | None = None
        self._count = self._before = 0

    def add(self, sample: _Sample) -> None:
        if self._tar is None:
            path = self.folder / f"{self.split}-{len(self.shards):06d}.tar"
            self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        key = f"{self._count:09d}"
        offset = self._tar.offset + _BLOCK
        self._member(f"{key}.{sample.suffix}", sample.data)
        self._member(f"{key}.json", json.dumps(sample.notes).encode())
        pitch, yaw = sample.notes.get("pose", (np.nan, np.nan))
        self.table.append((self.first + len(self.shards), offset, len(sample.data), pitch, yaw))
        self._count += 1
        if self._tar.offset >= self.limit:
            self.close()

    def _member(self, name: str, data: bytes) -> None:
        assert self._tar is not None
        entry = tarfile.TarInfo(name)  # of no time and nobody, so that the same pictures make the same bytes
        entry.size = len(data)
        self._tar.addfile(entry, io.BytesIO(data))

    def close(self) -> None:
        """Finish the shard that is open."""
        if self._tar is not None:
            self._tar.close()
            path = Path(str(self._tar.name))
            images = self._count - self._before
            self.shards.append({"name": path.name, "bytes": path.stat().st_size, "images": images})
            self._tar, self._before = None, self._count
