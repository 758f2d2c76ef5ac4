"""A picture behind an object: the second half of a scene, which no camera turns (Szabo et al. 2019)."""

import torch
from torch import Tensor, nn

from ..images import resize
from .stylegan2 import EqualLinear, PixelNorm, StyledConv, ToMap

SIDE = 32  # pixels of the map
_STYLE, _WIDTHS = 32, (32, 32, 16, 16)  # numbers of its style, and of channels at 4, 8, 16 and 32 px


class Background(nn.Module):
    """A map of 32 x 32 pixels from the code of an object. It starts evenly grey.

    Backgrounds of portraits are out of focus, so that few pixels are enough, and cannot draw a face.

    Args:
        code_dim: length of the codes.
    """

    def __init__(self, code_dim: int) -> None:
        super().__init__()
        self.style = nn.Sequential(PixelNorm(), EqualLinear(code_dim, _STYLE, activation=True))
        self.constant = nn.Parameter(torch.randn(1, _WIDTHS[0], 4, 4))
        pairs = zip((_WIDTHS[0], *_WIDTHS), _WIDTHS, strict=False)
        self.layers = nn.ModuleList(StyledConv(a, b, _STYLE, up=i > 0) for i, (a, b) in enumerate(pairs))
        self.to_map = ToMap(_WIDTHS[-1], 3, _STYLE, upsample=False)
        nn.init.zeros_(self.to_map.conv.weight)

    def forward(self, code: Tensor, size: int) -> Tensor:
        """The pictures (B, 3, size, size) in [0, 1] of codes (B, code_dim)."""
        w = self.style(code)
        x = self.constant.expand(len(w), -1, -1, -1)
        for layer in self.layers:
            x = layer(x, w)
        return resize(self.to_map(x, w).sigmoid(), size)
