"""Recipes of published size take a step in each of their stages, two at least, at reduced width.

Networks are as narrow as the method's own `tiny()`, stages as small as their networks allow; samples along rays, crops,
losses, schedules (as they stand at the end) and discriminators are the recipe's.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

import zoo
from zoo import registry
from zoo.config import recipes
from zoo.config.schemas import AdversarialConfig, InstanceConfig, RunConfig
from zoo.fitting import job, views
from zoo.networks.discriminators import build_discriminator
from zoo.systems.callbacks import Samples
from zoo.systems.run import train
from zoo.weights.build import build

pytestmark = pytest.mark.slow

PUBLISHED = [name for name in recipes.names() if recipes.load_run(name).data.name != "heads"]
LAYOUT = {  # names of eight pictures as each data set has them, and their size
    "celeba": ([f"{i:06d}.jpg" for i in range(1, 9)], (178, 218)),
    "synface": ([f"train/image/{i:06d}_image.png" for i in range(8)], (256, 256)),
    "afhq_cats": ([f"train/cat/{i}.jpg" for i in range(8)], (256, 256)),
    "ffhq": ([f"00000/{i:05d}.png" for i in range(8)], (128, 128)),
    "carla": ([f"{i:06d}.png" for i in range(8)], (128, 128)),
    "folder": ([f"{i}.png" for i in range(8)], (128, 128)),
}
FAST = ["trainer.accelerator=cpu", "trainer.devices=1", "trainer.threads=1", "data.workers=0"]


def pictures(root: Path, layout: str, faces: bool) -> Path:
    names, (width, height) = LAYOUT[layout]
    if faces:  # that are found
        root.mkdir(parents=True)
        for name in names:
            Image.fromarray(skimage.data.astronaut()[:256, 100:356]).save(root / name)
        return root
    noise = np.random.default_rng(0)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 255, (height, width, 3), np.uint8)).save(root / name)
    return root


def narrow(run: RunConfig) -> dict[str, int]:
    """The whole numbers in which the method's `tiny()` is smaller than the run, but for samples along rays."""
    tiny = dataclasses.asdict(registry.resolve(run.generator["name"]).tiny())
    whole = {key: value for key, value in tiny.items() if type(value) is int and "steps" not in key}
    return {key: value for key, value in whole.items() if 0 < value < run.generator[key]}


def reduced(recipe: str, root: Path) -> list[str]:
    run = recipes.load_run(recipe)
    small = narrow(run)
    out = [f"generator.{key}={value}" for key, value in small.items()]
    side = small.get("size", small.get("image_size", 16))
    root_of_data = pictures(root / "data", run.data.name, run.data.align != "none")
    out += [*FAST, f"data.root={root_of_data}", f"data.size={max(side, 32)}", "init=null"]
    if isinstance(run.system, InstanceConfig):
        once = dict.fromkeys(("albedo", "projection", "joint"), 1)
        stages = [dataclasses.asdict(stage) | once for stage in run.system.stages]
        return [*out, "system.batch=2", "system.collect=1", "system.shape_steps=1", "system.inversion_steps=1",
                "system.feature_blocks=1", f"system.stages={json.dumps(stages)}"]  # fmt: skip
    stages = [
        dataclasses.asdict(stage) | {"kimg": 0.002 * i, "batch": 2, "size": side}
        for i, stage in enumerate(run.system.stages)
    ]
    out.append("trainer.compile=never")  # which fits to photographs never do
    if isinstance(run.system, AdversarialConfig):
        d = run.system.discriminator.name
        levels = int(math.log2(run.generator.get("patch_size", side))) - {"patch": 2, "style": 1}.get(d, 0)
        levels = 4 if d == "plain" else levels
        out.append(f"system.discriminator.channels={[8] * levels}")
    end = run.system.clock(1000 * run.trainer.max_kimg) / 1000
    return [*out, f"system.stages={json.dumps(stages)}", f"system.start_kimg={end}", f"out={root / 'runs'}",
            f"trainer.max_kimg={0.002 * max(2, len(stages))}"]  # fmt: skip


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_step_in_every_stage(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = reduced(recipe, tmp_path)
    run = recipes.load_run(recipe, settings)
    if isinstance(run.system, InstanceConfig):
        monkeypatch.setattr(job, "FRAMES", 1)
        monkeypatch.setattr(job, "film", lambda *_, **__: None)
        monkeypatch.setattr(views, "YAWS", 1)
        monkeypatch.setattr(views, "PITCHES", 1)
        monkeypatch.setattr(views, "SLOPES", (0.0,))
        sizes: dict[str, Any] = {"size": 32, "channel_base": 128, "channel_max": 8, "mapping_layers": 8}
        gan = build("stylegan2", z_dim=run.generator["offset_dim"], **sizes)
        beside = build_discriminator("style", max_size=32, channels=[4] * 4).state_dict()
        where = zoo.save(gan, tmp_path / "gan", discriminator=beside)
        picked = sorted((tmp_path / "data").rglob("*.*"))[:2]
        source = tmp_path / "two"
        source.mkdir()
        for path in picked:
            path.rename(source / path.name)
        joint = recipe.endswith(("_pretrain", "_pre"))
        opened = job.open_job(recipe, settings, f"file:{where}", tmp_path / "fit", {}, joint=joint)
        results = job.run_all(opened, str(source))
        assert len(results) == 2
        return
    monkeypatch.setattr(Samples, "_look", lambda *_: None)  # eight objects from three sides take longer than all else
    folder = train(run)
    model = zoo.load(str(folder))
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
    if isinstance(run.system, AdversarialConfig):
        assert bool(torch.isfinite(model(model.latents(1), model.camera(size=16)).rgb).all())
