"""The schema of a run: dataclasses with the default of every key and what it may hold, see `bounds`."""

import dataclasses
import itertools
import math
from dataclasses import dataclass, field
from typing import Any

from ..registry import WEIGHTS as WEIGHTS
from .bounds import choice, need, need_name, number

CROPS = ("square", "celeba", "full")  # beside a number of pixels
DISTRIBUTIONS = ("gaussian", "truncated_gaussian", "uniform", "hybrid", "spherical_uniform", "fixed")
HEAD_SIZES = (32, 256)  # pixels that the embedded heads are drawn at
LOGGERS = ("tensorboard", "wandb")
SEEDS = 2**63 - 1
SIDE = 8192  # pixels of the largest image
TURN = 2 * math.pi


@dataclass
class PoseConfig:
    """Distribution of the viewing angles, in radians from frontal (specs of the pi-GAN family)."""

    distribution: str = choice("gaussian", *DISTRIBUTIONS)
    yaw_mean: float = number(0.0, -TURN, TURN)
    yaw_std: float = number(0.3, 0, TURN)
    pitch_mean: float = number(0.0, -TURN, TURN)
    pitch_std: float = number(0.155, 0, TURN)


@dataclass
class LightConfig:
    """Multivariate normal over (a, d, dx, dy), see `zoo.Light`."""

    mean: list[float] = field(default_factory=lambda: [-0.1, 0.1, 0.0, 0.2])
    cov: list[list[float]] = field(
        default_factory=lambda: [[0.01, 0, 0, 0], [0, 0.0225, 0, 0], [0, 0, 0.25, 0], [0, 0, 0, 0.09]]
    )

    def check(self, at: str) -> None:
        """Raises ConfigError for another number of numbers."""
        need(len(self.mean) == 4, f"{at}mean", self.mean, "give 4 numbers: ambient, diffuse, x, y")
        need([len(row) for row in self.cov] == [4] * 4, f"{at}cov", self.cov, "give 4 rows of 4 numbers")


@dataclass
class NormalConfig:
    """Multivariate normal distribution of D numbers."""

    mean: list[float] = field(default_factory=list)
    cov: list[list[float]] = field(default_factory=list)

    def check(self, at: str) -> None:
        """Raises ConfigError if the two are of different sizes."""
        d = len(self.mean)
        need([len(row) for row in self.cov] == [d] * d, f"{at}cov", self.cov, f"give {d} rows of {d}, as mean has")


@dataclass
class SceneConfig:
    """Where the camera stands and what it may see; belongs to the data and travels with the weights."""

    fov: float = number(12.0, 0, 179, above=True)  # degrees
    radius: float = number(1.0, 0, above=True)  # distance of the camera from the origin
    near: float = number(0.88, 0)  # first and last distance along a ray
    far: float = number(1.12, 0, above=True)
    white_back: bool = False
    pose: PoseConfig = field(default_factory=PoseConfig)
    light: LightConfig = field(default_factory=LightConfig)

    def check(self, at: str) -> None:
        """Raises ConfigError for a ray that ends before it begins."""
        need(not self.far <= self.near, f"{at}far", self.far, f"use more than {at}near={self.near}")


@dataclass
class DataConfig:
    """Which images, and how they are read."""

    name: str = "heads"  # heads | folder | zip | shards | lfw | celeba | ffhq | afhq_cats | synface | carla
    root: str | None = None  # folder, zip file or, for `shards`, a URL; `heads` needs none
    size: int = number(64, 4, SIDE)  # pixels; images are read once at this size
    workers: int = number(0, 0, 1024)
    crop: str | None = (
        None  # square | celeba | full | pixels of a centred square, see docs/data.md; None: the set's own
    )
    align: str = choice("none", "none", "heads", "ffhq", "celeba")  # faces on photographs are cut like those images
    hflip: bool = True
    resample: str = choice("lanczos", "lanczos", "nearest")  # nearest is what the papers' code did
    on_error: str = choice("stop", "stop", "skip")  # stop at the first unreadable file, or skip it and count
    cache: str = choice("auto", "auto", "always", "never")  # keep decoded images in memory
    limit: int | None = number(None, 1)  # use the first N images only
    holdout: float = number(0.0, 0, 0.5)  # evenly spaced share that training never sees; it is the split "val"
    length: int = number(8000, 1, 10**8)  # number of different images `heads` makes; see `limit` for pictures
    background: str = choice("black", "black", "random")  # behind `heads`; random ones are procedural pictures
    highlights: bool = False  # of `heads`: gloss, an uneven sky and shadows beside the light of the scene
    jitter: bool = False  # of `heads`: drawn crops and fields of view, and JPEG
    seed: int = number(0, 0, SEEDS)
    scene: SceneConfig = field(default_factory=SceneConfig)

    def check(self, at: str) -> None:
        """Raises ConfigError for what this data set has no use for, crops that are none, two ways to cut."""
        if self.name == "heads":
            fix = "the heads are drawn, not read; for pictures add data=folder, or the name of their data set"
            need(self.root is None, f"{at}root", self.root, fix)
            fix = "the heads are drawn as they are used; leave it out"
            need(self.resample == "lanczos", f"{at}resample", self.resample, fix)
        else:
            plain = {"background": "black", "highlights": False, "jitter": False}
            for key, value in plain.items():
                fix = f"only the embedded heads are drawn so, this is data={self.name}; leave it out"
                need(getattr(self, key) == value, f"{at}{key}", getattr(self, key), fix)
            whose = f"only the embedded heads are drawn in any number, this is data={self.name}"
            fix = f"{whose}; leave it out, or use {at}limit=N for the first N pictures"
            need(self.length == DataConfig.length, f"{at}length", self.length, fix)
        low, high = HEAD_SIZES
        fits = self.name != "heads" or low <= self.size <= high
        need(fits, f"{at}size", self.size, f"the heads are drawn at {low} to {high} pixels")
        pixels = (self.crop or "").isascii() and (self.crop or "").isdecimal() and 0 < int(self.crop or 0) <= SIDE
        known = self.crop is None or self.crop in CROPS or pixels
        need(known, f"{at}crop", self.crop, f"use {', '.join(CROPS)} or pixels of a centred square, 1 to {SIDE}")
        whole = self.name != "heads" or self.crop is None
        need(whole, f"{at}crop", self.crop, "the heads are drawn as they are used; leave it out")
        fix = "the heads have a split val of their own; leave it out"
        need(self.name != "heads" or self.holdout == 0, f"{at}holdout", self.holdout, fix)
        photographs = self.align == "none" or self.name != "heads"
        need(photographs, f"{at}align", self.align, "the heads are drawn as they are used; leave it out")
        one = self.align == "none" or (self.crop is None and self.resample == "lanczos")
        need(one, f"{at}align", self.align, f"faces are cut by their eyes; leave out {at}crop and {at}resample")


@dataclass
class StageConfig:
    """A step of the curriculum, from `kimg` thousand images on."""

    kimg: float = number(0.0, 0)
    size: int = 32
    batch: int = number(16, 1, 2**16)  # images per process, or per micro-batch (`trainer.accumulate`)
    lr_g: float = number(3e-4, 0, 10, above=True)
    lr_d: float = number(3e-4, 0, 10, above=True)
    fade_kimg: float = number(0.0, 0)  # the new discriminator block fades in over this many thousand images
    lr_decay: bool = False  # learning rates fall linearly to a tenth over the stage

    def check(self, at: str) -> None:
        """Raises ConfigError for a size that no discriminator has."""
        power = 16 <= self.size <= SIDE and self.size.bit_count() == 1
        need(power, f"{at}size", self.size, f"use 16, 32, 64, 128, ... {SIDE}")


@dataclass
class DiscriminatorConfig:
    """Which discriminator, its width, and what it starts from."""

    name: str = "plain"
    channels: list[int] | None = None  # None: the published widths
    init: str | None = None  # weights whose discriminator it starts from; None: the run's `init`, if there is one

    def check(self, at: str) -> None:
        """Raises ConfigError for widths that no layer has."""
        wide = all(1 <= width <= 2**16 for width in self.channels or [])
        need(wide, f"{at}channels", self.channels, "use widths of 1 or more, e.g. [64, 64, 128]")


@dataclass
class SystemConfig:
    """What all training regimes share: curriculum, optimiser, averaging."""

    name: str = ""
    stages: list[StageConfig] = field(default_factory=lambda: [StageConfig()])
    betas: list[float] = field(default_factory=lambda: [0.0, 0.9])
    grad_clip: float = number(1.0, 0, above=True)
    ema_kimg: float = number(2.0, 0, above=True)  # half-life of the generator's average
    start_kimg: float = number(0.0, 0)  # where the generator's own schedules begin; fine-tuning goes on behind them
    freeze: list[str] = field(default_factory=list)  # parts of the generator that do not learn, see `Generator.parts`
    hollow_patience: int = number(5, 1)  # warn after this many hollow readings in a row

    def clock(self, images: float) -> float:
        """Where schedules stand after so many images: there."""
        return images

    def check(self, at: str) -> None:
        """Raises ConfigError for a curriculum without stages or out of order, and for impossible betas."""
        self.check_betas(at)
        fix = f"give at least one, e.g. {at}stages=[{{size: 32, batch: 8}}]"
        need(bool(self.stages), f"{at}stages", self.stages, fix)
        starts = [stage.kimg for stage in self.stages]
        rising = starts[0] == 0 and all(a < b < math.inf for a, b in itertools.pairwise(starts))
        need(rising, f"{at}stages", f"kimg {starts}", "the first stage starts at kimg 0, each other one later")

    def check_betas(self, at: str) -> None:
        """Raises ConfigError for betas that Adam cannot take."""
        two = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        need(two, f"{at}betas", self.betas, "give two numbers of 0 or more and below 1, e.g. [0.0, 0.9]")


@dataclass
class AdversarialConfig(SystemConfig):
    """Adversarial training: losses, discriminator."""

    name: str = "adversarial"
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    pose: PoseConfig | None = None  # viewpoints of generated images; None: those of the data
    r1: float = number(5.0, 0)  # weight of 1/2 |grad D(real)|^2
    r1_every: int = number(4, 1)  # D steps between two R1 terms; the weight is scaled up to match
    pose_weight: float = number(5.0, 0)  # regression of the pose by D, where a camera turns pictures
    real_pose: str = choice("none", "none", "measured")  # D learns poses on generated images, or on real ones by labels
    latent_weight: float = number(0.0, 0)  # regression of z by D, on generated images
    freeze_d: int = number(0, 0, 16)  # FreezeD: D does not learn until it has halved images so many times
    hold_kimg: float = number(0.0, 0)  # G waits this long at first, so that D gets to know other images than its last
    share_fakes: bool = True  # D and G of a step see the same generated images: one rendering less
    by_steps: bool = False  # schedules, top-k and average count a step of any stage as one of the first, as papers do
    topk_min: float = number(1.0, 0, 1)  # least fraction of a batch G learns from
    topk_kimg: float = number(0.0, 0)  # the fraction falls by 1 % each this many thousand images; 0 = never
    mixing: float = 0.0  # chance that an image takes two codes: one in its coarse layers, another in the fine ones
    path_length: float = number(0.0, 0)  # weight of StyleGAN2's path-length regulariser
    path_length_every: int = number(4, 1)  # G steps between two such terms; the weight is scaled up to match
    ada_target: float = 0.0  # augment D's images until the mean sign of D(real) is this, e.g. 0.6; 0: no augmentation
    ada_kimg: float = number(500.0, 0, above=True)  # augmentation can go from never to always within this many kimg

    def clock(self, images: float) -> float:
        """Where schedules stand after so many images; with `by_steps`, after as many steps of the first stage's batch.

        Batches shrink as images grow, so that a step that published code counts means fewer and fewer images.
        """
        if not self.by_steps:
            return images
        ends = [1000 * stage.kimg for stage in self.stages[1:]] + [math.inf]
        seen = [max(0.0, min(images, end) - 1000 * stage.kimg) for stage, end in zip(self.stages, ends, strict=True)]
        return sum(n * self.stages[0].batch / stage.batch for n, stage in zip(seen, self.stages, strict=True))

    def check(self, at: str) -> None:
        """Raises ConfigError for switches that exclude each other."""
        super().check(at)
        need(0 <= self.mixing <= 1, f"{at}mixing", self.mixing, "use a probability, 0 to 1")
        one = self.mixing == 0 or self.latent_weight == 0
        need(one, f"{at}latent_weight", self.latent_weight, "a mixed image has no one z; use 0")
        fix = "use 0 (off) or a number below 1, e.g. 0.6"
        need(0 <= self.ada_target < 1, f"{at}ada_target", self.ada_target, fix)
        used = self.real_pose == "none" or self.pose_weight > 0
        need(used, f"{at}real_pose", self.real_pose, f"with {at}pose_weight=0 D reads no poses; use more")
        fix = f"with {at}topk_min=1 the fraction cannot fall; use less, e.g. 0.6"
        need(self.topk_kimg == 0 or self.topk_min < 1, f"{at}topk_kimg", self.topk_kimg, fix)


@dataclass
class PhotometricConfig(SystemConfig):
    """Reconstruction of single images (Unsup3D): one optimiser, `lr_g` of the stages is its rate."""

    name: str = "photometric"
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    weight_decay: float = number(5e-4, 0)
    perceptual: str | None = None  # file of torchvision's VGG16 weights, for the perceptual loss; None: without it


@dataclass
class InstanceStageConfig:
    """Iterations of GAN2Shape's three steps, and whether they also fit the mirrored object."""

    albedo: int = number(500, 1)
    projection: int = number(500, 1)
    joint: int = number(200, 1)
    hold: int = number(0, 0)  # iterations of the joint step, the first ones, in which depth waits for the other three
    mirror_albedo: bool = False
    mirror_joint: bool = True


@dataclass
class InstanceConfig(SystemConfig):
    """Fitting a method to one photograph, or to a few together, with the help of a 2D GAN (GAN2Shape)."""

    name: str = "instance"
    stages: list[InstanceStageConfig] = field(default_factory=lambda: [InstanceStageConfig()])  # type: ignore[assignment]
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    weight_decay: float = number(5e-4, 0)
    lr_shape: float = number(1e-4, 0, 10, above=True)  # of the depth network while it takes on the initial shape
    lr_albedo: float = number(1e-4, 0, 10, above=True)  # of the albedo network in the first step
    lr_projection: float = number(1e-4, 0, 10, above=True)  # of the offset encoder in the second
    lr_joint: float = number(1e-4, 0, 10, above=True)  # of depth, albedo, viewpoint and light in the third
    batch: int = number(16, 1, 2**16)  # pseudo images in each iteration
    collect: int = number(100, 1)  # batches that the GAN draws for the third step
    shape: str = "ellipsoid"  # ellipsoid | flat | asymmetric | weights whose depth is taken, e.g. unsup3d.heads64
    shape_steps: int = number(1000, 0)  # iterations until the depth network shows it
    category: str = "face"  # how the ellipsoid fits the foreground: face | synface | cat | car | church
    mask: str = "ellipse"  # the foreground: ellipse | alpha (of the picture) | all | a file or folder of masks
    use_mask: bool = False  # pseudo images and drawings count inside the foreground only
    feature_blocks: int = number(4, 0, 64)  # of D, by which drawings are compared in the second step; 0: by L1 alone
    perceptual: str = choice("discriminator", "none", "discriminator", "lpips")  # how reconstructions are compared
    vgg: str | None = None  # file of torchvision's VGG16 weights, for lpips
    lpips: str | None = None  # file of the linear layers of LPIPS 0.1, for lpips
    inversion_steps: int = number(500, 0)  # to find a photograph's latent
    inversion_lr: float = number(0.05, 0, 10, above=True)

    def check(self, at: str) -> None:
        """Raises ConfigError for a fit without stages, and a loss without its files."""
        self.check_betas(at)
        fix = f"give at least one, e.g. {at}stages=[{{albedo: 50, joint: 50}}]"
        need(bool(self.stages), f"{at}stages", [], fix)
        need(not self.freeze, f"{at}freeze", self.freeze, "the steps of a fit choose what learns; leave it out")
        files = self.perceptual != "lpips" or (self.vgg is not None and self.lpips is not None)
        need(files, f"{at}perceptual", "lpips", f"give {at}vgg=FILE and {at}lpips=FILE too")


@dataclass
class TrainerConfig:
    """Where and how long; what is written."""

    accelerator: str = choice("auto", "auto", "cpu", "gpu", "cuda")  # gpu is cuda
    devices: int = number(1, 1, 2**16)  # processes on each machine, one to a GPU
    nodes: int = number(1, 1, 2**16)  # machines; torchrun or srun starts the processes
    accumulate: int = number(1, 1, 2**16)  # micro-batches a step: a batch of so many times `batch` images
    precision: str = "32-true"  # or bf16-mixed
    max_kimg: float = number(64.0, 0, above=True)
    checkpoint_kimg: float = number(2.0, 0, above=True)
    sample_kimg: float = number(4.0, 0, above=True)
    patience: int = number(0, 0)  # stop after so many sample sheets without progress on held-back images; 0: none read
    log_every: int = number(25, 1)  # steps
    threads: int | None = number(None, 1, 2**16)  # CPU threads; None leaves torch's choice
    compile: str = choice("auto", "auto", "always", "never")
    loggers: list[str] = field(default_factory=list)  # tensorboard, wandb; JSONL and CSV are always written
    wandb_mode: str = choice("offline", "offline", "online", "disabled")

    def check(self, at: str) -> None:
        """Raises ConfigError for precisions that do not work, and unknown loggers."""
        fix = "use 32-true or bf16-mixed; 16-bit floats do not carry the adversarial gradients here"
        need(self.precision in ("32-true", "bf16-mixed"), f"{at}precision", self.precision, fix)
        for name in self.loggers:
            need(name in LOGGERS, f"{at}loggers", name, f"known are {', '.join(LOGGERS)}")


@dataclass
class RunConfig:
    """A whole run, as validated from recipe and command line.

    `generator` is checked against the method's own `Config`.
    """

    name: str = ""
    recipe: str = ""  # what the run was made from
    seed: int = number(0, 0, SEEDS)
    out: str = "runs"
    resume: str = "never"  # never | auto | path of a checkpoint
    init: str | None = None  # weights to start from, any name `zoo.load` takes
    generator: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    system: SystemConfig = field(default_factory=AdversarialConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def check(self, at: str) -> None:
        """Raises ConfigError for a name that would leave the folder `out`."""
        if self.name:
            need_name(self.name, f"{at}name")


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
