"""Children that are killed: forked from a parent that has imported everything, so that a hundred kills take minutes.

The parent never computes: threads of torch or numba would not survive a fork.
"""

import contextlib
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LIMIT = 120.0  # seconds after which a child that should have ended counts as hung


@dataclass
class Plan:
    """What happens to a child.

    Attributes:
        number: the signal; 0: none.
        write: it is sent before this fsync or rename, counted from 1; 0: not there.
        after: seconds after which the parent sends it; None: not by time.
        room: largest file in bytes that the child may write; None: any.
        environment: variables of the child.
        before: called in the child before the work.
    """

    number: int = 0
    write: int = 0
    after: float | None = None
    room: int | None = None
    environment: dict[str, str] = field(default_factory=dict)
    before: Callable[[], None] | None = None


@dataclass
class Ended:
    """How a child ended: `code` as the shell has it (128 + signal), how many images it had seen, what it said."""

    code: int
    images: int
    writes: int
    said: str
    hung: bool = False


class Child:
    """A forked process that does `work`, whose steps and writes are counted in shared memory."""

    def __init__(self, work: Callable[[], int], plan: Plan) -> None:
        self.plan = plan
        self._shared = mmap.mmap(-1, 16)  # images seen, writes begun
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - the child writes it, `wait` reads it
        self._began = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(work)

    def _run(self, work: Callable[[], int]) -> None:
        code = 70
        try:
            os.setsid()
            os.dup2(self._log.fileno(), 1)
            os.dup2(self._log.fileno(), 2)
            os.environ.update(self.plan.environment)
            tempfile.tempdir = None
            if self.plan.room is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (self.plan.room, self.plan.room))
            self._instrument()
            if self.plan.before:
                self.plan.before()
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _instrument(self) -> None:
        from zoo.systems.base import TrainingSystem

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*given: Any, **more: Any) -> Any:
                writes = struct.unpack_from("q", self._shared, 8)[0] + 1
                struct.pack_into("q", self._shared, 8, writes)
                if writes == self.plan.write:
                    os.kill(os.getpid(), self.plan.number)
                return call(*given, **more)

            return wrapper

        step = TrainingSystem.training_step

        def training_step(system: Any, *given: Any) -> None:
            step(system, *given)
            struct.pack_into("q", self._shared, 0, system.images)

        os.fsync, os.replace = counted(os.fsync), counted(os.replace)
        TrainingSystem.training_step = training_step  # type: ignore[method-assign]

    def images(self) -> int:
        """Seen so far."""
        return int(struct.unpack_from("q", self._shared, 0)[0])

    def send(self, number: int) -> None:
        """A signal, if the child is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> Ended:
        """Send the signal when its time has come, and wait for the end."""
        sent, hung = self.plan.after is None, False
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            passed = time.monotonic() - self._began
            if not sent and passed >= (self.plan.after or 0):
                self.send(self.plan.number)
                sent = True
            if passed > LIMIT:
                hung = True
                self.send(signal.SIGKILL)
            time.sleep(0.005)
        code = os.waitstatus_to_exitcode(status)
        self._log.seek(0)
        said = self._log.read().decode(errors="replace")
        writes = struct.unpack_from("q", self._shared, 8)[0]
        return Ended(code if code >= 0 else 128 - code, self.images(), writes, said, hung)


def command(*arguments: str) -> Callable[[], int]:
    """The work of a `zoo` command."""

    def work() -> int:
        import torch

        from zoo.cli import main as cli

        torch.set_num_threads(1)
        return cli._run(list(arguments), debug=False)

    return work


def run(work: Callable[[], int], plan: Plan | None = None) -> Ended:
    """A child from its start to its end."""
    return Child(work, plan or Plan()).wait()


def import_all() -> None:
    """What children need, once, in the parent; nothing here computes."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import lightning.pytorch.loggers  # noqa: F401

    import zoo.systems.run  # noqa: F401


def chosen(source: random.Random) -> int:
    """A signal; half of them SIGKILL."""
    return source.choice([*[signal.SIGKILL] * 3, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
