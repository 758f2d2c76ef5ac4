"""Whatever ends a run, the same command with resume=auto goes on, and on a CPU to the same bits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from zoo.config.recipes import load_run
from zoo.errors import ConfigError, WeightsError, ZooError
from zoo.systems.run import run_folder, train
from zoo.weights.checkpoints import checkpoints, latest, read_checkpoint

COMMAND = [sys.executable, "-m", "zoo", "train"]


def same_state(a: Path, b: Path) -> None:
    left, right = read_checkpoint(a), read_checkpoint(b)
    assert left["state_dict"].keys() == right["state_dict"].keys()
    for key, value in left["state_dict"].items():
        assert torch.equal(value, right["state_dict"][key]), key
    for one, other in zip(left["optimizer_states"], right["optimizer_states"], strict=True):
        for index, moments in one["state"].items():
            for key, value in moments.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(other["state"][index][key])), (index, key)


@pytest.mark.parametrize("method", ["pigan", "shadegan"])
def test_stopping_and_going_on_changes_nothing(method: str, tiny) -> None:
    whole = train(load_run(method, tiny("trainer.max_kimg=0.04", out="whole")))
    first = train(load_run(method, tiny("trainer.max_kimg=0.02", out="parts")))
    second = train(load_run(method, tiny("trainer.max_kimg=0.04", "resume=auto", out="parts")))
    assert first == second
    same_state(latest(whole / "checkpoints"), latest(second / "checkpoints"))
    lines = (second / "metrics.jsonl").read_text().splitlines()
    assert lines == (whole / "metrics.jsonl").read_text().splitlines()


def test_surface_tracking_learns_and_resumes(tiny) -> None:
    extra = ["generator.surface_tracking=true", "generator.surface_size=16", "generator.surface_features=4",
             "generator.tracking_start=0.008", "generator.steps_min=4"]  # fmt: skip
    whole = train(load_run("shadegan", tiny("trainer.max_kimg=0.032", *extra, out="whole")))
    train(load_run("shadegan", tiny("trainer.max_kimg=0.016", *extra, out="parts")))
    parts = train(load_run("shadegan", tiny("trainer.max_kimg=0.032", "resume=auto", *extra, out="parts")))
    same_state(latest(whole / "checkpoints"), latest(parts / "checkpoints"))
    assert '"surface"' in (parts / "metrics.jsonl").read_text()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_sigterm_saves_and_says_how_to_go_on(workers: int, tiny, tmp_path: Path) -> None:
    """Launchers send it to all processes, workers among them."""
    (faces := tmp_path / "faces").mkdir()
    for i in range(8):
        Image.new("RGB", (32, 32), (30 * i, 0, 0)).save(faces / f"{i}.png")
    overrides = tiny("trainer.max_kimg=100", "trainer.checkpoint_kimg=50", "data=folder", f"data.root={faces}")
    overrides.remove("data.length=40")  # of heads
    overrides += [f"data.workers={workers}", "data.cache=never"]
    folder = run_folder(load_run("pigan", overrides))
    process = subprocess.Popen(
        [*COMMAND, "pigan", *overrides], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    records, deadline = folder / "metrics.jsonl", time.monotonic() + 300
    try:
        # The third record is of a later step than the first, which is not waited for: it may compile for a minute.
        while not (records.exists() and records.read_text().count("\n") > 2) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert "resume=auto" in errors
    assert "Traceback" not in errors
    assert "GPU available" not in errors  # nor anything else that Lightning has to say
    assert "litlogger" not in errors
    assert process.returncode == 128 + signal.SIGTERM
    assert latest(folder / "checkpoints") is not None


def test_a_run_is_never_overwritten_by_accident(tiny) -> None:
    train(load_run("pigan", tiny("trainer.max_kimg=0.008")))
    with pytest.raises(ConfigError, match="resume=auto"):
        train(load_run("pigan", tiny("trainer.max_kimg=0.008")))


def test_a_damaged_checkpoint_is_passed_over(tiny) -> None:
    folder = train(load_run("pigan", tiny("trainer.max_kimg=0.032"))) / "checkpoints"
    newest, older = checkpoints(folder)[-1], checkpoints(folder)[-2]
    newest.write_bytes(newest.read_bytes()[:-100])
    (folder / ".images000000099.ckpt.abc.tmp").write_bytes(b"half")
    assert latest(folder) == older
    with pytest.raises(WeightsError, match="damaged"):
        read_checkpoint(newest)
    train(load_run("pigan", tiny("trainer.max_kimg=0.048", "resume=auto")))
    assert not list(folder.glob(".*.tmp"))
    assert latest(folder).name == "images000000048.ckpt"


def test_a_run_whose_checkpoints_are_all_damaged_starts_again_and_keeps_what_it_saves(tiny) -> None:
    run = train(load_run("pigan", tiny("trainer.max_kimg=0.032")))
    records = (run / "metrics.jsonl").read_text()
    for damaged in checkpoints(run / "checkpoints"):
        damaged.write_bytes(damaged.read_bytes()[:-100])
    train(load_run("pigan", tiny("trainer.max_kimg=0.012", "resume=auto")))
    assert [path.name for path in checkpoints(run / "checkpoints")] == ["images000000012.ckpt"]
    assert latest(run / "checkpoints") is not None
    assert not [*(run / "checkpoints").glob("*.stale")]
    assert (run / "metrics.stale").read_text() == records
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3


def test_growing_changes_size_and_batch(tiny) -> None:
    stages = "system.stages=[{size: 16, batch: 4}, {kimg: 0.012, size: 32, batch: 2, fade_kimg: 0.008}]"
    folder = train(load_run("shadegan", tiny("trainer.max_kimg=0.024", stages)))
    text = (folder / "metrics.jsonl").read_text()
    assert '"size": 16' in text
    assert '"size": 32' in text
    assert '"alpha": 0.25' in text


def test_rates_that_jump_are_told(tiny, caplog: pytest.LogCaptureFixture) -> None:
    stages = "system.stages=[{size: 16, batch: 4, lr_decay: true}]"
    train(load_run("pigan", tiny("trainer.max_kimg=0.016", stages)))
    train(load_run("pigan", tiny("trainer.max_kimg=0.032", stages, "resume=auto")))
    assert "trainer.max_kimg=0.032 (0.016 before): learning rates" in caplog.text
    assert "jump from 10 to 55 % of their first value" in caplog.text
    caplog.clear()
    train(load_run("pigan", tiny("trainer.max_kimg=0.032", out="other")))
    train(load_run("pigan", tiny("trainer.max_kimg=0.04", "resume=auto", out="other")))
    assert "learning rates fall" not in caplog.text


def test_stale_checkpoints_do_not_win(tiny) -> None:
    folder = train(load_run("pigan", tiny("trainer.max_kimg=0.032"))) / "checkpoints"
    older = checkpoints(folder)[0]
    train(load_run("pigan", tiny("trainer.max_kimg=0.024", f"resume={older}")))
    assert latest(folder).name == "images000000024.ckpt"
    assert not [*folder.glob("*.stale")]  # the new branch has a checkpoint


def test_what_cannot_be_resumed_leaves_the_run_as_it_is(tiny, tmp_path: Path) -> None:
    folder = train(load_run("pigan", tiny("trainer.max_kimg=0.032")))
    other = train(load_run("pigan", tiny("trainer.max_kimg=0.016", "generator.hidden_dim=8", out="other")))
    damaged = tmp_path / "images000000004.ckpt"
    damaged.write_bytes(checkpoints(folder / "checkpoints")[0].read_bytes()[:-100])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for path, message in ((damaged, "damaged"), (other, "another architecture")):
        with pytest.raises(WeightsError, match=message):
            train(load_run("pigan", tiny("trainer.max_kimg=0.048", f"resume={path}")))
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_checkpoints_given_up_stay_until_there_is_a_new_one(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = train(load_run("pigan", tiny("trainer.max_kimg=0.032"))) / "checkpoints"
    branch = ["trainer.max_kimg=0.024", f"resume={checkpoints(folder)[0]}"]
    stale = folder / "images000000032.stale"
    with monkeypatch.context() as patch:
        patch.setattr("zoo.losses.generator_loss", lambda score, keep: score.mean() * float("nan"))
        for _ in range(2):
            with pytest.raises(ZooError, match="not finite"):
                train(load_run("pigan", tiny(*branch)))
            assert stale.exists()
    train(load_run("pigan", tiny(*branch)))
    assert not stale.exists()


def test_operational_settings_do_not_move_a_run(tiny) -> None:
    plain = run_folder(load_run("pigan", tiny()))
    assert run_folder(load_run("pigan", tiny("data.workers=2", "trainer.max_kimg=7"))) == plain
    assert run_folder(load_run("pigan", tiny("generator.steps=7"))) != plain


def test_weights_that_are_not_numbers_are_never_saved(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.losses.generator_loss", lambda score, keep: score.mean() * float("nan"))
    run = load_run("pigan", tiny("trainer.max_kimg=0.032"))
    with pytest.raises(ZooError, match="not finite"):
        train(run)
    assert not checkpoints(run_folder(run) / "checkpoints")


@pytest.mark.slow
def test_two_processes_learn_together(tiny) -> None:
    overrides = tiny("trainer.max_kimg=0.032", "trainer.devices=2")
    done = subprocess.run([*COMMAND, "pigan", *overrides], capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    folder = run_folder(load_run("pigan", overrides))
    assert read_checkpoint(latest(folder / "checkpoints"))["zoo"]["kimg"] == pytest.approx(0.032)
