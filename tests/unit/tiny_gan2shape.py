"""Tests of GAN2Shape share a tiny run, the 2D GAN and discriminator it learns from, and two drawn heads made ready."""

from typing import Any

import torch
from torch import Tensor, nn

import zoo
from tests.tiny import TINY_GAN2SHAPE
from zoo.config.recipes import load_run
from zoo.config.schemas import RunConfig
from zoo.fitting.subject import Subject
from zoo.fitting.subjects import photographs, prepare
from zoo.generators.base import Generator
from zoo.generators.gan2shape import GAN2Shape, GAN2ShapeConfig
from zoo.networks.stylegan2 import StyleDiscriminator

SIZE = 32
TINY = [
    *TINY_GAN2SHAPE,
    "system.stages=[{albedo: 2, projection: 2, joint: 2}, {albedo: 1, projection: 1, joint: 1, mirror_joint: false}]",
    "system.collect=2", "system.shape_steps=2", "system.inversion_steps=2", "system.feature_blocks=2",
]  # fmt: skip


def tiny_run(*more: str) -> RunConfig:
    return load_run("gan2shape", [*TINY, *more])


def tiny_gan() -> Generator:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"z_dim": 8, "size": SIZE, "mapping_layers": 2, "mapping_lr": 0.1}
    sizes |= {"channel_base": 128, "channel_max": 8}
    return zoo.build("stylegan2", **sizes).eval().requires_grad_(False)


def tiny_discriminator() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return StyleDiscriminator(max_size=SIZE, channels=[4, 4, 4, 4]).state_dict()


def prepared(gan: Generator) -> list[Subject]:
    """Two drawn heads, as a fit gets them."""
    model, run = GAN2Shape(GAN2ShapeConfig(size=SIZE, nf=4, groups=2, zdim=4)), tiny_run()
    return [prepare(photo, model, gan, run.system, None) for photo in photographs("heads:0-1", gan, SIZE)]  # type: ignore[arg-type]


def values(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])
