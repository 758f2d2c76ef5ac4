"""Real training steps of a recipe under Lightning, with its data and its records, for measurements beside them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from ..config.schemas import RunConfig
from ..data.module import FaceData
from ..runtime.quiet import quiet, quiet_trainer
from ..systems.base import TrainingSystem
from ..systems.callbacks import RunLogger
from ..systems.run import make_system
from .harness import ready

Before = Callable[[TrainingSystem, Tensor], Any]


def fit(
    run: RunConfig,
    folder: Path,
    steps: int,
    before: Before = lambda system, images: None,
    after: Callable[[float], bool] = lambda seconds: False,
) -> TrainingSystem:
    """Train from scratch, without pictures or checkpoints.

    Args:
        run: The configuration.
        folder: Takes the records.
        steps: How many; each one learns from a batch.
        before: Is called between batches with the system and the images (B, 3, S, S) of the next step, off the clock.
        after: Is called after each step with its seconds, from the end of the one before, data and records included;
            True ends the training.
    """
    system = make_system(run)
    with quiet():
        trainer = quiet_trainer(
            run.trainer.accelerator,
            precision=run.trainer.precision,
            max_epochs=-1,
            logger=[RunLogger(folder, run.trainer.log_every)],
            use_distributed_sampler=False,
            limit_val_batches=0,
            callbacks=[_Turns(steps, before, after)],
        )
        trainer.fit(system, datamodule=FaceData(run.data, system.batch_at))
    logger = trainer.loggers[0]
    assert isinstance(logger, RunLogger)
    logger.flush(system.images)
    return system


class _Turns(L.Callback):
    def __init__(self, steps: int, before: Before, after: Callable[[float], bool]) -> None:
        self.steps, self.before, self.after = steps, before, after
        self._ended = self._began = 0.0
        self._waited = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._ended = time.perf_counter()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: TrainingSystem, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        ready()
        self._waited = time.perf_counter() - self._ended
        pl_module.parts.lap("data", pl_module.device)
        self.before(pl_module, batch["image"])
        ready()
        pl_module.parts.resume(pl_module.device)
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        ready()
        self._ended = time.perf_counter()
        if self.after(self._ended - self._began + self._waited) or batch_idx + 1 >= self.steps:
            trainer.should_stop = True
