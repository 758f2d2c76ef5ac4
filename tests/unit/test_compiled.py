"""Compiled loops are kept while they are true, and work without a folder to keep them in."""

import logging
import os
import subprocess
import sys
from pathlib import Path

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


def test_a_loop_is_compiled_anew_when_one_that_it_calls_has_changed(tmp_path: Path) -> None:
    def result(factor: int) -> str:
        folder = tmp_path / "loops"
        folder.mkdir(exist_ok=True)
        start = "from zoo.runtime.compiled import njit\n"
        (folder / "inner.py").write_text(f"{start}@njit()\ndef inner(x): return {factor} * x\n", "utf-8")
        outer = f"{start}from inner import inner\n@njit()\ndef outer(x): return inner(x) + 1\n"
        if not (folder / "outer.py").exists():
            (folder / "outer.py").write_text(outer, "utf-8")
        program = "from outer import outer; print(outer(5), sum(outer.stats.cache_hits.values()))"
        paths = os.pathsep.join([str(folder), str(Path(compiled.__file__).parents[2])])
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert result(2) == "11 0"
    assert result(2) == "11 1"
    assert result(3) == "16 0"
