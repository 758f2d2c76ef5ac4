"""Checkpoints that survive being killed at any moment."""

import hashlib
import re
from pathlib import Path
from typing import Any

import torch

from ..errors import WeightsError


def digest_file(path: Path) -> Path:
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
        raise WeightsError(
            f"{path}: not a readable checkpoint ({(str(error).splitlines() or [type(error).__name__])[0]})"
        ) from None


def is_intact(path: Path) -> bool:
    """Whether the file matches the SHA-256 that was written after it."""
    digest = digest_file(path)
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
