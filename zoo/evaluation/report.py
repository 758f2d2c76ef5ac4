"""A comparison as a table for the terminal, rows for programs, and one self-contained page for people."""

import base64
import html
import io
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from PIL import Image
from rich.table import Table
from torch import Tensor

from ..files import atomic_write
from ..version import __version__
from .comparison import Comparison
from .pictures import Sheet
from .protocols import Row
from .style import CSS

# Wu et al. 2020, table 2: SIDE x 100 and MAD in degrees on BFM test images, mean and standard deviation.
PUBLISHED_BFM = (
    ("supervised", "0.410 ± 0.103", "10.78 ± 1.01"),
    ("constant depth", "2.723 ± 0.371", "43.34 ± 2.25"),
    ("average depth", "1.990 ± 0.556", "23.26 ± 2.85"),
    ("Unsup3d", "0.793 ± 0.140", "16.51 ± 1.56"),
)
# The browser itself then refuses anything that is not inside the file.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_HEADINGS = ("Method", "SIDE ×10⁻²\N{NO-BREAK SPACE}↓", "MAD °\N{NO-BREAK SPACE}↓")
_SURFACE_HEADINGS = ("Variance ×10⁻⁴\N{NO-BREAK SPACE}↓", "Surface PSNR dB\N{NO-BREAK SPACE}↑")
_LAST_HEADINGS = ("Images", "Seconds")


def _headings(rows: Sequence[Row]) -> tuple[str, ...]:
    surface = any(row.variance is not None or row.psnr is not None for row in rows)
    return (*_HEADINGS, *(_SURFACE_HEADINGS if surface else ()), *_LAST_HEADINGS)


def _cells(row: Row, headings: Sequence[str]) -> list[str]:
    side = f"{100 * row.SIDE:.3f} ± {100 * row.SIDE_std:.3f}"
    cells = [row.name, side, f"{row.MAD:.2f} ± {row.MAD_std:.2f}"]
    if _SURFACE_HEADINGS[0] in headings:
        cells.append("" if row.variance is None else f"{1e4 * row.variance:.3g}")
        cells.append("" if row.psnr is None else f"{row.psnr:.1f}")
    return [*cells, str(row.n), f"{row.seconds:.0f}"]


def text_table(rows: Sequence[Row]) -> Table:
    """Rows as a table for the terminal, one section for each protocol, SIDE times 100."""
    table = Table(title=", ".join(dict.fromkeys(row.protocol for row in rows)), title_justify="left")
    headings = _headings(rows)
    for index, heading in enumerate((*headings, "Protocol")):
        table.add_column(heading, justify="right" if 0 < index < len(headings) else "left", no_wrap=index < 3)
    for before, row in zip([None, *rows], rows, strict=False):
        if before and (before.protocol, before.kind) != (row.protocol, row.kind):
            table.add_section()
        table.add_row(*_cells(row, headings), row.protocol)
    return table


def write_report(comparison: Comparison, path: str | os.PathLike[str]) -> Path:
    """Write a comparison as one HTML file that needs nothing else: no network, no scripts, no other files.

    Args:
        comparison: rows and pictures.
        path: the `.html` file; replaced whole or not at all.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written.
    """
    return atomic_write(path, page(comparison))


def page(comparison: Comparison) -> str:
    """The report as HTML text."""
    rules = comparison.protocol
    sections = [_table(comparison.rows, rules.name)]
    if rules.name.startswith("bfm"):
        sections.append(_published())
    sections.append(words(rules.words()))
    for row in sorted(comparison.rows, key=lambda row: row.kind != "model"):
        sections.append(pictures(row.name, row.kind, comparison.sheets.get(row.name, [])))
    return document("Shape from images", rules.name, _lead(comparison.rows), sections, comparison.command)


def document(title: str, protocol: str, lead: str, sections: Sequence[str], command: str) -> str:
    """A whole page; `lead` and `sections` are HTML, the rest is text."""
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
    """The section that says how figures were made."""
    return "<h2>Protocol</h2>" + "".join(f"<p>{html.escape(text)}</p>" for text in sentences)


def pictures(name: str, kind: str, sheets: Sequence[Sheet]) -> str:
    """The section of one row."""
    return f"<h2>{html.escape(name)} <small>{kind}</small></h2>{''.join(strips(sheet, name) for sheet in sheets)}"


def _lead(rows: Sequence[Row]) -> str:
    models = [row for row in rows if row.kind == "model"]
    if not models:
        return "Baselines only: no model was scored."
    best = min(models, key=lambda row: row.SIDE)
    return (
        f"Lowest depth error of {len(models)} model{'s' * (len(models) > 1)}: "
        f"<strong>{html.escape(best.name)}</strong> with SIDE {100 * best.SIDE:.3f}×10⁻² and MAD {best.MAD:.2f}° "
        f"on {best.n} test images. Lower is better for both."
    )


def _table(rows: Sequence[Row], caption: str) -> str:
    headings = _headings(rows)
    lines = [Line(row.kind, _cells(row, headings), row.SIDE, row.notes) for row in rows]
    note = "Bars show SIDE. Values are means ± standard deviation over test images."
    return results(f"{caption}. {note}", headings, lines)


@dataclass(frozen=True)
class Line:
    """A row of `results`.

    Attributes:
        kind: "baseline" or "model".
        cells: one text for each heading, the row's name first.
        bar: what the bar below the name shows; the longest one fills the cell.
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
    heads = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    return (
        f'<h2>Results</h2><div class="scroll"><table><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _spread(cell: str) -> str:
    """A mean whose deviation goes to a second line where the screen is narrow."""
    mean, sign, deviation = cell.partition(" ± ")
    return f"{mean} <span>± {deviation}</span>" if sign else cell


def _published() -> str:
    lines = "".join(
        f'<tr><th scope="row">{name}</th><td>{_spread(side)}</td><td>{_spread(mad)}</td></tr>'
        for name, side, mad in PUBLISHED_BFM
    )
    heads = "".join(f'<th scope="col">{heading}</th>' for heading in _HEADINGS[:3])
    return (
        "<h2>Published figures</h2><p>Wu et al. 2020, table 2, trained and tested by its authors. They were not "
        "measured here, so they stand apart from the table above.</p>"
        f'<div class="scroll"><table><caption>BFM, as published</caption><thead><tr>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


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
    """Images (N,3,S,S) in [0,1], side by side: width, height, base64 PNG."""
    strip = torch.cat(list(images), dim=-1).mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous()
    buffer = io.BytesIO()
    Image.fromarray(strip.numpy()).save(buffer, "PNG", optimize=True)
    return strip.shape[1], strip.shape[0], base64.b64encode(buffer.getvalue()).decode()


def versions() -> str:
    """Of the packages that figures depend on."""
    packages = (f"{name} {version(name)}" for name in ("torch", "lightning", "torchmetrics"))
    return ", ".join([f"zoo {__version__}", f"Python {platform.python_version()}", *packages])
