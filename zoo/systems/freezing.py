"""Parts of networks that hold still while the rest learns from few images."""

import torch
from torch import nn

from ..errors import ConfigError, unknown
from ..generators.base import Generator
from ..networks.disc_blocks import traced


def freeze(generator: Generator, names: list[str]) -> None:
    """Hold parts of a generator still, by the names that its `parts` have.

    Raises:
        ConfigError: A part is unknown, or nothing is left that learns.
    """
    parts = generator.parts()
    for name in names:
        if name not in parts:
            raise ConfigError(unknown("system.freeze", name, parts))
        for parameter in parts[name]:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in generator.parameters()):
        raise ConfigError(f"system.freeze={', '.join(names)}: nothing is left that learns; leave one of them out")


def first_layers(discriminator: nn.Module, side: int, halvings: int) -> list[nn.Parameter]:
    """The parameters of the layers through which an image passes until it has been halved so many times.

    FreezeD (Mo et al. 2020) holds them still: what a discriminator sees first, edges and textures, serves any images.

    Args:
        discriminator: Is any that `build_discriminator` makes.
        side: Is that of the images, in pixels.
        halvings: Is 0 or more.

    Raises:
        ConfigError: Too little of the discriminator is left.
    """
    if halvings == 0:
        return []
    if side >> halvings < 4:
        most = side.bit_length() - 3
        raise ConfigError(f"system.freeze_d={halvings}: images have {side} px, 4 must be left; use {most} or less")
    layers = traced(discriminator, torch.zeros(1, 3, side, side))
    return [p for layer, x, _ in layers if x.shape[-1] > side >> halvings for p in layer.parameters(recurse=False)]
