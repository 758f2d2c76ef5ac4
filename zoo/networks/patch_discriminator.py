"""GRAF's discriminator of image patches (Schwarz et al. 2020)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils import spectral_norm  # the older form, whose keys the published weights have

from ..errors import ConfigError
from .disc_blocks import DiscOut, OneSize, check_images, check_max_size


class PatchDiscriminator(OneSize):
    """Stride-2 convolutions with spectral and instance normalisation down to 4 px, then one score.

    Args:
        max_size: Side of the patches: 16, 32 (as published), 64 or 128.
        channels: Widths at half that side, a quarter of it, and so on down to 4 px; None takes the published ones.

    Raises:
        ConfigError: `max_size` is not one of these, or the number of channels does not fit it.
    """

    def __init__(self, *, max_size: int = 32, channels: Sequence[int] | None = None) -> None:
        super().__init__()
        self.size = check_max_size(max_size, 16, 128)
        levels = self.size.bit_length() - 3
        widths = tuple(channels or (32, 64, 128, 256, 512)[-levels:])
        if len(widths) != levels:
            raise ConfigError(f"channels is {widths}; give {levels} widths for patches of {self.size} px")
        layers: list[nn.Module] = []
        for i, o in zip([3, *widths], widths, strict=False):
            layers += [spectral_norm(nn.Conv2d(i, o, 4, 2, 1, bias=False)), nn.InstanceNorm2d(o), nn.LeakyReLU(0.2)]
        self.main = nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 4, bias=False)))

    def forward(self, images: Tensor, alpha: float = 1.0) -> DiscOut:
        """Judge patches (B, 3, max_size, max_size) in [-1, 1]. Nothing fades in, so `alpha` is not used.

        Raises:
            ValueError: The images have another shape.
        """
        check_images(images, self.size, self.size)
        return DiscOut(self.main(images).flatten())
