"""Pivotal tuning: the photograph is learnt, others are kept, the original is untouched, files keep the weights."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

import zoo
from tests.unit.test_editing import SIZE, picture, tiny
from zoo.cli.options import subjects
from zoo.config.schemas import Card
from zoo.editing import inversion, tuning
from zoo.editing.inversion import invert
from zoo.editing.reconstruction import Reconstruction, fingerprint, read
from zoo.errors import ConfigError, WeightsError
from zoo.generators.base import Generator


def noise() -> Tensor:
    return torch.nn.functional.interpolate(torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0)), 32)[0]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inversion, "DRAWS", 4)
    monkeypatch.setattr(inversion, "STARTS", 1)


@pytest.fixture
def generator() -> Generator:
    return tiny("shadegan")


@pytest.fixture
def tuned(generator: Generator, few: None) -> Reconstruction:
    return invert(generator, noise(), align=False, steps=4, size=SIZE, tune=True)


def test_tuning_comes_closer_and_leaves_the_original_as_it_was(generator: Generator, few: None) -> None:
    before = fingerprint(generator)
    plain = invert(generator, noise(), align=False, steps=4, size=SIZE)
    tuned = invert(generator, noise(), align=False, steps=4, size=SIZE, tune=True)
    assert tuned.fit.psnr > plain.fit.psnr + 1
    assert tuned.fit.steps > plain.fit.steps
    assert fingerprint(generator) == before == tuned.origin
    assert not any(p.requires_grad for p in (*generator.parameters(), *tuned.generator.parameters()))
    assert torch.equal(tuned.latents.code, plain.latents.code)
    assert torch.equal(tuned.generator.average_code(), generator.average_code())  # codes keep their meaning


def test_other_objects_keep_their_pictures(generator: Generator, few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed() -> float:
        own = invert(generator, noise(), align=False, steps=4, size=SIZE, tune=True).generator
        others, cameras, lights = generator.latents(8, 3), generator.cameras(8, 3, SIZE), generator.lights(8, 3)
        with torch.no_grad():
            return (own(others, cameras, lights).rgb - generator(others, cameras, lights).rgb).abs().mean().item()

    kept = changed()
    monkeypatch.setattr(tuning, "_LOCALITY", 0.0)
    assert kept < 0.7 * changed()


def test_a_file_keeps_the_tuned_weights(tuned: Reconstruction, generator: Generator, tmp_path: Path) -> None:
    path = tuned.save(tmp_path / "a.safetensors")
    again = read(path, generator)
    with safe_open(path, "pt") as file:  # readers that know no tuned weights would show another face
        assert file.metadata()["zoo.format"] == "reconstruction-tuned-1"
    assert again.origin == tuned.origin
    assert torch.equal(again.render().rgb, tuned.render().rgb)
    assert torch.equal(
        again.render(generator.camera(0.3, size=SIZE)).rgb, tuned.render(generator.camera(0.3, size=SIZE)).rgb
    )
    assert fingerprint(again.generator) == fingerprint(tuned.generator) != fingerprint(generator)
    assert "tuned" in repr(again)
    assert path.read_bytes() == again.save(tmp_path / "b.safetensors").read_bytes()


def test_tuned_weights_of_another_network_are_refused(
    tuned: Reconstruction, generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned.generator.extra = torch.nn.Linear(2, 2)
    with pytest.raises(WeightsError, match="not those of a shadegan"):
        read(tuned.save(tmp_path / "a.safetensors"), generator)


def test_edits_use_the_tuned_weights(tuned: Reconstruction, generator: Generator, tmp_path: Path) -> None:
    generator.name = ""
    name = f"file:{zoo.save(generator, tmp_path / 'weights', card=Card(name='shadegan'))}"
    one = tuned.save(tmp_path / "a.safetensors")
    found, objects = subjects(name, "3", [one], None, "cpu")
    assert fingerprint(found) == fingerprint(tuned.generator)
    assert len(objects) == 2
    with pytest.raises(ConfigError, match="2 photographs have tuned weights"):
        subjects(name, "", [one, one], None, "cpu")


def test_tuning_ends_at_a_plateau(generator: Generator, few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_PATIENCE", 2)
    monkeypatch.setattr(tuning, "_RATE", 0.0)
    found = invert(generator, picture(generator), align=False, steps=2, size=SIZE, tune=True)
    assert found.fit.stopped == "plateau"
    assert found.fit.steps <= 2 + 3


def test_tuning_needs_a_search() -> None:
    with pytest.raises(ConfigError, match="leave tune out"):
        invert(tiny("unsup3d"), torch.zeros(3, 32, 32), align=False, tune=True)
