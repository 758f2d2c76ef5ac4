"""Photographs for inversion: all kinds give one canvas, faces are cut as the data were, bad ones are refused."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.smooth import tiny
from zoo.config.schemas import Card
from zoo.editing import photo
from zoo.editing.face import Face, look
from zoo.editing.inversion import invert
from zoo.editing.photo import frame_points, framing_of, read_photo
from zoo.editing.problem import Problem
from zoo.errors import ConfigError, DataError
from zoo.faces.align import HEAD_POINTS, similarity
from zoo.geometry import Camera
from zoo.heads.dataset import HeadDataset


def png(image: Image.Image, **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer


def test_all_kinds_of_pictures_give_one_result(tmp_path: Path) -> None:
    generator = tiny("pigan")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1
    for source in (path, str(path), pixels, tensor, tensor[None], Image.fromarray(pixels)):
        canvas = read_photo(source, generator, align=False).canvas
        torch.testing.assert_close(canvas[0], tensor[:, :, 10:50], rtol=0, atol=1e-6)
    turned = Image.fromarray(np.rot90(pixels).copy())
    exif = turned.getexif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    (tmp_path / "b.png").write_bytes(png(turned, exif=exif).getvalue())
    torch.testing.assert_close(
        read_photo(tmp_path / "b.png", generator, align=False).canvas[0], tensor[:, :, 10:50], rtol=0, atol=1e-6
    )
    grey = Image.fromarray(pixels[..., 0])
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    for source in (grey, deep):
        canvas = read_photo(source, generator, align=False).canvas
        torch.testing.assert_close(canvas[0, 1], tensor[0, :, 10:50], rtol=0, atol=1e-6)


def test_alpha_is_the_mask(tmp_path: Path) -> None:
    generator = tiny("pigan")
    rgba = np.full((32, 32, 4), 200, np.uint8)
    rgba[:, :16, 3] = 0
    rgba[:, 16:, 3] = 255
    result = read_photo(rgba, generator, align=False)
    assert result.mask is not None
    assert torch.equal(result.mask[0, 0, 0], (torch.arange(32) >= 16).float())
    mask = Image.fromarray(rgba[..., 3])
    same = read_photo(rgba[..., :3].copy(), generator, align=False, mask=mask)
    assert torch.equal(same.mask, result.mask)
    task = Problem(generator, result, None, 1.0)
    assert task.plain
    with pytest.raises(DataError, match="same size"):
        read_photo(rgba, generator, align=False, mask=np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("source", "word"),
    [
        (torch.full((3, 32, 32), math.nan), "not finite"),
        (torch.full((3, 32, 32), 7.0), "outside"),
        (torch.zeros(1, 32, 32), "give"),
        (torch.zeros(2, 3, 32, 32), "give"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), "floats"),
        (torch.zeros(3, 8, 8), "too small"),
        (np.zeros((32, 32)), "uint8"),
        (np.zeros((32, 32, 3)), "uint8"),
        (np.zeros((0, 32, 3), np.uint8), "uint8"),
        ("nowhere.jpg", "no such file"),
        (__file__, "not an image"),
    ],
)
def test_bad_pictures_get_one_line(source: object, word: str) -> None:
    with pytest.raises(DataError, match=word) as caught:
        invert(tiny("pigan"), source, align=False)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"steps": 0}, {"prior": math.nan}, {"prior": -1.0}, {"size": 8}])
def test_bad_settings_get_one_line(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        invert(tiny("pigan"), torch.zeros(3, 32, 32), align=False, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="inversion"):
        invert(tiny("stylegan2"), torch.zeros(3, 32, 32), align=False)


def test_alignment_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "dlib", None)
    generator, head = tiny("pigan"), HeadDataset("val", size=64)[0]["image"]
    assert read_photo(head, generator).points is not None  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"^the tensor: no face found; .*--no-align"):
        invert(generator, torch.zeros(3, 32, 32))


def test_a_cut_brings_the_points_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bright dot at each landmark of a turned, shifted face ends up at the landmarks of the frame, at any pose."""
    generator = tiny("pigan")
    generator.card = Card(data="heads")
    found = torch.tensor([[150.0, 210.0], [212.0, 224.0], [170.0, 268.0]])
    pixels = np.zeros((400, 360, 3), np.uint8)
    for x, y in found.int().tolist():
        pixels[y - 3 : y + 4, x - 3 : x + 4] = 255
    monkeypatch.setattr(photo, "look", lambda image, where: Face(found))
    result = read_photo(pixels, generator)
    for yaw, pitch in ((0.0, 0.0), (0.4, -0.2)):
        wanted = frame_points(generator, torch.tensor([[pitch, yaw]]), 129)
        turn = similarity(*(torch.view_as_complex(p.contiguous()) for p in (wanted[0], found)))
        cut, known, _ = result.cut(wanted, 129)
        p, q = (torch.view_as_complex(x.contiguous()) for x in (wanted[0], found))
        placed = torch.view_as_real((q - q.mean()) / turn + p.mean())  # a similarity cannot bend, so not all three fit
        for x, y in ((placed + 1) / 2 * 128).tolist():
            near = cut[0, 0, round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3]
            assert near.max() > 0.3
        assert (cut[0, 0] > 0).sum() < 150
        assert known[0, 0, 64, 64] == 1
    assert result.known.min() == 0


def test_framings() -> None:
    generator = tiny("pigan")
    pose = torch.tensor([[0.0, 0.0], [0.1, 0.3]])
    assert framing_of(generator) is None
    celeba = frame_points(generator, pose, 64)
    assert torch.equal(celeba[0], celeba[1])
    # Eyes at (70.745, 112) and (108.237, 112) of 178 x 218 px, of which the middle 142.4 px are kept.
    torch.testing.assert_close(celeba[0, 1], torch.tensor([(108.237 - 89) / 71.2, (112 - 109) / 71.2]))
    generator.card = Card(data="the embedded heads, split train")
    assert framing_of(generator) == "heads"
    heads = frame_points(generator, pose, 64)
    assert heads[1, :, 0].mean() > heads[0, :, 0].mean() + 0.05  # its own left is on the right of the picture
    camera = Camera.orbit(0.3, 0.1, fov=12.0, size=64)
    expected = camera.project(torch.tensor([HEAD_POINTS]))[0] / 63 * 2 - 1
    torch.testing.assert_close(heads[1:], expected)


def test_faces_of_heads_lie_where_the_frame_expects_them() -> None:
    from zoo.heads.dataset import HeadDataset

    items = HeadDataset("test", size=256).batch(list(range(8)))
    generator = tiny("pigan")
    generator.card = Card(data="heads")
    expected = (frame_points(generator, items["pose"], 256) + 1) / 2 * 255
    for image, points in zip(items["image"], expected, strict=True):
        found = look(photo._from_tensor(image)).places
        assert (found - points).norm(dim=-1).max() < 14  # of 256 px; people differ
