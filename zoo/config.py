"""What a run is described by: dataclasses for the schema, OmegaConf for YAML and `key=value`, plain values elsewhere.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from . import registry, resources
from .errors import ConfigError
from .prior_files import read_prior

T = TypeVar("T")
GROUPS = ("generator", "data", "system", "trainer")
DISTRIBUTIONS = ("gaussian", "truncated_gaussian", "uniform", "hybrid", "spherical_uniform", "fixed")
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


@dataclass
class PoseConfig:
    """Distribution of the viewing angles, in radians from frontal (specs of the pi-GAN family)."""

    distribution: str = "gaussian"  # one of DISTRIBUTIONS
    yaw_mean: float = 0.0
    yaw_std: float = 0.3
    pitch_mean: float = 0.0
    pitch_std: float = 0.155


@dataclass
class LightConfig:
    """Multivariate normal over (a, d, dx, dy), see `zoo.Light`."""

    mean: list[float] = field(default_factory=lambda: [-0.1, 0.1, 0.0, 0.2])
    cov: list[list[float]] = field(
        default_factory=lambda: [[0.01, 0, 0, 0], [0, 0.0225, 0, 0], [0, 0, 0.25, 0], [0, 0, 0, 0.09]]
    )


@dataclass
class NormalConfig:
    """Multivariate normal distribution of D numbers."""

    mean: list[float] = field(default_factory=list)
    cov: list[list[float]] = field(default_factory=list)


@dataclass
class SceneConfig:
    """Where the camera stands and what it may see; belongs to the data and travels with the weights."""

    fov: float = 12.0  # degrees
    radius: float = 1.0  # distance of the camera from the origin
    near: float = 0.88  # first and last distance along a ray
    far: float = 1.12
    white_back: bool = False
    pose: PoseConfig = field(default_factory=PoseConfig)
    light: LightConfig = field(default_factory=LightConfig)


@dataclass
class DataConfig:
    """Which images, and how they are read."""

    name: str = "heads"  # heads | folder | zip | lfw | celeba | ffhq | afhq_cats | synface
    root: str | None = None  # folder or zip file; `heads` needs none
    size: int = 64  # pixels; images are read once at this size
    workers: int = 0
    hflip: bool = True
    resample: str = "lanczos"  # lanczos | nearest (what the papers' code did)
    on_error: str = "stop"  # stop at the first unreadable file | skip it and count
    cache: str = "auto"  # keep decoded images in memory: auto | always | never
    limit: int | None = None  # use the first N images only
    length: int = 8000  # number of different images `heads` makes
    seed: int = 0
    scene: SceneConfig = field(default_factory=SceneConfig)


@dataclass
class StageConfig:
    """A step of the curriculum, from `kimg` thousand images on."""

    kimg: float = 0.0
    size: int = 32
    batch: int = 16
    lr_g: float = 3e-4
    lr_d: float = 3e-4
    fade_kimg: float = 0.0  # the new discriminator block fades in over this many thousand images
    lr_decay: bool = False  # learning rates fall linearly to a tenth over the stage


@dataclass
class DiscriminatorConfig:
    """Which discriminator, and its width."""

    name: str = "plain"
    channels: list[int] | None = None  # None: the published widths


@dataclass
class SystemConfig:
    """What all training regimes share: curriculum, optimiser, averaging."""

    name: str = ""
    stages: list[StageConfig] = field(default_factory=lambda: [StageConfig()])
    betas: list[float] = field(default_factory=lambda: [0.0, 0.9])
    grad_clip: float = 1.0
    ema_kimg: float = 2.0  # half-life of the generator's average
    start_kimg: float = 0.0  # where the generator's own schedules begin; fine-tuning goes on behind them
    hollow_patience: int = 5  # warn after this many hollow readings in a row


@dataclass
class AdversarialConfig(SystemConfig):
    """Adversarial training: losses, discriminator."""

    name: str = "adversarial"
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    pose: PoseConfig | None = None  # viewpoints of generated images; None: those of the data
    r1: float = 5.0  # weight of 1/2 |grad D(real)|^2
    r1_every: int = 4  # D steps between two R1 terms; the weight is scaled up to match
    pose_weight: float = 5.0  # regression of the pose by D, on generated images
    latent_weight: float = 0.0  # regression of z by D, on generated images
    share_fakes: bool = True  # D and G of a step see the same generated images: one rendering less
    topk_min: float = 1.0  # least fraction of a batch G learns from
    topk_kimg: float = 0.0  # the fraction falls by 1 % each this many thousand images; 0 = never
    mixing: float = 0.0  # chance that an image takes two codes: one in its coarse layers, another in the fine ones
    path_length: float = 0.0  # weight of StyleGAN2's path-length regulariser
    path_length_every: int = 4  # G steps between two such terms; the weight is scaled up to match
    ada_target: float = 0.0  # augment D's images until the mean sign of D(real) is this, e.g. 0.6; 0: no augmentation
    ada_kimg: float = 500.0  # augmentation can go from never to always within this many thousand images


@dataclass
class PhotometricConfig(SystemConfig):
    """Reconstruction of single images (Unsup3d): one optimiser, `lr_g` of the stages is its rate."""

    name: str = "photometric"
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    weight_decay: float = 5e-4
    perceptual: str | None = None  # file of torchvision's VGG16 weights, for the perceptual loss; None: without it


@dataclass
class InstanceStageConfig:
    """Iterations of GAN2Shape's three steps, and whether they also fit the mirrored object."""

    albedo: int = 500
    projection: int = 500
    joint: int = 200
    mirror_albedo: bool = False
    mirror_joint: bool = True


@dataclass
class InstanceConfig(SystemConfig):
    """Fitting a method to one photograph, or to a few together, with the help of a 2D GAN (GAN2Shape)."""

    name: str = "instance"
    stages: list[InstanceStageConfig] = field(default_factory=lambda: [InstanceStageConfig()])  # type: ignore[assignment]
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    weight_decay: float = 5e-4
    lr_shape: float = 1e-4  # of the depth network while it takes on the initial shape
    lr_albedo: float = 1e-4  # of the albedo network in the first step
    lr_projection: float = 1e-4  # of the offset encoder in the second
    lr_joint: float = 1e-4  # of depth, albedo, viewpoint and light in the third
    batch: int = 16  # pseudo images in each iteration
    collect: int = 100  # batches that the GAN draws for the third step
    shape: str = "ellipsoid"  # ellipsoid | flat | asymmetric | weights whose depth is taken, e.g. unsup3d.heads64
    shape_steps: int = 1000  # iterations until the depth network shows it
    category: str = "face"  # how the ellipsoid fits the foreground: face | synface | cat | car | church
    mask: str = "ellipse"  # the foreground: ellipse | alpha (of the picture) | all | a file or folder of masks
    use_mask: bool = False  # pseudo images and drawings count inside the foreground only
    feature_blocks: int = 4  # of the discriminator, by which drawings are compared in the second step; 0: by L1 alone
    perceptual: str = "discriminator"  # reconstructions are compared by: none | discriminator | lpips
    vgg: str | None = None  # file of torchvision's VGG16 weights, for lpips
    lpips: str | None = None  # file of the linear layers of LPIPS 0.1, for lpips
    inversion_steps: int = 500  # to find a photograph's latent
    inversion_lr: float = 0.05


SYSTEMS: dict[str, type[SystemConfig]] = {
    "adversarial": AdversarialConfig,
    "photometric": PhotometricConfig,
    "instance": InstanceConfig,
}


@dataclass
class TrainerConfig:
    """Where and how long; what is written."""

    accelerator: str = "auto"
    devices: int = 1
    precision: str = "32-true"  # or bf16-mixed
    max_kimg: float = 64.0
    checkpoint_kimg: float = 2.0
    sample_kimg: float = 4.0
    log_every: int = 25  # steps
    threads: int | None = None  # CPU threads; None leaves torch's choice
    compile: str = "auto"  # auto | always | never
    loggers: list[str] = field(default_factory=list)  # tensorboard, wandb; JSONL and CSV are always written
    wandb_mode: str = "offline"  # offline | online | disabled


@dataclass
class RunConfig:
    """A whole run, as validated from recipe and command line.

    `generator` is checked against the method's own `Config`.
    """

    name: str = ""
    recipe: str = ""  # what the run was made from
    seed: int = 0
    out: str = "runs"
    resume: str = "never"  # never | auto | path of a checkpoint
    init: str | None = None  # weights to start from, any name `zoo.load` takes
    generator: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    system: SystemConfig = field(default_factory=AdversarialConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


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
