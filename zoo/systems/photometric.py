"""Photometric training: a method takes each photograph apart and is judged by how well it puts it together again."""

from typing import Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from ..config.schemas import PhotometricConfig, StageConfig
from ..errors import ConfigError
from ..generators.base import Generator, Latents, SelfTaught
from ..networks.perceptual import PerceptualLoss
from .base import Logs, Part, TrainingSystem

SHOWN = 8


class PhotometricSystem(TrainingSystem):
    """Training without an opponent (Wu et al. 2020): one Adam for all networks of a `SelfTaught` method.

    The pictures show the first images of the training stream. What the method remembers from step to step is kept here,
    under its own names, so that it travels in checkpoints and not with the weights.
    """

    cfg: PhotometricConfig
    alike_advice = "system.weight_decay=0 or lower learning rates"
    examples: Tensor

    def build(self) -> None:
        self.generator.need_batch(min(stage.batch for stage in self.cfg.stages))
        size = self.cfg.stages[0].size
        self.register_buffer("examples", torch.zeros(SHOWN, 3, size, size))
        state = _taught(self.generator).training_state()
        self._remembered = tuple(state)
        for name, value in state.items():
            self.register_buffer(name, value)
        vgg = self.cfg.perceptual
        # In a tuple, so that weights which never change stay out of the checkpoints.
        self._perceptual = () if vgg is None else (PerceptualLoss.from_file(vgg),)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            self.generator.parameters(),
            lr=self.cfg.stages[0].lr_g,
            betas=(self.cfg.betas[0], self.cfg.betas[1]),
            weight_decay=self.cfg.weight_decay,
        )

    def step(self, batch: Part, stage: StageConfig) -> Logs:
        images = batch["image"]
        if (room := SHOWN - self.images) > 0:
            # (processes, B, ...): the first of each, then the second of each, as the stream has them
            all_of_them = cast(Tensor, self.all_gather(images)).reshape(-1, *images.shape)
            first = all_of_them.transpose(0, 1).flatten(0, 1)[:room]
            self.examples[SHOWN - room :][: len(first)] = first
        perceptual = self._perceptual[0].to(images.device) if self._perceptual else None
        before = {name: self.get_buffer(name) for name in self._remembered}
        after: list[dict[str, Tensor]] = []

        def learn(part: Part) -> tuple[Tensor, Logs]:
            after.append({name: value.clone() for name, value in before.items()})
            taught, now = _taught(self.generator), self.schedule_kimg
            loss, terms = taught.training_loss(part["image"], now, after[-1], perceptual)
            return loss, {"loss": loss, **terms}

        optimizer = cast(LightningOptimizer, self.optimizers())
        logs = self.update(optimizer, self.generator, self.learning_rates(stage)[0], batch, learn)
        for name, value in before.items():  # each micro-batch of each process has added its own
            value.copy_(
                cast(Tensor, self.all_gather(torch.stack([own[name] for own in after]).mean(0)))
                .reshape(-1, *value.shape)
                .mean(0)
            )
        return logs

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name in self._remembered:  # runs from before a method remembered this start with what it is at first
            checkpoint["state_dict"].setdefault(name, self.get_buffer(name))
        super().on_load_checkpoint(checkpoint)

    def shown(self, n: int) -> Latents | None:
        if self.images < n:
            return None
        examples = self.examples[:n]
        return _taught(self.ema.average).explain(examples, examples.shape[-1]).latents

    def beside(self, n: int) -> dict[str, Tensor]:
        """The photographs, and what the average makes of them."""
        examples = self.examples[:n]
        return {"photograph": examples, "reconstruction": rebuilt(self.ema.average, examples)[0]}


def rebuilt(generator: Generator, images: Tensor) -> tuple[Tensor, Tensor]:
    """Photographs (B, 3, S, S) taken apart and put together again, and the masks (B, 1, S, S) of what is shown."""
    found = _taught(generator).explain(images, images.shape[-1])
    render = generator(found.latents, found.camera, found.light)
    assert render.mask is not None
    return render.rgb, render.mask


def _taught(generator: Generator) -> SelfTaught:
    if not isinstance(generator, SelfTaught):
        raise ConfigError(f"{type(generator).__name__} needs an opponent to learn from; use system=adversarial")
    return generator
