"""One picture: bytes -> RGB -> crop -> one resize -> tensor; and the mirror, a function of the position."""

import io
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import DataError, unknown

Resample = Literal["lanczos", "nearest"]

Image.init()  # some readers register late, and asking for them by name would fail
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 80_000_000  # below Pillow's own limit, so that its warning about decompression bombs stays quiet
MIN_SIDE = 16
CROPS = ("square", "celeba", "full")


class BadImage(DataError):
    """A picture that cannot be used.

    Args:
        where: its path.
        kind: the problem in a word or two, the same for all pictures that share it (`zoo data check` counts
            these).
        detail: what exactly, and what to do.
    """

    def __init__(self, where: str, kind: str, detail: str) -> None:
        super().__init__(where, kind, detail)
        self.kind = kind

    def __str__(self) -> str:
        return ": ".join(self.args)


def decode(data: bytes, where: str, *, draft: int | None = None) -> Image.Image:
    """Decode the first frame of a picture as upright 8-bit RGB.

    Grey, palette and CMYK pictures are converted, transparency is composited on black, 16-bit grey is scaled
    to 8 bits, and the EXIF rotation is applied.

    Args:
        data: the file's bytes.
        where: path for the error messages.
        draft: a JPEG may be decoded smaller, as long as its sides stay at least this many pixels (much
            faster).

    Raises:
        BadImage: empty, damaged or cut short, more than `MAX_PIXELS`, or a format that is not in `FORMATS`.
    """
    if not data:
        raise BadImage(where, "empty file", "0 bytes; delete it or copy it again")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise BadImage(where, "too large", f"more than {MAX_PIXELS:,} pixels; shrink it") from error
    except Exception as error:  # Pillow's parsers raise all sorts on hostile headers
        raise BadImage(where, "not an image", f"no {', '.join(FORMATS)} header; delete it") from error
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height}"
        raise BadImage(where, "too large", f"{size} is more than {MAX_PIXELS:,} pixels; shrink it")
    try:
        if draft:
            image.draft(None, (draft, draft))
        image.load()
        return _rgb(ImageOps.exif_transpose(image), where)
    except BadImage:
        raise
    except Exception as error:
        raise BadImage(where, "damaged", f"{error}; delete it or copy it again") from error


def _rgb(image: Image.Image, where: str) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips 16-bit greys at 255 when converting. Mode "I" was its container for the same 16 bits.
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise BadImage(where, "unsupported depth", "32-bit grey values; save it with 8 or 16 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise BadImage(where, "unsupported depth", "floating-point values; save it with 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image.convert("RGB")


def crop_box(width: int, height: int, crop: str | int, size: int, where: str) -> tuple[float, float, float, float]:
    """Region of a `width` x `height` picture that is used: (left, top, right, bottom) in pixels.

    Args:
        crop: "square": the largest centred square. "celeba": the papers' Resize(320), CenterCrop(256), which
            is the centred square of 0.8 times the shorter side. "full": everything, squeezed to a square.
            A number of pixels: a centred square of that side (170 for `synface`, Unsup3d).
        size: side of the result in pixels, for the check that the region is large enough.
        where: path for the error messages.

    Raises:
        BadImage: the region is smaller than `MIN_SIDE`, smaller than `size` / 4, or larger than the picture.
        DataError: an unknown crop.
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
    data: bytes, where: str, size: int, crop: str | int = "square", resample: Resample = "lanczos"
) -> Tensor:
    """Bytes of a picture file -> (3, size, size) uint8, RGB.

    Args:
        resample: "lanczos": crop and resize at once, antialiased. "nearest": what the pi-GAN,
            ShadeGAN and GOF code does (shorter side to 320 and centre crop 256 for "celeba", then every n-th
            pixel); it aliases, and is here to repeat their numbers.

    Raises:
        BadImage: see `decode` and `crop_box`.
    """
    # The draft keeps the region at twice the final size or more; crops counted in pixels need the true size.
    relative = resample == "lanczos" and crop in CROPS
    image = decode(data, where, draft=3 * size if relative else None)
    box = crop_box(image.width, image.height, crop, size, where)
    if resample == "lanczos":
        array = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, box=box))
    elif resample == "nearest":
        if crop == "celeba":
            scale = 320 / min(image.size)
            image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BILINEAR)
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
    """uint8 0..255 -> float32 [-1, 1], any shape."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """float [-1, 1] -> uint8 0..255, any shape; values outside are clamped."""
    return images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def flips(seed: int, positions: np.ndarray) -> np.ndarray:
    """Which stream positions are mirrored: (N,) integers -> (N,) bool, half of them true.

    A pure function (SplitMix64's finaliser) and no random state, so that a resumed run mirrors the same
    pictures.
    """
    with np.errstate(over="ignore"):
        x = positions.astype(np.uint64) + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) >> np.uint64(63) == 1
