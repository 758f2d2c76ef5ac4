"""Configurations that cannot work are refused before anything starts, with the key, the value and the fix."""

import dataclasses
import math
import operator
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zoo import registry
from zoo.config import recipes
from zoo.config.bounds import check
from zoo.config.checks import validate
from zoo.config.fill import merge
from zoo.config.regimes import REGIMES
from zoo.config.schemas import (
    DISTRIBUTIONS,
    DataConfig,
    PoseConfig,
    RunConfig,
    SceneConfig,
    StageConfig,
    TrainerConfig,
)
from zoo.errors import ConfigError
from zoo.runtime.workers import accelerator_of

FOLDER = ["data=folder", "data.root=faces"]


HEADS = SceneConfig()  # that of the embedded heads is the default


@pytest.mark.parametrize("recipe", [*recipes.names(), "shadegan", "pigan"])
def test_every_recipe_loads(recipe: str) -> None:
    run = recipes.load_run(recipe)
    assert run.recipe == recipe
    other = ["data=folder", f"data.size={run.data.size}", f"data.align={run.data.align}"]
    assert recipes.load_run(recipe, other).data.name == "folder"


@pytest.mark.parametrize("data", recipes.group("data"))
def test_every_data_set_loads(data: str) -> None:
    assert recipes.load_run("shadegan_heads32", [f"data={data}"]).data.name == data


def test_the_defaults_are_valid() -> None:
    check(RunConfig())
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
        ("data.name=heads", r"data\.root=faces: the heads are drawn, not read; for pictures add data=folder"),
        ("data.background=random", r"data\.background=random: only the embedded heads .* data=folder; leave it out"),
        ("data.highlights=true", r"data\.highlights=True: only the embedded heads"),
        ("data.jitter=true", r"data\.jitter=True: only the embedded heads"),
        ("data.scene.pose.distribution=normal", r"pose\.distribution=normal: use one of gaussian"),
        ("generator.steps=2", r"generator\.steps=2 with fine_steps=12: use 3 or more"),
        ("generator.inference_steps=-1", r"generator\.inference_steps=-1 with fine_steps=12"),
        ("generator.fine_steps=-1", r"generator\.fine_steps=-1: use 0 or more"),
        ("data.scene.light.mean=[0, 0]", r"light\.mean=\[0.0, 0.0\]: give 4 numbers"),
        ("data.scene.light.cov=[[1, 0, 0, 0], [1]]", "give 4 rows of 4"),
        ("data.scene.light.mean=[0, 0, .nan, 0]", r"data\.scene\.light\.mean\[2\]=nan: use a finite number"),
        ("system.stages=[{batch: 1000000000}]", r"stages\[0\]\.batch=1000000000: use 65,536 or less"),
        ("system.stages=[{batch: 1e9}]", r"batch: Value '1000000000.0' of type"),
        ("system.stages=[{lr_g: 1e9}]", r"stages\[0\]\.lr_g=1000000000\.0: use 10 or less"),
        ("system.stages=[{fade_kimg: -1}]", r"stages\[0\]\.fade_kimg=-1\.0: use 0 or more"),
        ("system.betas=[2, -1]", r"system\.betas=\[2\.0, -1\.0\]: give two numbers of 0 or more and below 1"),
        ("system.betas=[.nan, 0.9]", r"system\.betas=\[nan, 0\.9\]"),
        ("system.betas=[0.9]", r"system\.betas=\[0\.9\]: give two numbers"),
        ("system.grad_clip=nan", r"system\.grad_clip=nan: use a finite number above 0"),
        ("system.grad_clip=inf", r"system\.grad_clip=inf: use a finite number"),
        ("system.topk_kimg=2", r"system\.topk_kimg=2\.0: with system\.topk_min=1 the fraction cannot fall"),
        ("system.discriminator=style", r"system\.discriminator=style: .*; use system\.discriminator\.name=style"),
        ("system.topk_min=2", r"system\.topk_min=2\.0: use 1 or less"),
        ("system.discriminator.channels=[-1]", r"system\.discriminator\.channels=\[-1\]: use widths of 1 or more"),
        ("data.scene.fov=nan", r"data\.scene\.fov=nan: use a finite number above 0"),
        ("data.scene.fov=180", r"data\.scene\.fov=180\.0: use 179 or less"),
        ("data.scene.far=0.5", r"data\.scene\.far=0\.5: use more than data\.scene\.near=0\.88"),
        ("data.scene.pose.yaw_std=-1", r"data\.scene\.pose\.yaw_std=-1\.0: use 0 or more"),
        ("data.limit=0", r"data\.limit=0: use 1 or more"),
        ("data.length=100", r"data\.length=100: only the embedded heads .* data=folder; .* use data\.limit=N for"),
        ("data.size=100000", r"data\.size=100000: use 8,192 or less"),
        ("trainer.accelerator=foo", r"trainer\.accelerator=foo: use one of auto, cpu, gpu, cuda"),
        ("trainer.accelerator=mps", r"trainer\.accelerator=mps: use one of auto, cpu, gpu, cuda"),
        ("trainer.log_every=0", r"trainer\.log_every=0: use 1 or more"),
        ("seed=99999999999999999999", "seed=99999999999999999999: use 9,.* or less"),
        ("generator.layers=-3", r"generator\.layers=-3: use 1 or more"),
        ("generator.layers=22000", r"generator\.layers=22000: use 64 or less"),
        ("generator.hidden_dim=0", r"generator\.hidden_dim=0: use 1 or more"),
        ("generator.window=nan", r"generator\.window=nan: use 0 or more"),
        ("generator.box=inf", r"generator\.box=inf: use a finite number"),
        ("generator.light_ramp=-1", r"generator\.light_ramp=-1\.0: use 0 or more"),
    ],
)
def test_values_that_cannot_work_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipes.load_run("shadegan", [*FOLDER, override])


def test_what_a_recipe_says_of_heads_alone_goes_with_them() -> None:
    assert recipes.load_run("shadegan_heads32").data.length == 12000
    run = recipes.load_run("shadegan_heads32", ["data.name=lfw", "data.root=faces"])
    assert (run.data.size, run.data.length) == (32, DataConfig().length)  # nobody who runs it has set the length
    with pytest.raises(ConfigError, match=r"data\.length=100: only the embedded heads .* data=lfw; .*data\.limit=N"):
        recipes.load_run("shadegan_heads32", ["data.name=lfw", "data.root=faces", "data.length=100"])
    with pytest.raises(ConfigError, match=r"data\.length=0: use 1 or more"):
        recipes.load_run("shadegan", ["data.length=0"])


@pytest.mark.parametrize("setting", ["data.root=my_faces", "data.resample=nearest"])
def test_heads_are_not_read(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{re.escape(setting)}: the heads are drawn"):
        recipes.load_run("shadegan", [setting])


@pytest.mark.parametrize(("there", "auto"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_one_of_cuda(there: bool, auto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    assert [accelerator_of(name) for name in ("auto", "cpu", "gpu", "cuda")] == [auto, "cpu", "cuda", "cuda"]


def _places(config: Any) -> Iterator[tuple[Any, str]]:
    """All single numbers of a section, at any depth, as the dataclass that holds each and its field."""
    for field in dataclasses.fields(config):
        hint = typing.get_type_hints(type(config))[field.name]
        if typing.get_origin(hint) is not list and {int, float} & {hint, *typing.get_args(hint)}:
            yield config, field.name
        value = getattr(config, field.name)
        for inner in value if isinstance(value, list) else [value]:
            if dataclasses.is_dataclass(inner):
                yield from _places(inner)


SECTIONS = [*(registry.resolve(name).Config for name in registry.names()), *(r.schema for r in REGIMES.values())]


@pytest.mark.parametrize("schema", [*SECTIONS, DataConfig, TrainerConfig, RunConfig])
def test_no_number_takes_anything(schema: type) -> None:
    config = schema()
    check(config)
    for place, name in _places(config):
        before = getattr(place, name)
        for value in (math.nan, math.inf, -math.inf, 1e30):
            setattr(place, name, value)
            with pytest.raises(ConfigError, match=r"=.*: "):
                check(config)
        setattr(place, name, before)


def test_use_is_a_list_of_group_files(tmp_path: Path) -> None:
    for text in ("use: 5", "use: [5]", "use: {generator: shadegan}"):
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"mine\.yaml: use=.*: give a list of group files"):
            recipes.load_run(str(tmp_path / "mine.yaml"))


TYPED = {
    "data.root=faces #2": ("data.root", "faces #2"),
    "data.root=0123": ("data.root", "0123"),
    "data.root=10:30": ("data.root", "10:30"),
    "data.root=no": ("data.root", "no"),
    "data.root=1_000": ("data.root", "1_000"),
    "data.root=&x": ("data.root", "&x"),
    "data.root=a=b": ("data.root", "a=b"),
    "data.root={x}": ("data.root", "{x}"),
    "data.root=null": ("data.root", None),
    "out=runs #1": ("out", "runs #1"),
    "out=null": ("out", "null"),
    "name=007": ("name", "007"),
    "seed=010": ("seed", 10),
    "data.limit=010": ("data.limit", 10),
    "data.limit=null": ("data.limit", None),
    "trainer.threads=1_0": ("trainer.threads", 10),
    "trainer.max_kimg=010": ("trainer.max_kimg", 10.0),
    "system.r1=1e1": ("system.r1", 10.0),
    "data.hflip=no": ("data.hflip", False),
    "trainer.loggers=[wandb]": ("trainer.loggers", ["wandb"]),
    "system.betas=[0.5, 9e-1]": ("system.betas", [0.5, 0.9]),
    "system.pose=null": ("system.pose", None),
    "system.pose={yaw_std: 0.4}": ("system.pose", PoseConfig(yaw_std=0.4)),
    "data.scene.pose.yaw_std=.4": ("data.scene.pose.yaw_std", 0.4),
}


@pytest.mark.parametrize("override", TYPED)
def test_overrides_are_read_by_the_type_of_their_field(override: str) -> None:
    key, value = TYPED[override]
    found = operator.attrgetter(key)(recipes.load_run("shadegan", ["data=folder", override]))
    assert (found, type(found)) == (value, type(value))


def test_numbers_of_a_method_are_decimal() -> None:
    generator = recipes.load_run("shadegan", ["generator.layers=010", "generator.box=0_1"]).generator
    assert (generator["layers"], generator["box"]) == (10, 1.0)
    with pytest.raises(ConfigError, match=r"generator\.layers: .*0x8"):
        recipes.load_run("shadegan", ["generator.layers=0x8"])


def test_a_file_of_any_name_stands_for_a_prior(tmp_path: Path) -> None:
    path = tmp_path / "[a] #1.json"
    path.write_text('{"yaw_std": 0.4}')
    run = recipes.load_run("shadegan", ["data=folder", f"data.scene.pose={path}"])
    assert run.data.scene.pose.yaw_std == 0.4


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


@pytest.mark.parametrize(
    "override",
    [
        "trainer.loggers=[wandb]", "trainer.patience=3", "trainer.precision=bf16-mixed", "trainer.max_kimg=1",
        "trainer.checkpoint_kimg=1", "trainer.sample_kimg=1", "trainer.log_every=1", "trainer.compile=never",
        "system.ema_kimg=1", "system.start_kimg=1", "system.hollow_patience=1",
    ],
)  # fmt: skip
def test_fits_to_photographs_refuse_what_they_do_not_use(override: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"^{key}=.*: a fit to photographs does not use it; leave it out$"):
        recipes.load_run("gan2shape_heads64", [override])


def test_the_scene_is_set_at_the_data_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^generator\.scene=.*: .*; set data\.scene instead$"):
        recipes.load_run("shadegan", [*FOLDER, "generator.scene.fov=30"])
    (mine := tmp_path / "mine.yaml").write_text("use: [generator/pigan, data/folder]\ngenerator: {scene: {far: 2}}")
    with pytest.raises(ConfigError, match=r"set data\.scene instead$"):
        recipes.load_run(str(mine))
    run = recipes.load_run("shadegan", [*FOLDER, "data.scene.fov=30"])
    again = recipes.load_run("shadegan", [*FOLDER, "data.scene.fov=30", f"generator.scene={run.generator['scene']}"])
    assert again.generator == run.generator  # what config.json of a run says


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
