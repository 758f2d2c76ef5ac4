"""What this machine is called where figures or runs say on what they were made."""

import platform
from pathlib import Path

import torch

_INFO = Path("/proc/cpuinfo")


def processor() -> str:
    """The processor's name and the widest vectors that torch uses on it, e.g. "AMD EPYC, AVX512"."""
    lines = _INFO.read_text("utf-8").splitlines() if _INFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    # Machines for hire often tell the maker alone, and vectors twice as wide make other figures.
    return f"{(names or [platform.processor() or platform.machine()])[0]}, {torch.backends.cpu.get_cpu_capability()}"
