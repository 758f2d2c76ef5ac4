"""Names, seeds, saving and loading."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

import zoo
from tests.tiny import TINY, overrides
from zoo import hub, resources
from zoo.config import recipes
from zoo.config.fill import to_dict
from zoo.config.schemas import Card, Metric, RunConfig
from zoo.errors import ConfigError, WeightsError, ZooError
from zoo.fitting.runs import is_run, read_run
from zoo.generators.base import Generator
from zoo.generators.field import FieldGenerator
from zoo.systems.checkpoints import AtomicCheckpointIO
from zoo.systems.run import run_folder
from zoo.systems.start import finetune, initial, pair
from zoo.weights import cards


def tiny(method: str = "shadegan", seed: int = 0) -> Generator:
    return zoo.build(method, seed=seed, **TINY)


def same(a: Generator, b: Generator) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(v, right[k]) for k, v in left.items())


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints of our own, made once."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed, tag in enumerate(("heads8", "heads32", "heads128")):
        card = Card(name=f"shadegan.{tag}", summary=f"size {tag}", recipe="shadegan_heads32")
        zoo.save(tiny(seed=seed), folder / f"shadegan.{tag}", card=card)
    zoo.save(tiny("pigan"), folder / "pigan.heads32", card=Card(name="pigan.heads32", default=True))
    zoo.save(tiny("pigan", seed=1), folder / "pigan.heads64", card=Card(name="pigan.heads64"))
    return folder


@pytest.fixture
def shelf(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them in the place of the real ones."""
    folder = Path(shutil.copytree(shipped, tmp_path / "checkpoints"))
    monkeypatch.setattr(resources, "checkpoints", lambda: folder)
    return folder


def test_list_sorts_naturally_and_knows_wildcards(shelf: Path) -> None:
    tags = ["shadegan.heads8", "shadegan.heads32", "shadegan.heads128"]
    assert zoo.list("shade*", pretrained=True) == tags
    assert zoo.list("shadegan", pretrained=True) == tags
    assert zoo.list("*.heads32") == ["pigan.heads32", "shadegan.heads32"]
    assert "shadegan" in zoo.list()
    assert "shadegan.heads8" in zoo.list()
    assert "shadegan" in zoo.list(pretrained=False)
    assert "shadegan.heads8" not in zoo.list(pretrained=False)
    assert zoo.list("nothing*") == []


def test_a_bare_name_takes_the_default_or_the_largest_tag(shelf: Path) -> None:
    assert zoo.load("shadegan").name == "shadegan.heads128"
    assert zoo.load("pigan").name == "pigan.heads32"


def test_loaded_models_are_frozen_and_know_their_card(shelf: Path) -> None:
    model = zoo.load("shadegan.heads32", device="cpu")
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert isinstance(model.card, Card)
    assert model.card.summary == "size heads32"
    assert zoo.card("shadegan.heads32") == model.card
    assert model.card.parameters == sum(p.numel() for p in model.parameters())
    assert same(model, tiny(seed=1))


def test_overrides_that_leave_shapes_alone_are_taken(shelf: Path) -> None:
    model = zoo.load("shadegan.heads32", steps=9, scene={"fov": 20.0})
    assert model.config.steps == 9
    assert model.scene.fov == 20
    assert model.scene.far == tiny().scene.far
    with pytest.raises(WeightsError, match=r"wrong shape: .*\(3, 16\) for \(3, 24\)"):
        zoo.load("shadegan.heads32", hidden_dim=24)
    with pytest.raises(ConfigError, match="Did you mean: 'steps'"):
        zoo.load("shadegan.heads32", stepz=9)


def test_pretrained_false_keeps_the_architecture(shelf: Path) -> None:
    model = zoo.load("shadegan.heads32", pretrained=False)
    assert zoo.load("shadegan.heads32", pretrained=False, device="meta").device.type == "meta"
    with pytest.raises(ConfigError, match="not on this machine"):
        zoo.load("shadegan.heads32", pretrained=False, device="bogus")
    assert model.config.hidden_dim == 16
    assert not same(model, zoo.load("shadegan.heads32"))


def test_same_seed_same_weights_and_untouched_random_state() -> None:
    before = torch.random.get_rng_state()
    first, again, other = tiny(seed=3), tiny(seed=3), tiny(seed=4)
    assert torch.equal(before, torch.random.get_rng_state())
    assert same(first, again)
    assert not same(first, other)
    assert first.training


def test_build_from_a_recipe_a_mapping_and_a_file(tmp_path: Path) -> None:
    assert zoo.build("shadegan_heads32", outward_init=False).config.hidden_dim == 64
    assert zoo.build({"name": "pigan", **TINY}).config.layers == 2
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("use: [generator/pigan, data/heads]\ngenerator: {hidden_dim: 24, layers: 1}\n")
    assert zoo.build(str(recipe)).config.hidden_dim == 24


@pytest.mark.parametrize("method", ["pigan", "shadegan"])
def test_saved_models_load_bit_for_bit(method: str, tmp_path: Path) -> None:
    model = tiny(method)
    zoo.save(model, tmp_path / "a")
    for spelling in (f"file:{tmp_path}/a", str(tmp_path / "a"), f"file:{tmp_path}/a/model.safetensors"):
        loaded = zoo.load(spelling, device="cpu")
        assert same(model, loaded)
        assert loaded.config == model.config
    latents, camera = model.latents(1), model.camera(size=16)
    with torch.no_grad():
        assert torch.equal(model.eval()(latents, camera).rgb, loaded(latents, camera).rgb)


def test_halved_weights_are_near_and_half_as_large(tmp_path: Path) -> None:
    model, state = tiny(), {"a": torch.linspace(-3, 3, 4096), "steps": torch.tensor(7)}
    sizes = {}
    for half in ("none", "discriminator", "all"):
        folder = zoo.save(model, tmp_path / half, discriminator=state, half=half)
        sizes[half] = [(folder / f"{part}.safetensors").stat().st_size for part in ("model", "discriminator")]
        loaded, beside = pair(f"file:{folder}")
        assert beside is not None
        assert {k: v.dtype for k, v in beside.items()} == {"a": torch.float32, "steps": torch.int64}
        torch.testing.assert_close(beside, state, rtol=0 if half == "none" else 2**-11, atol=2**-24)
        torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=2**-11 * (half == "all"), atol=2**-24)
    assert sizes["discriminator"][0] == sizes["none"][0] > 1.6 * sizes["all"][0]  # the rest is the header
    assert sizes["none"][1] > 1.9 * sizes["discriminator"][1] == 1.9 * sizes["all"][1]
    with pytest.raises(ConfigError, match=r"half='model': use none, discriminator, all"):
        zoo.save(model, tmp_path / "model", half="model")  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match=r"too large for 16 bits: a; save them whole"):
        zoo.save(model, tmp_path / "large", discriminator={"a": torch.tensor([1e5])}, half="discriminator")


def test_a_card_makes_no_claims_for_weights_that_have_changed(shelf: Path, tmp_path: Path) -> None:
    def saved(model: Generator, name: str) -> Card:
        return cards.read(zoo.save(model, tmp_path / name, half="all" if name == "rounded" else "none") / "README.md")

    metric = Metric("SIDE x1e-2", 0.5, "heads-v1", 500, "zoo eval")
    known = Card(name="shadegan.heads9", metrics=[metric], command="zoo train shadegan_heads32", limits=["small"])
    folder = f"file:{zoo.save(tiny(), tmp_path / 'first', card=known)}"
    same_one = saved(zoo.load(folder), "same")
    assert (same_one.metrics, same_one.name) == ([metric], "shadegan.heads9")
    changed = zoo.load(folder)
    with torch.no_grad():
        next(changed.parameters()).mul_(0.5)
    others = saved(changed, "changed"), saved(zoo.load(folder, steps=3), "coarser"), saved(zoo.load(folder), "rounded")
    for card in others:
        assert (card.metrics, card.command, card.name, card.default) == ([], "", "", False)
        assert card.limits == ["small", "Changed after loading shadegan.heads9; no figure of those weights holds."]


def test_save_refuses_to_overwrite_unless_told(tmp_path: Path) -> None:
    zoo.save(tiny(), tmp_path)
    with pytest.raises(WeightsError, match="overwrite=True"):
        zoo.save(tiny(seed=1), tmp_path)
    zoo.save(tiny(seed=1), tmp_path, overwrite=True)
    assert same(zoo.load(f"file:{tmp_path}"), tiny(seed=1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_the_card_carries_hash_and_size_and_reads_back(tmp_path: Path) -> None:
    metrics = [Metric("SIDE", 1.25, "heads-v1", 500, "zoo eval shadegan")]
    card = Card(
        name="shadegan.mine", summary="Grüße: a 'test'", licence={"code": "Apache-2.0", "data": "CC0"}, kimg=1.5,
        metrics=metrics, limits=["near: frontal", "- small"], citation="@article{x}", recipe="shadegan_heads32",
    )  # fmt: skip
    zoo.save(tiny(), tmp_path, card=card)
    data = (tmp_path / "model.safetensors").read_bytes()
    read = zoo.card(f"file:{tmp_path}")
    assert (read.sha256, read.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert dataclasses.replace(read, sha256="", bytes=0, parameters=0) == card
    assert "| SIDE | 1.25 | heads-v1 | 500 |" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_the_header_carries_the_config(tmp_path: Path) -> None:
    zoo.save(tiny(), tmp_path)
    data = (tmp_path / "model.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert json.loads(header["zoo.config"]) == json.loads((tmp_path / "config.json").read_text())
    assert (header["zoo.format"], header["zoo.version"]) == ("1", zoo.__version__)


def test_unknown_names_offer_the_nearest(shelf: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'shadegan'"):
        zoo.load("shadegn")
    with pytest.raises(ConfigError, match=r"Did you mean 'shadegan\.heads32'"):
        zoo.load("shadegan.heads23")
    with pytest.raises(ConfigError, match=r"file:runs/a.*hf:runs/a"):
        zoo.load("runs/a")
    with pytest.raises(WeightsError, match="does not exist"):
        zoo.load("file:runs/a")


@pytest.mark.parametrize("bad", ["~nobody-of-that-name/x", "x" * 5000])
def test_names_that_no_path_can_have_are_one_line(bad: str, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for found in (zoo.load, zoo.card, is_run, read_run):
        with pytest.raises(ConfigError, match=rf"^{bad[:120]}: no usable path \([^.]*\); name another$"):
            found(bad)
    with pytest.raises(WeightsError, match="no usable path"):
        zoo.load(f"file:{bad}")
    monkeypatch.setenv("ZOO_WEIGHTS", bad)
    with pytest.raises(ConfigError, match=r"ZOO_WEIGHTS=.*no usable path"):
        zoo.list()


def test_a_method_without_weights_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "checkpoints", lambda: tmp_path)
    with pytest.raises(WeightsError, match="pretrained=False"):
        zoo.load("shadegan")
    assert zoo.load("shadegan", pretrained=False, **TINY).config.layers == 2


def test_own_weights_without_a_card_answer_to_their_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "checkpoints", lambda: tmp_path / "none")
    monkeypatch.setenv("ZOO_WEIGHTS", str(tmp_path))
    zoo.save(tiny(), tmp_path / "shadegan.mine")
    (tmp_path / "shadegan.mine" / "README.md").unlink()
    assert same(zoo.load("shadegan", device="cpu"), zoo.load("shadegan.mine", device="cpu"))


def test_the_cache_lies_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    for value, place in (("~/zoo", tmp_path / "zoo"), ("", Path("/elsewhere/zoo")), ("/there", Path("/there"))):
        monkeypatch.setenv("ZOO_CACHE", value)
        assert resources.cache() == place


def test_shipped_weights_need_their_card(shelf: Path) -> None:
    (shelf / "shadegan.heads32" / "README.md").unlink()
    with pytest.raises(WeightsError, match="without a card"):
        zoo.load("shadegan.heads32")


def test_models_of_a_class_that_nobody_registered_are_not_saved(tmp_path: Path) -> None:
    class Mine(type(tiny())):  # type: ignore[misc]
        pass

    with pytest.raises(ConfigError, match="not registered"):
        zoo.save(Mine(tiny().config), tmp_path)


def test_a_model_is_saved_under_its_class_whatever_it_is_called(tmp_path: Path) -> None:
    model = tiny("pigan")
    model.name = "shadegan.mine"
    zoo.save(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["name"] == "pigan"


@pytest.mark.parametrize("device", ["foo", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device: str, shelf: Path) -> None:
    with pytest.raises(ConfigError, match=f"device '{device}' is not on this machine; use cpu"):
        zoo.load("shadegan", device=device)


def write_run(folder: Path, *settings: str, images: tuple[int, ...] = (1000, 2000)) -> RunConfig:
    """The folder of a run whose weights are all equal to the number of the checkpoint: 1, 2, ..."""
    run = recipes.load_run("shadegan", [*overrides("generator", TINY), *settings])
    tensors = zoo.build(run.generator).state_dict()
    for number, seen in enumerate(images, 1):
        state = {f"ema.average.{k}": torch.full_like(v, number) for k, v in tensors.items()}
        checkpoint = {"zoo": {"config": to_dict(run), "kimg": seen / 1000}}
        checkpoint["state_dict"] = {**state, "discriminator.step": torch.tensor(number)}
        AtomicCheckpointIO().save_checkpoint(checkpoint, folder / "checkpoints" / f"images{seen:08d}.ckpt")
    return run


def test_the_card_of_a_run_counts_the_images_before_it(tmp_path: Path) -> None:
    write_run(tmp_path, "system.start_kimg=72")
    card = zoo.load(f"file:{tmp_path}").card
    assert card is not None
    assert card.kimg == 74


def test_a_pair_is_of_one_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path)
    load = hub.load

    def slow(*args: object, **options: object) -> Generator:
        model = load(*args, **options)  # type: ignore[arg-type]
        write_run(tmp_path, images=(1000, 2000, 3000))  # the run goes on meanwhile
        return model

    monkeypatch.setattr(hub, "load", slow)
    model, discriminator = pair(f"file:{tmp_path}")
    assert discriminator is not None
    assert int(discriminator["step"]) == 2
    assert all(bool((v == 2).all()) for v in model.state_dict().values())


def test_init_must_have_the_architecture_of_the_run(shelf: Path) -> None:
    own = overrides("generator", TINY)
    model, discriminator = initial(recipes.load_run("shadegan", [*own, "init=shadegan.heads32"]))
    assert model is not None
    assert same(model, tiny(seed=1))
    assert discriminator is None
    with pytest.raises(WeightsError, match=r"\(16, 3\) there and \(24, 3\) .*same generator settings") as caught:
        initial(recipes.load_run("shadegan", [*own, "init=shadegan.heads32", "generator.hidden_dim=24"]))
    assert "\n" not in str(caught.value)


def test_init_of_other_settings_is_said(shelf: Path, caplog: pytest.LogCaptureFixture) -> None:
    stored = zoo.load("shadegan.heads32").config
    same = [f"generator.{key}={value}" for key, value in to_dict(stored).items() if key != "scene"]
    initial(recipes.load_run("shadegan", [*same, "init=shadegan.heads32", "data=folder", "data.scene.fov=30"]))
    assert not caplog.messages
    initial(recipes.load_run("shadegan", [*same, "init=shadegan.heads32", "generator.density_scale=7"]))
    (told,) = caplog.messages
    what = f"generator.density_scale ({stored.density_scale} there, 7.0 here)"
    assert told == f"init=shadegan.heads32: settings differ from those of the weights: {what}"


@pytest.mark.parametrize("tracking", [{}, {"surface_tracking": True, "surface_size": 16, "surface_features": 4}])
@pytest.mark.parametrize("method", ["pigan", "gof"])
def test_a_field_without_lights_starts_from_one_under_them(
    method: str, tracking: dict[str, int], tmp_path: Path
) -> None:
    """What it shows is the other's albedo, as the other sees it in the mean light.

    GOF's surface is where a mesh of the other would be. What tracks the other's surface stays behind.
    """
    given = zoo.build("shadegan", **TINY, **tracking, light_condition=True, view_condition=True)
    zoo.save(given, tmp_path / "w")
    own = [*overrides("generator", TINY), "generator.view_condition=true", f"init=file:{tmp_path / 'w'}"]
    model, _ = initial(recipes.load_run(method, own))
    assert isinstance(model, FieldGenerator)
    points, towards = torch.randn(2, 50, 3) * 0.1, torch.nn.functional.normalize(torch.randn(2, 50, 3), dim=-1)
    code = given.code(given.latents(2))
    lit = given.field(code, given.colour_condition(2), with_gradient=False)(points, towards)
    level = given.config.mesh_level / given.config.density_scale if method == "gof" else 0.0
    dark = model.field(code, None, with_gradient=False)(points, towards)
    torch.testing.assert_close(dark._replace(sigma=dark.sigma + level), lit)
    zoo.save(model, tmp_path / "unlit")
    with pytest.raises(WeightsError, match=r"color_layer_sine.layer.weight is \(16, 19\) there and \(16, 23\) in this"):
        initial(recipes.load_run("shadegan", [*own[:-1], f"init=file:{tmp_path / 'unlit'}"]))


def test_init_is_not_read_by_a_run_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = recipes.load_run("shadegan", ["init=file:gone", "resume=auto", f"out={tmp_path}"])
    with pytest.raises(WeightsError, match="gone"):
        initial(run)
    write_run(run_folder(run))
    assert initial(run) == (None, None)


def test_finetune_starts_from_the_weights_with_lower_rates(shelf: Path) -> None:
    run = finetune("shadegan.heads32", ["trainer.max_kimg=2"])
    recipe = recipes.load_run("shadegan_heads32")
    assert run.init == "shadegan.heads32"
    assert run.trainer.max_kimg == 2
    assert run.generator["hidden_dim"] == 16
    assert run.system.stages[0].lr_g == pytest.approx(recipe.system.stages[-1].lr_g / 3)
    assert len(run.system.stages) == 1
    assert run.name == "shadegan.heads32-finetune"
    own = finetune("shadegan.heads32", ["name=mine", "system.start_kimg=3"])
    assert (own.name, own.system.start_kimg) == ("mine", 3)
    with pytest.raises(WeightsError, match="names no recipe"):
        finetune("pigan")


def test_the_hub_extra_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ZooError, match=r"pip install 'zoo3d\[hub\]'"):
        zoo.load("hf:org/repo@main")


def test_markdown_table_has_a_row_for_each_card(shelf: Path) -> None:
    table = cards.markdown_table(zoo.card(name) for name in zoo.list(pretrained=True)).splitlines()
    assert len(table) == 2 + 5
    assert table[2].startswith("| `pigan.heads32` |")
