"""Compiled loops work without a folder to keep them in."""

import logging

import pytest
from numba.core.caching import CacheImpl

from zoo.runtime import compiled


def test_without_a_place_to_write_loops_are_compiled_each_time_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])  # none of numba's places can be written to
    compiled._say.cache_clear()
    with caplog.at_level(logging.WARNING):
        one, two = (compiled.njit(nogil=True)(lambda x, more=more: x + more) for more in (1, 2))
    assert len(caplog.records) == 1
    assert "NUMBA_CACHE_DIR" in caplog.text
    assert (one.py_func(1), two.py_func(1)) == (2, 3)
