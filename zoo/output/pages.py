"""A comparison as a table for the terminal, rows for programs, and one self-contained page for people."""

import base64
import html
import io
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import torch
from PIL import Image
from torch import Tensor

from ..version import __version__
from .strips import Sheet
from .style import CSS

# The browser itself then refuses anything that is not inside the file.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, protocol: str, lead: str, sections: Sequence[str], command: str) -> str:
    """A whole page. `lead` and `sections` are HTML, the other arguments are text."""
    body = "".join(f"<section>{section}</section>" for section in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{title}: {html.escape(protocol)}</title><style>{CSS}</style></head><body>"
        f"<header><h1>{title}: <span>{html.escape(protocol)}</span></h1>"
        f"<p>{lead}</p></header><main>{body}</main>"
        f"<footer><p>Made by <code>{html.escape(command)}</code></p>"
        f"<p>{html.escape(versions())}</p></footer>"
        "</body></html>\n"
    )


def words(sentences: Sequence[str]) -> str:
    """The section that says how the figures were made, one paragraph for each sentence."""
    return "<h2>Protocol</h2>" + "".join(f"<p>{html.escape(text)}</p>" for text in sentences)


def pictures(name: str, kind: str, sheets: Sequence[Sheet]) -> str:
    """The section with the pictures of one row."""
    return f"<h2>{html.escape(name)} <small>{kind}</small></h2>{''.join(strips(sheet, name) for sheet in sheets)}"


@dataclass(frozen=True)
class Line:
    """A row of `results`.

    Attributes:
        kind: "baseline" or "model".
        cells: one text for each heading, the row's name first.
        bar: length of the bar below the name, in any unit; the longest one fills the cell.
        notes: small text below the name.
    """

    kind: str
    cells: Sequence[str]
    bar: float
    notes: str = ""


def results(caption: str, headings: Sequence[str], rows: Sequence[Line]) -> str:
    """The section with the table; all arguments are text."""
    longest = max((row.bar for row in rows), default=1.0) or 1.0
    lines = []
    for before, row in zip([None, *rows], rows, strict=False):
        name, *numbers = map(html.escape, row.cells)
        rule = ' class="rule"' if before and before.kind != row.kind else ""
        note = f"<small>{html.escape(row.notes)}</small>" if row.notes else ""
        bar = f'<i class="bar {row.kind}" style="width:{100 * row.bar / longest:.1f}%"></i>'
        cells = "".join(f"<td>{_spread(number)}</td>" for number in numbers)
        lines.append(f'<tr{rule}><th scope="row">{name}{note}{bar}</th>{cells}</tr>')
    return f"<h2>Results</h2>{_table(caption, headings, lines)}"


@dataclass(frozen=True)
class Published:
    """Figures of others, which never share a table with those measured here.

    Attributes:
        source: a sentence that says where they come from.
        caption: a few words above the table.
        headings: one for each column, that of the names first.
        rows: the rows, each with one text for each heading.
    """

    source: str
    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def published(table: Published) -> str:
    """The section with the figures of others; all parts of `table` are text."""
    lines = []
    for row in table.rows:
        name, *numbers = map(html.escape, row)
        cells = "".join(f"<td>{_spread(number)}</td>" for number in numbers)
        lines.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    return (
        f"<h2>Published figures</h2><p>{html.escape(table.source)} They were not measured here, so they stand apart "
        f"from the table above.</p>{_table(table.caption, table.headings, lines)}"
    )


def _table(caption: str, headings: Sequence[str], lines: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in headings)
    return (
        f'<div class="scroll"><table><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _spread(cell: str) -> str:
    """A cell as HTML; where the screen is narrow, the deviation goes to a second line below the mean."""
    mean, sign, deviation = cell.partition(" ± ")
    return f"{mean} <span>± {deviation}</span>" if sign else cell


def strips(sheet: Sheet, name: str) -> str:
    """A sheet of the row `name` as a figure."""
    rows = []
    for label, images in sheet.rows:
        alt = html.escape(f"{name}, {sheet.title.lower()}: {label} of {len(images)} objects side by side", quote=True)
        width, height, data = _png(images)
        rows.append(
            f"<div><span>{html.escape(label)}</span>"
            f'<img alt="{alt}" width="{width}" height="{height}" src="data:image/png;base64,{data}"></div>'
        )
    caption = f"<strong>{html.escape(sheet.title)}.</strong> {html.escape(sheet.caption)}"
    return f'<figure><figcaption>{caption}</figcaption><div class="strips">{"".join(rows)}</div></figure>'


def _png(images: Tensor) -> tuple[int, int, str]:
    """Images (N,3,S,S) in [0,1] side by side: the width, height and base64 PNG of the strip."""
    strip = torch.cat(list(images), dim=-1).mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous()
    buffer = io.BytesIO()
    Image.fromarray(strip.numpy()).save(buffer, "PNG", optimize=True)
    return strip.shape[1], strip.shape[0], base64.b64encode(buffer.getvalue()).decode()


def versions() -> str:
    """The versions of the packages on which figures depend."""
    packages = (f"{name} {version(name)}" for name in ("torch", "lightning", "torchmetrics"))
    return ", ".join([f"zoo {__version__}", f"Python {platform.python_version()}", *packages])
