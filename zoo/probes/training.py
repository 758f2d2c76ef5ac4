"""How a depth probe learns from pairs."""

import logging

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.utils.data import DataLoader

from ..runtime.quiet import quiet, quiet_trainer
from ..runtime.signals import interruptible
from .depth import Advance, DepthProbe, Pairs, augment_pairs, average_depth


class _Training(lightning.LightningModule):
    """Adam on the error of augmented pairs, with one cycle of the rate: up in a tenth of the steps, then down."""

    def __init__(self, probe: DepthProbe, lr: float, steps: int) -> None:
        super().__init__()
        self.probe, self.lr, self.steps = probe, lr, steps

    def training_step(self, batch: Pairs, batch_index: int) -> Tensor:
        return self.probe.error(augment_pairs(batch))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimiser = torch.optim.Adam(self.parameters(), self.lr, betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.lr, total_steps=self.steps + 1, pct_start=0.1)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Advance(lightning.Callback):
    def __init__(self, advance: Advance) -> None:
        self.advance = advance

    def on_train_batch_end(self, *_: object) -> None:
        self.advance(1)


class _HeldBack(lightning.Callback):
    """Keeps the probe that does best on pairs it does not learn from, and stops when it gets no better."""

    EVERY, PATIENCE = 50, 4  # steps between two looks; looks without a new best one after which training ends

    def __init__(self, pairs: Pairs) -> None:
        self.pairs, self.best, self.waited = pairs, float("inf"), 0
        self.state: dict[str, Tensor] = {}

    @torch.no_grad()
    def on_train_batch_end(self, trainer: lightning.Trainer, training: lightning.LightningModule, *_: object) -> None:
        if trainer.global_step % self.EVERY and trainer.global_step < trainer.max_steps:
            return
        assert isinstance(training, _Training)
        probe = training.probe
        probe.eval()
        error = probe.error(self.pairs.to(training.device)).item()
        probe.train()
        self.waited += 1
        if error < self.best:
            self.best, self.waited = error, 0
            self.state = {key: value.clone() for key, value in probe.state_dict().items()}
        trainer.should_stop = trainer.should_stop or self.waited >= self.PATIENCE


def train_probe(
    pairs: Pairs,
    *,
    held_back: Pairs | None = None,
    steps: int = 300,
    batch_size: int = 16,
    nf: int = 16,
    zdim: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    accelerator: str = "auto",
    advance: Advance | None = None,
) -> DepthProbe:
    """Train a fresh probe on pairs, rendered or true.

    Args:
        pairs: Training data; [near, far] is the range of its depth inside the masks.
        held_back: Pairs to judge the probe by; the best one counts, and training ends when it gets no better. None
            takes the last one.
        steps: Number of optimiser steps, or with `held_back` the most of them.
        batch_size: Pairs in each step, drawn in random order; no pair is used twice before every pair is used once.
        nf, zdim: See `DepthProbe`.
        lr: Peak learning rate.
        seed: Makes weights, order and augmentation; the caller's random state is left alone.
        accelerator: The device, by Lightning's name.
        advance: Called with 1 after every step.

    Returns:
        The trained probe, on the CPU and in eval mode.

    Raises:
        ValueError: There are no pairs, no pixel lies inside a mask, or depth inside a mask is not finite and positive;
            or the pairs held back show nothing, or the probe diverges on them.
        KeyboardInterrupt: Ctrl-C.
    """
    if not len(pairs) or not pairs.mask.any():
        raise ValueError(f"{len(pairs)} pairs with {int(pairs.mask.sum())} masked pixels: nothing to learn depth from")
    depths = pairs.depth[pairs.mask]
    near, far = depths.min().item(), depths.max().item()
    if not (depths.isfinite().all() and near > 0):
        raise ValueError(f"depth inside the masks must be finite and > 0, found a minimum of {near:g}")
    if held_back is not None and not held_back.mask.any():
        raise ValueError(f"{len(held_back)} pairs held back show nothing, so they cannot judge: give more pairs")
    with torch.random.fork_rng(), quiet(logging.ERROR):
        torch.manual_seed(seed)
        average = average_depth(pairs)
        # If depth does not vary, [near, far] would be empty.
        far = max(far, near * 1.001)
        probe = DepthProbe((average + average.flip(-1)) / 2, near, far, nf=nf, zdim=zdim)
        orders = [torch.randperm(len(pairs)) for _ in range(steps * batch_size // len(pairs) + 1)]
        batches = torch.cat(orders)[: steps * batch_size].split(batch_size)
        judge = _HeldBack(held_back) if held_back is not None else None
        callbacks = [*([_Advance(advance)] if advance else []), *([judge] if judge else [])]
        trainer = quiet_trainer(accelerator, max_steps=steps, callbacks=callbacks)
        # The loader's keys are whole batches of indices, so one look-up makes one batch.
        loader: DataLoader[Pairs] = DataLoader(pairs, batch_size=None, sampler=batches)  # type: ignore[arg-type]
        with interruptible():
            trainer.fit(_Training(probe, lr, steps), loader)
        if judge and not judge.state:
            raise ValueError("the error on the pairs held back is never a number: images or depths are not finite")
        if judge:
            probe.load_state_dict(judge.state)
    return probe.cpu().eval()
