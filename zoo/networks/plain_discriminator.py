"""A small discriminator for recipes that train on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .disc_blocks import POSE_DIM, DiscOut, check_images, check_max_size


def _halve(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 4, 2, 1), nn.LeakyReLU(0.2))


class PlainDiscriminator(nn.Module):
    """Stride-2 convolutions with LeakyReLU(0.2) and heads for score and pose.

    A 32 px image passes one convolution per entry of `channels`. Larger sides get further convolutions of width
    `channels[0]` in front; smaller sides skip the first ones. The first convolution on the path reads RGB directly and
    halves the image, so no layer runs at full resolution. Layers are named by the image side at which they act, so the
    weights of a small network are a subset of a larger one's, which can take them over. It works in `channels_last`.

    Args:
        max_size: Largest image side: 16, 32, 64 or 128.
        channels: The four widths of the 32 px network.
        latent_dim: Length of a latent that is also estimated; None estimates none.

    Raises:
        ConfigError: `max_size` is not one of these, or `channels` has not four entries.
    """

    def __init__(
        self,
        *,
        max_size: int = 32,
        channels: Sequence[int] = (32, 64, 128, 256),
        latent_dim: int | None = None,
    ) -> None:
        super().__init__()
        if len(channels) != 4:
            raise ConfigError(f"channels is {tuple(channels)}; give four widths, for the sides 32, 16, 8 and 4 px")
        self.max_size = check_max_size(max_size, 16, 128)
        self.latent_dim = latent_dim
        widths: dict[int, int] = dict(zip((128, 64, 32, 16, 8, 4), (channels[0], channels[0], *channels), strict=True))
        self.sides = [side for side in widths if side <= max_size]
        # Images start at 16 px; the 8 px entrance is what a 16 px image fades in against.
        self.from_rgb = nn.ModuleDict({str(s): _halve(3, widths[s]) for s in self.sides if s >= 8})
        self.blocks = nn.ModuleDict({str(s): _halve(widths[2 * s], widths[s]) for s in self.sides[1:]})
        self.head = nn.Conv2d(channels[-1], 1 + POSE_DIM + (latent_dim or 0), 2)

    def forward(self, images: Tensor, alpha: float = 1.0) -> DiscOut:
        """Judge images.

        Args:
            images: (B, 3, S, S) in [-1, 1], S a power of two from 16 to `max_size`.
            alpha: Weight in [0, 1] of the newest level while it fades in; the rest comes from the half-size image
                through the older entrance.

        Raises:
            ValueError: The images have another shape.
        """
        side = check_images(images, 16, self.max_size)
        x = self.from_rgb[str(side)](images)
        for s in self.sides[self.sides.index(side) + 1 :]:
            x = self.blocks[str(s)](x)
            if 2 * s == side and alpha < 1.0:
                x = torch.lerp(self.from_rgb[str(s)](images[..., ::2, ::2]), x, alpha)
        out = self.head(x).flatten(1)
        score, pose, latent = out.split([1, POSE_DIM, self.latent_dim or 0], dim=1)
        return DiscOut(score[:, 0], latent if self.latent_dim else None, pose)
