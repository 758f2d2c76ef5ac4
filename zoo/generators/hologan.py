"""HoloGAN: unsupervised learning of 3D representations from natural images (Nguyen-Phuoc, Li, Theis, Richardt, Yang;
ICCV 2019).

A learnt volume of features takes its shape from the latent, is turned as a rigid body until it faces the camera, and is
drawn by a 2D network. The turn is all that is 3D: there is no density, so there is no depth, no mask and no mesh. The
latent acts only through adaptive instance normalisation (AdaIN).
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.schemas import SceneConfig
from ..errors import ConfigError
from ..geometry import Camera, Light, Render
from .base import Generator, Latents

SIDE = 16  # side of the volume when it is turned, and of the first 2D features


@dataclass
class HoloGANConfig:
    """The published code's 64 px network."""

    z_dim: int = 128
    size: int = 64  # side of the pictures
    channels: int = 64  # width of the volume when it is turned; the other widths are multiples of it
    reverse: bool = False  # turn the other way: pictures alone do not tell which way a network has learnt to turn
    scene: SceneConfig = field(default_factory=SceneConfig)

    def __post_init__(self) -> None:
        if not 2 * SIDE <= self.size <= 512 or self.size.bit_count() != 1:
            raise ConfigError(f"generator.size={self.size}: use a power of two from {2 * SIDE} to 512")
        least = max(1, self.size // 64)  # the narrowest layer is that of the picture, of so many times fewer channels
        for key, value in (("z_dim", 1), ("channels", least)):
            if getattr(self, key) < value:
                raise ConfigError(f"generator.{key}={getattr(self, key)}: use {value} or more")


class HoloGAN(Generator):
    """HoloGAN's generator.

    The code is the latent in [-1, 1] (B, z_dim), or one for each AdaIN, (B, code_layers, z_dim): the first three shape
    the volume, the others the picture. Only the direction and the image size of a camera count: the turn is
    orthographic, about the middle of the volume.
    """

    Config = HoloGANConfig
    config: HoloGANConfig
    is_3d = False
    second_derivatives = torch.__version__ >= "2.12"  # before, the look-ups that turn the volume had none

    def __init__(self, config: HoloGANConfig) -> None:
        super().__init__(config)
        c, z = config.channels, config.z_dim
        flat = [16 * c, 4 * c, *(c >> level for level in range(int(math.log2(config.size // SIDE)) - 1))]
        self.mapping = Uniform()
        self.constant = nn.Parameter(torch.randn(1, 8 * c, 4, 4, 4))
        self.start = AdaIN(8 * c, z)
        self.shape = nn.ModuleList(
            Styled(nn.ConvTranspose3d(a, b, 3, 2, 1, 1, bias=False), b, z) for a, b in pairwise((8 * c, 2 * c, c))
        )
        self.projection = nn.Conv2d(SIDE * c, flat[0], 1)
        self.picture = nn.ModuleList(
            Styled(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), b, z) for a, b in pairwise(flat)
        )
        self.to_rgb = nn.Conv2d(flat[-1], 3, 3, padding=1)
        self.code_layers = 1 + len(self.shape) + len(self.picture)

    @classmethod
    def tiny(cls) -> HoloGANConfig:
        return HoloGANConfig(z_dim=8, size=32, channels=4)

    def forward(self, latents: Latents, camera: Camera, light: Light | None = None, sampling: Any = None) -> Render:
        """Render `rgb` alone."""
        camera = camera.to(self.device).expand(len(latents))
        code = self.code(latents)
        styles = list(code.unbind(1) if code.ndim == 3 else [code] * self.code_layers)
        x = F.leaky_relu(self.start(self.constant.expand(len(code), -1, -1, -1, -1), styles.pop(0)), 0.2)
        for layer in self.shape:
            x = layer(x, styles.pop(0))
        x = turned(x, self.rotation(camera)).flatten(1, 2)  # depth becomes channels, so the next layer sees whole rays
        x = F.leaky_relu(self.projection(x), 0.2)
        for layer in self.picture:
            x = layer(x, styles.pop(0))
        rgb = self.to_rgb(x).tanh()
        if camera.size != self.config.size:
            rgb = F.interpolate(rgb, size=(camera.size, camera.size), mode="bilinear", antialias=True)
        return Render(rgb=rgb)

    @property
    def picture_size(self) -> int:
        return self.config.size

    def rotation(self, camera: Camera) -> Tensor:
        """Rotations (B, 3, 3) from camera to world axes.

        A volume that is mirrored in depth and turns the other way looks the same, so training settles for either;
        `reverse` brings a mirrored one to the convention.
        """
        rotation = camera.cam2world[:, :3, :3]
        if not self.config.reverse:
            return rotation
        deep = torch.arange(3, device=rotation.device) == 2
        return torch.where(deep ^ deep[:, None], -rotation, rotation)

    def schedule(self, kimg: float) -> None:
        return None


class Uniform(nn.Module):
    """Turns standard normal numbers into uniform ones in [-1, 1], which are the published latents."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.erf(z / math.sqrt(2))


class AdaIN(nn.Module):
    """Normalises each feature map on its own, then scales and shifts it as the latent says (Huang, Belongie 2017)."""

    def __init__(self, channels: int, z_dim: int) -> None:
        super().__init__()
        self.style = nn.Linear(z_dim, 2 * channels)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Style features (B, channels, ...) by latents (B, z_dim)."""
        scale, shift = self.style(z).view(len(x), -1, *[1] * (x.ndim - 2)).chunk(2, 1)
        return torch.addcmul(shift, F.instance_norm(x), 1 + scale)


class Styled(nn.Module):
    """A convolution, AdaIN and LeakyReLU(0.2)."""

    def __init__(self, conv: nn.Module, channels: int, z_dim: int) -> None:
        super().__init__()
        self.conv, self.adain = conv, AdaIN(channels, z_dim)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return F.leaky_relu(self.adain(self.conv(x), z), 0.2)


def turned(volume: Tensor, rotation: Tensor) -> Tensor:
    """Turn volumes to face their cameras, with linear interpolation; what lies outside a volume is 0.

    Args:
        volume: (B, C, D, H, W) covers [-1, 1]^3 of the world: layers from back to front (Z), rows from top to bottom
            (Y), columns from left to right (X).
        rotation: (B, 3, 3) has the camera's right, up and back in the world as its columns.

    Returns:
        Volumes (B, C, D, H, W) in the same layout, in the camera's axes.
    """
    _, _, d, h, w = volume.shape
    z, y, x = (torch.linspace(-1, 1, n, device=volume.device) for n in (d, h, w))
    seen = torch.stack(torch.meshgrid(z, -y, x, indexing="ij")[::-1], -1)
    right, up, back = (seen.view(-1, 3) @ rotation.transpose(1, 2)).unbind(-1)
    grid = torch.stack([right, -up, back], -1)  # grid_sample counts rows downwards
    return F.grid_sample(volume, grid.view(-1, d, h, w, 3), align_corners=True)
