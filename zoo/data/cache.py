"""Images that are made only once: decoded pictures are kept in memory, rendered ones also on disk."""

import hashlib
import json
import logging
import mmap
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .. import resources
from ..runtime.files import atomic_write

log = logging.getLogger(__name__)

COPIES = 3  # of a tensor that `on_disk` makes: its own, and two while it is written
_MEMINFO = Path("/proc/meminfo")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # of a container


def free_memory() -> int:
    """Bytes that can be filled before the system runs out: those that are free, at most what the container may have."""
    try:
        lines = _MEMINFO.read_text("utf-8").splitlines()
        free = 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    except (OSError, StopIteration):  # other systems than Linux do not tell what is free
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _LIMITS:
        with suppress(OSError, ValueError):  # the word "max" stands for none
            free = min(free, int(path.read_text("utf-8")))
    return free


class MemoryCache:
    """Decoded images, each of which is kept from the time it is first asked for, but not in place of a bad one.

    The memory is an anonymous shared mapping: forked workers fill it for each other, pages that are never used cost
    nothing, and unlike torch's shared tensors it is not bound by the size of /dev/shm, which is 64 MB in containers.

    Args:
        n: Number of images.
        size: Side S in pixels.
        read: Gives an image (3, S, S) uint8 for an index, and the index of the image given, under which it is kept.
    """

    def __init__(self, n: int, size: int, read: Callable[[int], tuple[Tensor, int]]) -> None:
        self.n, self.size, self.read = n, size, read
        self._allocate()

    def _allocate(self) -> None:
        pixels = self.n * 3 * self.size**2
        flat = torch.frombuffer(mmap.mmap(-1, pixels + self.n), dtype=torch.uint8)
        self._images = flat[:pixels].view(self.n, 3, self.size, self.size)
        self._filled = flat[pixels:]

    def __getstate__(self) -> dict[str, Any]:
        # A mapping cannot be sent to a spawned worker, so each of those fills its own.
        return {"n": self.n, "size": self.size, "read": self.read}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __call__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The images (B, 3, S, S) uint8 for indices (B,), and their own indices (B,)."""
        found = indices.clone()
        for place in (self._filled[indices] == 0).nonzero()[:, 0].tolist():
            image, index = self.read(int(indices[place]))
            self._images[index] = image
            self._filled[index] = 1  # after the pixels, because another worker may be looking
            found[place] = index
        return self._images[found], found


def on_disk(name: str, key: Mapping[str, Any], make: Callable[[], Tensor]) -> Tensor:
    """Call `make()`, or take what it returned for the same key from the cache folder.

    Args:
        name: Beginning of the file name.
        key: Everything on which the result depends, as JSON values.
        make: Makes the tensor; it runs again if the file is missing or its checksum is wrong.
    """
    path = place(name, key)
    value = kept(path)
    if value is None:
        value = make().contiguous()
        keep(path, value)
    return value


def place(name: str, key: Mapping[str, Any]) -> Path:
    """The file of the cache folder that belongs to a key, as `on_disk` takes it."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return resources.cache() / f"{name}-{digest}.safetensors"


def keep(path: Path, value: Tensor) -> None:
    """Write a tensor into the cache folder; if that cannot be done, a line says so."""
    try:
        atomic_write(path, save({"value": value}, {"sha256": _checksum(value)}))
    except OSError as error:
        log.warning("%s cannot be written (%s); it is made anew each time. Set ZOO_CACHE", path, error.strerror)


def kept(path: Path, *, quiet: bool = False) -> Tensor | None:
    """The tensor that `keep` has written; None if there is none, or, with a line unless `quiet`, if it is damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            value: Tensor = file.get_tensor("value")
            checksum = (file.metadata() or {}).get("sha256")
        damage = "" if checksum == _checksum(value) else "wrong checksum"
    except (SafetensorError, OSError) as error:
        damage = str(error)
    if damage and not quiet:
        log.warning("%s is damaged (%s) and is made anew", path, damage)
    return None if damage else value


def _checksum(value: Tensor) -> str:
    return hashlib.sha256(value.numpy().data).hexdigest()
