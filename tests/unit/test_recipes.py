"""Every recipe describes networks that can be built, for every stage of its curriculum."""

import pytest
import torch

from zoo.config import recipes
from zoo.config.regimes import REGIMES, Regime, regime
from zoo.errors import ConfigError
from zoo.systems import adversarial


@pytest.mark.parametrize("recipe", recipes.names())
def test_networks_are_built_and_judge_every_stage(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversarial, "light_prior", lambda _: None)  # it factorises numbers, and meta tensors have none
    run = recipes.load_run(recipe)
    with torch.device("meta"):  # shapes without memory: full-size recipes cost nothing
        fresh = {} if run.system.name == "instance" else {"fresh": False}  # first weights need real numbers
        system = REGIMES[run.system.name].load()(run, **fresh)
        assert all(p.is_meta for p in system.parameters())
        if isinstance(system, adversarial.AdversarialSystem):
            for stage in run.system.stages:
                images = torch.empty(2, 3, stage.size, stage.size)
                images = system.generator.real_view(images, system.sampling())
                assert system.discriminator(images, 0.5).score.shape == (2,)


@pytest.mark.parametrize("kind", REGIMES.values(), ids=REGIMES)
def test_a_regime_is_one_name_for_settings_and_system(kind: Regime) -> None:
    assert REGIMES[kind.schema().name] is kind
    assert kind.load().__name__.endswith("System")


def test_unknown_regimes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown system 'photometrc'\. Did you mean 'photometric'"):
        regime("photometrc")
