"""A comparison of depth as a table for the terminal, and as one self-contained page for people."""

import html
import os
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from ..output.pages import Line, _spread, document, pictures, results, words
from ..runtime.files import atomic_write
from .comparison import Comparison
from .depth import Row

# Wu et al. 2020, table 2: SIDE x 100 and MAD in degrees on BFM test images, mean and standard deviation.
PUBLISHED_BFM = (
    ("supervised", "0.410 ± 0.103", "10.78 ± 1.01"),
    ("constant depth", "2.723 ± 0.371", "43.34 ± 2.25"),
    ("average depth", "1.990 ± 0.556", "23.26 ± 2.85"),
    ("Unsup3d", "0.793 ± 0.140", "16.51 ± 1.56"),
)


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
