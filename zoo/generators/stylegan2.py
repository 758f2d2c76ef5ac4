"""StyleGAN2: analyzing and improving the image quality of StyleGAN (Karras, Laine, Aittala, Hellsten, Lehtinen, Aila;
CVPR 2020).

A latent z becomes a style w; w scales the channels of every layer of a convolutional network that starts from a
constant; the picture is a sum over all resolutions. It makes pictures only: pose, light and shape are hidden in w, from
where GAN2Shape recovers them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.schemas import SceneConfig
from ..errors import ConfigError
from ..geometry import Camera, Light, Render
from ..networks.stylegan2_generator import StyleGAN2Generator
from .base import Latents, PictureGAN


@dataclass
class StyleGAN2Config:
    """Widths as in the paper's config E; twice the `channel_base` is config F."""

    z_dim: int = 512  # length of z, and of w
    size: int = 256  # side of the pictures
    mapping_layers: int = 8
    mapping_lr: float = 0.01  # learning rate of the mapping network, relative to the others
    channel_base: int = 16384  # width at an image side is channel_base / side, at most channel_max
    channel_max: int = 512
    scene: SceneConfig = field(default_factory=SceneConfig)

    def __post_init__(self) -> None:
        for key in ("z_dim", "mapping_layers", "channel_max"):
            if getattr(self, key) < 1:
                raise ConfigError(f"generator.{key}={getattr(self, key)}: use 1 or more")
        if not 8 <= self.size <= 1024 or self.size.bit_count() != 1:
            raise ConfigError(f"generator.size={self.size}: use a power of two from 8 to 1024")
        if self.channel_base < self.size:
            raise ConfigError(f"generator.channel_base={self.channel_base}: use at least size={self.size}")


class StyleGAN2(PictureGAN):
    """StyleGAN2's generator. The code is w (B, z_dim), or one for each layer, (B, code_layers, z_dim)."""

    Config = StyleGAN2Config
    config: StyleGAN2Config

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__(config)
        c = config
        self.network = StyleGAN2Generator(
            c.size,
            style_dim=c.z_dim,
            n_mlp=c.mapping_layers,
            width=lambda side: min(c.channel_base // side, c.channel_max),
            lr_mlp=c.mapping_lr,
        )
        self.code_layers = self.network.n_latent

    @classmethod
    def tiny(cls) -> StyleGAN2Config:
        return StyleGAN2Config(z_dim=8, size=16, mapping_layers=2, channel_max=8)

    @torch.no_grad()
    def initialise(self) -> None:
        """Make pictures start grey: saturated colours would have to be unlearnt."""
        for layer in (self.network.to_rgb1, *self.network.to_rgbs):
            layer.conv.weight.mul_(0.1)

    @property
    def mapping(self) -> nn.Module:  # type: ignore[override]  # the network owns it, under the published keys
        return self.network.style

    def synthesise(self, w: Tensor) -> Tensor:
        """Draw pictures (B, 3, size, size) of w (B, z_dim) or (B, code_layers, z_dim), with the stored noise."""
        out: Tensor = self.network(w).clamp(-1, 1)
        return out

    def split_code(self, code: Tensor) -> Tensor:
        return self.network.per_layer(code)

    def style_weights(self, layers: int) -> Tensor:
        convs = [self.network.conv1, *self.network.convs][:layers]
        return torch.cat([conv.conv.modulation.weight for conv in convs])

    def forward(
        self,
        latents: Latents,
        camera: Camera,
        light: Light | None = None,
        sampling: Sequence[Tensor | None] | None = None,
    ) -> Render:
        """Render `rgb` alone. `sampling` holds noise maps as the network takes them; None: those of the weights."""
        size = camera.expand(len(latents)).size
        rgb: Tensor = self.network(self.code(latents), sampling)
        if size != self.config.size:
            rgb = F.interpolate(rgb, size=(size, size), mode="bilinear", antialias=True)
        return Render(rgb=rgb if self.training else rgb.clamp(-1, 1))  # a clamped picture could not learn

    def schedule(self, kimg: float) -> Any:
        return [None] * (self.code_layers - 1)  # fresh noise in every layer
