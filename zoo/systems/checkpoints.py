"""When a training saves itself, and how: checkpoints that survive being killed at any moment."""

import hashlib
import io
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from ..config.schemas import TrainerConfig
from ..errors import WeightsError, ZooError
from ..runtime.files import atomic_write
from ..runtime.signals import Signals
from ..weights.checkpoints import checkpoints, digest_file, images_of, not_finite, read_checkpoint
from .base import TrainingSystem
from .callbacks import Every, RunLogger

log = logging.getLogger(__name__)

_NEEDED = ("optimizer_states", "loops", "pytorch-lightning_version")  # beyond what every checkpoint of ours has


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the target, flushes, renames; the SHA-256 goes into a second file once the first is complete.

    Lightning's own writer stages in `$TMPDIR`; where that is another file system its last step is a copy, and a kill
    during the copy leaves half a checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            ZooError: A weight, an average or a moment of an optimiser is not finite; nothing is written.
            OSError: The disk is full or cannot be written.
        """
        path = Path(path)
        if bad := not_finite(checkpoint):
            fix = "lower learning rates (system.stages) make another run, which resume=PATH starts from a checkpoint"
            raise ZooError(f"{bad} is not finite: {path} is not written; {last_words(path.parent)}; {fix}")
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        data = buffer.getvalue()
        digest_file(path).unlink(missing_ok=True)  # of another file of this name
        atomic_write(path, data)
        atomic_write(digest_file(path), hashlib.sha256(data).hexdigest())

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None, **_: Any
    ) -> dict[str, Any]:
        """Read a checkpoint to go on from; `weights_only` changes nothing: nothing else is ever read.

        Raises:
            WeightsError: Damaged, not finite, or not a whole training.
        """
        content = read_checkpoint(Path(path), map_location)
        if missing := [key for key in _NEEDED if key not in content]:
            raise WeightsError(f"{path}: no training goes on from it: it has no {missing[0]}; start with init={path}")
        if bad := not_finite(content):
            raise WeightsError(f"{path}: {bad} is not finite; use an earlier checkpoint")
        return content

    def remove_checkpoint(self, path: Any) -> None:
        digest_file(Path(path)).unlink(missing_ok=True)
        Path(path).unlink(missing_ok=True)


def last_words(folder: Path) -> str:
    """Which checkpoint is the last one, and how to go on from it."""
    saved = checkpoints(folder)
    if not saved:
        return "no checkpoint is written yet; the same command with resume=auto starts again"
    return f"the same command with resume=auto goes on from {saved[-1].name} ({images_of(saved[-1]) / 1000:g} kimg)"


class KimgCheckpoint(L.Callback):
    """Saves `images<number>.ckpt` every so often and at the end, keeps the last two, stops at the goal or on a signal.

    A signal finishes the step, saves and stops. Errors between two steps, such as unreadable data or a failing sample
    sheet, save first.
    """

    def __init__(self, folder: Path, cfg: TrainerConfig, logger: RunLogger, signals: Signals) -> None:
        self.folder, self.cfg, self.logger, self.signals = folder, cfg, logger, signals
        self.due = Every(cfg.checkpoint_kimg)
        self._saved = -1  # images in the last checkpoint, or where the run started; -1: it has not
        self._ended, self._longest = 0.0, 0.0  # the last step, on the clock; the longest but the first, which compiles

    def on_train_start(self, trainer: L.Trainer, pl_module: TrainingSystem) -> None:  # type: ignore[override]
        self.due(pl_module.kimg)
        self._saved = pl_module.images
        self.signals.take()  # Lightning has put a handler of its own in place

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: TrainingSystem, *_: Any) -> None:  # type: ignore[override]
        before, self._ended = self._ended, time.monotonic()
        self._longest = max(self._longest, self._ended - before if before else 0.0)
        self.signals.finishing(self._longest)
        over = pl_module.kimg >= self.cfg.max_kimg - 1e-9
        stop = self.signals.received is not None or trainer.should_stop
        if trainer.world_size > 1:  # the signal reaches the processes at different steps, or only one of them
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if over or stop:
            trainer.should_stop = True
            self.signals.answered()
        if self.due(pl_module.kimg) or over or stop:
            self.save(trainer, pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: TrainingSystem, exception: BaseException) -> None:  # type: ignore[override]
        alone = trainer.world_size == 1  # others would wait for this process, or this one for them
        new = pl_module.whole and 0 <= self._saved < pl_module.images
        if alone and new and isinstance(exception, Exception):
            with suppress(OSError, ZooError):  # the error that is under way says more
                self.save(trainer, pl_module)
                log.warning("saved at %g kimg; resume=auto goes on from there", pl_module.kimg)

    def save(self, trainer: L.Trainer, pl_module: TrainingSystem) -> None:
        """Write a checkpoint now; all processes call it."""
        self._saved = pl_module.images
        self.logger.flush(pl_module.images)
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(self.folder / f"images{pl_module.images:09d}.ckpt")
        if trainer.is_global_zero:
            self.logger.write_csv()
            for old in checkpoints(self.folder)[:-2]:
                trainer.strategy.remove_checkpoint(old)
            for given_up in self.folder.glob("*.stale"):
                given_up.unlink()
