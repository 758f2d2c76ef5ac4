"""What the campaign of scaling counts without computing anything."""

from contextlib import nullcontext
from typing import Any
from unittest import mock

import pytest

from tests.campaigns import scaling
from tests.tiny import TINY, overrides
from zoo.bench.fields import cost
from zoo.config import recipes
from zoo.systems.run import make_system


@pytest.mark.parametrize("method", ["pigan", "shadegan"])
def test_operations_of_a_field_are_those_of_its_layers(method: str) -> None:
    own = "generator.surface_tracking=false" if method == "shadegan" else "generator.view_condition=true"
    run = recipes.load_run(f"{method}_celeba", [*overrides("generator", TINY), own])
    system = make_system(run, fresh=False).to("meta")
    with mock.patch("torch.autocast", return_value=nullcontext()), scaling.Operations() as found:
        system.generate(2, 8)
    g: Any = system.generator
    sampling = system.sampling()
    points = 2 * 8**2 * (sampling.steps + sampling.fine_steps)
    mapping = sum(2 * 2 * layer.weight.numel() for layer in g.siren.mapping_network.network if hasattr(layer, "weight"))
    expected = points * cost(g.config.hidden_dim, g.config.layers, method == "shadegan")[0] + mapping
    assert found.total == pytest.approx(expected, rel=0.02)


def test_stages_count_with_their_own_sizes() -> None:
    tiny = overrides("generator", TINY)
    stages = ["{size: 16, batch: 4}", "{kimg: 1, size: 32, batch: 4}"]
    short = recipes.load_run("pigan_celeba", [*tiny, f"system.stages=[{stages[0]}]", "trainer.max_kimg=1"])
    both = recipes.load_run("pigan_celeba", [*tiny, f"system.stages=[{', '.join(stages)}]", "trainer.max_kimg=2"])
    assert scaling.training_operations(both) > 3 * scaling.training_operations(short)
