"""Reading one picture, however it was saved, as upright 8-bit sRGB with straight colours, and its opacity.

Everything that reads a picture reads it here: training, benchmarks, runs, photographs, masks, `zoo data check`.
docs/data.md states the rules.
"""

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms, ImageOps, features

from ..errors import DataError

Image.init()  # some readers register late, and asking for them by name would fail
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", *(("AVIF",) if features.check("avif") else ()))
_WRITERS = (*FORMATS, "MPO")  # an MPO is two JPEGs in one file, which the reader of JPEG opens
SUFFIXES = tuple(sorted(suffix for suffix, name in Image.registered_extensions().items() if name in _WRITERS))
MAX_PIXELS = 80_000_000  # below Pillow's own limit, so that its warning about decompression bombs stays quiet
UNREADABLE = "unreadable"  # the kind of pictures that the file system, or the network, did not give
CONVERT = "convert it to PNG or JPEG"
# How files begin that are pictures which we do not read: (first byte, magic, name).
_FOREIGN = (
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftyphei", "a HEIC"),
    (4, b"ftyphev", "a HEIC"),
    (4, b"ftypmif1", "a HEIC"),
    (4, b"ftypmsf1", "a HEIC"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF"),
    (0, b"II*\0", "a kind of TIFF or raw file"),
    (0, b"MM\0*", "a kind of TIFF or raw file"),
    (0, b"II+\0", "a kind of TIFF"),
    (0, b"MM\0+", "a kind of TIFF"),
)
_SRGB_TOLERANCE = 2  # of 255; vendors' versions of sRGB differ by this much, and converting would only add rounding
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # colour spaces of profiles, by the mode that they describe


class BadImage(DataError):
    """A picture that cannot be used.

    Args:
        where: The path of the picture.
        kind: The problem in a word or two, the same for all pictures that share it, so that `zoo data check` can count
            them.
        detail: What exactly is wrong, and what to do.
    """

    def __init__(self, where: str, kind: str, detail: str) -> None:
        super().__init__(where, kind, detail)
        self.kind = kind

    @property
    def lasting(self) -> bool:
        """Whether the picture itself is at fault, and not the way to it, which may be open the next time."""
        return self.kind != UNREADABLE

    def __str__(self) -> str:
        return ": ".join(self.args)


@dataclass(frozen=True)
class Picture:
    """An upright picture in sRGB.

    Attributes:
        rgb: 8-bit RGB. The colours are straight: they have not been multiplied by `alpha`.
        alpha: 8-bit opacity of the same size, or None where the picture has no transparency.
        where: What messages call it.
    """

    rgb: Image.Image
    alpha: Image.Image | None
    where: str

    @property
    def size(self) -> tuple[int, int]:
        """The width and height in pixels."""
        return self.rgb.size

    def on(self, white: bool) -> Image.Image:
        """The picture as 8-bit RGB on a white backdrop, or on a black one."""
        if self.alpha is None:
            return self.rgb
        layer = self.rgb.copy()
        layer.putalpha(self.alpha)
        backdrop = Image.new("RGBA", self.size, (255, 255, 255, 255) if white else (0, 0, 0, 255))
        return Image.alpha_composite(backdrop, layer).convert("RGB")

    @classmethod
    def of(cls, image: Image.Image, where: str, *, colour: bool = True) -> "Picture":
        """Take over a Pillow image of any mode.

        Args:
            image: The image, of which the first frame is taken and the EXIF orientation applied.
            where: What messages call it.
            colour: Whether to convert from the embedded colour profile to sRGB; False for depth maps and masks, whose
                values are numbers.

        Raises:
            BadImage: The values are 32-bit, signed or floating-point, or the image is damaged.
        """
        try:
            full, inverted = _scale(image)
            image = ImageOps.exif_transpose(image)
            plain, alpha = _deep(image, full, inverted, where) if image.mode[0] in "IF" else _split(image)
            if alpha is not None and alpha.getextrema() == (255, 255):  # as many programs save whole pictures
                alpha = None
            return cls(_srgb(plain, image.info.get("icc_profile") if colour else None), alpha, where)
        except BadImage:
            raise
        except Exception as error:  # Pillow's decoders raise all sorts on damaged data
            raise BadImage(where, "damaged", f"{error}; delete it or copy it again") from error


def decode(data: bytes, where: str, *, draft: int | None = None, colour: bool = True) -> Picture:
    """Decode the first frame of a picture file.

    Args:
        data: The file's bytes.
        where: The path that error messages name.
        draft: Pixels to which the sides of a JPEG may shrink in decoding, which is then much faster.
        colour: See `Picture.of`.

    Raises:
        BadImage: The file is empty, damaged or cut short, has more than `MAX_PIXELS` pixels, or has a format that is
            not in `FORMATS`.
    """
    if not data:
        raise BadImage(where, "empty file", "0 bytes; delete it or copy it again")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise BadImage(where, "too large", f"more than {MAX_PIXELS:,} pixels; shrink it") from error
    except Exception as error:  # Pillow's parsers raise all sorts on hostile headers
        for start, magic, name in _FOREIGN:
            if data[start:].startswith(magic):
                raise BadImage(where, "format not read", f"{name} that cannot be decoded; {CONVERT}") from error
        raise BadImage(where, "not an image", f"no {', '.join(FORMATS)} header; delete it") from error
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height}"
        raise BadImage(where, "too large", f"{size} is more than {MAX_PIXELS:,} pixels; shrink it")
    if draft:
        image.draft(None, (draft, draft))
    return Picture.of(image, where, colour=colour)


def _scale(image: Image.Image) -> tuple[int, bool]:
    """The value of white in an image of deep greys (0 if it is not known), and whether the scale is inverted."""
    image.load()
    tags = getattr(image, "tag_v2", None)  # of a TIFF; other formats with deep greys scale them to 16 bits
    if tags is None:
        return 65535, False
    bits, signed = tags.get(258, (16,))[0], tags.get(339, (1,))[0] != 1
    return (0 if bits > 16 or signed else 2**bits - 1), tags.get(262) == 0


def _deep(image: Image.Image, full: int, inverted: bool, where: str) -> tuple[Image.Image, Image.Image | None]:
    """Greys of 9 to 16 bits, rounded to 8 bits (Pillow itself would clip them at 255), and their opacity."""
    if image.mode == "F":
        raise BadImage(where, "unsupported depth", "floating-point values; save it with 8 or 16 bits")
    values = np.asarray(image).astype(np.int64)  # mode "I" was Pillow's container for the same 16 bits
    if not full or values.min() < 0 or values.max() > full:
        raise BadImage(where, "unsupported depth", "32-bit or signed grey values; save it with 8 or 16 bits")
    clear = image.info.get("transparency")
    alpha = None if clear is None else Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))
    if inverted:
        values = full - values
    return Image.fromarray(((values * 255 + full // 2) // full).astype(np.uint8)), alpha


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Straight colours as "L", "RGB" or "CMYK", and the opacity."""
    clear = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:
        # Pillow keeps only the upper bytes of 16-bit colours, but both bytes of the transparent one.
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    if image.has_transparency_data:
        # In the two modes with a small "a", colours are already multiplied by it; this conversion divides again.
        straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
        image = image.convert(straight) if straight else image
        rgba = image.convert("RGBA")
        grey = image.mode in ("1", "L", "LA")
        return (rgba.getchannel("R") if grey else rgba.convert("RGB")), rgba.getchannel("A")
    if image.mode in ("1", "L"):
        return image.convert("L"), None
    return (image if image.mode == "CMYK" else image.convert("RGB")), None


def _srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB of an image of mode L, RGB or CMYK, by its profile if that describes such an image."""
    if profile:
        for mode in dict.fromkeys((image.mode, "RGB") if image.mode == "L" else (image.mode,)):
            transform = _to_srgb(profile, mode)
            if transform is not None:
                return transform.apply(image.convert(mode))
    return image.convert("RGB")


@lru_cache(maxsize=32)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion from a profile to sRGB; None if the profile is sRGB, damaged, or describes another mode."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != _SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode == "CMYK":
        return transform
    levels = np.arange(0, 256, 15 if mode == "RGB" else 1, dtype=np.uint8)
    grid = np.stack(np.meshgrid(*[levels] * 3), -1).reshape(1, -1, 3) if mode == "RGB" else levels[None]
    probe = Image.fromarray(grid)
    moved = np.abs(np.asarray(transform.apply(probe), np.int16) - np.asarray(probe.convert("RGB"), np.int16)).max()
    return transform if moved > _SRGB_TOLERANCE else None
