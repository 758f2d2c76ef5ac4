"""MobileStyleGAN's synthesis network (Belousov 2021): StyleGAN2 made small enough for phones.

It makes three changes. 3 x 3 convolutions are depthwise separable. The scales that keep the variance are part of the
weights (StyleGAN2 computes them anew from every w). Levels pass on wavelet coefficients, which an inverse Haar
transform turns into a map of twice the side and a quarter of the channels, so nothing is upsampled by filters.
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BANDS = 4  # bands of a wavelet transform: means, and three kinds of differences


def inverse_haar(x: Tensor) -> Tensor:
    """Turn wavelet coefficients (B, 4C, H, W) into a map (B, C, 2H, 2W) by the inverse orthonormal Haar transform.

    The first C channels are the means. After them come, for each of the C, the differences between rows, between
    columns, and across both.
    """
    b, c, h, w = x.shape[0], x.shape[1] // BANDS, *x.shape[2:]
    mean, (rows, columns, both) = x[:, :c], x[:, c:].reshape(b, c, 3, h, w).unbind(2)
    left, right = mean + columns, mean - columns
    tilt, untilt = rows + both, rows - both
    pixels = torch.stack([left + tilt, right + untilt, left - tilt, right - untilt], 2)
    return F.pixel_shuffle(pixels.flatten(1, 2) / 2, 2)


def haar(x: Tensor) -> Tensor:
    """The wavelet coefficients (B, 4C, H, W) of a map (B, C, 2H, 2W), in the order of `inverse_haar`."""
    a, b, c, d = (x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1))
    differences = torch.stack([a + b - c - d, a - b + c - d, a - b - c + d], 2)
    return torch.cat([a + b + c + d, differences.flatten(1, 2)], 1) / 2


class Modulation(nn.Module):
    """Scales every channel of x (B, channels, H, W) by a number computed from w (B, w_dim)."""

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.style = nn.Linear(w_dim, channels)
        nn.init.normal_(self.style.weight, std=1 / math.sqrt(w_dim))
        nn.init.ones_(self.style.bias)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        out: Tensor = x * self.style(w)[:, :, None, None]
        return out


class MobileConv(nn.Module):
    """Modulated 3 x 3 convolution, noise that is always the same, bias, activation.

    Args:
        inputs, outputs: Numbers of channels.
        w_dim: Length of w.
        side: Side of the maps.
        separable: Whether the convolution is one 3 x 3 filter for each channel, then a 1 x 1 convolution.
    """

    def __init__(self, inputs: int, outputs: int, w_dim: int, side: int, *, separable: bool = True) -> None:
        super().__init__()
        self.modulation = Modulation(inputs, w_dim)
        self.depthwise = nn.Parameter(torch.randn(inputs, 1, 3, 3)) if separable else None
        kernel = 1 if separable else 3
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.noise = nn.Parameter(torch.zeros(1, 1, side, side))  # a map times its strength
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = 1 / math.sqrt(9 * inputs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map x (B, inputs, H, W) under w (B, w_dim) to (B, outputs, H, W)."""
        x = self.modulation(x, w)
        if self.depthwise is not None:
            x = F.conv2d(x, self.depthwise, padding=1, groups=len(self.depthwise))
        x = F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[-1] // 2)
        return F.leaky_relu(x + self.noise, 0.2)


class Level(nn.Module):
    """From features (B, inputs, H, W) to (B, outputs, 2H, 2W): modulation, inverse wavelets, two convolutions."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, side: int) -> None:
        super().__init__()
        self.up = Modulation(inputs, w_dim)
        self.conv1 = MobileConv(inputs // BANDS, outputs, w_dim, side)
        self.conv2 = MobileConv(outputs, outputs, w_dim, side)

    def forward(self, x: Tensor, w: Sequence[Tensor]) -> Tensor:
        """Map features x under three w (B, w_dim), one for the modulation and one for each convolution."""
        out: Tensor = self.conv2(self.conv1(inverse_haar(self.up(x, w[0])), w[1]), w[2])
        return out


class ToPicture(nn.Module):
    """From features (B, inputs, H, W) to a picture (B, 3, 2H, 2W), by way of its wavelet coefficients."""

    def __init__(self, inputs: int, w_dim: int) -> None:
        super().__init__()
        self.modulation = Modulation(inputs, w_dim)
        self.conv = nn.Conv2d(inputs, 3 * BANDS, 1)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return inverse_haar(self.conv(self.modulation(x, w)))


class MobileSynthesis(nn.Module):
    """The synthesis network, from w to a picture.

    Args:
        widths: Channels at the sides 4, 8, 16, ...; the picture has twice the last side.
        w_dim: Length of w.
    """

    def __init__(self, widths: Sequence[int], w_dim: int) -> None:
        super().__init__()
        self.w_dim, self.n_latent = w_dim, 3 * len(widths) - 1
        self.input = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.conv1 = MobileConv(widths[0], widths[0], w_dim, 4, separable=False)
        pairs = itertools.pairwise(widths)
        self.levels = nn.ModuleList(Level(a, b, w_dim, 8 << i) for i, (a, b) in enumerate(pairs))
        self.to_picture = ToPicture(widths[-1], w_dim)

    def modulations(self) -> list[Modulation]:
        """The modulations, through which w enters, from the first to the last but that of the picture."""
        out = [self.conv1.modulation]
        for level in self.levels:
            assert isinstance(level, Level)
            out += [level.up, level.conv1.modulation, level.conv2.modulation]
        return out

    def features(self, w: Tensor, levels: int | None = None) -> Tensor:
        """Features (B, width, side, side) that the first `levels` levels, by default all, make of w.

        w is (B, n_latent, w_dim).
        """
        x: Tensor = self.conv1(self.input.expand(len(w), -1, -1, -1), w[:, 0])
        for i, level in enumerate(self.levels[:levels]):
            x = level(x, w[:, 1 + 3 * i : 4 + 3 * i].unbind(1))
        return x

    def forward(self, w: Tensor) -> Tensor:
        """Draw pictures (B, 3, S, S), about [-1, 1], not clamped, from w (B, w_dim) or (B, n_latent, w_dim).

        Raises:
            ValueError: `w` has another shape.
        """
        if w.shape[1:] not in ((self.w_dim,), (self.n_latent, self.w_dim)):
            raise ValueError(f"w is {tuple(w.shape)}; give (B, {self.w_dim}) or (B, {self.n_latent}, {self.w_dim})")
        w = w[:, None].expand(-1, self.n_latent, -1) if w.ndim == 2 else w
        out: Tensor = self.to_picture(self.features(w), w[:, -1])
        return out
