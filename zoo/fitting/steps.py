"""Fitting to single photographs: GAN2Shape's three steps, one after the other, stage after stage (Pan et al. 2021).

Each step is a short training of its own with a fresh optimiser; its random numbers depend on the seed and on its place
in the plan alone. So a fit that was stopped continues after its last finished step and ends with the same numbers.
`zoo.fitting.fit` runs the plan.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from ..config.fill import generator_config, without_name
from ..config.schemas import InstanceConfig, InstanceStageConfig, RunConfig
from ..errors import WeightsError, ZooError
from ..generators.base import Generator, PictureGAN
from ..generators.gan2shape import GAN2Shape, Geometry, Perceptual, with_mirror
from ..generators.unsup3d_terms import pose_loss
from ..networks.feature_loss import DiscriminatorLoss
from ..networks.perceptual import LPIPS
from ..runtime import draws
from .subject import Subject


@dataclass(frozen=True)
class Step:
    """One line of the plan. `kind` is shape, albedo, projection or joint; stages count from 1, the shape is stage 0."""

    number: int = 0
    stage: int = 0
    kind: str = "shape"
    iterations: int = 0
    mirrored: bool = False
    hold: int = 0


@dataclass
class Drawings:
    """What the GAN drew of a subject: images (P,3,S,S), and masks (P,1,S,S) of their pseudo images, on the CPU."""

    image: Tensor
    mask: Tensor


@dataclass
class Frozen:
    """Networks that never change, and are therefore not saved."""

    gan: PictureGAN | None = None
    features: DiscriminatorLoss | None = None
    lpips: LPIPS | None = None

    def to(self, device: torch.device) -> None:
        """Move all of them."""
        for network in (self.gan, self.features, self.lpips):
            if network is not None:
                network.to(device)


class InstanceSystem(L.LightningModule):
    """The networks of GAN2Shape, fitted to one subject or jointly to several, and the frozen GAN they learn from.

    Args:
        run: Is the configuration.
        gan: Is the trained GAN; it may be missing as long as nothing is fitted.
        discriminator: Is the state of the discriminator that was trained with the GAN.
        initial: Holds fitted networks to start from; they need no initial shape.

    Raises:
        WeightsError: The configuration asks for a discriminator's features, and the GAN comes without one.
    """

    cfg: InstanceConfig

    def __init__(
        self,
        run: RunConfig,
        gan: PictureGAN | None = None,
        discriminator: dict[str, Tensor] | None = None,
        initial: Generator | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        assert isinstance(run.system, InstanceConfig)
        self.run, self.cfg = run, run.system
        with draws.seeded(run.seed):
            own = without_name(run.generator)
            self.generator = GAN2Shape(generator_config(run.generator["name"], own))
        self.shaped = initial is not None
        if initial is not None:
            self.generator.load_state_dict(initial.state_dict())
        self.frozen = Frozen(gan)
        if gan is not None:
            self._freeze(gan, discriminator)
        self.subjects: list[Subject] = []
        self.drawings: list[Drawings] = []
        self.now = Step()
        self.advance: Callable[[Step], None] = lambda step: None
        self._objects: list[tuple[Geometry, Tensor]] = []
        self.last_loss = torch.zeros(())

    def _freeze(self, gan: PictureGAN, discriminator: dict[str, Tensor] | None) -> None:
        gan.eval().requires_grad_(False)
        blocks = self.cfg.feature_blocks
        if discriminator is not None:
            self.frozen.features = DiscriminatorLoss.of(discriminator, max(blocks, 1))
        elif blocks > 0 or self.cfg.perceptual == "discriminator":
            raise WeightsError(
                f"{gan.name or 'the GAN'} comes without its discriminator, by whose features images are compared; use "
                "weights with one, or add system.feature_blocks=0 system.perceptual=none"
            )
        if self.cfg.perceptual == "lpips":
            assert self.cfg.vgg is not None
            assert self.cfg.lpips is not None
            self.frozen.lpips = LPIPS.from_files(self.cfg.vgg, self.cfg.lpips)

    @property
    def gan(self) -> PictureGAN:
        """The frozen 2D GAN."""
        assert self.frozen.gan is not None
        return self.frozen.gan

    @property
    def perceptual(self) -> Perceptual | None:
        """The loss that compares reconstructions with photographs in the first and the third step, besides L1."""
        return {"none": None, "discriminator": self.frozen.features, "lpips": self.frozen.lpips}[self.cfg.perceptual]

    def plan(self) -> list[Step]:
        """All steps in order. Networks that start from weights have a shape already, so they skip that step."""
        steps = [Step(iterations=0 if self.shaped else self.cfg.shape_steps)]
        for number, stage in enumerate(self.cfg.stages, 1):
            assert isinstance(stage, InstanceStageConfig)
            for kind, count, mirrored, hold in (
                ("albedo", stage.albedo, stage.mirror_albedo, 0),
                ("projection", stage.projection, False, 0),
                ("joint", stage.joint, stage.mirror_joint, stage.hold),
            ):
                steps.append(Step(len(steps), number, kind, count, mirrored, hold))
        return steps

    # ---------------------------------------------------------------- one step of the plan

    def configure_optimizers(self) -> torch.optim.Optimizer:
        g, c = self.generator, self.cfg
        choices: dict[str, tuple[list[torch.nn.Module], float]] = {
            "shape": ([g.netD], c.lr_shape),
            "albedo": ([g.netA], c.lr_albedo),
            "projection": ([g.netEnc], c.lr_projection),
            "joint": ([g.netD, g.netA, g.netV, g.netL], c.lr_joint),
        }
        networks, rate = choices[self.now.kind]
        g.requires_grad_(False)
        learning = [p.requires_grad_(True) for network in networks for p in network.parameters()]
        return torch.optim.Adam(learning, lr=rate, betas=(c.betas[0], c.betas[1]), weight_decay=c.weight_decay)

    def on_train_start(self) -> None:
        self.frozen.to(self.device)
        mixed = np.random.SeedSequence((self.run.seed, self.now.number)).generate_state(1)
        self.source = torch.Generator().manual_seed(int(mixed[0]))
        if self.now.kind in ("albedo", "projection"):  # the shape stays as it is, so it is computed once
            with torch.no_grad():
                self._objects = [self._object(s.image.to(self.device)) for s in self.subjects]

    def _object(self, image: Tensor) -> tuple[Geometry, Tensor]:
        mirrored = self.now.mirrored
        return self.generator.geometry(image, mirrored), with_mirror(self.generator.netA(image), mirrored)

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        who = 0 if self.now.kind == "shape" else batch_idx % len(self.subjects)  # all start from the same shape
        loss: Tensor = getattr(self, f"_{self.now.kind}")(who, self.subjects[who].image.to(self.device))
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        if batch_idx < self.now.hold:
            self.generator.netD.zero_grad()  # without a gradient, the depth network stays as it is
        learning = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        try:
            torch.nn.utils.clip_grad_norm_(learning, self.cfg.grad_clip, error_if_nonfinite=True)
        except RuntimeError:
            where = f"stage {self.now.stage}, {self.now.kind} step, iteration {batch_idx}"
            raise ZooError(
                f"{self.subjects[who].name}: the gradient is not finite ({where}); lower system.lr_{self.now.kind}"
            ) from None
        optimizer.step()
        self.last_loss = loss.detach()
        self.advance(self.now)

    def _shape(self, who: int, image: Tensor) -> Tensor:
        return self.generator.shape_loss(image, self.subjects[who].shape.to(self.device))

    def _albedo(self, who: int, image: Tensor) -> Tensor:
        albedo = with_mirror(self.generator.netA(image), self.now.mirrored)
        return self.generator.input_loss(image, albedo, self._objects[who][0], self.perceptual)

    def _projection(self, who: int, image: Tensor) -> Tensor:
        projected, change, pseudo, mask = self._draw(who)
        features = self.frozen.features if self.cfg.feature_blocks > 0 else None
        return self.generator.projection_loss(projected, change, pseudo, mask, features)

    def _draw(self, who: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw a batch: the drawings, the changes of w that they took, and the pseudo images and masks they imitate."""
        subject, (geometry, albedo) = self.subjects[who], self._objects[who]
        g, n, w = self.generator, self.cfg.batch, self.subjects[who].w.to(self.device)
        light, view = g.draw_lights(geometry.light, n, self.source), g.draw_views(n, self.source)
        mask = g.canonical_mask(subject.mask.to(self.device), geometry) if self.cfg.use_mask else None
        pseudo, inside = g.pseudo_images(geometry, albedo, light, view, mask)
        with torch.no_grad():
            own = g.gan_image(self.gan, w)
        projected, change = g.project(self.gan, pseudo, w, own)
        return projected, change, pseudo, inside

    def _joint(self, who: int, image: Tensor) -> Tensor:
        pool = self.drawings[who]
        chosen = torch.randperm(len(pool.image), generator=self.source)[: self.cfg.batch]
        drawings, masks = pool.image[chosen].to(self.device), pool.mask[chosen].to(self.device)
        g = self.generator
        loss = g.joint_loss(image, drawings, masks, self.now.mirrored, self.perceptual)
        if g.config.pose_weight == 0 or len(self.subjects) < self.cfg.batch:
            return loss
        # Many photographs have the scene's spread of poses; drawings turn less than they were asked to.
        some = torch.randperm(len(self.subjects), generator=self.source)[: 2 * self.cfg.batch].tolist()
        photographs = torch.cat([self.subjects[i].image for i in some]).to(self.device)
        return loss + g.config.pose_weight * pose_loss(g, g.viewpoint(g.netV(photographs)))

    @torch.no_grad()
    def on_train_end(self) -> None:
        """End the second step by storing the drawings that the third one learns from; no other step leaves any."""
        self.drawings = []  # gigabytes in a joint fit, which each state would hold again
        if self.now.kind == "projection":
            each = -(-self.cfg.collect // len(self.subjects))
            for who in range(len(self.subjects)):
                images, _, _, masks = zip(*(self._draw(who) for _ in range(each)), strict=True)
                self.drawings.append(Drawings(torch.cat(images).cpu(), torch.cat(masks).cpu()))
        self._objects = []
