"""Every recipe describes networks that can be built, for every stage of its curriculum."""

import pytest
import torch

from zoo.config import recipes
from zoo.fitting.steps import InstanceSystem
from zoo.systems import adversarial
from zoo.systems.run import SYSTEMS


@pytest.mark.parametrize("recipe", recipes.names())
def test_networks_are_built_and_judge_every_stage(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversarial, "light_prior", lambda _: None)  # it factorises numbers, and meta tensors have none
    run = recipes.load_run(recipe)
    with torch.device("meta"):  # shapes without memory: full-size recipes cost nothing
        if run.system.name == "instance":
            assert all(p.is_meta for p in InstanceSystem(run).parameters())
            return
        system = SYSTEMS[run.system.name](run, fresh=False)
        assert all(p.is_meta for p in system.parameters())
        if isinstance(system, adversarial.AdversarialSystem):
            for stage in run.system.stages:
                images = torch.empty(2, 3, stage.size, stage.size)
                images = system.generator.real_view(images, system.sampling())
                assert system.discriminator(images, 0.5).score.shape == (2,)
