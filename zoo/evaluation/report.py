"""A comparison as a table for the terminal, and as one self-contained page for people."""

import html
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ..output import turning
from ..output.charts import Dot, intervals
from ..output.inline import side_by_side, strips, turntable
from ..output.pages import ONLY_DATA, Section, document, facts, words
from ..output.strips import ROTATED, TEST, Sheet
from ..output.tables import Cell, Heading, Line, published, results
from ..runtime.files import atomic_write
from .benchmark import Benchmark, Column, Row
from .comparison import Comparison
from .solids import SAID, meshes

_WIDE = 7  # columns beyond which units and deviations stand in lines of their own in the terminal
_NOTE = 36  # characters to a line of a note, or more where names are longer
_BEST = "Bold: best of the models, or not worse beyond its interval."


def text_table(benchmark: Benchmark, rows: Sequence[Row]) -> Table:
    """Rows as a table for the terminal, baselines and models apart; notes stand below the names.

    Columns that are not `main` are left out, and the caption says where they are.
    """
    shown = benchmark.shown(rows)
    columns = [column for column in shown if column.main]
    page = "--out page.html or " if len(rows) > 1 else ""  # a single row is that of `zoo eval`, which writes no page
    caption = f"all columns: {page}--json" if len(columns) < len(shown) else None
    table = Table(title=benchmark.protocol, title_justify="left", caption=caption, caption_justify="left")
    # Notes are long, and break at the width of the names.
    table.add_column("Method", max_width=max([_NOTE, *(len(row.name) for row in rows)]))
    many = len(columns) > _WIDE
    for column in columns:
        table.add_column(column.heading.replace(" ", "\n") if many else column.heading, justify="right")
    for before, row in zip([None, *rows], rows, strict=False):
        if before and before.kind != row.kind:
            table.add_section()
        values = row.as_dict()
        name = Text("\n".join([row.name, *row.notes]), no_wrap=not row.notes)
        cells = [column.cell(values) for column in columns]
        if many:
            cells = [cell.replace(" ± ", "\n± ") for cell in cells]
        table.add_row(name, *(Text(cell, no_wrap=True) for cell in cells))
    return table


def write_report(comparison: Comparison, path: str | os.PathLike[str]) -> Path:
    """Write a comparison as one HTML file that needs nothing else: no network and no other files.

    Its tables are sorted by a small script, whose digest the page names, so that the browser runs no other; without
    scripts the page is whole, too.

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
    benchmark = comparison.benchmark
    rows = sorted(comparison.rows, key=lambda row: row.kind == "model")  # baselines first
    pictures = _pictures(rows, comparison.sheets)
    anchors = {name: anchor for section in pictures for anchor, name in section.parts}
    sections = [Section("results", "Results", _results(benchmark, rows, anchors))]
    if charts := _charts(benchmark, rows):
        sections.append(Section("intervals", "Intervals", charts))
    if benchmark.published:
        sections.append(Section("published", "Published figures", published(benchmark.published)))
    sections += [Section("protocol", "Protocol", words(benchmark.words())), *pictures]
    measured = {row.name for row in rows} - comparison.failed.keys()
    solid = meshes({name: subject for name, subject in benchmark.subjects.items() if name in measured})
    if solid:
        sections.append(Section("meshes", "Meshes", f"<p>{SAID}</p>{turning.gallery(solid)}"))
    sections.append(Section("made", "How these figures were made", _made(rows, comparison.command)))
    scripts, policy = ([turning.script()], turning.POLICY) if solid else ([], ONLY_DATA)
    return document(benchmark.title, benchmark.protocol, benchmark.lead(rows), sections, scripts, policy)


def best(column: Column, rows: Sequence[Row]) -> set[str]:
    """Names of the models that nothing shows to be worse than the best one: their intervals overlap with its own.

    Where figures have no intervals, those that are printed alike are best. It is empty unless the column says which way
    is better and two models have a figure.
    """
    models = {row.name: row for row in rows if row.kind == "model" and _last(row, column.key) is not None}
    if not column.better or len(models) < 2:
        return set()
    figures = {name: _last(row, column.key) or 0.0 for name, row in models.items()}
    winner = (max if column.better == "higher" else min)(figures, key=lambda name: figures[name])
    low, high = _ends(models[winner], column.key, figures[winner])
    chosen = set()
    for name, row in models.items():
        first, last = _ends(row, column.key, figures[name])
        alike = f"{column.scale * figures[name]:{column.form}}" == f"{column.scale * figures[winner]:{column.form}}"
        if alike or (first <= high and low <= last):
            chosen.add(name)
    return chosen


def _last(row: Row, key: str) -> float | None:
    """A figure as a finite number; of several stages, the last."""
    value = row.as_dict().get(key)
    last = value[-1] if isinstance(value, Sequence) and value else value
    return float(last) if isinstance(last, int | float) and math.isfinite(last) else None


def _ends(row: Row, key: str, value: float) -> tuple[float, float]:
    ends = row.intervals.get(key, (value, value))
    return ends if all(map(math.isfinite, ends)) else (value, value)


def _results(benchmark: Benchmark, rows: Sequence[Row], anchors: Mapping[str, str]) -> str:
    columns = benchmark.shown(rows)
    marked = [best(column, rows) for column in columns]
    lines = []
    for row in rows:
        values = row.as_dict()
        cells = []
        for column, names in zip(columns, marked, strict=True):
            text, number = column.cell(values), _last(row, column.key)
            # What is no number, as a rank from 2 to 3, is sorted by the number that it begins with.
            value = repr(number) if number is not None else text
            cells.append(Cell(text, value if text != "nan" else "", row.name in names))
        bar = _last(row, benchmark.bar) or 0.0
        lines.append(Line(row.name, row.kind, cells, bar, ", ".join(row.notes), anchors.get(row.name, "")))
    headings = [Heading(c.heading, "descending" if c.better == "higher" else "ascending") for c in columns]
    said = [f"{benchmark.protocol}. {benchmark.bar_caption}", *([_BEST] if any(marked) else [])]
    return results(" ".join(said), [Heading("Method"), *headings], lines)


def _charts(benchmark: Benchmark, rows: Sequence[Row]) -> str:
    """A drawing for each main column in which two rows or more have intervals."""
    charts = []
    for column in benchmark.shown(rows):
        if not column.main or sum(column.key in row.intervals for row in rows) < 2:
            continue
        dots = []
        for row in rows:
            value = _last(row, column.key)
            if value is not None:
                low, high = _ends(row, column.key, value)
                ends = (column.scale * low, column.scale * high)
                dots.append(Dot(row.name, column.cell(row.as_dict()), column.scale * value, ends, row.kind))
        if len(dots) > 1:
            charts.append(intervals(column.heading, dots, column.form))
    if not charts:
        return ""
    said = (
        "Dots are figures, bars their 95 % intervals; baselines are grey and hollow. A triangle at the edge is a "
        "baseline that lies beyond it."
    )
    return f'<p>{said}</p><div class="charts">{"".join(charts)}</div>'


def _pictures(rows: Sequence[Row], sheets: Mapping[str, Sequence[Sheet]]) -> list[Section]:
    """What all rows made of the same test images, side by side, and the other pictures row by row."""
    same: dict[str, tuple[str, Sheet]] = {}
    body: list[str] = []
    parts: list[tuple[str, str]] = []
    for number, row in enumerate(rows):
        own = []
        for sheet in sheets.get(row.name, []):
            if sheet.title == TEST:
                same[row.name] = (f"same-{number}", sheet)
            else:
                own.append(sheet)
        if own:
            parts.append((f"row-{number}", row.name))
            body.append(f'<h3 id="row-{number}">{html.escape(row.name)} <small>{row.kind}</small></h3>')
        for sheet in own:
            body.append(strips(sheet, row.name))
            if sheet.title == ROTATED:
                body.append(turntable(sheet, row.name))
    sections = []
    if same:
        places = [(anchor, name) for name, (anchor, _) in same.items()]
        sections.append(Section("same", "Same pictures", side_by_side(same), places))
    if parts:
        sections.append(Section("pictures", "Pictures by method", "".join(body), parts))
    return sections


def _made(rows: Sequence[Row], command: str) -> str:
    """How rows were measured, those that were measured alike together, and how to repeat the page."""
    alike: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for row in rows:
        took = "" if row.seconds is None else f" ({row.seconds:.0f} s)"
        how = {key: value for key, value in row.made.items() if key != "method"}  # each has its own
        alike.setdefault(tuple(how.items()), []).append(row.name + took)
    lists = []
    for made, names in alike.items():
        said = {name.capitalize(): value for name, value in made} or {"Date": "not kept; measured for this page"}
        lists.append(facts({"Rows": ", ".join(names), **said}))
    return f"<p>This command repeats the page: <code>{html.escape(command)}</code></p>{''.join(lists)}"
