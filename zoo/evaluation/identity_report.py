"""An identity comparison as a table for the terminal and as one self-contained page."""

import html
import os
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from ..files import atomic_write
from .identity import IdentityComparison, IdentityRow
from .report import document, pictures, words

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
    longest = max(row.mean for row in rows) or 1.0
    lines = []
    for before, row in zip([None, *rows], rows, strict=False):
        name, *numbers = map(html.escape, _cells(row))
        rule = ' class="rule"' if before and before.kind != row.kind else ""
        bar = f'<i class="bar {row.kind}" style="width:{100 * row.mean / longest:.1f}%"></i>'
        cells = "".join(f"<td>{number}</td>" for number in numbers)
        lines.append(f'<tr{rule}><th scope="row">{name}{bar}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">{heading}</th>' for heading in _HEADINGS)
    return (
        f'<h2>Results</h2><div class="scroll"><table><caption>{html.escape(rows[0].protocol)}. Bars show the mean loss.'
        f"</caption><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )
