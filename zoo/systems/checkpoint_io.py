"""Checkpoints that survive being killed at any moment."""

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from ..errors import WeightsError
from ..files import atomic_write


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the target, flushes, renames; the SHA-256 goes into a second file once the first is complete.

    Lightning's own writer stages in `$TMPDIR`; where that is another file system its last step is a copy, and a kill
    during the copy leaves half a checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        data = buffer.getvalue()
        atomic_write(Path(path), data)
        atomic_write(_digest_file(Path(path)), hashlib.sha256(data).hexdigest())

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None, **_: Any
    ) -> dict[str, Any]:
        """`weights_only` changes nothing: only weights and plain values are ever read."""
        return read_checkpoint(Path(path), map_location)

    def remove_checkpoint(self, path: Any) -> None:
        _digest_file(Path(path)).unlink(missing_ok=True)
        Path(path).unlink(missing_ok=True)


def _digest_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def read_checkpoint(path: Path, map_location: Any | None = "cpu") -> dict[str, Any]:
    """A checkpoint as plain tensors and values; never runs code from the file.

    Raises:
        WeightsError: missing, damaged, or not written by zoo.
    """
    if not is_intact(path):
        raise WeightsError(f"{path}: damaged or incomplete checkpoint (its SHA-256 does not match); use an earlier one")
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises pickle, zip and runtime errors alike
        raise WeightsError(f"{path}: not a readable checkpoint ({str(error).splitlines()[0]})") from None


def is_intact(path: Path) -> bool:
    """Whether the file matches the SHA-256 that was written after it."""
    digest = _digest_file(path)
    if not path.is_file() or not digest.is_file():
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == digest.read_text().strip()


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    found = [p for p in folder.glob("images*.ckpt") if re.fullmatch(r"images\d+\.ckpt", p.name)]
    return sorted(found, key=images_of)


def images_of(path: Path) -> int:
    """Images seen when a checkpoint was written, from its name `images<number>.ckpt`."""
    return int(path.stem.removeprefix("images"))


def latest(folder: Path) -> Path | None:
    """The newest intact checkpoint."""
    return next((p for p in reversed(checkpoints(folder)) if is_intact(p)), None)
