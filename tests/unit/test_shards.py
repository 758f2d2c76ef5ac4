"""Shards: pictures, order and resume of the files they were made of, wherever they lie; and what is said of damage."""

import hashlib
import itertools
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

from zoo.cli import main as cli
from zoo.config.schemas import DataConfig
from zoo.data import sources
from zoo.data.check import check
from zoo.data.measured import Measured
from zoo.data.module import FaceData
from zoo.data.shards.reader import Shards
from zoo.data.shards.writer import write_shards
from zoo.data.sources import ImageSource, NoSplit, open_source
from zoo.data.store import open_files
from zoo.errors import DataError

N = 11


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs and PNGs of noise, which no two shards of a kilobyte hold together."""
    root = tmp_path_factory.mktemp("pictures")
    for number in range(N):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number:02d}.{'jpeg' if number % 2 else 'png'}")
    return root


@pytest.fixture(scope="module")
def shards(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo.data.shards.writer._MB", 5000)
        counts = write_shards(str(pictures), out, mb=1, progress=False)
    assert counts["train"] == N
    assert counts["left_out"] == 0
    assert counts["shards"] > 2
    return out


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    """To be damaged."""
    return Path(shutil.copytree(shards, tmp_path / "copy"))


@pytest.fixture
def address(shards: Path) -> Any:
    memory = fsspec.filesystem("memory")
    for path in shards.iterdir():
        memory.pipe(f"/bucket/faces/{path.name}", path.read_bytes())
    yield "memory://bucket/faces"
    memory.rm("/bucket", recursive=True)


def images(name: str, root: Any, **settings: Any) -> list[torch.Tensor]:
    source = open_source(name, root, **{"size": 32, **settings})
    return [source.read(index) for index in range(len(source))]


def stream(name: str, root: Any, start: int = 0, steps: int = 7, **settings: Any) -> list[dict[str, torch.Tensor]]:
    data = FaceData(DataConfig(name=name, root=str(root), size=32, **settings), batch=4)
    data.position = start
    return list(itertools.islice(data.train_dataloader(), steps))


def same(a: Any, b: Any) -> bool:
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(torch.equal(x[key], y[key]) for key in x) for x, y in zip(a, b, strict=True)
    )


def test_a_shard_is_what_the_convention_says(shards: Path, pictures: Path, tmp_path: Path) -> None:
    found = {}
    for path in sorted(shards.glob("train-*.tar")):
        with tarfile.open(path) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar.getmembers()}  # type: ignore[union-attr]
    files = sorted(pictures.iterdir())
    kinds = {".jpeg": "jpg", ".png": "png"}
    expected = [(f"{i:09d}.{kinds[path.suffix]}", f"{i:09d}.json") for i, path in enumerate(files)]
    assert list(found) == [name for pair in expected for name in pair]
    for path, (name, notes) in zip(files, expected, strict=True):
        assert found[name] == path.read_bytes(), "files are stored as they are"
        assert json.loads(found[notes]) == {"name": path.name}

    webdataset = pytest.importorskip("webdataset")
    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"{i:09d}" for i in range(N)]
    assert samples[0]["png"] == files[0].read_bytes()


def test_the_same_pictures_make_the_same_bytes(pictures: Path, tmp_path: Path) -> None:
    def digest(out: Path) -> list[str]:
        write_shards(str(pictures), out, progress=False)
        return [f"{p.name} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in sorted(out.iterdir())]

    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_stream_and_resume_are_those_of_single_files(shards: Path, pictures: Path, address: str) -> None:
    expected = stream("folder", pictures)
    assert len({int(i) for batch in expected for i in batch["index"]}) == N
    for root in (shards, address):
        for cache in ("auto", "never"):
            assert same(stream("shards", root, cache=cache), expected)
        assert same(stream("shards", root, start=12, steps=4), expected[3:])
    assert same(stream("shards", address, workers=2, cache="never"), expected)


def test_a_batch_costs_one_request(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = open_files(address)
    assert isinstance(files, Shards)
    monkeypatch.setattr(type(files._files()[0]), "cat_file", lambda *_, **__: pytest.fail("one by one"))
    source = ImageSource(files, files.names, 32)
    calls = []

    def at_once(paths: list[str], starts: list[int], ends: list[int], on_error: str) -> list[Any]:
        calls.append(len(paths))
        local = fsspec.filesystem("memory").store
        return [local[path].getvalue()[a:b] for path, a, b in zip(paths, starts, ends, strict=True)]

    monkeypatch.setattr(files._files()[0], "cat_ranges", at_once, raising=False)
    assert source.read_batch([3, 1, 7, 3])[0].shape == (4, 3, 32, 32)
    assert calls == [4]


def test_a_size_stores_what_training_at_that_size_reads(pictures: Path, tmp_path: Path) -> None:
    write_shards(str(pictures), tmp_path / "out", size=24, progress=False)
    stored, read = images("shards", tmp_path / "out", size=24), images("folder", pictures, size=24)
    assert all(map(torch.equal, stored, read))


def test_transparent_pictures_stand_on_the_backdrop_of_their_data_set(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGBA", (40, 40)).save(tmp_path / "in" / "a.png")
    for name, value in (("carla", 255), ("folder", 0)):
        write_shards(str(tmp_path / "in"), tmp_path / name, name=name, size=32, progress=False)
        assert images("shards", tmp_path / name)[0].unique().tolist() == [value]


def test_the_crop_of_a_layout_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "in" / "train" / "image"
    place.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(place / "a.png")
    (expected,) = images("synface", tmp_path / "in")  # the middle 170 pixels
    for number, settings in enumerate(({}, {"size": 32})):
        write_shards(str(tmp_path / "in"), tmp_path / str(number), name="synface", progress=False, **settings)
        (found,) = images("shards", tmp_path / str(number))
        assert torch.equal(found, expected)
        cut: list[int] = []
        monkeypatch.setattr(ImageSource, "load", lambda source, _, cut=cut: cut.append(source.crop))
        assert check(str(tmp_path / str(number)), "celeba", threads=1).splits["train"] == 1
        assert cut == [170 if not settings else "square"]
        monkeypatch.undo()
    with pytest.raises(DataError, match="framed already"):
        write_shards("heads", tmp_path / "x", like="celeba")


def test_splits_stay_apart_and_bad_pictures_are_left_out(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, names in {"train": ("00.png", "01.jpeg"), "test": ("02.png",)}.items():
        (tmp_path / "in" / split).mkdir(parents=True)
        for name in names:
            shutil.copy(pictures / name, tmp_path / "in" / split)
    (tmp_path / "in" / "train" / "bad.png").write_bytes(b"<html>")
    out = tmp_path / "out"
    assert cli._run(["data", "shard", str(tmp_path / "in"), "--out", str(out), "--json"], debug=False) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"folder": str(out), "test": 1, "train": 2, "shards": 2, "left_out": 1}
    assert [len(images("shards", out, split=split)) for split in ("train", "val", "test")] == [2, 1, 1]
    assert check(str(out)).splits == {"train": 2, "val": 1, "test": 1}
    assert cli._run(["data", "shard", str(pictures), "--out", str(out)], debug=False) == 1
    assert "is not an empty folder" in capsys.readouterr().err


def test_the_layout_of_another_data_set_leaves_splits_as_they_are(shards: Path) -> None:
    for name in ("celeba", "ffhq"):
        found, own = (open_source(each, shards, size=32) for each in (name, "shards"))
        assert isinstance(found, ImageSource)
        assert isinstance(own, ImageSource)
        assert found.names == own.names


def test_heads_bring_their_poses(tmp_path: Path) -> None:
    write_shards("heads", tmp_path / "out", size=32, n=18, progress=False)
    heads = sources.HeadSource("train", size=32, length=18, seed=0)
    framed = open_source("shards", tmp_path / "out", size=32, align="heads")
    assert torch.equal(torch.stack([framed.read(i) for i in range(18)]), heads.read_batch(list(range(18)))[0])
    assert isinstance(framed, ImageSource)
    assert framed.poses is not None
    assert torch.allclose(framed.poses, heads.heads.batch(list(range(18)))["pose"])
    (batch,) = stream("shards", tmp_path / "out", steps=1, align="heads", hflip=False)
    assert torch.equal(batch["pose"], framed.poses[batch["index"]])
    with pytest.raises(DataError, match=r"framed like heads; use data\.align=none"):
        open_source("shards", tmp_path / "out", align="celeba")


def test_faces_are_cut_once_and_keep_their_poses(
    pictures: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poses = torch.tensor([[0.1, -0.2], [0.0, 0.3]])
    places = torch.tensor([[14.0, 16.0], [34.0, 16.0], [24.0, 26.0]]).expand(2, 3, 2)
    monkeypatch.setattr(sources, "measure", lambda files, names, skip: Measured(names[:2], poses, places))
    counts = write_shards(str(pictures), tmp_path / "out", like="celeba", size=32, progress=False)
    assert (counts["train"], counts["left_out"]) == (2, N - 2)
    framed = open_source("shards", tmp_path / "out", size=32, align="celeba")
    cut = open_source("folder", pictures, size=32, align="celeba")
    assert all(torch.equal(framed.read(i), cut.read(i)) for i in range(2))
    assert torch.equal(framed.poses, poses)  # type: ignore[union-attr, arg-type]
    with pytest.raises(DataError, match="were not framed when they were written"):
        open_source("shards", shards, align="celeba")


def cut(root: Path) -> str:
    path = root / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:-700])
    return r"train-000001\.tar: has [\d,]+ bytes in place of"


def gone(root: Path) -> str:
    (root / "train-000001.tar").unlink()
    return r"train-000001\.tar: No such file"


def no_table(root: Path) -> str:
    (root / "table.npy").write_bytes(b"\x93NUMPY")
    return r"table\.npy: cannot be read"


def other_table(root: Path) -> str:
    table = np.load(root / "table.npy")
    np.save(root / "table.npy", table[1:])
    return rf"table\.npy: has not the {N} pictures of shards\.json"


def beyond(root: Path) -> str:
    table = np.load(root / "table.npy")
    table["bytes"][-1] = 2**31
    np.save(root / "table.npy", table)
    return r"table\.npy: does not fit the shards"


def empty(root: Path) -> str:
    (root / "shards.json").write_text('{"version": 1, "framing": null, "crop": "square", "splits": {"train": []}}')
    return "names no pictures"


def outside(root: Path) -> str:
    (root / "shards.json").write_text((root / "shards.json").read_text().replace("train-000001", "../train-000001"))
    return "names a shard outside of its folder"


def no_json(root: Path) -> str:
    (root / "shards.json").write_text("[")
    return r"shards\.json: cannot be read"


def newer(root: Path) -> str:
    (root / "shards.json").write_text((root / "shards.json").read_text().replace('"version": 1', '"version": 9'))
    return "of version 9"


def foreign(root: Path) -> str:
    (root / "shards.json").unlink()
    return r"tar files without their shards\.json"


def test_shards_are_not_made_of_shards(shards: Path, address: str, tmp_path: Path) -> None:
    for source in (str(shards), address):
        with pytest.raises(DataError, match="these are shards already; copy them"):
            write_shards(source, tmp_path / "out", size=32, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [cut, gone, no_table, other_table, beyond, empty, outside, no_json, newer, foreign])
def test_damage_is_named_in_one_line_before_the_work(copy: Path, damage: Any) -> None:
    expected = damage(copy)
    with pytest.raises(DataError, match=expected) as caught:
        open_source("shards", copy)
    assert "\n" not in str(caught.value)


def test_a_shard_that_vanishes_stops_or_is_passed_over(copy: Path) -> None:
    opened = [open_source("shards", copy, size=32, on_error=on_error) for on_error in ("stop", "skip")]  # type: ignore[arg-type]
    expected = opened[1].read(0)
    (copy / "train-000001.tar").unlink()
    last = next(i for i in range(N) if "000001.tar" in opened[0].files.where(opened[0].names[i]))  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"train-000001\.tar: 0+\d: unreadable: No such file"):
        opened[0].read(last)
    assert opened[1].read(last).shape == expected.shape


def test_addresses_that_cannot_be_read(address: str, shards: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere/shards\.json: cannot be read"):
        open_files("memory://nowhere")
    with pytest.raises(DataError, match=r"data\.root=unheard://of: .*[Pp]rotocol"):
        open_files("unheard://of")
    files = open_files(address)
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/faces/train-000000.tar", (shards / "train-000000.tar").read_bytes()[:600])
    with pytest.raises(DataError, match="000000000: shard cut short: 88 of"):
        files.read(files.names[0])
    with pytest.raises(DataError, match="write to a folder"):
        write_shards(str(shards), "s3://bucket/x")
    with pytest.raises(NoSplit):
        open_source("shards", address, "test")


def test_a_full_disk_leaves_nothing_behind(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(OSError, match=r"MB left in .*make room"):
        write_shards(str(pictures), tmp_path / "out", progress=False)
    assert not list(tmp_path.iterdir())
