"""Exponential moving average of a generator's weights.

It is counted in images, so that it means the same at every batch size.
"""

import copy

import torch
from torch import nn

from ..generators.base import Generator


class GeneratorEMA(nn.Module):
    """Holds the average as a module of its own, `average`, in evaluation mode and without gradients.

    Args:
        generator: The network to follow; copied.
        half_life_kimg: Thousands of images after which an old weight counts half. Early on the half-life is kept at 5 %
            of the images seen, so that the random start is forgotten quickly.
    """

    def __init__(self, generator: Generator, half_life_kimg: float) -> None:
        super().__init__()
        self.half_life = half_life_kimg * 1000
        self.average = copy.deepcopy(generator).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, generator: Generator, batch: float, images_seen: float) -> None:
        """Move towards the current weights after a step on `batch` images."""
        half_life = min(self.half_life, 0.05 * images_seen)
        keep = 0.5 ** (batch / half_life) if half_life > 0 else 0.0
        for mean, value in zip(self.average.parameters(), generator.parameters(), strict=True):
            mean.lerp_(value, 1 - keep)
        for kept, current in zip(self.average.buffers(), generator.buffers(), strict=True):
            kept.copy_(current)
