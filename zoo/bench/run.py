"""Runs a bench: times what it lists beside the machine's limit, and measures memory; says what it left out."""

import time
from collections.abc import Iterator
from importlib import import_module

from . import limits
from .harness import Row, Say, Work, interleaved
from .peak import peak

BENCHES = ("fields", "train", "fit", "load", "memory")


def measure(bench: str, device: str = "cpu", seconds: float = 600.0, say: Say = lambda _: None) -> Iterator[Row]:
    """The rows of a bench, one after the other.

    Args:
        bench: One of `BENCHES`.
        device: "cpu" or "cuda".
        seconds: No row is begun after so long, nor a new turn once it has three; what is left out is said.
        say: Is told what is under way.
    """
    module, end = import_module(f"zoo.bench.{bench}"), time.monotonic() + seconds
    works: list[Work] = module.works(device)
    for number, work in enumerate(works):
        if (left := end - time.monotonic()) <= 0:
            say(f"left out, as {seconds:g} seconds are over: {', '.join(w.name for w in works[number:])}")
            return
        say(work.name)
        if bench != "memory":
            yield _row(bench, number, work, device, min(left / 2, 90.0))
        else:
            yield _memory_row(bench, number, work, device)
    if hasattr(module, "steps"):
        yield from module.steps(device, max(0.0, end - time.monotonic()), say)


def count(bench: str, device: str = "cpu") -> int:
    """How many rows a bench has where nothing is left out."""
    module = import_module(f"zoo.bench.{bench}")
    return len(module.works(device)) + len(getattr(module, "RECIPES", ()))


def _row(bench: str, number: int, work: Work, device: str, seconds: float) -> Row:
    found = interleaved(work.make(), seconds=seconds)
    other = next((name for name in found if name != "zoo"), "")
    limit = limits.seconds(work.flops, work.sines, work.width, device) if work.flops else None
    own, theirs = None, None
    if bench != "load":
        own = peak(bench, number, "zoo", device)
        theirs = peak(bench, number, other, device) if other else None
    return Row(work.name, found["zoo"], other, found.get(other), limit, work.images, own, theirs)


def _memory_row(bench: str, number: int, work: Work, device: str) -> Row:
    other = work.ways[1] if len(work.ways) > 1 else ""
    theirs = peak(bench, number, other, device) if other else None
    return Row(work.name, None, other, None, None, work.images, peak(bench, number, "zoo", device), theirs)
