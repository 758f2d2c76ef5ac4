"""Photographs as training images: framed by their faces, with measured poses, both found only once."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.unit.test_faces import image
from zoo.config.fill import structured
from zoo.config.schemas import DataConfig
from zoo.data import measured
from zoo.data.cache import keep
from zoo.data.module import FaceData
from zoo.data.pictures import BadImage
from zoo.data.sources import open_source
from zoo.data.store import Files, open_files
from zoo.data.transforms import to_float
from zoo.errors import ConfigError, DataError
from zoo.faces.align import align, find_mesh
from zoo.faces.mesh import Faces
from zoo.heads.dataset import HeadDataset


@pytest.fixture(scope="module")
def poses() -> torch.Tensor:
    return HeadDataset("test", size=128, length=3).batch([0, 1, 2])["pose"]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three rendered heads, a picture of nobody, and a cache folder of its own."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, pixels in enumerate(HeadDataset("test", size=128, length=3).batch([0, 1, 2])["image"]):
        image(pixels).save(folder / f"{i}.png")
    Image.new("RGB", (40, 40)).save(folder / "nobody.png")
    return folder


def test_faces_are_framed_and_their_poses_follow_the_mirror(photos: Path, poses: torch.Tensor) -> None:
    data = FaceData(DataConfig(name="folder", root=str(photos), size=32, align="heads"), batch=12)
    batch = next(iter(data.train_dataloader()))
    assert batch["pose"].shape == (12, 2)
    picture = Image.open(photos / "1.png")
    framed = align(picture, find_mesh(picture), "heads", 32)
    for pixels, pose, index in zip(batch["image"], batch["pose"], batch["index"].tolist(), strict=True):
        true = poses[index]
        mirrored = (pose - true).abs().sum() > (pose - true * torch.tensor([1.0, -1.0])).abs().sum()
        assert torch.allclose(pose, true * torch.tensor([1.0, -1.0 if mirrored else 1.0]), atol=0.12)
        if index == 1:
            assert (pixels - (framed.flip(-1) if mirrored else framed)).abs().max() < 0.01
    assert sorted(set(batch["index"].tolist())) == [0, 1, 2]  # nobody is left out


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures whose faces are looked for."""
    names, original = list[str](), measured.find_largest

    def counted(picture: Image.Image, where: str) -> Faces:
        names.append(Path(where).name)
        return original(picture, where)

    monkeypatch.setattr(measured, "find_largest", counted)
    return names


def table(photos: Path) -> dict[str, torch.Tensor]:
    """Pose and places of all pictures of a folder, by name."""
    files = open_files(photos)
    found = measured.measure(files, files.names)
    return dict(zip(found.names, torch.cat([found.poses, found.places.flatten(1)], 1), strict=True))


def test_faces_are_measured_once_for_all_sizes(photos: Path, asked: list[str]) -> None:
    first = table(photos)
    asked.clear()
    for size, framing in ((16, "ffhq"), (32, "celeba")):
        source = open_source("folder", photos, size=size, align=framing)  # type: ignore[arg-type]
        assert source.names == list(first) == ["0.png", "1.png", "2.png"]  # type: ignore[union-attr]
    assert asked == []


def test_a_measurement_belongs_to_a_picture_and_not_to_its_place(photos: Path, asked: list[str]) -> None:
    first = table(photos)
    asked.clear()
    shutil.copy(photos / "2.png", photos / "00.png")  # before most of the others, which move on
    grown = table(photos)
    assert asked == ["00.png"]
    assert list(grown) == ["0.png", "00.png", "1.png", "2.png"]
    assert torch.equal(grown["00.png"], first["2.png"])
    assert all(torch.equal(grown[name], first[name]) for name in first)
    asked.clear()
    (photos / "0.png").unlink()
    Image.open(photos / "1.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "1.png")
    changed = table(photos)
    assert asked == ["1.png"]
    assert list(changed) == ["00.png", "1.png", "2.png"]
    assert (changed["1.png"] - first["1.png"]).abs()[1] > 0.01
    assert torch.equal(changed["2.png"], first["2.png"])


def test_splits_of_a_folder_are_measured_beside_each_other(photos: Path, asked: list[str]) -> None:
    for split in ("val", "train", "val", "train"):
        open_source("folder", photos, split, 16, align="heads", holdout=0.5)
    assert sorted(asked) == ["0.png", "1.png", "2.png", "nobody.png"]


def test_two_folders_of_the_same_names_sizes_and_times_are_told_apart(photos: Path) -> None:
    other = photos.parent / "other"
    other.mkdir()
    for i in range(3):  # uncompressed, so of the same number of bytes; and of one time, as unpacked archives may be
        picture = Image.open(photos / f"{i}.png")
        (photos / f"{i}.png").unlink()
        picture.save(photos / f"{i}.bmp")
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other / f"{i}.bmp")
        for folder in (photos, other):
            os.utime(folder / f"{i}.bmp", (0, 0))
    one, two = table(photos), table(other)
    assert all((one[name] - two[name]).abs()[1] > 0.01 for name in ("1.bmp", "2.bmp"))


@pytest.mark.parametrize("damage", ["cut", "changed", "older"])
def test_a_file_of_the_cache_that_cannot_be_used_is_measured_anew(
    photos: Path, damage: str, asked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    first = table(photos)
    asked.clear()
    (path,) = (photos.parent / "cache").glob("faces-*")
    whole = path.read_bytes()
    if damage == "older":  # rows without names
        keep(path, torch.zeros(4, 8))
    else:
        path.write_bytes(whole[:50] if damage == "cut" else whole[:-1] + b"\xff")
    again = table(photos)
    assert len(asked) == 4
    assert all(torch.equal(again[name], first[name]) for name in first)
    said = [message for message in caplog.messages if "damaged" in message]
    assert len(said) == (damage != "older")
    assert all("\n" not in message and message.endswith("is made anew") for message in said)
    assert path.read_bytes() == whole


def test_a_measurement_that_was_stopped_goes_on(
    photos: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "_TOGETHER", 2)
    original = measured._row

    def stopped(files: Files, name: str, crowded: list[str]) -> torch.Tensor:
        if name == "nobody.png":
            raise KeyboardInterrupt
        return original(files, name, crowded)

    with monkeypatch.context() as patched:
        patched.setattr(measured, "_row", stopped)
        with pytest.raises(KeyboardInterrupt):
            table(photos)
    assert asked == ["0.png", "1.png", "2.png"]
    asked.clear()
    assert list(table(photos)) == ["0.png", "1.png", "2.png"]
    assert asked == ["2.png", "nobody.png"]


def test_a_picture_that_has_gone_is_left_out_or_named(photos: Path) -> None:
    files = open_files(photos)
    (photos / "1.png").unlink()  # after the folder was listed
    assert measured.measure(files, files.names, skip=True).names == ["0.png", "2.png"]
    with pytest.raises(BadImage, match=r"1\.png: .*there is no such file"):
        measured.measure(files, files.names)


def test_crowds_are_counted_in_one_line(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    both = Image.new("RGB", (256, 128))
    for i in (0, 1):
        both.paste(Image.open(photos / f"{i}.png"), (128 * i, 0))
    for name in ("3.png", "4.png"):
        both.save(photos / name)
    files = open_files(photos)
    measured.measure(files, files.names)
    said = [message for message in caplog.messages if "several faces" in message]
    assert said == [f"2 pictures show several faces, of which the largest is taken; the first is {photos / '3.png'}"]


def test_what_cannot_be_read_stops_or_is_left_out(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (photos / "broken.jpg").write_bytes(b"no picture")
    skipped = open_source("folder", photos, size=16, align="heads", on_error="skip")
    assert len(skipped) == 3
    assert "left out of 5 pictures: 1 without a face, 1 that cannot be read" in caplog.text
    with pytest.raises(DataError, match=r"broken\.jpg: not an image"):  # the cache knows that it is broken
        open_source("folder", photos, size=16, align="heads")
    for i in range(3):
        (photos / f"{i}.png").unlink()
    with pytest.raises(DataError, match="none of 2 pictures shows a face"):
        open_source("folder", photos, size=16, align="heads", on_error="skip")


def test_a_picture_that_could_not_be_read_once_is_tried_again(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = open_files(photos)
    read = type(files).read

    def lost(self: Files, name: str) -> bytes:
        if name == "1.png":
            raise BadImage(name, "unreadable", "Input/output error")
        return read(self, name)

    with monkeypatch.context() as patched:
        patched.setattr(type(files), "read", lost)
        assert measured.measure(files, files.names, skip=True).names == ["0.png", "2.png"]
    with monkeypatch.context() as patched:
        patched.setenv("LOCAL_RANK", "1")  # of several processes all have the pictures that the first one had
        assert measured.measure(files, files.names, skip=True).names == ["0.png", "2.png"]
    assert measured.measure(files, files.names).names == ["0.png", "1.png", "2.png"]


def test_the_same_numbers_come_from_a_zip(photos: Path, tmp_path: Path) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", photos))
    plain, zipped = (open_source("folder", root, size=16, align="heads") for root in (photos, packed))
    assert torch.equal(plain.poses, zipped.poses)  # type: ignore[union-attr]
    assert torch.equal(to_float(plain.read(0)), to_float(zipped.read(0)))


@pytest.mark.parametrize(
    ("values", "fix"),
    [
        ({"name": "heads", "align": "heads"}, "drawn as they are used"),
        ({"name": "folder", "align": "ffhq", "crop": "full"}, r"leave out data\.crop"),
        ({"name": "folder", "align": "face"}, "heads, ffhq"),
    ],
)
def test_two_ways_to_cut_exclude_each_other(values: dict[str, str], fix: str) -> None:
    with pytest.raises(ConfigError, match=fix):
        structured(DataConfig, values, "data")
