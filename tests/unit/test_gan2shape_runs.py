"""Runs of GAN2Shape go from pictures, with their masks and initial shapes, to folders of results, and go on."""

import copy
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests.unit.tiny_gan2shape import SIZE, TINY, tiny_discriminator, tiny_gan, tiny_run, values
from zoo.config.schemas import Card
from zoo.errors import ConfigError, DataError, WeightsError
from zoo.fitting import job as instances
from zoo.fitting.subjects import foreground, gan_for, initial_shape, photographs
from zoo.generators.base import Generator
from zoo.generators.gan2shape import GAN2Shape, GAN2ShapeConfig
from zoo.resources import example_photo
from zoo.systems.run import train


@pytest.fixture(scope="module")
def gan() -> Generator:
    return tiny_gan()


@pytest.fixture(scope="module")
def stored(gan: Generator, tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"file:{zoo.save(gan, tmp_path_factory.mktemp('gan') / 'weights', discriminator=tiny_discriminator())}"


# ---------------------------------------------------------------- pictures


def test_initial_shapes_and_masks(gan: Generator, tmp_path: Path) -> None:
    model = GAN2Shape(GAN2ShapeConfig(size=SIZE, nf=4, groups=2))
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[10:30, 8:32] = 255
    Image.fromarray(pixels).save(tmp_path / "p.png")
    (photo,) = photographs(str(tmp_path / "p.png"), gan, SIZE)
    (masked,) = photographs(str(tmp_path / "p.png"), gan, SIZE, mask=str(tmp_path))
    masks = {kind: foreground(photo, model, kind) for kind in ("alpha", "ellipse", "all")}
    assert masks["all"].min() == 1
    assert masks["alpha"].mean() == pytest.approx(20 * 24 / 1600, abs=0.03)
    own = foreground(masked, model, str(tmp_path))
    torch.testing.assert_close(own, masks["alpha"], atol=0.02, rtol=0)  # white where it is opaque
    (head,) = photographs("heads:3", gan, SIZE, mask=str(tmp_path / "p.png"))
    torch.testing.assert_close(foreground(head, model, "p.png"), own)

    shape = {kind: initial_shape(kind, masks["ellipse"], "cat", model) for kind in instances.SHAPES}
    middle = SIZE // 2
    assert shape["ellipsoid"][0, 0, middle, middle] < 0.92
    assert shape["flat"].std() == 0
    left, right = shape["asymmetric"][..., :middle], shape["asymmetric"][..., middle:]
    assert torch.equal(left, shape["ellipsoid"][..., :middle])
    assert (right.max() - right.min()) < 0.6 * (left.max() - left.min())

    with pytest.raises(DataError, match="no transparency"):
        foreground(photographs("heads:0", gan, SIZE)[0], model, "alpha")
    with pytest.raises(ConfigError, match=r"system\.mask=nowhere: no such file"):
        photographs("heads:0", gan, SIZE, mask="nowhere")
    with pytest.raises(DataError, match=r"no mask head0000\.png"):
        photographs("heads:0", gan, SIZE, mask=str(tmp_path))
    with pytest.raises(DataError, match="foreground"):
        initial_shape("ellipsoid", torch.zeros(1, 1, SIZE, SIZE), "cat", model)
    with pytest.raises(ConfigError, match=r"system\.shape=cube"):
        initial_shape("cube", masks["ellipse"], "cat", model)


def test_a_mask_file_is_cut_as_its_photograph_is(gan: Generator, tmp_path: Path) -> None:
    """The face of the example is far from the middle of a wide picture; its mask is found by the face, too."""
    face = Image.open(example_photo()).convert("RGB").resize((256, 256))
    wide, mask = Image.new("RGB", (640, 256), "gray"), Image.new("L", (640, 256))
    wide.paste(face, (384, 0))
    mask.paste(255, (0, 0, 490, 256))  # what is left of the nose
    for folder, picture in (("photo", wide), ("mask", mask)):
        (tmp_path / folder).mkdir()
        picture.save(tmp_path / folder / "p.png")
    (photo,) = photographs(str(tmp_path / "photo/p.png"), gan, SIZE, align=True, mask=str(tmp_path / "mask/p.png"))
    assert photo.alpha is not None
    left, right = photo.alpha.tensor_split(2, -1)
    assert left.mean() > 0.8
    assert right.mean() < 0.4
    assert photo.image[..., -8:].mean() > -0.9  # the picture keeps what the mask leaves out


def test_folders_and_zips_are_listed_as_in_training(gan: Generator, tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (40, 40), (200, 100, 50)).save(picture, "PNG")
    names = ["b.PNG", "a.jpe", "._a.png", "__MACOSX/b.png", ".DS_Store", "Thumbs.db", "masks/a.png"]
    for name in names:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(picture.getvalue())
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in names:
            archive.writestr(f"set/{name}".replace("/", "\\"), picture.getvalue())
    for source in ("set", "set.zip"):
        assert [photo.name for photo in photographs(str(tmp_path / source), gan, SIZE)] == ["a", "b"]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("nowhere.jpg", "nowhere.jpg: no such picture or folder"),
        ("heads:5-2", "heads:5-2: write one number or a range"),
        ("heads:99999", "heads:99999 does not exist"),
        ("seed:x", "seed:x: write one number"),
    ],
)
def test_unknown_sources(gan: Generator, source: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        photographs(source, gan, SIZE)


def test_a_gan_of_drawn_heads_is_told_of_where_photographs_come_in(
    gan: Generator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "photo.png")
    network: Any = copy.copy(gan)
    for data, told in (("the embedded heads, split train", 1), ("photographs, framed like celeba", 0)):
        caplog.clear()
        network.card = Card(data=data)
        photographs(str(tmp_path / "photo.png"), network, SIZE, align=False)
        photographs("seed:0", network, SIZE)
        assert len(caplog.messages) == told
    caplog.clear()
    network.card, network.name = Card(data="the embedded heads"), "stylegan2.heads64"
    photographs(str(tmp_path / "photo.png"), network, SIZE, align=False)
    assert "stylegan2.heads64 draws the embedded heads" in caplog.text
    assert "--gan ffhq" in caplog.text


def test_each_source_has_a_gan_that_draws_the_like() -> None:
    for source in ("heads:0-3", "sealed:0", "val:1", "seed:0", "bfm:0-2"):
        assert gan_for(source) == "stylegan2.heads64"
    for source in ("photo.jpg", "my/heads", "C:/photo.jpg", "seeds"):
        assert gan_for(source) == "stylegan2.photos64"


# ---------------------------------------------------------------- the whole


def test_a_run_writes_everything_and_goes_on(stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "FRAMES", 2)
    job = instances.open_job("gan2shape", TINY, stored, tmp_path / "out", {"command": "zoo run"})
    shares: list[float] = []
    results = instances.run_all(job, "heads:0-1", advance=lambda what, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert [len(r["records"]) for r in results] == [7, 7]
    folder = tmp_path / "out" / "head0001"
    files = {"index.html", "latent.pt", "mesh.glb", "mesh.mtl", "mesh.obj", "mesh.png", "overview.png", "result.json"}
    files.add("depths.npy")
    films = {f"{what}_{how}.mp4" for what in ("rotate", "relight") for how in ("render", "gan")}
    assert {p.name for p in folder.iterdir()} == files | films | {"weights"}
    assert "head0001/index.html" in (tmp_path / "out" / "index.html").read_text()
    assert isinstance(zoo.load(f"file:{folder / 'weights'}"), GAN2Shape)

    (folder / "result.json").unlink()
    (folder / "mesh.obj").unlink()
    again = instances.run_all(job, "heads:0-1")
    assert again[0] == results[0]
    assert (folder / "mesh.obj").is_file()
    assert [r["loss"] for r in again[1]["records"]] == [r["loss"] for r in results[1]["records"]]

    with pytest.raises(ConfigError, match="holds a run with other settings"):
        instances.open_job("gan2shape", [*TINY, "seed=1"], stored, tmp_path / "out", {})
    stale = torch.load(folder / "latent.pt", weights_only=True) | {"picture": "another"}
    torch.save(stale, folder / "latent.pt")
    with pytest.raises(ConfigError, match="belongs to another picture"):
        instances.run_all(job, "heads:0-1")


def test_joint_mode_shares_its_networks(stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "FRAMES", 2)
    job = instances.open_job("gan2shape", TINY, stored, tmp_path, {}, joint=True)
    results = instances.run_all(job, "seed:0-1")
    assert [r["name"] for r in results] == ["seed0000", "seed0001"]
    first, second = (zoo.load(f"file:{tmp_path / r['name'] / 'weights'}") for r in results)
    assert torch.equal(values(first), values(second))
    assert "SIDE" not in json.dumps(results)


def test_a_run_starts_from_fitted_networks(stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "FRAMES", 2)
    model = zoo.build("gan2shape", **{k: v for k, v in tiny_run().generator.items() if k != "name"})
    zoo.save(model, tmp_path / "weights")
    init = f"init=file:{tmp_path / 'weights'}"
    job = instances.open_job("gan2shape", [*TINY, init], stored, tmp_path / "out", {})
    (photo,) = photographs("heads:0", job.gan, SIZE)
    (result,) = instances.run_all(job, "heads:0")
    assert result["records"][0]["iterations"] == 0
    depths = np.load(tmp_path / "out" / "head0000" / "depths.npy")
    np.testing.assert_allclose(depths[0], model.predict_depth(photo.image)[0, 0].numpy(), atol=1e-6)
    with pytest.raises(WeightsError, match="use the same generator settings as the weights"):
        instances.open_job("gan2shape", [*TINY, "generator.nf=8", init], stored, tmp_path / "other", {})
    with pytest.raises(ConfigError, match=r"system\.shape=flat: init=file:.* has a shape already; add init=null"):
        instances.open_job("gan2shape", [*TINY, "system.shape=flat", init], stored, tmp_path / "other", {})


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"^trainer\.accelerator=gpu: not on this machine; leave it out"):
        instances.open_job("gan2shape", [*TINY, "trainer.accelerator=gpu"], stored, tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_a_2d_gan_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a 2D GAN is needed"):
        instances.open_job("gan2shape", [], "pigan.heads32", tmp_path, {})


def test_other_regimes_are_refused(stored: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not fitted to single pictures"):
        instances.open_job("pigan", [], stored, tmp_path, {})


def test_it_is_run_and_not_trained() -> None:
    with pytest.raises(ConfigError, match="zoo run gan2shape"):
        train(tiny_run())
