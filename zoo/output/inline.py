"""Pictures inside a page: strips, the same pictures for several methods, turntables, and the scale of errors."""

import base64
import html
import io
from collections.abc import Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor

from .colours import ramp
from .strips import ERROR, ERROR_LIMIT, Sheet

_QUALITY = 90
_FRAME = 200  # milliseconds of each view of a turntable


def strips(sheet: Sheet, name: str) -> str:
    """A sheet of the row `name` as a figure."""
    caption = f"<strong>{html.escape(sheet.title)}.</strong> {html.escape(sheet.caption)}"
    return f"<figure><figcaption>{caption}</figcaption>{_strips(sheet.rows, f'{name}, {sheet.title.lower()}')}</figure>"


def side_by_side(sheets: Mapping[str, tuple[str, Sheet]]) -> str:
    """What several methods made of the same pictures: pictures and truth once, then the rest, method by method.

    Args:
        sheets: Maps names of methods to the anchor of their block, and to sheets that show the same pictures in the
            same columns. Rows called "image" or "true ..." are taken from the first sheet alone.
    """
    first = next(iter(sheets.values()))[1]
    shared = [row for row in first.rows if _is_shared(row[0])]
    parts = [f"<p>{html.escape(first.caption)}</p>"]
    if any(label == ERROR for label, _ in first.rows):
        parts.append(_error_scale())
    # The picture itself stays in sight, so that all that was made of it is compared with it.
    parts.append(_strips(shared[:1], "the same pictures", "strips stay") + _strips(shared[1:], "the same pictures"))
    for name, (anchor, sheet) in sheets.items():
        own = [row for row in sheet.rows if not _is_shared(row[0])]
        parts.append(f'<h3 id="{anchor}">{html.escape(name)}</h3>{_strips(own, name)}')
    return "".join(parts)


def picture(image: Tensor) -> str:
    """An image (3,H,W) in [0,1] as the data URL of a WebP."""
    return _picture(_strip(image[None]))


def turntable(sheet: Sheet, name: str) -> str:
    """A sheet whose rows are views from one side to the other, as a film that goes there and back for ever.

    Those who wish for less motion, and printers, get the middle view; everybody can fold the film away.
    """
    views = [_strip(images) for _, images in sheet.rows]
    height, width = views[0].shape[:2]
    moving, still = _film([*views, *views[-2:0:-1]]), _picture(views[len(views) // 2])
    alt = html.escape(f"{name}: {sheet.rows[0][1].shape[0]} objects that turn from side to side", quote=True)
    return (
        '<details class="turntable" open><summary>Turntable</summary><picture>'
        f'<source media="(prefers-reduced-motion:reduce),print" srcset="{still}">'
        f'<img alt="{alt}" width="{width}" height="{height}" src="{moving}"></picture></details>'
    )


def _is_shared(label: str) -> bool:
    return label == "image" or label.startswith("true ")


def _error_scale() -> str:
    bar = _picture(_strip(ramp(torch.linspace(0, 1, 128).expand(1, 1, 8, -1))))
    return (
        '<p class="scale"><span>Depth error: 0</span> <img alt="from dark blue over green to pale yellow" width="128" '
        f'height="8" src="{bar}"> <span>{100 * ERROR_LIMIT:g} % of the distance or more; grey is not counted</span></p>'
    )


def _strips(rows: Sequence[tuple[str, Tensor]], name: str, kind: str = "strips") -> str:
    lines = []
    for label, images in rows:
        alt = html.escape(f"{name}: {label} of {len(images)} objects side by side", quote=True)
        pixels = _strip(images)
        size = f'width="{pixels.shape[1]}" height="{pixels.shape[0]}"'
        image = f'<img alt="{alt}" {size} src="{_picture(pixels)}">'
        lines.append(f"<div><span>{html.escape(label)}</span>{image}</div>")
    return f'<div class="{kind}">{"".join(lines)}</div>' if lines else ""


def _strip(images: Tensor) -> Tensor:
    """Images (N,3,H,W) in [0,1] side by side, as (H, N W, 3) uint8."""
    return torch.cat(list(images), dim=-1).mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous()


def _picture(pixels: Tensor) -> str:
    """Pixels (H,W,3) uint8 as the data URL of a WebP."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.cpu().numpy()).save(buffer, "webp", quality=_QUALITY)
    return _url(buffer.getvalue())


def _film(frames: Sequence[Tensor]) -> str:
    """Frames (H,W,3) uint8 as the data URL of a WebP that moves."""
    first, *others = (Image.fromarray(frame.cpu().numpy()) for frame in frames)
    buffer = io.BytesIO()
    first.save(buffer, "webp", save_all=True, append_images=others, duration=_FRAME, loop=0, quality=_QUALITY)
    return _url(buffer.getvalue())


def _url(data: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"
