"""Adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with limited data").

The discriminator sees real and generated images through the same random changes, so it cannot learn a small data set by
heart. As long as each change is left out often enough, it does not show in what the generator makes; the paper's limit
is a probability of 0.8.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..runtime import draws
from ..runtime.workers import outside_autocast, sent

MOST = 0.8


def augment(images: Tensor, p: float | Tensor, *, turns: bool = True) -> Tensor:
    """Apply the paper's pixel, geometric and colour changes to images (B, 3, S, S), in about [-1, 1].

    Each change meets each image with probability `p`, which is not read if it is a scalar on the device. The result is
    differentiable in the images. Sampling is bilinear, and the outside is mirrored; the paper's wavelet filter against
    aliasing is left out. Without `turns` images are shifted and scaled, but neither mirrored, rotated nor stretched, so
    that poses can still be read off them.
    """
    with outside_autocast(images.device):  # bfloat16 has fewer levels of colour than pictures, and coarser places
        theta = _moves(len(images), images.shape[-1], p, turns, images.device)[:, :2].to(images)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        colour = _colours(len(images), p, images.device).to(images)
        return torch.einsum("bij,bjhw->bihw", colour[:, :3, :3], moved) + colour[:, :3, 3, None, None]


def adapted(p: Tensor, certainty: Tensor, target: float, change: float) -> Tensor:
    """The probability after a step: up by `change` if D is more certain of real images than `target`, else down.

    `certainty` is the mean sign of D(real), the paper's r_t. It is near 1 if D overfits, and near 0 if D cannot tell
    real images from generated ones. Scalars stay on their device.
    """
    step = torch.copysign(torch.full_like(p, change), certainty.to(p) - target)
    return (p + step).clamp(0.0, MOST)


class _Chain:
    """A product (B, N, N) of matrices, each of which is left out with probability 1 - p. They are drawn on the CPU."""

    def __init__(self, n: int, batch: int, p: float | Tensor, device: torch.device | None) -> None:
        self.n, self.batch, self.p, self.device = n, batch, p, device
        self.drawn: list[tuple[Tensor, Tensor]] = []  # a matrix, and what p is compared with
        self.chances: list[float | Tensor] = []

    def then(self, rows: list[list[Tensor | float]], p: float | Tensor | None = None) -> None:
        """Multiply by a matrix, given as its upper left corner, whose entries are numbers or tensors (B,)."""
        matrix = torch.eye(self.n).repeat(self.batch, 1, 1)
        for i, row in enumerate(rows):
            for j, value in enumerate(row):
                matrix[:, i, j] = torch.as_tensor(value)
        self.drawn.append((matrix, draws.rand(self.batch, 1, 1)))
        self.chances.append(self.p if p is None else p)

    def product(self) -> Tensor:
        """The product on the device, to which all that was drawn goes at once."""
        matrices, draws = (
            v if self.device is None else sent(v, self.device) for v in map(torch.stack, zip(*self.drawn, strict=True))
        )
        one = torch.eye(self.n, device=self.device)
        product = one.repeat(self.batch, 1, 1)
        for matrix, draw, p in zip(matrices, draws, self.chances, strict=True):
            product = product @ torch.where(draw >= p, one, matrix)
        return product


def _moves(batch: int, size: int, p: float | Tensor, turns: bool = True, device: torch.device | None = None) -> Tensor:
    """Matrices (B, 3, 3) from output to input coordinates, where the image spans [-1, 1]."""
    chain = _Chain(3, batch, p, device)

    def rotate(angle: Tensor, p: float | Tensor | None = None) -> None:
        chain.then([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]], p)

    def stretch(x: Tensor, y: Tensor) -> None:
        chain.then([[x, 0.0], [0.0, y]])

    def shift(by: Tensor) -> None:
        chain.then([[1.0, 0.0, by[:, 0]], [0.0, 1.0, by[:, 1]]])

    if turns:
        stretch(1.0 - 2 * draws.randint(0, 2, batch), torch.ones(batch))  # mirror
        rotate(draws.randint(0, 4, batch) * (math.pi / 2))
    shift(((draws.rand(batch, 2) * 2 - 1) * size / 8).round() * 2 / size)  # whole pixels
    scale = torch.exp2(0.2 * draws.randn(batch))
    stretch(scale, scale)
    if turns:
        # Two rotations about a stretch give one in any direction; together they act with probability p.
        half = 1 - (1 - p) ** 0.5
        rotate((draws.rand(batch) * 2 - 1) * math.pi, half)
        ratio = torch.exp2(0.2 * draws.randn(batch))
        stretch(ratio, 1 / ratio)
        rotate((draws.rand(batch) * 2 - 1) * math.pi, half)
    shift(0.25 * draws.randn(batch, 2))  # an eighth of the side
    return chain.product()


def _colours(batch: int, p: float | Tensor, device: torch.device | None = None) -> Tensor:
    """Matrices (B, 4, 4) from colours to colours: brightness, contrast, flipped lightness, hue, saturation."""
    chain = _Chain(4, batch, p, device)
    grey = torch.full((3, 3), 1 / 3)  # projects onto the grey axis
    turn = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)  # cross product with it

    def mix(matrix: Tensor) -> None:
        chain.then([[matrix[:, i, j] for j in range(3)] for i in range(3)])

    def on(values: Tensor, matrix: Tensor) -> Tensor:
        return values[:, None, None] * matrix

    saturation, angle = torch.exp2(draws.randn(batch)), (draws.rand(batch) * 2 - 1) * math.pi
    mix(grey + on(saturation, torch.eye(3) - grey))
    mix(grey + on(angle.cos(), torch.eye(3) - grey) + on(angle.sin(), turn))  # Rodrigues
    mix(torch.eye(3) - on(2.0 * draws.randint(0, 2, batch), grey))
    contrast = torch.exp2(0.5 * draws.randn(batch))
    mix(on(contrast, torch.eye(3)))
    brightness = 0.2 * draws.randn(batch)
    chain.then([[1.0, 0.0, 0.0, brightness], [0.0, 1.0, 0.0, brightness], [0.0, 0.0, 1.0, brightness]])
    return chain.product()
