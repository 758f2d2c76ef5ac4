"""The schema of a run: dataclasses with the defaults of every key. `zoo.config` fills and checks them."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..registry import WEIGHTS as WEIGHTS

DISTRIBUTIONS = ("gaussian", "truncated_gaussian", "uniform", "hybrid", "spherical_uniform", "fixed")


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
    hold: int = 0  # iterations of the joint step, the first ones, in which depth waits for the other three
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


@dataclass
class Metric:
    """A figure and what it takes to repeat it."""

    name: str = ""
    value: float = 0.0
    protocol: str = ""
    n: int = 0  # images behind the value
    command: str = ""


@dataclass
class Card:
    """What a reader must know of a set of weights; `zoo.save` fills in `sha256`, `bytes` and `parameters`."""

    name: str = ""  # method.tag
    summary: str = ""
    default: bool = False  # this tag answers to the bare method name
    licence: dict[str, str] = field(default_factory=dict)  # of code, weights and data: three separate facts
    data: str = ""
    recipe: str = ""  # file of configs/ that trained it
    command: str = ""
    kimg: float = 0.0  # thousands of images seen
    seed: int = 0
    metrics: list[Metric] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    sha256: str = ""  # of model.safetensors
    discriminator_sha256: str = ""  # of discriminator.safetensors, if it travels along for fine-tuning
    bytes: int = 0
    parameters: int = 0
    citation: str = ""
    sources: dict[str, str] = field(default_factory=dict)  # published files they were converted from, and their SHA-256

    def as_dict(self) -> dict[str, Any]:
        """The card as nested plain values, ready for JSON."""
        return dataclasses.asdict(self)
