"""Runs that version 0.1 made, one of each regime: they load, show what they showed, and go on."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import zoo
from zoo.config.recipes import load_run
from zoo.fitting.job import open_job, run_all
from zoo.fitting.runs import read_run
from zoo.systems.run import run_folder, train

OLD = Path(__file__).parents[1] / "fixtures" / "runs_0_1"
COMMON = [
    "data.length=40", "data.size=32", "trainer.accelerator=cpu", "trainer.compile=never", "trainer.threads=1",
    "trainer.log_every=1", "trainer.checkpoint_kimg=0.016", "trainer.sample_kimg=1",
]  # fmt: skip
RUNS = {
    "adversarial-209de7e6": ["shadegan", "generator.z_dim=4", "generator.hidden_dim=8", "generator.layers=2",
        "generator.mapping_dim=8", "generator.density_scale=30", "generator.steps=6", "generator.fine_steps=0",
        "system.stages=[{size: 16, batch: 4}]", "system.discriminator.channels=[4, 4, 4, 4]"],
    "photometric-1cb6b338": ["unsup3d", "generator.size=32", "generator.nf=4", "generator.zdim=4",
        "generator.groups=2", "generator.encoder_nf=2", "generator.confidence=false",
        "system.stages=[{size: 32, batch: 4, lr_g: 1.0e-3}]"],
}  # fmt: skip
TINY_FIT = [
    "generator.size=32", "generator.nf=4", "generator.zdim=4", "generator.groups=2", "generator.encoder_nf=2",
    "generator.offset_nf=2", "generator.offset_dim=8", "generator.mapping_tail=1", "trainer.accelerator=cpu",
    "system.stages=[{albedo: 1, projection: 1, joint: 1}]", "system.batch=2", "system.collect=1", "trainer.threads=1",
    "system.shape_steps=4", "system.inversion_steps=1", "system.feature_blocks=0", "system.perceptual=none",
    "system.lr_shape=0.003",
]  # fmt: skip
SHOWN = load_file(OLD / "expected.safetensors")


@pytest.mark.parametrize(
    ("regime", "place"), [*((name.partition("-")[0], name) for name in RUNS), ("instance", "instance/head0000/weights")]
)
def test_they_show_what_they_showed(regime: str, place: str) -> None:
    generator = zoo.load(f"file:{OLD / place}", device="cpu")
    with torch.no_grad():
        render = generator(generator.latents(1, seed=3), generator.camera(0.2, 0.1, 16))
    # To the bit on one machine; processors may differ in the last digits.
    torch.testing.assert_close(render.rgb, SHOWN[regime], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_they_go_on_in_their_own_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(OLD / name, tmp_path / name)
    recipe, *own = RUNS[name]
    settings = [*COMMON, *own, f"name={name.partition('-')[0]}", "out=.", "trainer.max_kimg=0.032", "resume=auto"]
    run = load_run(recipe, settings)
    assert run_folder(run) == Path(name)
    folder = train(run)
    kimg = [json.loads(line)["kimg"] for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert kimg == [0.004, 0.008, 0.012, 0.016, 0.020, 0.024, 0.028, 0.032]
    assert (folder / "checkpoints" / "images000000032.ckpt").is_file()


def test_a_fitted_picture_is_read_and_not_fitted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    (picture,) = read_run("instance").pictures
    assert picture.name == "head0000"
    assert len(picture.SIDE) == 2
    assert picture.depths(32).shape == (2, 1, 32, 32)
    before = picture.folder.joinpath("result.json").read_bytes()
    (result,) = run_all(open_job("gan2shape", TINY_FIT, "file:gan", Path("instance"), {}), "heads:0")
    assert json.dumps(result, indent=2).encode() == before
