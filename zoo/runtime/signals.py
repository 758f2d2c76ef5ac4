"""Signals that ask long work to end, answered within seconds whatever the process is doing."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
PATIENCE = 5.0  # seconds that Python code has to answer; compiled code may never come back to it
STEP = 30.0  # seconds that a step may take at least to its end; four times the longest one, if that is more


class Stopped(BaseException):
    """Raised where a signal finds nothing to save. Not an Exception, which compilers take for a failure of theirs."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C inside raises KeyboardInterrupt. Lightning makes a SystemExit of it, and ignores all later ones."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if type(error) is not SystemExit:  # what Lightning makes of SIGTERM is a class of its own
            raise
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from None


class Signals:
    """What to do about SIGINT, SIGTERM, SIGHUP and SIGUSR1.

    Without a step to finish, the first one raises `Stopped`. Within a step it is noted, so that the step can be
    finished and saved; a second Ctrl-C raises `Stopped`. If neither happens in time, the process ends at once.

    Attributes:
        received: The first signal; None so far.
        left: What the last line says if the process ends at once: what is kept, and how to go on.
    """

    def __init__(self, left: Callable[[], str]) -> None:
        self.received: signal.Signals | None = None
        self.left = left
        self._finish = 0.0  # seconds that a step may take to its end; 0: there is none to finish
        self._calm = threading.Event()
        self._process = os.getpid()

    def finishing(self, longest: float) -> None:
        """From now on steps are finished and saved; `longest` is what one has taken so far, in seconds."""
        self._finish = max(STEP, 4 * longest)

    def answered(self) -> None:
        """The step is over and the work is ending by itself, which may take as long as it takes."""
        self._calm.set()

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Handle them inside. Does nothing in threads other than the main one, which get none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()
        self.take()
        try:
            yield
        finally:
            self.answered()
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            os.close(writer)  # ends the watch

    def take(self) -> None:
        """Become the handler; again, where a library has put its own in place."""
        with suppress(ValueError):  # not the main thread: the caller handles signals
            for number in SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks for
                    signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a worker, which ends with its parent
        again, self.received = self.received is not None, self.received or signal.Signals(number)
        if self._finish == 0 or (again and number == signal.SIGINT):
            raise Stopped
        if not again:
            log.warning("%s: saving and stopping after this step", self.received.name)

    def _watch(self, reader: int) -> None:
        """The kernel writes here while the main thread is still deep in compiled code, where no handler runs."""
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            while byte := pipe.read(1):
                if byte[0] in SIGNALS:
                    self._wait(signal.Signals(byte[0]))

    def _wait(self, number: signal.Signals) -> None:
        began = time.monotonic()
        while time.monotonic() - began < (self._finish or PATIENCE):
            if self._calm.wait(0.1):
                return
        print(f"zoo: stopped by {number.name} at once; {self.left()}", file=sys.stderr, flush=True)
        os._exit(128 + number)
