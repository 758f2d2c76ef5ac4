"""A progress bar for work on images, on the error stream and only where somebody watches."""

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """The same items; `total` where they have no length."""
    console = Console(stderr=True)
    return rich_track(items, what, total, console=console, transient=True, disable=not console.is_terminal)
