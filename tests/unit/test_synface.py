"""The synface layout: what is written is what is read, and the benchmark's cut frames the face."""

import numpy as np
import pytest
import torch
from PIL import Image

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
    with pytest.raises(DataError, match=r"no \.png or \.jpg"):
        SynfaceDataset(tmp_path)
    (image / "1_image.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"1_depth\.png is missing"):
        SynfaceDataset(tmp_path)
    (tmp_path / "test" / "depth").mkdir()
    (tmp_path / "test" / "depth" / "1_depth.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match="cannot be read"):
        SynfaceDataset(tmp_path)[0]


@pytest.mark.parametrize(
    ("arguments", "word"), [({"n": 0}, "n of 1"), ({"n": 1, "splits": ("dev",)}, "train, val, test")]
)
def test_wrong_arguments_are_refused(tmp_path, arguments, word):
    with pytest.raises(DataError, match=word):
        write_synface(tmp_path / "set", **arguments)
