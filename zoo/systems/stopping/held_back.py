"""Early stopping: images that training never sees say when it no longer helps, and the best weights are kept."""

import logging
import math
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from ... import hub
from ...config.fill import to_dict
from ...config.schemas import Metric, RunConfig
from ...data.module import FaceData
from ...data.sources import NoSplit
from ...data.transforms import to_float
from ...images import resize
from ...weights.files import card_of
from ..adversarial import AdversarialSystem
from ..base import TrainingSystem
from ..callbacks import Every
from .judges import Judge, judge_of

log = logging.getLogger(__name__)

BEST = "best"  # folder of a run
MOST = 128  # images that are read
_KEPT = ("first", "first_kimg", "best", "best_kimg", "since", "size")  # in checkpoints


def held_back(run: RunConfig, data: FaceData) -> Tensor:
    """The images (N, 3, S, S) in [-1, 1] of the split "val", at most 128 of them, evenly spaced.

    Raises:
        DataError: There are none, or a file is bad.
    """
    try:
        source = data.source("val")
    except NoSplit as error:
        fix = "or use trainer.patience=0" if run.data.holdout else "hold some back with data.holdout=0.2"
        raise NoSplit(f"trainer.patience={run.trainer.patience}: {error}; {fix}") from None
    rows = torch.linspace(0, len(source) - 1, min(MOST, len(source))).round().long().tolist()
    return to_float(source.read_batch(rows)[0])


class HeldBack(L.Callback):
    """Reads the averaged generator as often as sample sheets are drawn, keeps the best in `best/`, ends a run in time.

    Readings are logged as `held_back`, see `judges`; the first one is that of what the run starts from.

    Args:
        folder: The folder of the run.
        run: Its configuration.
        images: (N, 3, S, S) in [-1, 1], which training does not see.
    """

    def __init__(self, folder: Path, run: RunConfig, images: Tensor) -> None:
        self.folder, self.run, self.images = folder, run, images
        self.due = Every(run.trainer.sample_kimg)
        self.first, self.first_kimg, self.best, self.best_kimg, self.since = math.nan, 0.0, math.inf, 0.0, 0
        self.size = 0  # at which images are read
        self._kept: dict[str, Any] = {}  # of the judge, from a checkpoint
        self._judge: Judge | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: TrainingSystem) -> None:  # type: ignore[override]
        self.due(pl_module.kimg)
        self._judge = judge_of(pl_module)
        if self._kept:
            self._judge.load_state_dict(self._kept)
        best, old = self.folder / BEST, self.folder / f"{BEST}.old"
        if trainer.is_global_zero and old.is_dir() and not best.is_dir():  # killed while one took the other's place
            old.rename(best)
        if trainer.strategy.broadcast(math.isnan(self.first) or not best.is_dir()):  # a new run, or in another folder
            self.size = 0
            self._look(trainer, pl_module)
        trainer.should_stop = self.since >= self.run.trainer.patience  # it has ended before

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: TrainingSystem, *_: Any) -> None:  # type: ignore[override]
        if self.due(pl_module.kimg):
            self._look(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        judge = {} if self._judge is None else self._judge.state_dict()
        return {name: getattr(self, name) for name in _KEPT} | {"judge": judge}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._kept = state_dict["judge"]
        for name in _KEPT:
            setattr(self, name, state_dict[name])

    def _look(self, trainer: L.Trainer, system: TrainingSystem) -> None:
        assert self._judge is not None
        system.need_finite()  # else such weights would end the run for want of progress
        size = system.stage()[0].size
        value = self._judge(system, resize(self.images.to(system.device), size))
        if size != self.size:  # readings of two sizes do not compare
            self.size, self.best = size, math.inf
            self.first, self.first_kimg = value, system.kimg
        better = value < self.best
        if trainer.is_global_zero:
            trainer.loggers[0].log_metrics({"held_back": value})
            if better:
                self._keep(system, value)
        self.since = 0 if better else self.since + 1
        if better:  # and written: a checkpoint after an error must not claim what is not there
            self.best, self.best_kimg = value, system.kimg
        if self.since >= self.run.trainer.patience:
            trainer.should_stop = True  # the checkpoints see it, and save
            log.info(
                "%g kimg: no progress on held-back images since %g kimg, so training ends", system.kimg, self.best_kimg
            )

    def _keep(self, system: TrainingSystem, value: float) -> None:
        """Replace `best/`, which is never half of one and half of another, by weights that read as `value`."""
        assert self._judge is not None
        new, best = self.folder / f"{BEST}.new", self.folder / BEST
        shutil.rmtree(new, ignore_errors=True)
        beside = system.discriminator.state_dict() if isinstance(system, AdversarialSystem) else None
        card, n = card_of(to_dict(self.run), system.kimg), len(self.images)
        card.command = (self.folder / "command.txt").read_text("utf-8").splitlines()[0]
        card.metrics = [
            Metric(self._judge.name, reading, f"{n} held-back images, at {kimg:g} kimg", n, card.command)
            for reading, kimg in ((self.first, self.first_kimg), (value, system.kimg))
        ]
        model = system.averaged()
        model.name = card.name  # two methods may share a class
        hub.save(model, new, card=card, discriminator=beside)
        old = self.folder / f"{BEST}.old"
        shutil.rmtree(old, ignore_errors=True)
        if best.is_dir():
            best.rename(old)
        new.rename(best)
        shutil.rmtree(old, ignore_errors=True)
