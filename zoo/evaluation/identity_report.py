"""An identity comparison as a table for the terminal and as one self-contained page."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from ..output.pages import Line, document, pictures, results, words
from ..runtime.files import atomic_write
from .identity import IdentityComparison, IdentityRow

_HEADINGS = ("Method", "Mean\N{NO-BREAK SPACE}↓", "Worst\N{NO-BREAK SPACE}↓", "Others", "Reached °", "Faces", "Seconds")


def _cells(row: IdentityRow) -> list[str]:
    figures = [f"{value:.3f}" for value in (row.mean, row.worst, row.others)]
    return [row.name, *figures, f"{row.reached:.1f}", str(row.n), f"{row.seconds:.0f}"]


def identity_table(rows: Sequence[IdentityRow]) -> Table:
    """Rows as a table for the terminal."""
    table = Table(title=rows[0].protocol, title_justify="left")
    for index, heading in enumerate(_HEADINGS):
        table.add_column(heading, justify="right" if index else "left", no_wrap=True)
    for before, row in zip([None, *rows], rows, strict=False):
        if before and before.kind != row.kind:
            table.add_section()
        table.add_row(*_cells(row))
    return table


def write_identity_report(comparison: IdentityComparison, path: str | os.PathLike[str]) -> Path:
    """Write a comparison as one HTML file that needs nothing else.

    Raises:
        OSError: the file cannot be written.
    """
    rows, rules = comparison.rows, comparison.protocol
    lead = (
        f"How far faces are from themselves when they turn by up to {rules.reach:g}°, as a face embedding sees it. "
        "Lower is better, if different faces are far apart and the heads have turned."
    )
    sections = [_table(rows), words(rules.words())]
    for row in sorted(rows, key=lambda row: row.kind != "model"):
        sections.append(pictures(row.name, row.kind, [comparison.sheets[row.name]]))
    return atomic_write(path, document("Identity in rotation", rules.name, lead, sections, comparison.command))


def _table(rows: Sequence[IdentityRow]) -> str:
    lines = [Line(row.kind, _cells(row), row.mean) for row in rows]
    return results(f"{rows[0].protocol}. Bars show the mean loss.", _HEADINGS, lines)
