"""Random patches: what a discriminator sees in place of whole images (Schwarz et al. 2020, section 3.2)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Patch:
    """A grid of `size` x `size` places on each of B images, near together or far apart.

    Attributes:
        size: side of the grid.
        scale: (B,) part of the image's side that it spans, above 0 and up to 1.
        shift: (B, 2) its centre, x right and y down, where the image is [-1, 1].
    """

    size: int
    scale: Tensor
    shift: Tensor

    @classmethod
    def draw(cls, n: int, size: int, least: float, device: torch.device | str = "cpu") -> "Patch":
        """`n` patches of uniform scale in [least, 1], anywhere inside the image."""
        scale = least + (1 - least) * torch.rand(n, device=device)
        return cls(size, scale, (torch.rand(n, 2, device=device) * 2 - 1) * (1 - scale[:, None]))

    def places(self) -> Tensor:
        """(B, size * size, 2) x and y, row-major; -1 and 1 are the centres of the image's outermost pixels."""
        axis = torch.linspace(-1, 1, self.size, device=self.scale.device)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        return torch.stack([x, y], -1).reshape(1, -1, 2) * self.scale[:, None, None] + self.shift[:, None]

    def cut(self, images: Tensor) -> Tensor:
        """(B, C, size, size) the patches of images (B, C, S, S), bilinear."""
        grid = self.places().reshape(-1, self.size, self.size, 2)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)
