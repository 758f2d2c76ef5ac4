"""Processes that train together end together: those that are left say which one has gone, within seconds."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import Signals as Names

import lightning as L

from .processes import Processes

PERIOD = 0.2  # seconds between two looks
GRACE = 3.0  # seconds that the main thread has to notice by itself; a collective may never return


class Watch:
    """Looks after the processes that `zoo train` started. torchrun and srun look after theirs.

    Args:
        trainer: Has started the others, or will.
        team: Says which process this is.
        left: Says what is saved, and how to go on.
    """

    def __init__(self, trainer: L.Trainer, team: Processes, left: Callable[[], str]) -> None:
        self.trainer, self.team, self.left = trainer, team, left
        self._parent = os.getppid()
        self._children: list[subprocess.Popen[bytes]] = []
        self._over, self._found = threading.Event(), threading.Event()
        self._gone = "another process of this training has ended, see its own message"

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look, inside."""
        thread = threading.Thread(target=self._look, daemon=True)
        if self.team.own and self.team.world > 1:
            thread.start()
        try:
            yield
        except BaseException:
            if thread.is_alive():
                self._found.wait(5 * PERIOD)  # another's end may be the reason
            self._stop_children()
            raise
        finally:
            self._over.set()

    def gone(self) -> str:
        """Which process has ended, what is saved, and how to go on."""
        return f"{self._gone}; {self.left()}"

    def _look(self) -> None:
        while not self._over.wait(PERIOD):
            self._adopt()
            if self.trainer.should_stop:  # the end: one after the other leaves
                continue
            if which := self._missing():
                self._gone = which
                self._found.set()
                if not self._over.wait(GRACE):
                    self._stop_children()
                    print(f"zoo: {self.gone()}", file=sys.stderr, flush=True)
                    os._exit(1)
                return

    def _adopt(self) -> None:
        """Take the children over from Lightning, whose own watch kills this process without a word."""
        started = getattr(self.trainer.strategy.launcher, "procs", [])
        if len(started) == self.team.devices - 1:
            self._children += started
            started.clear()

    def _missing(self) -> str:
        if self.team.rank > 0 and os.getppid() != self._parent:
            return f"process 0 of {self.team.world} has ended"
        for number, child in enumerate(self._children, 1):
            if code := child.poll():
                how = Names(-code).name if code < 0 else f"exit code {code}, see its own message"
                return f"process {number} of {self.team.world} has ended ({how})"
        return ""

    def _stop_children(self) -> None:
        for child in self._children:
            child.kill()
