"""Checkpoints that survive being killed at any moment."""

import hashlib
import logging
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import WeightsError
from ..runtime import pickles
from ..runtime.files import printable

log = logging.getLogger(__name__)


def digest_file(path: Path) -> Path:
    """Where the SHA-256 of a checkpoint is written: beside it, under its name with `.sha256`."""
    return path.with_name(path.name + ".sha256")


def read_checkpoint(path: Path, map_location: Any | None = "cpu") -> dict[str, Any]:
    """A checkpoint as plain tensors and values; never runs code from the file.

    Raises:
        WeightsError: Missing, damaged, or not written by zoo.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such checkpoint")
    if not is_intact(path):
        raise WeightsError(f"{path}: damaged or incomplete checkpoint ({_why_damaged(path)}); use an earlier one")
    content: dict[str, Any] = read_plain(path, map_location)
    for key in ("state_dict", "zoo"):
        if not isinstance(content, dict) or not isinstance(content.get(key), dict):
            raise WeightsError(f"{path}: not a checkpoint of zoo train: it has no {key}")
    return content


def read_plain(path: Path, map_location: Any | None = "cpu") -> Any:
    """What `torch.save` wrote, if it is tensors and plain values; never runs code from the file.

    Raises:
        WeightsError: It cannot be read, or holds anything else.
    """
    try:
        return pickles.read_plain(path, map_location)
    except WeightsError:
        raise
    except pickle.UnpicklingError:  # torch's own words recommend to read it all the same
        why = "it holds more than tensors and plain values, or is no file of torch.save"
    except Exception as error:  # torch raises zip, runtime, key and system errors alike
        why = printable(str(error).strip().split("\n")[0])[:200] or type(error).__name__
    raise WeightsError(f"{path}: cannot be read: {why}")


def is_intact(path: Path) -> bool:
    """Whether a file matches the SHA-256 that was written after it; without one, whether it is whole by itself."""
    if not path.is_file():
        return False
    digest = _digest(path)
    if digest is not None:
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    try:
        with zipfile.ZipFile(path) as file:
            whole = file.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError):
        return False
    if whole:
        log.info("%s has no .sha256 beside it: checked by its own check sums alone", path)
    return whole


def _digest(path: Path) -> str | None:
    """The SHA-256 beside a checkpoint, also as other tools and file systems write it; None if there is none."""
    wanted = digest_file(path).name.lower()
    place = next((p for p in path.parent.iterdir() if p.name.lower() == wanted), None)
    words = place.read_text(encoding="utf-8", errors="replace").lower().split() if place is not None else None
    return None if words is None else " ".join(words[:1])


def _why_damaged(path: Path) -> str:
    return "its own check sums are wrong" if _digest(path) is None else "its SHA-256 does not match"


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    found = [p for p in folder.glob("images*.ckpt") if re.fullmatch(r"images\d+\.ckpt", p.name)]
    return sorted(found, key=images_of)


def images_of(path: Path) -> int:
    """Images seen when a checkpoint was written, from its name `images<number>.ckpt`; else from the file.

    Raises:
        WeightsError: Another name, and a file that cannot be read or does not say.
    """
    if match := re.fullmatch(r"images(\d+)\.ckpt", path.name):
        return int(match[1])
    try:
        return int(read_checkpoint(path)["state_dict"]["images_seen"])
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise WeightsError(
            f"{path}: not a checkpoint of zoo train: it does not say how many images it has seen"
        ) from None


def latest(folder: Path) -> Path | None:
    """The newest checkpoint that is intact and finite."""
    for path in reversed(checkpoints(folder)):
        try:
            bad = not_finite(read_checkpoint(path))
        except WeightsError as error:
            log.warning("passed over %s", error)
            continue
        if bad is None:
            return path
        log.warning("passed over %s: %s is not finite", path, bad)
    return None


def not_finite(checkpoint: Mapping[str, Any]) -> str | None:
    """The first weight, average or moment of an optimiser that is not finite, by its place in the checkpoint."""
    parts = {key: checkpoint.get(key, {}) for key in ("state_dict", "optimizer_states")}
    return next((where for where, value in _tensors(parts) if not _finite(value)), None)


def _tensors(value: Any, where: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield where, value
    elif isinstance(value, Mapping | list | tuple):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _tensors(inner, f"{where}.{key}" if where else str(key))


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(value.isfinite().all())
