"""Peak memory of one call in a process of its own: `python -m zoo.bench.peak BENCH NUMBER WHO DEVICE`."""

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import ZooError

_STATUS = Path("/proc/self/status")
_RESERVE = 2**30  # bytes that stay free for the rest of the machine
# How Python, torch and the system say it; not in the indented lines of a trace, which quote names of files and code.
_FULL = re.compile(r"^(?!\s).*(MemoryError|out of memory|allocate memory)", re.MULTILINE | re.IGNORECASE)


def peak(bench: str, number: int, who: str, device: str) -> float | None:
    """MiB that a call takes above what its process had before.

    On a CPU this is resident memory; on a GPU, what torch has allocated there.

    Args:
        bench: The module of `zoo.bench` whose `works(device)` has the call.
        number: Its place there.
        who: Which of its ways.
        device: "cpu" or "cuda".

    Returns:
        The peak, infinite if the call did not fit into the memory that is free; None where it cannot be measured.

    Raises:
        ZooError: The call failed for another reason.
    """
    if device == "cpu" and not _STATUS.is_file():
        return None
    import torch

    try:
        return float(alone("peak", bench, str(number), who, device, threads=torch.get_num_threads()))
    except MemoryError:
        return math.inf


def alone(module: str, *arguments: str, threads: int) -> Any:
    """What `python -m zoo.bench.MODULE ARGUMENTS`, a process of its own, prints last, as JSON.

    Raises:
        MemoryError: It did not fit into the memory that is free.
        ZooError: It failed for another reason.
    """
    words = ["-m", f"zoo.bench.{module}", *arguments]
    own = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=own, check=False)
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        return json.loads(lines[-1])
    if done.returncode == -signal.SIGKILL or _FULL.search(done.stderr):
        raise MemoryError(f"{shlex.join(['python', *words])}: does not fit into the memory that is free")
    reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    raise ZooError(f"{reason[:300]} ({ended}); for the trace run: {shlex.join(['python', *words])}")


def growth(call: Callable[[], object], device: str) -> float | None:
    """MiB that a first call takes at its peak, see `peak`; None where it cannot be measured."""
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = float(torch.cuda.memory_allocated())
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    if not _STATUS.is_file():
        call()
        return None
    # Not getrusage: its high-water mark is inherited from the process that started this one.
    before = _resident("VmRSS")
    call()
    return max(0.0, _resident("VmHWM") - before)


def _resident(key: str) -> float:
    line = next(line for line in _STATUS.read_text("utf-8").splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def _limit() -> None:
    """Let the process fail where the machine would start to kill others."""
    import resource

    lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
    free = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    most = max(free * 1024 - _RESERVE, _RESERVE)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _main(bench: str, number: str, who: str, device: str) -> None:
    from ..runtime.memory import keep_memory

    if device == "cpu":
        keep_memory()
        _limit()
    print(json.dumps(growth(import_module(f"zoo.bench.{bench}").works(device)[int(number)].make()[who], device)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
