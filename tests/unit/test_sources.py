import functools
import io
import math
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.config.prior_files import read_prior
from zoo.data.align import align_photos
from zoo.data.bfm.model import read_model
from zoo.data.check import check
from zoo.data.fit_prior import fit_prior
from zoo.data.layouts import LAYOUTS
from zoo.data.pictures import BadImage, decode
from zoo.data.shards.writer import write_shards
from zoo.data.sources import ImageSource, NoSplit, open_source
from zoo.data.store import open_files
from zoo.data.transforms import crop_box, flips, load_image, to_float, to_uint8
from zoo.errors import DataError


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(colour=(255, 0, 0), size=(40, 40), kind="PNG") -> bytes:
    return encoded(Image.new("RGB", size, colour), kind)


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def noise(size=64, seed=0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


@functools.cache
def bad_files() -> dict[str, tuple[bytes, str]]:
    whole = encoded(noise())
    return {
        "empty.png": (b"", "empty file"),
        "text.jpg": (b"<html>404</html>", "not an image"),
        "cut.png": (whole[: len(whole) // 2], "damaged"),
        "cut.jpg": (encoded(noise(), "JPEG")[:900], "damaged"),
        "tiny.png": (picture(size=(15, 40)), "too small"),
        "bomb.png": (encoded(Image.new("1", (9000, 9000))), "too large"),
        "float.tiff": (encoded(Image.new("F", (40, 40)), "TIFF"), "unsupported depth"),
    }


@pytest.mark.parametrize("name", bad_files())
def test_bad_files_name_path_and_kind(name: str) -> None:
    data, kind = bad_files()[name]
    with pytest.raises(BadImage) as caught:
        load_image(data, f"/d/{name}", 32)
    assert caught.value.kind == kind
    message = str(pickle.loads(pickle.dumps(caught.value)))
    assert message.startswith(f"/d/{name}: {kind}")
    assert "\n" not in message


def test_small_for_the_size() -> None:
    load_image(picture(size=(64, 64)), "x", 256)
    with pytest.raises(BadImage, match="at least 65"):
        load_image(picture(size=(64, 64)), "x", 260)


def test_modes_become_rgb() -> None:
    def first(image: Image.Image, kind: str = "PNG", **options) -> list[int]:
        out = load_image(encoded(image, kind, **options), "x", 16)
        assert out.shape == (3, 16, 16)
        assert out.dtype == torch.uint8
        return out[:, 8, 8].tolist()

    size = (40, 40)
    assert first(Image.new("L", size, 77)) == [77] * 3
    assert first(Image.new("RGBA", size, (200, 100, 50, 0))) == [0, 0, 0]
    assert first(Image.new("RGBA", size, (255, 255, 255, 128))) == [128] * 3
    assert first(Image.new("LA", size, (90, 255))) == [90] * 3
    assert first(Image.new("RGB", size, (9, 8, 7)).convert("P", palette=Image.Palette.ADAPTIVE)) == [9, 8, 7]
    assert first(Image.new("RGB", size, (9, 8, 7)), transparency=(9, 8, 7)) == [0, 0, 0]
    cmyk = first(Image.new("CMYK", size, (0, 255, 255, 0)), "JPEG")
    assert cmyk[0] > 245
    assert max(cmyk[1:]) < 10


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("value", "expected"), [(0, 0), (257, 1), (32896, 128), (65535, 255)])
def test_16_bit_grey_is_scaled(kind: str, value: int, expected: int) -> None:
    image = Image.fromarray(np.full((40, 40), value, dtype=np.uint16))
    assert load_image(encoded(image, kind), "x", 16).unique().tolist() == [expected]


def test_exif_rotation_and_first_frame() -> None:
    image = Image.new("RGB", (40, 20), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(image, "JPEG", exif=exif), "x").size == (20, 40)
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    animated = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert load_image(animated, "x", 16)[:, 0, 0].tolist() == [255, 0, 0]


def test_celeba_crop_is_the_papers() -> None:
    # Resize(320), CenterCrop(256): 0.8 of the width, centred.
    assert crop_box(178, 218, "celeba", 64, "x") == pytest.approx((17.8, 37.8, 160.2, 180.2))
    assert crop_box(256, 256, 170, 64, "x") == (43, 43, 213, 213)
    with pytest.raises(BadImage, match="too small"):
        crop_box(128, 128, 170, 64, "x")
    with pytest.raises(DataError, match="Did you mean 'square'"):
        crop_box(128, 128, "sqare", 64, "x")


def test_resampling() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    data = encoded(Image.fromarray(stripes))
    smooth = load_image(data, "x", 32)[:, :, 4:-4].float()
    assert (smooth - 127.5).abs().max() < 20
    assert load_image(data, "x", 32, resample="nearest").unique().tolist() == [255]  # it aliases, as published
    with pytest.raises(DataError, match="lanczos or nearest"):
        load_image(data, "x", 32, resample="bicubic")  # type: ignore[arg-type]


def test_draft_decoding_stays_close() -> None:
    smooth = noise(16).resize((1024, 1024), Image.Resampling.BICUBIC)
    data = encoded(smooth, "JPEG", quality=95)
    exact = np.asarray(smooth.resize((32, 32), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    assert np.abs(load_image(data, "x", 32).numpy().astype(int) - exact).mean() < 2


def test_float_round_trip() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert to_float(values).aminmax() == (-1, 1)
    assert torch.equal(to_uint8(to_float(values)), values)


def test_flips_depend_on_seed_and_position_only() -> None:
    positions = np.arange(20_000)
    drawn = flips(3, positions)
    assert np.array_equal(flips(3, positions[500:600]), drawn[500:600])
    assert abs(drawn.mean() - 0.5) < 0.02
    assert abs((drawn == flips(4, positions)).mean() - 0.5) < 0.02
    assert abs((drawn[1:] == drawn[:-1]).mean() - 0.5) < 0.02


def test_folder_is_sorted_recursive_and_ends(tmp_path: Path) -> None:
    write(tmp_path, {"b/ü ß.JPG": picture(kind="JPEG"), "a.png": picture(), "b/c/d.webp": picture(kind="WEBP")})
    write(tmp_path, {".hidden/x.png": b"", "b/._a.png": b"", "notes.txt": b"", "__MACOSX/a.png": b""})
    (tmp_path / "b" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    source = open_source("folder", tmp_path, size=32)
    assert source.names == ["a.png", "b/c/d.webp", "b/ü ß.JPG"]
    item = source[2]
    assert item["image"].shape == (3, 32, 32)
    assert item["image"].dtype == torch.float32
    assert item["index"] == 2
    assert item["image"].min() >= -1
    assert item["image"].max() <= 1
    assert len(open_source("folder", tmp_path, limit=2)) == 2


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a.png": picture()})
    (tmp_path / "dead.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    report = check(tmp_path, threads=1)
    assert [line.split(":")[0] for line in report.problems["unreadable"]] == [
        str(tmp_path / "dead.png"),
        str(tmp_path / "pipe.png"),
    ]

    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(DataError, match=r"a\.png: unreadable: Permission denied"):
        open_source("folder", tmp_path).read(0)


def test_folder_that_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, {"a/a.png": picture(), "b/b.png": picture()})
    scan = os.scandir

    def denied(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match="b: folder cannot be listed"):
        open_source("folder", tmp_path)
    assert len(open_source("folder", tmp_path, on_error="skip")) == 1
    assert check(tmp_path, threads=1).bad == 1
    caplog.clear()
    assert open_files(tmp_path).names == ["a/a.png"]  # as all readers of folders do
    assert caplog.messages == [f"{tmp_path / 'b'}: folder cannot be listed; check its permissions"]
    with pytest.raises(DataError, match="b: folder cannot be listed; check its permissions"):
        open_files(tmp_path / "b")


def test_missing_and_empty_roots(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "half.zip").write_bytes(b"PK\x03\x04 cut short")
    for root, message in [
        ("nowhere", "does not exist"),
        ("empty", "holds no images"),
        ("half.zip", "neither a folder nor a complete zip"),
    ]:
        with pytest.raises(DataError, match=message):
            open_source("folder", tmp_path / root)
    with pytest.raises(DataError, match=r"data\.root is missing"):
        open_source("celeba")
    with pytest.raises(DataError, match="Did you mean 'celeba'"):
        open_source("celebA", tmp_path)
    write(tmp_path, {"a.png": picture()})
    with pytest.raises(DataError, match=r"data\.limit=0"):
        open_source("folder", tmp_path, limit=0)
    with pytest.raises(DataError, match=r"unknown data\.on_error 'ignore'"):
        open_source("folder", tmp_path, on_error="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["~nobody-of-that-name/x.json", "x" * 5000])
def test_paths_that_cannot_be_are_errors_of_data(bad: str, tmp_path: Path) -> None:
    write(tmp_path, {"a.png": picture()})
    doors: list[Callable[[], object]] = [
        lambda: open_source("folder", bad),
        lambda: align_photos(tmp_path, bad, "heads", 64),
        lambda: write_shards(str(tmp_path), bad),
        lambda: fit_prior(bad, tmp_path / "pose.json"),
        lambda: read_prior("pose", bad),
        lambda: read_model(bad),
    ]
    for door in doors:
        with pytest.raises(DataError, match="no usable path"):
            door()


def test_stop_names_the_file_and_skip_takes_the_next(tmp_path: Path, caplog) -> None:
    write(tmp_path, {"0.png": picture(), "1.png": b"", "2.png": b"x", "3.png": picture((0, 255, 0))})
    with pytest.raises(DataError, match=r"1\.png: empty file.*on_error=skip"):
        open_source("folder", tmp_path).read(1)
    source = open_source("folder", tmp_path, on_error="skip")
    assert torch.equal(source.read(1), source.read(3))
    assert torch.equal(source.read(2), source.read(3))
    assert source.bad == {1: math.inf, 2: math.inf}
    assert len(caplog.records) == 1
    for name in ("0.png", "3.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="all 4 images"):
        open_source("folder", tmp_path, on_error="skip").read(0)


def test_check_counts_every_kind(tmp_path: Path) -> None:
    write(tmp_path, {name: data for name, (data, _) in bad_files().items()} | {"good.png": picture()})
    report = check(tmp_path, size=32, threads=1)
    assert report.total == 8
    assert report.bad == 7
    assert {kind: len(lines) for kind, lines in report.problems.items()} == {
        "empty file": 1,
        "not an image": 1,
        "damaged": 2,
        "too small": 1,
        "too large": 1,
        "unsupported depth": 1,
    }
    assert "8 images (train 8), 7 with problems" in str(report)


def test_a_wrong_layout_is_told_before_pictures_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a.png": picture()})
    monkeypatch.setattr(ImageSource, "load", lambda *_: pytest.fail("a picture was read"))
    with pytest.raises(DataError, match="has no images in the layout of data=synface"):
        check(tmp_path, "synface", threads=1)
    with pytest.raises(DataError, match="the heads are drawn and lie in no files; name how yours lie, such as folder"):
        check(tmp_path, "heads", threads=1)


def test_zip_is_read_in_place(tmp_path: Path) -> None:
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("/abs ü.png", picture((0, 0, 255)))
        archive.writestr("../../evil.png", picture())
        archive.writestr("__MACOSX/x.png", b"")
        archive.writestr("bad.png", encoded(noise()))
    data = bytearray(path.read_bytes())
    data[data.rindex(b"IDAT") + 40] ^= 0xFF  # the stored bytes no longer match their checksum
    path.write_bytes(data)
    source = open_source("zip", path, size=16)
    assert source.names == ["/abs ü.png", "bad.png"]
    assert source.read(0)[:, 0, 0].tolist() == [0, 0, 255]
    with pytest.raises(DataError, match=r"faces\.zip:bad\.png: damaged"):
        source.read(1)
    assert torch.equal(pickle.loads(pickle.dumps(source)).read(0), source.read(0))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["faces.zip"]


def test_a_compression_that_is_not_known_is_no_encryption(tmp_path: Path) -> None:
    path = zipped(tmp_path / "faces.zip", ["a.png"])
    data = bytearray(path.read_bytes())
    for header, method in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(header) + method] = 97  # WavPack
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"faces\.zip:a\.png: unsupported zip: .*; unpack it and zip it again"):
        open_source("zip", path, size=16).read(0)


SMALL = {
    "celeba": (
        ["000001.jpg", "162770.jpg", "162771.jpg", "182638.jpg"],
        {"train": ["000001.jpg", "162770.jpg"], "val": ["162771.jpg"], "test": ["182638.jpg"]},
    ),
    "ffhq": (
        ["00000/00007.png", "60000/60000.png"],
        {"train": ["00000/00007.png"], "val": ["60000/60000.png"]},
    ),
    "afhq_cats": (
        ["afhq/train/cat/1.jpg", "afhq/train/dog/2.jpg", "afhq/test/cat/3.jpg"],
        {"train": ["afhq/train/cat/1.jpg"], "val": ["afhq/test/cat/3.jpg"], "test": ["afhq/test/cat/3.jpg"]},
    ),
    "synface": (
        ["train/image/a_image_0.png", "train/depth/a_depth_0.png", "val/image/b_image_0.png"],
        {"train": ["train/image/a_image_0.png"], "val": ["val/image/b_image_0.png"]},
    ),
    "folder": (["a.png", "x/b.png"], {"train": ["a.png", "x/b.png"]}),
    "zip": (["train/a.png", "val/b.png"], {"train": ["train/a.png"], "val": ["val/b.png"]}),
}


@pytest.mark.parametrize("name", SMALL)
def test_layouts(name: str, tmp_path: Path) -> None:
    files, splits = SMALL[name]
    write(tmp_path, dict.fromkeys(files, picture(size=(178, 218))))
    for split in ("train", "val", "test"):
        if split in splits:
            source = open_source(name, tmp_path, split, size=16)
            assert source.names == splits[split]
            assert source.crop == LAYOUTS[name].crop
            assert source.read(0).shape == (3, 16, 16)
        else:
            with pytest.raises(NoSplit, match=f"no '{split}' images"):
                open_source(name, tmp_path, split)


def test_celeba_split_file_wins(tmp_path: Path) -> None:
    root = write(tmp_path / "img_align_celeba", {"000001.jpg": picture(), "000002.jpg": picture()})
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 2\n000002.jpg 0\n")
    assert open_source("celeba", root, "test").names == ["000001.jpg"]
    assert open_source("celeba", root).names == ["000002.jpg"]


def test_lfw_keeps_a_person_in_one_split(tmp_path: Path) -> None:
    names = [f"p{person:05d}/{shot:04d}.jpg" for person in range(200) for shot in (1, 2)]
    write(tmp_path, dict.fromkeys(names, b""))
    parts = {s: open_source("lfw", tmp_path, s).names for s in ("train", "val", "test")}
    assert sorted(name for part in parts.values() for name in part) == names
    people = [{n.split("/")[0] for n in part} for part in parts.values()]
    assert not (people[0] & people[1])
    assert not (people[0] & people[2])
    assert not (people[1] & people[2])
    assert 160 < len(people[0]) < 195


# ---------------------------------------------------------------- names and zips


def zipped(path: Path, names: list[str], data: bytes | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo("x")
            entry.filename = name  # the constructor would cut or change some
            archive.writestr(entry, data or picture())
    return path


def test_backslashes_of_windows_are_slashes(tmp_path: Path) -> None:
    names = [f"set/train/{i}.png" for i in range(4)] + ["set/test/5.png", "set/test/6.png"]
    shadows = ["__MACOSX/set/train/._0.png", "set/train/._1.png", "set/Thumbs.db", "set/train/"]
    windows = zipped(tmp_path / "w.zip", [name.replace("/", "\\") for name in names + shadows])
    unix = zipped(tmp_path / "u.zip", names + shadows)
    for split, count in (("train", 4), ("test", 2)):
        found = open_source("zip", windows, split, size=16)
        assert len(found) == count
        assert found.names == open_source("zip", unix, split, size=16).names
        assert found.read(0).shape == (3, 16, 16)
    assert check(windows, threads=1).skipped.keys() == {"hidden or shadow file"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice_in_a_zip_is_one_picture(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, colour in (("x/a.png", (1, 1, 1)), ("x/a.png", (2, 2, 2)), ("./x/a.png", (3, 3, 3))):
            archive.writestr(name, picture(colour))
        link = zipfile.ZipInfo("x/b.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "a.png")
    source = open_source("zip", tmp_path / "a.zip", size=16)
    assert source.names == ["x/a.png"]
    assert source.read(0).unique().tolist() == [3]
    skipped = check(tmp_path / "a.zip", threads=1).skipped
    assert {reason: len(names) for reason, names in skipped.items()} == {"same name twice": 2, "link inside the zip": 1}


def test_a_zip_whose_names_cannot_be_decoded_is_one_line(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ["ü.png"])
    path.write_bytes(path.read_bytes().replace("ü".encode(), b"\xff\xff"))
    with pytest.raises(DataError, match="not a readable zip"):
        open_source("zip", path)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpeg"])
def test_celeba_list_names_stems(suffix: str, tmp_path: Path) -> None:
    root = write(tmp_path / "img_align_celeba", {f"00000{i}{suffix}": picture() for i in (1, 2)})
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 2\n000002.jpg 0\n")
    assert open_source("celeba", root, "test").names == [f"000001{suffix}"]
    (tmp_path / "list_eval_partition.txt").unlink()
    (tmp_path / "list_eval_partition.csv").write_text("image_id,partition\n000001.jpg,2\n000002.jpg,0\n")
    assert open_source("celeba", root, "test").names == [f"000001{suffix}"]


def test_ffhq_as_stylegans_tools_zip_it(tmp_path: Path) -> None:
    names = ["00000/img00000000.png", "00059/img00059999.png", "00060/img00060000.png"]
    path = zipped(tmp_path / "ffhq.zip", [*names, "dataset.json"])
    assert open_source("ffhq", path).names == names[:2]
    assert open_source("ffhq", path, "val").names == names[2:]
