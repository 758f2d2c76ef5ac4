"""One progress line per stage, with the time left; in a log file, where no bar can move, a new line now and then."""

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from datetime import timedelta
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import track as rich_track

EVERY = 30.0  # seconds between lines of a log file
WINDOW = 600.0  # seconds over which the time left is estimated: single steps may take minutes


class LogLines:
    """Tells a log file how far a bar is, at most every 30 seconds; on a terminal, where the bar is seen, nothing."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self._said = time.monotonic()

    def __call__(self, number: TaskID) -> None:
        """Call it after each step of a task."""
        now = time.monotonic()
        if self.bar.disable or self.bar.console.is_terminal or now - self._said < EVERY:
            return
        self._said = now
        task = next(t for t in self.bar.tasks if t.id == number)
        left = "" if not task.time_remaining else f", {timedelta(seconds=round(task.time_remaining))} left"
        line = f"{task.description}: {task.percentage:.0f} %{left}"
        self.bar.console.print(line, highlight=False, markup=False, soft_wrap=True)


class Steps:
    """Progress of one method through its stages, on the error stream, so that tables and JSON stay clean.

    Args:
        label: written before every stage, for example the name of the method.
        enabled: False shows nothing.
    """

    def __init__(self, label: str, *, enabled: bool = True) -> None:
        self.label = label
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
            disable=not enabled,
            speed_estimate_period=WINDOW,
        )
        self._say = LogLines(self._bar)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A stage of `total` units; yields the function that counts them."""
        task = self._bar.add_task(f"{self.label}: {what}", total=total)

        def advance(done: int) -> None:
            self._bar.advance(task, done)
            self._say(task)

        yield advance


@contextmanager
def keeping(rows: Sized, total: int) -> Iterator[None]:
    """Ctrl-C ends what is inside, and is forgiven if at least one of the `total` rows is finished by then."""
    try:
        yield
    except KeyboardInterrupt:
        if not len(rows):
            raise
        Console(stderr=True).print(f"[yellow]interrupted: {len(rows)} of {total} rows are finished, and kept")


T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """The same items; `total` where they have no length."""
    console = Console(stderr=True)
    return rich_track(items, what, total, console=console, transient=True, disable=not console.is_terminal)
