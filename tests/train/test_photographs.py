"""Training on photographs: measured poses, a generator that waits, and starts from weights that lack a part."""

import json
from pathlib import Path

import pytest
import torch

import zoo
from tests.tiny import TINY, overrides
from tests.unit.test_faces import image
from zoo.api import train
from zoo.config import recipes
from zoo.config.schemas import AdversarialConfig
from zoo.errors import ConfigError, WeightsError
from zoo.geometry import Render
from zoo.heads.dataset import HeadDataset
from zoo.systems.adversarial import AdversarialSystem
from zoo.systems.start import discriminator, initial

SMALL = [
    *overrides("generator", TINY), "generator.density_scale=30", "system.stages=[{size: 16, batch: 4}]", "data=folder",
    "data.size=16", "data.align=celeba", "system.real_pose=measured",
]  # fmt: skip


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    for i, pixels in enumerate(HeadDataset("test", size=128, length=5).batch(range(5))["image"]):
        image(pixels).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


def test_a_run_on_photographs_waits_then_learns_poses(photos: Path, tmp_path: Path) -> None:
    run = train("shadegan", [
        *SMALL, f"data.root={photos}", f"out={tmp_path / 'runs'}", "generator.background=map", "system.hold_kimg=0.008",
        "trainer.max_kimg=0.016", "trainer.accelerator=cpu", "trainer.compile=never", "trainer.threads=1",
        "trainer.log_every=1", "trainer.checkpoint_kimg=0.008", "trainer.sample_kimg=0.008",
    ])  # fmt: skip
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if "d" in record]
    assert ["g" in step for step in steps] == [False, False, True, True]
    assert all("pose" in step for step in steps)
    assert ["pose_shown" in step for step in steps] == ["g" in step for step in steps]
    assert any("curvature" in record for record in records)  # the sentinels need no true shapes
    assert "framed like celeba" in zoo.load(f"file:{run}").card.data  # type: ignore[union-attr]


def test_the_discriminator_learns_poses_of_photographs_alone() -> None:
    system = AdversarialSystem(recipes.load_run("shadegan", [*SMALL, "data.root=x", "system.r1=0"]))
    real, fake = torch.rand(2, 4, 3, 16, 16)
    labels, shown = torch.rand(2, 4, 2)

    def loss(labels: torch.Tensor | None, shown: torch.Tensor) -> float:
        truth = {"pose": shown, "latent": torch.zeros(4, 8)}
        whole, logs = system._loss_d(real, (Render(fake), truth), labels, 1.0, False)
        return (whole - logs["d"]).item()

    with torch.no_grad():
        read = system.discriminator(real, 1.0).pose
        assert loss(labels, shown) == pytest.approx(5 * (read - labels).square().mean().item(), rel=1e-4)
        assert loss(labels, shown) == loss(labels, -shown)  # poses of generated images do not matter
        assert loss(None, shown) != loss(None, -shown)


def test_poses_are_measured_where_faces_are_found() -> None:
    with pytest.raises(ConfigError, match=r"system\.real_pose=measured: .*data\.align=celeba"):
        recipes.load_run("shadegan", [*SMALL, "data.root=x", "data.align=none"])
    with pytest.raises(ConfigError, match=r"system\.real_pose=measured: .*pose_weight=0"):
        recipes.load_run("shadegan", [*SMALL, "data.root=x", "system.pose_weight=0"])


def test_weights_without_a_background_start_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = zoo.build("shadegan", **TINY, density_scale=30)
    zoo.save(given, tmp_path / "w")
    own = [*SMALL, "data.root=x", f"init=file:{tmp_path / 'w'}", "generator.background=map"]
    model, _ = initial(recipes.load_run("shadegan", own))
    assert model is not None
    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in given.state_dict().items())
    assert state["background.constant"].std() > 0.5
    assert "the weights have no background, which starts anew" in caplog.text
    again = initial(recipes.load_run("shadegan", own))[0]
    assert all(torch.equal(state[key], value) for key, value in again.state_dict().items())  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["{name: style, channels: [8, 8, 8]}", "{name: plain, channels: [4, 4, 4, 4]}"])
def test_a_discriminator_of_another_kind_or_width_is_left_out(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    given = AdversarialSystem(recipes.load_run("shadegan", [*SMALL, "data.root=x"])).discriminator.state_dict()
    run = recipes.load_run("shadegan", [*SMALL, "data.root=x", f"system.discriminator={kind}", "init=w"])
    system = AdversarialSystem(run)
    before = {key: value.clone() for key, value in system.discriminator.state_dict().items()}
    system.start_discriminator(given)
    assert "init=w: its discriminator is of another kind or width" in caplog.text
    assert all(torch.equal(before[key], value) for key, value in system.discriminator.state_dict().items())


def test_a_discriminator_of_other_weights_is_asked_for_by_name(tmp_path: Path) -> None:
    """A picture GAN may learn from the discriminator that knows photographs already; its own parts stay new."""
    pictures = ["generator.channel_max=8", "data.root=x", f"out={tmp_path}"]
    run = recipes.load_run("stylegan2_photos64", pictures)
    assert run.init is None
    model, beside = initial(run)
    assert model is None
    assert beside is not None
    system = AdversarialSystem(run)
    system.start_discriminator(beside)
    known = discriminator("shadegan.photos64")
    assert known is not None
    state = system.discriminator.state_dict()
    assert all(torch.equal(state[key], value) for key, value in known.items())
    narrow = recipes.load_run("stylegan2_photos64", [*pictures, "system.discriminator.channels=[4, 4, 4, 4]"])
    with pytest.raises(WeightsError, match=r"init=shadegan.photos64: that one is of another kind or width .* differs"):
        AdversarialSystem(narrow).start_discriminator(beside)
    without = recipes.load_run("stylegan2_photos64", [*pictures, "system.discriminator.init=unsup3d.photos64"])
    with pytest.raises(WeightsError, match=r"discriminator.init=unsup3d.photos64: .* come without a discriminator"):
        initial(without)


@pytest.mark.parametrize("recipe", [name for name in recipes.names() if "_photos" in name])
def test_recipes_start_from_what_is_shipped(recipe: str, caplog: pytest.LogCaptureFixture) -> None:
    run = recipes.load_run(recipe, ["data.root=x"])
    if run.init is None:  # pictures alone have no shape that a start must give them
        assert run.system.name == "instance" or run.generator["name"] == "stylegan2"
        return
    model, beside = initial(run)
    assert model is not None
    if isinstance(run.system, AdversarialConfig):
        assert beside is not None
        AdversarialSystem(run, model).start_discriminator(beside)
    assert "left out" not in caplog.text
    new = run.generator.get("background") == "map" and ".heads" in run.init  # weights of photographs have one
    assert ("no background" in caplog.text) == new
