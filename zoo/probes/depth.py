"""The depth probe: a small network that learns depth from a generator's own images, so that its shapes can be scored.

A generator without an encoder cannot tell the depth of a given photograph. ShadeGAN and GOF therefore train a
depth network on pairs (image, depth) that the generator renders, and score that network on test images with true
depth. The better the generated shapes agree with the generated images, the better the network does on other images.
The same network trained on as many true pairs is the `supervised` baseline of the depth benchmarks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
            # Fields render channels last in memory, and a probe would need three times as long to learn from that.
            image = render.rgb.float().clamp(-1, 1).contiguous()
            parts.append(Pairs(image, render.depth.float(), mask > 0.5))
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


class DepthProbe(nn.Module):
    """A network from image to depth, trained with L1 on depth normalised to [near, far], inside the mask.

    The network gives the difference from the average depth of the training pairs, which is 0 at first. A short training
    then spends its steps on what tells one object from another.

    Args:
        average: (1,1,S,S) depth in world units for which the network's output 0 stands.
        near, far: Range of the training depth. An output of 1 adds half of it; outputs may leave the range.
        nf: Width of the network, see `EDDeconv`.
        zdim: Width of the bottleneck, see `EDDeconv`.

    Raises:
        ValueError: 0 < near < far does not hold.
    """

    average: Tensor

    def __init__(self, average: Tensor, near: float, far: float, *, nf: int = 16, zdim: int = 64) -> None:
        super().__init__()
        if not 0 < near < far:
            raise ValueError(f"need 0 < near < far, got near={near:g}, far={far:g}")
        self.near, self.far = near, far
        self.register_buffer("average", average)
        self.network = EDDeconv(nf=nf, zdim=zdim, size=average.shape[-1])
        last: nn.Conv2d = self.network.network[-1]  # type: ignore[assignment]
        nn.init.zeros_(last.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Depth (B,1,S,S) along the optical axis, in world units, of images (B,3,S,S) in [-1,1]."""
        out: Tensor = self.average + self.network(image) * (self.far - self.near) / 2
        return out

    def error(self, pairs: Pairs) -> Tensor:
        """Masked L1 on the normalised depth of pairs, as a scalar."""
        depth = torch.where(pairs.mask, pairs.depth, self.far)  # 0 times NaN, outside, would be NaN
        error = (self(pairs.image) - depth).abs() * (2 / (self.far - self.near))
        out: Tensor = (error * pairs.mask).sum() / pairs.mask.sum().clamp_min(1)
        return out

    @torch.no_grad()
    def predict(self, images: Tensor, batch_size: int = 100) -> Tensor:
        """Depth (N,1,S,S), on the CPU, of images (N,3,S,S) in [-1,1].

        It is at least `near` / 10, so that it has a logarithm.
        """
        self.eval()
        parts = [self(chunk.to(self.average.device)).cpu() for chunk in images.split(batch_size)]
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
