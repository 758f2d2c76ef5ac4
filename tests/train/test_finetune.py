"""Fine-tuning on a few pictures: a fifth is held back, the best weights are kept, parts hold still."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from tests.tiny import TINY as FIELD
from tests.unit.test_faces import image
from zoo.cli import main as cli
from zoo.config import recipes
from zoo.config.schemas import AdversarialConfig, Card
from zoo.data.module import FaceData
from zoo.errors import ConfigError, DataError
from zoo.images import resize
from zoo.systems.adversarial import AdversarialSystem
from zoo.systems.photometric import PhotometricSystem, rebuilt
from zoo.systems.run import train
from zoo.systems.start import discriminator, finetune, initial
from zoo.systems.stopping import held_back, judges
from zoo.systems.stopping.judges import KernelJudge, judge_of, samples
from zoo.weights.checkpoints import latest, read_checkpoint

QUICK = [
    "system.stages=[{size: 16, batch: 4}]", "trainer.accelerator=cpu", "trainer.compile=never", "trainer.threads=1",
    "trainer.log_every=1", "trainer.sample_kimg=0.008",
]  # fmt: skip


@pytest.fixture
def weights(tmp_path: Path) -> str:
    card = Card(name="shadegan.mine", recipe="shadegan_heads32", kimg=3)
    zoo.save(zoo.build("shadegan", **FIELD, density_scale=30), tmp_path / "w", card=card)
    return f"file:{tmp_path / 'w'}"


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    (tmp_path / "pictures").mkdir()
    for i in range(10):
        coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(i)) * 2 - 1
        image(resize(coarse, 32)[0]).save(tmp_path / "pictures" / f"{i}.png")
    return ["data=folder", f"data.root={tmp_path / 'pictures'}", f"out={tmp_path / 'runs'}"]


def records(run: Path, key: str) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [record[key] for record in lines if key in record]


def scripted(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Let readings be these."""
    left = list(values)

    class Script(KernelJudge):
        def __call__(self, *_: Any) -> float:
            return left.pop(0)

    monkeypatch.setattr(held_back, "judge_of", Script)


def average(run: Path, images: int) -> dict[str, torch.Tensor]:
    state = read_checkpoint(run / "checkpoints" / f"images{images:09d}.ckpt")["state_dict"]
    return {k.removeprefix("ema.average."): v for k, v in state.items() if k.startswith("ema.average.")}


def test_it_ends_without_progress_and_keeps_the_best(
    weights: str, pictures: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = [*pictures, *QUICK, "trainer.checkpoint_kimg=0.008"]
    best = average(train(finetune(weights, [*short, "name=short", "trainer.max_kimg=0.008"])), 8)

    scripted(monkeypatch, 3.0, 1.0, 2.0, 2.0)
    with pytest.raises(SystemExit, match="0"):
        cli.main(["finetune", weights, *short, "name=long", "trainer.patience=2"])
    said = capsys.readouterr().out.splitlines()
    run = Path(said[0])
    assert records(run, "held_back") == [3.0, 1.0, 2.0, 2.0]
    assert latest(run / "checkpoints").name == "images000000024.ckpt"  # type: ignore[union-attr]  # of 20 kimg
    assert said[1].startswith(f"best: {run / 'best'} (")
    assert "2 held-back images, at 0.008 kimg: 3 > 1)" in said[1]
    kept = zoo.load(f"file:{run / 'best'}")
    assert all(torch.equal(best[key], value) for key, value in kept.state_dict().items())
    assert not any(torch.equal(average(run, 24)[k], v) for k, v in kept.state_dict().items() if k.endswith("weight"))
    assert kept.card is not None
    assert kept.card.kimg == pytest.approx(3.008)
    again = finetune(f"file:{run / 'best'}")  # it can be trained further, discriminator and all
    assert initial(again)[1] is not None
    assert again.system.start_kimg == pytest.approx(3.008)

    scripted(monkeypatch)  # what has ended stays so
    train(finetune(weights, [*short, "name=long", "trainer.patience=2", "resume=auto"]))
    assert latest(run / "checkpoints").name == "images000000024.ckpt"  # type: ignore[union-attr]
    scripted(monkeypatch, 2.0)  # more patience goes on with the count of readings without progress
    train(finetune(weights, [*short, "name=long", "trainer.patience=3", "resume=auto"]))
    assert latest(run / "checkpoints").name == "images000000032.ckpt"  # type: ignore[union-attr]


def test_a_run_that_goes_on_reads_as_before(weights: str, pictures: list[str]) -> None:
    def run(name: str, kimg: float, *more: str) -> Path:
        settings = [*pictures, *QUICK, f"name={name}", f"trainer.max_kimg={kimg}", *more]
        return train(finetune(weights, settings))

    whole, _ = run("whole", 0.016), run("parts", 0.008)
    parts = run("parts", 0.016, "resume=auto")
    assert records(whole, "held_back") == records(parts, "held_back")
    assert len(set(records(whole, "held_back"))) == 3


def test_the_kernel_distance_prefers_the_generator_that_drew_the_images(weights: str, pictures: list[str]) -> None:
    run = finetune(weights, [*pictures, *QUICK])
    system, other = (AdversarialSystem(run, initial(run)[0]) for _ in range(2))
    with torch.no_grad():
        for parameter in other.ema.average.parameters():
            parameter.mul_(1.2)
    judge = KernelJudge(system)
    images = samples(system, 16)[::2]
    own = judge(system, images)
    assert own < judge(other, images)
    with torch.no_grad():
        for parameter in system.discriminator.parameters():
            parameter.mul_(1.5)
    assert judge(system, images) == own  # the discriminator that learns does not move the scale
    resumed = KernelJudge(system)
    resumed.load_state_dict(judge.state_dict())
    assert resumed(system, images) == own
    with pytest.raises(ConfigError, match=r"patience=8: 1 image is held back; give more.*data\.holdout"):
        judge(system, images[:1])


def test_a_discriminator_of_patches_reads_whole_pictures_at_their_size() -> None:
    run = recipes.load_run("graf_heads32", ["system.discriminator.channels=[4, 8]", "generator.hidden_dim=8"])
    system = AdversarialSystem(run)
    assert judge_of(system)(system, torch.rand(4, 3, 32, 32) * 2 - 1) > 0


def test_methods_that_take_photographs_apart_are_read_by_what_they_rebuild(
    pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [
        "generator.size=32", "generator.nf=4", "generator.zdim=4", "generator.groups=2", "generator.encoder_nf=4",
        "generator.confidence=false", "system.stages=[{size: 32, batch: 4}]", "data.size=32", "data.holdout=0.2",
    ]  # fmt: skip
    run = recipes.load_run("unsup3d", [*pictures, *QUICK[1:], *small])
    system, images = PhotometricSystem(run), held_back.held_back(run, FaceData(run.data))
    assert len(images) == 2
    judge = judge_of(system)
    rgb, mask = rebuilt(system.ema.average, images)
    expected = ((rgb - images).abs() * mask).sum() / (3 * mask.sum())
    assert judge(system, images) == pytest.approx(expected.item(), rel=1e-5)
    assert judge.name == "L1 of reconstructions"
    monkeypatch.setattr(judges, "rebuilt", lambda _, x: (x, torch.zeros_like(x[:, :1])))
    assert judge(system, images) == float("inf")  # an object that vanishes is no perfect one
    system.examples[:2] = images
    above = system.beside(2)
    assert torch.equal(above["photograph"], images)
    assert torch.equal(above["reconstruction"], rgb)
    assert list(system.generator.parts()) == ["depth", "albedo", "light", "viewpoint"]


MESH = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "channel_max": 8, "map_size": 16, "image_size": 16, "mesh_n": 16}
SMALL: dict[str, dict[str, Any]] = {"shadegan": FIELD, "pigan": FIELD | {"background": "map"}, "meshgan": MESH}


@pytest.mark.parametrize(
    ("method", "part"), [("shadegan", "mapping"), ("pigan", "synthesis"), ("meshgan", "background")]
)
def test_frozen_parts_hold_still(method: str, part: str, pictures: list[str]) -> None:
    own = [f"generator.{name}={value}" for name, value in SMALL[method].items()]
    freezes = [f"system.freeze=[{part}]", "system.freeze_d=2", "trainer.max_kimg=0.008", "data.size=16"]
    run = recipes.load_run(method, [*pictures, *QUICK, *own, *freezes])
    start = AdversarialSystem(run)
    state = read_checkpoint(latest(train(run) / "checkpoints"))["state_dict"]  # type: ignore[arg-type]
    still = {id(p) for p in start.generator.parts()[part]} | {id(p) for p in start._still}
    before = {k: v for k, v in start.named_parameters() if not k.startswith("ema.")}
    moved = {k for k, v in before.items() if not torch.equal(state[k], v)}
    assert moved
    assert not {k for k in moved if id(before[k]) in still}
    assert {"discriminator.from_rgb.16.0.weight", "discriminator.blocks.8.0.weight"}.isdisjoint(moved)
    assert "discriminator.blocks.4.0.weight" in moved


def test_freezing_is_refused_where_nothing_would_learn() -> None:
    def system(*settings: str) -> AdversarialSystem:
        return AdversarialSystem(recipes.load_run("shadegan", [*settings, "system.stages=[{size: 16, batch: 4}]"]))

    with pytest.raises(ConfigError, match=r"unknown system\.freeze 'maping'. Did you mean 'mapping'"):
        system("system.freeze=[maping]")
    with pytest.raises(ConfigError, match="nothing is left that learns"):
        system("system.freeze=[mapping,synthesis]")
    with pytest.raises(ConfigError, match=r"freeze_d=3: images have 16 px, 4 must be left; use 2 or less"):
        system("system.freeze_d=3")
    with pytest.raises(ConfigError, match=r"system\.freeze=.*leave it out"):
        recipes.load_run("gan2shape", ["system.freeze=[mapping]"])


def test_a_folder_is_all_that_must_be_said(weights: str) -> None:
    run = finetune(weights, ["data.root=faces"])
    assert (run.data.name, run.data.align, run.data.holdout) == ("folder", "heads", 0.2)
    assert (run.trainer.patience, run.system.ada_target, run.system.freeze_d) == (8, 0.6, 1)  # type: ignore[attr-defined]
    own = finetune(
        weights, ["data=folder", "data.root=x", "trainer.patience=0", "data.holdout=0", "system.ada_target=0"]
    )
    assert (own.data.align, own.data.holdout, own.trainer.patience) == ("none", 0, 0)
    assert own.system.ada_target == 0  # type: ignore[attr-defined]
    assert finetune(weights).data.holdout == 0  # the heads have a split val
    with pytest.raises(ConfigError, match="gan2shape is fitted to single pictures, not trained: zoo run"):
        finetune("gan2shape.heads64")
    photos = finetune("unsup3d.photos64", ["data.root=faces"])
    assert (photos.data.align, photos.data.holdout, photos.trainer.patience) == ("celeba", 0.2, 8)


def test_of_two_discriminators_of_a_kind_the_one_beside_the_weights_is_taken(tmp_path: Path) -> None:
    """Not the one that their recipe started from, unless it is asked for again, or theirs is of another kind."""

    def starts_from(name: str, *more: str) -> str | None:
        run = finetune(name, ["data.root=x", *more])
        assert isinstance(run.system, AdversarialConfig)
        model, beside = initial(run)
        assert model is not None
        assert beside is not None
        AdversarialSystem(run).start_discriminator(beside)
        return run.system.discriminator.init

    other = "shadegan.photos64"  # what the recipe names
    assert starts_from("stylegan2.photos64") == other  # what is shipped beside it reads style
    given = zoo.load("stylegan2.photos64")
    zoo.save(given, tmp_path / "w", card=given.card, discriminator=discriminator("meshgan.photos64"))
    assert starts_from(f"file:{tmp_path / 'w'}") is None
    assert starts_from(f"file:{tmp_path / 'w'}", f"system.discriminator.init={other}") == other


def test_patience_needs_images_that_are_held_back(pictures: list[str]) -> None:
    run = recipes.load_run("shadegan", [*pictures, *QUICK, "trainer.patience=2"])
    with pytest.raises(DataError, match=r"trainer\.patience=2: .*no 'val' images.*data\.holdout=0\.2"):
        held_back.held_back(run, FaceData(run.data))
    run.data.holdout = 0.05
    with pytest.raises(
        DataError, match=r"holds back none of 10 pictures; .*larger share back; or use trainer\.patience=0"
    ):
        held_back.held_back(run, FaceData(run.data))
