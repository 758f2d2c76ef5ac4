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


def test_who_waits_for_a_compilation_is_told_so_once(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    loops = "from zoo.runtime import compiled\ncompiled._LONG = {}\n"
    loops += "@compiled.njit()\ndef one(x): return x + 1\n@compiled.njit()\ndef two(x): return one(x) + 1\n"
    paths = os.pathsep.join([str(tmp_path / "own"), str(Path(compiled.__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": paths, "NUMBA_CACHE_DIR": str(tmp_path / "kept")}

    def said(seconds: str) -> str:
        (tmp_path / "own" / "loops.py").write_text(loops.format(seconds), "utf-8")
        program = "import loops; print(loops.two(1) + loops.one(2.5))"
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == "6.5", done.stderr
        return done.stderr

    assert said("1e9") == ""
    assert said("0.0").count("compiling loops for this processor") == 1
    assert said("0.0") == ""  # they were kept


def test_a_loop_is_compiled_anew_when_one_that_it_calls_has_changed(tmp_path: Path) -> None:
    start = "from zoo.runtime.compiled import njit\n"
    files = {
        "numbers_of": "FACTOR = {}\n",
        "deep": f"{start}from numbers_of import FACTOR\n@njit()\ndef deep(x): return FACTOR * x\n",
        "inner": f"{start}from deep import deep\n@njit()\ndef inner(x): return deep(x)\n",
        "outer": f"{start}from inner import inner\n@njit()\ndef outer(x): return inner(x) + 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text(text, "utf-8")
    paths = os.pathsep.join(str(path) for path in [*(tmp_path / n for n in files), Path(compiled.__file__).parents[2]])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}

    def result(factor: int) -> str:
        (tmp_path / "numbers_of" / "numbers_of.py").write_text(f"FACTOR = {factor}\n", "utf-8")
        program = "from outer import outer; print(outer(5), sum(outer.stats.cache_hits.values()))"
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert result(2) == "11 0"
    assert result(2) == "11 1"
    assert result(3) == "16 0"
