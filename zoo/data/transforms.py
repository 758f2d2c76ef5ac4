"""From one picture to a tensor, by one crop and one resize; and which pictures are mirrored."""

from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..config.schemas import CROPS
from ..errors import DataError, unknown
from .pictures import MAX_PIXELS, BadImage, decode

Resample = Literal["lanczos", "nearest"]

MIN_SIDE = 16


def crop_box(width: int, height: int, crop: str | int, size: int, where: str) -> tuple[float, float, float, float]:
    """The region of a picture that is used: (left, top, right, bottom) in pixels.

    Args:
        width, height: Size of the picture in pixels.
        crop: "square" is the largest centred square. "celeba" is the papers' Resize(320), CenterCrop(256), which is the
            centred square of 0.8 times the shorter side. "full" is everything, squeezed to a square. A number of pixels
            is a centred square of that side (170 for `synface`, Unsup3D).
        size: Side of the result in pixels, with which to check that the region is large enough.
        where: The path that error messages name.

    Raises:
        BadImage: The region is smaller than `MIN_SIDE` or `size` / 4, or larger than the picture.
        DataError: The crop is unknown.
    """
    shorter = min(width, height)
    if crop == "full":
        box = (0.0, 0.0, float(width), float(height))
    else:
        if crop == "square":
            side: float = shorter
        elif crop == "celeba":
            side = shorter * 256 / 320
        elif str(crop).isdecimal() and int(crop) > 0:
            side = int(crop)
        else:
            raise DataError(unknown("crop", str(crop), (*CROPS, "a number of pixels")))
        left, top = (width - side) / 2, (height - side) / 2
        if isinstance(side, int):
            left, top = round(left), round(top)
        box = (left, top, left + side, top + side)
        if side > shorter:
            raise BadImage(where, "too small", f"{width} x {height}, but the crop needs {crop} px")
    if shorter < MIN_SIDE or min(box[2] - box[0], box[3] - box[1]) < size / 4:
        needed = max(MIN_SIDE, size // 4)
        raise BadImage(where, "too small", f"{width} x {height} px; at least {needed} are needed for size {size}")
    return box


def load_image(
    data: bytes,
    where: str,
    size: int,
    crop: str | int = "square",
    resample: Resample = "lanczos",
    *,
    white_back: bool = False,
) -> Tensor:
    """Decode the bytes of a picture file to (3, size, size) uint8, RGB.

    Args:
        data: The bytes of the file.
        where: The path that error messages name.
        size: Side of the result in pixels.
        crop: Region that is used, see `crop_box`.
        resample: "lanczos" crops and resizes at once, antialiased. "nearest" does what the code of pi-GAN, ShadeGAN and
            GOF does (shorter side to 320 and centre crop 256 for "celeba", then every n-th pixel); it aliases, and is
            here to repeat their numbers.
        white_back: Whether transparent pictures stand on white instead of black.

    Raises:
        BadImage: See `pictures.decode` and `crop_box`.
        DataError: `crop` or `resample` is unknown.
    """
    # The draft keeps the region at twice the final size or more; crops counted in pixels need the true size.
    relative = resample == "lanczos" and crop in CROPS
    image = decode(data, where, draft=3 * size if relative else None).on(white_back)
    box = crop_box(image.width, image.height, crop, size, where)
    if resample == "lanczos":
        array = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, box=box))
    elif resample == "nearest":
        if crop == "celeba":
            scale = 320 / min(image.size)
            width, height = int(image.width * scale), int(image.height * scale)
            if width * height > MAX_PIXELS:
                detail = f"{image.width} x {image.height} is too long a strip for data.resample=nearest; crop it"
                raise BadImage(where, "too large", detail)
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            box = crop_box(image.width, image.height, 256, size, where)
        left, top, right, bottom = (round(edge) for edge in box)
        # torch's rule, floor(i * scale); Pillow's nearest would take the middle of each cell instead.
        rows = top + np.arange(size) * (bottom - top) // size
        columns = left + np.arange(size) * (right - left) // size
        array = np.asarray(image)[rows][:, columns]
    else:
        raise DataError(f"data.resample={resample!r} is unknown: use lanczos or nearest")
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def to_float(images: Tensor) -> Tensor:
    """Map uint8 0..255 to float32 [-1, 1], in any shape."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Map float [-1, 1] to uint8 0..255, in any shape; values outside are clamped."""
    return images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def flips(seed: int, positions: np.ndarray) -> np.ndarray:
    """Which positions (N,) of the stream are mirrored: (N,) bool, half of them true.

    It is a pure function (SplitMix64's finaliser) without random state, so that a resumed run mirrors the same
    pictures.
    """
    with np.errstate(over="ignore"):
        x = positions.astype(np.uint64) + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    out: np.ndarray = (x ^ (x >> np.uint64(31))) >> np.uint64(63) == 1
    return out
