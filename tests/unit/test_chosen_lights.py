"""Wherever somebody chooses a light, albedo stays as it is: in the mean light, or in that of the photograph."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import zoo
from tests.smooth import tiny
from zoo.cli import main as cli
from zoo.config.schemas import Card
from zoo.editing.inversion import invert
from zoo.editing.reconstruction import Reconstruction
from zoo.generators.base import Generator
from zoo.generators.shadegan import ShadeGAN
from zoo.geometry import Light
from zoo.output.strips import model_sheets
from zoo.viewer.state import Lamp, State, Thing
from zoo.viewer.worker import Worker

OWN, CHOSEN = Light.of(0.4, 0.6, -0.5, 0.3), Light.of(0.25, 0.75, 1.2)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The lights that colour layers have seen."""
    found: list[Tensor] = []
    given = ShadeGAN.seen_light

    def noted(*args: object) -> Tensor | None:
        light = given(*args)  # type: ignore[arg-type]
        assert light is not None
        found.append(light)
        return light

    monkeypatch.setattr(ShadeGAN, "seen_light", noted)
    return found


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    folder = tmp_path_factory.mktemp("weights")
    return zoo.load(f"file:{zoo.save(tiny('shadegan'), folder, card=Card(name='shadegan'))}", device="cpu")


@pytest.fixture(scope="module")
def photo(generator: Generator) -> Reconstruction:
    found = invert(generator, torch.zeros(3, 32, 32), align=False, steps=1, size=16)
    return replace(found, light=OWN)


def all_are(seen: list[Tensor], light: Light) -> bool:
    return len(seen) > 0 and all(torch.allclose(each, light.params.expand_as(each)) for each in seen)


def test_of_samples(generator: Generator, seen: list[Tensor]) -> None:
    zoo.sample(generator, [0], size=16, relight=True)
    model_sheets(generator, size=16, n=1)
    worker = SimpleNamespace(maker=lambda thing: generator, latents=lambda thing: thing.latents(generator))
    Worker.picture(worker, State(Thing(3), lamp=Lamp.of(CHOSEN)), 16, True)  # type: ignore[arg-type]
    assert all_are(seen, generator.mean_light)


def test_of_photographs(photo: Reconstruction, seen: list[Tensor], tmp_path: Path) -> None:
    generator = photo.generator
    photo.render(light=CHOSEN, size=16)
    worker = SimpleNamespace(maker=lambda thing: generator, latents=lambda thing: thing.latents(generator))
    Worker.picture(worker, State(Thing(psi=1.0, photo=photo), lamp=Lamp.of(CHOSEN)), 16, True)  # type: ignore[arg-type]
    assert all_are(seen, OWN)
    file, weights = photo.save(tmp_path / "a.safetensors"), zoo.save(generator, tmp_path / "weights")
    seen.clear()
    with pytest.raises(SystemExit, match="0"):
        cli.main(f"relight {weights} --from {file} --frames 2 --size 16 --out {tmp_path / 'film'}".split())
    assert all_are(seen, OWN)
