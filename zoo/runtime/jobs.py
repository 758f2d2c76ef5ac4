"""Tasks on several processes side by side; one that dies costs its own task and no other."""

import io
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from ..errors import ZooError
from .memory import keep_memory
from .progress import LogLines, make_bar

Tell = Callable[[str, float], None]  # what is being done, and which share of the task is over
Work = Callable[[Any, Tell], Any]
_PAUSE = 0.1  # seconds between two messages on progress
_START = "it must start under `if __name__ == '__main__':` in a script; or use one job"


@dataclass(frozen=True)
class Died:
    """What is left of a task whose process ended: `why`, in a few words."""

    why: str


def threads_for(jobs: int) -> int:
    """CPU threads of each of several processes: an even share of those that torch may use here, and at least one."""
    return max(1, torch.get_num_threads() // jobs)


def side_by_side(
    work: Work, tasks: Mapping[str, Any], jobs: int, threads: int, *, progress: bool = True
) -> Generator[tuple[str, Any], None, None]:
    """Do tasks on processes of their own, each of which takes the next one when it is done.

    Processes are started anew, not forked. They end with this one, however it ends, and when the iteration is closed;
    what a task has not written by then is lost. On a machine with several GPUs they take turns: each sees one of them.
    What they write to the error stream is shown above the progress lines.

    Args:
        work: Is called with a task and with a function for its progress. It must be possible to pickle it, the tasks
            and the results.
        tasks: Maps names, which progress lines show, to tasks. They are begun in this order.
        jobs: Number of processes.
        threads: CPU threads of each process.
        progress: Show a line for each task.

    Yields:
        Names and results as tasks are finished; `Died` in place of the result of a process that did not survive.

    Raises:
        ZooError: A process cannot start.
        Exception: Whatever `work` raises ends the iteration.
    """
    if not tasks:
        return
    packed, waiting = pickle.dumps(work), deque(tasks)
    board, children = _Board(len(tasks), progress), list[_Child]()

    def take(child: _Child) -> None:
        child.name = waiting.popleft()
        board.begin(child.name)

    def feed(child: _Child) -> None:
        with suppress(OSError):  # it has died meanwhile, which the pipe tells next
            child.pipe.send_bytes(pickle.dumps(tasks[child.name]))

    def begin(slot: int) -> None:
        children.append(_Child(packed, threads, slot))
        take(children[-1])

    with board.bar:
        try:
            for slot in range(min(jobs, len(tasks))):
                begin(slot)
            while children:
                for pipe in connection.wait([child.pipe for child in children]):
                    child = next(child for child in children if child.pipe is pipe)
                    try:
                        kind, *content = pickle.loads(child.pipe.recv_bytes())
                    except (EOFError, OSError):
                        children.remove(child)
                        died = child.death()
                        board.end(child.name)
                        yield child.name, died
                        if waiting:
                            begin(child.slot)
                        continue
                    if kind == "ready":
                        child.ready = True
                        feed(child)
                    elif kind == "said":
                        board.say(content[0])
                    elif kind == "told":
                        board.tell(child.name, *content)
                    elif kind == "raised":
                        raise content[0]
                    else:
                        board.end(child.name)
                        yield child.name, content[0]
                        if waiting:
                            take(child)
                            feed(child)
                        else:
                            children.remove(child)
                            child.end()
        finally:
            for child in children:
                child.end()


class _Child:
    """A process, and the name of the task that it has."""

    def __init__(self, work: bytes, threads: int, slot: int) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.name, self.slot, self.ready = "", slot, False
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, work, threads))
        with _deaf(), _seeing(slot):
            self.process.start()
        theirs.close()  # or its end would not be noticed here

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def death(self) -> Died:
        """Why it ended by itself. Raises ZooError if it has never begun."""
        self.process.join()
        self.pipe.close()
        code = self.process.exitcode or 0
        if code >= 0 and not self.ready:
            raise ZooError(f"a process for {self.name} did not start (see above); {_START}")
        if code >= 0:
            return Died(f"its process ended with exit code {code}")
        full = "; memory may have been full, fewer jobs need less" if -code == signal.SIGKILL else ""
        return Died(f"its process was ended by {signal.Signals(-code).name}{full}")


@contextmanager
def _deaf() -> Iterator[None]:
    """What is started inside never hears of Ctrl-C, which a terminal sends to all: its parent decides."""
    resource_tracker.ensure_running()  # started inside, it would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _seeing(slot: int) -> Iterator[None]:
    """What is started inside sees one GPU of several, which is its number 0."""
    name, count = "CUDA_VISIBLE_DEVICES", torch.cuda.device_count()
    before = os.environ.get(name)
    if count > 1:
        visible = before.split(",") if before else [str(number) for number in range(count)]
        os.environ[name] = visible[slot % count].strip()
    try:
        yield
    finally:
        if count > 1:
            os.environ.pop(name)
            os.environ.update({} if before is None else {name: before})


def _serve(pipe: connection.Connection, packed: bytes, threads: int) -> None:
    """What a process does until its parent ends it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lock = threading.Lock()

    def send(*message: Any) -> None:
        packed = pickle.dumps(message)  # what it has to say comes through here, too
        with lock:
            pipe.send_bytes(packed)

    torch.set_num_threads(threads)
    keep_memory()
    work: Work = pickle.loads(packed)
    sys.stderr = _Said(send)  # bars of its own would overwrite those of the parent
    send("ready")
    while True:
        task, last = pickle.loads(pipe.recv_bytes()), ("", 0.0)

        def tell(what: str, share: float) -> None:
            nonlocal last
            now = time.monotonic()
            if what != last[0] or now - last[1] > _PAUSE:
                last = what, now
                send("told", what, share)

        try:
            result = work(task, tell)
        except Exception as error:
            send("raised", _portable(error))
        else:
            send("done", result)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """The error itself if it survives pickling; else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return ZooError(str(error)) if isinstance(error, ZooError) else RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Said(io.TextIOBase):
    """An error stream, no terminal, whose whole lines are sent."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send, self._left = send, ""

    def write(self, text: str) -> int:
        *lines, self._left = (self._left + text).split("\n")
        for line in lines:
            self._send("said", line)
        return len(text)


class _Board:
    """A line for each task that is being done."""

    def __init__(self, total: int, enabled: bool) -> None:
        self.bar = make_bar(enabled=enabled)
        self._total, self._over, self._enabled = total, 0, enabled
        self._lines: dict[str, tuple[Any, LogLines, float]] = {}

    def begin(self, name: str) -> None:
        self._lines[name] = self.bar.add_task(name, total=1.0), LogLines(self.bar), time.monotonic()

    def tell(self, name: str, what: str, share: float) -> None:
        number, log, _ = self._lines[name]
        self.bar.update(number, description=f"{name}: {what}", completed=share)
        log(number)

    def say(self, line: str) -> None:
        self.bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def end(self, name: str) -> None:
        number, _, began = self._lines.pop(name)
        self.bar.remove_task(number)
        self._over += 1
        if self._enabled:
            self.say(f"{name}: over after {time.monotonic() - began:.0f} s ({self._over} of {self._total})")
