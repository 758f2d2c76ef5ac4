"""What the discriminators share: their output, coordinate convolutions, halving blocks and size checks."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError

POSE_DIM = 2  # (pitch, yaw)
SQRT_HALF = 0.5**0.5


class DiscOut(NamedTuple):
    """What a discriminator says about B images. Outputs for which a network has no head are None."""

    score: Tensor  # (B,) logit, large for real
    latent: Tensor | None = None  # (B, latent_dim) estimate of z
    pose: Tensor | None = None  # (B, 2) pitch and yaw in radians
    light: Tensor | None = None  # (B, 4) ambient, diffuse, dx, dy
    freq: Tensor | None = None  # (B, code_dim) raw FiLM frequencies, before the generator scales them
    phase: Tensor | None = None  # (B, code_dim) FiLM phases


class OneSize(nn.Module):
    """A discriminator that takes images of one size only, and may compare them with each other in groups."""

    group: ClassVar[int] = 1  # a batch must be smaller than this, or a multiple of it


def add_coords(x: Tensor) -> Tensor:
    """Append pixel coordinates to x (B, C, H, W): (B, C + 2, H, W), the row coordinate first.

    They run from -1 to 1, with the end points on the border pixels (CoordConv, Liu et al. 2018).
    """
    b, _, h, w = x.shape
    rows = torch.linspace(-1.0, 1.0, h, device=x.device, dtype=x.dtype).view(1, 1, h, 1).expand(b, 1, h, w)
    cols = torch.linspace(-1.0, 1.0, w, device=x.device, dtype=x.dtype).view(1, 1, 1, w).expand(b, 1, h, w)
    return torch.cat([x, rows, cols], dim=1)


class CoordConv(nn.Module):
    """3x3 convolution that also sees where it is: (B, C, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels + 2, out_channels, 3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(add_coords(x))
        return out


class FromRGB(nn.Module):
    """1x1 convolution that lifts an image (B, 3, S, S) to the channels of its level (B, C, S, S)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(3, channels, 1), nn.LeakyReLU(0.2))

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.model(images)
        return out


class ProgressiveBlock(nn.Module):
    """Residual block of two CoordConvs, halved by average pooling: (B, in, S, S) -> (B, out, S/2, S/2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            CoordConv(in_channels, out_channels),
            nn.LeakyReLU(0.2),
            CoordConv(out_channels, out_channels),
            nn.LeakyReLU(0.2),
        )
        self.proj = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.proj(F.avg_pool2d(x, 2))
        out: Tensor = (F.avg_pool2d(self.network(x), 2) + shortcut) * SQRT_HALF
        return out


class StridedBlock(nn.Module):
    """Residual block halved by a stride-2 convolution: (B, in, S, S) -> (B, out, S/2, S/2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            self.convolution(in_channels, out_channels, 1),
            nn.LeakyReLU(0.2),
            self.convolution(out_channels, out_channels, 2),
            nn.LeakyReLU(0.2),
        )
        self.proj = nn.Conv2d(in_channels, out_channels, 1, stride=2)
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.2)

    def convolution(self, in_channels: int, out_channels: int, stride: int) -> nn.Module:
        return nn.Conv2d(in_channels, out_channels, 3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (self.network(x) + self.proj(x)) * SQRT_HALF
        return out


class CoordStridedBlock(StridedBlock):
    """A `StridedBlock` of `CoordConv`s."""

    def convolution(self, in_channels: int, out_channels: int, stride: int) -> nn.Module:
        return CoordConv(in_channels, out_channels, stride)


def sides(smallest: int, largest: int) -> list[int]:
    """The powers of two from `smallest` to `largest`, which are powers of two themselves."""
    return [1 << k for k in range(smallest.bit_length() - 1, largest.bit_length())]


def check_max_size(max_size: int, smallest: int, largest: int) -> int:
    """Return `max_size` if it is a power of two in the range.

    Raises:
        ConfigError: It is not.
    """
    if max_size not in sides(smallest, largest):
        raise ConfigError(f"max_size is {max_size}; this discriminator comes in {sides(smallest, largest)} px")
    return max_size


def check_images(images: Tensor, smallest: int, largest: int) -> int:
    """The side S of a batch (B, 3, S, S).

    Raises:
        ValueError: The shape does not fit the network.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images have shape {tuple(images.shape)}; expected (B, 3, S, S), square RGB")
    side = images.shape[-1]
    if side not in sides(smallest, largest):
        allowed = sides(smallest, largest)
        raise ValueError(f"images are {side} px, but this discriminator takes {allowed}: resize them or set max_size")
    return side


@torch.no_grad()
def reads_poses(discriminator: nn.Module, side: int) -> bool:
    """Whether a discriminator of images of this side says from where they were taken."""
    training = discriminator.training
    out: DiscOut = discriminator.eval()(torch.zeros(1, 3, side, side))
    discriminator.train(training)
    return out.pose is not None


@torch.no_grad()
def traced(discriminator: nn.Module, images: Tensor) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """The layers that images (B, 3, S, S) pass on their way, in order, each with what it takes and makes (B, C, H, W).

    The discriminator works in evaluation mode, so that norms which count images do not count these.
    """
    found: list[tuple[nn.Module, Tensor, Tensor]] = []

    def look(layer: nn.Module, taken: tuple[Tensor, ...], out: object) -> None:
        if isinstance(out, Tensor) and out.ndim == 4:
            found.append((layer, taken[0], out))

    hooks = [layer.register_forward_hook(look) for layer in discriminator.modules()]
    training = discriminator.training
    try:
        discriminator.eval()(images)
    finally:
        discriminator.train(training)
        for hook in hooks:
            hook.remove()
    return found
