"""Discriminators against numbers from pi-GAN, ShadeGAN and GOF."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded import Comparison, Part, Recorded, assert_covered, load_strict, recipe_values, run_part
from torch import Tensor, nn

from zoo.networks.disc_blocks import CoordStridedBlock, FromRGB, ProgressiveBlock, StridedBlock, add_coords
from zoo.networks.discriminators import DISCRIMINATORS, build_discriminator

ATOL, GRAD_RTOL = 1e-4, 1e-2
HEADS = {"pred": "score", "position": "pose"} | {name: name for name in ("latent", "light", "freq", "phase")}
NETWORK = re.compile(r"(?P<net>.+)_(?P<size>\d+)_a(?P<alpha>[\d.]+)_(?P<what>.+)")
BLOCKS = {
    "progblock": ProgressiveBlock,
    "progblock_same": ProgressiveBlock,
    "stridedblock": StridedBlock,
    "ccblock": CoordStridedBlock,
    "adapter": lambda i, o: FromRGB(o),
}


def build(name: str, entries: list[list[Any]]) -> nn.Module:
    """The class that a recipe name carries, with sizes read from the recipe's shapes."""
    shapes = {key: shape for key, shape, *_ in entries}
    cls = max((c for c in DISCRIMINATORS.values() if c.__name__ in name), key=lambda c: len(c.__name__))
    entrances = [shape for key, shape in shapes.items() if re.fullmatch(r"fromRGB\.\d+\.model\.0\.weight", key)]
    options: dict[str, Any] = {"channels": [shape[0] for shape in entrances]}
    if "Encoder" in cls.__name__:
        options["latent_dim"] = shapes["final_layer.weight"][0] - 3
    if "encode_layer.weight" in shapes:
        options |= {"inversion": True, "code_dim": (shapes["encode_layer.weight"][0] - 4) // 2}
    if "freq_phase_layer.weight" in shapes:
        options |= {"freq_phase": True, "code_dim": shapes["freq_phase_layer.weight"][0] // 2}
    return build_discriminator(cls.__name__, **options)


def image(batch: int, size: int) -> Tensor:
    return (0.6 * recipe_values([batch, 3, size, size], 999, 2, "w")).clamp(-1, 1)


def networks(recorded: Recorded, c: Comparison) -> None:
    recipes = recorded.meta("recipe")
    built: dict[str, nn.Module] = {}
    seen: dict[str, tuple[Tensor, Any]] = {}  # pictures and answer of the forward pass before, which has many outputs
    for name in recorded.outputs(NETWORK.pattern):
        match = NETWORK.fullmatch(name)
        assert match is not None
        net, size, alpha, what = match["net"], int(match["size"]), float(match["alpha"]), match["what"]
        if net not in built:
            built[net] = build(net, recipes[net])
            load_strict(built[net], recorded.recipe_state(recipes[net], f"check/{net}/"))
        prefix = name.removesuffix(what)
        if prefix not in seen:
            pictures = image(len(recorded.arrays[f"out/{prefix}pred"]), size).requires_grad_()
            seen = {prefix: (pictures, built[net](pictures, alpha))}
        images, out = seen[prefix]
        if what in HEADS:
            value = getattr(out, HEADS[what])
            value = value.detach()
            c.check(name, value[:, None] if what == "pred" else value, atol=ATOL)
        else:
            (grad,) = torch.autograd.grad(out.score.sum(), images, retain_graph=True)
            result = {"r1_grad": grad, "r1_mean_sqnorm": grad.square().sum(dim=(1, 2, 3)).mean()}[what]
            c.check(name, result, rtol=GRAD_RTOL)


def blocks(recorded: Recorded, c: Comparison) -> None:
    for name, block in BLOCKS.items():
        x, shape = recorded.tensor(f"in/{name}_x"), recorded.arrays[f"out/{name}"].shape
        module = block(x.shape[1], shape[1])
        load_strict(module, recorded.tensors(f"weights/{name}/"))
        c.check(name, module(x), atol=ATOL)


def coordinates(recorded: Recorded, c: Comparison) -> None:
    c.check("addcoords", add_coords(recorded.tensor("in/addcoords_x")), atol=1e-6)


PARTS: dict[str, Part] = {NETWORK.pattern: networks, "|".join(BLOCKS): blocks, "addcoords": coordinates}


@pytest.fixture(scope="module")
def recorded(parity_file: Callable[[str], Path]) -> Recorded:
    return Recorded(parity_file("discriminator.npz"))


@pytest.mark.parametrize("pattern", PARTS, ids=lambda p: PARTS[p].__name__)
def test_discriminator(recorded: Recorded, pattern: str) -> None:
    run_part(recorded, pattern, PARTS[pattern])


def test_every_output_is_compared(recorded: Recorded) -> None:
    assert_covered(recorded, list(PARTS))
