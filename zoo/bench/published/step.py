"""A yardstick for training: one step of pi-GAN or ShadeGAN as their code takes it, with the plain generator.

D and G each render fakes of their own, R1 comes with every step of D, and logged numbers are read at once. The
discriminator is the same network as ours, which is plain torch already.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...geometry import Camera, Light
from .generator import Picture, Reference


class ReferenceStep:
    """The networks of an adversarial system, copied, with Adam for each.

    Args:
        system: An `AdversarialSystem` for a pigan or shadegan recipe; its priors and settings are used.
    """

    def __init__(self, system: Any) -> None:
        self.cfg, self.scene = system.cfg, system.run.data.scene
        self.poses, self.lights = system.poses, system.lights
        self.sampling = system.sampling()
        self.generator = Reference(system.generator)
        self.discriminator: nn.Module = copy.deepcopy(system.discriminator).requires_grad_(True)
        stage, betas = self.cfg.stages[0], tuple(self.cfg.betas)
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), lr=stage.lr_g, betas=betas)
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters(), lr=stage.lr_d, betas=betas)

    def __call__(self, images: Tensor) -> dict[str, float]:
        """Learn from real images (B, 3, S, S) in [-1, 1]; the losses of D and G, and R1."""
        d, (n, size) = self.discriminator, (len(images), images.shape[-1])
        with torch.no_grad():
            fake, pose = self._fakes(n, size)
        real = images.detach().requires_grad_()
        on_real, on_fake = d(real, 1.0), d(fake.rgb, 1.0)
        loss = F.softplus(on_fake.score).mean() + F.softplus(-on_real.score).mean()
        logs = {"d": loss.item()}
        (slope,) = torch.autograd.grad(on_real.score.sum(), real, create_graph=True)
        penalty = slope.square().sum((1, 2, 3)).mean() / 2
        logs["r1"] = penalty.item()
        self._update(self.optimizer_d, loss + self._pose_loss(on_fake, pose) + self.cfg.r1 * penalty, d)
        fake, pose = self._fakes(n, size)
        out = d(fake.rgb, 1.0)
        loss = F.softplus(-out.score).mean()
        logs["g"] = loss.item()
        self._update(self.optimizer_g, loss + self._pose_loss(out, pose), self.generator)
        return logs

    def _fakes(self, n: int, size: int) -> tuple[Picture, Tensor]:
        g, device = self.generator, next(self.generator.parameters()).device
        z, pose = torch.randn(n, g.config.z_dim), self.poses.sample(n, torch.default_generator)
        camera = Camera.at(pose, fov=self.scene.fov, size=size, radius=self.scene.radius).to(device)
        light = Light(self.lights.sample(n, torch.default_generator).to(device)) if g.shaded or g.lit else None
        s = self.sampling
        ratio = getattr(s, "light_ratio", 1.0)
        shown = g(z.to(device), camera, light, s.steps, s.fine_steps, True, s.noise_std, ratio)
        return shown, pose.to(device)

    def _pose_loss(self, out: Any, pose: Tensor) -> Tensor:
        loss: Tensor = self.cfg.pose_weight * F.mse_loss(out.pose, pose)
        return loss

    def _update(self, optimizer: torch.optim.Optimizer, loss: Tensor, network: nn.Module) -> None:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), self.cfg.grad_clip)
        optimizer.step()
