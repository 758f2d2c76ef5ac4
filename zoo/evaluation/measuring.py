"""One row after the other, or several side by side: from disk if they are there; else measured, and kept."""

import logging
import pickle
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import ConfigError, Interrupted, ZooError
from ..output.strips import Sheet
from ..runtime.files import printable
from ..runtime.jobs import Died, Tell, side_by_side, threads_for
from ..runtime.progress import Steps
from . import store
from .benchmark import Benchmark, Kind, Row, Subject

log = logging.getLogger(__name__)
_LONGEST = 300  # characters of what went wrong


class Measured(NamedTuple):
    """A row with its pictures; a row that `failed` has neither figures nor pictures."""

    row: Row
    sheets: list[Sheet]
    failed: bool = False


def rows_of(
    opened: Benchmark, *, jobs: int, fresh: bool, progress: bool
) -> Generator[tuple[str, Measured], None, None]:
    """Every row of a benchmark as it is finished. One that cannot be measured says why and costs the others nothing.

    Args:
        opened: The benchmark.
        jobs: Number of processes that measure rows, each on an even share of the CPU threads. Rows that are not kept on
            disk, such as those of functions, are measured by this process.
        fresh: Measure rows again that are on disk.
        progress: Show progress lines.

    Yields:
        The name of a row, and the row.
    """
    keys: dict[str, str | None] = {}
    if jobs > 1:
        keys = {name: _key(opened, name, subject) for name, subject in opened.subjects.items()}
    shared = {name for name, key in keys.items() if key and (fresh or not store.find(opened, name, key))}
    work = _Work(opened, fresh)
    if shared and not _can_be_sent(work):
        shared = set()
    own = [name for name in opened.subjects if name not in shared]
    later = [name for name in own if shared and not keys[name]]  # the others are on disk
    for name in [name for name in own if name not in later]:
        yield name, _alone(opened, name, fresh=fresh, progress=progress)
    longest_first = sorted(shared, key=lambda name: (-store.seconds_of(opened, keys[name] or ""), name))
    tasks = {name: name for name in longest_first}
    with closing(side_by_side(work, tasks, jobs, threads_for(jobs), progress=progress)) as results:
        for name, found in results:
            died = isinstance(found, Died)
            yield name, _failed(opened, name, ZooError(found.why)) if died else found
    for name in later:
        yield name, _alone(opened, name, fresh=fresh, progress=progress)


@dataclass(frozen=True)
class _Work:
    """What another process needs to know to measure a row."""

    opened: Benchmark
    fresh: bool

    def __call__(self, name: str, tell: Tell) -> Measured:
        return _attempt(self.opened, name, Steps(name, enabled=False, tell=tell), fresh=self.fresh)


def _can_be_sent(work: _Work) -> bool:
    try:
        pickle.dumps(work)
    except Exception as error:  # a function without a name, an object that is bound to this process
        log.warning("rows are measured one after the other: they cannot be sent to other processes (%s)", error)
        return False
    return True


def _alone(opened: Benchmark, name: str, *, fresh: bool, progress: bool) -> Measured:
    with Steps(name, enabled=progress) as steps:
        return _attempt(opened, name, steps, fresh=fresh)


def _attempt(opened: Benchmark, name: str, steps: Steps, *, fresh: bool) -> Measured:
    try:
        return Measured(*row_of(opened, name, steps, fresh=fresh, drawn=True))
    except Interrupted:
        raise
    except Exception as error:  # even a bug of one method must not cost the rows of the others
        return _failed(opened, name, error)


def row_of(opened: Benchmark, name: str, steps: Steps, *, fresh: bool, drawn: bool) -> tuple[Row, list[Sheet]]:
    """A row, with its pictures if they are drawn or kept: from disk if it is there; else it is measured, and kept.

    Raises:
        ConfigError: Formulas refuse its numbers.
        ZooError: See `Benchmark.row`.
    """
    subject = opened.subjects[name]
    key = _key(opened, name, subject)
    if key and not fresh and (found := store.find(opened, name, key)):
        return found
    try:
        row, pictures = opened.row(name, subject, steps)
    except ValueError as error:  # formulas do not know whose numbers they refuse
        raise ConfigError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from error
    sheets = pictures() if drawn or key else []
    return (store.keep(opened, row, sheets, key) if key else row), sheets


def _key(opened: Benchmark, name: str, subject: Subject) -> str | None:
    if opened.data is None:
        return None
    seed = 0 if isinstance(subject, str) and subject in opened.unseeded else opened.options.seed
    return opened.key(name) or store.key_of(subject, seed)


def _failed(opened: Benchmark, name: str, error: Exception) -> Measured:
    """The row of a subject that could not be measured: no figures, and one line that says why."""
    expected = isinstance(error, ZooError | OSError)
    why = str(error).removeprefix(f"{name}: ") if expected else f"{type(error).__name__}: {error}"
    note = printable(" ".join(f"failed: {why}".split()))[:_LONGEST]
    log.error("%s: %s", name, note, exc_info=not expected and error)  # a trace only where nobody has foreseen the error
    known = {column.key for column in opened.columns}
    nothing = dict.fromkeys(sorted(known - set(Row.__dataclass_fields__)))
    kind: Kind = "baseline" if isinstance(opened.subjects[name], str) else "model"
    return Measured(Row(name, kind, opened.protocol, 0, nothing, notes=[note]), [], failed=True)
