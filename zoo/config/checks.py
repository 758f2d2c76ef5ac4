"""Values of the right type that training could not work with are refused here, by the name of their key."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

from .. import registry
from ..errors import ConfigError
from .fill import to_dict
from .schemas import DISTRIBUTIONS, AdversarialConfig, InstanceConfig, PhotometricConfig, RunConfig, SceneConfig

CHOICES = {
    "data.cache": ("auto", "always", "never"),
    "data.on_error": ("stop", "skip"),
    "data.resample": ("lanczos", "nearest"),
    "data.scene.pose.distribution": DISTRIBUTIONS,
    "trainer.compile": ("auto", "always", "never"),
    "trainer.wandb_mode": ("offline", "online", "disabled"),
}


LOGGERS = ("tensorboard", "wandb")


HEAD_SIZES = (32, 256)


def validate(run: RunConfig, heads: SceneConfig) -> None:
    """Refuse values of the right type that training could not work with, NaN among them.

    Args:
        run: filled from recipe and overrides.
        heads: the scene that the embedded heads are rendered in.

    Raises:
        ConfigError: names the key, its value and what to write.
    """

    def need(ok: bool, key: str, value: Any, fix: str) -> None:
        if not ok:
            raise ConfigError(f"{key}={value}: {fix}")

    def lookup(key: str) -> Any:
        return functools.reduce(getattr, key.split("."), run)

    if method := run.generator.get("name"):
        regime = registry.resolve(method).system
        need(run.system.name == regime, "system", run.system.name, f"{method} trains with system={regime}")
    for key in ("seed", "data.seed"):
        need(lookup(key) >= 0, key, lookup(key), "use 0 or more")
    if isinstance(run.system, AdversarialConfig):
        need(run.system.r1 >= 0, "system.r1", run.system.r1, "use 0 or more")
        need(run.system.r1_every >= 1, "system.r1_every", run.system.r1_every, "use 1 or more")
        _need_style(run, run.system, need)
        if run.system.pose is not None:
            drawn = run.system.pose.distribution
            need(drawn in DISTRIBUTIONS, "system.pose.distribution", drawn, f"use one of {', '.join(DISTRIBUTIONS)}")
    for key in ("trainer.devices", "trainer.threads"):
        need(lookup(key) is None or lookup(key) >= 1, key, lookup(key), "use 1 or more")
    for key in ("system.ema_kimg", "trainer.max_kimg", "trainer.checkpoint_kimg"):
        need(0 < lookup(key) < math.inf, key, lookup(key), "use a finite number above 0")
    for key, known in CHOICES.items():
        need(lookup(key) in known, key, lookup(key), f"use one of {', '.join(known)}")
    for name in run.trainer.loggers:
        need(name in LOGGERS, "trainer.loggers", name, f"known are {', '.join(LOGGERS)}")
    precision = run.trainer.precision
    fix = "use 32-true or bf16-mixed; 16-bit floats do not carry the adversarial gradients here"
    need(precision in ("32-true", "bf16-mixed"), "trainer.precision", precision, fix)

    stages = run.system.stages
    if isinstance(run.system, InstanceConfig):
        _validate_instance(run.system, need)
        return
    need(bool(stages), "system.stages", stages, "give at least one, e.g. system.stages=[{size: 32, batch: 8}]")
    starts = [stage.kimg for stage in stages]
    rising = starts[0] == 0 and all(a < b < math.inf for a, b in itertools.pairwise(starts))
    need(rising, "system.stages", f"kimg {starts}", "the first stage starts at kimg 0, each other one later")
    for i, stage in enumerate(stages):
        key = f"system.stages[{i}]"
        need(stage.size >= 16 and stage.size.bit_count() == 1, f"{key}.size", stage.size, "use 16, 32, 64, 128, ...")
        fix = f"a stage larger than data.size={run.data.size} trains on upsampled images; raise data.size"
        need(stage.size <= run.data.size, f"{key}.size", stage.size, fix)
        need(stage.batch >= 1, f"{key}.batch", stage.batch, "use 1 or more")
        own = run.generator.get("size")
        if isinstance(run.system, PhotometricConfig):
            need(
                stage.size == own, f"{key}.size", stage.size, f"the networks take generator.size={own}; make them equal"
            )
        elif isinstance(own, int):
            fix = f"the generator makes pictures of generator.size={own}; make the stage as small or raise that"
            need(stage.size <= own, f"{key}.size", stage.size, fix)
        for name, rate in (("lr_g", stage.lr_g), ("lr_d", stage.lr_d)):
            need(0 < rate < math.inf, f"{key}.{name}", rate, "use a finite number above 0, e.g. 3e-4")

    light = run.data.scene.light
    need(len(light.mean) == 4, "data.scene.light.mean", light.mean, "give 4 numbers: ambient, diffuse, x, y")
    need([len(row) for row in light.cov] == [4] * 4, "data.scene.light.cov", light.cov, "give 4 rows of 4 numbers")
    if run.data.name == "heads":
        low, high = HEAD_SIZES
        need(low <= run.data.size <= high, "data.size", run.data.size, f"the heads are drawn at {low} to {high} pixels")
        if changed := [k for k, v in to_dict(run.data.scene).items() if v != to_dict(heads)[k]]:
            fix = "the embedded heads are rendered with their own cameras and lights; leave data.scene as it is"
            need(False, f"data.scene.{changed[0]}", getattr(run.data.scene, changed[0]), fix)


def _need_style(run: RunConfig, system: AdversarialConfig, need: Callable[[bool, str, Any, str], None]) -> None:
    """The switches that come from StyleGAN2."""
    need(0 <= system.mixing <= 1, "system.mixing", system.mixing, "use a probability, 0 to 1")
    if system.mixing > 0:
        need(
            system.latent_weight == 0, "system.latent_weight", system.latent_weight, "a mixed image has no one z; use 0"
        )
    need(0 <= system.path_length < math.inf, "system.path_length", system.path_length, "use 0 or more, e.g. 2")
    need(system.path_length_every >= 1, "system.path_length_every", system.path_length_every, "use 1 or more")
    if system.path_length > 0:
        fix = "compiled code has no second derivatives, which system.path_length takes; use never"
        need(run.trainer.compile != "always", "trainer.compile", run.trainer.compile, fix)
    need(
        0 <= system.ada_target < 1, "system.ada_target", system.ada_target, "use 0 (off) or a number below 1, e.g. 0.6"
    )
    need(0 < system.ada_kimg < math.inf, "system.ada_kimg", system.ada_kimg, "use a finite number above 0")
    if system.ada_target > 0:
        fix = "augmentation turns images, so no pose can be read off them; use 0"
        need(system.pose_weight == 0, "system.pose_weight", system.pose_weight, fix)


def _validate_instance(system: InstanceConfig, need: Callable[[bool, str, Any, str], None]) -> None:
    need(bool(system.stages), "system.stages", [], "give at least one, e.g. system.stages=[{albedo: 50, joint: 50}]")
    for i, stage in enumerate(system.stages):
        for name in ("albedo", "projection", "joint"):
            count = getattr(stage, name)
            need(count >= 1, f"system.stages[{i}].{name}", count, "use 1 or more")
    for name in ("batch", "collect"):
        need(getattr(system, name) >= 1, f"system.{name}", getattr(system, name), "use 1 or more")
    for name in ("shape_steps", "inversion_steps", "feature_blocks", "weight_decay"):
        need(0 <= getattr(system, name) < math.inf, f"system.{name}", getattr(system, name), "use 0 or more")
    for name in ("lr_shape", "lr_albedo", "lr_projection", "lr_joint", "inversion_lr", "grad_clip"):
        need(0 < getattr(system, name) < math.inf, f"system.{name}", getattr(system, name), "use a number above 0")
    kinds = ("none", "discriminator", "lpips")
    need(system.perceptual in kinds, "system.perceptual", system.perceptual, f"use one of {', '.join(kinds)}")
    files = system.perceptual != "lpips" or (system.vgg is not None and system.lpips is not None)
    need(files, "system.perceptual", "lpips", "give system.vgg=FILE and system.lpips=FILE too")
