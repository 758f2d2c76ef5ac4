"""GRAF, the mesh GAN, StyleGAN2 and Unsup3D train, resume to the same bits and leave weights that load."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

import zoo
from zoo.config.recipes import load_run
from zoo.errors import ConfigError
from zoo.systems.run import train
from zoo.weights.checkpoints import latest, read_checkpoint

RUN = ["data.length=40", "data.size=32", "trainer.accelerator=cpu", "trainer.compile=never", "trainer.threads=1"]
RUN += ["trainer.log_every=1", "trainer.checkpoint_kimg=0.016", "trainer.sample_kimg=0.016"]
METHODS = {
    "graf": [
        "generator.shape_dim=4", "generator.appearance_dim=4", "generator.hidden_dim=16", "generator.layers=3",
        "generator.frequencies=3", "generator.view_frequencies=1", "generator.steps=6", "generator.noise_kimg=0.02",
        "generator.patch_size=16", "system.discriminator={name: patch, channels: [8, 8]}", "system.pose_weight=0",
        "system.stages=[{size: 32, batch: 4}]",
    ],
    "meshgan": [
        "generator.z_dim=8", "generator.w_dim=8", "generator.mapping_layers=2", "generator.channel_max=8",
        "generator.map_size=16", "generator.image_size=16", "generator.mesh_n=16", "generator.warmup_kimg=0.02",
        "system.stages=[{size: 16, batch: 4}]",
    ],
    "stylegan2": [
        "generator.z_dim=8", "generator.size=16", "generator.mapping_layers=2", "generator.channel_max=8",
        "system.discriminator={name: style, channels: [8, 8, 8]}", "system.stages=[{size: 16, batch: 4}]",
        "system.pose_weight=0", "system.mixing=0.9", "system.path_length=2", "system.path_length_every=2",
        "system.ada_target=0.01", "system.ada_kimg=0.1",
    ],
    "unsup3d": [
        "generator.size=32", "generator.nf=8", "generator.zdim=8", "generator.groups=4", "generator.encoder_nf=4",
        "generator.confidence=false", "generator.pose_weight=0.01", "generator.depth_prior=ellipsoid",
        "generator.centred=false", "generator.rigid_weight=1", "generator.cycle_weight=1", "generator.rigid_kimg=0.01",
        "system.stages=[{size: 32, batch: 4, lr_g: 1.0e-3, lr_decay: true}]",
    ],
}  # fmt: skip


def run(method: str, folder: Path, *more: str) -> Path:
    return train(load_run(method, [*RUN, *METHODS[method], f"out={folder}", *more]))


@pytest.mark.parametrize("method", METHODS)
def test_stopping_and_going_on_changes_nothing(method: str, tmp_path: Path) -> None:
    decay = ["system.stages=[{size: 32, batch: 4, lr_g: 1.0e-3}]"] if method == "unsup3d" else []  # ends at max_kimg
    whole = run(method, tmp_path / "whole", "trainer.max_kimg=0.032", *decay)
    run(method, tmp_path / "parts", "trainer.max_kimg=0.016", *decay)
    parts = run(method, tmp_path / "parts", "trainer.max_kimg=0.032", "resume=auto", *decay)
    left, right = (read_checkpoint(latest(folder / "checkpoints"))["state_dict"] for folder in (whole, parts))
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert torch.equal(value, right[key]), key
    assert (whole / "metrics.jsonl").read_text() == (parts / "metrics.jsonl").read_text()
    assert sorted(p.name for p in (whole / "samples").glob("*.png"))[-1] == "000000032.png"


def test_a_mesh_gan_says_how_its_shape_goes(tmp_path: Path) -> None:
    folder = run("meshgan", tmp_path, "trainer.max_kimg=0.016")
    record = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert 0.4 < record["radius"] < 0.8
    assert record["volume"] > 0
    assert zoo.load(str(folder)).config.shape_weight == pytest.approx(0.8)  # as far as the warm-up has come


def test_stylegan2_trains_with_all_its_switches(tmp_path: Path) -> None:
    folder = run("stylegan2", tmp_path, "trainer.max_kimg=0.032")
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert ["path_length" in record for record in records] == [True, False] * 4
    assert all(0 <= record["augment_p"] <= 0.8 for record in records)
    assert max(record["augment_p"] for record in records) > 0
    assert not any("curvature" in record for record in records)  # pictures have no shape to watch
    model = zoo.load(str(folder))
    with pytest.raises(ConfigError, match="it has no mesh"):
        model.mesh(model.latents(1))


def test_unsup3d_learns_to_reconstruct(tmp_path: Path) -> None:
    rarely = ["trainer.checkpoint_kimg=0.08", "trainer.sample_kimg=1"]
    folder = run("unsup3d", tmp_path, "trainer.max_kimg=0.16", *rarely)
    losses = [r["l1"] for r in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()) if "l1" in r]
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])
    model = zoo.load(str(folder))
    assert model.name.startswith("unsup3d")
    assert zoo.build("unsup3d", size=32, nf=8, zdim=8, groups=4, encoder_nf=4).system == "photometric"
    # The average that rigid_weight needs is taken, kept, and not missed in runs from before there was one.
    state = latest(folder / "checkpoints")
    content = read_checkpoint(state)
    assert content["state_dict"].pop("covariances").abs().max() > 0
    torch.save(content, state)
    state.with_name(f"{state.name}.sha256").write_text(hashlib.sha256(state.read_bytes()).hexdigest())
    assert run("unsup3d", tmp_path, "trainer.max_kimg=0.164", "resume=auto", *rarely) == folder


def test_a_method_refuses_the_other_regime() -> None:
    with pytest.raises(ConfigError, match="unsup3d trains with system=photometric"):
        load_run("unsup3d", ["system=adversarial"])
    with pytest.raises(ConfigError, match="meshgan trains with system=adversarial"):
        load_run("meshgan", ["system=photometric"])
