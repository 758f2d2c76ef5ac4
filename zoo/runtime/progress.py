"""One progress line per stage, with the time left; in a log file, where no bar can move, a new line now and then.

Before anything that takes more than a minute one line says how long it will be, measured from its own first steps.
"""

import math
import threading
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
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from .launched import launch

EVERY = 30.0  # seconds between lines of a log file
LONG = 60.0  # seconds of work that are worth a line beforehand
FIRST = 5.0  # seconds of steps from which that line is reckoned
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


def roughly(seconds: float) -> str:
    """A length of time as people say it, such as `3 min` or `2 h 10 min`."""
    minutes = max(1, round(seconds / 60))
    if minutes >= 60:
        minutes = 10 * round(minutes / 10)
    hours, rest = divmod(minutes, 60)
    return " ".join([f"{hours} h"] * (hours > 0) + [f"{rest} min"] * (rest > 0))


def foretell(what: str, seconds: float, console: Console | None = None) -> bool:
    """Say on the error stream how long something will take, if that is more than a minute; whether it was said."""
    if seconds > LONG:
        line = f"{what}: about {roughly(seconds)} on this machine"
        (console or Console(stderr=True)).print(line, highlight=False, markup=False, soft_wrap=True)
    return seconds > LONG


class LogLines:
    """Tells a log file how far a bar is, at most every 30 seconds; on a terminal, where the bar is seen, nothing.

    Log file and terminal are both told once how long a task will take, if that is more than a minute. The first step is
    left out of the reckoning: compiling comes once. A field `detail` of the task is part of the lines; a field `whole`
    says what takes that long, where the description tells of parts.

    Args:
        bar: What is counted.
        enabled: Whether to say anything; by default, if the bar is shown.
    """

    def __init__(self, bar: Progress, enabled: bool | None = None) -> None:
        self.bar = bar
        told = not bar.disable if enabled is None else enabled
        self.told, self.silent = told, not told or bar.console.is_terminal
        self._said = bar.get_time()
        self._began: dict[TaskID, tuple[float, float]] = {}  # end of the first step, and what was done by then
        self._foretold: set[TaskID] = set()
        self._first = threading.Event()

    def until_first(self, what: str) -> None:
        """Say that `what` is going on, now and every 30 seconds, until the first step is over."""
        if not self.silent:
            threading.Thread(target=self._wait, args=(what, self.bar.get_time()), daemon=True).start()

    def _wait(self, what: str, began: float) -> None:
        self._print(what)
        while not self._first.wait(EVERY):
            self._print(f"{what}: {self.bar.get_time() - began:.0f} s so far")

    def stop(self) -> None:
        """The end of the work, whether or not a step came to its end."""
        self._first.set()

    def _print(self, line: str) -> None:
        self.bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def __call__(self, number: TaskID) -> None:
        """Call it after each step of a task."""
        now = self.bar.get_time()
        self._first.set()
        if not self.told:
            return
        task = next(t for t in self.bar.tasks if t.id == number)
        self._foretell(task, now)
        if self.silent or now - self._said < EVERY:
            return
        self._said = now
        left = "" if not task.time_remaining else f", {timedelta(seconds=round(task.time_remaining))} left"
        detail = ", ".join(["", task.fields["detail"]]) if task.fields.get("detail") else ""
        self._print(f"{task.description}: {task.percentage:.0f} %{detail}{left}")

    def _foretell(self, task: Task, now: float) -> None:
        began, done = self._began.get(task.id, (now, math.inf))
        if task.completed <= done:  # the first step, one that counts nothing, or the start of another stage
            self._began[task.id] = now, task.completed
            return
        if task.id in self._foretold or task.remaining is None or now - began < FIRST:
            return
        left = task.remaining * (now - began) / (task.completed - done)
        if foretell(task.fields.get("whole", task.description), left, self.bar.console):
            self._foretold.add(task.id)


class Steps:
    """Progress of one method through its stages, on the error stream, so that tables and JSON stay clean.

    Args:
        label: Written before every stage, for example the name of the method.
        enabled: False shows nothing.
        tell: Is called with what is being done and the finished share of it.
    """

    def __init__(
        self, label: str, *, enabled: bool = True, tell: Callable[[str, float], None] = lambda what, share: None
    ) -> None:
        self.label, self.tell = label, tell
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
        task, over = self._bar.add_task(f"{self.label}: {what}", total=total), 0

        def advance(done: int) -> None:
            nonlocal over
            over += done
            self._bar.advance(task, done)
            self._say(task)
            self.tell(what, over / max(total, 1))

        self.tell(what, 0.0)

        yield advance


@contextmanager
def counting(what: str, total: int, *, enabled: bool = True) -> Iterator[Callable[..., None]]:
    """One stage of `total` units whose bar goes when it is over; yields the function that counts one, or several."""
    shown = enabled and Console(stderr=True).is_terminal  # elsewhere a bar that goes leaves an empty line
    with make_bar(enabled=shown, transient=True) as bar:
        task, say = bar.add_task(what, total=total, whole=what.partition(":")[0]), LogLines(bar, enabled)

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
