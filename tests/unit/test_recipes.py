"""Every recipe describes networks that can be built, for every stage of its curriculum."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import zoo
from zoo import registry
from zoo.config import recipes
from zoo.config.fill import generator_config, to_dict, without_name
from zoo.config.regimes import REGIMES, Regime, regime
from zoo.data.module import FaceData
from zoo.errors import ConfigError
from zoo.official.methods import METHODS
from zoo.official.methods.base import SCENES
from zoo.systems import adversarial
from zoo.systems.run import train


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


# ---------------------------------------------------------------- constants of the papers


class Curriculum:
    """A published curriculum as a recipe has it, at the steps that the authors count."""

    def __init__(self, recipe: str) -> None:
        self.run = recipes.load_run(recipe)
        name, stages = self.run.generator["name"], self.run.system.stages
        method: Any = registry.resolve(name)
        self.generator = method.__new__(method)  # schedules read the Config alone
        torch.nn.Module.__init__(self.generator)
        self.generator.config = generator_config(name, without_name(self.run.generator))
        self.ends = [*(stage.kimg for stage in stages[1:]), self.run.trainer.max_kimg]

    def images(self, step: int) -> int:
        """Images seen after so many steps."""
        seen = 0
        for stage, end in zip(self.run.system.stages, self.ends, strict=True):
            each, start = stage.batch * self.run.trainer.devices, 1000 * stage.kimg
            taken = min(step, round((1000 * end - start) / each))
            seen, step = seen + taken * each, step - taken
        assert step == 0
        return seen

    def sampling(self, step: int) -> Any:
        return self.generator.schedule(self.run.system.clock(self.images(step)) / 1000)

    def lr_g(self, step: int) -> float:
        images = self.images(step)
        stage = [s for s in self.run.system.stages if 1000 * s.kimg <= images][-1]
        return float(stage.lr_g * self.generator.rate_scale(self.sampling(step)))

    def clock_in_steps(self, step: int) -> float:
        each = self.run.system.stages[0].batch * self.run.trainer.devices
        return float(self.run.system.clock(self.images(step)) / each)


@pytest.mark.parametrize("recipe", ["shadegan_celeba", "shadegan_celeba_view"])
def test_shadegan_samples_and_rates_follow_the_published_steps(recipe: str) -> None:
    c = Curriculum(recipe)
    samples = {step: (c.sampling(step).steps, c.sampling(step).fine_steps) for step in (5000, 30000, 70000, 100000)}
    assert samples == {5000: (12, 12), 30000: (9, 9), 70000: (7, 7), 100000: (6, 6)}
    rates = {
        0: 2e-5,
        30000: 1.5e-5,
        69999: 2e-5 * 7 / 12,
        70000: 1e-5 * 7 / 12,
        99999: 5e-6,
        100000: 1e-6,
        150000: 1e-6,
    }
    for step, rate in rates.items():
        assert c.lr_g(step) == pytest.approx(rate), step
    assert c.sampling(5000).window == 0
    for step in (5104, 30000, 99999, 125000, 150000):
        published = 0.18 * math.exp(-3e-5 * (step - 5000)) + 0.06
        assert c.sampling(step).window == pytest.approx(published, abs=2e-6), step
    assert c.sampling(150000).window == pytest.approx(0.0623, abs=5e-5)
    assert (c.sampling(2500).noise_std, c.sampling(6000).light_ratio) == pytest.approx((0.5, 0.5))


def test_cats_of_shadegan_shrink_faster() -> None:
    c = Curriculum("shadegan_cat")
    end = c.sampling(30000)
    assert (end.steps, end.fine_steps, end.window) == (11, 11, pytest.approx(0.18 * math.exp(-2.5) + 0.06))
    assert c.lr_g(0) == 6e-5
    assert c.run.generator["view_condition"]


@pytest.mark.parametrize(
    ("recipe", "steps", "decay", "least", "growth"),
    [
        ("gof_celeba", 200000, 1e-5, 0.03, 0.5e-5),
        ("gof_synface", 80000, 3e-5, 0.02, 4e-5),
        ("gof_cat", 40000, 2e-5, 0.10, 1e-5),
    ],
)
def test_gof_intervals_and_weights_follow_the_published_steps(
    recipe: str, steps: int, decay: float, least: float, growth: float
) -> None:
    c = Curriculum(recipe)
    g = c.generator.config
    for step in (0, steps // 4, steps // 2, steps):
        found = c.sampling(step)
        assert found.interval == pytest.approx(max(least, g.interval_max * math.exp(-decay * step)), rel=1e-5)
        weight = min(10 * g.opacity_weight, g.opacity_weight * math.exp(growth * step))
        assert found.opacity_weight == pytest.approx(weight, rel=1e-5)
        assert c.clock_in_steps(step) == pytest.approx(step)


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [("shadegan_celeba", 150000), ("shadegan_synface_view", 81000), ("pigan_synface", 81000), ("pigan_carla", 200000)],
)
def test_a_curriculum_ends_at_its_last_step(recipe: str, steps: int) -> None:
    c = Curriculum(recipe)
    assert c.images(steps) == 1000 * c.run.trainer.max_kimg
    assert c.clock_in_steps(steps) == pytest.approx(steps)


def test_runs_that_count_images_keep_their_clock() -> None:
    system = recipes.load_run("shadegan_heads64").system
    assert system.clock(12345) == 12345


@pytest.mark.parametrize("data", ["celeba", "synface", "afhq_cats", "folder"])
def test_photographs_of_unsup3d_are_taken_by_its_own_camera(data: str) -> None:
    for method in ("unsup3d", "gan2shape"):
        run = recipes.load_run(method, [f"data={data}"])
        assert (run.data.scene.fov, run.generator["scene"]["fov"]) == (10, 10)
        assert run.data.scene.pose == recipes.load_run("pigan", [f"data={data}"]).data.scene.pose
    assert recipes.load_run("unsup3d", [f"data={data}", "data.scene.fov=11"]).generator["scene"]["fov"] == 11
    assert recipes.load_run("pigan", [f"data={data}"]).generator["scene"]["fov"] == 12
    assert recipes.load_run("unsup3d").generator["scene"]["fov"] == 12  # what the heads are drawn with


@pytest.mark.parametrize(
    ("recipe", "epochs", "pictures", "z_range", "crop"),
    [
        ("unsup3d_celeba", 30, 162770, 0.0, None),
        ("unsup3d_synface", 30, 160000, 0.0, "170"),
        ("unsup3d_cat", 200, 8960, 0.1, "170"),
    ],
)
def test_unsup3d_trains_as_published(recipe: str, epochs: int, pictures: int, z_range: float, crop: str | None) -> None:
    run = recipes.load_run(recipe)
    system: Any = run.system
    assert run.trainer.max_kimg == pytest.approx(epochs * pictures / 1000, abs=0.5)
    assert (system.stages[0].batch, system.stages[0].lr_g, system.betas) == (64, 1e-4, [0.9, 0.999])
    assert (system.weight_decay, run.data.size, run.generator["size"]) == (5e-4, 64, 64)
    assert (run.generator["z_range"], run.data.crop) == (z_range, crop)
    own = {key: run.generator[key] for key in ("depth_prior", "pose_weight", "rigid_weight", "cycle_weight", "centred")}
    assert own == {"depth_prior": "none", "pose_weight": 0, "rigid_weight": 0, "cycle_weight": 0, "centred": True}
    assert run.generator["flip_kimg"] == (
        pytest.approx(10 * pictures / 1000, abs=0.5) if recipe == "unsup3d_cat" else 0
    )


def test_the_mirrored_half_weighs_as_much_until_flip_kimg() -> None:
    model: Any = zoo.build("unsup3d", size=32, nf=8, zdim=8, groups=4, encoder_nf=4, conf_zdim=8, flip_kimg=5.0)
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    before, terms = model.losses(image, kimg=4.9)
    after, _ = model.losses(image, kimg=5.0)
    assert (before - after).item() == pytest.approx(0.5 * terms["l1_flip"].item(), rel=1e-4)


def test_graf_sees_the_middle_of_celeba(tmp_path: Path) -> None:
    run = recipes.load_run("graf_celeba", [f"data.root={tmp_path}", "data.resample=nearest", "data.size=108"])
    picture = Image.new("RGB", (178, 218), (255, 0, 0))
    picture.paste((0, 0, 255), (35, 55, 143, 163))  # 108 x 108 in the middle
    picture.save(tmp_path / "000001.png")
    seen = FaceData(run.data).source().read(0)
    assert run.data.crop == "108"
    assert torch.equal(seen, torch.tensor([0, 0, 255], dtype=torch.uint8)[:, None, None].expand(3, 108, 108))


def test_crops_are_words_or_pixels() -> None:
    assert recipes.load_run("pigan", ["data=folder", "data.crop=0108"]).data.crop == "0108"
    assert recipes.load_run("pigan", ["data=folder"]).data.crop is None
    for bad in ("0", "-3", "1.5", "centre", "999999", "\u00b2", ""):
        if bad:
            with pytest.raises(ConfigError, match=r"data\.crop=.*: use square, celeba, full or pixels"):
                recipes.load_run("pigan", ["data=folder", f"data.crop={bad}"])
    with pytest.raises(ConfigError, match="the heads are drawn as they are used"):
        recipes.load_run("pigan", ["data.crop=64"])


def test_carla_is_seen_from_all_around(tmp_path: Path) -> None:
    run = recipes.load_run("pigan_carla", [f"data.root={tmp_path}"])
    published = SCENES["carla"]
    scene = to_dict(run.data.scene)
    assert {key: scene[key] for key in ("fov", "near", "far", "white_back")} == {
        k: published[k] for k in ("fov", "near", "far", "white_back")
    }
    for key, value in published["pose"].items():
        assert scene["pose"][key] == (value if isinstance(value, str) else pytest.approx(value, abs=1e-12))
    assert not run.data.hflip
    (tmp_path / "poses").mkdir()
    (tmp_path / "poses" / "000000_extrinsics.npy").write_bytes(b"")
    Image.new("RGBA", (128, 128), (0, 0, 0, 0)).save(tmp_path / "000000.png")
    source = FaceData(run.data).source()
    assert len(source) == 1
    assert int(source.read(0).min()) == 255  # on white


@pytest.mark.parametrize(
    ("recipe", "batch", "collect", "stages"),
    [
        ("gan2shape_synface_pretrain", 12 * 8, 1000, 8),
        ("gan2shape_celeba_pretrain", 8 * 8, 800, 4),
        ("gan2shape_cat_pretrain", 8 * 8, 800, 4),
        ("gan2shape_car", 8 * 4, 100, 4),
        ("gan2shape_church", 8 * 4, 100, 4),
        ("gan2shape_synface", 16, 100, 1),
    ],
)
def test_gan2shape_averages_what_all_gpus_did(recipe: str, batch: int, collect: int, stages: int) -> None:
    system: Any = recipes.load_run(recipe).system
    assert (system.batch, system.collect, len(system.stages)) == (batch, collect, stages)
    if recipe.endswith("_pretrain"):
        plan = [(s.albedo, s.projection, s.joint, s.mirror_albedo, s.mirror_joint) for s in system.stages]
        assert plan == [(1500, 1500, 1500, False, True)] + (stages - 1) * [(700, 1000, 1000, True, True)]


@pytest.mark.parametrize("dataset", ["celeba", "bfm", "cats", "cars", "churches"])
def test_imported_gan2shape_has_the_settings_of_its_recipe(dataset: str) -> None:
    name = {"bfm": "synface", "cats": "cat", "cars": "car", "churches": "church"}.get(dataset, dataset)
    recipe = recipes.load_run(f"gan2shape_{name}").generator
    imported = to_dict(generator_config("gan2shape", METHODS["gan2shape"].settings[dataset]))
    for key in (
        "relative",
        "view_scale",
        "light_x",
        "light_y",
        "light_gain",
        "ambient_share",
        "gan_crop",
        "mapping_tail",
    ):
        assert imported[key] == recipe[key], key


# ---------------------------------------------------------------- what training came to travels with weights

TRACKED = [
    "generator.z_dim=8", "generator.hidden_dim=16", "generator.layers=2", "generator.mapping_dim=16",
    "generator.density_scale=30", "generator.steps=8", "generator.fine_steps=4", "generator.steps_min=4",
    "generator.surface_tracking=true", "generator.surface_size=16", "generator.surface_features=4",
    "generator.tracking_start=0.004", "generator.tracking_decay=200", "system.stages=[{size: 16, batch: 4}]",
    "data.size=32", "data.length=8", "trainer.accelerator=cpu", "trainer.compile=never", "trainer.max_kimg=0.008",
    "system.discriminator.channels=[8, 8, 8, 8]",
]  # fmt: skip


def test_tracked_weights_are_sampled_where_they_were_trained(tmp_path: Path) -> None:
    folder = train(recipes.load_run("shadegan", [*TRACKED, f"out={tmp_path}"]))
    model: Any = zoo.load(str(folder))
    expected = model.schedule(0.008)
    assert 0.06 < expected.window < 0.24
    assert 4 <= expected.steps < 8
    shown = model.inference()
    assert (shown.window, shown.steps, shown.fine_steps) == (expected.window, expected.steps, expected.fine_steps)
    kept: Any = zoo.load(f"file:{zoo.save(model, tmp_path / 'weights')}")
    assert kept.inference() == shown
    latents, camera = model.latents(1), model.camera(size=16)
    whole: Any = zoo.load(str(folder), window=0.0, inference_steps=0)  # as before: the whole ray, all samples
    assert torch.equal(kept(latents, camera).rgb, model(latents, camera, sampling=shown).rgb)
    assert not torch.equal(kept(latents, camera).rgb, whole(latents, camera).rgb)


def test_weights_from_before_are_sampled_as_they_were() -> None:
    old: Any = zoo.build(
        "shadegan", window=0.0649, surface_tracking=True, surface_size=16, surface_features=4, hidden_dim=16
    )
    sampling = old.inference()  # as imported ones are stored: no samples of their own
    assert (sampling.steps, sampling.fine_steps, sampling.window) == (12, 12, 0.0649)
