"""Building blocks of StyleGAN2 (Karras et al. 2020): modulated convolutions, FIR resampling, discriminator.

They are plain torch, written from the paper's formulas. Parameter names are those of the widely used PyTorch
checkpoints, so that their weights load under their own keys.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .disc_blocks import POSE_DIM, DiscOut, OneSize, check_images, check_max_size

BLUR = (1.0, 3.0, 3.0, 1.0)


def fir_kernel(taps: Sequence[float] = BLUR, gain: float = 1.0) -> Tensor:
    """A separable low-pass kernel (T, T) that sums to `gain`."""
    line = torch.tensor(taps, dtype=torch.float32)
    square = line[:, None] * line[None, :]
    return square / square.sum() * gain


def upfirdn(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Insert zeros, pad, filter, and drop samples.

    Args:
        x: (B, C, H, W).
        kernel: (T, T) filter.
        up: The side grows by this factor, by zeros between the samples.
        down: Every `down`-th sample is kept.
        pad: Zeros at the left and top, and at the right and bottom.

    Returns:
        (B, C, (H up + pad0 + pad1 - T) // down + 1, ...).
    """
    b, c, h, w = x.shape
    if up > 1:
        x = F.pad(x.reshape(b, c, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(b, c, h * up, w * up)
    x = F.pad(x, (pad[0], pad[1], pad[0], pad[1]))
    weight = kernel.flip(0, 1)[None, None].expand(c, 1, *kernel.shape)
    return F.conv2d(x, weight.to(x.dtype), stride=down, groups=c)


class Blur(nn.Module):
    """A low-pass FIR filter of four taps, with padding."""

    kernel: Tensor

    def __init__(self, pad: tuple[int, int], gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(gain=gain))
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        return upfirdn(x, self.kernel, pad=self.pad)


class Upsample(nn.Module):
    """Twice the side, by zero insertion and FIR filtering."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(gain=4.0))

    def forward(self, x: Tensor) -> Tensor:
        return upfirdn(x, self.kernel, up=2, pad=(2, 1))


class PixelNorm(nn.Module):
    """Scale each vector to unit mean square."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def biased_leaky_relu(x: Tensor, bias: Tensor) -> Tensor:
    """leaky_relu(x + bias, 0.2) * sqrt(2); the gain keeps the variance."""
    return F.leaky_relu(x + bias.reshape(1, -1, *[1] * (x.ndim - 2)), 0.2) * math.sqrt(2)


class Activation(nn.Module):
    """`biased_leaky_relu` with a bias of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return biased_leaky_relu(x, self.bias)


class EqualLinear(nn.Module):
    """A linear layer whose weights are N(0, 1) and are scaled at run time, so that all layers learn at one speed.

    Args:
        inputs, outputs: Numbers of channels.
        bias: First value of the bias.
        lr_mul: Extra factor on the effective learning rate.
        activation: Whether the layer ends with `biased_leaky_relu`.
    """

    def __init__(
        self, inputs: int, outputs: int, *, bias: float = 0.0, lr_mul: float = 1.0, activation: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.scale, self.lr_mul, self.activation = lr_mul / math.sqrt(inputs), lr_mul, activation

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight * self.scale, self.bias * self.lr_mul
        return biased_leaky_relu(F.linear(x, weight), bias) if self.activation else F.linear(x, weight, bias)


class EqualConv2d(nn.Module):
    """A convolution whose weights are scaled at run time, with or without a bias."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.stride = 1 / math.sqrt(inputs * kernel**2), stride
        self.padding = kernel // 2 if stride == 1 else 0  # a strided one follows a blur, which has already padded

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)


def mapping_network(z_dim: int, w_dim: int, layers: int, lr_mul: float = 0.01) -> nn.Sequential:
    """The network from z (B, z_dim) to w (B, w_dim): a pixel norm and `layers` activated linear layers."""
    widths = [z_dim, *[w_dim] * layers]
    pairs = itertools.pairwise(widths)
    return nn.Sequential(PixelNorm(), *(EqualLinear(a, b, lr_mul=lr_mul, activation=True) for a, b in pairs))


class ModulatedConv2d(nn.Module):
    """A convolution whose weights are scaled by a style, per input channel, and then (demodulation) to unit variance.

    The inputs and outputs are scaled instead of the weights. The sum is the same, and one weight serves the whole batch
    instead of one for every image.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        w_dim: int,
        *,
        demodulate: bool = True,
        up: bool = False,
        down: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, kernel, kernel))
        self.modulation = EqualLinear(w_dim, inputs, bias=1.0)
        self.scale, self.demodulate, self.padding = 1 / math.sqrt(inputs * kernel**2), demodulate, kernel // 2
        self.up = up
        self.blur = Blur((1, 1), gain=4.0) if up else Blur((2, 2)) if down else None

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map x (B, inputs, H, W) under styles w (B, w_dim) to (B, outputs, H, W).

        With `up` the result has twice that side, with `down` half of it.
        """
        style, weight = self.modulation(w), self.weight[0] * self.scale
        x = x * style[:, :, None, None]
        if self.blur is None:
            x = F.conv2d(x, weight, padding=self.padding)
        elif self.up:
            x = self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        else:
            x = F.conv2d(self.blur(x), weight, stride=2)
        if self.demodulate:
            norm = torch.rsqrt(style.square() @ weight.square().sum((2, 3)).T + 1e-8)
            x = x * norm[:, :, None, None]
        return x


class StyledConv(nn.Module):
    """Modulated 3 x 3 convolution, bias and activation, without noise, so that the result is a function of w alone."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inputs, outputs, 3, w_dim, up=up)
        self.activate = Activation(outputs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        out: Tensor = self.activate(self.conv(x, w))
        return out


class ToMap(nn.Module):
    """Features to a map of `channels`: a modulated 1 x 1 convolution, added to the upsampled map of the level below."""

    def __init__(self, inputs: int, channels: int, w_dim: int, *, upsample: bool = True) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inputs, channels, 1, w_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.upsample = Upsample() if upsample else None

    def forward(self, x: Tensor, w: Tensor, below: Tensor | None = None) -> Tensor:
        out: Tensor = self.conv(x, w) + self.bias
        if below is not None:
            assert self.upsample is not None
            out = out + self.upsample(below)
        return out


def _conv(inputs: int, outputs: int, kernel: int, *, down: bool = False, activate: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    if down:
        pad = 4 - 2 + kernel - 1  # of the four taps, less the stride, plus the kernel's own
        layers.append(Blur(((pad + 1) // 2, pad // 2)))
    layers.append(EqualConv2d(inputs, outputs, kernel, stride=2 if down else 1, bias=not activate and not down))
    if activate:
        layers.append(Activation(outputs))
    return nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """Two convolutions beside a 1 x 1 shortcut, both halving the side; their sum over sqrt(2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, inputs, 3)
        self.conv2 = _conv(inputs, outputs, 3, down=True)
        self.skip = _conv(inputs, outputs, 1, down=True, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (self.conv2(self.conv1(x)) + self.skip(x)) / math.sqrt(2)
        return out


def minibatch_std(x: Tensor, group: int) -> Tensor:
    """Append a channel to x (B, C, H, W): the mean standard deviation over groups of images of the batch.

    Raises:
        ValueError: The batch is larger than a group, and not a multiple of it.
    """
    b, _, h, w = x.shape
    group = min(b, group)
    if b % group:
        raise ValueError(f"a batch of {b} cannot be split into groups of {group}; use a multiple of {group}")
    parts = x.reshape(group, -1, *x.shape[1:])
    std = (parts.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3), keepdim=True)
    return torch.cat([x, std.repeat(group, 1, h, w)], 1)


def official_width(multiplier: int = 1) -> Callable[[int], int]:
    """The official number of channels at an image side: 512 up to 32 px, then 256, 128, ... times `multiplier`."""
    return lambda side: 512 if side <= 32 else 16384 * multiplier // side


class StyleDiscriminator(OneSize):
    """StyleGAN2's residual discriminator, with heads for score and pose.

    Args:
        max_size: Side of all images, a power of two from 8 to 1024.
        channels: One width for each side from `max_size` down to 4; None takes the official ones.

    Raises:
        ConfigError: `max_size` is not such a power, or there is another number of channels.
    """

    group = 4

    def __init__(self, *, max_size: int = 64, channels: Sequence[int] | None = None) -> None:
        super().__init__()
        self.max_size = check_max_size(max_size, 8, 1024)
        sides = [2**k for k in range(int(math.log2(max_size)), 1, -1)]
        if channels is not None and len(channels) != len(sides):
            raise ConfigError(f"channels has {len(channels)} widths; give {len(sides)}, for the sides {sides}")
        widths = [official_width()(s) for s in sides] if channels is None else list(channels)
        blocks = [ResidualBlock(a, b) for a, b in itertools.pairwise(widths)]
        self.convs = nn.Sequential(_conv(3, widths[0], 1), *blocks)
        self.final_conv = _conv(widths[-1] + 1, widths[-1], 3)
        self.final_linear = nn.Sequential(
            EqualLinear(widths[-1] * 16, widths[-1], activation=True), EqualLinear(widths[-1], 1)
        )
        self.pose_head = EqualLinear(widths[-1], POSE_DIM)

    def forward(self, images: Tensor, alpha: float = 1.0) -> DiscOut:
        """Judge images (B, 3, S, S) in [-1, 1]; B is at most 3, or a multiple of 4.

        `alpha` is there for discriminators that grow, and is not used.

        Raises:
            ValueError: The images have another side, or the batch another size.
        """
        side = check_images(images, self.max_size, self.max_size)
        assert side == self.max_size
        x = self.final_conv(minibatch_std(self.convs(images), self.group)).flatten(1)
        x = self.final_linear[0](x)
        return DiscOut(self.final_linear[1](x)[:, 0], None, self.pose_head(x))
