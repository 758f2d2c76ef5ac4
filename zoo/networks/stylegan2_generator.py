"""StyleGAN2's generator (Karras et al. 2020), with the parameter names of the widely used PyTorch checkpoints."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..runtime import draws
from .stylegan2 import StyledConv, ToMap, biased_leaky_relu, mapping_network, official_width


class Constant(nn.Module):
    """The learnt 4 x 4 features that every picture starts from."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, batch: int) -> Tensor:
        return self.input.expand(batch, -1, -1, -1)


class NoiseStrength(nn.Module):
    """The learnt strength of a layer's noise, 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class NoisyConv(StyledConv):
    """Modulated convolution, noise, bias and activation."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, *, up: bool = False) -> None:
        super().__init__(inputs, outputs, w_dim, up=up)
        self.noise = NoiseStrength()

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """Map x (B, inputs, H, W) under w (B, w_dim) to (B, outputs, H', W').

        `noise` broadcasts to (B, 1, H', W'); None draws it afresh.
        """
        x = self.conv(x, w)
        noise = draws.randn(len(x), 1, *x.shape[2:], dtype=x.dtype, device=x.device) if noise is None else noise
        return biased_leaky_relu(x + self.noise.weight * noise, self.activate.bias)


class StyleGAN2Generator(nn.Module):
    """The synthesis network, from w to a picture, and with it the mapping network `style`, from z to w.

    `style[a:b]` is a part of the mapping network: module 0 is its pixel norm, modules 1 to `n_mlp` are its layers.

    Args:
        size: Side of the pictures, a power of two from 8 to 1024.
        style_dim: Length of z and of w.
        n_mlp: Layers of the mapping network.
        width: Gives the number of channels at an image side; None takes the official ones.
        lr_mlp: Learning rate of the mapping network relative to the rest.

    Raises:
        ConfigError: `size` is not a power of two from 8 to 1024.
    """

    def __init__(
        self,
        size: int = 256,
        *,
        style_dim: int = 512,
        n_mlp: int = 8,
        width: Callable[[int], int] | None = None,
        lr_mlp: float = 0.01,
    ) -> None:
        super().__init__()
        if not 8 <= size <= 1024 or size.bit_count() != 1:
            raise ConfigError(f"size={size}: use a power of two from 8 to 1024")
        width = width or official_width()
        levels = int(math.log2(size))
        self.size, self.style_dim, self.n_latent = size, style_dim, 2 * levels - 2
        self.style = mapping_network(style_dim, style_dim, n_mlp, lr_mlp)
        self.input = Constant(width(4))
        self.conv1 = NoisyConv(width(4), width(4), style_dim)
        self.to_rgb1 = ToMap(width(4), 3, style_dim, upsample=False)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        for side in (2**k for k in range(3, levels + 1)):
            self.convs.append(NoisyConv(width(side // 2), width(side), style_dim, up=True))
            self.convs.append(NoisyConv(width(side), width(side), style_dim))
            self.to_rgbs.append(ToMap(width(side), 3, style_dim))
        for i in range(self.n_latent - 1):
            side = 2 ** ((i + 5) // 2)
            self.noises.register_buffer(f"noise_{i}", torch.randn(1, 1, side, side))

    def forward(self, w: Tensor, noise: Sequence[Tensor | None] | None = None) -> Tensor:
        """Draw pictures (B, 3, size, size), about [-1, 1], not clamped.

        Args:
            w: (B, style_dim) for all layers, or (B, n_latent, style_dim) with one for each layer.
            noise: One map for each convolution, where None is drawn afresh; by default the stored maps, so that w alone
                determines the picture.

        Raises:
            ValueError: `w` has another shape, or there is another number of noise maps.
        """
        w = self.per_layer(w)
        maps = list(self.noises.buffers()) if noise is None else noise
        if len(maps) != self.n_latent - 1:
            raise ValueError(f"{len(maps)} noise maps; give {self.n_latent - 1}, one for each convolution")
        x = self.conv1(self.input(len(w)), w[:, 0], maps[0])
        rgb: Tensor = self.to_rgb1(x, w[:, 1])
        for i, to_rgb in enumerate(self.to_rgbs):
            at = 2 * i + 1  # a layer that draws a picture shares its w with the convolution that follows it
            x = self.convs[2 * i](x, w[:, at], maps[at])
            x = self.convs[2 * i + 1](x, w[:, at + 1], maps[at + 1])
            rgb = to_rgb(x, w[:, at + 2], rgb)
        return rgb

    def per_layer(self, w: Tensor) -> Tensor:
        """Expand w (B, style_dim) to (B, n_latent, style_dim); w that is already so stays as it is.

        Raises:
            ValueError: `w` has another shape.
        """
        if w.shape[1:] not in ((self.style_dim,), (self.n_latent, self.style_dim)):
            raise ValueError(f"w is {tuple(w.shape)}; give (B, {self.style_dim}) or (B, {self.n_latent}, ...)")
        return w[:, None].expand(-1, self.n_latent, -1) if w.ndim == 2 else w
