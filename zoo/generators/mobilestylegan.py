"""MobileStyleGAN: a lightweight convolutional neural network for high-fidelity image synthesis (Belousov 2021).

A small StyleGAN2, taught by a large one: 10 million numbers draw pictures of 1024 px. It makes pictures only. Trained
on FFHQ, it is the 2D GAN from which GAN2Shape takes the shape of real faces: see `zoo.official.ffhq`.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.schemas import SceneConfig
from ..errors import ConfigError
from ..geometry import Camera, Light, Render
from ..networks.mobilestylegan import BANDS, MobileSynthesis
from ..networks.stylegan2 import mapping_network
from .base import Latents, PictureGAN


@dataclass
class MobileStyleGANConfig:
    """The published numbers."""

    z_dim: int = 512  # length of z, and of w
    size: int = 1024  # side of the pictures
    mapping_layers: int = 8
    mapping_lr: float = 0.01  # learning rate of the mapping network, relative to the others
    channel_base: int = 32768  # width at a side is channel_base / side, at most channel_max
    channel_max: int = 512
    scene: SceneConfig = field(default_factory=SceneConfig)

    def __post_init__(self) -> None:
        for key in ("z_dim", "mapping_layers"):
            if getattr(self, key) < 1:
                raise ConfigError(f"generator.{key}={getattr(self, key)}: use 1 or more")
        if not 16 <= self.size <= 1024 or self.size.bit_count() != 1:
            raise ConfigError(f"generator.size={self.size}: use a power of two from 16 to 1024")
        if odd := [width for width in self.widths if width < BANDS or width % BANDS]:
            raise ConfigError(f"generator.channel_base and channel_max give a width of {odd[0]}: use multiples of 4")

    @property
    def widths(self) -> list[int]:
        """Channels at the sides 4, 8, ..., half the picture's."""
        sides = [4 << level for level in range(self.size.bit_length() - 3)]
        return [min(self.channel_base // side, self.channel_max) for side in sides]


class MobileStyleGAN(PictureGAN):
    """MobileStyleGAN's generator. The code is w (B, z_dim), or one for each layer, (B, code_layers, z_dim)."""

    Config = MobileStyleGANConfig
    config: MobileStyleGANConfig

    def __init__(self, config: MobileStyleGANConfig) -> None:
        super().__init__(config)
        c = config
        self.mapping = mapping_network(c.z_dim, c.z_dim, c.mapping_layers, c.mapping_lr)
        self.network = MobileSynthesis(c.widths, c.z_dim)
        self.code_layers = self.network.n_latent

    @classmethod
    def tiny(cls) -> MobileStyleGANConfig:
        return MobileStyleGANConfig(z_dim=8, size=16, mapping_layers=2, channel_max=8)

    def synthesise(self, w: Tensor) -> Tensor:
        """Draw pictures (B, 3, size, size) in [-1, 1] of w (B, z_dim) or (B, code_layers, z_dim)."""
        out: Tensor = self.network(w).clamp(-1, 1)
        return out

    def style_weights(self, layers: int) -> Tensor:
        return torch.cat([scale.style.weight for scale in self.network.modulations()[:layers]])

    def forward(self, latents: Latents, camera: Camera, light: Light | None = None, sampling: Any = None) -> Render:
        """Render `rgb` alone."""
        size = camera.expand(len(latents)).size
        rgb: Tensor = self.network(self.code(latents))
        if size != self.config.size:
            rgb = F.interpolate(rgb, size=(size, size), mode="bilinear", antialias=True)
        return Render(rgb=rgb if self.training else rgb.clamp(-1, 1))  # a clamped picture could not learn

    def schedule(self, kimg: float) -> Any:
        """Sampling does not change during training."""
        return None
