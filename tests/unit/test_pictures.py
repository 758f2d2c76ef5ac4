"""One reader: whatever form a picture was saved in, training, benchmark and photograph see the same colours."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import Tensor

import zoo
from zoo.config.schemas import DataConfig, SceneConfig
from zoo.data.check import check
from zoo.data.module import FaceData
from zoo.data.sources import NoSplit, open_source
from zoo.data.synface import SynfaceDataset
from zoo.editing.photo import read_photo
from zoo.editing.problem import Problem
from zoo.errors import DataError
from zoo.generators.base import Generator

SIDE = 32
GREY, COLOUR, ALPHA = 140, (180, 120, 60), 128


def data_of(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(mode: str, value) -> Image.Image:
    return Image.new(mode, (SIDE, SIDE), value)


def png(bits: int, kind: int, pixel: bytes, extra: tuple[bytes, bytes] | None = None) -> bytes:
    """A PNG of one colour, in the forms that Pillow cannot write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, bits, kind, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress((b"\0" + pixel * SIDE) * SIDE))
    return b"\x89PNG\r\n\x1a\n" + head + (chunk(*extra) if extra else b"") + body + chunk(b"IEND", b"")


def tiff(values: np.ndarray, bits: int, photometric: int = 1, sample_format: int = 1) -> bytes:
    """A grey TIFF whose stored values are those given, little-endian, uncompressed."""
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(np.uint16)
        packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
        body = packed.astype(np.uint8).tobytes()
    else:
        body = values.astype(f"<u{bits // 8}").tobytes()
    height, width = values.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height}
    tags |= {279: len(body), 339: sample_format}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def clear_palette(opacity: int) -> Image.Image:
    image = plain("P", 1)
    image.putpalette([0, 0, 0, *COLOUR])
    image.info["transparency"] = bytes([0, opacity])
    return image


def deep(value: int) -> np.ndarray:
    return np.full((SIDE, SIDE), value, np.uint16)


WHOLE = {  # form -> (file, suffix, colour)
    "grey": (data_of(plain("L", GREY)), ".png", (GREY,) * 3),
    "16-bit grey": (data_of(Image.fromarray(deep(GREY * 257))), ".png", (GREY,) * 3),
    "16-bit grey TIFF": (data_of(Image.fromarray(deep(GREY * 257)), "TIFF"), ".tif", (GREY,) * 3),
    "12-bit grey TIFF": (tiff(deep(round(GREY / 255 * 4095)), 12), ".tiff", (GREY,) * 3),
    "16-bit grey TIFF, white is 0": (tiff(deep((255 - GREY) * 257), 16, photometric=0), ".tif", (GREY,) * 3),
    "16-bit colours": (png(16, 2, bytes(v for c in COLOUR for v in (c, c))), ".png", COLOUR),
    "palette": (data_of(clear_palette(255)), ".png", COLOUR),
    "1 bit": (data_of(plain("1", 1)), ".png", (255, 255, 255)),
    "CMYK": (data_of(plain("CMYK", (*(255 - c for c in COLOUR), 0)), "TIFF"), ".tif", COLOUR),
    "GIF": (data_of(plain("RGB", COLOUR), "GIF"), ".GIF", COLOUR),
    "JPEG, .jfif": (data_of(plain("RGB", COLOUR), "JPEG", quality=100), ".jfif", COLOUR),
    "JPEG, .jpe": (data_of(plain("RGB", COLOUR), "JPEG", quality=100), ".JPE", COLOUR),
    "PNG called .jpg": (data_of(plain("RGB", COLOUR)), ".jpg", COLOUR),
}
CLEAR = {  # form -> (file, suffix, colour), all with the opacity ALPHA
    "RGBA": (data_of(plain("RGBA", (*COLOUR, ALPHA))), ".png", COLOUR),
    "grey and alpha": (data_of(plain("LA", (GREY, ALPHA))), ".png", (GREY,) * 3),
    "16-bit RGBA": (png(16, 6, bytes(v for c in (*COLOUR, ALPHA) for v in (c, c))), ".png", COLOUR),
    "palette": (data_of(clear_palette(ALPHA), transparency=bytes([0, ALPHA])), ".png", COLOUR),
    "WebP": (data_of(plain("RGBA", (*COLOUR, ALPHA)), "WEBP", lossless=True), ".webp", COLOUR),
    "TIFF": (data_of(plain("RGBA", (*COLOUR, ALPHA)), "TIFF"), ".tiff", COLOUR),
}


@pytest.fixture(scope="module")
def generators() -> dict[bool, Generator]:
    """Black and white backdrop -> a small generator."""
    torch.manual_seed(0)
    return {
        white: zoo.build("pigan", hidden_dim=8, scene=SceneConfig(white_back=white)).eval().requires_grad_(False)
        for white in (False, True)
    }


def benchmark_folder(root: Path, image: bytes, suffix: str = ".png", depth: bytes | None = None) -> Path:
    for kind, data in (("image", image), ("depth", depth or data_of(plain("L", 200)))):
        folder = root / "test" / kind
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"1_{kind}{suffix if kind == 'image' else '.png'}").write_bytes(data)
    return root


def middles(data: bytes, suffix: str, root: Path, white: bool, generator: Generator) -> dict[str, list[int]]:
    """What each reader sees in the middle."""
    (root / "set").mkdir()
    file = root / "set" / f"a{suffix}"
    file.write_bytes(data)
    config = DataConfig(name="folder", root=str(root / "set"), size=16, scene=SceneConfig(white_back=white))
    seen: dict[str, Tensor] = {"training": FaceData(config).source().read(0).float()}
    canvas = read_photo(file, generator, align=False).canvas[0]
    seen["photograph"] = (canvas + 1) * 127.5
    if not white:  # its scene is black
        item = SynfaceDataset(benchmark_folder(root / "bench", data, suffix), size=16)[0]
        seen["benchmark"] = (item["image"] + 1) * 127.5
    return {name: picture[:, 8, 8].round().int().tolist() for name, picture in seen.items()}


@pytest.mark.parametrize("form", WHOLE)
def test_every_form_of_a_picture_has_one_colour(form: str, tmp_path: Path, generators: dict[bool, Generator]) -> None:
    data, suffix, expected = WHOLE[form]
    for reader, found in middles(data, suffix, tmp_path, False, generators[False]).items():
        assert np.abs(np.subtract(found, expected)).max() <= (2 if "JPEG" in form else 1), reader


@pytest.mark.parametrize("white", [False, True])
@pytest.mark.parametrize("form", CLEAR)
def test_transparency_stands_on_the_backdrop_of_the_scene(
    form: str, white: bool, tmp_path: Path, generators: dict[bool, Generator]
) -> None:
    data, suffix, colour = CLEAR[form]
    share = ALPHA / 255
    expected = [share * c + (1 - share) * 255 * white for c in colour]
    for reader, found in middles(data, suffix, tmp_path, white, generators[white]).items():
        assert np.abs(np.subtract(found, expected)).max() <= 1.5, reader


def test_one_transparent_colour(tmp_path: Path, generators: dict[bool, Generator]) -> None:
    """Of greys and colours with 16 bits, too, where Pillow forgets it."""
    forms = {
        "16-bit grey": png(16, 0, b"\x10\x20", (b"tRNS", b"\x10\x20")),
        "16-bit colours": png(16, 2, b"\x10\x20" * 3, (b"tRNS", b"\x10\x20" * 3)),
        "grey": png(8, 0, b"\x10", (b"tRNS", b"\x00\x10")),
        "colours": png(8, 2, b"\x10" * 3, (b"tRNS", b"\x00\x10" * 3)),
    }
    for form, data in forms.items():
        (tmp_path / form).mkdir()
        for reader, found in middles(data, ".png", tmp_path / form, True, generators[True]).items():
            assert found == [255] * 3, (form, reader)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("float.tif", data_of(plain("F", 0.5), "TIFF")),
        ("signed.tif", tiff(deep(300), 16, sample_format=2)),
        ("wide.tif", tiff(deep(300).astype(np.uint32), 32)),
    ],
)
def test_values_without_a_known_white_are_refused(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=r"8 or 16 bits") as caught:
        open_source("folder", tmp_path, size=16).read(0)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- colour profiles


def _xyz(signature: bytes, *values: float) -> bytes:
    return signature + b"\0" * 4 + b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def profile(primaries: tuple[tuple[float, float, float], ...], gamma: float) -> bytes:
    """A matrix profile with D50 primaries (X, Y, Z of red, green, blue) and a power curve."""
    curve = b"curv" + b"\0" * 4 + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    white = (0.9642, 1.0, 0.8249)
    tags = {b"wtpt": _xyz(b"XYZ ", *white), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    tags |= {name: _xyz(b"XYZ ", *xyz) for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    text = b"desc" + b"\0" * 4 + struct.pack(">I", 5) + b"wide\0" + b"\0" * 79
    tags |= {b"desc": text, b"cprt": b"text" + b"\0" * 4 + b"none"}
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value + b"\0" * (-len(value) % 4)
    size = start + len(body)
    head = struct.pack(">I", size) + b"\0" * 4 + b"\x02\x10\0\0" + b"mntrRGB XYZ " + b"\0" * 12 + b"acsp"
    head = head.ljust(68, b"\0") + b"".join(struct.pack(">i", round(v * 65536)) for v in white)
    return head.ljust(128, b"\0") + table + body


ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB_D50 = np.array([[0.4360, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7139]])


def by_hand(colour: tuple[int, ...]) -> np.ndarray:
    """Adobe RGB (gamma 2.2) to sRGB by the textbook, 0..255."""
    xyz = np.array(ADOBE).T @ (np.array(colour) / 255) ** (563 / 256)
    linear = np.linalg.solve(SRGB_D50, xyz).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_wide_gamuts_become_srgb(mode: str, tmp_path: Path, generators: dict[bool, Generator]) -> None:
    image = plain("RGB", COLOUR)
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    data = data_of(image, icc_profile=profile(ADOBE, 563 / 256))
    expected = by_hand(COLOUR)
    assert np.abs(expected - COLOUR).max() > 8
    for reader, found in middles(data, ".png", tmp_path, False, generators[False]).items():
        assert np.abs(found - expected).max() <= 2, reader


def test_srgb_and_broken_profiles_change_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for index, icc in enumerate((srgb, b"junk", profile(ADOBE, 2.2)[:200], b"")):
        (tmp_path / f"{index}.png").write_bytes(data_of(image, icc_profile=icc))
    source = open_source("folder", tmp_path, size=SIDE)
    for index in range(4):
        assert torch.equal(source.read(index), torch.from_numpy(np.array(image)).permute(2, 0, 1))


def test_depth_and_masks_are_numbers_and_no_colours(tmp_path: Path, generators: dict[bool, Generator]) -> None:
    icc = profile(ADOBE, 2.2)
    image, depth = data_of(plain("RGB", COLOUR)), plain("RGB", (60, 60, 60))
    with_profile = benchmark_folder(tmp_path / "a", image, depth=data_of(depth, icc_profile=icc))
    without = benchmark_folder(tmp_path / "b", image, depth=data_of(depth))
    assert torch.equal(SynfaceDataset(with_profile)[0]["depth"], SynfaceDataset(without)[0]["depth"])
    (tmp_path / "mask.png").write_bytes(data_of(depth, icc_profile=icc))
    found = read_photo(plain("RGB", COLOUR), generators[False], align=False, mask=tmp_path / "mask.png")
    assert found.mask is not None
    assert found.mask.mul(255).round().unique().tolist() == [60]


# ---------------------------------------------------------------- photographs


def soft() -> tuple[np.ndarray, np.ndarray]:
    """A disc with a soft rim, (S, S, 3) colours that go on beyond it, and its opacity (S, S)."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    alpha = ((12 - np.hypot(x, y)) / 6 + 0.5).clip(0, 1)
    return np.full((SIDE, SIDE, 3), COLOUR, np.uint8), np.round(alpha * 255).astype(np.uint8)


@pytest.mark.parametrize("white", [False, True])
def test_soft_alpha_counts_once_however_it_is_given(white: bool, generators: dict[bool, Generator]) -> None:
    colours, alpha = soft()
    generator = generators[white]
    rgba = Image.fromarray(np.dstack([colours, alpha]))
    forms = {
        "mask": read_photo(colours, generator, align=False, mask=Image.fromarray(alpha)),
        "array": read_photo(np.dstack([colours, alpha]), generator, align=False),
        "image": read_photo(rgba, generator, align=False),
        "premultiplied": read_photo(rgba.convert("RGBa"), generator, align=False),
    }
    share = torch.from_numpy(alpha)[None] / 255
    expected = share * torch.tensor(COLOUR)[:, None, None] / 127.5 + (1 - share) * 2 * white - 1
    for form, given in forms.items():
        task = Problem(generator, given, None, 1.0)
        guess = task.draw(1, torch.Generator())
        image, _, mask = task.target(guess, SIDE)
        assert torch.allclose(image[0], expected, atol=0.02), form
        assert torch.allclose(mask[0], share, atol=0.01), form
        # What the search compares with: an object of just this look, on the backdrop, has no error at all.
        shown = type("Shown", (), {"rgb": expected[None], "mask": mask})()
        task.render = lambda *_, shown=shown: shown  # type: ignore[method-assign]
        assert task.losses(guess, SIDE)[1].item() < 1e-2, form


def test_what_alpha_hides_does_not_show_at_the_rim(generators: dict[bool, Generator]) -> None:
    """White below alpha 0 must not shine through when the picture is made smaller."""
    big = np.zeros((600, 600, 4), np.uint8)
    big[..., :3] = 255
    big[150:451, 150:451] = (0, 0, 0, 255)  # an odd edge, between pixels of the smaller picture
    given = read_photo(big, generators[False], align=False)
    assert given.canvas.max() < -0.99


def test_transparent_palettes_keep_their_mask(generators: dict[bool, Generator]) -> None:
    for image in (clear_palette(ALPHA), plain("LA", (GREY, ALPHA)), plain("LA", (GREY, ALPHA)).convert("La")):
        given = read_photo(image, generators[False], align=False)
        assert given.mask is not None, image.mode
        assert given.mask.mul(255).round().unique().tolist() == [ALPHA]
    with_alpha = plain("PA", (1, ALPHA))
    with_alpha.putpalette([0, 0, 0, *COLOUR])
    assert read_photo(with_alpha, generators[False], align=False).mask is not None


def test_a_picture_that_is_opaque_everywhere_has_no_mask(generators: dict[bool, Generator], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    grey = Image.fromarray(pixels[..., 0])
    forms = {
        "RGBA": (Image.fromarray(pixels).convert("RGBA"), Image.fromarray(pixels)),
        "LA": (grey.convert("LA"), grey),
        "RGBa": (Image.fromarray(pixels).convert("RGBA").convert("RGBa"), Image.fromarray(pixels)),
    }
    for form, (opaque, whole) in forms.items():
        found, expected = (read_photo(image, generators[False], align=False) for image in (opaque, whole))
        assert found.mask is None, form
        assert torch.equal(found.canvas, expected.canvas), form
    deep_grey = png(16, 0, b"\x10\x20", (b"tRNS", b"\x10\x21"))  # a transparent colour that no pixel has
    (tmp_path / "deep.png").write_bytes(deep_grey)
    assert read_photo(tmp_path / "deep.png", generators[False], align=False).mask is None


def test_strips_get_one_line(generators: dict[bool, Generator], tmp_path: Path) -> None:
    for size in ((40_000, 20), (20, 40_000)):
        strip = Image.new("RGB", size, COLOUR)
        with pytest.raises(DataError, match="no face found"):
            read_photo(strip, generators[False])
        strip.save(tmp_path / "a.png")
        assert open_source("folder", tmp_path, size=16).read(0).shape == (3, 16, 16)
        with pytest.raises(DataError, match="too long a strip"):
            open_source("celeba", _named(tmp_path, strip), size=16, resample="nearest").read(0)


def _named(root: Path, image: Image.Image) -> Path:
    folder = root / "celeba"
    folder.mkdir(exist_ok=True)
    image.save(folder / "000001.png")
    return folder


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_orientation_is_applied_once(kind: str, orientation: int, tmp_path: Path) -> None:
    upright = np.zeros((SIDE, SIDE, 3), np.uint8)
    upright[:16, :16], upright[:16, 16:] = 250, 120  # two corners tell all eight apart
    undo = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright), 7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, 3),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation]))
    (tmp_path / f"a.{kind.lower()}").write_bytes(data_of(stored, kind, exif=exif, **options))
    seen = open_source("folder", tmp_path, size=SIDE).read(0)[0]
    assert [round(seen[y, x].item(), -1) for y, x in ((8, 8), (8, 24), (24, 8), (24, 24))] == [250, 120, 0, 0]


# ---------------------------------------------------------------- what is not read


def test_foreign_formats_are_to_be_converted(tmp_path: Path, generators: dict[bool, Generator]) -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40
    for name in ("a.heic", "b.jpg"):
        (tmp_path / name).write_bytes(heic)
        with pytest.raises(DataError, match="convert it to PNG or JPEG") as caught:
            read_photo(tmp_path / name, generators[False], align=False)
        assert "delete" not in str(caught.value)


def test_passed_over_pictures_are_counted_with_the_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.HEIC", "b.heic", "c.dng", "notes.txt", "._d.png"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds no images.*1 \.dng, 2 \.heic; convert"):
        open_source("folder", tmp_path)
    (tmp_path / "d.png").write_bytes(data_of(plain("RGB", COLOUR)))
    assert len(open_source("folder", tmp_path)) == 1
    assert "1 .dng, 2 .heic" in caplog.text
    report = check(tmp_path, threads=1)
    assert (report.total, report.bad) == (1, 0)
    assert {reason: len(names) for reason, names in report.skipped.items()} == {
        "format not read": 3,
        "hidden or shadow file": 1,
    }
    assert "passed over, format not read: 3; convert it" in str(report)
    assert "notes.txt" not in str(report)


def test_avif_is_read_where_pillow_reads_it(tmp_path: Path) -> None:
    from PIL import features

    if not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    (tmp_path / "a.avif").write_bytes(data_of(plain("RGB", COLOUR), "AVIF", quality=100))
    assert np.abs(np.subtract(open_source("folder", tmp_path, size=16).read(0)[:, 8, 8], COLOUR)).max() <= 3


def test_names_that_cannot_be_shown_are_escaped(tmp_path: Path, generators: dict[bool, Generator]) -> None:
    folder = os.fsencode(tmp_path)
    names = [b"caf\xe9.png", b"red\x1b[31m.png", b"two\nlines.png"]
    for name in names:
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(b"")
    assert sum(len(_people(tmp_path, split)) for split in ("train", "val", "test")) == len(names)
    report = str(check(tmp_path, threads=1))
    report.encode()
    assert report.count("\n") == 4
    assert "caf\\xe9.png" in report
    assert "red\\x1b[31m.png" in report
    assert "two\\nlines.png" in report
    for name in names:
        with pytest.raises(DataError) as caught:
            read_photo(os.fsdecode(folder + b"/" + name), generators[False], align=False)
        str(caught.value).encode()
        assert "\n" not in str(caught.value)
        assert "\x1b" not in str(caught.value)


def _people(root: Path, split: str) -> list[str]:
    try:
        return open_source("lfw", root, split).names
    except NoSplit:
        return []
