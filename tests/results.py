"""Writes what documents show of the rows that are shipped with zoo: `make results`; a test compares.

`python -m tests.results` writes docs/results.md, and tables of docs/comparison.md between markers that name protocols.
`python -m tests.results stamp` says of shipped rows that today's code measures what they have, after it has looked.
"""

import json
import re
import sys
from pathlib import Path

from zoo.evaluation import store
from zoo.evaluation.benchmark import Benchmark, Column, Options, Row
from zoo.evaluation.benchmarks.heads import Heads
from zoo.evaluation.benchmarks.heads_v2 import HeadsV2
from zoo.evaluation.benchmarks.inversions import InversionProtocol, Inversions
from zoo.evaluation.provenance import code_of, numbers_of
from zoo.evaluation.shape.protocol import ShapeProtocol
from zoo.runtime.files import atomic_write
from zoo.runtime.progress import Steps

COMPARISON = Path(__file__).parents[1] / "docs" / "comparison.md"
PAGE = COMPARISON.with_name("results.md")
HEAD = """# Results

Written by `make results` from the rows in `zoo/evaluation/rows/`, which `zoo compare` reads, too. What the columns mean
stands in [evaluation.md](evaluation.md). After the plus-minus sign stands half of the 95 % interval, over people or
over samples, or the standard deviation over images, as the protocol says.
"""
_QUICK = 120  # seconds
BENCHMARKS: tuple[Benchmark, ...] = (
    HeadsV2(ShapeProtocol(), {}, Options()),
    Inversions(InversionProtocol(), {}, Options()),
    Heads(Heads.standard, {}, Options()),
)


def rows(benchmark: Benchmark) -> list[Row]:
    """The shipped rows of a benchmark: baselines in its order, then models by name.

    Raises:
        SystemExit: A row cannot be read.
    """
    found: dict[str, Row] = {}
    for path in _paths(benchmark):
        if (entry := store.find(benchmark, None, path.stem, shipped=True)) is None:
            raise SystemExit(f"{path}: the shipped row cannot be read, as the warning says; measure it again")
        found[path.stem] = entry[0]
    baselines = [key for name in benchmark.baselines if (key := store.key_of(name, 0)) in found]
    models = sorted((row for key, row in found.items() if key not in baselines), key=lambda row: row.name)
    return benchmark.ranked([*(found[key] for key in baselines if key), *models])


def _paths(benchmark: Benchmark) -> list[Path]:
    return sorted((store.SHIPPED / store.folder_of(benchmark)).glob("*.json"))


def table(benchmark: Benchmark) -> str:
    """The rows as Markdown: a table of the main columns, and one of the others; what nobody has is left out."""
    given = rows(benchmark)
    shown = [column for column in benchmark.shown(given) if column.key not in ("n", "seconds")]
    parts = [f"## {benchmark.protocol}\n\n" + "\n\n".join(benchmark.words()) + "\n"]
    for columns in ([c for c in shown if c.main], [c for c in shown if not c.main]):
        if columns and given:
            parts.append(_markdown(columns, given))
    return "\n".join(parts)


def _markdown(columns: list[Column], given: list[Row]) -> str:
    lines = ["| | " + " | ".join(column.heading for column in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in given:
        values = row.as_dict()
        lines.append(f"| {row.name} | " + " | ".join(column.cell(values) for column in columns) + " |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole document."""
    return "\n".join([HEAD, *(table(benchmark) for benchmark in BENCHMARKS if rows(benchmark))])


def comparison(text: str) -> str:
    """The page docs/comparison.md with today's rows between its markers."""

    def filled(block: re.Match[str]) -> str:
        (benchmark,) = (each for each in BENCHMARKS if each.protocol == block[2])
        given = rows(benchmark)
        columns = [column for column in benchmark.shown(given) if column.main and column.key not in ("n", "seconds")]
        return f"{block[1]}\n\n{_markdown(columns, given)}\n{block[3]}"

    return re.sub(r"(<!-- rows: (\S+) -->).*?(<!-- end of rows -->)", filled, text, flags=re.DOTALL)


def changed_cells(benchmark: Benchmark, row: Row) -> list[str]:
    """The columns that come out otherwise when a baseline is measured again; seconds do not count."""
    with Steps(row.name) as steps:
        again = benchmark.row(row.name, row.name, steps)[0]
    before, after = row.as_dict(), again.as_dict()
    columns = [column for column in benchmark.columns if column.key != "seconds"]
    return [column.heading for column in columns if column.cell(before) != column.cell(after)]


def stamp(benchmark: Benchmark) -> None:
    """Give shipped rows the digests of today's code, if the quick baselines among them come out as they are.

    Raises:
        SystemExit: They do not, or a row cannot be read.
    """
    for path in _paths(benchmark):
        try:
            row, _ = store._read(path, benchmark, None)  # whatever its digests, which are about to be replaced
        except Exception as error:
            raise SystemExit(f"{path}: the shipped row cannot be read ({error}); measure it again") from error
        if row.kind == "baseline" and (row.seconds or 0) < _QUICK and (changed := changed_cells(benchmark, row)):
            raise SystemExit(f"{benchmark.protocol}, {row.name}: {', '.join(changed)} changed; measure all rows again")
    today = {"numbers": numbers_of(benchmark), "code": code_of(type(benchmark))}
    for path in _paths(benchmark):
        values = json.loads(path.read_text("utf-8"))
        values["made"] |= today
        atomic_write(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["stamp"]:
        for each in BENCHMARKS:
            stamp(each)
    PAGE.write_text(page(), encoding="utf-8")
    COMPARISON.write_text(comparison(COMPARISON.read_text("utf-8")), encoding="utf-8")
