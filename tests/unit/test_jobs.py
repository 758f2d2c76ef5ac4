"""Work on several processes side by side: the same results as on one, and a death costs one task and no other."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from zoo.errors import DataError, ZooError
from zoo.evaluation import benchmarks, store
from zoo.evaluation.benchmark import Benchmark, Column, Options, Pictures, Row, Subject
from zoo.evaluation.comparison import Comparison, compare
from zoo.runtime import jobs
from zoo.runtime.jobs import side_by_side
from zoo.runtime.progress import Steps


@dataclass(frozen=True)
class Toy(Benchmark):
    """Rows whose figures depend on the order of sums, and rows that end badly."""

    title = "Toy"
    baselines: ClassVar[tuple[str, ...]] = ("one", "dies", "two", "three")
    bar = "sum"
    bar_caption = ""
    columns = (Column("sum", "Sum"),)
    protocol = "toy-v1"
    data = ""

    subjects: Mapping[str, Subject]
    options: Options

    @classmethod
    def open(cls, subjects: Mapping[str, Subject], options: Options) -> "Toy":
        return cls(subjects, options)

    def row(self, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        if name == "dies" and parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "slow":
            (Path(self.options.settings["place"]) / "slow").write_text(str(os.getpid()))
            time.sleep(600)
        if name == "wrong":
            raise ValueError("no such depth")
        draws = torch.Generator().manual_seed(len(name))
        with steps.task("adding", 1) as advance:
            values = torch.randn(300, 300, generator=draws)
            figure = float((values @ values).softmax(1).std() + 0)
            advance(1)
        return Row(name, "baseline", self.protocol, 1, {"sum": figure}, 1.0), list

    def words(self) -> list[str]:
        return []

    def lead(self, rows: Any) -> str:
        return ""


def toy(monkeypatch: pytest.MonkeyPatch, *names: str, count: int = 2, **settings: Any) -> Comparison:
    monkeypatch.setattr(benchmarks, "find", lambda name: Toy)
    monkeypatch.setattr(benchmarks, "check", lambda name, given: None)
    monkeypatch.setattr(Toy, "baselines", names)
    return compare({}, "toy", jobs=count, progress=False, **settings)


def figures(result: Comparison) -> dict[str, Any]:
    return {row.name: row.figures["sum"] for row in result.rows}


def test_rows_side_by_side_are_those_of_one_process_and_a_death_costs_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for place in ("alone", "together"):
        monkeypatch.setenv("ZOO_RESULTS", str(tmp_path / place))
        result = toy(monkeypatch, "one", "dies", "wrong", "two", count=1 if place == "alone" else 2)
        if place == "alone":
            alone = figures(result)
    assert list(figures(result)) == list(alone), "rows stand in the order of the benchmark, not of their ends"
    assert figures(result) == {**alone, "dies": None}
    assert result.failed["dies"].startswith("failed: its process was ended by SIGKILL")
    assert result.failed["wrong"] == "failed: no such depth"
    assert result.complete
    kept = sorted(path.stem for path in (tmp_path / "together" / "toy-v1").glob("*.json"))
    assert kept == ["one", "two"]
    # What is on disk is not measured again, and needs no process.
    monkeypatch.setattr(jobs, "_Child", None)
    assert figures(toy(monkeypatch, "one", "two")) == {"one": alone["one"], "two": alone["two"]}


@pytest.mark.slow  # interpreters start
def test_ctrl_c_ends_all_processes_at_once_and_keeps_what_is_finished(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOO_RESULTS", str(tmp_path))
    flag = tmp_path / "slow"

    def press() -> None:
        while not (flag.exists() and flag.read_text() and (tmp_path / "toy-v1" / "one.json").is_file()):
            time.sleep(0.02)
        time.sleep(0.2)  # the finished row is on its way
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test in the background ignores it
    try:
        result = toy(monkeypatch, "slow", "one", place=tmp_path)
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert list(figures(result)) == ["one"]
    assert not result.complete
    assert "1 of 2 rows are finished" in capsys.readouterr().err
    with pytest.raises(ProcessLookupError):
        os.kill(int(flag.read_text()), 0)


def look(task: Any, tell: jobs.Tell) -> Any:
    """A task for other processes: what one of them is like."""
    if isinstance(task, Exception):
        raise task
    print("said by", task, file=sys.stderr)
    tell("looking", 0.5)
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), torch.get_num_threads(), sys.stderr.isatty()


def test_a_process_is_deaf_to_ctrl_c_and_passes_on_lines_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    tasks = {"a": "a", "b": DataError("b.png: damaged")}
    with closing(side_by_side(look, tasks, 1, 1)) as results:
        assert next(results) == ("a", (True, 1, False))
        with pytest.raises(DataError, match=r"^b\.png: damaged$"):
            next(results)
    shown = capsys.readouterr().err
    assert "said by a" in shown
    assert "a: over after" in shown
    assert list(side_by_side(look, {}, 4, 1)) == []


class Broken:
    """Cannot be unpickled: what a script without a guard looks like from outside."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    if parent_process() is not None:
        sys.exit(3)


@pytest.mark.slow  # interpreters start
def test_a_process_that_cannot_start_is_no_failed_row() -> None:
    with pytest.raises(ZooError, match=r"a process for a did not start .* or use one job"):
        list(side_by_side(Broken(), {"a": 1}, 1, 1, progress=False))  # type: ignore[arg-type]


def test_processes_take_turns_on_several_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for visible, expected in ((None, ["0", "1", "0"]), ("4, 7", ["4", "7", "4"])):
        if visible:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        else:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        seen = []
        for slot in range(3):
            with jobs._seeing(slot):
                seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        assert seen == expected
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


def test_the_longest_rows_are_begun_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_RESULTS", str(tmp_path))
    opened = Toy({"one": "one", "two": "two"}, Options())
    for name, seconds in (("one", 5.0), ("two", 9.0)):
        store.keep(opened, Row(name, "baseline", "toy-v1", 1, {"sum": 1.0}, seconds), [], name)
    assert [store.seconds_of(opened, name) for name in ("one", "two", "three")] == [5, 9, float("inf")]


@pytest.mark.slow  # interpreters start
def test_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    code = "\n".join([
        "from tests.unit.test_jobs import wait",
        "from zoo.runtime.jobs import side_by_side",
        f"if __name__ == '__main__': list(side_by_side(wait, {{'a': {str(tmp_path / 'pid')!r}}}, 1, 1))",
    ])  # fmt: skip
    script = tmp_path / "script.py"
    script.write_text(code)
    with subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": os.getcwd()}) as process:
        pid = tmp_path / "pid"
        while not (pid.exists() and pid.read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    for _ in range(200):
        try:
            os.kill(int(pid.read_text()), 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the child lives on")


def wait(place: str, tell: jobs.Tell) -> None:
    """A task that never ends."""
    Path(place).write_text(str(os.getpid()))
    time.sleep(600)
