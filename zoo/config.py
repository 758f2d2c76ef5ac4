"""From recipes to a run: the dataclasses of `zoo.schemas`, filled by OmegaConf from YAML and `key=value`, and checked.

A recipe is one YAML file in `configs/`: `use:` names the group files it starts from (`generator/shadegan`,
`data/heads`, ...), the other keys override them, and the command line overrides both. A DictConfig never leaves this
file.
"""

import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from . import registry, resources
from .errors import ConfigError
from .prior_files import read_prior
from .schemas import (
    DISTRIBUTIONS,
    SYSTEMS,
    AdversarialConfig,
    InstanceConfig,
    PhotometricConfig,
    RunConfig,
    SceneConfig,
)

T = TypeVar("T")
GROUPS = ("generator", "data", "system", "trainer")
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


def names() -> list[str]:
    """Recipe names: the YAML files directly in `configs/`."""
    return sorted(path.stem for path in resources.configs().glob("*.yaml"))


def group(kind: str) -> list[str]:
    """Names of the files of one group, e.g. `group("data")`."""
    return sorted(path.stem for path in (resources.configs() / kind).glob("*.yaml"))


def _read(path: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from yaml import YAMLError

    try:
        text = path.read_text(encoding="utf-8")
        if "${" in text:
            raise ConfigError(f"{path}: interpolations '${{...}}' are not allowed; write the value out")
        loaded = OmegaConf.to_container(OmegaConf.create(text))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of keys to values")
    return {str(k): v for k, v in loaded.items()}


def _group_file(kind: str, name: str) -> dict[str, Any]:
    if kind == "generator" and name not in group(kind):
        registry.target(name)  # a plug-in brings a class only
        return {"name": name}
    if name not in group(kind):
        raise ConfigError(registry.unknown(kind, name, group(kind)))
    values = _read(resources.configs() / kind / f"{name}.yaml")
    values.pop("class", None)
    if kind in ("generator", "data"):
        values["name"] = name
    return values


def structured(schema: type[T], values: Mapping[str, Any], where: str, defaults: T | None = None) -> T:
    """`values` checked against a dataclass, over its defaults or those of a given instance.

    Unknown keys, wrong types and missing values are errors that name the key.

    Raises:
        ConfigError: with OmegaConf's suggestion for a near miss.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        merged = OmegaConf.merge(OmegaConf.structured(defaults or schema), OmegaConf.create(dict(values)))
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        text = " ".join(str(error).split("\n")[0].split())
        key = getattr(error, "full_key", None)
        place = ".".join(part for part in (where, key) if part) or "configuration"
        raise ConfigError(f"{place}: {text}") from None
    except (TypeError, ValueError) as error:  # of values that do not even have the shape of the schema
        text = " ".join(str(error).split())
        hint = "" if where else "; a list is given whole, e.g. system.stages=[{size: 32, batch: 8}]"
        raise ConfigError(f"{where or 'configuration'}: {text}{hint}") from None


def generator_config(name: str, values: Mapping[str, Any]) -> Any:
    """The `Config` of a registered method filled with `values`."""
    return structured(registry.resolve(name).Config, values, "generator")


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, mappings inside mappings alike; neither is changed."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merge(out[key], value) if both else value
    return out


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """`["data=celeba", "trainer.devices=4"]` as nested values; `group=name` selects a group file.

    Raises:
        ConfigError: an argument is not of the form key=value.
    """
    from omegaconf import OmegaConf

    for argument in arguments:
        if "=" not in argument.lstrip("="):
            raise ConfigError(f"{argument!r} is not an override; write key=value, e.g. trainer.max_kimg=10")
        if "${" in argument:
            raise ConfigError(f"{argument!r}: interpolations '${{...}}' are not allowed; write the value out")
    try:
        container = OmegaConf.to_container(OmegaConf.from_dotlist(_selects_first(arguments)))
    except Exception as error:  # YAML inside a value: OmegaConf raises the parser's own types
        raise ConfigError(f"overrides {' '.join(arguments)!r}: {' '.join(str(error).split())}") from None
    assert isinstance(container, dict)
    return {str(k): v for k, v in container.items()}


def _selects_first(arguments: Sequence[str]) -> list[str]:
    """`data=celeba` before `data.root=/d`, as `data.select=celeba`, so that their order on the command line is free."""
    selects, rest = [], []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in GROUPS:
            selects.append(f"{key}.__select__={value}")
        else:
            rest.append(argument)
    return selects + rest


def load_run(recipe: str, overrides: Sequence[str] = ()) -> RunConfig:
    """A run from a recipe name, a method name or the path of a YAML file, plus `key=value` overrides.

    Raises:
        ConfigError: unknown names or keys, wrong types, values that cannot work; always with the full key.
    """
    if recipe in names():
        values = _read(resources.configs() / f"{recipe}.yaml")
    elif recipe.endswith((".yaml", ".yml")):
        values = _read(Path(recipe))
    elif recipe in registry.names():
        values = {
            "use": [f"generator/{recipe}", "data/heads", f"system/{registry.resolve(recipe).system}", "trainer/auto"]
        }
    else:
        raise ConfigError(registry.unknown("recipe", recipe, [*names(), *registry.names()]))
    uses = {str(use).partition("/")[0]: str(use).partition("/")[2] for use in values.pop("use", [])}
    over = parse_overrides(overrides)
    for kind in GROUPS:
        if isinstance(over.get(kind), dict) and "__select__" in over[kind]:
            uses[kind] = str(over[kind].pop("__select__"))
            if kind == "data":  # another data set: what the recipe said about the old one does not hold
                values.pop("data", None)
    if unknown := sorted(set(uses) - set(GROUPS)):
        raise ConfigError(f"use: unknown group {unknown[0]!r}; groups are {', '.join(GROUPS)}")
    for part in (values, over):
        _read_priors(part)
    merged: dict[str, Any] = {"name": Path(recipe).stem, "recipe": recipe}
    for kind, name in uses.items():
        merged[kind] = _group_file(kind, name)
    merged = merge(merge(merged, values), over)
    regime = str((merged.get("system") or {}).get("name") or "adversarial")
    if regime not in SYSTEMS:
        raise ConfigError(registry.unknown("system", regime, list(SYSTEMS)))
    run = structured(RunConfig, merged, "", RunConfig(system=SYSTEMS[regime]()))
    if "name" not in run.generator:
        raise ConfigError("generator.name is missing: start from a method, e.g. use: [generator/shadegan, ...]")
    own = {k: v for k, v in run.generator.items() if k != "name"}
    own.setdefault("scene", to_dict(run.data.scene))
    run.generator = {"name": run.generator["name"], **to_dict(generator_config(run.generator["name"], own))}
    validate(run)
    return run


def _read_priors(values: dict[str, Any]) -> None:
    """Put the numbers of a file in place of `data.scene.light=FILE` and the like: they go with a run."""
    data, system = values.get("data"), values.get("system")
    scene = data.get("scene") if isinstance(data, dict) else None
    for holder, kind in ((scene, "light"), (scene, "pose"), (system, "pose"), (values.get("generator"), "view")):
        if isinstance(holder, dict) and isinstance(holder.get(kind), str):
            holder[kind] = read_prior(kind, holder[kind])


def validate(run: RunConfig) -> None:
    """Refuse values of the right type that training could not work with, NaN among them.

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
        own = structured(SceneConfig, _group_file("data", "heads")["scene"], "data.scene")
        if changed := [k for k, v in to_dict(run.data.scene).items() if v != to_dict(own)[k]]:
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


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested plain values, ready for JSON."""
    return dataclasses.asdict(config)


def fingerprint(config: Any) -> str:
    """Eight hex digits that change when any value of the configuration does."""
    import hashlib  # here, as it takes a seventh of the time of `import zoo`

    values = config if isinstance(config, Mapping) else to_dict(config)
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]
