"""Pictures inside tar files, read one by one wherever they lie, on a disk or behind a URL.

A tar is not compressed, so a table of where each picture begins turns a folder of them into a data set with random
access. Order, shuffling, division among processes and resume are therefore those of single files, exactly; a library
that streams tars from beginning to end can only shuffle within a buffer, and loses that buffer when it is stopped.
"""

import io
import json
import os
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from ...runtime.files import printable
from ..pictures import UNREADABLE, BadImage

CATALOGUE, TABLE = "shards.json", "table.npy"
VERSION = 1
ROW = np.dtype([("shard", "<u4"), ("offset", "<i8"), ("bytes", "<u4"), ("pitch", "<f4"), ("yaw", "<f4")])
_AGAIN = "copy it again, or write the shards anew with zoo data shard"


def is_url(root: str | os.PathLike[str]) -> bool:
    """Whether a root is an address such as s3://bucket/faces, and not a path."""
    return "://" in str(root)


def has_shards(root: Path) -> bool:
    """Whether a folder was written by `zoo data shard`."""
    return (root / CATALOGUE).is_file()


def _ends(table: np.ndarray) -> np.ndarray:
    ends: np.ndarray = table["offset"] + table["bytes"].astype(np.int64)
    return ends


def _why(error: Exception) -> str:
    """What an error of any protocol says, in a few words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class Shards:
    """The pictures of a folder of shards, with the interface of `store.Files`; none of the shards is ever held open.

    Their names are `<split>/<number>`. The table takes 24 bytes for each picture, and is mapped into memory where it
    is a file.

    Args:
        root: A folder, or a URL whose protocol fsspec knows.

    Attributes:
        framing: The data set like whose images the pictures show faces; None if they are not known to.
        crop: Region of each picture that is used by default, see `transforms.crop_box`.

    Raises:
        DataError: The folder is not complete, or cannot be reached.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root: Any = str(root).rstrip("/") if is_url(root) else Path(root)
        self.remote = is_url(root)
        self.unreadable: list[str] = []
        self.skipped: dict[str, list[str]] = {}
        self._opened: tuple[int, Any, str] | None = None
        self._ahead: dict[str, bytes] = {}
        try:
            catalogue = json.loads(self._whole(CATALOGUE))
            splits = {split: list(shards) for split, shards in sorted(catalogue["splits"].items())}
            self._shards = [(str(s["name"]), int(s["bytes"])) for shards in splits.values() for s in shards]
            self.framing: str | None = catalogue["framing"]
            self.crop: str | int = catalogue["crop"]
            counts = {split: sum(int(s["images"]) for s in shards) for split, shards in splits.items()}
            version = catalogue["version"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{self.where(CATALOGUE)}: cannot be read ({error}); {_AGAIN}") from None
        if version != VERSION:
            raise DataError(f"{self.where(CATALOGUE)}: of version {version}, this is {VERSION}; write the shards anew")
        self._table = self._read_table(sum(counts.values()))
        self.names = [f"{split}/{number:09d}" for split, count in counts.items() for number in range(count)]
        self._check_shards()

    def _read_table(self, rows: int) -> np.ndarray:
        table: np.ndarray
        if not rows:
            raise DataError(f"{self.where(CATALOGUE)}: names no pictures; {_AGAIN}")
        try:
            if self.remote:
                table = np.load(io.BytesIO(self._whole(TABLE)), allow_pickle=False)
            else:
                table = np.load(self.root / TABLE, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.where(TABLE)}: cannot be read ({error}); {_AGAIN}") from None
        if table.dtype != ROW or table.shape != (rows,):
            raise DataError(f"{self.where(TABLE)}: has not the {rows} pictures of {CATALOGUE}; {_AGAIN}")
        sizes = np.array([size for _, size in self._shards], np.int64)
        known = table["shard"] < len(sizes)
        if not known.all() or (table["offset"] < 0).any() or (_ends(table) > sizes[table["shard"]]).any():
            raise DataError(f"{self.where(TABLE)}: does not fit the shards of {CATALOGUE}; {_AGAIN}")
        return table

    def _check_shards(self) -> None:
        """Refuse shards that are missing or cut short before hours of work; those behind a URL are seen when read."""
        for name, size in self._shards:
            if Path(name).name != name:
                raise DataError(f"{self.where(CATALOGUE)}: names a shard outside of its folder; {_AGAIN}")
            if self.remote:
                continue
            try:
                found = os.stat(self.root / name).st_size
            except OSError as error:
                raise DataError(f"{self.where(name)}: {error.strerror or error}; {_AGAIN}") from None
            if found != size:
                raise DataError(f"{self.where(name)}: has {found:,} bytes in place of {size:,}; {_AGAIN}")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None, "_ahead": {}}

    def read(self, name: str) -> bytes:
        """The bytes of one picture. Raises BadImage: the shard is gone, cut short or cannot be reached."""
        row = self._row(name)
        data = self._ahead.get(name)  # not taken out: a batch over the end of an epoch may ask for it twice
        if data is None:
            start, count = int(row["offset"]), int(row["bytes"])
            shard = self._shards[row["shard"]][0]
            try:
                if self.remote:
                    files, base = self._files()
                    data = files.cat_file(f"{base}/{shard}", start=start, end=start + count)
                else:
                    with open(self.root / shard, "rb", buffering=0) as file:
                        data = os.pread(file.fileno(), count, start)
            except Exception as error:  # of whatever protocol
                raise BadImage(self.where(name), UNREADABLE, f"{_why(error)}; is the shard still there?") from None
        if len(data) != row["bytes"]:
            raise BadImage(self.where(name), "shard cut short", f"{len(data)} of {row['bytes']} bytes; {_AGAIN}")
        return data

    def ahead(self, names: Sequence[str]) -> None:
        """Fetch pictures that will be read next: all at once where each costs a request, else not at all."""
        if not self.remote:
            return
        files, base = self._files()
        rows = [self._row(name) for name in names]
        starts = [int(row["offset"]) for row in rows]
        ends = [start + int(row["bytes"]) for start, row in zip(starts, rows, strict=True)]
        paths = [f"{base}/{self._shards[row['shard']][0]}" for row in rows]
        found = files.cat_ranges(paths, starts, ends, on_error="return")
        self._ahead = {name: data for name, data in zip(names, found, strict=True) if isinstance(data, bytes)}

    def where(self, name: str) -> str:
        """The shard of a picture and its number there, or the path of a file, as messages show it."""
        if "/" in name:
            row = self._row(name)
            return printable(f"{self.root}/{self._shards[row['shard']][0]}: {name.rpartition('/')[2]}")
        return printable(f"{self.root}/{name}")

    def stamp(self, name: str) -> str:
        """What changes when the picture does."""
        row = self._row(name)
        return f"{self._shards[row['shard']]} {row['offset']} {row['bytes']}"

    def text(self, name: str) -> str | None:
        """There are no text files beside the pictures."""
        return None

    def poses(self, names: Sequence[str]) -> Tensor:
        """The pitch and yaw (N, 2) in radians of faces that `zoo data shard` has measured, or the heads have."""
        rows = self._table[[bisect_left(self.names, name) for name in names]]
        return torch.from_numpy(np.stack([rows["pitch"], rows["yaw"]], 1))

    def _row(self, name: str) -> Any:
        return self._table[bisect_left(self.names, name)]

    def _files(self) -> tuple[Any, str]:
        """The file system of a URL, and the path in it. A fork opens its own: connections of its parent are dead."""
        if self._opened is None or self._opened[0] != os.getpid():
            import fsspec  # a second

            try:
                self._opened = (os.getpid(), *fsspec.core.url_to_fs(self.root))
            except (ValueError, ImportError) as error:  # an unknown protocol; one that needs a package
                raise DataError(f"data.root={printable(self.root)}: {error}") from None
        return self._opened[1], self._opened[2].rstrip("/")

    def _whole(self, name: str) -> bytes:
        try:
            data: bytes
            if not self.remote:
                data = (self.root / name).read_bytes()
                return data
            files, base = self._files()
            data = files.cat_file(f"{base}/{name}")
            return data
        except DataError:
            raise
        except Exception as error:  # of whatever protocol
            raise DataError(f"{self.where(name)}: cannot be read ({_why(error)}); zoo data shard writes it") from None
