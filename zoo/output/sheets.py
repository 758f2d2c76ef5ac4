"""Contact sheets: maps of renders side by side, with captions, as PNGs that say where they come from."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..runtime.files import atomic_write, printable
from ..version import __version__

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ..geometry import Render

MAPS = ("rgb", "albedo", "normal", "depth", "shading")

_LABEL_HEIGHT = 14
_ROOM = 64  # side in pixels of pictures that have room for a name


def maps_of(maps: str | Sequence[str]) -> list[str]:
    """Names of maps, which a text has with commas between them, e.g. `"rgb,depth"`.

    Raises:
        ConfigError: A map is unknown.
    """
    names = [name.strip() for name in maps.split(",")] if isinstance(maps, str) else list(maps)
    if strange := [name for name in names if name not in MAPS]:
        raise ConfigError(f"unknown map {strange[0]!r}; known: {', '.join(MAPS)}")
    return names


def grid(
    renders: "Render | Sequence[Render]",
    *,
    maps: str | Sequence[str] = MAPS,
    labels: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
) -> "Image":
    """Make a contact sheet: one column for each object, one row for each map that the method has.

    Colours go from [-1, 1] to 0..255 and shading from [0, 1] to 0..255, by fixed linear maps. Normals are shown as
    (n + 1) / 2. Depth is light where it is near and dark where it is far, by the range of all objects of the sheet.
    Normals and depth are grey where there is no surface.

    Args:
        renders: One render or several of one size; their objects stand side by side.
        maps: The rows, out of `MAPS`, see `maps_of`.
        labels: Texts above the columns.
        names: Texts in the corner of rows, by map; on pictures that are too small for them there are none.

    Raises:
        ConfigError: A map is unknown, the renders have none of the maps, or there is not one label for each object.
    """
    from PIL import Image

    from ..geometry import Render

    wanted = maps_of(maps)
    render = renders if isinstance(renders, Render) else Render.cat(list(renders))
    render = render.cpu()
    rows = {name: pictures(name, render) for name in wanted if getattr(render, name) is not None}
    if not rows:
        raise ConfigError(f"this render has none of the maps {', '.join(wanted)}")
    n, size = len(render.rgb), render.rgb.shape[-1]
    if labels and len(labels) != n:
        raise ConfigError(f"{len(labels)} labels for {n} objects: give one for each")
    sheet = Image.new("RGB", (n * size, len(rows) * size))
    for row, (name, shown) in enumerate(rows.items()):
        for column, picture in enumerate(shown):
            sheet.paste(picture, (column * size, row * size))
        if names and name in names and size >= _ROOM:
            write(sheet, (2, row * size + 1), names[name])
    return headed(sheet, labels) if labels else sheet


def headed(sheet: "Image", labels: Sequence[str]) -> "Image":
    """Put texts above the columns of a sheet, which are equally wide."""
    from PIL import Image

    out = Image.new("RGB", (sheet.width, _LABEL_HEIGHT + sheet.height))
    out.paste(sheet, (0, _LABEL_HEIGHT))
    for column, label in enumerate(labels):
        write(out, (column * sheet.width // len(labels) + 2, 1), label)
    return out


def write(sheet: "Image", corner: tuple[int, int], text: str) -> None:
    """Write white text with a black rim, which any background lets read, from a corner in pixels on."""
    from PIL import ImageDraw

    ImageDraw.Draw(sheet).text(corner, text, fill="white", stroke_width=1, stroke_fill="black")


def pictures(name: str, render: "Render") -> "list[Image]":
    """One map of a render as pictures, one for each object, coloured as in `grid`.

    Raises:
        ConfigError: The map is unknown, or the render does not have it.
    """
    import torch
    from PIL import Image

    from . import colours

    if name not in MAPS:
        raise ConfigError(f"unknown map {name!r}; known: {', '.join(MAPS)}")
    render = render.cpu()
    value: Tensor | None = getattr(render, name)
    if value is None:
        raise ConfigError(
            f"this render has no {name}; it has {', '.join(m for m in MAPS if getattr(render, m) is not None)}"
        )
    inside = torch.ones_like(render.rgb[:, :1]) > 0 if render.mask is None else render.mask > 0.5
    if name == "depth":
        unit = colours.show_depth(value, inside)
    elif name == "normal":
        unit = colours.show_normal(value, inside)
    else:
        unit = value if name == "shading" else colours.show_image(value)
    pixels = (unit.clamp(0, 1) * 255).round().byte().expand(-1, 3, -1, -1)
    return [Image.fromarray(p) for p in pixels.permute(0, 2, 3, 1).contiguous().numpy()]


def stack(images: "Sequence[Image]") -> "Image":
    """Stack pictures below each other, left-aligned on black."""
    from PIL import Image

    sheet = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)))
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height
    return sheet


def captioned(rows: "Sequence[Mapping[str, Image]]") -> "Image":
    """Join rows of pictures into one, on black, with a caption above each picture."""
    from PIL import Image

    bars = []
    for row in rows:
        height = _LABEL_HEIGHT + max(picture.height for picture in row.values())
        bar = Image.new("RGB", (sum(picture.width for picture in row.values()), height))
        left = 0
        for caption, picture in row.items():
            bar.paste(picture, (left, _LABEL_HEIGHT))
            write(bar, (left + 2, 1), caption)
            left += picture.width
        bars.append(bar)
    return stack(bars)


def save_png(image: "Image", path: str | os.PathLike[str], notes: Mapping[str, Any]) -> Path:
    """Write a PNG that says where it comes from: each of `notes` (model, seed, command) becomes a text chunk.

    Raises:
        ConfigError: The suffix is not .png.
    """
    need_png(path)
    return atomic_write(path, png(image, notes))


def need_png(path: str | os.PathLike[str]) -> None:
    """Refuse what is not called .png.

    Raises:
        ConfigError: The suffix is not .png.
    """
    if Path(path).suffix.lower() != ".png":
        raise ConfigError(f"{path}: pictures are written as .png; change the suffix")


def png(image: "Image", notes: Mapping[str, Any]) -> bytes:
    """The bytes of a PNG file with `notes` and zoo's version as text chunks."""
    import io

    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for key, value in {"zoo": __version__, **notes}.items():
        chunks.add_itxt(key, printable(value))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()
