"""Photometric training: a method takes each photograph apart and is judged by how well it puts it together again."""

from typing import Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from ..config.schemas import PhotometricConfig, StageConfig
from ..generators.base import Latents
from ..generators.unsup3d import Unsup3D
from ..networks.perceptual import PerceptualLoss
from .base import TrainingSystem

SHOWN = 8


class PhotometricSystem(TrainingSystem):
    """Unsup3d's training (Wu et al. 2020): one Adam for all networks, no discriminator.

    The pictures show the first images of the training stream.
    """

    cfg: PhotometricConfig
    generator: Unsup3D
    examples: Tensor
    covariances: Tensor

    def build(self) -> None:
        if self.generator.config.rigid_weight > 0:
            self.generator.check_batch(min(stage.batch for stage in self.cfg.stages))
        size = self.generator.config.size
        self.register_buffer("examples", torch.zeros(SHOWN, 3, size, size))
        self.register_buffer("covariances", torch.zeros(2, 2, size, size))
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

    def step(self, images: Tensor, stage: StageConfig) -> dict[str, float]:
        room = SHOWN - self.images // self.trainer.world_size  # each process keeps examples of its own
        if room > 0:
            self.examples[SHOWN - room :][: len(images)] = images[:room]
        perceptual = self._perceptual[0].to(images.device) if self._perceptual else None
        loss, parts = self.generator.losses(images, perceptual, self.kimg, self._average)
        optimizer = cast(LightningOptimizer, self.optimizers())
        self.update(optimizer, loss, self.generator, self.learning_rates(stage)[0])
        return {"loss": loss.item()} | {name: value.item() for name, value in parts.items()}

    def _average(self, batch: Tensor) -> Tensor:
        """Covariances over about a hundred batches; from 0 on, so that the first ones, mostly noise, weigh little."""
        return self.covariances.lerp_(batch, 0.01)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        checkpoint["state_dict"].setdefault("covariances", self.covariances)  # runs from before there were any

    def shown(self, n: int) -> Latents | None:
        if self.images // self.trainer.world_size < n:
            return None
        average = cast(Unsup3D, self.ema.average)
        return average.encode(self.examples[:n])
