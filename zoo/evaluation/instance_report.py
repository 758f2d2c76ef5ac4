"""Runs over the same pictures as a table for the terminal and as one self-contained page."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ..output.pages import Line, document, pictures, results, words
from ..runtime.files import atomic_write
from .instances import SHOWN, InstanceComparison, InstanceRow

_HEADINGS = (
    "Run",
    "SIDE ×10⁻² by stage\N{NO-BREAK SPACE}↓",
    "MAD ° by stage\N{NO-BREAK SPACE}↓",
    "Change of SIDE",
    "Pictures",
    "Seconds each",
)


def _cells(row: InstanceRow) -> list[str]:
    side = " → ".join(f"{value:.3f}" for value in row.SIDE) + _error(row.SIDE_error)
    mad = " → ".join(f"{value:.2f}" for value in row.MAD)
    change = "" if row.SIDE_change is None else f"{row.SIDE_change:+.3f}" + _error(row.SIDE_change_error)
    return [row.name, side, mad, change, str(row.n), "" if row.seconds is None else f"{row.seconds:.0f}"]


def _error(value: float | None) -> str:
    return "" if value is None else f" ± {value:.3f}"


def instance_table(rows: Sequence[InstanceRow]) -> Table:
    """Rows as a table for the terminal; what a run has changed stands below its name."""
    table = Table(title=rows[0].protocol, title_justify="left")
    for index, heading in enumerate(_HEADINGS):
        table.add_column(heading, justify="right" if index else "left")
    for before, row in zip([None, *rows], rows, strict=False):
        if before and before.kind != row.kind:
            table.add_section()
        name, *figures = _cells(row)
        table.add_row(Text("\n".join([name, *row.changed])), *figures)
    return table


def write_instance_report(comparison: InstanceComparison, path: str | os.PathLike[str]) -> Path:
    """Write a comparison as one HTML file that needs nothing else.

    Raises:
        OSError: the file cannot be written.
    """
    rows, rules = comparison.rows, comparison.protocol
    lead = (
        "How good shapes fitted to single pictures are after each stage, the initial shape first. Lower is better for "
        f"both; pictures are the first {min(SHOWN, rows[0].n)}."
    )
    lines = [Line(row.kind, _cells(row), row.SIDE[-1], ", ".join(row.changed)) for row in rows]
    sections = [results(f"{rules.name}. Bars show the last SIDE.", _HEADINGS, lines), words(comparison.words())]
    for row in sorted(rows, key=lambda row: row.kind != "model"):
        sections.append(pictures(row.name, row.kind, [comparison.sheets[row.name]]))
    return atomic_write(path, document("Shape of single pictures", rules.name, lead, sections, comparison.command))
