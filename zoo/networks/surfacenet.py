"""The surface-tracking network of ShadeGAN (Pan et al. 2021), which turns code and pose into a coarse depth map."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from .encoders import DoublingConv2d, NarrowConv2d

POSE_DIM = 2


def surface_inputs(frequencies: Tensor, phase_shifts: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
    """Scale the generator's state to the range on which SurfaceNet was trained.

    Args:
        frequencies, phase_shifts: (B, C) raw outputs of the mapping network, before the generator scales them.
        pose: (B, 2) pitch and yaw in radians, both pi/2 in front.

    Returns:
        Code (B, 2C), detached because the depth loss must train SurfaceNet only, and pose (B, 2).
    """
    code = torch.cat([frequencies, phase_shifts], dim=-1).detach() / 10
    return code, (pose - math.pi / 2) * 10


def _norm(channels: int, per_group: int) -> nn.GroupNorm:
    """GroupNorm with `per_group` channels per group, or one group if that does not divide them (tiny networks)."""
    return nn.GroupNorm(channels // per_group if channels % per_group == 0 else 1, channels)


class ResidualUp(nn.Module):
    """Pre-activation residual block that doubles the side: (B, I, S, S) -> (B, O, 2S, 2S)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.gn1 = _norm(in_channels, 8)
        self.conv1 = DoublingConv2d(in_channels, out_channels)
        self.gn2 = _norm(out_channels, 8)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.conv_sc = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        t = self.conv1(F.relu(self.gn1(x)))
        t = self.conv2(F.relu(self.gn2(t)))
        # A 1x1 convolution commutes with nearest upsampling, and costs a quarter when it comes first.
        out: Tensor = F.interpolate(self.conv_sc(x), scale_factor=2, mode="nearest") + t
        return out


class SurfaceNet(nn.Module):
    """Predicts where the surface is, so that the renderer samples a thin shell around it.

    The defaults give the official network, parameter names included.

    Args:
        code_dim: Length of the code, 2 * 9 * the hidden width of the generator.
        nf: Channels at the output side.
        size: Side of the depth map, a power of two from 16.
        latent_dim: Width of the code after the first layer.

    Raises:
        ConfigError: `size` is not a power of two from 16.
    """

    def __init__(self, code_dim: int = 4608, nf: int = 16, size: int = 128, latent_dim: int = 256) -> None:
        super().__init__()
        if size < 16 or size & (size - 1):
            raise ConfigError(f"surface map size is {size}; use a power of two from 16")
        ups = (size // 8).bit_length() - 1
        widths = [nf << k for k in range(ups, -1, -1)]
        top = widths[0]
        self.linear = nn.Linear(code_dim, latent_dim)
        self.network = nn.Sequential(
            nn.Conv2d(latent_dim + POSE_DIM, top, 1, bias=False), nn.ReLU(),
            nn.ConvTranspose2d(top, top, 4, 1, 0, bias=False), nn.ReLU(),
            nn.Conv2d(top, top, 3, 1, 1, bias=False), nn.ReLU(),
            nn.ConvTranspose2d(top, top, 4, 2, 1, bias=False), _norm(top, 4), nn.ReLU(),
            nn.Conv2d(top, top, 3, 1, 1, bias=False),
            *(ResidualUp(i, o) for i, o in pairwise(widths)),
            _norm(nf, 4), nn.ReLU(),
            NarrowConv2d(nf, 2, 5),
        )  # fmt: skip

    def forward(self, code: Tensor, pose: Tensor) -> Tensor:
        """Map code (B, code_dim) and pose (B, 2), scaled by `surface_inputs`, to (B, 2, size, size) in (0, 1).

        Channel 0 is depth along the ray: 0 at the near end of the sampled range and 1 at the far end. Channel 1 is
        unused; it exists because the released weights have it.
        """
        x = torch.cat([self.linear(code), pose], dim=-1)
        return torch.sigmoid(self.network(x[:, :, None, None]))
