"""Configurations that cannot work are refused before anything starts, with the key, the value and the fix."""

import dataclasses

import pytest

from zoo.config import recipes
from zoo.config.checks import validate
from zoo.config.fill import merge
from zoo.config.schemas import DISTRIBUTIONS, DataConfig, PoseConfig, RunConfig, SceneConfig, StageConfig
from zoo.errors import ConfigError

FOLDER = ["data=folder", "data.root=faces"]


HEADS = SceneConfig()  # that of the embedded heads is the default


@pytest.mark.parametrize("recipe", [*recipes.names(), "shadegan", "pigan"])
def test_every_recipe_loads(recipe: str) -> None:
    run = recipes.load_run(recipe)
    assert run.recipe == recipe
    assert recipes.load_run(recipe, ["data=folder", f"data.size={run.data.size}"]).data.name == "folder"


@pytest.mark.parametrize("data", recipes.group("data"))
def test_every_data_set_loads(data: str) -> None:
    assert recipes.load_run("shadegan_heads32", [f"data={data}"]).data.name == data


def test_the_defaults_are_valid() -> None:
    validate(RunConfig(), HEADS)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("system.stages=[]", r"system\.stages=\[\]: give at least one"),
        ("system.stages=[{kimg: 1}]", "kimg .1.0.: the first stage starts at kimg 0"),
        ("system.stages=[{}, {kimg: 2}, {kimg: 2}]", "each other one later"),
        ("system.stages=[{}, {kimg: .nan}]", "each other one later"),
        ("system.stages=[{size: 24}]", r"stages\[0\]\.size=24: use 16, 32"),
        ("system.stages=[{size: 8}]", r"stages\[0\]\.size=8"),
        ("system.stages=[{}, {kimg: 1, size: 128}]", r"stages\[1\]\.size=128: .*data\.size=64 trains on upsampled"),
        ("system.stages=[{batch: 0}]", r"batch=0: use 1 or more"),
        ("system.stages=[{lr_g: 0}]", r"lr_g=0"),
        ("system.stages=[{lr_d: .nan}]", r"lr_d=nan: use a finite number above 0"),
        ("system.r1=-1", r"system\.r1=-1"),
        ("system.r1=nan", r"system\.r1=nan"),
        ("system.r1_every=0", r"system\.r1_every=0"),
        ("system.ema_kimg=0", r"system\.ema_kimg=0"),
        ("trainer.max_kimg=nan", r"trainer\.max_kimg=nan: use a finite number above 0"),
        ("trainer.max_kimg=inf", r"trainer\.max_kimg=inf"),
        ("trainer.checkpoint_kimg=0", r"trainer\.checkpoint_kimg=0"),
        ("trainer.threads=0", r"trainer\.threads=0"),
        ("trainer.devices=0", r"trainer\.devices=0"),
        ("seed=-1", "seed=-1: use 0 or more"),
        ("trainer.compile=yes please", "compile=yes please: use one of auto, always, never"),
        ("trainer.wandb_mode=on", "wandb_mode"),
        ("trainer.precision=16-mixed", "16-bit floats do not carry the adversarial gradients here"),
        ("trainer.loggers=[wandb, mlflow]", "loggers=mlflow: known are tensorboard, wandb"),
        ("data.cache=maybe", r"data\.cache=maybe"),
        ("data.on_error=warn", r"data\.on_error=warn"),
        ("data.resample=cubic", r"data\.resample=cubic"),
        ("data.scene.pose.distribution=normal", r"pose\.distribution=normal: use one of gaussian"),
        ("generator.steps=2", r"generator\.steps=2 with fine_steps=12: use 3 or more"),
        ("generator.inference_steps=-1", r"generator\.inference_steps=-1 with fine_steps=12"),
        ("generator.fine_steps=-1", r"generator\.fine_steps=-1: use 0 or more"),
        ("data.scene.light.mean=[0, 0]", r"light\.mean=\[0.0, 0.0\]: give 4 numbers"),
        ("data.scene.light.cov=[[1, 0, 0, 0], [1]]", "give 4 rows of 4"),
    ],
)
def test_values_that_cannot_work_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipes.load_run("shadegan", [*FOLDER, override])


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_every_distribution_is_accepted(distribution: str) -> None:
    run = recipes.load_run("shadegan", [*FOLDER, f"data.scene.pose.distribution={distribution}"])
    assert run.generator["scene"]["pose"]["distribution"] == distribution


def test_the_heads_keep_their_scene_and_sizes() -> None:
    with pytest.raises(ConfigError, match=r"data\.scene\.pose=.*rendered with their own cameras"):
        recipes.load_run("shadegan", ["data.scene.pose.yaw_std=0.4"])
    with pytest.raises(ConfigError, match=r"data\.size=512: the heads are drawn at 32 to 256"):
        recipes.load_run("shadegan", ["data.size=512"])
    assert recipes.load_run("shadegan", [*FOLDER, "data.scene.pose.yaw_std=0.4", "data.size=512"]).data.size == 512
    moved = DataConfig(scene=dataclasses.replace(SceneConfig(), pose=PoseConfig(yaw_std=0.4)), size=32)
    with pytest.raises(ConfigError, match="rendered with their own cameras"):
        validate(RunConfig(data=moved), HEADS)


def test_a_window_keeps_enough_samples() -> None:
    tracked = ["generator.surface_tracking=true", "generator.fine_steps=0"]
    assert recipes.load_run("shadegan", [*tracked, "generator.steps_min=2"]).generator["steps_min"] == 2
    with pytest.raises(ConfigError, match=r"generator\.steps_min=1 with fine_steps=0: use 2 or more"):
        recipes.load_run("shadegan", [*tracked, "generator.steps_min=1"])


def test_small_stages_of_larger_data_are_fine() -> None:
    run = recipes.load_run("shadegan", ["system.stages=[{size: 16, batch: 4}]", "data.size=32"])
    assert run.system.stages == [StageConfig(size=16, batch=4)]


@pytest.mark.parametrize("override", ["system.stages.0.batch=0", "system.stages=3", "data.scene=[1]"])
def test_values_of_another_shape_are_one_line(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipes.load_run("shadegan", [override])
    assert "\n" not in str(caught.value)


def test_merge_changes_neither() -> None:
    base, over = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}, "d": {"e": 5}}
    assert merge(base, over) == {"a": {"b": 4, "c": 2}, "d": {"e": 5}}
    assert (base, over) == ({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}, "d": {"e": 5}})
