"""A picture behind an object: the second half of a scene, which no camera turns (Szabo et al. 2019)."""

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from ..images import resize
from .stylegan2 import PixelNorm

SIDE = 32  # pixels of the map
_STYLE, _WIDTHS = 32, (32, 32, 16, 16)  # numbers of its style, and of channels at 4, 8, 16 and 32 px


class Background(nn.Module):
    """A map of 32 x 32 pixels from the code of an object. It starts evenly grey.

    Backgrounds of portraits are out of focus, so that few pixels are enough. The layers are plain ones, which learn as
    fast as a field does: what a slower background leaves out, the field learns to show, on a wall.

    Args:
        code_dim: length of the codes.
    """

    def __init__(self, code_dim: int) -> None:
        super().__init__()
        self.style = nn.Sequential(
            PixelNorm(), nn.Linear(code_dim, _STYLE), nn.LeakyReLU(0.2), nn.Linear(_STYLE, 16 * _WIDTHS[0])
        )
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(_WIDTHS))
        self.to_map = nn.Conv2d(_WIDTHS[-1], 3, 1)
        for layer in (self.style[1], self.style[3], *self.layers):
            nn.init.kaiming_normal_(layer.weight, a=0.2)
        nn.init.zeros_(self.to_map.weight)
        nn.init.zeros_(self.to_map.bias)  # type: ignore[arg-type]

    def forward(self, code: Tensor, size: int) -> Tensor:
        """The pictures (B, 3, size, size) in [0, 1] of codes (B, code_dim)."""
        x = self.style(code).view(-1, _WIDTHS[0], 4, 4)
        for layer in self.layers:
            x = F.leaky_relu(layer(resize(x, 2 * x.shape[-1])), 0.2)
        return resize(self.to_map(x).sigmoid(), size)
