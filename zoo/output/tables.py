"""Tables of a page: the results, which a small script sorts, and the figures of others."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_WIDE = 8  # columns beyond which each cell is narrow, with its deviation below it

# Headings become buttons: the first press brings the best to the top, the next turns the order round. Baselines and
# models are sorted apart, and what has no figure stays below. Without the script, the table is whole and unsorted.
SCRIPT = """
for (const table of document.querySelectorAll("table.results")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const order = before ? (before === "ascending" ? "descending" : "ascending") : head.dataset.first;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const compare = (a, b) => {
        const [x, y] = [a, b].map(row => row.cells[at].dataset.value);
        if (!x || !y) return !x - !y;
        const rise = at ? parseFloat(x) - parseFloat(y) : x.localeCompare(y);
        return order === "ascending" ? rise : -rise;
      };
      for (const body of table.tBodies) body.append(...[...body.rows].sort(compare));
    });
  });
}
"""


@dataclass(frozen=True)
class Heading:
    """The head of a column of `results`: its text, and the order that a first press on it asks for."""

    text: str
    first: Literal["ascending", "descending"] = "ascending"


@dataclass(frozen=True)
class Cell:
    """A figure of `results`.

    Attributes:
        text: What is printed, with its deviation behind a plus-minus sign; empty where there is no figure.
        value: What the column is sorted by: a text that begins with a number.
        best: Whether no model is known to be better.
    """

    text: str
    value: str
    best: bool = False


@dataclass(frozen=True)
class Line:
    """A row of `results`.

    Attributes:
        name: Stands in the first column.
        kind: "baseline" or "model".
        cells: One for each heading after the first.
        bar: Length of the bar below the name, in any unit; the longest one fills the cell.
        notes: Small text below the name.
        anchor: Where on the page its pictures are; empty where there are none.
    """

    name: str
    kind: str
    cells: Sequence[Cell]
    bar: float
    notes: str = ""
    anchor: str = ""


def results(caption: str, headings: Sequence[Heading], rows: Sequence[Line]) -> str:
    """The table of results, baselines and models each in a body of their own; all arguments are text."""
    heads = "".join(f'<th scope="col" data-first="{head.first}">{html.escape(head.text)}</th>' for head in headings)
    longest = max((row.bar for row in rows), default=0.0)
    labels = [head.text for head in headings[1:]]
    bodies = []
    for kind in ("baseline", "model"):
        lines = [_line(row, labels, longest) for row in rows if row.kind == kind]
        bodies += [f"<tbody>{''.join(lines)}</tbody>"] if lines else []
    kind = "results many" if len(headings) > _WIDE else "results"
    return _scrolled("Results", caption, f'<table class="{kind}">', heads, "".join(bodies))


def _line(row: Line, labels: Sequence[str], longest: float) -> str:
    name = html.escape(row.name).replace(".", ".<wbr>").replace("_", "_<wbr>")  # where long names may break
    link = f'<a href="#{row.anchor}">{name}</a>' if row.anchor else name
    note = f"<small>{html.escape(row.notes)}</small>" if row.notes else ""
    length = max(0.0, 100 * row.bar / longest) if longest > 0 else 0.0
    bar = f'<i class="bar {row.kind}" style="width:{length:.1f}%"></i>'
    cells = []
    for label, cell in zip(labels, row.cells, strict=True):
        text = _spread(html.escape(cell.text))
        if cell.best:
            text = f'<strong>{text}<em class="unseen"> (best)</em></strong>'
        about = f' data-label="{html.escape(label, quote=True)}"' if cell.text else ""
        value = f' data-value="{html.escape(cell.value, quote=True)}"' if cell.value else ""
        cells.append(f"<td{about}{value}>{text}</td>")
    sorted_by = html.escape(row.name, quote=True)
    return f'<tr><th scope="row" data-value="{sorted_by}">{link}{note}{bar}</th>{"".join(cells)}</tr>'


@dataclass(frozen=True)
class Published:
    """Figures of others, which never share a table with those measured here.

    Attributes:
        source: A sentence that says where they come from.
        caption: A few words above the table.
        headings: One for each column, that of the names first.
        rows: The rows, each with one text for each heading.
    """

    source: str
    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def published(table: Published) -> str:
    """The figures of others as they were published, not sorted; all parts of `table` are text."""
    lines = []
    for row in table.rows:
        name, *numbers = map(html.escape, row)
        cells = "".join(f"<td>{_spread(number)}</td>" for number in numbers)
        lines.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in table.headings)
    body = f"<tbody>{''.join(lines)}</tbody>"
    return (
        f"<p>{html.escape(table.source)} They were not measured here, so they stand apart from the results.</p>"
        f"{_scrolled('Published figures', table.caption, '<table>', heads, body)}"
    )


def _scrolled(label: str, caption: str, table: str, heads: str, bodies: str) -> str:
    """A table that moves sideways where it is wider than the screen, for keyboards, too."""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">{table}'
        f"<caption><span>{html.escape(caption)}</span></caption><thead><tr>{heads}</tr></thead>{bodies}</table></div>"
    )


def _spread(cell: str) -> str:
    """A cell as HTML; where the screen is narrow, the deviation goes to a second line below the mean."""
    mean, sign, deviation = cell.partition(" ± ")
    return f"{mean} <span>± {deviation}</span>" if sign else cell
