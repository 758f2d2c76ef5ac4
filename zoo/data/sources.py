"""Image data sets by name: files on disk in one of the `layouts`, or the embedded heads."""

import logging
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import DataError, unknown
from ..faces.align import Framing, cut_face
from ..resources import plugins
from ..runtime.files import printable
from .layouts import LAYOUTS, SPLITS, Layout
from .measured import Measured, measure
from .pictures import BadImage, decode
from .shards.reader import Shards
from .store import Files, open_files
from .transforms import Resample, load_image, to_float, to_uint8

log = logging.getLogger(__name__)

OnError = Literal["stop", "skip"]
_AGAIN = 60.0  # seconds after which a file that could not be read is tried again


class NoSplit(DataError):
    """The data set exists, but has no such split."""


class Source(Protocol):
    """A map-style data set of square RGB images, all of one size S."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Tensor:
        """The image (3, S, S) uint8.

        Raises:
            DataError: It cannot be read.
        """
        ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The item `{"image": (3, S, S) float32 in [-1, 1], "index": int}`; the index is that of the image given.

        Raises:
            DataError: It cannot be read.
        """
        ...


class ImageSource(Dataset[dict[str, Any]]):
    """Picture files read on demand.

    Args:
        files: An open folder or zip.
        names: The files to use; the index of an image is its place in this list.
        size: Side S in pixels.
        crop: Region of each picture, see `transforms.crop_box`.
        resample: See `transforms.load_image`.
        on_error: "stop" raises at the first bad file. "skip" gives the next good one in its place (the first follows
            the last), and warns once.
        white_back: Whether transparent pictures stand on white instead of black.

    Attributes:
        bad: When each bad file that this process has met may be tried again, in seconds of `time.monotonic`; never, if
            it is damaged.
        poses: (N, 2) pitch and yaw of the faces in radians, if they are known.
    """

    poses: Tensor | None = None

    def __init__(
        self,
        files: Files,
        names: list[str],
        size: int,
        *,
        crop: str | int = "square",
        resample: Resample = "lanczos",
        on_error: OnError = "stop",
        white_back: bool = False,
    ) -> None:
        if on_error not in ("stop", "skip"):
            raise DataError(unknown("data.on_error", on_error, ("stop", "skip")))
        self.files, self.names, self.size = files, names, size
        self.crop, self.on_error, self.white_back = crop, on_error, white_back
        self.resample: Resample = resample
        self.bad: dict[int, float] = {}
        self._warned = False

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int) -> Tensor:
        """The image (3, S, S) uint8 of exactly this file, whatever `on_error` says.

        Raises:
            BadImage: The file cannot be used.
        """
        name = self.names[index]
        where = self.files.where(name)
        data = self.files.read(name)
        return load_image(data, where, self.size, self.crop, self.resample, white_back=self.white_back)

    def read(self, index: int) -> Tensor:
        """The image (3, S, S) uint8 of this file, or with "skip" of the next good one.

        Raises:
            DataError: See `find`.
        """
        return self.find(index)[0]

    def find(self, index: int) -> tuple[Tensor, int]:
        """The image (3, S, S) uint8 of this file, or with "skip" of the next good one, and the index of that file.

        Raises:
            DataError: The file is bad and `on_error` is "stop", or no file is good.
        """
        for step in range(len(self)):
            at = (index + step) % len(self)
            if self.bad.get(at, 0.0) > time.monotonic():
                continue
            try:
                return self.load(at), at
            except BadImage as error:
                if self.on_error == "stop":
                    hint = "data.on_error=skip passes over bad files, `zoo data check` lists them all"
                    raise DataError(f"{error} ({hint})") from error
                if not self._warned:
                    log.warning("skipping bad images, the first is %s; `zoo data check` lists them all", error)
                    self._warned = True
                self.bad[at] = math.inf if error.lasting else time.monotonic() + _AGAIN
        raise DataError(f"all {len(self)} images in {printable(self.files.root)} are bad; `zoo data check` says why")

    def read_batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """The images (B, 3, S, S) uint8, by one request where they are read through a network; and their indices (B,).

        These differ from what was asked for where bad files are skipped.

        Raises:
            DataError: See `find`.
        """
        if isinstance(self.files, Shards):
            self.files.ahead([self.names[index] for index in indices])
        images, found = zip(*map(self.find, indices), strict=True)
        return torch.stack(images), torch.tensor(found)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, found = self.find(index)
        return {"image": to_float(image), "index": found}


class FaceSource(ImageSource):
    """Faces on photographs, cut like the images of a data set as they are read.

    Args:
        files: An open folder or zip.
        faces: The pictures and their faces.
        size: Side S in pixels.
        framing: The data set, see `faces.align.frame_points`.
        on_error, white_back: See `ImageSource`.

    """

    poses: Tensor

    def __init__(
        self,
        files: Files,
        faces: Measured,
        size: int,
        framing: Framing,
        *,
        on_error: OnError = "stop",
        white_back: bool = False,
    ) -> None:
        super().__init__(files, faces.names, size, on_error=on_error, white_back=white_back)
        self.framing, self.poses, self._places = framing, faces.poses, faces.places

    def load(self, index: int) -> Tensor:
        where = self.files.where(self.names[index])
        picture = decode(self.files.read(self.names[index]), where).on(self.white_back)
        own = slice(index, index + 1)
        return to_uint8(cut_face(picture, self.poses[own], self._places[own], self.framing, self.size))


class HeadSource(Dataset[dict[str, Any]]):
    """The images of the embedded heads without their geometry, under the options of `heads.dataset.HeadDataset`.

    Raises:
        DataError: `size` is outside 32..256, or another argument is out of range.
    """

    def __init__(self, split: str, **options: Any) -> None:
        from ..heads.dataset import HeadDataset  # its compiler takes a second to import

        try:
            self.heads = HeadDataset(split, **options)
        except ValueError as error:
            raise DataError(str(error)) from error

    def __len__(self) -> int:
        return len(self.heads)

    def read(self, index: int) -> Tensor:
        """The image (3, S, S) uint8."""
        return self.read_batch([index])[0][0]

    def read_batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """The images (B, 3, S, S) uint8, much faster than one by one, and their indices (B,)."""
        return to_uint8(self.heads.batch(indices)["image"]), torch.tensor(indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": to_float(self.read(index)), "index": index}


def names() -> list[str]:
    """Names of the data sets that `open_source` knows."""
    return ["heads", *LAYOUTS, *plugins()["zoo.layouts"]]


def layout(name: str) -> Layout:
    """The layout of a data set on disk: ours, or a plug-in's.

    Raises:
        DataError: The name is unknown; the message offers the nearest one.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    if name == "heads":
        raise DataError("data=heads: the heads are drawn and lie in no files; name how yours lie, such as folder")
    if name not in plugins()["zoo.layouts"]:
        raise DataError(unknown("data set", name, names()))
    found: Layout = plugins()["zoo.layouts"][name].load()
    return found


def open_layout(name: str, root: str | Path | None) -> tuple[Files, Layout]:
    """The files of a data set, and how they lie there; shards know that themselves, whatever they were made of.

    Raises:
        DataError: The name is unknown, the root is missing, nothing is there, or it holds no images.
    """
    chosen = layout(name)
    if root is None:
        raise DataError(f"data.root is missing: data={name} needs data.root=<folder or zip>")
    files = open_files(root)
    if isinstance(files, Shards):
        chosen = replace(layout("shards"), crop=files.crop)
    return files, chosen


def open_source(
    name: str,
    root: str | Path | None = None,
    split: str = "train",
    size: int = 64,
    *,
    crop: str | int | None = None,
    align: Framing | Literal["none"] = "none",
    resample: Resample = "lanczos",
    on_error: OnError = "stop",
    white_back: bool = False,
    limit: int | None = None,
    holdout: float = 0.0,
    length: int = 8000,
    seed: int = 0,
    background: str = "black",
    highlights: bool = False,
    jitter: bool = False,
) -> ImageSource | HeadSource:
    """Open one split of a data set.

    Args:
        name: One of `names()`.
        root: Folder, zip file, or URL of shards; "heads" needs none.
        split: "train", "val" or "test".
        size: Side of the images in pixels.
        crop: Region of each picture, see `transforms.crop_box`; by default the layout's own.
        align: The data set whose framing the faces on photographs get, in place of `crop`; pictures without a face are
            left out. Shards must have been written with it.
        resample: See `transforms.load_image`.
        on_error: See `ImageSource`; folders that cannot be listed count as bad files.
        white_back: Whether transparent pictures stand on white instead of black.
        limit: Number of images to use, from the first on; by default all.
        holdout: Share of the images of "train", evenly spaced, that are left out there and are the split "val" instead.
            The heads, which have such a split, ignore it.
        length: Number of different heads.
        seed: Makes the heads.
        background, highlights, jitter: How the heads are drawn, see `HeadDataset`.

    Raises:
        NoSplit: The data set has no images in this split.
        DataError: The name or the split is unknown, the root is missing, nothing is there, it holds no images, or a
            folder cannot be listed.
    """
    if split not in SPLITS:
        raise DataError(unknown("split", split, SPLITS))
    if size < 4:
        raise DataError(f"data.size={size} is too small: use at least 4 pixels")
    if limit is not None and limit < 1:
        raise DataError(f"data.limit={limit} leaves no images: use at least 1, or leave it out")
    if name == "heads":
        return HeadSource(
            split,
            size=size,
            length=min(length, limit or length),
            seed=seed,
            background=background,
            highlights=highlights,
            jitter=jitter,
        )
    files, chosen = open_layout(name, root)
    if files.unreadable and on_error == "stop":
        raise DataError(f"{files.where(files.unreadable[0])}: folder cannot be listed; check its permissions")
    if holdout and split != "test":
        whole = chosen.select(files, "train")[:limit]
        found = [
            name for i, name in enumerate(whole) if (split == "val") == (int((i + 1) * holdout) > int(i * holdout))
        ]
        if whole and not found:
            fix = "give more pictures, or hold a larger share back"
            raise NoSplit(f"data.holdout={holdout}: holds back none of {len(whole)} pictures; {fix}")
    else:
        found = chosen.select(files, split)[:limit]
    if not found:
        raise NoSplit(f"data.root={printable(files.root)} has no {split!r} images in the layout of data={name}")
    if align != "none" and isinstance(files, Shards):
        if files.framing != align:
            has = (
                f"hold faces framed like {files.framing}" if files.framing else "were not framed when they were written"
            )
            raise DataError(f"data.align={align}: the shards of {printable(files.root)} {has}; use data.align=none")
        framed = ImageSource(files, found, size, on_error=on_error, white_back=white_back)
        framed.poses = files.poses(found)
        return framed
    if align != "none":
        faces = measure(files, found, skip=on_error == "skip")
        if not faces.names:
            raise DataError(f"{printable(files.root)}: none of {len(found)} pictures shows a face; use data.align=none")
        return FaceSource(files, faces, size, align, on_error=on_error, white_back=white_back)
    crop = chosen.crop if crop is None else crop
    return ImageSource(files, found, size, crop=crop, resample=resample, on_error=on_error, white_back=white_back)
