"""One progress line per stage, with the time left."""

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


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
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A stage of `total` units; yields the function that counts them."""
        task = self._bar.add_task(f"{self.label}: {what}", total=total)
        yield lambda done: self._bar.advance(task, done)


@contextmanager
def keeping(rows: Sized, total: int) -> Iterator[None]:
    """Ctrl-C ends what is inside, and is forgiven if at least one of the `total` rows is finished by then."""
    try:
        yield
    except KeyboardInterrupt:
        if not len(rows):
            raise
        Console(stderr=True).print(f"[yellow]interrupted: {len(rows)} of {total} rows are finished, and kept")
