"""What every training regime shares: a count of images, a curriculum over it, an average, reproducible steps."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.strategies.parallel import ParallelStrategy
from torch import Tensor

from .. import registry
from ..config.fill import generator_config, to_dict, without_name
from ..config.schemas import RunConfig, StageConfig
from ..errors import WeightsError, ZooError
from ..generators.base import Generator, Latents
from ..runtime import draws
from ..runtime.workers import sent
from ..weights.files import shown
from .ema import GeneratorEMA
from .folder import differences
from .freezing import freeze
from .parts import Parts

log = logging.getLogger(__name__)

Logs = dict[str, float | Tensor]
"""What a step has to say: numbers, or scalars that stay on the device until a record is written."""
Part = dict[str, Tensor]
"""Images and what is known of them, each (B, ...)."""
T = TypeVar("T")


class TrainingSystem(L.LightningModule):
    """A generator, its average and the images it has seen.

    Progress is `images_seen` (Lightning's `global_step` counts optimiser steps). The random numbers of a step are a
    function of the seed and of `images_seen` alone, so a resumed run on a CPU repeats the uninterrupted one bit for
    bit. A sub-class implements `configure_optimizers` and `step`.
    """

    images_seen: Tensor
    alike_advice: ClassVar[str] = "lower learning rates"  # what to change where all objects get one shape

    def __init__(self, run: RunConfig, initial: Generator | None = None, fresh: bool = True) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.compiled = False  # the generator's field: the first step of each size then takes long
        self.run = run
        self.cfg = run.system
        name = run.generator["name"]
        with draws.seeded(run.seed):
            self.generator: Generator = registry.resolve(name)(generator_config(name, without_name(run.generator)))
            self.build()
            if initial is not None:
                self.generator.load_state_dict(initial.state_dict())
            elif fresh:
                self.generator.initialise()
        freeze(self.generator, self.cfg.freeze)
        self.generator.train()
        self.ema = GeneratorEMA(self.generator, self.cfg.ema_kimg)
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))
        self.images = 0  # the buffer as a number, so that no step waits for the device
        self.whole = False  # after a step, when weights, average and count belong together
        self.parts = Parts()
        self.shares: dict[str, float] = {}  # of the time of the last `trainer.log_every` steps, by part
        self._norms: list[tuple[str, float, Tensor]] = []  # network, kimg and norm of gradients not looked at yet

    def build(self) -> None:
        """Make the networks that train beside the generator."""

    def step(self, batch: Part, stage: StageConfig) -> Logs:
        """Learn from a batch, whose `image` (B, 3, S, S) is of the stage's size, and return what to log.

        On a GPU nothing in it reads a tensor, so that Python runs ahead of the device, but for the rasterizers of
        meshes and depth maps and the priors of GOF, which have to know how much there is to look at.
        """
        raise NotImplementedError

    def shown(self, n: int) -> Latents | None:
        """Codes of the `n` objects in the sample pictures; None while there is nothing to show."""
        return self.ema.average.latents(n, seed=self.run.seed)

    def beside(self, n: int) -> dict[str, Tensor]:
        """Rows (n, 3, S, S) in [-1, 1] that stand above those objects in the sample pictures, by what they show."""
        return {}

    def averaged(self) -> Generator:
        """The average, sampled as it would be if it were saved now."""
        average = self.ema.average
        average.config = replace(average.config, **average.at_rest(self.schedule_kimg))
        return average

    # ---------------------------------------------------------------- curriculum

    @property
    def kimg(self) -> float:
        """Thousands of real images seen, over all processes."""
        return self.images / 1000

    @property
    def schedule_kimg(self) -> float:
        """Where the generator's own schedules stand, in thousands of images."""
        return self.cfg.start_kimg + self.cfg.clock(self.images) / 1000

    def stage(self) -> tuple[StageConfig, float]:
        """Current stage of the curriculum, and the weight of its newest discriminator block."""
        stage = [s for s in self.cfg.stages if s.kimg <= self.kimg or s is self.cfg.stages[0]][-1]
        fade = 1.0 if stage.fade_kimg <= 0 else min(1.0, (self.kimg - stage.kimg) / stage.fade_kimg)
        return stage, fade

    def learning_rates(self, stage: StageConfig) -> tuple[float, float]:
        """Those of the generator and of what trains beside it, now."""
        if not stage.lr_decay:
            return stage.lr_g, stage.lr_d
        factor = self._decay(stage, self.run.trainer.max_kimg)
        return stage.lr_g * factor, stage.lr_d * factor

    def _decay(self, stage: StageConfig, max_kimg: float) -> float:
        """What is left by now of rates that fall until the next stage, or to the end of a run of `max_kimg`."""
        later = [s.kimg for s in self.cfg.stages if s.kimg > stage.kimg]
        end = later[0] if later else max_kimg
        done = min(1.0, (self.kimg - stage.kimg) / max(end - stage.kimg, 1e-9))
        return 1 - 0.9 * done

    def batch_at(self, position: int) -> int:
        """Images per process in the step that starts at a position of the training stream."""
        stage = [s for s in self.cfg.stages if s.kimg * 1000 <= position or s is self.cfg.stages[0]][-1]
        return stage.batch * self.run.trainer.accumulate

    # ---------------------------------------------------------------- one step

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the count of images.

        Raises:
            WeightsError: The checkpoint is of another architecture.
        """
        self._need_same(checkpoint)
        self.images = int(checkpoint["state_dict"]["images_seen"])
        self._tell_jump(checkpoint["zoo"].get("config", {}).get("trainer", {}).get("max_kimg"))

    def _tell_jump(self, there: Any) -> None:
        """Say so where rates that fall to the end of the run go on elsewhere, as the run ended at `there` before."""
        stage, here = self.stage()[0], self.run.trainer.max_kimg
        if stage.lr_decay and isinstance(there, int | float):
            before, now = self._decay(stage, there), self._decay(stage, here)
            if before != now:
                log.warning(
                    "trainer.max_kimg=%g (%g before): learning rates fall to the end of a run, and jump from %.0f to "
                    "%.0f %% of their first value; for others set system.stages", here, there, 100 * before, 100 * now,
                )  # fmt: skip

    def _need_same(self, checkpoint: dict[str, Any]) -> None:
        own, given = self.state_dict(), checkpoint["state_dict"]
        for key in [*own, *given]:
            here, there = (tuple(s[key].shape) if isinstance(s.get(key), Tensor) else "nothing" for s in (own, given))
            if here != there:
                config = checkpoint["zoo"].get("config", {})
                what = [d for k in ("generator", "system") for d in differences(config.get(k), to_dict(self.run)[k], k)]
                settings = f"; settings that differ: {'; '.join(what[:5])}" if what else ""
                raise WeightsError(
                    f"resume={self.trainer.ckpt_path}: a checkpoint of another architecture: {shown(key)} is {there} "
                    f"there and {here} here{settings}; use the same settings, or resume=never"
                )

    def on_train_start(self) -> None:
        """Settings of the optimisers are those of the configuration; what they have learned is the checkpoint's."""
        fresh = self.configure_optimizers()
        for own, new in zip(self.trainer.optimizers, fresh if isinstance(fresh, list) else [fresh], strict=True):
            for group, wanted in zip(own.param_groups, new.param_groups, strict=True):
                group.update({key: value for key, value in wanted.items() if key != "params"})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        rest = self.generator.at_rest(self.schedule_kimg)
        checkpoint["zoo"] = {"format": 1, "config": to_dict(self.run), "kimg": self.kimg, "at_rest": rest}

    @property
    def step_seed(self) -> int:
        """The seed of the next step, one for all processes, see `zoo.runtime.draws`.

        torch keeps 32 bits of a CPU seed, so the numbers are mixed first. The 0 was once the number of the process.
        """
        return int(np.random.SeedSequence((self.run.seed, 0, self.images)).generate_state(1)[0])

    @property
    def runs_ahead(self) -> bool:
        """Whether Python goes on while the device still works, so that reading a number would make it wait."""
        return self.device.type != "cpu"

    def sent(self, tensor: Tensor) -> Tensor:
        """A tensor of the CPU on the device, without waiting for what that does."""
        return sent(tensor, self.device)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.whole = False
        self.parts.lap("data", self.device)
        stage, alpha = self.stage()
        torch.manual_seed(self.step_seed)
        real = batch["image"]
        if real.shape[-1] != stage.size:
            real = F.interpolate(real, size=(stage.size, stage.size), mode="area")
        logs = self.step({**batch, "image": real}, stage)
        before = self.cfg.clock(self.images)
        self.images += len(real) * self.trainer.world_size
        self.images_seen.fill_(self.images)
        now = self.cfg.clock(self.images)
        self.ema.update(self.generator, now - before, now)
        self.whole = True  # whatever becomes of records and pictures
        self.parts.lap("G", self.device)
        record: Any = {**logs, "alpha": alpha, "size": stage.size}  # Lightning's type says numbers; ours reads both
        self.trainer.loggers[0].log_metrics(record, step=self.images)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.parts.lap("rest", self.device)  # records, pictures, checkpoints
        if (batch_idx + 1) % self.run.trainer.log_every == 0:
            self.need_finite()
            self.shares = self.parts.shares()

    def in_parts(self, batch: Part, work: Callable[[Part], T]) -> list[T]:
        """What `work` makes of each micro-batch of a process's batch, one after the other.

        Each sees every so many-th image, and draws the numbers of its own images alone. So no image, and no number that
        is drawn for one, depends on how a batch is shared out.
        """
        world, parts, out = self.trainer.world_size, self.run.trainer.accumulate, []
        begin = draws.state(self.device)
        for i in range(parts):
            if i > 0:
                draws.restore(begin, self.device)
            with draws.share(self.global_rank + world * i, world * parts):
                out.append(work({name: rows[i::parts] for name, rows in batch.items()}))
        return out

    def update(
        self,
        optimizer: Any,
        network: torch.nn.Module,
        lr: float,
        batch: Part,
        loss: Callable[[Part], tuple[Tensor, Logs]],
    ) -> Logs:
        """One optimiser step with clipped gradients of the mean loss over the micro-batches; what to log of them.

        Args:
            optimizer: Steps.
            network: Has the parameters that it moves.
            lr: Is the rate.
            batch: This process's.
            loss: Gives the loss of a micro-batch, and what to log.

        Raises:
            ZooError: The gradient is not finite; weights that are not numbers must never reach a checkpoint. On a
                device that runs ahead this is said when the next record is written; checkpoints look for themselves.
        """
        for group in optimizer.param_groups:
            group["lr"] = lr
        parts, logs = self.run.trainer.accumulate, list[Logs]()

        def learn(part: Part) -> None:
            value, said = loss(part)
            logs.append(said)
            if len(logs) == 1:
                optimizer.zero_grad()
            with nullcontext() if len(logs) == parts else self._unsynced():
                self.manual_backward(value / parts if parts > 1 else value)

        self.in_parts(batch, learn)
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), self.cfg.grad_clip)
        self._norms.append((type(network).__name__, self.kimg, norm.detach()))
        if not self.runs_ahead:
            self.need_finite()
        optimizer.step()
        return logs[0] if parts == 1 else {key: _mean([said[key] for said in logs]) for key in logs[0]}

    def _unsynced(self) -> AbstractContextManager[None]:
        """Inside, gradients stay with this process: those of the last micro-batch take the others along."""
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else nullcontext()

    def need_finite(self) -> None:
        """Look at the gradients since the last call. Raises ZooError for the first that was not finite."""
        norms, self._norms = self._norms, []
        for name, kimg, norm in norms:
            if not norm.isfinite():
                raise ZooError(
                    f"the gradient of {name} is not finite at {kimg:.1f} kimg: resume=PATH of the "
                    "last checkpoint with lower learning rates (system.stages)"
                )


def _mean(values: list[float | Tensor]) -> float | Tensor:
    """The mean of numbers, or of scalars on a device, where it stays."""
    return sum(values[1:], values[0]) / len(values)
