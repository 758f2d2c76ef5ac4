"""Adversarial training of any generator: one LightningModule for all methods that learn from unpaired images."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, TypeAlias, cast

import torch
import torch.nn.functional as F
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from .. import losses
from ..config.schemas import AdversarialConfig, StageConfig
from ..data.augment import adapted, augment
from ..errors import ConfigError, WeightsError
from ..generators.base import Latents
from ..geometry import Camera, Light, Render
from ..networks.disc_blocks import DiscOut, OneSize, reads_poses
from ..networks.discriminators import GrowingDiscriminator, build_discriminator
from ..priors import light_prior, pose_prior
from ..runtime import draws
from ..runtime.workers import outside_autocast
from ..weights.files import shown
from .base import Logs, Part, TrainingSystem
from .freezing import first_layers

log = logging.getLogger(__name__)

Fakes: TypeAlias = tuple[Render, dict[str, Tensor]]  # generated images, and what D may be asked to recognise


class AdversarialSystem(TrainingSystem):
    """Generator against discriminator, with lazy R1, pose regression, EMA and a curriculum over images seen.

    One step uses one batch of real images: D learns from it and from generated images, then G learns through D.
    """

    cfg: AdversarialConfig
    path_mean: Tensor
    augment_p: Tensor

    def build(self) -> None:
        d = self.cfg.discriminator
        side = max(stage.size for stage in self.cfg.stages)
        whole = torch.zeros(1, 3, side, side)
        largest = self.generator.real_view(whole, self.generator.schedule(0.0)).shape[-1]
        widths: dict[str, Any] = {} if d.channels is None else {"channels": d.channels}
        if self.cfg.latent_weight > 0:
            widths["latent_dim"] = self.generator.config.z_dim
        try:
            self.discriminator = build_discriminator(d.name, max_size=largest, **widths)
        except ConfigError as error:  # which names the network's arguments, and no settings
            i = [stage.size for stage in self.cfg.stages].index(side)
            where = f"system.stages[{i}].size={side} with system.discriminator.name={d.name}"
            raise ConfigError(f"{where}: {error}") from None
        self._still = first_layers(self.discriminator, largest, self.cfg.freeze_d)
        self.pose_weight = self._weight_of_poses(largest)
        self.seen_size = largest if isinstance(self.discriminator, OneSize) else None  # of the images that D takes
        if isinstance(self.discriminator, OneSize):
            self._need_one_size(largest, self.discriminator.group)
        scene = self.run.data.scene
        self.poses, self.lights = pose_prior(self.cfg.pose or scene.pose), light_prior(scene.light)
        if self.cfg.mixing > 0 and self.generator.code_layers < 2:
            raise ConfigError(f"system.mixing={self.cfg.mixing}: this method has one code for all its layers; use 0")
        if self.cfg.path_length > 0:
            self.register_buffer("path_mean", torch.zeros(()))
        if self.cfg.ada_target > 0:
            self.register_buffer("augment_p", torch.zeros((), dtype=torch.float64))

    def _weight_of_poses(self, side: int) -> float:
        """How much the poses count that D reads: nothing where no camera turns pictures, or D has no head for poses.

        Raises:
            ConfigError: They were asked for all the same, and not by the default.
        """
        weight, name, g = self.cfg.pose_weight, self.cfg.discriminator.name, self.generator
        if weight == 0:
            return 0.0
        if not g.uses_camera:
            why = f"no camera turns the pictures of {type(g).__name__}"
        elif not reads_poses(self.discriminator, side):
            why = f"the discriminator {name} reads no poses"
        else:
            return weight
        if self.cfg.real_pose == "measured":
            raise ConfigError(f"system.real_pose=measured: {why}; use none")
        if weight != AdversarialConfig.pose_weight:
            raise ConfigError(f"system.pose_weight={weight:g}: {why}; use 0")
        if g.uses_camera:  # else nobody has asked for them
            log.warning("system.pose_weight=%g: %s, so poses are left out", weight, why)
        return 0.0

    def _need_one_size(self, side: int, group: int) -> None:
        """Refuse stages whose images are of another side, or do not make whole groups. Raises ConfigError."""
        for i, stage in enumerate(self.cfg.stages):
            if stage.batch > group and stage.batch % group:
                raise ConfigError(
                    f"system.stages[{i}].batch={stage.batch}: this discriminator compares images in groups of {group}; "
                    f"use a multiple of {group}"
                )
            with torch.random.fork_rng(devices=[]):  # a random patch must not move the numbers that follow
                blank = torch.zeros(1, 3, stage.size, stage.size)
                seen = self.generator.real_view(blank, self.generator.schedule(0.0)).shape[-1]
            if seen != side:
                raise ConfigError(
                    f"system.stages[{i}].size={stage.size}: this discriminator takes images of one size, here {side} "
                    "px; give all stages that size or use another system.discriminator.name"
                )

    def start_discriminator(self, state: dict[str, Tensor]) -> None:
        """Take over a trained discriminator; layers that only this, larger, one has stay new.

        One of another kind or width is left out, with a line that says so.

        Raises:
            WeightsError: It is of another kind or width, and `system.discriminator.init` asked for it.
        """
        own = self.discriminator.state_dict()
        if isinstance(self.discriminator, GrowingDiscriminator):
            state = self.discriminator.own_part(state)
        if wrong := [k for k, v in state.items() if k not in own or own[k].shape != v.shape]:
            if (asked := self.cfg.discriminator.init) is not None:
                fix = "use the name and channels of its recipe"
                raise WeightsError(
                    f"system.discriminator.init={asked}: that one is of another kind or width "
                    f"({shown(wrong[0])} differs); {fix}"
                )
            log.warning(
                "init=%s: its discriminator is of another kind or width (%s differs) and is left out; this one is new",
                self.run.init, shown(wrong[0]),
            )  # fmt: skip
            return
        self.discriminator.load_state_dict({**own, **state})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        for name in ("path_mean", "augment_p"):  # of switches, which a run that goes on may turn on or off
            if name in self._buffers:
                state.setdefault(name, self.get_buffer(name))
            else:
                state.pop(name, None)
        super().on_load_checkpoint(checkpoint)

    # ---------------------------------------------------------------- one step

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        stage, betas = self.cfg.stages[0], (self.cfg.betas[0], self.cfg.betas[1])
        return [
            torch.optim.Adam(self.discriminator.parameters(), lr=stage.lr_d, betas=betas),
            torch.optim.Adam(self.generator.parameters(), lr=stage.lr_g, betas=betas),
        ]

    def generate(self, n: int, size: int) -> Fakes:
        """`n` random objects from random cameras under random lights, for training; and the `pose` (n, 2) and `latent`
        (n, z_dim) that D may be asked to recognise."""
        g = self.generator
        z = draws.randn(n, g.config.z_dim)
        pose = self.poses.sample(n, torch.default_generator)
        scene = self.run.data.scene
        camera = Camera.at(pose, fov=scene.fov, size=size, radius=scene.radius)
        camera = replace(camera, cam2world=self.sent(camera.cam2world))
        light = Light(self.sent(self.lights.sample(n, torch.default_generator))) if g.uses_light else None
        z, pose = self.sent(z), self.sent(pose)
        with outside_autocast(self.device):  # sines of large arguments and transmittance need float32
            latents = self._coded(Latents(z))
            render = g(latents, camera, light, self.sampling())
        if latents.code is not None:
            render.aux["code"] = latents.code
        return render, {"pose": pose, "latent": z}

    def sampling(self) -> Any:
        """How the generator samples at this point of training."""
        return self.generator.schedule(self.schedule_kimg)

    def _coded(self, latents: Latents) -> Latents:
        """With their inner codes, one for each layer, if a switch asks for them. Mixing (Karras et al. 2019): from a
        random layer on, the code is that of another latent."""
        g, mixing = self.generator, self.cfg.mixing
        if mixing == 0 and self.cfg.path_length == 0:
            return latents
        code = g.code(latents)
        if g.code_layers:
            parts = g.split_code(code)
            if mixing > 0:
                n, layers = len(latents), g.code_layers
                other = g.split_code(g.code(Latents(self.sent(draws.randn(n, g.config.z_dim)))))
                cut = torch.where(draws.rand(n) < mixing, draws.randint(1, layers, n), layers)
                own = torch.arange(layers) < cut[:, None]
                parts = torch.where(self.sent(own).reshape(n, layers, *[1] * (parts.ndim - 2)), parts, other)
            code = g.join_code(parts)
        if self.cfg.path_length > 0 and torch.is_grad_enabled() and not code.requires_grad:
            code = code.detach().requires_grad_()  # of a mapping network that is frozen, or has nothing to learn
        return replace(latents, code=code)

    def step(self, batch: Part, stage: StageConfig) -> Logs:
        optimizer_d, optimizer_g = cast("list[LightningOptimizer]", self.optimizers())
        lr_g, lr_d = self.learning_rates(stage)
        alpha = self.stage()[1]
        number = self.images // (len(batch["image"]) * self.trainer.world_size)
        lazy, lazy_path = number % self.cfg.r1_every == 0, number % self.cfg.path_length_every == 0
        held = self.kimg < self.cfg.hold_kimg
        # The graph of shared fakes is kept for G. Those of several micro-batches would not fit, and are made anew.
        keep = self.cfg.share_fakes and not held and self.run.trainer.accumulate == 1
        kept: list[Fakes] = []
        begin = draws.state(self.device)

        def learn_d(part: Part) -> tuple[Tensor, Logs]:
            if self.run.trainer.accumulate > 1:
                self.parts.lap("D", self.device)  # of the micro-batch before
            with torch.set_grad_enabled(keep):  # D alone needs no graph of its fakes
                made = self.generate(len(part["image"]), stage.size)
            if keep:
                kept.append(made)
            real = self.generator.real_view(part["image"], self.sampling())
            self.parts.lap("G", self.device)
            labels = part["pose"] if self.cfg.real_pose == "measured" else None
            return self._loss_d(real, made, labels, alpha, lazy)

        def fakes(part: Part) -> Fakes:
            if kept:
                return kept[0]
            again = self.cfg.share_fakes
            with draws.replayed(begin, self.device) if again else nullcontext():
                return self.generate(len(part["image"]), stage.size)

        logs = self.update(optimizer_d, self._learning_d(), lr_d, batch, learn_d)
        if self.cfg.ada_target > 0:
            self._adapt(logs.pop("certainty"), len(batch["image"]))
            logs["augment_p"] = self.augment_p.clone()
        self.parts.lap("D", self.device)
        if held:
            return logs
        self.discriminator.requires_grad_(False)
        lr_g *= self.generator.rate_scale(self.sampling())
        if use_path := self.cfg.path_length > 0 and lazy_path:
            self._follow_path(batch, fakes)
        return logs | self.update(
            optimizer_g, self.generator, lr_g, batch, lambda part: self._loss_g(fakes(part), alpha, use_path)
        )

    def _learning_d(self) -> nn.Module:
        """The discriminator, whose parameters take gradients unless they are held still."""
        d = self.discriminator.requires_grad_(True)
        for parameter in self._still:
            parameter.requires_grad_(False)
        return d

    def _loss_d(
        self, real: Tensor, fakes: Fakes, labels: Tensor | None, alpha: float, lazy: bool
    ) -> tuple[Tensor, Logs]:
        d, (render, truth) = self.discriminator, fakes
        use_r1 = self.cfg.r1 > 0 and lazy
        real, fake = self._augmented(real), self._augmented(render.rgb.detach())
        real = real.detach().requires_grad_(use_r1)
        on_real, on_fake = d(real, alpha), d(fake, alpha)
        loss = losses.discriminator_loss(on_real.score, on_fake.score)
        logs: Logs = {"d": loss, "score_real": on_real.score.mean(), "score_fake": on_fake.score.mean()}
        if self.cfg.ada_target > 0:
            logs["certainty"] = on_real.score.detach().sign().mean()
        asked = [(on_fake, truth)]
        if labels is not None:
            asked = [(on_real, {"pose": labels}), (on_fake, {"latent": truth["latent"]})]
        for seen, answer in asked:
            recognised, parts = self._recognition(seen, answer)
            loss, logs = loss + recognised, logs | parts
        if use_r1:
            penalty = losses.r1_penalty(on_real.score, real)
            loss = loss + self.cfg.r1 * self.cfg.r1_every * penalty
            logs["r1"] = penalty
        return loss, logs

    def _loss_g(self, fakes: Fakes, alpha: float, use_path: bool) -> tuple[Tensor, Logs]:
        render, truth = fakes
        out = self.discriminator(self._augmented(render.rgb), alpha)
        loss = losses.generator_loss(out.score, self._keep())
        logs: Logs = {"g": loss}
        recognised, parts = self._recognition(out, truth)
        loss = loss + recognised
        if self.cfg.real_pose == "measured":  # else D's own loss says the same
            logs["pose_shown"] = parts["pose"]
        for name, value in self.generator.regularisers(render).items():
            loss = loss + value
            logs[name] = value
        if use_path:
            lengths = losses.path_lengths(render.rgb, render.aux["code"])
            if self.run.trainer.accumulate == 1:
                self._follow(lengths)
            loss = loss + self.cfg.path_length * self.cfg.path_length_every * (lengths - self.path_mean).square().mean()
            logs["path_length"] = lengths.mean()
        return loss, logs | self.generator.monitors(render)

    def _follow_path(self, batch: Part, fakes: Callable[[Part], Fakes]) -> None:
        """Take the lengths of all micro-batches into their mean, before the first of them is compared with it."""
        if self.run.trainer.accumulate == 1:
            return

        def lengths(part: Part) -> Tensor:
            render = fakes(part)[0]
            self._augmented(render.rgb)  # draws what is drawn before the lengths
            return losses.path_lengths(render.rgb, render.aux["code"]).detach()

        with draws.replayed(draws.state(self.device), self.device):
            self._follow(torch.cat(self.in_parts(batch, lengths)))

    def _follow(self, lengths: Tensor) -> None:
        # From 0, the mean would press all lengths, and with them the pictures, flat for a long time.
        mean = cast(Tensor, self.all_gather(lengths.detach().mean())).mean()
        self.path_mean.lerp_(mean, torch.where(self.path_mean > 0, 0.01, 1.0))

    def _recognition(self, out: DiscOut, truth: dict[str, Tensor]) -> tuple[Tensor, Logs]:
        """Weighted squared errors of the pose and latent that D reads off images (Chan et al. 2021)."""
        total, logs = out.score.new_zeros(()), Logs()
        for name, weight in (("pose", self.pose_weight), ("latent", self.cfg.latent_weight)):
            estimate = getattr(out, name)
            if estimate is not None and weight > 0 and name in truth:
                error = F.mse_loss(estimate, truth[name])
                total, logs[name] = total + weight * error, error
        return total, logs

    def _augmented(self, images: Tensor) -> Tensor:
        """What D is shown of images. Where it reads poses, they are not turned."""
        if self.cfg.ada_target == 0:
            return images
        return augment(images, self.augment_p, turns=self.pose_weight == 0)

    def _adapt(self, certainty: float | Tensor, images: int) -> None:
        """More augmentation while D is surer of this process's real images than the target, less otherwise."""
        signs = cast(Tensor, self.all_gather(torch.as_tensor(certainty)))
        change = images * self.trainer.world_size / (1000 * self.cfg.ada_kimg)
        self.augment_p.copy_(adapted(self.augment_p, signs.mean(), self.cfg.ada_target, change))

    def _keep(self) -> float:
        if self.cfg.topk_kimg <= 0:
            return 1.0
        kimg = self.cfg.clock(self.images) / 1000
        out: float = max(0.99 ** (kimg / self.cfg.topk_kimg), self.cfg.topk_min)
        return out
