"""Writes docs/results.md from the rows that are shipped with zoo: `make results`; a test compares."""

from pathlib import Path

from zoo.evaluation import store
from zoo.evaluation.benchmark import Benchmark, Column, Options, Row
from zoo.evaluation.benchmarks.heads import Heads
from zoo.evaluation.benchmarks.heads_v2 import HeadsV2
from zoo.evaluation.shape.protocol import ShapeProtocol

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
HEAD = """# Results

Written by `make results` from the rows in `zoo/evaluation/rows/`, which `zoo compare` reads, too. What the columns mean
stands in [evaluation.md](evaluation.md). After the plus-minus sign stands half of the 95 % interval over people, or the
standard deviation over images where the protocol says so. Weights without a row have not been measured under it yet.
"""
BENCHMARKS: tuple[Benchmark, ...] = (HeadsV2(ShapeProtocol(), {}, Options()), Heads(Heads.standard, {}, Options()))


def rows(benchmark: Benchmark) -> list[Row]:
    """The shipped rows of a benchmark: baselines in its order, then models by name."""
    keys = {path.stem for path in (store.SHIPPED / store.folder_of(benchmark)).glob("*.json")}
    baselines = [key for name in benchmark.baselines if (key := store.key_of(name, 0)) in keys]
    found = {key: entry[0] for key in keys if (entry := store.find(benchmark, None, key, shipped=True))}
    models = sorted((row for key, row in found.items() if key not in baselines), key=lambda row: row.name)
    return benchmark.ranked([*(found[key] for key in baselines if key), *models])


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


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
