"""How sure a reconstruction can be of each pixel (Wu et al. 2020, section 3.2)."""

from torch import Tensor, nn

from .encoders import NarrowConv2d, check_image, levels, through_bottleneck


class ConfNet(nn.Module):
    """The confidence network of Unsup3D: from an image to the spread sigma of the reconstruction error.

    Channel 0 is for the reconstruction, channel 1 for the one from mirrored shape and albedo. Where sigma is larger in
    channel 1, the photograph is not symmetric. Keys are those of the official checkpoints.

    Args:
        cin: Channels of the image.
        nf: Width at the first level; it doubles at each level.
        zdim: Width of the bottleneck.
        groups: Group-norm groups at width `nf`; they double with the width.
        size: Image side in pixels, a power of two, at least 32.

    Raises:
        ValueError: `size` is not a power of two >= 32, or `nf` is not a multiple of `groups`.
    """

    def __init__(self, cin: int = 3, *, nf: int = 64, zdim: int = 128, groups: int = 16, size: int = 64) -> None:
        super().__init__()
        if nf % groups:
            raise ValueError(f"nf must be a multiple of groups, got nf={nf}, groups={groups}")
        self.size = size
        self.cin = cin
        widths = [nf * 2**level for level in range(levels(size))]

        def norm(width: int) -> nn.Module:
            return nn.GroupNorm(groups * width // nf, width)

        def up(inner: int, outer: int) -> list[nn.Module]:
            return [nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False), norm(outer), nn.ReLU(inplace=True)]

        layers = through_bottleneck(cin, widths, zdim, norm)
        for inner, outer in zip(widths[:1:-1], widths[-2:0:-1], strict=True):
            layers += up(inner, outer)
        self.network = nn.Sequential(*layers)
        self.out_net1 = nn.Sequential(*up(2 * nf, nf), *up(nf, nf), NarrowConv2d(nf, 2, 5), nn.Softplus())
        self.out_net2 = nn.Sequential(NarrowConv2d(2 * nf, 2, 3), nn.Softplus())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map an image (B,cin,S,S) in [-1,1] to sigma > 0 of its pixels (B,2,S,S) and of its features (B,2,S/4,S/4).

        Raises:
            ValueError: The image has another number of channels or another size.
        """
        check_image(image, self.cin, self.size)
        features = self.network(image)
        return self.out_net1(features), self.out_net2(features)
