"""Adversarial training of any generator: one LightningModule for all methods that learn from unpaired images."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from .. import losses
from ..config import AdversarialConfig, StageConfig
from ..data.priors import light_prior, pose_prior
from ..errors import ZooError
from ..generators.base import Latents
from ..geometry import Camera, Light, Render
from ..networks.discriminators import DiscOut, build_discriminator
from .base import TrainingSystem


class AdversarialSystem(TrainingSystem):
    """Generator against discriminator, with lazy R1, pose regression, EMA and a curriculum over images seen.

    One step uses one batch of real images: D learns from it and from generated images, then G learns through D.
    """

    cfg: AdversarialConfig

    def build(self) -> None:
        d = self.cfg.discriminator
        largest = max(stage.size for stage in self.cfg.stages)
        widths: dict[str, Any] = {} if d.channels is None else {"channels": d.channels}
        if self.cfg.latent_weight > 0:
            widths["latent_dim"] = self.generator.config.z_dim
        self.discriminator = build_discriminator(d.name, max_size=largest, **widths)
        scene = self.run.data.scene
        self.poses, self.lights = pose_prior(self.cfg.pose or scene.pose), light_prior(scene.light)

    def start_discriminator(self, state: dict[str, Tensor]) -> None:
        """Take over a trained discriminator; layers that only this, larger, one has stay new."""
        own = self.discriminator.state_dict()
        if wrong := [k for k, v in state.items() if k not in own or own[k].shape != v.shape]:
            raise ZooError(f"the discriminator does not fit: {wrong[0]} differs; use the same system.discriminator")
        self.discriminator.load_state_dict({**own, **state})

    # ---------------------------------------------------------------- one step

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        stage, betas = self.cfg.stages[0], (self.cfg.betas[0], self.cfg.betas[1])
        return [
            torch.optim.Adam(self.discriminator.parameters(), lr=stage.lr_d, betas=betas),
            torch.optim.Adam(self.generator.parameters(), lr=stage.lr_g, betas=betas),
        ]

    def generate(self, n: int, size: int) -> tuple[Render, dict[str, Tensor]]:
        """`n` random objects from random cameras under random lights, for training; and the `pose` (n, 2) and `latent`
        (n, z_dim) that D may be asked to recognise."""
        g = self.generator
        z = torch.randn(n, g.config.z_dim)
        pose = self.poses.sample(n, torch.default_generator)
        scene = self.run.data.scene
        camera = Camera.orbit(pose[:, 1], pose[:, 0], fov=scene.fov, size=size, radius=scene.radius).to(self.device)
        light = Light(self.lights.sample(n, torch.default_generator).to(self.device)) if g.uses_light else None
        with torch.autocast(self.device.type, enabled=False):  # sines of large arguments and transmittance need float32
            render = g(Latents(z.to(self.device)), camera, light, g.schedule(self.cfg.start_kimg + self.kimg))
        return render, {"pose": pose.to(self.device), "latent": z.to(self.device)}

    def step(self, images: Tensor, stage: StageConfig) -> dict[str, float]:
        optimizer_d, optimizer_g = cast("list[LightningOptimizer]", self.optimizers())
        lr_g, lr_d = self.learning_rates(stage)
        alpha = self.stage()[1]
        number = self.images // (len(images) * self.trainer.world_size)
        render, truth = self.generate(len(images), stage.size)
        lazy = number % self.cfg.r1_every == 0
        logs = self._step_d(optimizer_d, images, render.rgb.detach(), truth, alpha, lr_d, lazy)
        if not self.cfg.share_fakes:
            del render  # its graph, before the next one is built
            render, truth = self.generate(len(images), stage.size)
        return logs | self._step_g(optimizer_g, render, truth, alpha, lr_g)

    def _step_d(
        self,
        optimizer: Any,
        real: Tensor,
        fake: Tensor,
        truth: dict[str, Tensor],
        alpha: float,
        lr: float,
        lazy: bool,
    ) -> dict[str, float]:
        d = self.discriminator.requires_grad_(True)
        use_r1 = self.cfg.r1 > 0 and lazy
        real = real.detach().requires_grad_(use_r1)
        on_real, on_fake = d(real, alpha), d(fake, alpha)
        loss = losses.discriminator_loss(on_real.score, on_fake.score)
        logs = {"d": loss.item(), "score_real": on_real.score.mean().item(), "score_fake": on_fake.score.mean().item()}
        recognised, parts = self._recognition(on_fake, truth)
        loss, logs = loss + recognised, logs | parts
        if use_r1:
            penalty = losses.r1_penalty(on_real.score, real)
            loss = loss + self.cfg.r1 * self.cfg.r1_every * penalty
            logs["r1"] = penalty.item()
        self.update(optimizer, loss, d, lr)
        return logs

    def _step_g(
        self, optimizer: Any, render: Render, truth: dict[str, Tensor], alpha: float, lr: float
    ) -> dict[str, float]:
        d = self.discriminator.requires_grad_(False)
        out = d(render.rgb, alpha)
        loss = losses.generator_loss(out.score, self._keep())
        logs = {"g": loss.item()}
        loss = loss + self._recognition(out, truth)[0]
        for name, value in self.generator.regularisers(render).items():
            loss = loss + value
            logs[name] = value.item()
        logs |= self.generator.monitors(render)
        self.update(optimizer, loss, self.generator, lr)
        return logs

    def _recognition(self, out: DiscOut, truth: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Weighted squared errors of the pose and latent that D reads off generated images (Chan et al. 2021)."""
        total, logs = out.score.new_zeros(()), {}
        for name, weight in (("pose", self.cfg.pose_weight), ("latent", self.cfg.latent_weight)):
            estimate = getattr(out, name)
            if estimate is not None and weight > 0:
                error = F.mse_loss(estimate, truth[name])
                total, logs[name] = total + weight * error, error.item()
        return total, logs

    def _keep(self) -> float:
        if self.cfg.topk_kimg <= 0:
            return 1.0
        return max(0.99 ** (self.kimg / self.cfg.topk_kimg), self.cfg.topk_min)
