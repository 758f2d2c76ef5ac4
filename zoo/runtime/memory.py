"""The C library's allocator, told to keep what it has."""

import contextlib
import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def keep_memory() -> None:
    """Stop glibc from giving every big tensor's memory back to the system and asking for it again: 2-3x on a CPU.

    Called where long work begins, and by every command. Does nothing elsewhere than on Linux with glibc.
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            for threshold in (2**30, 2**25):  # glibc before 2.35 refuses more than 32 MiB
                if libc.mallopt(_MMAP_THRESHOLD, threshold):
                    break
            libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
