"""Trainings that are killed, starved of disk, poisoned or doubled; all go on with the same command to the same bits."""

import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.campaigns.children import Child, Ended, Plan, chosen, command, run
from tests.campaigns.table import Field, Row

INTERVAL = 8  # images between two checkpoints
GOAL = 48
TRAIN = [
    "generator.z_dim=8", "generator.hidden_dim=16", "generator.layers=2", "generator.mapping_dim=16",
    "generator.density_scale=30", "generator.steps=6", "generator.fine_steps=0", "data.size=32", "data.length=40",
    "system.stages=[{size: 16, batch: 4}]", "trainer.accelerator=cpu", "trainer.compile=never", "trainer.threads=1",
    "trainer.log_every=1", f"trainer.checkpoint_kimg={INTERVAL / 1000}", "trainer.sample_kimg=0.024",
    f"trainer.max_kimg={GOAL / 1000}", "resume=auto",
]  # fmt: skip


def training(out: Path, *more: str) -> Callable[[], int]:
    return command("train", "pigan", *TRAIN, f"out={out}", *more)


def folder_of(out: Path) -> Path | None:
    return next((p for p in out.glob("pigan-????????") if p.is_dir()), None)


def saved(out: Path) -> int:
    """Images in the newest sound checkpoint. Computes hashes alone, so the parent may call it."""
    from zoo.weights.checkpoints import checkpoints, images_of, is_intact

    folder = folder_of(out)
    found = [images_of(p) for p in checkpoints(folder / "checkpoints") if is_intact(p)] if folder else []
    return max(found, default=0)


def same_state(one: Path, other: Path) -> bool:
    """Whether two finished trainings hold the same weights, moments and records; compared in a child."""

    def compare() -> int:
        import torch

        from zoo.weights.checkpoints import read_checkpoint

        def flat(value: Any) -> Iterator[Any]:
            for inner in (
                value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
            ):
                yield from flat(inner)
            if not isinstance(value, dict | list | tuple):
                yield value

        name = f"checkpoints/images{GOAL:09d}.ckpt"
        left, right = (read_checkpoint(folder_of(out) / name) for out in (one, other))  # type: ignore[operator]
        for key in ("state_dict", "optimizer_states"):
            for a, b in zip(flat(left[key]), flat(right[key]), strict=True):
                if not (torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b):
                    print(f"{key} differs")
                    return 1
        records = [(folder_of(out) / "metrics.jsonl").read_text() for out in (one, other)]  # type: ignore[operator]
        return 0 if records[0] == records[1] else 1

    return run(compare).code == 0


def leftovers(out: Path) -> list[Path]:
    """What no finished command may leave; checkpoints put aside, *.stale, go when the next one is saved."""
    return [p for p in out.rglob("*") if p.name.endswith(".tmp") or p.name == ".lock"]


def finish(row: Row, out: Path, reference: Path) -> None:
    """Go on to the end and compare."""
    ended = run(training(out))
    row.runs += 1
    if ended.code != 0:
        row.repairs += 1
        row.notes.append(f"did not go on: {ended.said.strip().splitlines()[-1:]}")
        return
    row.exact = row.exact is not False and same_state(out, reference)
    if left := leftovers(out):
        row.notes.append(f"left behind: {left[0].name}")
        row.corrupt += 1


def killed(row: Row, out: Path, work: Callable[[], int], plan: Plan) -> Ended:
    """One life of a training, and what its end has cost."""
    ended = run(work, plan)
    row.runs += 1
    row.kills += ended.code > 128
    row.corrupt += ended.hung or ended.code == 70
    if ended.hung or ended.code == 70:
        row.notes.append(f"{signal.Signals(plan.number).name if plan.number else ''}: {ended.said[-200:]}")
    reached = saved(out)
    row.lost += max(0, ended.images - reached - INTERVAL)
    return ended


def train_writes(field: Field, reference: Path) -> Row:
    """At an fsync or a rename: of checkpoints, hashes, records, samples, the folder's description."""
    return _train(field, reference, "train, inside a write", lambda s: Plan(chosen(s), write=s.randint(1, 30)))


def train_moments(field: Field, reference: Path) -> Row:
    return _train(field, reference, "train, any moment", lambda s: Plan(chosen(s), after=s.uniform(0.05, 5)))


def train_elsewhere(field: Field, reference: Path) -> Row:
    """$TMPDIR on another file system."""
    shm = Path("/dev/shm")
    where = {"TMPDIR": str(shm if os.access(shm, os.W_OK) else field.place)}
    return _train(
        field, reference, "train, TMPDIR elsewhere",
        lambda s: Plan(chosen(s), write=s.randint(1, 30), environment=where),
    )  # fmt: skip


def _train(field: Field, reference: Path, name: str, plan: Callable[[random.Random], Plan]) -> Row:
    row, number = Row(name), 0
    while row.kills < field.rounds and field.going():
        out = field.place / f"{name.replace(' ', '')}{number}"
        number += 1
        for _ in range(12):
            if killed(row, out, training(out), plan(field.source)).code == 0 or row.kills >= field.rounds:
                break
        finish(row, out, reference)
        shutil.rmtree(out)
    return row


def train_damaged(field: Field, reference: Path) -> Row:
    """The last checkpoint cut, changed, without its hash, with another's, empty, or away."""
    row = Row("train, last checkpoint damaged")

    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-100])

    def flipped(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    digest = Path.with_name
    damages: list[Callable[[Path], object]] = [
        cut, flipped, lambda p: p.write_bytes(b""), lambda p: p.unlink(),
        lambda p: digest(p, f"{p.name}.sha256").unlink(), lambda p: digest(p, f"{p.name}.sha256").write_text("0" * 64),
    ]  # fmt: skip
    for number, damage in enumerate(damages[: max(2, field.rounds)]):
        if not field.going():
            break
        out = field.place / f"damaged{number}"
        killed(row, out, training(out, f"trainer.max_kimg={24 / 1000}"), Plan())
        folder = folder_of(out)
        assert folder is not None
        damage(folder / "checkpoints" / f"images{24:09d}.ckpt")
        finish(row, out, reference)
        shutil.rmtree(out)
    return row


def train_nan(field: Field, reference: Path) -> Row:
    """A weight, an average, a moment of Adam or a discriminator that is no number: stops, and goes on from before."""
    row = Row("train, NaN injected")

    def poison(where: str) -> Callable[[], None]:
        def before() -> None:
            from zoo.systems.base import TrainingSystem

            step = TrainingSystem.training_step

            def poisoned(system: Any, *given: Any) -> None:
                step(system, *given)
                if system.images == 24 and where == "adam":
                    next(iter(system.optimizers()[1].optimizer.state.values()))["exp_avg_sq"].fill_(float("nan"))
                elif system.images == 24:
                    next(system.get_submodule(where).parameters()).data.view(-1)[0] = float("nan")

            TrainingSystem.training_step = poisoned  # type: ignore[method-assign]

        return before

    for where in ("generator", "ema.average", "adam", "discriminator")[: max(2, field.rounds)]:
        if not field.going():
            break
        out = field.place / f"nan{where}"
        ended = killed(row, out, training(out), Plan(before=poison(where)))
        if ended.code != 1 or "is not finite" not in ended.said or "images000000016.ckpt" not in ended.said:
            row.corrupt += 1
            row.notes.append(f"{where}: {ended.said[-200:]}")
        finish(row, out, reference)
        shutil.rmtree(out)
    return row


def train_full(field: Field, reference: Path) -> Row:
    """No room on the disk (a small tmpfs; a limit on files without the rights for one), then room again."""
    row = Row("train, disk full")
    for number in range(max(1, min(4, field.rounds // 4))):
        if not field.going():
            break
        out = field.place / f"full{number}"
        with small_disk(out, 250_000 + 60_000 * number) as mounted:
            room = None if mounted else 40_000 + 10_000 * number
            ended = killed(row, out, training(out), Plan(room=room))
            words = ("No space left", "MB left in") if mounted else ("File too large", "MB left in")
            if ended.code != 1 or not all(word in ended.said for word in words):
                row.corrupt += 1
                row.notes.append(f"code {ended.code}: {ended.said[-300:]}")
            if mounted:
                _mount(out, 50_000_000, "remount")
            finish(row, out, reference)
        row.notes = [*row.notes, "a limit on files, for want of the right to mount"] if not mounted else row.notes
        shutil.rmtree(out, ignore_errors=True)
    return row


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[bool]:
    """Mount a disk of `size` bytes; False where that is not allowed."""
    place.mkdir(parents=True, exist_ok=True)
    mounted = _mount(place, size)
    try:
        yield mounted
    finally:
        if mounted:
            ctypes.CDLL(None).umount2(str(place).encode(), 2)


def _mount(place: Path, size: int, how: str = "") -> bool:
    flags = 32 if how == "remount" else 0
    return ctypes.CDLL(None).mount(b"tmpfs", str(place).encode(), b"tmpfs", flags, f"size={size}".encode()) == 0


def train_two(field: Field, reference: Path) -> Row:
    """Two processes in one folder: one trains, the other says who does; when that is killed, the next takes over."""
    row = Row("train, two processes")
    for number in range(max(1, min(5, field.rounds // 4))):
        if not field.going():
            break
        out = field.place / f"two{number}"
        pair = [Child(training(out), Plan()) for _ in range(2)]
        deadline = time.monotonic() + 60
        while not any(child.images() for child in pair) and time.monotonic() < deadline:
            time.sleep(0.005)
        first = next((child for child in pair if child.images()), pair[0])
        second = pair[1 - pair.index(first)]
        refused = second.wait()
        first.send(signal.SIGKILL)
        ended = first.wait()
        row.runs, row.kills = row.runs + 2, row.kills + (ended.code == 137)
        if refused.code != 1 or f"in use by process {first.pid} on" not in refused.said:
            row.corrupt += 1
            row.notes.append(f"second: code {refused.code}: {refused.said[-200:]}")
        row.lost += max(0, ended.images - saved(out) - INTERVAL)
        finish(row, out, reference)
        shutil.rmtree(out)
    return row


def train_rank(field: Field, reference: Path) -> Row:
    """One of two processes that train together is killed: the other ends within seconds, and both go on."""
    row, out = Row("train, a rank killed"), field.place / "rank"
    given = [sys.executable, "-m", "zoo", "train", "pigan", *TRAIN, f"out={out}", "trainer.devices=2"]
    for rank in range(2):
        process = subprocess.Popen(
            [*given, "trainer.max_kimg=100"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        deadline = time.monotonic() + 150
        before = saved(out)
        while saved(out) <= before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        victim = process.pid if rank == 0 else next(int(p) for p in children if _is_rank(int(p)))
        others = [int(p) for p in children if _is_rank(int(p))] if rank == 0 else [process.pid]
        os.kill(victim, signal.SIGKILL)
        began, row.runs, row.kills = time.monotonic(), row.runs + 1, row.kills + 1
        while any(_alive(p) for p in others) and time.monotonic() - began < 60:
            process.poll()
            time.sleep(0.1)
        took = time.monotonic() - began
        if took > 30:
            row.corrupt += 1
            row.notes.append(f"rank {rank}: the other was there for {took:.0f} s")
        os.killpg(process.pid, signal.SIGKILL) if took > 30 else None
        _, errors = process.communicate(timeout=60)
        if errors.count(f"process {rank} of 2 has ended") != 1:
            row.notes.append(f"code {process.returncode}: {errors[-300:]}")
            row.corrupt += 1
    again = subprocess.run(
        [*given, f"trainer.max_kimg={(saved(out) + 16) / 1000}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    row.runs += 1
    row.repairs += again.returncode != 0
    shutil.rmtree(out, ignore_errors=True)
    return row


def _is_rank(pid: int) -> bool:
    try:
        return b"LOCAL_RANK=1" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
