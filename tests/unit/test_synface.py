"""The synface layout: what is written is what is read, and the benchmark's cut frames the face."""

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from zoo.cli.main import app
from zoo.data.bfm.write import write_bfm
from zoo.data.fit_prior import fit_prior
from zoo.data.synface import SynfaceDataset, decode_depth, encode_depth, write_synface
from zoo.errors import DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_synface(tmp_path_factory.mktemp("synface") / "set", 3, splits=("train", "test"))


def test_depth_coding_is_the_benchmarks():
    value = torch.tensor([0.0, 0.5, 1.0])
    assert torch.allclose(decode_depth(value), torch.tensor([1.1, 1.0, 0.9]))
    depth = np.linspace(0.9, 1.1, 50, dtype=np.float32)
    grey = encode_depth(depth, np.ones(50))
    back = decode_depth(torch.from_numpy(grey.astype(np.float32) / 255)).numpy()
    np.testing.assert_allclose(back, depth, atol=0.2 / 255 / 2 + 1e-6)


def test_folders_and_files_follow_the_published_layout(root):
    names = sorted(str(p.relative_to(root)) for p in root.rglob("*.png"))
    assert len(names) == 2 * (3 + 1)
    assert names[0] == "test/depth/000000_depth.png"
    assert "train/image/000002_image.png" in names
    with Image.open(root / names[0]) as depth:
        assert (depth.mode, depth.size) == ("L", (256, 256))


def test_reader_gives_image_depth_and_mask(root):
    data = SynfaceDataset(root, "train", size=64)
    assert len(data) == 3
    for item in (data[i] for i in range(3)):
        assert item["image"].shape == (3, 64, 64)
        assert item["depth"].shape == item["mask"].shape == (1, 64, 64)
        inside = item["mask"] > 0
        assert 0.5 < inside.float().mean() < 0.95
        assert 0.9 <= item["depth"][inside].min() <= item["depth"][inside].max() < 1.1
        assert torch.allclose(item["depth"][~inside], torch.tensor(1.1))
        # The face fills the cut: nearly every row and the middle of the picture show it.
        assert inside.any(-1).float().mean() > 0.9
        assert item["mask"][0, 24:40, 24:40].all()


def test_the_same_seed_writes_the_same_pixels_and_nothing_to_stdout(root, tmp_path, capsys):
    again = write_synface(tmp_path / "again", 3, splits=("test",))
    assert capsys.readouterr().out == ""
    name = "test/image/000000_image.png"
    assert (again / name).read_bytes() == (root / name).read_bytes()


def test_a_full_folder_is_left_alone(root, tmp_path):
    before = sorted(root.rglob("*"))
    with pytest.raises(DataError, match="not an empty folder"):
        write_synface(root, 1)
    assert sorted(root.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    assert (write_synface(tmp_path / "empty", 1, size=64, splits=("val",)) / "val" / "depth").is_dir()
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_every_writer_of_sets_knows_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert write_synface("~/synface", 1, size=64, splits=("val",)) == tmp_path / "synface"
    assert (
        CliRunner().invoke(app, ["data", "heads", "--layout", "images", "--n", "1", "--out", "~/heads"]).exit_code == 0
    )
    (tmp_path / "poses.csv").write_text("0,0.1\n0.2,0")
    fit_prior("~/poses.csv", "~/pose.json")
    with pytest.raises(DataError, match="not an empty folder"):  # before it reads the model
        write_bfm("~/synface", "none.mat")
    assert not (tmp_path / "~").exists()
    assert (tmp_path / "pose.json").is_file()


def test_nothing_is_left_after_a_failure(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("disk full")

    monkeypatch.setattr("zoo.data.synface._write_images", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        write_synface(tmp_path / "set", 1, size=64)
    assert not list(tmp_path.iterdir())


def test_broken_folders_are_named(root, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        SynfaceDataset(root, "val")
    image = tmp_path / "test" / "image"
    image.mkdir(parents=True)
    with pytest.raises(DataError, match="holds no images"):
        SynfaceDataset(tmp_path)
    (image / "1_image.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"1_depth\.png is missing"):
        SynfaceDataset(tmp_path)
    (tmp_path / "test" / "depth").mkdir()
    (tmp_path / "test" / "depth" / "1_depth.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"1_image\.png: not an image"):
        SynfaceDataset(tmp_path)[0]


@pytest.mark.parametrize(
    ("arguments", "word"), [({"n": 0}, "n of 1"), ({"n": 1, "splits": ("dev",)}, "train, val, test")]
)
def test_wrong_arguments_are_refused(tmp_path, arguments, word):
    with pytest.raises(DataError, match=word):
        write_synface(tmp_path / "set", **arguments)


# ---------------------------------------------------------------- the benchmark reads as everything else does


def rewritten(root, out, image=None, depth=None):
    """A copy of the test split with other pictures; `image` and `depth` make them from the old ones."""
    for kind, change in (("image", image), ("depth", depth)):
        (out / "test" / kind).mkdir(parents=True)
        for path in (root / "test" / kind).iterdir():
            picture = Image.open(path)
            (change(picture) if change else picture).save(out / "test" / kind / path.name)
    return out


def test_depth_of_16_bits_is_the_depth_of_8(root, tmp_path):
    deep = rewritten(root, tmp_path / "a", depth=lambda p: Image.fromarray(np.asarray(p).astype(np.uint16) * 257))
    item, expected = SynfaceDataset(deep)[0], SynfaceDataset(root)[0]
    for name in ("image", "depth", "mask"):
        torch.testing.assert_close(item[name], expected[name], rtol=0, atol=1e-6)


def test_transparent_images_stand_on_black_as_in_training(root, tmp_path):
    (path,) = (root / "test" / "depth").iterdir()
    inside = np.asarray(Image.open(path))[..., None] > 0
    black = rewritten(root, tmp_path / "a", image=lambda p: Image.fromarray(np.asarray(p) * inside))

    def cut_out(picture):
        opacity = (inside * 255).astype(np.uint8)
        return Image.fromarray(np.dstack([np.where(inside, np.asarray(picture), 255).astype(np.uint8), opacity]))

    clear = rewritten(root, tmp_path / "b", image=cut_out)
    expected = SynfaceDataset(black)[0]["image"]
    torch.testing.assert_close(SynfaceDataset(clear)[0]["image"], expected, rtol=0, atol=1e-6)


def test_shadow_files_are_passed_over(root, tmp_path):
    copy = rewritten(root, tmp_path / "a")
    (copy / "test/image/._000000_image.png").write_bytes(b"shadow")
    (copy / "test/image/__MACOSX").mkdir()
    (copy / "test/image/__MACOSX/000000_image.png").write_bytes(b"shadow")
    (copy / "test/image/.DS_Store").write_bytes(b"shadow")
    (copy / "test/image/Thumbs.db").write_bytes(b"shadow")
    assert len(SynfaceDataset(copy)) == len(SynfaceDataset(root))


def test_a_zip_from_windows_and_other_suffixes_are_read(root, tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in root.rglob("*.png"):
            name = str(path.relative_to(root)).replace("/", "\\").replace("_depth.png", "_depth.PNG")
            archive.writestr(zipfile.ZipInfo(f"synface\\{name}"), path.read_bytes())
    zipped = SynfaceDataset(tmp_path / "set.zip", "train")
    assert len(zipped) == 3
    assert torch.equal(zipped[1]["depth"], SynfaceDataset(root, "train")[1]["depth"])


def test_a_bad_picture_stops_or_is_left_out_by_name(root, tmp_path):
    for kind in ("image", "depth"):
        (tmp_path / "train" / kind).mkdir(parents=True)
        for path in (root / "train" / kind).iterdir():
            (tmp_path / "train" / kind / path.name).write_bytes(path.read_bytes())
    bad = tmp_path / "train/image/000001_image.png"
    bad.write_bytes(bad.read_bytes()[:500])
    with pytest.raises(DataError, match=r"000001_image\.png: damaged.*on_error=skip"):
        SynfaceDataset(tmp_path, "train").items([0, 1, 2])
    data = SynfaceDataset(tmp_path, "train", on_error="skip")
    good = data.items([0, 1, 2])
    assert data.skipped == [str(bad)]
    whole = SynfaceDataset(root, "train")
    assert [torch.equal(a["image"], whole[i]["image"]) for a, i in zip(good, (0, 2), strict=True)] == [True, True]
    for path in (tmp_path / "train/depth").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no image can be read"):
        SynfaceDataset(tmp_path, "train", on_error="skip").items([0, 1, 2])
