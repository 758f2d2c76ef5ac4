"""One progress line per stage, with the time left; in a log file, where no bar can move, a new line now and then."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from datetime import timedelta
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from .launched import launch

EVERY = 30.0  # seconds between lines of a log file
WINDOW = 600.0  # seconds over which the time left is estimated: single steps may take minutes


def make_bar(*columns: ProgressColumn, enabled: bool = True, transient: bool = False) -> Progress:
    """A bar on the error stream, so that tables and JSON stay clean: what is done, these columns, the time left.

    Times are estimated from the first finished unit on: what comes before, such as compiling, comes once. Of several
    processes, the first alone shows it.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
        disable=not enabled or launch().rank > 0,
        transient=transient,
        speed_estimate_period=WINDOW,
    )


class LogLines:
    """Tells a log file how far a bar is, at most every 30 seconds; on a terminal, where the bar is seen, nothing.

    A field `detail` of the task is part of the line.

    Args:
        bar: What is counted.
        enabled: Whether to say anything; by default, if the bar is shown.
    """

    def __init__(self, bar: Progress, enabled: bool | None = None) -> None:
        self.bar = bar
        told = not bar.disable if enabled is None else enabled
        self.silent = not told or bar.console.is_terminal
        self._said = time.monotonic()
        self._first = threading.Event()

    def until_first(self, what: str) -> None:
        """Say that `what` is going on, now and every 30 seconds, until the first step is over."""
        if not self.silent:
            threading.Thread(target=self._wait, args=(what, time.monotonic()), daemon=True).start()

    def _wait(self, what: str, began: float) -> None:
        self._print(what)
        while not self._first.wait(EVERY):
            self._print(f"{what}: {time.monotonic() - began:.0f} s so far")

    def stop(self) -> None:
        """The end of the work, whether or not a step came to its end."""
        self._first.set()

    def _print(self, line: str) -> None:
        self.bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def __call__(self, number: TaskID) -> None:
        """Call it after each step of a task."""
        now = time.monotonic()
        self._first.set()
        if self.silent or now - self._said < EVERY:
            return
        self._said = now
        task = next(t for t in self.bar.tasks if t.id == number)
        left = "" if not task.time_remaining else f", {timedelta(seconds=round(task.time_remaining))} left"
        detail = ", ".join(["", task.fields["detail"]]) if task.fields.get("detail") else ""
        self._print(f"{task.description}: {task.percentage:.0f} %{detail}{left}")


class Steps:
    """Progress of one method through its stages, on the error stream, so that tables and JSON stay clean.

    Args:
        label: Written before every stage, for example the name of the method.
        enabled: False shows nothing.
    """

    def __init__(self, label: str, *, enabled: bool = True) -> None:
        self.label = label
        self._bar = make_bar(MofNCompleteColumn(), enabled=enabled)
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
def counting(what: str, total: int, *, enabled: bool = True) -> Iterator[Callable[..., None]]:
    """One stage of `total` units whose bar goes when it is over; yields the function that counts one, or several."""
    shown = enabled and Console(stderr=True).is_terminal  # elsewhere a bar that goes leaves an empty line
    with make_bar(enabled=shown, transient=True) as bar:
        task, say = bar.add_task(what, total=total), LogLines(bar, enabled)

        def advance(done: int = 1, now: str = what) -> None:
            bar.update(task, advance=done, description=now)
            say(task)

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


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """The same items, counted; `total` where they have no length."""
    if total is None:
        assert isinstance(items, Sized)
        total = len(items)
    with counting(what, total) as advance:
        for item in items:
            yield item
            advance()
