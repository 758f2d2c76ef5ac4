"""Unsup3D's `synface` layout: a writer that fills it with the embedded heads, and a reader, also of the published set.

    <root>/<split>/image/000007_image.png     8-bit RGB
    <root>/<split>/depth/000007_depth.png     8-bit grey, 255 = 0.9 (near), 0 = 1.1 (background)

The benchmark cuts the middle 170 of 256 pixels out of every picture and treats the cut as seen by a camera with a field
of view of 10 degrees.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import DataError
from ..heads.model import HeadModel
from ..heads.render import Rendering, render_heads
from ..heads.sampling import sample_heads, sample_lights, sample_poses
from ..resources import user_path
from ..runtime.files import at_once
from ..runtime.progress import track
from .layouts import SPLITS, synface
from .pictures import BadImage, decode
from .store import need_empty, open_files
from .transforms import crop_box

NEAR, FAR = 0.9, 1.1
CROP, NATIVE = 170, 256
CROP_FOV = 10.0  # degrees
CHUNK = 8  # images rendered at once


def decode_depth(value: Tensor) -> Tensor:
    """Turn grey values in [0, 1] into depth: 1 is `NEAR`, 0 is `FAR`."""
    d = (1 - value) * 2 - 1
    return (1 + d) / 2 * FAR + (1 - d) / 2 * NEAR


def encode_depth(depth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Turn depth into uint8 grey values; outside the mask they are 0, the farthest."""
    value = ((FAR - depth) / (FAR - NEAR)).clip(0, 1)
    return np.where(mask > 0, np.round(value * 255), 0).astype(np.uint8)


def write_synface(out: str | Path, n: int, size: int = NATIVE, seed: int = 0, splits: Sequence[str] = SPLITS) -> Path:
    """Render heads into the layout above. All of it appears at `out` at once, or nothing does.

    The same arguments write the same pixels.

    Args:
        out: Folder that does not exist yet or is empty.
        n: Number of images in the train split. Each other split gets an eighth of it, at least one, as in the published
            set.
        size: Pixels per side, of which the benchmark cuts out 170 / 256.
        seed: Makes the heads.
        splits: The splits to write.

    Returns:
        The folder.

    Raises:
        DataError: `out` holds files, or an argument is out of range.
    """
    out = user_path(out, DataError)
    unknown = [split for split in splits if split not in SPLITS]
    if unknown:
        raise DataError(f"write_synface: split {unknown[0]!r} does not exist; use {', '.join(SPLITS)}")
    if n < 1 or size < 48:
        raise DataError(f"write_synface: n={n}, size={size}; use n of 1 or more and size of 48 or more")
    need_empty(out)
    counts = split_counts(n, splits)
    starts = [(split, start) for split, count in counts.items() for start in range(0, count, CHUNK)]
    with at_once(out) as part:
        for split, start in track(starts, "rendering"):
            indices = np.arange(start, min(start + CHUNK, counts[split]))
            _write_images(part / split, indices, _render(indices, size, seed, split))
    return out


def split_counts(n: int, splits: Sequence[str]) -> dict[str, int]:
    """Images in each split: `n` for "train", and an eighth of it, at least one, for each other."""
    return {split: n if split == "train" else max(1, n // 8) for split in splits}


def native_fov(size: int) -> float:
    """Field of view in degrees of whole pictures with `size` pixels per side.

    The first and last pixel of the cut then look along the edges of the benchmark's camera.
    """
    crop = round(size * CROP / NATIVE)
    half_width = math.tan(math.radians(CROP_FOV / 2)) * (size - 1) / (crop - 1)
    return round(math.degrees(2 * math.atan(half_width)), 9)


def _render(indices: np.ndarray, size: int, seed: int, split: str) -> Rendering:
    heads = sample_heads(indices, seed, split, HeadModel.load())
    poses, lights = sample_poses(indices, seed, split), sample_lights(indices, seed, split)
    return render_heads(heads, poses, lights, size, native_fov(size))


def _write_images(folder: Path, indices: np.ndarray, rendered: Rendering) -> None:
    for kind in ("image", "depth"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    pictures = np.round((rendered.image.transpose(0, 2, 3, 1) + 1) * 127.5).astype(np.uint8)
    depths = encode_depth(rendered.depth, rendered.mask)[:, 0]
    for index, picture, depth in zip(indices, pictures, depths, strict=True):
        Image.fromarray(picture).save(folder / "image" / f"{index:06}_image.png")
        Image.fromarray(depth).save(folder / "depth" / f"{index:06}_depth.png")


class SynfaceDataset(Dataset[dict[str, Tensor]]):
    """Images with true depth from a folder or zip in the layout above, in the order of their names.

    An item is a dict: image (3, S, S) in [-1, 1]; depth (1, S, S) in [0.9, 1.1]; mask (1, S, S), 1 where depth < 1.1.

    Args:
        root: Folder or zip that holds the splits.
        split: The split to read.
        size: Pixels per side after cut and resize.
        crop: Side of the centre cut in pixels; None is 170 / 256 of each picture, which is 170 for the published set.
        on_error: "stop" raises at the first bad picture; "skip" makes `items` leave it out.

    Attributes:
        skipped: The paths that `items` has left out.

    Raises:
        DataError: The split is missing or empty, or a picture lacks its depth.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        size: int = 64,
        crop: int | None = None,
        on_error: Literal["stop", "skip"] = "stop",
    ) -> None:
        self.files = open_files(root)
        self.images = synface(self.files, split)
        if not self.images:
            raise DataError(f"SynfaceDataset: {self.files.where(f'{split}/image')} does not exist or holds no pictures")
        self.size, self.crop, self.on_error = size, crop, on_error
        self.skipped: list[str] = []
        depths = {_key(name): name for name in self.files.names}
        self.depths = [depths.get(_key(_depth_name(name)), "") for name in self.images]
        missing = [name for name, depth in zip(self.images, self.depths, strict=True) if not depth]
        if missing:
            wanted = self.files.where(_depth_name(missing[0]))
            more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DataError(f"SynfaceDataset: {wanted} is missing{more}; each image needs its depth")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = self._read(self.images[index], colour=True)
        # In some copies of the published set, depth pictures are RGB; every channel then holds the same value.
        depth = decode_depth(self._read(self.depths[index], colour=False)[:1])
        return {"image": image * 2 - 1, "depth": depth, "mask": (depth < FAR).float()}

    def items(self, indices: Iterable[int]) -> list[dict[str, Tensor]]:
        """The items of `indices`; with "skip", those that cannot be read are left out and not replaced.

        Raises:
            DataError: A picture is bad and `on_error` is "stop", or no picture is good.
        """
        found = []
        for index in indices:
            try:
                found.append(self[index])
            except BadImage as error:
                if self.on_error == "stop":
                    raise DataError(f"{error} (on_error=skip leaves it out and says so)") from error
                self.skipped.append(self.files.where(self.images[index]))
        if not found and self.skipped:
            raise DataError(f"SynfaceDataset: no image can be read; `zoo data check {self.files.root}` says why")
        return found

    def _read(self, name: str, *, colour: bool) -> Tensor:
        """The picture (3, S, S) in [0, 1], by a centre cut and PIL's bilinear resize, as the benchmark does it."""
        where = self.files.where(name)
        picture = decode(self.files.read(name), where, colour=colour).on(white=False)
        side = self.crop or round(min(picture.size) * CROP / NATIVE)
        cut = picture.crop(crop_box(*picture.size, side, self.size, where)).resize(
            (self.size, self.size), Image.Resampling.BILINEAR
        )
        return torch.from_numpy(np.array(cut, np.float32) / 255).permute(2, 0, 1)


def _depth_name(image: str) -> str:
    """The depth picture that belongs to an image: "image" becomes "depth" in the folder and in the name."""
    path = PurePosixPath(image)
    return str(path.parent.with_name("depth") / re.sub("image", "depth", path.name, flags=re.IGNORECASE))


def _key(name: str) -> str:
    """The key that an image and its depth share: the path without the suffix, in lower case."""
    return str(PurePosixPath(name).with_suffix("")).lower()
