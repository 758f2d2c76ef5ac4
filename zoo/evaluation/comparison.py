"""Several subjects under one protocol, with the pictures that go with the figures."""

import shlex
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, unknown
from ..fitting.runs import FinishedRun
from ..output.strips import Sheet
from ..runtime.memory import keep_memory
from ..runtime.progress import Steps, foretell, keeping
from . import benchmarks
from .benchmark import Benchmark, Options, Row, Subject
from .measuring import Measured, row_of, rows_of


@dataclass(frozen=True)
class Comparison:
    """What a report shows.

    Attributes:
        benchmark: The rules that all rows share, and how to show them.
        rows: In the order of the benchmark's subjects: baselines first.
        sheets: Pictures of every row, by its name.
        command: How to repeat the comparison.
        complete: False after Ctrl-C, which keeps the rows that were finished.
        failed: Why rows could not be measured, by name. They stand among the rows, without figures.
    """

    benchmark: Benchmark
    rows: list[Row]
    sheets: dict[str, list[Sheet]]
    command: str
    complete: bool = True
    failed: Mapping[str, str] = field(default_factory=dict)


def compare(
    subjects: Mapping[str, Subject],
    benchmark: str = "heads_v2",
    *,
    quick: bool = False,
    seed: int = 0,
    fresh: bool = False,
    jobs: int = 1,
    progress: bool = True,
    command: str | None = None,
    **settings: Any,
) -> Comparison:
    """Measure baselines and subjects under one protocol, and picture them.

    Each row is kept on disk when it is finished (see `zoo.evaluation.store`), and rows that are there are not measured
    again. So a comparison that was ended by Ctrl-C or killed goes on where it was. A row that cannot be measured costs
    the others nothing: it says why, and has no figures.

    Args:
        subjects: Maps row names to generators, functions and folders of `zoo run`, as the benchmark takes them.
        benchmark: A name of `benchmarks.names`.
        quick: Take fewer images and steps; the protocol's name says so.
        seed: Seed of latents, searches and probes.
        fresh: Measure rows again that are on disk.
        jobs: Number of processes that measure rows side by side. They share the CPU threads evenly and take turns on
            several GPUs. One that dies, for example because memory is full, costs its row.
        progress: Show progress bars with the time left.
        command: The command that repeats it, for the report; by default this process's command line.
        settings: The benchmark's own, for example `data_root`.

    Raises:
        ConfigError: The benchmark or a setting is unknown, or a subject is named like a baseline or cannot be measured.
        ZooError: A process cannot start, as in a script without `if __name__ == "__main__":`.
    """
    kind = benchmarks.find(benchmark)
    if taken := set(subjects) & set(kind.baselines):
        raise ConfigError(f"{min(taken)}: the name of a baseline; give the other row another name")
    given: dict[str, Subject] = {name: name for name in kind.baselines}
    opened = _open(benchmark, given | dict(subjects), Options(quick, seed, progress, settings))
    found: dict[str, Measured] = {}
    measured = rows_of(opened, jobs=jobs, fresh=fresh, progress=progress)
    told, began = not progress or jobs > 1, time.monotonic()
    with keeping(found, len(opened.subjects)), closing(measured):
        for name, each in measured:
            found[name] = each
            left = len(opened.subjects) - len(found)
            if not told and not isinstance(opened.subjects[name], str):  # baselines say nothing of a method's time
                told = foretell(f"{left} more row{'s' * (left > 1)}", left * (time.monotonic() - began))
            began = time.monotonic()
    finished = {name: found[name] for name in opened.subjects if name in found}
    return Comparison(
        opened,
        opened.ranked([each.row for each in finished.values()]),
        {name: each.sheets for name, each in finished.items() if not each.failed},
        command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        len(finished) == len(opened.subjects),
        {name: each.row.notes[0] for name, each in finished.items() if each.failed},
    )


def measure(
    name: str,
    subject: Subject,
    benchmark: str = "heads_v2",
    *,
    quick: bool = False,
    seed: int = 0,
    fresh: bool = False,
    progress: bool = True,
    **settings: Any,
) -> tuple[Benchmark, Row]:
    """The row of one subject, and the benchmark that knows how to show it; arguments are those of `compare`.

    Raises:
        ConfigError: As `compare`, or the subject has several rows.
    """
    opened = _open(benchmark, {name: subject}, Options(quick, seed, progress, settings))
    if len(opened.subjects) > 1:
        raise ConfigError(f"{name} has the rows {', '.join(opened.subjects)}; use zoo compare --benchmark {benchmark}")
    (only,) = opened.subjects
    with Steps(only, enabled=progress) as steps:
        return opened, row_of(opened, only, steps, fresh=fresh, drawn=False)[0]


def _open(benchmark: str, subjects: Mapping[str, Subject], options: Options) -> Benchmark:
    kind = benchmarks.find(benchmark)
    benchmarks.check(benchmark, options.settings)
    for subject in subjects.values():
        if isinstance(subject, str) and subject not in kind.baselines:
            raise ConfigError(f"{unknown('baseline', subject, kind.baselines)}. Load a model before it is scored")
        if isinstance(subject, FinishedRun) and not kind.takes_runs:
            raise ConfigError(f"{subject.folder}: a folder of zoo run, which the benchmark {benchmark} cannot score")
    keep_memory()
    return kind.open(subjects, options)
