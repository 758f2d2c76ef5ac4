"""Pivotal tuning: the photograph is learnt, others are kept, the original is untouched, files keep the weights."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

import zoo
from tests.smooth import SIZE, picture, tiny
from zoo.cli.options import subjects
from zoo.config.schemas import Card
from zoo.editing import inversion, tuning
from zoo.editing.inversion import invert, tune_to
from zoo.editing.reconstruction import Reconstruction, fingerprint, read
from zoo.errors import ConfigError, WeightsError
from zoo.generators.base import Generator


def noise() -> Tensor:
    return torch.nn.functional.interpolate(torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0)), 32)[0]


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inversion, "DRAWS", 4)
        patch.setattr(inversion, "STARTS", 1)
        yield


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny("shadegan")


@pytest.fixture(scope="module")
def tuned(generator: Generator) -> Reconstruction:
    return invert(generator, noise(), align=False, steps=4, size=SIZE, tune=True)


def test_tuning_comes_closer_and_leaves_the_original_as_it_was(tuned: Reconstruction) -> None:
    generator = tiny("shadegan")
    before = fingerprint(generator)
    plain = invert(generator, noise(), align=False, steps=4, size=SIZE)
    again = tune_to(plain, noise(), align=False)
    assert again.fit.psnr > plain.fit.psnr + 1
    assert again.fit.steps > plain.fit.steps
    assert fingerprint(generator) == before == again.origin
    assert not any(p.requires_grad for p in (*generator.parameters(), *again.generator.parameters()))
    assert torch.equal(again.latents.code, plain.latents.code)
    assert torch.equal(again.generator.average_code(), generator.average_code())  # codes keep their meaning
    assert fingerprint(again.generator) == fingerprint(tuned.generator)  # later or at once, it is the same
    assert again.fit == tuned.fit
    with pytest.raises(ConfigError, match="tuned already"):
        tune_to(again, noise(), align=False)


def test_other_objects_keep_their_pictures(
    generator: Generator, tuned: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(own: Generator) -> float:
        others, cameras, lights = generator.latents(8, 3), generator.cameras(8, 3, SIZE), generator.lights(8, 3)
        with torch.no_grad():
            return (own(others, cameras, lights).rgb - generator(others, cameras, lights).rgb).abs().mean().item()

    monkeypatch.setattr(tuning, "_LOCALITY", 0.0)
    free = invert(generator, noise(), align=False, steps=4, size=SIZE, tune=True)
    assert changed(tuned.generator) < 0.7 * changed(free.generator)


def test_fields_keep_their_surface(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    found = invert(generator, noise(), align=False, steps=4, size=SIZE)
    shape = tuning._Shape(found)
    assert shape.points.shape[1] > 0

    def moved() -> float:
        own = tune_to(found, noise(), align=False).generator
        with torch.no_grad():
            return shape.moved(own, torch.Generator().manual_seed(0)).item()

    held = moved()
    monkeypatch.setattr(tuning, "_SHAPE", 0.0)
    assert held < moved() / 2
    with torch.no_grad():
        assert shape.moved(generator, torch.Generator().manual_seed(0)) == 0


def test_points_lie_around_the_surface_that_is_seen(generator: Generator) -> None:
    found = invert(generator, noise(), align=False, steps=4, size=SIZE)
    render = found.render(size=found.camera.size)
    assert render.depth is not None
    assert render.mask is not None
    shape, depth = tuning._Shape(found), -found.camera.to_camera(tuning._Shape(found).points)[..., 2]
    middle = depth.view(-1, len(tuning._SHELL))[:, len(tuning._SHELL) // 2]
    seen = render.depth[render.mask > 0.5]
    assert len(middle) == len(seen) == shape.points.shape[1] // len(tuning._SHELL)
    assert (middle - seen).abs().median() < 0.02  # a search takes fewer samples than `render`


def test_tuning_where_nothing_is_seen_holds_nothing(generator: Generator) -> None:
    found = invert(generator, noise(), align=False, steps=4, size=SIZE)
    empty = copy.deepcopy(generator)
    with torch.no_grad():
        empty.siren.final_layer.bias.fill_(-100)  # type: ignore[union-attr, operator]
        shape = tuning._Shape(replace(found, generator=empty))
        assert shape.points.shape[1] == 0
        assert shape.moved(generator, torch.Generator()) == 0


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
    tuned: Reconstruction, generator: Generator, tmp_path: Path
) -> None:
    tuned = replace(tuned, generator=copy.deepcopy(tuned.generator))
    tuned.generator.extra = torch.nn.Linear(2, 2)
    with pytest.raises(WeightsError, match="not those of a shadegan"):
        read(tuned.save(tmp_path / "a.safetensors"), generator)


def test_edits_use_the_tuned_weights(tuned: Reconstruction, generator: Generator, tmp_path: Path) -> None:
    generator = tiny("shadegan")
    name = f"file:{zoo.save(generator, tmp_path / 'weights', card=Card(name='shadegan'))}"
    one = tuned.save(tmp_path / "a.safetensors")
    found, objects, lights = subjects(name, "3", [one], None, "cpu")
    assert lights is not None
    assert tuned.light is not None
    torch.testing.assert_close(lights.params[:1], tuned.light.params)  # each its own, for `relight`
    torch.testing.assert_close(lights.params[1].tolist(), found.scene.light.mean)
    assert fingerprint(found) == fingerprint(tuned.generator)
    assert len(objects) == 2
    plain = invert(generator, noise(), align=False, steps=2, size=SIZE).save(tmp_path / "plain.safetensors")
    for files, words in (([one, one], "2 of 2 photographs"), ([plain, one], "1 of 2 photographs")):
        with pytest.raises(ConfigError, match=f"{words} have tuned weights"):
            subjects(name, "", files, None, "cpu")
    assert len(subjects(name, "", [plain, plain], None, "cpu")[1]) == 2


def test_tuning_ends_at_a_plateau(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_PATIENCE", 2)
    monkeypatch.setattr(tuning, "_RATE", 0.0)
    found = invert(generator, picture(generator), align=False, steps=2, size=SIZE, tune=True)
    assert found.fit.stopped == "plateau"
    assert found.fit.steps <= 2 + 3


@pytest.mark.parametrize("step", ["measure", "tuned"])
def test_ctrl_c_before_tuning_leaves_what_was_found(
    step: str, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = invert(generator, noise(), align=False, steps=4, size=SIZE)
    act, calls = getattr(inversion, step), []

    def interrupted_once(*given: object, **options: object) -> object:
        calls.append(step)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return act(*given, **options)

    monkeypatch.setattr(inversion, step, interrupted_once)
    found = invert(generator, noise(), align=False, steps=4, size=SIZE, tune=True)
    assert found.fit == replace(plain.fit, stopped="interrupted")
    assert found.origin == ""
    assert torch.equal(found.latents.code, plain.latents.code)


def test_tuning_needs_a_search() -> None:
    with pytest.raises(ConfigError, match="leave tune out"):
        invert(tiny("unsup3d"), torch.zeros(3, 32, 32), align=False, tune=True)
