"""Lightning's advice about loops, loaders and other products, kept away from people who train with zoo."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .workers import accelerator_of

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


@contextmanager
def quiet(level: int = logging.WARNING) -> Iterator[None]:
    """Inside, Lightning says only what is at least as grave as `level`, and no Python warnings.

    It must be imported before: it sets its own level when it is.
    """
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")  # guesses about loops that are not its own
            yield
    finally:
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)


def quiet_trainer(accelerator: str, **options: Any) -> "Trainer":
    """A trainer on one device and in one process, also within a job of SLURM; it shows and stores nothing of its own.

    Args:
        accelerator: The device, by Lightning's name.
        options: What else Lightning's `Trainer` is given.
    """
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.pytorch import Trainer

    silent: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    alone = LightningEnvironment()
    return Trainer(accelerator=accelerator_of(accelerator), devices=1, plugins=alone, **silent | options)
