"""Tests of the viewer show these small generators, and these objects as if they had been found in photographs."""

import copy
from dataclasses import replace

import torch

import zoo
from tests.tiny import TINY
from zoo import registry
from zoo.editing.codes import at
from zoo.editing.reconstruction import Fit, Reconstruction, fingerprint
from zoo.generators.base import Generator


def shadegan() -> Generator:
    torch.manual_seed(0)
    return zoo.build("shadegan", **TINY).eval().requires_grad_(False)


def tiny(name: str) -> Generator:
    cls = registry.resolve(name)
    return cls(cls.tiny()).eval()


def found_in(generator: Generator) -> Reconstruction:
    """Seed 3, as if it had been found in a photograph."""
    image, weight = torch.zeros(1, 3, 128, 128), torch.ones(1, 1, 16, 16)
    latents = at(generator, generator.code(generator.latents(1, seed=3)))
    return Reconstruction(
        generator, latents, generator.camera(size=16), generator.mean_light, image, weight, Fit(20.0, 0.1)
    )


def tuned(found: Reconstruction) -> Reconstruction:
    """The same with weights of its own, as after tuning."""
    own = copy.deepcopy(found.generator)
    with torch.no_grad():
        for weight in own.parameters():
            weight.add_(0.1)
    return replace(found, generator=own, origin=fingerprint(found.generator))
