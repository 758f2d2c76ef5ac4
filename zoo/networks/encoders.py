"""Convolutional encoder-decoders of the photometric methods and of the depth probe."""

import math

from torch import Tensor, nn


class EDDeconv(nn.Module):
    """Image to map of the same size through a 1x1 bottleneck: the depth and albedo network of Unsup3d.

    Wu et al. 2020, supplementary material; GAN2Shape uses the same with one more level at 128 px. Everything is
    one `nn.Sequential` called `network`, so that the keys of the official checkpoints fit.

    Args:
        cin: channels of the image.
        cout: channels of the map: 1 for depth, 3 for albedo.
        nf: width at the first level; it doubles with each of them.
        zdim: width of the bottleneck.
        groups: group-norm groups at width `nf`; they double with the width.
        size: image side in pixels, a power of two, at least 64.
        tanh: end with a tanh (albedo) or without (depth).

    Raises:
        ValueError: `size` is not a power of two >= 64, or `nf` is not a multiple of `groups`.
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
        levels = round(math.log2(size)) - 2 if size > 0 else 0
        if levels < 4 or 2 ** (levels + 2) != size:
            raise ValueError(f"size must be a power of two and at least 64, got {size}")
        if nf % groups:
            raise ValueError(f"nf must be a multiple of groups, got nf={nf}, groups={groups}")
        self.size = size
        self.cin = cin
        widths = [nf * 2**level for level in range(levels)]

        def norm(width: int) -> nn.Module:
            return nn.GroupNorm(groups * width // nf, width)

        def conv(inner: int, outer: int, kernel: int) -> nn.Module:
            return nn.Conv2d(inner, outer, kernel, 1, kernel // 2, bias=False)

        layers: list[nn.Module] = []
        for inner, outer in zip([cin, *widths], widths, strict=False):
            layers.append(nn.Conv2d(inner, outer, 4, 2, 1, bias=False))
            # The last level is 4x4 pixels and goes on without a norm.
            layers += [] if outer == widths[-1] else [norm(outer)]
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        top = widths[-1]
        layers += [nn.Conv2d(top, zdim, 4, bias=False), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(zdim, top, 4, bias=False), nn.ReLU(inplace=True)]
        layers += [conv(top, top, 3), nn.ReLU(inplace=True)]
        for inner, outer in zip(widths[:0:-1], widths[-2::-1], strict=True):
            layers += [
                nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False),
                norm(outer),
                nn.ReLU(inplace=True),
            ]
            layers += [conv(outer, outer, 3), norm(outer), nn.ReLU(inplace=True)]
        layers += [
            nn.Upsample(scale_factor=2, mode="nearest"),
            conv(nf, nf, 3),
            norm(nf),
            nn.ReLU(inplace=True),
        ]
        layers += [conv(nf, nf, 5), norm(nf), nn.ReLU(inplace=True), conv(nf, cout, 5)]
        layers += [nn.Tanh()] if tanh else []
        self.network = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B,cin,S,S) in [-1,1] to (B,cout,S,S).

        Raises:
            ValueError: the image has another number of channels or another size.
        """
        if image.shape[1:] != (self.cin, self.size, self.size):
            expected = f"(B,{self.cin},{self.size},{self.size})"
            raise ValueError(f"image must be {expected} for this network, got {tuple(image.shape)}")
        return self.network(image)
