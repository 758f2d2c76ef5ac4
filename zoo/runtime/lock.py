"""One process at a time in a folder: a lock that outlives no process, and says who holds it."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ZooError
from .files import printable

NAME = ".lock"
BEAT = 10.0  # seconds between two heartbeats
DEAD = 120.0  # seconds without one, after which a lock of another machine counts as left behind
_BUSY = (errno.EACCES, errno.EAGAIN)
_held: set[Path] = set()  # by this process, to which the kernel would grant the same lock twice


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if it is missing.

    The kernel's lock on `<folder>/.lock` ends with the process, however that ends. Where machines do not see each
    other's kernel locks (some network file systems), the file's time counts: its holder renews it every few seconds.

    Raises:
        ZooError: Another process holds it; the message names it.
        OSError: The folder cannot be written.
    """
    place = folder.resolve()
    if place in _held:
        raise ZooError(f"{folder} is in use by this process already: wait until it is done")
    handle = _acquire(folder)
    _held.add(place)
    done = threading.Event()
    threading.Thread(target=_beat, args=(folder / NAME, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()
        _held.discard(place)
        (folder / NAME).unlink(missing_ok=True)  # while it is held, so that nobody waits for a name that goes
        os.close(handle)
        with contextlib.suppress(OSError):
            folder.rmdir()  # if nothing came of it


def _acquire(folder: Path) -> int:
    """The open, locked file. Raises ZooError."""
    path = folder / NAME
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # its last holder has just taken the empty folder away
            continue
        try:
            kernel = _lock(handle)
            if kernel is False or _beats(handle, kernel is None):
                raise ZooError(_refusal(folder, handle))
            if not _is(path, handle):  # let go and removed between the two calls
                os.close(handle)
                continue
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode(), 0)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(handle)
            raise
        return handle


def _lock(handle: int) -> bool | None:
    """Whether the kernel gave it; None where the file system has no locks."""
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _BUSY else None
    return True


def _is(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _beats(handle: int, without_kernel: bool) -> bool:
    """Whether a holder that the kernel does not know of is alive: on another machine, by its heartbeat."""
    host, pid = _holder(handle)
    if not host or time.time() - os.fstat(handle).st_mtime > DEAD:
        return False
    return host != socket.gethostname() or (without_kernel and _runs(pid))


def _holder(handle: int) -> tuple[str, int]:
    """Host and process that the file names; an empty host where it names none."""
    try:
        content = json.loads(os.pread(handle, 4096, 0))
        return str(content["host"]), int(content["pid"])
    except (ValueError, TypeError, KeyError):
        return "", 0


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _refusal(folder: Path, handle: int) -> str:
    host, pid = _holder(handle)
    who = f"process {pid} on {printable(host)[:80]}" if host else "another process"
    seconds = max(0.0, time.time() - os.fstat(handle).st_mtime)
    return (
        f"{folder} is in use by {who} (last sign of life {seconds:.0f} s ago): wait for it, stop it, or use another out"
    )


def _beat(path: Path, done: threading.Event) -> None:
    while not done.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(path)
