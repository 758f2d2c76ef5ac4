"""When a training saves itself, and how: checkpoints that survive being killed at any moment."""

import hashlib
import io
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from ..config.schemas import TrainerConfig
from ..runtime.files import atomic_write
from ..weights.checkpoints import checkpoints, digest_file, read_checkpoint
from .base import TrainingSystem
from .callbacks import Every, RunLogger

log = logging.getLogger(__name__)


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
        atomic_write(digest_file(Path(path)), hashlib.sha256(data).hexdigest())

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None, **_: Any
    ) -> dict[str, Any]:
        """`weights_only` changes nothing: only weights and plain values are ever read."""
        return read_checkpoint(Path(path), map_location)

    def remove_checkpoint(self, path: Any) -> None:
        digest_file(Path(path)).unlink(missing_ok=True)
        Path(path).unlink(missing_ok=True)


class KimgCheckpoint(L.Callback):
    """Saves `images<number>.ckpt` every so often and at the end, keeps the last two, stops at the goal or on a signal.

    The first Ctrl-C or SIGTERM finishes the step, saves and stops; a second Ctrl-C stops at once.
    """

    def __init__(self, folder: Path, cfg: TrainerConfig, logger: RunLogger) -> None:
        self.folder, self.cfg, self.logger = folder, cfg, logger
        self.due = Every(cfg.checkpoint_kimg)
        self.stopped_by: signal.Signals | None = None

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self.stopped_by is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stopped_by = signal.Signals(number)
        log.warning("%s: saving and stopping after this step", self.stopped_by.name)

    def on_train_start(self, trainer: L.Trainer, pl_module: TrainingSystem) -> None:  # type: ignore[override]
        self.due(pl_module.kimg)
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                signal.signal(number, self._signalled)
            except ValueError:  # not the main thread: the caller handles signals
                break

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: TrainingSystem, *_: Any) -> None:  # type: ignore[override]
        over = pl_module.kimg >= self.cfg.max_kimg - 1e-9
        stop = self.stopped_by is not None
        if trainer.world_size > 1:  # the signal reaches the processes at different steps, or only one of them
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if self.due(pl_module.kimg) or over or stop:
            self.save(trainer, pl_module)
        if over or stop:
            trainer.should_stop = True

    def save(self, trainer: L.Trainer, pl_module: TrainingSystem) -> None:
        """Write a checkpoint now; all processes call it."""
        if trainer.is_global_zero:
            self.logger.flush(pl_module.images)
            self.folder.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(self.folder / f"images{pl_module.images:09d}.ckpt")
        if trainer.is_global_zero:
            self.logger.write_csv()
            for old in checkpoints(self.folder)[:-2]:
                trainer.strategy.remove_checkpoint(old)

    @contextmanager
    def catching_signals(self) -> Iterator[None]:
        """Restores the handlers afterwards. Around the whole fit: Lightning puts its own back before callbacks end."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                with suppress(ValueError):  # not the main thread
                    signal.signal(number, handler)
