"""Whether anything grows, leaks or slows down over hours.

    python -m tests.campaigns.soak train [--minutes 120] [--kill 5]
    python -m tests.campaigns.soak view [--minutes 10] [--clients 20] [--name shadegan]

`train` kills a small training every few minutes and gives the same command again; memory and open files are watched
in each of its lives. `view` serves a page to so many browsers at once, of which each moves a slider, waits for the
picture, and now and then takes another seed, or leaves and comes back. The slope of memory is that of a straight line
through all readings after the first third.
"""

import argparse
import asyncio
import contextlib
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.campaigns.trainings import TRAIN, folder_of, saved

_EVERY = 2.0  # seconds between two readings
_CHECKPOINT = 400  # images between two checkpoints
_DEADLY = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass
class Readings:
    """Memory in MiB and open files of a process over time, in seconds."""

    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def take(self, pid: int, now: float) -> None:
        with contextlib.suppress(OSError):  # it may have ended
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            count = len(os.listdir(f"/proc/{pid}/fd"))
            self.seconds.append(now)
            self.memory.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
            self.files.append(count)

    def settled(self) -> slice:
        return slice(len(self.seconds) // 3, None)

    def slope(self) -> float | None:
        """MiB a minute after the first third; None of fewer than ten readings."""
        at, memory = self.seconds[self.settled()], self.memory[self.settled()]
        return statistics.linear_regression(at, memory).slope * 60 if len(at) >= 10 else None

    def words(self) -> str:
        slope, files = self.slope(), self.files[self.settled()]
        if slope is None:
            return "too short to tell"
        return f"memory {self.memory[-1]:.0f} MiB, {slope:+.2f} a minute; {min(files)} to {max(files)} files open"


def train(minutes: float, kill: float, seed: int = 0) -> int:
    """Kill and go on; the exit code is 1 if images were lost, or a life ended by itself."""
    source, began, lives, wrong = random.Random(seed), time.monotonic(), [], 0
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        out = Path(place) / "runs"
        settings = [f"trainer.checkpoint_kimg={_CHECKPOINT / 1000}", "trainer.sample_kimg=4", "trainer.max_kimg=100000"]
        call = [sys.executable, "-m", "zoo", "train", "pigan", *TRAIN, f"out={out}", *settings]
        while (left := minutes * 60 - (time.monotonic() - began)) > 0:
            before, start, readings = saved(out), time.monotonic(), Readings()
            with (Path(place) / "log").open("w") as log:
                child = subprocess.Popen(call, stdout=log, stderr=subprocess.STDOUT)
                span = min(left, 60 * source.uniform(0.5 * kill, 1.5 * kill))
                while child.poll() is None and time.monotonic() - start < span:
                    time.sleep(_EVERY)
                    readings.take(child.pid, time.monotonic() - start)
                alive = child.poll() is None
                child.send_signal(signum := source.choice(_DEADLY))
                child.wait()
            reached = saved(out)
            bad = not alive or reached < before
            wrong += bad
            lives.append(readings)
            said = signum.name if alive else "ended by itself: " + (Path(place) / "log").read_text()[-200:]
            told = f"life {len(lives)}: {span:.0f} s, {said}, images {before} to {reached}{', WRONG' if bad else ''}"
            print(f"{told}; {readings.words()}", flush=True)
        folder = folder_of(out)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder else 0
    slopes = [slope for each in lives if (slope := each.slope()) is not None] or [math.nan]
    rate = f"median {statistics.median(slopes):+.2f}, greatest {max(slopes):+.2f} MiB a minute"
    print(f"{len(lives)} lives, {wrong} wrong; {rate}; the run folder has {size / 2**20:.1f} MiB")
    return int(wrong > 0)


@dataclass
class Visits:
    """What all browsers saw: seconds from a moved slider to its picture, and what went wrong."""

    waits: list[float] = field(default_factory=list)
    pictures: int = 0
    visits: int = 0
    failed: list[str] = field(default_factory=list)


async def browse(port: int, until: float, seen: Visits, source: random.Random) -> None:
    """One browser: come, look, move, leave, come again."""
    while time.monotonic() < until:
        try:
            await asyncio.wait_for(
                _visit(port, min(until, time.monotonic() + source.uniform(20, 90)), seen, source), 150
            )
        except Exception as error:
            seen.failed.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(1)


async def _visit(port: int, until: float, seen: Visits, source: random.Random) -> None:
    import viser
    from websockets.asyncio.client import connect

    async with connect(
        f"ws://127.0.0.1:{port}",
        subprotocols=[f"viser-v{viser.__version__}"],
        max_size=None,  # type: ignore[list-item]
    ) as socket:
        seen.visits += 1
        await socket.send(_CAMERA)
        sliders: dict[str, str] = {}
        while "Yaw" not in sliders or "Seed" not in sliders:
            async for message in _messages(socket):
                if message["type"] in ("GuiSliderMessage", "GuiNumberMessage"):
                    sliders[message["props"]["label"]] = message["uuid"]
                    if {"Yaw", "Seed"} <= sliders.keys():
                        break
        seed = 0
        while time.monotonic() < until:
            if source.random() < 0.9:
                label, value = "Yaw", source.uniform(-1, 1)
            else:  # another one: the same would bring no picture
                label, value = "Seed", (seed := (seed + source.randrange(1, 50)) % 50)
            asked = time.monotonic()
            await socket.send(_packed("GuiUpdateMessage", uuid=sliders[label], updates={"value": value}))
            async for message in _messages(socket):
                if message["type"] == "BackgroundImageMessage":
                    seen.waits.append(time.monotonic() - asked)
                    seen.pictures += 1
                    break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(source.uniform(0.5, 3)):  # the sharp picture may come meanwhile
                    async for message in _messages(socket):
                        seen.pictures += message["type"] == "BackgroundImageMessage"


async def _messages(socket: Any) -> Any:
    import msgspec.msgpack
    import zstandard

    while True:
        raw = await socket.recv()
        length = int.from_bytes(raw[8:16], "little")
        for message in msgspec.msgpack.decode(zstandard.decompress(raw[16 : 16 + length]))["messages"]:
            yield message


def _packed(kind: str, **values: Any) -> bytes:
    import msgspec.msgpack

    return msgspec.msgpack.encode({"type": kind, **values})


@contextlib.contextmanager
def _served(name: str, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    from zoo.viewer.server import free_port

    port = free_port("127.0.0.1", 8900)
    with log.open("w") as out:
        call = [sys.executable, "-m", "zoo", "view", name, "--no-open", "--port", str(port)]
        child = subprocess.Popen(call, stdout=out, stderr=subprocess.STDOUT)
        try:
            while str(port) not in log.read_text():
                if child.poll() is not None:
                    raise SystemExit(f"zoo view ended: {log.read_text()[-400:]}")
                time.sleep(0.2)
            yield child, port
        finally:
            child.send_signal(signal.SIGINT)
            child.wait(30)


async def _view(child: subprocess.Popen[bytes], port: int, minutes: float, clients: int, readings: Readings) -> Visits:
    began, seen = time.monotonic(), Visits()
    until = began + minutes * 60
    browsers = [asyncio.create_task(browse(port, until, seen, random.Random(number))) for number in range(clients)]
    told = 0
    while time.monotonic() < until and child.poll() is None:
        await asyncio.sleep(_EVERY)
        readings.take(child.pid, time.monotonic() - began)
        if (now := int((time.monotonic() - began) / 60)) > told:
            told = now
            print(
                f"minute {now}: {seen.pictures} pictures, {readings.memory[-1]:.0f} MiB, {readings.files[-1]} files",
                flush=True,
            )
    await asyncio.gather(*browsers)
    return seen


def view(minutes: float, clients: int, name: str) -> int:
    """Serve browsers; the exit code is 1 if one of them failed, or the server ended."""
    readings = Readings()
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        log = Path(place) / "log"
        with _served(name, log) as (child, port):
            seen = asyncio.run(_view(child, port, minutes, clients, readings))
            crashed = child.poll() is not None
            idle = Readings()
            time.sleep(_EVERY)
            idle.take(child.pid, 0)
        told = [line for line in log.read_text().splitlines() if "rror" in line or "Traceback" in line]
    waits, slope = sorted(seen.waits), readings.slope() or 0.0
    print(
        f"{clients} browsers, {minutes:g} minutes: {seen.visits} visits, {seen.pictures} pictures, "
        f"{len(seen.failed)} failed"
    )
    print(
        f"from a moved slider to its picture: median {_share(waits, 0.5):.2f} s, "
        f"95 % within {_share(waits, 0.95):.2f} s, all within {_share(waits, 1):.2f} s"
    )
    print(
        f"memory {readings.memory[0]:.0f} to {readings.memory[-1]:.0f} MiB, {slope:+.2f} MiB a minute "
        f"after the first third; files open: at most {max(readings.files)}, {idle.files[0]} when all have left"
    )
    for line in [*seen.failed[:5], *told[:5]]:
        print(f"  {line}")
    return int(crashed or bool(seen.failed or told))


def _share(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


_CAMERA = _packed(
    "ViewerCameraMessage", wxyz=(1.0, 0.0, 0.0, 0.0), position=(0.0, 0.0, 3.0), fov=0.8, near=0.1, far=100.0,
    image_height=600, image_width=800, look_at=(0.0, 0.0, 0.0), up_direction=(0.0, 1.0, 0.0),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    trained = kinds.add_parser("train")
    trained.add_argument("--minutes", type=float, default=120)
    trained.add_argument("--kill", type=float, default=5, help="minutes between two kills, on average")
    viewed = kinds.add_parser("view")
    viewed.add_argument("--minutes", type=float, default=10)
    viewed.add_argument("--clients", type=int, default=20)
    viewed.add_argument("--name", default="shadegan")
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have it ignored by what they start with &
    if given.kind == "train":
        raise SystemExit(train(given.minutes, given.kill))
    raise SystemExit(view(given.minutes, given.clients, given.name))


if __name__ == "__main__":
    main()
