"""The depth probe: a small network that learns depth from a generator's own images, so that its shapes can be scored.

A generator without an encoder cannot tell the depth of a given photograph. ShadeGAN and GOF therefore train a
depth network on pairs (image, depth) that the generator renders, and score that network on test images with true
depth. The better the generated shapes agree with the generated images, the better the network does on other images.
The same network trained on as many true pairs is the `supervised` baseline of the depth benchmarks.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..generators.base import Generator
from ..networks.encoders import EDDeconv

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Pairs:
    """Images with their depth, in memory.

    Attributes:
        image: (N,3,S,S) in [-1,1].
        depth: (N,1,S,S) along the optical axis, in world units.
        mask: (N,1,S,S) bool, true where the depth means something.

    Raises:
        ValueError: The shapes do not fit together, or the mask is not bool.
    """

    image: Tensor
    depth: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        n, _, height, width = self.image.shape
        for name in ("depth", "mask"):
            if getattr(self, name).shape != (n, 1, height, width):
                raise ValueError(f"{name} must be {(n, 1, height, width)}, got {tuple(getattr(self, name).shape)}")
        if self.mask.dtype != torch.bool:
            raise ValueError(f"mask must be bool, got {self.mask.dtype}; threshold it, for example mask > 0.5")

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: slice | Tensor) -> "Pairs":
        return Pairs(self.image[index], self.depth[index], self.mask[index])

    def to(self, device: torch.device | str) -> "Pairs":
        """The same pairs on another device."""
        return Pairs(self.image.to(device), self.depth.to(device), self.mask.to(device))

    @staticmethod
    def cat(parts: "list[Pairs]") -> "Pairs":
        """Join several sets of pairs into one."""
        return Pairs(*(torch.cat([getattr(part, name) for part in parts]) for name in ("image", "depth", "mask")))


def render_pairs(
    generator: Generator,
    n: int,
    *,
    size: int = 64,
    seed: int = 0,
    batch_size: int = 16,
    advance: Advance | None = None,
) -> Pairs:
    """Render `n` pairs with latents, cameras and lights from the generator's priors (psi = 1, as published).

    Args:
        generator: The frozen generator, which stays on its own device.
        n: Number of pairs.
        size: Image side in pixels.
        seed: Makes latents, cameras and lights; the same seed gives the same pairs for any `batch_size`.
        batch_size: Number of images rendered at once.
        advance: Called with the number of pairs just rendered.

    Returns:
        Pairs on the CPU, whose mask is opacity > 0.5.

    Raises:
        ValueError: The generator renders no depth, or its opacity exceeds 0.5 nowhere.
    """
    latents = generator.latents(n, seed=seed)
    cameras = generator.cameras(n, seed=seed + 1, size=size)
    lights = generator.lights(n, seed=seed + 2) if generator.uses_light else None
    parts = []
    with torch.no_grad():
        for start in range(0, n, batch_size):
            chunk = slice(start, start + batch_size)
            light = None if lights is None else lights[chunk]
            render = generator(latents[chunk], cameras[chunk], light).cpu()
            if render.depth is None:
                raise ValueError(f"{type(generator).__name__} renders no depth, so it has no shape to score")
            mask = torch.ones_like(render.depth) if render.mask is None else render.mask
            parts.append(Pairs(render.rgb.float().clamp(-1, 1), render.depth.float(), mask > 0.5))
            if advance:
                advance(len(parts[-1]))
    pairs = Pairs.cat(parts)
    if not pairs.mask.any():
        raise ValueError(f"{type(generator).__name__} renders empty images (opacity <= 0.5 everywhere): train it first")
    return pairs


def average_depth(pairs: Pairs) -> Tensor:
    """The mean depth (1,1,S,S) of each pixel over the images in whose mask it lies, else the farthest such mean."""
    seen = pairs.mask.sum(0, keepdim=True)
    mean = torch.where(pairs.mask, pairs.depth, 0.0).sum(0, keepdim=True) / seen
    return torch.where(seen > 0, mean, mean[seen > 0].max())


class DepthProbe(lightning.LightningModule):
    """A network from image to depth, trained with L1 on depth normalised to [near, far], inside the mask.

    The network gives the difference from the average depth of the training pairs, which is 0 at first. A short training
    then spends its steps on what tells one object from another.

    Args:
        average: (1,1,S,S) depth in world units for which the network's output 0 stands.
        near, far: Range of the training depth. An output of 1 adds half of it; outputs may leave the range.
        nf: Width of the network, see `EDDeconv`.
        zdim: Width of the bottleneck, see `EDDeconv`.
        lr: Peak learning rate of Adam. It has one cycle: up during the first tenth, then down to 0.
        steps: Optimiser steps of the cycle.

    Raises:
        ValueError: 0 < near < far does not hold.
    """

    average: Tensor

    def __init__(
        self,
        average: Tensor,
        near: float,
        far: float,
        *,
        nf: int = 16,
        zdim: int = 64,
        lr: float = 1e-3,
        steps: int = 300,
    ) -> None:
        super().__init__()
        if not 0 < near < far:
            raise ValueError(f"need 0 < near < far, got near={near:g}, far={far:g}")
        self.near, self.far, self.lr, self.steps = near, far, lr, steps
        self.register_buffer("average", average)
        self.network = EDDeconv(nf=nf, zdim=zdim, size=average.shape[-1])
        last: nn.Conv2d = self.network.network[-1]  # type: ignore[assignment]
        nn.init.zeros_(last.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Depth (B,1,S,S) along the optical axis, in world units, of images (B,3,S,S) in [-1,1]."""
        out: Tensor = self.average + self.network(image) * (self.far - self.near) / 2
        return out

    def training_step(self, batch: Pairs, batch_index: int) -> Tensor:
        """Masked L1 on the normalised depth of one augmented batch, as a scalar."""
        return self.error(augment_pairs(batch))

    def error(self, pairs: Pairs) -> Tensor:
        """Masked L1 on the normalised depth of pairs, as a scalar."""
        depth = torch.where(pairs.mask, pairs.depth, self.far)  # 0 times NaN, outside, would be NaN
        error = (self(pairs.image) - depth).abs() * (2 / (self.far - self.near))
        out: Tensor = (error * pairs.mask).sum() / pairs.mask.sum().clamp_min(1)
        return out

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam, with one cycle of the learning rate over `steps`."""
        optimiser = torch.optim.Adam(self.parameters(), self.lr, betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.lr, total_steps=self.steps + 1, pct_start=0.1)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @torch.no_grad()
    def predict(self, images: Tensor, batch_size: int = 100) -> Tensor:
        """Depth (N,1,S,S), on the CPU, of images (N,3,S,S) in [-1,1].

        It is at least `near` / 10, so that it has a logarithm.
        """
        self.eval()
        parts = [self(chunk.to(self.device)).cpu() for chunk in images.split(batch_size)]
        return torch.cat(parts).clamp_min(self.near / 10)


def augment_pairs(pairs: Pairs) -> Pairs:
    """Mirror half of the batch, with its depth, and jitter contrast, brightness and sharpness of every image.

    It is the same for every method and for the supervised baseline, and narrows the gap from rendered to test images.
    """
    n, device = len(pairs), pairs.image.device

    def draw(low: float, high: float) -> Tensor:
        return torch.empty(n, 1, 1, 1, device=device).uniform_(low, high)

    mirrored = draw(0, 1) < 0.5
    image, depth, mask = (torch.where(mirrored, x.flip(-1), x) for x in (pairs.image, pairs.depth, pairs.mask))
    blurred = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    image = torch.lerp(image, blurred, draw(-0.3, 0.7))
    image = image * draw(0.8, 1.2) + draw(-0.15, 0.15)
    return Pairs(image.clamp(-1, 1), depth, mask)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's advice (loader workers, other products) during a step that takes seconds."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            yield
    finally:
        logger.setLevel(level)


class _Advance(lightning.Callback):
    def __init__(self, advance: Advance) -> None:
        self.advance = advance

    def on_train_batch_end(self, *_: object) -> None:
        self.advance(1)


class _HeldBack(lightning.Callback):
    """Keeps the probe that does best on pairs it does not learn from, and stops when it gets no better."""

    EVERY, PATIENCE = 50, 4  # steps between two looks; looks without a new best one after which training ends

    def __init__(self, pairs: Pairs) -> None:
        self.pairs, self.best, self.waited = pairs, float("inf"), 0
        self.state: dict[str, Tensor] = {}

    @torch.no_grad()
    def on_train_batch_end(self, trainer: lightning.Trainer, probe: lightning.LightningModule, *_: object) -> None:
        if trainer.global_step % self.EVERY and trainer.global_step < trainer.max_steps:
            return
        assert isinstance(probe, DepthProbe)
        probe.eval()
        error = probe.error(self.pairs.to(probe.device)).item()
        probe.train()
        self.waited += 1
        if error < self.best:
            self.best, self.waited = error, 0
            self.state = {key: value.clone() for key, value in probe.state_dict().items()}
        trainer.should_stop = trainer.should_stop or self.waited >= self.PATIENCE


def train_probe(
    pairs: Pairs,
    *,
    held_back: Pairs | None = None,
    steps: int = 300,
    batch_size: int = 16,
    nf: int = 16,
    zdim: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    accelerator: str = "auto",
    advance: Advance | None = None,
) -> DepthProbe:
    """Train a fresh probe on pairs, rendered or true.

    Args:
        pairs: Training data; [near, far] is the range of its depth inside the masks.
        held_back: Pairs to judge the probe by; the best one counts, and training ends when it gets no better. None
            takes the last one.
        steps: Number of optimiser steps, or with `held_back` the most of them.
        batch_size: Pairs in each step, drawn in random order; no pair is used twice before every pair is used once.
        nf, zdim, lr: See `DepthProbe`.
        seed: Makes weights, order and augmentation; the caller's random state is left alone.
        accelerator: The device, by Lightning's name.
        advance: Called with 1 after every step.

    Returns:
        The trained probe, on the CPU and in eval mode.

    Raises:
        ValueError: There are no pairs, no pixel lies inside a mask, or depth inside a mask is not finite and positive;
            or the pairs held back show nothing, or the probe diverges on them.
    """
    if not len(pairs) or not pairs.mask.any():
        raise ValueError(f"{len(pairs)} pairs with {int(pairs.mask.sum())} masked pixels: nothing to learn depth from")
    depths = pairs.depth[pairs.mask]
    near, far = depths.min().item(), depths.max().item()
    if not (depths.isfinite().all() and near > 0):
        raise ValueError(f"depth inside the masks must be finite and > 0, found a minimum of {near:g}")
    if held_back is not None and not held_back.mask.any():
        raise ValueError(f"{len(held_back)} pairs held back show nothing, so they cannot judge: give more pairs")
    with torch.random.fork_rng(), _quiet():
        torch.manual_seed(seed)
        average = average_depth(pairs)
        # If depth does not vary, [near, far] would be empty.
        far = max(far, near * 1.001)
        probe = DepthProbe((average + average.flip(-1)) / 2, near, far, nf=nf, zdim=zdim, lr=lr, steps=steps)
        orders = [torch.randperm(len(pairs)) for _ in range(steps * batch_size // len(pairs) + 1)]
        batches = torch.cat(orders)[: steps * batch_size].split(batch_size)
        judge = _HeldBack(held_back) if held_back is not None else None
        trainer = lightning.Trainer(
            accelerator=accelerator,
            devices=1,
            max_steps=steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[*([_Advance(advance)] if advance else []), *([judge] if judge else [])],
        )
        # The loader's keys are whole batches of indices, so one look-up makes one batch.
        loader: DataLoader[Pairs] = DataLoader(pairs, batch_size=None, sampler=batches)  # type: ignore[arg-type]
        trainer.fit(probe, loader)
        if judge and not judge.state:
            raise ValueError("the error on the pairs held back is never a number: images or depths are not finite")
        if judge:
            probe.load_state_dict(judge.state)
    return probe.cpu().eval()
