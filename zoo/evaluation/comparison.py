"""Several subjects under one protocol, with the pictures that go with the figures."""

import logging
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, Interrupted, ZooError, unknown
from ..fitting.runs import FinishedRun
from ..output.strips import Sheet
from ..runtime.files import printable
from ..runtime.memory import keep_memory
from ..runtime.progress import Steps, foretell, keeping
from . import benchmarks, store
from .benchmark import Benchmark, Kind, Options, Row, Subject

log = logging.getLogger(__name__)
_LONGEST = 300  # characters of what went wrong


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
        seed: Seed of latents and probes.
        fresh: Measure rows again that are on disk.
        progress: Show progress bars with the time left.
        command: The command that repeats it, for the report; by default this process's command line.
        settings: The benchmark's own, for example `data_root`.

    Raises:
        ConfigError: The benchmark or a setting is unknown, or a subject is named like a baseline or cannot be measured.
    """
    kind = benchmarks.find(benchmark)
    if taken := set(subjects) & set(kind.baselines):
        raise ConfigError(f"{min(taken)}: the name of a baseline; give the other row another name")
    given: dict[str, Subject] = {name: name for name in kind.baselines}
    opened = _open(benchmark, given | dict(subjects), Options(quick, seed, progress, settings))
    rows: list[Row] = []
    sheets: dict[str, list[Sheet]] = {}
    failed: dict[str, str] = {}
    told = not progress
    with keeping(rows, len(opened.subjects)):
        for name, subject in opened.subjects.items():
            began = time.monotonic()
            try:
                row, sheets[name] = _row(opened, name, subject, progress=progress, fresh=fresh, drawn=True)
            except Interrupted:
                raise
            except Exception as error:  # even a bug of one method must not cost the rows of the others
                row = _failed(opened, name, subject, error)
                failed[name] = row.notes[0]
            rows.append(row)
            left = len(opened.subjects) - len(rows)
            if not told and not isinstance(subject, str):  # baselines say nothing of how long a method takes
                told = foretell(f"{left} more row{'s' * (left > 1)}", left * (time.monotonic() - began))
    command = command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    complete = len(rows) == len(opened.subjects)
    return Comparison(opened, opened.ranked(rows), sheets, command, complete, failed)


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
    ((name, only),) = opened.subjects.items()
    return opened, _row(opened, name, only, progress=progress, fresh=fresh, drawn=False)[0]


def _row(
    opened: Benchmark, name: str, subject: Subject, *, progress: bool, fresh: bool, drawn: bool
) -> tuple[Row, list[Sheet]]:
    """A row, with its pictures if they are drawn or kept: from disk if it is there; else it is measured, and kept."""
    key = None if opened.data is None else opened.key(name) or store.key_of(subject, opened.options.seed)
    if key and not fresh and (found := store.find(opened, name, key)):
        return found
    with Steps(name, enabled=progress) as steps:
        try:
            row, pictures = opened.row(name, subject, steps)
        except ValueError as error:  # formulas do not know whose numbers they refuse
            raise ConfigError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from error
    sheets = pictures() if drawn or key else []
    return (store.keep(opened, row, sheets, key) if key else row), sheets


def _failed(opened: Benchmark, name: str, subject: Subject, error: Exception) -> Row:
    """The row of a subject that could not be measured: no figures, and one line that says why."""
    expected = isinstance(error, ZooError | OSError)
    why = str(error).removeprefix(f"{name}: ") if expected else f"{type(error).__name__}: {error}"
    note = printable(" ".join(f"failed: {why}".split()))[:_LONGEST]
    log.error("%s: %s", name, note, exc_info=not expected)  # a trace only where nobody has foreseen the error
    known = {column.key for column in opened.columns}
    nothing = dict.fromkeys(sorted(known - set(Row.__dataclass_fields__)))
    kind: Kind = "baseline" if isinstance(subject, str) else "model"
    return Row(name, kind, opened.protocol, 0, nothing, notes=[note])


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
