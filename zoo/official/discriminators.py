"""Published discriminators: sizes by shapes, as for generators."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError, WeightsError
from ..networks.discriminators import DISCRIMINATORS, build_discriminator
from .layouts import Tensors, holds


def like(names: Sequence[str], tensors: Tensors, where: str) -> nn.Module:
    """That of some discriminators, given by short names, which has most in common with tensors; on the meta device.

    Raises:
        WeightsError: None of them comes in such sizes.
    """
    shapes = {key: tuple(value.shape) for key, value in tensors.items() if value.numel() and value.ndim}
    found: list[tuple[int, nn.Module]] = []
    for name in names:
        sizes = {"style": _style, "patch": _patch}.get(name, _growing)(shapes)
        taken = inspect.signature(DISCRIMINATORS[name]).parameters
        try:
            with torch.device("meta"):
                network = build_discriminator(name, **{key: value for key, value in sizes.items() if key in taken})
        except ConfigError:
            continue
        own = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        if own.items() & shapes.items():
            found.append((len(own.items() ^ shapes.items()), network))
    if not found:
        raise WeightsError(f"{where}: {holds(tensors)}, not a discriminator of that method ({', '.join(names)})")
    return min(found, key=lambda pair: pair[0])[1]


def _widths(shapes: dict[str, tuple[int, ...]], key: str, start: int = 0, step: int = 1) -> list[int]:
    """First dimensions of `key` with a number in it, as long as there is one."""
    out: list[int] = []
    while shape := shapes.get(key.format(start + step * len(out))):
        out.append(shape[0])
    return out


def _growing(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """pi-GAN, ShadeGAN, GOF. The last layer gives a score, and may give a latent and a pose."""
    widths = _widths(shapes, "fromRGB.{}.model.0.weight")
    sizes: dict[str, Any] = {"max_size": 1 << len(widths), "channels": widths}
    outputs, codes = (shapes.get(f"{key}.weight", (0,))[0] for key in ("final_layer", "freq_phase_layer"))
    if outputs > 3:
        sizes["latent_dim"] = outputs - 3
    return sizes | {"freq_phase": codes > 0, "code_dim": codes // 2}


def _style(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    widths = [*_widths(shapes, "convs.{}.0.weight"), *_widths(shapes, "convs.{}.conv2.1.weight", start=1)]
    return {"max_size": 2 << len(widths), "channels": widths}


def _patch(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Each convolution has a norm and an activation behind it; the last one gives the score."""
    widths = _widths(shapes, "main.{}.weight_orig", step=3)[:-1]
    return {"max_size": 4 << len(widths), "channels": widths}
