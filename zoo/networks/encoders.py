"""Convolutional encoders and encoder-decoders of the photometric methods and of the depth probe.

They follow the supplementary material of Wu et al. 2020. Every network is one `nn.Sequential` called `network`, so that
the keys of the official checkpoints fit. Published sizes are 64 px (Unsup3D) and 128 px (GAN2Shape, with one level
more); 32 px has one level fewer. `ResEncoder` is GAN2Shape's own (Pan et al. 2021, appendix).

Two of their convolutions are computed in another order of arithmetic, which takes fewer operations. Keys and weights
are those of `nn.Conv2d`, and results differ by rounding alone.
"""

from collections.abc import Callable
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

_LANES = 16  # channels that a processor computes at once, however few a layer has


def levels(size: int) -> int:
    """The number of times that a photograph is halved until 4x4 pixels are left.

    Args:
        size: Image side in pixels.

    Raises:
        ValueError: `size` is not a power of two >= 32.
    """
    if size < 32 or size & (size - 1):
        raise ValueError(f"size must be a power of two and at least 32, got {size}")
    return size.bit_length() - 3


def check_image(image: Tensor, cin: int, size: int) -> None:
    """Check that `image` is (B,cin,size,size).

    Raises:
        ValueError: It has another shape.
    """
    if image.shape[1:] != (cin, size, size):
        expected = f"(B,{cin},{size},{size})"
        raise ValueError(f"image must be {expected} for this network, got {tuple(image.shape)}")


def through_bottleneck(cin: int, widths: list[int], zdim: int, norm: Callable[[int], nn.Module]) -> list[nn.Module]:
    """Layers that take an image down to 4x4 pixels, through a 1x1 code and back to 4x4 pixels.

    Args:
        cin: Channels of the image.
        widths: Channels of each level, the first at half the image's side.
        zdim: Channels of the code.
        norm: Makes the norm layer of a given width.
    """
    layers: list[nn.Module] = []
    for inner, outer in zip([cin, *widths], widths, strict=False):
        layers.append(nn.Conv2d(inner, outer, 4, 2, 1, bias=False))
        # The last level is 4x4 pixels and goes on without a norm.
        layers += [] if outer == widths[-1] else [norm(outer)]
        layers.append(nn.LeakyReLU(0.2, inplace=True))
    top = widths[-1]
    layers += [nn.Conv2d(top, zdim, 4, bias=False), nn.ReLU(inplace=True)]
    return [*layers, nn.ConvTranspose2d(zdim, top, 4, bias=False), nn.ReLU(inplace=True)]


class NarrowConv2d(nn.Conv2d):
    """A convolution of stride 1 to very few channels, which keeps the side of its picture.

    A processor computes 16 output channels in the time of one. So the pixels of 2 x 2 or 4 x 4 blocks take the places
    of channels: the kernel, shifted to each pixel of a block, gives a wider kernel whose stride is the block's side.

    Args:
        inner: Channels of the input.
        outer: Channels of the output.
        kernel: Side of the kernel, odd.
    """

    def __init__(self, inner: int, outer: int, kernel: int) -> None:
        super().__init__(inner, outer, kernel, 1, kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B,inner,H,W) to (B,outer,H,W)."""
        block = next((side for side in (4, 2) if self.out_channels * side**2 <= _LANES), 1)
        if block == 1 or x.device.type != "cpu" or x.shape[-2] % block or x.shape[-1] % block:
            return super().forward(x)
        wide = self.kernel_size[0] + block - 1
        shifted = F.pad(self.weight, (block - 1,) * 4).unfold(2, wide, 1).unfold(3, wide, 1).flip(2, 3)
        kernels = shifted.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).to(x.dtype)
        return F.pixel_shuffle(F.conv2d(x, kernels, stride=block, padding=self.padding), block)


class DoublingConv2d(nn.Conv2d):
    """A picture is doubled, each pixel to 2 x 2 equal ones, and convolved by a 3 x 3 kernel.

    Of nine pixels under the kernel only four differ. A transposed convolution whose 4 x 4 kernel holds the sums of
    those weights that meet the same pixel needs four products in place of nine, and no doubled picture in memory.

    Args:
        inner: Channels of the input.
        outer: Channels of the output.
    """

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(inner, outer, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Double and convolve (B,inner,H,W) to (B,outer,2H,2W)."""
        turned = F.pad(self.weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
        return F.conv_transpose2d(x, 4 * F.avg_pool2d(turned, 2, 1), stride=2, padding=1)


class EDDeconv(nn.Module):
    """The depth and albedo network of Unsup3D: from an image to a map of its size, through a 1x1 bottleneck.

    Args:
        cin: Channels of the image.
        cout: Channels of the map: 1 for depth, 3 for albedo.
        nf: Width at the first level; it doubles at each level.
        zdim: Width of the bottleneck.
        groups: Group-norm groups at width `nf`; they double with the width.
        size: Image side in pixels, a power of two, at least 32.
        tanh: Whether the network ends with a tanh (albedo) or not (depth).

    Raises:
        ValueError: `size` is not a power of two >= 32, or `nf` is not a multiple of `groups`.
    """

    def __init__(
        self,
        cin: int = 3,
        cout: int = 1,
        *,
        nf: int = 64,
        zdim: int = 256,
        groups: int = 16,
        size: int = 64,
        tanh: bool = False,
    ) -> None:
        super().__init__()
        if nf % groups:
            raise ValueError(f"nf must be a multiple of groups, got nf={nf}, groups={groups}")
        self.size = size
        self.cin = cin
        widths = [nf * 2**level for level in range(levels(size))]

        def norm(width: int) -> nn.Module:
            return nn.GroupNorm(groups * width // nf, width)

        def conv(inner: int, outer: int, kernel: int) -> nn.Module:
            return nn.Conv2d(inner, outer, kernel, 1, kernel // 2, bias=False)

        layers = through_bottleneck(cin, widths, zdim, norm)
        top = widths[-1]
        layers += [conv(top, top, 3), nn.ReLU(inplace=True)]
        for inner, outer in zip(widths[:0:-1], widths[-2::-1], strict=True):
            layers += [
                nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False),
                norm(outer),
                nn.ReLU(inplace=True),
            ]
            layers += [conv(outer, outer, 3), norm(outer), nn.ReLU(inplace=True)]
        # In the published network the doubling is a layer of its own, which counts in the names of those that follow.
        layers += [nn.Identity(), DoublingConv2d(nf, nf), norm(nf), nn.ReLU(inplace=True)]
        layers += [conv(nf, nf, 5), norm(nf), nn.ReLU(inplace=True), NarrowConv2d(nf, cout, 5)]
        layers += [nn.Tanh()] if tanh else []
        self.network = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B,cin,S,S) in [-1,1] to (B,cout,S,S).

        Raises:
            ValueError: The image has another number of channels or another size.
        """
        check_image(image, self.cin, self.size)
        out: Tensor = self.network(image)
        return out


class Encoder(nn.Module):
    """The viewpoint and light network of Unsup3D: from an image to a short vector in [-1,1].

    Args:
        cin: Channels of the image.
        cout: Length of the vector: 6 for a viewpoint, 4 for a light.
        nf: Width at the first level; it doubles at each level.
        size: Image side in pixels, a power of two, at least 32.

    Raises:
        ValueError: `size` is not a power of two >= 32.
    """

    def __init__(self, cin: int = 3, cout: int = 6, *, nf: int = 32, size: int = 64) -> None:
        super().__init__()
        self.size = size
        self.cin = cin
        widths = [nf * 2**level for level in range(levels(size))]
        layers: list[nn.Module] = []
        for inner, outer in zip([cin, *widths], widths, strict=False):
            layers += [nn.Conv2d(inner, outer, 4, 2, 1, bias=False), nn.ReLU(inplace=True)]
        top = widths[-1]
        layers += [nn.Conv2d(top, top, 4, bias=False), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(top, cout, 1, bias=False), nn.Tanh()]
        self.network = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B,cin,S,S) in [-1,1] to (B,cout) in [-1,1].

        Raises:
            ValueError: The image has another number of channels or another size.
        """
        check_image(image, self.cin, self.size)
        out: Tensor = self.network(image).flatten(1)
        return out


class ResBlock(nn.Module):
    """Two convolutions beside a shortcut, which halve the side.

    As in the published code, the first activation works in place, so the shortcut sees its result and not the input.
    """

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.conv_sc = nn.Conv2d(inner, outer, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        out: Tensor = self.conv_sc(F.avg_pool2d(x, 2)) + self.conv2(self.conv1(x).relu())
        return out


class ResEncoder(nn.Module):
    """From an image to an unbounded vector, by which GAN2Shape moves inside a GAN's mapping network.

    Args:
        cin: Channels of the image.
        cout: Length of the vector, which is the width of the mapping network.
        nf: Width at the first level; it doubles at each level.
        size: Image side in pixels, a power of two, at least 32.

    Raises:
        ValueError: `size` is not a power of two >= 32.
    """

    def __init__(self, cin: int = 3, cout: int = 512, *, nf: int = 32, size: int = 64) -> None:
        super().__init__()
        self.size = size
        self.cin = cin
        widths = [nf * 2**level for level in range(levels(size))]
        top = widths[-1]
        self.network = nn.Sequential(
            nn.Conv2d(cin, nf, 4, 2, 1, bias=False),
            *(ResBlock(inner, outer) for inner, outer in pairwise(widths)),
            nn.ReLU(inplace=True),
            nn.Conv2d(top, 2 * top, 4, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * top, cout, 1, bias=False),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B,cin,S,S) in [-1,1] to (B,cout).

        Raises:
            ValueError: The image has another number of channels or another size.
        """
        check_image(image, self.cin, self.size)
        out: Tensor = self.network(image).flatten(1)
        return out
