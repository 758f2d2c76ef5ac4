"""The allocator keeps what it has, and older C libraries get the most that they take."""

import ctypes
import sys
from typing import Any

import pytest

from zoo.cli import main as cli
from zoo.runtime import memory


class Library:
    """A C library that refuses thresholds above `most`."""

    def __init__(self, most: int) -> None:
        self.most, self.asked = most, []

    def mallopt(self, what: int, value: int) -> int:
        self.asked.append((what, value))
        return int(what != memory._MMAP_THRESHOLD or value <= self.most)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
@pytest.mark.parametrize(("most", "thresholds"), [(2**31, [2**30]), (2**25, [2**30, 2**25])])
def test_the_threshold_is_the_most_that_the_library_takes(
    most: int, thresholds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(most)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    memory.keep_memory()
    assert [value for what, value in library.asked if what == memory._MMAP_THRESHOLD] == thresholds
    assert (memory._TRIM_THRESHOLD, 2**31 - 1) in library.asked


def test_every_command_keeps_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr(cli, "keep_memory", lambda: called.append(1))
    with pytest.raises(SystemExit):
        cli.main(["list"])
    assert called == [1]
