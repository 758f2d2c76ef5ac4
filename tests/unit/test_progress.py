"""What long work tells a log file."""

import io
import time

import pytest
from rich.console import Console
from rich.progress import Progress

from zoo.runtime import progress
from zoo.runtime.progress import LogLines, Steps, counting, foretell, roughly, track


def told(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, every: float, disable: bool = False) -> list[str]:
    """The lines after each half of a task of two units."""
    monkeypatch.setattr(progress, "EVERY", every)
    stream = io.StringIO()
    # Never started, so that the bar itself draws nothing.
    bar = Progress(console=Console(file=stream, force_terminal=terminal, width=80), disable=disable)
    task, say = bar.add_task("pigan: probing", total=2), LogLines(bar)
    for _ in range(2):
        bar.advance(task)
        say(task)
    return stream.getvalue().splitlines()


def test_a_log_file_gets_lines_and_a_terminal_none(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = told(monkeypatch, terminal=False, every=0)
    assert first.startswith("pigan: probing: 50 %")
    assert second == "pigan: probing: 100 %"
    assert told(monkeypatch, terminal=True, every=0) == []
    assert told(monkeypatch, terminal=False, every=0, disable=True) == []


def test_lines_keep_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, terminal=False, every=3600) == []


def test_stages_report_on_the_error_stream(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "EVERY", 0)
    with Steps("pigan") as steps, steps.task("probing", 4) as advance:
        advance(1)
        said = capsys.readouterr()
    assert "pigan: probing: 25 %" in said.err
    assert said.out == ""


def test_the_first_step_is_told_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.01)
    stream = io.StringIO()
    bar = Progress(console=Console(file=stream, width=80))
    task, say = bar.add_task("pigan", total=2, detail="9 images/s"), LogLines(bar)
    say.until_first("pigan: first step, compiling")
    deadline = time.monotonic() + 20
    while "s so far" not in stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    bar.advance(task)
    say(task)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "pigan: first step, compiling"
    assert lines[1] == "pigan: first step, compiling: 0 s so far"
    assert any(line.startswith("pigan: 50 %, 9 images/s") for line in lines)


def test_a_bar_that_goes_leaves_lines_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with counting("filming", 4) as advance:
        advance()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "EVERY", 0)
    with counting("filming", 4) as advance:
        advance(3)
    assert capsys.readouterr().err.splitlines() == ["filming: 75 %"]


def test_counted_items_are_the_same_and_tell_a_log_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0)
    assert list(track([7, 8], "rendering")) == list(track(iter([7, 8]), "rendering", 2)) == [7, 8]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" %")[0] for line in lines] == ["rendering: 50", "rendering: 100"] * 2


def foretold(seconds_a_step: float, steps: int, *, first: float = 0.0, terminal: bool = False) -> list[str]:
    """What is said, by a fake clock, in the course of a task whose first step takes longer by `first`."""
    clock, stream = [0.0], io.StringIO()
    bar = Progress(console=Console(file=stream, force_terminal=terminal, width=80), get_time=lambda: clock[0])
    task, say = bar.add_task("training", total=steps), LogLines(bar)
    clock[0] += first
    for _ in range(steps):
        clock[0] += seconds_a_step
        bar.advance(task)
        say(task)
    return [line for line in stream.getvalue().splitlines() if " about " in line]


@pytest.mark.parametrize("terminal", [False, True])
def test_long_work_says_once_how_long_it_takes(terminal: bool) -> None:
    assert foretold(2.0, 600, terminal=terminal) == ["training: about 20 min on this machine"]
    assert foretold(0.1, 500, terminal=terminal) == []  # 50 s in all


def test_compiling_does_not_count_for_the_rest() -> None:
    assert foretold(1.0, 181, first=300.0) == ["training: about 3 min on this machine"]


def test_each_stage_says_its_own_time() -> None:
    clock, stream = [0.0], io.StringIO()
    bar = Progress(console=Console(file=stream, width=80), get_time=lambda: clock[0])
    say = LogLines(bar)
    for name in ("drawing", "probing"):
        task = bar.add_task(name, total=100, completed=50)  # as a training that goes on does
        for _ in range(10):
            clock[0] += 6
            bar.advance(task)
            say(task)
    lines = [line for line in stream.getvalue().splitlines() if " about " in line]
    assert lines == ["drawing: about 5 min on this machine", "probing: about 5 min on this machine"]


def test_what_is_said_names_the_whole_work(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "FIRST", 0)
    monkeypatch.setattr(progress, "LONG", 0)
    with counting("inverting: looking around", 3) as advance:
        advance(1, "inverting: loss 0.2")
        time.sleep(0.001)
        advance(1, "inverting: loss 0.1")
    assert capsys.readouterr().err == "inverting: about 1 min on this machine\n"


def test_lengths_of_time_are_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert [roughly(s) for s in (20, 61, 3599, 7900, 14400)] == ["1 min", "1 min", "1 h", "2 h 10 min", "4 h"]
    assert not foretell("3 more rows", 59)
    assert foretell("3 more rows", 200)
    assert capsys.readouterr().err == "3 more rows: about 3 min on this machine\n"
