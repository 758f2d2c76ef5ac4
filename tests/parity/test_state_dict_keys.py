"""Full-size networks own exactly the parameters of the official checkpoints, in their order."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from zoo.generators.field import FieldConfig
from zoo.generators.pigan import PiGAN
from zoo.generators.shadegan import ShadeGAN, ShadeGANConfig
from zoo.networks.discriminators import build_discriminator


def discriminator(entry: str) -> nn.Module:
    repo, _, name = entry.split("/")
    name, _, option = name.partition("_")
    options: dict[str, Any] = {"inversion": True} if option == "inversion" else {}
    if repo == "gof":
        options["freq_phase"] = True
    return build_discriminator(name, **options)


def generator(entry: str) -> nn.Module:
    repo, _, name = entry.split("/")
    if repo == "shadegan" and name.startswith("shading"):
        view, tracking = "_view_" in name, not name.endswith("nosurftrack")
        return ShadeGAN(ShadeGANConfig(view_condition=view, surface_tracking=tracking))
    return PiGAN(FieldConfig(box=0.0 if name == "TALLSIREN" else FieldConfig.box))


BUILDERS: dict[str, Callable[[str], nn.Module]] = {
    "discriminator": discriminator,
    "encoder": discriminator,
    "generator": generator,
}
NOT_OFFERED = ("EmbeddingPiGAN128", "EmbeddingPiGAN256")  # in pi-GAN's code, but no released weights use them


@pytest.fixture(scope="module")
def official(parity_file: Callable[[str], Path]) -> dict[str, Any]:
    return json.loads(parity_file("nerf_state_dict_shapes.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", BUILDERS)
def test_state_dict_equals_official(official: dict[str, Any], kind: str) -> None:
    entries = {name: entry for name, entry in official.items() if name.split("/")[1] == kind}
    entries = {name: entry for name, entry in entries.items() if not name.endswith(NOT_OFFERED)}
    assert entries
    for name, entry in entries.items():
        with torch.device("meta"):
            module = BUILDERS[kind](name)
        ours = [[key, list(value.shape)] for key, value in module.state_dict().items()]
        assert ours == entry["state_dict"], name
        if entry["parameter_order_same_as_state_dict"]:
            assert [key for key, _ in module.named_parameters()] == [key for key, _ in ours], name
        assert sum(p.numel() for p in module.parameters()) == entry["n_params"], name
