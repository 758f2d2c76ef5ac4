"""Generators of the smallest sizes whose pictures are smooth, for searches that follow gradients."""

import torch
from torch import Tensor

from zoo import registry
from zoo.generators.base import Generator
from zoo.geometry import Light

SIZE = 16


def tiny(name: str, **options: object) -> Generator:
    torch.manual_seed(0)
    cls = registry.resolve(name)
    config = cls.tiny()
    for key, value in options.items():
        setattr(config, key, value)
    generator = cls(config)
    generator.eval().requires_grad_(False)
    for key, value in generator.named_parameters():  # fresh fields are noise; these are smooth and colourful
        if key in ("siren.final_layer.bias", "nerf.alpha_linear.bias"):
            value.add_(1)  # and have density everywhere: outlines of noise jump, and have no derivative
        elif key.startswith(("siren.network", "siren.color_layer_sine")) and key.endswith("weight"):
            value.mul_(0.2)
        elif key == "siren.color_layer_linear.0.weight":
            value.mul_(20)
    generator.name = name
    return generator


def picture(generator: Generator, yaw: float = 0.3, pitch: float = -0.1, seed: int = 5) -> Tensor:
    """(3, S, S) of an object that the generator itself makes."""
    light = Light.of(0.4, 0.5, 0.5, 0.3) if generator.uses_light else None
    with torch.no_grad():
        return generator(generator.latents(1, seed=seed), generator.camera(yaw, pitch, 2 * SIZE), light).rgb[0]
