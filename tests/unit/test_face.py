"""The public names: what is there, what it takes, and that it does what the command does."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

import zoo
from zoo import api
from zoo.cli import main as cli
from zoo.config import recipes
from zoo.config.schemas import Card
from zoo.editing.reconstruction import Fit, Reconstruction
from zoo.errors import ConfigError
from zoo.evaluation.benchmarks.heads import Heads

PUBLIC = (
    "Camera Light Render __version__ build card compare evaluate example_photo export finetune import_official invert "
    "list load load_reconstruction sample save train"
)


@pytest.fixture(scope="module")
def gen():
    gen = zoo.build("shadegan", z_dim=8, hidden_dim=8, layers=1, steps=4, fine_steps=0).eval().requires_grad_(False)
    gen.name = "shadegan.toy"
    return gen


def test_the_names_are_these() -> None:
    assert dir(zoo) == PUBLIC.split()
    assert all(hasattr(zoo, name) for name in dir(zoo))
    assert not hasattr(zoo, "laod")


@pytest.mark.parametrize("name", [n for n in PUBLIC.split() if n not in ("__version__", "Camera", "Light", "Render")])
def test_each_name_is_a_function_with_a_page(name: str) -> None:
    assert callable(getattr(zoo, name))
    assert len(getattr(zoo, name).__doc__.splitlines()[0]) > 20


def test_texts_of_generators_and_reconstructions(gen) -> None:
    count = sum(p.numel() for p in gen.parameters())
    assert repr(gen) == f"ShadeGAN(shadegan.toy, {count / 1e6:.1f} M parameters, cpu)"
    assert "FiLMSiren" in torch.nn.Module.__repr__(gen)
    assert "\n" in repr(gen.siren)
    latents = zoo.build("shadegan", seed=0).latents(1)
    camera = gen.camera(0.12, -0.034, 16)
    rec = Reconstruction(gen, latents, camera, None, torch.zeros(1), torch.zeros(1), Fit(27.31, 0.1))
    assert repr(rec) == "Reconstruction(shadegan.toy, yaw 0.12, pitch -0.03, 27.3 dB)"


def test_a_sheet_is_that_of_the_command(gen, tmp_path: Path) -> None:
    folder, out = zoo.save(gen, tmp_path / "toy"), tmp_path / "grid.png"
    sheet = zoo.sample(gen, "1,3-4", size=16, yaw=0.2, relight=True)
    assert sheet.size == (3 * 16, 14 + 5 * 16 + 7 * 16)
    assert (
        ImageChops.difference(sheet, zoo.sample(f"file:{folder}", [1, 3, 4], size=16, yaw=0.2, relight=True)).getbbox()
        is None
    )
    assert zoo.sample(gen, [1], size=16, maps="rgb").size == (16, 14 + 16)
    with pytest.raises(SystemExit, match="0"):
        cli.main(f"sample {folder} --seeds 1,3-4 --size 16 --yaw 0.2 --relight --out {out}".split())
    assert ImageChops.difference(sheet, Image.open(out)).getbbox() is None


def test_sheets_that_cannot_be_drawn(gen) -> None:
    with pytest.raises(ConfigError, match="no seeds"):
        zoo.sample(gen, [])
    with pytest.raises(ConfigError, match="unknown map 'colour'"):
        zoo.sample(gen, [0], size=16, maps=["colour"])
    with pytest.raises(ConfigError, match="unknown map 'colour'"):
        zoo.sample(gen, [0], size=16, maps="rgb, colour")
    flat = zoo.build("stylegan2", size=16)
    with pytest.raises(ConfigError, match="stylegan2 has no light to change; leave relight out"):
        zoo.sample(flat, [0], relight=True)
    with pytest.raises(ConfigError, match="it has no yaw and pitch"):
        zoo.sample(flat, [0], yaw=0.1)


@pytest.mark.parametrize("seeds", [np.array([1, 3]), torch.tensor([1, 3]), (np.int64(1), 3), iter([1, 3]), "1,3"])
def test_seeds_are_whole_numbers_of_any_kind(seeds: Any) -> None:
    assert api.seeds_of(seeds) == [1, 3]
    assert all(type(seed) is int for seed in api.seeds_of([np.int64(3)]))


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ([1.5], r"seeds \[1.5\]: give whole numbers"),
        (np.arange(2.0), "give whole numbers"),
        (3, "seeds 3: give whole numbers"),
        (["1"], "give whole numbers"),
        (np.array([], int), "no seeds"),
        ([2**70], f"the largest {api.MAX_SEED}"),
        ([-1], "seed -1: the smallest is 0"),
    ],
)
def test_seeds_that_are_none_are_one_line(seeds: Any, words: str, gen) -> None:
    with pytest.raises(ConfigError, match=words):
        zoo.sample(gen, seeds)


def test_paths_stand_for_weights_wherever_names_do(gen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = zoo.save(gen, Path("shadegan"), card=Card(name="shadegan.toy", recipe="shadegan_heads32"))
    assert zoo.load(folder).config == gen.config  # not the shipped weights of that name
    assert zoo.card(folder).name == "shadegan.toy"
    assert zoo.sample(folder, [0], size=8).size == zoo.sample(gen, [0], size=8).size
    monkeypatch.setattr("zoo.editing.inversion.invert", lambda model, image, **options: (model.config, image, options))
    for model in (gen, folder, "./shadegan"):
        assert zoo.invert(model, "photo.jpg", steps=2) == (gen.config, "photo.jpg", {"steps": 2})
    monkeypatch.setattr("zoo.evaluation.scores.evaluate", lambda model, benchmark, **_: {"model": model})
    assert zoo.evaluate(folder) == {"model": "./shadegan"}
    assert zoo.evaluate(gen) == {"model": gen}
    monkeypatch.setattr("zoo.evaluation.comparison.compare", lambda subjects, benchmark: subjects)
    assert [*zoo.compare(folder)] == ["./shadegan"]
    assert [*zoo.compare([folder, "unsup3d"])] == ["./shadegan", "unsup3d"]
    assert [*zoo.compare("unsup3d")] == ["unsup3d"]
    seen: list[Any] = []
    monkeypatch.setattr("zoo.systems.run.train", lambda run, *_, command: seen.append((run.init, command)))
    zoo.finetune(folder)
    assert seen == [("./shadegan", "zoo finetune ./shadegan")]
    with pytest.raises(ConfigError, match=r"runs/mine.yaml: cannot be read"):
        zoo.train(Path("runs/mine.yaml"))


def test_what_is_no_name_is_one_line() -> None:
    calls: Any = (
        zoo.load, zoo.card, zoo.train, zoo.finetune, zoo.sample, zoo.evaluate, zoo.compare,
        lambda given: zoo.invert(given, "photo.jpg"), lambda given: zoo.compare([given]),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(ConfigError, match="an object of type int is no name: give a name as text, or a path"):
            call(3)
    with pytest.raises(ConfigError, match="of type dict"):
        zoo.evaluate({})  # type: ignore[arg-type]


def test_keywords_are_overrides() -> None:
    settings = {"trainer": {"max_kimg": 0.5, "loggers": ["wandb"]}, "data": "folder", "init": None, "resume": "auto"}
    assert [*api._overrides(settings)] == [
        "trainer.max_kimg=0.5", 'trainer.loggers=["wandb"]', "data=folder", "init=null", "resume=auto",
    ]  # fmt: skip
    paths: dict[str, Any] = {"out": Path("/tmp/o"), "data": {"root": Path("a b")}, "list": [Path("x")]}
    assert [*api._overrides(paths)] == ["out=/tmp/o", "data.root=a b", 'list=["x"]']
    numbers = {"seed": np.int64(3), "compile": np.bool_(True), "rate": np.float32(0.5), "steps": [np.int32(1)]}
    assert [*api._overrides(numbers)] == ["seed=3", "compile=true", "rate=0.5", "steps=[1]"]
    run = recipes.load_run("shadegan_heads32", [*api._overrides({"out": Path("/tmp/o"), "seed": np.int64(3)})])
    assert (run.out, run.seed) == ("/tmp/o", 3)


def test_a_training_is_that_of_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both give the same run to `systems.run.train`, and the same line to repeat it."""
    from zoo.systems import run as systems

    seen = []

    def note(run, *_, command: str) -> Path:
        seen.append((run, command))
        (tmp_path / "config.json").write_text(json.dumps({"generator": run.generator}))
        return tmp_path

    monkeypatch.setattr(systems, "train", note)
    recipe, overrides = "shadegan_heads32", [f"out={tmp_path}", "trainer.max_kimg=1"]
    assert zoo.train(recipe, overrides) == tmp_path
    assert zoo.train(recipe, out=str(tmp_path), trainer={"max_kimg": 1}) == tmp_path
    with pytest.raises(SystemExit, match="0"):
        cli.main(["train", recipe, *overrides])
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][0].trainer.max_kimg == 1
    assert seen[0][1] == f"zoo train {recipe} out={tmp_path} trainer.max_kimg=1"

    seen.clear()
    assert zoo.finetune("shadegan", ["trainer.max_kimg=1"], data="heads") == tmp_path
    with pytest.raises(SystemExit, match="0"):
        cli.main(["finetune", "shadegan", "trainer.max_kimg=1", "data=heads"])
    assert seen[0] == seen[1]
    assert (seen[0][0].init, seen[0][1]) == ("shadegan", "zoo finetune shadegan trainer.max_kimg=1 data=heads")


def test_wrong_settings_of_a_training_name_the_key() -> None:
    with pytest.raises(ConfigError, match="max_kimgs"):
        zoo.train("shadegan_heads32", trainer={"max_kimgs": 1})
    with pytest.raises(ConfigError, match="'max_kimg' is not an override"):
        zoo.train("shadegan_heads32", ["max_kimg"])
    with pytest.raises(ConfigError, match="shadegan_heads32"):
        zoo.train("shadegan_heads3")


def test_side_has_one_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """`zoo.compare` and `zoo.evaluate` give the papers' unit, 1e-2, in which the constant depth has about 1."""
    monkeypatch.setattr(Heads, "standard", replace(Heads.standard, name="heads-small", steps=1))
    small: dict[str, Any] = {"benchmark": "heads", "n_test": 4, "n_pairs": 4, "progress": False}
    row = zoo.compare(["unsup3d"], **small).rows[0]
    side = zoo.evaluate("constant", **small)["SIDE"]
    assert row.as_dict()["SIDE"] == side
    assert 0.1 < side < 10
