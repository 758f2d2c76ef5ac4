"""Adversarial training of any generator: one LightningModule for all methods that learn from unpaired images."""

from typing import Any, cast

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from .. import losses, registry
from ..config import RunConfig, StageConfig, generator_config, to_dict
from ..data.priors import light_prior, pose_prior
from ..errors import ZooError
from ..generators.base import Generator, Latents
from ..geometry import Camera, Light, Render
from ..networks.discriminators import DiscOut, build_discriminator
from .ema import GeneratorEMA


class AdversarialSystem(L.LightningModule):
    """Generator against discriminator, with lazy R1, pose regression, EMA and a curriculum over images seen.

    One step uses one batch of real images: D learns from it and from generated images, then G learns through D.
    Progress is `images_seen` (Lightning's `global_step` counts optimiser steps). The random numbers of a step are a
    function of the seed and of `images_seen` alone, so a resumed run on a CPU repeats the uninterrupted one bit for
    bit.
    """

    images_seen: Tensor

    def __init__(self, run: RunConfig, initial: Generator | None = None, fresh: bool = True) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.run = run
        self.cfg = run.system
        name = run.generator["name"]
        config = generator_config(name, {k: v for k, v in run.generator.items() if k != "name"})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            self.generator: Generator = registry.resolve(name)(config)
            d = self.cfg.discriminator
            largest = max(stage.size for stage in self.cfg.stages)
            widths = {} if d.channels is None else {"channels": d.channels}
            if self.cfg.latent_weight > 0:
                widths["latent_dim"] = config.z_dim
            self.discriminator = build_discriminator(d.name, max_size=largest, **widths)
            if initial is not None:
                self.generator.load_state_dict(initial.state_dict())
            elif fresh:
                self.generator.initialise()
        self.generator.train()
        self.ema = GeneratorEMA(self.generator, self.cfg.ema_kimg)
        self.poses, self.lights = pose_prior(run.data.scene.pose), light_prior(run.data.scene.light)
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))
        self.images = 0  # the buffer as a number, so that no step waits for the device

    # ---------------------------------------------------------------- curriculum

    @property
    def kimg(self) -> float:
        """Thousands of real images seen, over all processes."""
        return self.images / 1000

    def stage(self) -> tuple[StageConfig, float]:
        """Current stage of the curriculum, and the weight of its newest discriminator block."""
        stage = [s for s in self.cfg.stages if s.kimg <= self.kimg or s is self.cfg.stages[0]][-1]
        fade = 1.0 if stage.fade_kimg <= 0 else min(1.0, (self.kimg - stage.kimg) / stage.fade_kimg)
        return stage, fade

    def _learning_rates(self, stage: StageConfig) -> tuple[float, float]:
        if not stage.lr_decay:
            return stage.lr_g, stage.lr_d
        later = [s.kimg for s in self.cfg.stages if s.kimg > stage.kimg]
        end = later[0] if later else self.run.trainer.max_kimg
        done = min(1.0, (self.kimg - stage.kimg) / max(end - stage.kimg, 1e-9))
        factor = 1 - 0.9 * done
        return stage.lr_g * factor, stage.lr_d * factor

    def batch_at(self, position: int) -> int:
        """Images per process in the batch that starts at a position of the training stream."""
        return [s for s in self.cfg.stages if s.kimg * 1000 <= position or s is self.cfg.stages[0]][-1].batch

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

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.images = int(checkpoint["state_dict"]["images_seen"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["zoo"] = {"format": 1, "config": to_dict(self.run), "kimg": self.kimg}

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

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        optimizer_d, optimizer_g = cast("list[LightningOptimizer]", self.optimizers())
        stage, alpha = self.stage()
        for optimizer, lr in zip((optimizer_g, optimizer_d), self._learning_rates(stage), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr
        # torch keeps 32 bits of a CPU seed, so the three numbers are mixed first.
        mixed = np.random.SeedSequence((self.run.seed, self.global_rank, self.images)).generate_state(1)
        torch.manual_seed(int(mixed[0]))
        real = batch["image"]
        if real.shape[-1] != stage.size:
            real = F.interpolate(real, size=(stage.size, stage.size), mode="area")
        step = self.images // (len(real) * self.trainer.world_size)

        render, truth = self.generate(len(real), stage.size)
        logs = self._step_d(optimizer_d, real, render.rgb.detach(), truth, alpha, lazy=step % self.cfg.r1_every == 0)
        if not self.cfg.share_fakes:
            del render  # its graph, before the next one is built
            render, truth = self.generate(len(real), stage.size)
        logs |= self._step_g(optimizer_g, render, truth, alpha)

        self.images += len(real) * self.trainer.world_size
        self.images_seen.fill_(self.images)
        self.ema.update(self.generator, len(real) * self.trainer.world_size, self.images)
        if self.trainer.is_global_zero:
            self.trainer.loggers[0].log_metrics({**logs, "alpha": alpha, "size": stage.size}, step=self.images)

    def _step_d(
        self, optimizer: Any, real: Tensor, fake: Tensor, truth: dict[str, Tensor], alpha: float, lazy: bool
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
        self._update(optimizer, loss, d)
        return logs

    def _step_g(self, optimizer: Any, render: Render, truth: dict[str, Tensor], alpha: float) -> dict[str, float]:
        d = self.discriminator.requires_grad_(False)
        out = d(render.rgb, alpha)
        loss = losses.generator_loss(out.score, self._keep())
        logs = {"g": loss.item()}
        loss = loss + self._recognition(out, truth)[0]
        for name, value in self.generator.regularisers(render).items():
            loss = loss + value
            logs[name] = value.item()
        self._update(optimizer, loss, self.generator)
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

    def _update(self, optimizer: Any, loss: Tensor, network: torch.nn.Module) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        try:  # before the step: weights that are not numbers must never reach a checkpoint
            torch.nn.utils.clip_grad_norm_(network.parameters(), self.cfg.grad_clip, error_if_nonfinite=True)
        except RuntimeError:
            raise ZooError(
                f"the gradient of {type(network).__name__} is not finite at {self.kimg:.1f} kimg: resume=PATH of the "
                "last checkpoint with lower learning rates (system.stages)"
            ) from None
        optimizer.step()
