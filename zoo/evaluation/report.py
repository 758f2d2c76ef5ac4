"""A comparison as a table for the terminal, and as one self-contained page for people."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ..output.pages import Line, document, pictures, published, results, words
from ..runtime.files import atomic_write
from .benchmark import Benchmark, Row
from .comparison import Comparison


def text_table(benchmark: Benchmark, rows: Sequence[Row]) -> Table:
    """Rows as a table for the terminal, baselines and models apart; notes stand below the names."""
    table = Table(title=benchmark.protocol, title_justify="left")
    columns = benchmark.shown(rows)
    table.add_column("Method")
    for column in columns:
        table.add_column(column.heading, justify="right")
    for before, row in zip([None, *rows], rows, strict=False):
        if before and before.kind != row.kind:
            table.add_section()
        values = row.as_dict()
        name = Text("\n".join([row.name, *row.notes]), no_wrap=not row.notes)
        table.add_row(name, *(Text(column.cell(values), no_wrap=True) for column in columns))
    return table


def write_report(comparison: Comparison, path: str | os.PathLike[str]) -> Path:
    """Write a comparison as one HTML file that needs nothing else: no network, no scripts, no other files.

    Args:
        comparison: Rows and pictures.
        path: The `.html` file; it is replaced whole or not at all.

    Returns:
        The path.

    Raises:
        OSError: The file cannot be written.
    """
    return atomic_write(path, page(comparison))


def page(comparison: Comparison) -> str:
    """The report as HTML text."""
    benchmark, rows = comparison.benchmark, comparison.rows
    sections = [_table(benchmark, rows)]
    if benchmark.published:
        sections.append(published(benchmark.published))
    sections.append(words(benchmark.words()))
    for row in sorted(rows, key=lambda row: row.kind != "model"):
        sections.append(pictures(row.name, row.kind, comparison.sheets.get(row.name, [])))
    return document(benchmark.title, benchmark.protocol, benchmark.lead(rows), sections, comparison.command)


def _table(benchmark: Benchmark, rows: Sequence[Row]) -> str:
    columns = benchmark.shown(rows)
    lines = []
    for row in rows:
        values = row.as_dict()
        bar = values[benchmark.bar]
        last = bar[-1] if isinstance(bar, Sequence) else bar
        cells = [row.name, *(column.cell(values) for column in columns)]
        lines.append(Line(row.kind, cells, last or 0.0, ", ".join(row.notes)))
    headings = ["Method", *(column.heading for column in columns)]
    return results(f"{benchmark.protocol}. {benchmark.bar_caption}", headings, lines)
