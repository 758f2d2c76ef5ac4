"""What people did to runs: renamed or copied checkpoints, new settings, full disks, signals, two processes, NaN."""

import errno
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.cli import main as cli
from zoo.config.recipes import load_run
from zoo.errors import ConfigError, DataError, Interrupted, WeightsError, ZooError
from zoo.runtime import lock
from zoo.runtime.files import atomic_write, tidy
from zoo.systems import run as runs
from zoo.systems.folder import run_folder
from zoo.systems.run import train
from zoo.weights.checkpoints import checkpoints, digest_file, images_of, latest, not_finite, read_checkpoint

Tiny = Callable[..., list[str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 0.032 kimg, whose checkpoints are at 16 and 32 images; not to be changed."""
    from tests.train.conftest import TINY

    return train(load_run("pigan", [*TINY, "trainer.max_kimg=0.032", f"out={tmp_path_factory.mktemp('made')}"]))


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """The newest checkpoint of that run under another name, without its hash, in a folder of its own."""
    newest = latest(made / "checkpoints")
    assert newest is not None
    return Path(shutil.copy(newest, tmp_path / "best.ckpt"))


def again(tiny: Tiny, *more: str, method: str = "pigan") -> Path:
    return train(load_run(method, tiny("trainer.max_kimg=0.048", *more)))


# ---------------------------------------------------------------- checkpoints that moved


@pytest.mark.parametrize("digest", ["", "best.ckpt.sha256", "BEST.CKPT.SHA256"])
def test_a_renamed_checkpoint_goes_on(made: Path, copied: Path, digest: str, tiny: Tiny) -> None:
    if digest:  # as sha256sum writes it
        text = f"{hashlib.sha256(copied.read_bytes()).hexdigest().upper()}  {copied.name}\n"
        copied.with_name(digest).write_text(text)
    assert images_of(copied) == 32
    folder = again(tiny, f"resume={copied}")
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["kimg"] == pytest.approx(0.036)
    assert [images_of(p) for p in checkpoints(folder / "checkpoints")] == [48]
    assert zoo.load(f"file:{copied}").card.kimg == pytest.approx(0.032)  # type: ignore[union-attr]


def test_damage_shows_without_a_hash(copied: Path) -> None:
    data = bytearray(copied.read_bytes())
    with zipfile.ZipFile(copied) as file:
        largest = max(file.infolist(), key=lambda i: i.file_size)
    data[largest.header_offset + 200] ^= 1
    copied.write_bytes(data)
    with pytest.raises(WeightsError, match="its own check sums are wrong"):
        read_checkpoint(copied)
    digest_file(copied).write_text("0" * 64)
    with pytest.raises(WeightsError, match="SHA-256 does not match"):
        read_checkpoint(copied)


def test_a_run_whose_hashes_are_lost_goes_on(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made / "checkpoints", tmp_path / "checkpoints"))
    for digest in folder.glob("*.sha256"):
        digest.unlink()
    newest = latest(folder)
    assert newest is not None
    assert newest.name == "images000000032.ckpt"


def test_a_run_can_be_named_by_its_folder(made: Path, tiny: Tiny) -> None:
    folder = again(tiny, f"resume={made}", "system.r1=2")
    assert [images_of(p) for p in checkpoints(folder / "checkpoints")] == [48]


# ---------------------------------------------------------------- checkpoints that do not fit


def test_another_architecture_is_named(made: Path, tiny: Tiny) -> None:
    newest = latest(made / "checkpoints")
    with pytest.raises(WeightsError, match=r"another architecture.*generator.hidden_dim \(16 there, 24 here\)") as info:
        again(tiny, f"resume={newest}", "generator.hidden_dim=24")
    assert "\n" not in str(info.value)
    assert len(str(info.value)) < 500
    with pytest.raises(WeightsError, match="another architecture"):
        again(tiny, f"resume={newest}", method="shadegan")


@pytest.mark.parametrize("key", ["state_dict", "zoo", "optimizer_states", "loops", "pytorch-lightning_version"])
def test_a_part_that_is_missing_is_named(copied: Path, key: str, tiny: Tiny) -> None:
    content = torch.load(copied, weights_only=True)
    del content[key]
    torch.save(content, copied)
    with pytest.raises(WeightsError, match=f"it has no {key}") as info:
        again(tiny, f"resume={copied}")
    assert "\n" not in str(info.value)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("hostile",))


@pytest.mark.parametrize("kind", ["object", "text", "tensor"])
def test_refusals_are_in_our_own_words(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "images000000004.ckpt"
    if kind == "text":
        path.write_bytes(pickle.dumps(Payload()))
    else:
        torch.save(Payload() if kind == "object" else torch.ones(1), path)
    digest_file(path).write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(WeightsError) as info:
        read_checkpoint(path)
    assert not any(word in str(info.value) for word in ("weights_only", "add_safe_globals", "trusted", "\n"))


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(("method", "setting", "key", "value"), [
    ("pigan", "system.betas=[0.5,0.7]", "betas", (0.5, 0.7)),
    ("unsup3d", "system.weight_decay=0.01", "weight_decay", 0.01),
])  # fmt: skip
def test_new_settings_win_over_the_checkpoint(
    method: str, setting: str, key: str, value: Any, tiny: Tiny, tmp_path: Path
) -> None:
    from tests.train.test_methods import METHODS, RUN

    given = tiny() if method == "pigan" else [*RUN, *METHODS[method], f"out={tmp_path}"]
    first = train(load_run(method, [*given, "trainer.max_kimg=0.016"]))
    second = train(load_run(method, [*given, "trainer.max_kimg=0.032", setting, f"resume={first}"]))
    old, new = (latest(folder / "checkpoints") for folder in (first, second))
    assert old is not None
    assert new is not None
    for state in read_checkpoint(new)["optimizer_states"]:
        assert [tuple(g[key]) if isinstance(g[key], list) else g[key] for g in state["param_groups"]] == [value]
        assert all(moments["step"] == 8 for moments in state["state"].values())  # what was learned is still there
    assert json.loads((second / "config.json").read_text())["system"][key] == (
        list(value) if isinstance(value, tuple) else value
    )
    assert all(g[key] != value for state in read_checkpoint(old)["optimizer_states"] for g in state["param_groups"])


def test_switches_with_a_memory_may_be_turned_on_and_off(made: Path, tiny: Tiny) -> None:
    def kept(run: Path) -> set[str]:
        newest = latest(run / "checkpoints")
        assert newest is not None
        return {"augment_p", "path_mean"} & read_checkpoint(newest)["state_dict"].keys()

    on = again(tiny, f"resume={made}", "system.ada_target=0.6", "system.path_length=2", "system.path_length_every=1")
    assert kept(on) == {"augment_p", "path_mean"}
    off = again(tiny, f"resume={on}", "trainer.max_kimg=0.052")
    assert off != on
    assert kept(off) == set()


def test_a_run_that_is_not_continued_is_named(made: Path, tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    given = tiny("trainer.max_kimg=0.004", "resume=auto", f"out={made.parent}")
    with caplog.at_level("INFO", "zoo"):
        folder = train(load_run("pigan", [*given, "system.stages=[{size: 16, batch: 4, lr_g: 1.0e-3}]"]))
    said = next(r.getMessage() for r in caplog.records if "nothing to resume" in r.getMessage())
    shutil.rmtree(folder)
    assert str(made) in said
    assert "at 0.032 kimg" in said
    assert "system.stages" in said
    assert f"resume={made}" in said


def test_wandb_goes_on_with_one_run(made: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning.pytorch.loggers

    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(lightning.pytorch.loggers, "WandbLogger", lambda **given: asked.append(given))
    for _ in range(2):
        run = load_run("pigan", tiny("trainer.loggers=[wandb]"))
        runs._extra_loggers(run, run_folder(run))
    assert asked[0] == asked[1]
    assert asked[0]["id"] == run_folder(load_run("pigan", tiny())).name[-8:]
    assert asked[0]["resume"] == "allow"
    assert asked[0]["offline"] is True


# ---------------------------------------------------------------- numbers that are none


@pytest.mark.parametrize("where", ["generator", "ema.average", "discriminator", "adam"])
def test_what_is_not_finite_is_not_saved(where: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    update = runs.AdversarialSystem.training_step

    def poisoned(self: Any, *given: Any) -> None:
        update(self, *given)
        if self.images == 32:
            if where == "adam":
                next(iter(self.optimizers()[0].optimizer.state.values()))["exp_avg"].fill_(float("nan"))
            else:
                next(self.get_submodule(where).parameters()).data.view(-1)[0] = float("inf")

    monkeypatch.setattr(runs.AdversarialSystem, "training_step", poisoned)
    with pytest.raises(ZooError, match=r"is not finite.*goes on from images000000016.ckpt") as info:
        again(tiny)
    assert ("optimizer_states" if where == "adam" else f"state_dict.{where}") in str(info.value)
    monkeypatch.setattr(runs.AdversarialSystem, "training_step", update)
    folder = again(tiny, "resume=auto")
    assert [images_of(p) for p in checkpoints(folder / "checkpoints")] == [32, 48]


def test_an_old_checkpoint_that_is_not_finite_is_passed_over(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made / "checkpoints", tmp_path / "checkpoints"))
    newest = checkpoints(folder)[-1]
    content = torch.load(newest, weights_only=True)
    content["optimizer_states"][1]["state"][0]["exp_avg_sq"].fill_(float("nan"))
    torch.save(content, newest)
    digest_file(newest).unlink()
    assert not_finite(content) == "optimizer_states.1.state.0.exp_avg_sq"
    found = latest(folder)
    assert found is not None
    assert found.name == "images000000016.ckpt"


# ---------------------------------------------------------------- locks and leftovers


HOLD = "import sys, time; from pathlib import Path; from zoo.runtime.lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


def holder(folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_process_is_told_of_the_first(tiny: Tiny) -> None:
    run = load_run("pigan", tiny("trainer.max_kimg=0.004", "resume=auto"))
    folder = run_folder(run)
    process = holder(folder)
    try:
        with pytest.raises(ZooError, match=f"in use by process {process.pid} on "):
            train(run)
        assert [p.name for p in folder.iterdir()] == [".lock"]
    finally:
        process.kill()
        process.wait()
    assert (folder / ".lock").exists()  # nobody was there to take it away, and yet:
    train(run)
    assert not (folder / ".lock").exists()


def test_the_same_process_is_no_exception(tmp_path: Path) -> None:
    with lock.locked(tmp_path / "run"):
        with pytest.raises(ZooError, match="by this process already"), lock.locked(tmp_path / "run"):
            pass
        assert (tmp_path / "run" / ".lock").exists()
    assert not (tmp_path / "run").exists()  # nothing came of it


@pytest.mark.parametrize(("age", "held"), [(0.0, True), (lock.DEAD + 60, False)])
def test_another_machine_counts_by_its_heartbeat(tmp_path: Path, age: float, held: bool) -> None:
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    os.utime(path, (time.time() - age,) * 2)
    if held:
        with pytest.raises(ZooError, match="process 1 on elsewhere"), lock.locked(tmp_path):
            pass
    else:
        with lock.locked(tmp_path):
            assert json.loads(path.read_text())["pid"] == os.getpid()


def test_without_locks_in_the_kernel_the_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "lockf", none)
    gone = subprocess.Popen(["true"])
    gone.wait()
    for pid, held in ((os.getppid(), True), (gone.pid, False)):
        (tmp_path / ".lock").write_text(json.dumps({"host": lock.socket.gethostname(), "pid": pid}))
        if held:
            with pytest.raises(ZooError, match="in use"), lock.locked(tmp_path):
                pass
        else:
            with lock.locked(tmp_path):
                pass


def test_heartbeats_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.02)
    with lock.locked(tmp_path):
        os.utime(tmp_path / ".lock", (1, 1))
        deadline = time.monotonic() + 20
        while (tmp_path / ".lock").stat().st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (tmp_path / ".lock").stat().st_mtime > time.time() - 60


def test_leftovers_go_at_the_next_start(made: Path, tiny: Tiny) -> None:
    folder = again(tiny, "trainer.max_kimg=0.016")
    (folder / "checkpoints" / ".images000000016.ckpt.sha256.x.tmp").write_bytes(b"half")
    (folder / "metrics.csv").unlink()
    again(tiny, "trainer.max_kimg=0.016", "resume=auto")  # killed when all was done but for these
    assert not [*folder.rglob("*.tmp")]
    assert (folder / "metrics.csv").is_file()
    for left in (
        "checkpoints/.images000000008.ckpt.x.tmp",
        "samples/.1.png.y.tmp",
        "checkpoints/images000000099.stale",
    ):
        (folder / left).parent.mkdir(exist_ok=True)
        (folder / left).write_bytes(b"half")
    (folder / "checkpoints" / "images000000099.ckpt.sha256").write_text("of nothing")
    (folder / ".film.mp4.z.tmp").mkdir()
    with pytest.raises(ConfigError, match="holds this run already"):
        again(tiny)
    assert (folder / ".film.mp4.z.tmp").exists()  # nothing is touched by a run that does not start
    again(tiny, "resume=auto")
    assert not [*folder.rglob("*.tmp"), *folder.rglob("*.stale"), *folder.rglob("images000000099*")]
    tidy(folder)


# ---------------------------------------------------------------- disks, data, signals, processes


def test_a_full_disk_is_named_with_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = atomic_write(tmp_path / "kept", "before")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as info:
        atomic_write(kept, "after")
    line = cli._line(info.value)
    assert line.startswith(f"{kept}: No space left on device (")
    assert "MB left in" in line
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]
    assert kept.read_text() == "before"


def test_unreadable_data_saves_first_and_goes_on_to_the_same_bits(
    made: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.data import module

    class Broken(module._Direct):
        calls = 0

        def __call__(self, indices: torch.Tensor) -> torch.Tensor:
            Broken.calls += 1
            if Broken.calls == 4:
                raise DataError("0007.png: damaged")
            return super().__call__(indices)

    monkeypatch.setattr(module, "_Direct", Broken)
    with pytest.raises(DataError, match="damaged"):
        train(load_run("pigan", tiny("trainer.max_kimg=0.032", "data.cache=never")))
    folder = run_folder(load_run("pigan", tiny()))
    saved = checkpoints(folder / "checkpoints")
    assert saved
    assert images_of(saved[-1]) in (8, 12)
    train(load_run("pigan", tiny("trainer.max_kimg=0.032", "resume=auto", "data.cache=never")))
    one, other = (read_checkpoint(folder / "checkpoints" / "images000000032.ckpt") for folder in (made, folder))
    assert all(torch.equal(value, other["state_dict"][key]) for key, value in one["state_dict"].items())


def test_a_sample_sheet_that_fails_loses_no_step(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = load_run("pigan", tiny("trainer.max_kimg=0.032", "trainer.sample_kimg=0.012"))
    monkeypatch.setattr(runs.Samples, "draw", fails)
    monkeypatch.setattr(runs.Samples, "on_train_start", lambda self, _, system: self.due(system.kimg))
    with pytest.raises(OSError, match="No space left"):
        train(run)
    found = latest(run_folder(run) / "checkpoints")
    assert found is not None
    assert images_of(found) == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_every_signal_saves(number: signal.Signals, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    step = runs.AdversarialSystem.training_step

    def signalled(self: Any, *given: Any) -> None:
        step(self, *given)
        if self.images == 12:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(runs.AdversarialSystem, "training_step", signalled)
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, by zoo too
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)]
    with pytest.raises(Interrupted, match=f"{number.name} at 0.012 kimg, saved") as info:
        again(tiny)
    assert info.value.signal == number
    assert latest(run_folder(load_run("pigan", tiny())) / "checkpoints") is not None
    assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)]
    signal.signal(signal.SIGHUP, inherited)


def test_before_the_first_step_a_signal_ends_at_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiling(self: Any, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(runs.AdversarialSystem, "training_step", compiling)
    began = time.monotonic()
    with pytest.raises(Interrupted, match="stopped by SIGTERM; no checkpoint is written yet"):
        again(tiny)
    assert time.monotonic() - began < 30


STUCK = "import hashlib; from zoo.runtime import signals\nsignals.PATIENCE = 0.5\n"
STUCK += "with signals.Signals(lambda: 'all is kept').caught():\n    print('in', flush=True)\n"
STUCK += "    hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)\n"  # minutes, in which no handler of Python runs


def test_compiled_code_does_not_keep_a_process_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(1)  # until it is in there
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert errors == "zoo: stopped by SIGTERM at once; all is kept\n"


def test_a_slurm_script_without_srun_is_one_process(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "batch"}.items():
        monkeypatch.setenv(key, value)
    folder = train(load_run("pigan", tiny("trainer.max_kimg=0.008")))
    assert latest(folder / "checkpoints") is not None


# ---------------------------------------------------------------- files whose bytes depend on nothing else


SAVE = "import sys, zoo\nmodel = zoo.build('pigan', seed=0, z_dim=8, hidden_dim=16, layers=2, mapping_dim=16)\n"
SAVE += "zoo.save(model, sys.argv[1])"


def test_the_same_weights_have_one_hash(tmp_path: Path) -> None:
    model = zoo.build("pigan", seed=0, z_dim=8, hidden_dim=16, layers=2, mapping_dim=16)
    zoo.save(model, tmp_path / "a" / "w")
    again = subprocess.run([sys.executable, "-c", SAVE, str(tmp_path / "b" / "w")], check=False)
    assert again.returncode == 0
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / "w" / name).read_bytes() == (tmp_path / "b" / "w" / name).read_bytes()
    data = (tmp_path / "a" / "w" / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    assert size % 8 == 0
    assert list(header["__metadata__"]) == sorted(header["__metadata__"])  # in one process of six it is so by chance
