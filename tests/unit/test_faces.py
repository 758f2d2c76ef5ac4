"""Faces on photographs: detection, mesh, pose, framing, and the commands that use them."""

import io
import logging
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data_dir
from torch import Tensor

from zoo.cli import main as cli
from zoo.cli.data import Like
from zoo.config.prior_files import read_prior
from zoo.data.align import align_photos
from zoo.data.fit_prior import fit_prior
from zoo.editing import face as editing_face
from zoo.editing.face import look
from zoo.errors import DataError, ZooError
from zoo.faces import build
from zoo.faces.align import FRAMINGS, align, eyes_and_nose, face_masks, find_largest, find_mesh, frame_points
from zoo.faces.crops import cut
from zoo.faces.detector import detect
from zoo.faces.mesh import Faces, find_points
from zoo.faces.pose import measure_poses
from zoo.geometry import Camera
from zoo.heads.dataset import HeadDataset


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    """A real face of some 95 px, beside a white suit and a model of a rocket."""
    return Image.open(Path(data_dir) / "astronaut.png").convert("RGB").crop((96, 0, 352, 256))


@pytest.fixture(scope="module")
def heads() -> dict[str, Tensor]:
    return HeadDataset("val", size=128).batch(list(range(16)))


@pytest.fixture(scope="module")
def faces(heads: dict[str, Tensor]) -> Faces:
    return find_points(heads["image"])


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image, np.float32)).permute(2, 0, 1)[None] / 127.5 - 1


def image(pixels: Tensor) -> Image.Image:
    return Image.fromarray(((pixels + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy())


def test_a_face_is_found_with_its_eyes_nose_and_mouth(astronaut: Image.Image) -> None:
    (found,) = detect(tensor(astronaut))
    assert len(found.scores) == 1
    assert found.scores[0] > 0.9
    left, top, right, bottom = found.boxes[0].tolist()
    assert 70 < left < 95 < 160 < right < 190
    assert 70 < top < 95 < 160 < bottom < 190
    eye, other, nose, mouth = found.keypoints[0, :4]
    assert left < eye[0] < nose[0] < other[0] < right
    assert top < eye[1] < nose[1] < mouth[1] < bottom


def test_small_faces_and_faces_that_fill_the_picture_are_found(astronaut: Image.Image) -> None:
    far = Image.new("RGB", (1600, 1200), (90, 90, 90))
    far.paste(astronaut, (1100, 300))
    assert (look(far).places - look(astronaut).places - torch.tensor([1100, 300])).abs().max() < 3
    near = astronaut.crop((90, 90, 160, 160))
    assert (look(near).places - look(astronaut).places + 90).abs().max() < 3


def test_the_largest_of_several_faces_is_taken_and_said(
    heads: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    both = Image.new("RGB", (256, 128))
    both.paste(image(heads["image"][0]).resize((90, 90)), (10, 20))
    both.paste(image(heads["image"][1]), (128, 0))
    with caplog.at_level(logging.WARNING):
        points = eyes_and_nose(find_mesh(both, "both.png"))[0]
    assert points[:, 0].min() > 128
    assert caplog.messages == ["both.png: shows 2 faces; the largest is taken"]


def test_what_makes_a_face_doubtful_is_said(astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(astronaut).notes == ()
    small = Image.new("RGB", (200, 200), (90, 60, 30))
    small.paste(astronaut.resize((40, 40)), (80, 80))
    both = Image.new("RGB", (2 * astronaut.width, astronaut.height))
    for i in (0, 1):
        both.paste(astronaut, (i * astronaut.width, 0))
    for doubtful, word in (
        (small, "features are guessed"),
        (astronaut.convert("L").convert("RGB"), "black-and-white"),
        (both, "shows 2 faces; the largest is taken"),
    ):
        (note,) = look(doubtful).notes
        assert word in note
    unsure = find_largest(astronaut)._replace(scores=torch.tensor([0.56]))
    monkeypatch.setattr(editing_face, "find_largest", lambda image, where: unsure)
    assert "not sure of this face (0.56)" in look(astronaut).notes[0]


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (64, 64)], ids=str)
def test_a_picture_without_a_face(size: tuple[int, int]) -> None:
    noise = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    faces = find_points(noise)
    assert int(faces.counts[0]) == 0
    assert faces.points.shape == (1, 468, 3)
    assert faces.points.isnan().all()
    assert faces.scores[0] < 0.5
    assert measure_poses(faces.points).isnan().all()
    with pytest.raises(DataError, match=r"^noise.png: no face found; .*align=False or --no-align"):
        look(image(noise[0]), "noise.png")


@pytest.mark.parametrize(
    "pictures",
    [torch.zeros(3, 64, 64), torch.zeros(1, 1, 64, 64), torch.zeros(0, 3, 64, 64), torch.zeros(1, 3, 0, 64),
     torch.full((1, 3, 64, 64), torch.nan), torch.full((1, 3, 64, 64), 255.0), torch.zeros(1, 3, 64, 64).byte()],
    ids=["one", "grey", "none", "empty", "nan", "bytes", "uint8"],
)  # fmt: skip
def test_what_is_no_picture_is_refused_in_one_line(pictures: Tensor) -> None:
    for find in (detect, find_points):
        with pytest.raises(ZooError, match=r"^pictures \([\d, ]+\) .*\[-1, 1\]$"):
            find(pictures)


def test_a_batch_finds_what_single_pictures_do(heads: dict[str, Tensor], faces: Faces) -> None:
    found = find_points(torch.stack([torch.zeros(3, 128, 128), heads["image"][1]]).double())
    assert found.counts.tolist() == [0, 1]
    torch.testing.assert_close(found.points[1], faces.points[1], rtol=0, atol=1e-3)
    assert found.points.dtype == torch.float32


def test_points_turn_and_mirror_with_the_picture(astronaut: Image.Image) -> None:
    straight = find_points(tensor(astronaut)).points[0]
    turned = find_points(tensor(astronaut.rotate(30, Image.Resampling.BICUBIC))).points[0]
    angle = torch.tensor(30 * torch.pi / 180)
    spin = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])])
    assert (turned[:, :2] - ((straight[:, :2] - 127.5) @ spin.T + 127.5)).norm(dim=1).mean() < 1.5
    poses = torch.rad2deg(measure_poses(torch.stack([straight, turned])))
    assert abs(poses[1, 2] - poses[0, 2] - 30) < 2
    assert (poses[1, :2] - poses[0, :2]).abs().max() < 3
    mirrored = find_points(tensor(astronaut).flip(-1)).points[0]
    assert mirrored[33, 0] + straight[263, 0] == pytest.approx(255, abs=2)  # the other eye is the other eye
    assert mirrored[:, 0].mean() + straight[:, 0].mean() == pytest.approx(255, abs=1)


def test_poses_of_rendered_heads_are_measured(heads: dict[str, Tensor], faces: Faces) -> None:
    poses = measure_poses(faces.points)
    error = torch.rad2deg(poses[:, :2] - heads["pose"])
    pitch, yaw = error.square().mean(0).sqrt().tolist()
    assert yaw < 2
    assert pitch < 3.5
    assert torch.corrcoef(torch.stack([poses[:, 1], heads["pose"][:, 1]]))[0, 1] > 0.99
    assert torch.rad2deg(poses[:, 2]).abs().max() < 5  # these cameras do not roll


def test_a_cut_takes_the_pixels_of_its_frame() -> None:
    picture = torch.arange(36.0).view(1, 1, 6, 6).expand(1, 3, 6, 6) / 36
    upright = torch.tensor([[[2.5, 2.5], [2.0, 0], [0, 2.0]]])
    torch.testing.assert_close(cut(picture, upright, 4), picture[:, :, 1:5, 1:5])
    quarter = torch.tensor([[[2.5, 2.5], [0, 2.0], [-2.0, 0]]])  # its right is the picture's down
    torch.testing.assert_close(cut(picture, quarter, 4), picture[:, :, 1:5, 1:5].rot90(1, (2, 3)))
    whole = torch.tensor([[[2.5, 2.5], [3.0, 0], [0, 3.0]]])
    torch.testing.assert_close(cut(picture, whole, 3), torch.nn.functional.avg_pool2d(picture, 2))
    beyond = torch.tensor([[[-5.0, 2.5], [2.0, 0], [0, 2.0]]])
    assert (cut(picture, beyond, 4, outside="black") == -1).all()
    assert (cut(picture, beyond, 4)[0, 0, :, 0] == picture[0, 0, 1:5, 0]).all()


def test_the_command_knows_every_framing() -> None:
    assert {like.value for like in Like} == set(FRAMINGS)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_faces_are_cut_like_training_images(framing: str, astronaut: Image.Image) -> None:
    tilted = astronaut.rotate(20, Image.Resampling.BICUBIC)
    face = align(tilted, find_mesh(tilted), framing, 96)  # type: ignore[arg-type]
    assert face.shape == (3, 96, 96)
    assert face.abs().max() <= 1
    points = find_points(face[None]).points
    wanted = frame_points(framing, Camera.at(measure_poses(points)[:, :2], size=96))  # type: ignore[arg-type]
    found = eyes_and_nose(points) / 95 * 2 - 1
    assert (found - wanted).norm(dim=-1).max() < 0.12


def test_a_rendered_head_is_where_heads_are(heads: dict[str, Tensor], faces: Faces) -> None:
    points = faces.points
    wanted = (frame_points("heads", Camera.at(heads["pose"], size=128)) + 1) / 2 * 127
    assert (eyes_and_nose(points) - wanted).norm(dim=-1).max() < 8
    assert (eyes_and_nose(points) - wanted).mean((0, 1)).abs().max() < 1


def test_masks_cover_the_face(heads: dict[str, Tensor], faces: Faces) -> None:
    points = faces.points[:4].clone()
    points[3] = torch.nan
    masks = face_masks(points, 128, 128)
    assert masks.shape == (4, 1, 128, 128)
    assert masks.unique().tolist() == [0, 1]
    assert masks[3].sum() == 0
    for mask, face, head in zip(masks[:3, 0], points, heads["mask"][:, 0], strict=False):
        x, y = face[1, :2].round().int().tolist()  # the tip of the nose
        assert mask[y, x] == 1
        assert 0.2 < (mask * head).sum() / head.sum() < 0.9
        assert (mask * (1 - head)).sum() < 0.05 * mask.sum()


def fill(folder: Path, astronaut: Image.Image) -> Path:
    (folder / "b").mkdir(parents=True)
    astronaut.save(folder / "a.jpg")
    astronaut.save(folder / "a.png")
    astronaut.save(folder / "b" / "c.png")
    Image.new("RGB", (40, 40)).save(folder / "nobody.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def test_photographs_are_aligned_by_a_command(
    tmp_path: Path, astronaut: Image.Image, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    photos, out = fill(tmp_path / "photos", astronaut), tmp_path / "out"
    assert cli._run(["data", "align", str(photos), "--like", "ffhq", "--size", "32", "--out", str(out)], False) == 1
    assert capsys.readouterr().out == f"{out}: 3 faces, 2 pictures left out\n"
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert written == ["a.png", "a.png.png", "b/c.png"]
    assert Image.open(out / "b" / "c.png").size == (32, 32)
    assert any("broken.jpg: not an image" in line for line in caplog.messages)
    assert any("nobody.png: no face found" in line for line in caplog.messages)
    assert "--no-align" not in caplog.text  # `zoo data` has no such option
    assert cli._run(["data", "align", str(photos), "--out", str(out)], debug=False) == 1
    assert capsys.readouterr().err.strip() == f"zoo: {out} is not an empty folder; name a new one or empty it"
    Image.new("RGB", (40, 40)).save(out / "b" / "c.png")
    with pytest.raises(DataError, match="none of 1 pictures"):
        align_photos(out / "b", tmp_path / "new", "heads", 32)
    with pytest.raises(DataError, match=r"unknown framing 'head'.*heads"):
        align_photos(photos, tmp_path / "new", "head", 32)  # type: ignore[arg-type]


def test_aligned_faces_appear_together_and_under_names_of_their_own(
    tmp_path: Path, astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    (photos / "x.png").mkdir(parents=True)
    for name in ("x.jpg", "x.png/y.png"):  # a picture whose new name is that of a folder
        astronaut.save(photos / name)
    save = Image.Image.save

    def full(image: Image.Image, path: Path) -> None:
        if path.name == "y.png":
            raise OSError(28, "No space left on device", str(path))
        save(image, path)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match=r"No space .* make room"):
        align_photos(photos, out, "heads", 32)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    monkeypatch.setattr(Image.Image, "save", save)
    out.mkdir()
    assert align_photos(photos, out, "heads", 32) == (2, 0)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*") if path.is_file()) == [
        "x.jpg.png", "x.png/y.png"
    ]  # fmt: skip


def test_names_that_grow_too_long_are_shortened(tmp_path: Path, astronaut: Image.Image) -> None:
    folder = tmp_path / "photos" / os.fsdecode(b"\xe8" * 100)
    folder.mkdir(parents=True)
    for number in (b"1", b"2"):  # their escapes have four letters for each byte
        astronaut.save(folder / os.fsdecode(b"\xe9" * 100 + number + b".jpg"), "JPEG")
    assert align_photos(tmp_path / "photos", tmp_path / "out", "heads", 32) == (2, 0)
    written = sorted((tmp_path / "out").rglob("*.png"))
    assert len(written) == 2
    assert all(len(part.encode()) <= 200 for path in written for part in path.relative_to(tmp_path).parts)


def test_no_zip_writes_outside_of_the_folder(tmp_path: Path, astronaut: Image.Image) -> None:
    data = io.BytesIO()
    astronaut.save(data, "png")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in (f"{tmp_path}/outside.png", "../above.png"):
            archive.writestr(name, data.getvalue())
    align_photos(tmp_path / "photos.zip", tmp_path / "deep" / "out", "heads", 32)
    written = list(tmp_path.rglob("*.png"))
    assert len(written) == 1
    assert (tmp_path / "deep" / "out") in written[0].parents


def test_a_pose_prior_is_measured_on_photographs(tmp_path: Path, heads: dict[str, Tensor]) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (40, 40)).save(photos / "nobody.png")
    with pytest.raises(DataError, match="faces on 0 of 1 pictures"):
        fit_prior(photos, tmp_path / "pose.json")
    with pytest.raises(DataError, match=r"pose.npz: save a pose prior as \.json"):
        fit_prior(photos, tmp_path / "pose.npz")
    for i in range(6):
        image(heads["image"][i]).save(photos / f"{i}.png")
    assert cli._run(["data", "fit-prior", str(photos), "--out", str(tmp_path / "pose.json")], debug=False) == 0
    prior, true = read_prior("pose", tmp_path / "pose.json"), heads["pose"][:6]
    assert prior["yaw_mean"] == pytest.approx(true[:, 1].mean().item(), abs=0.03)
    assert prior["yaw_std"] == pytest.approx(true[:, 1].std().item(), abs=0.03)
    assert prior["pitch_mean"] == pytest.approx(true[:, 0].mean().item(), abs=0.06)


def test_weights_are_built_from_the_published_package_alone(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as archive:
        member = tarfile.TarInfo(build.MEMBER)
        member.size = 4_000_000
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(DataError, match=r"differs from byte \d+ on; use @mediapipe/face_mesh@0\.4"):
        build.build(tmp_path / "other.tgz", tmp_path / "faces.safetensors")
    with pytest.raises(DataError, match=r"nowhere.tgz: cannot be read .*use @mediapipe"):
        build.build(tmp_path / "nowhere.tgz", tmp_path / "faces.safetensors")
    assert not (tmp_path / "faces.safetensors").exists()
    fields = list(build.message(b"\x08\x96\x01\x1d\x00\x00\x80\x3f\x12\x02\x08\x05"))
    assert fields == [(1, 150), (3, 1.0), (2, b"\x08\x05")]


def test_the_weights_carry_their_licence() -> None:
    folder = build.ASSET.parent
    text = (folder / "LICENSE.faces.md").read_text("utf-8")
    assert "Apache License" in text
    assert build.PACKAGE in text
    assert build.ASSET.stat().st_size < 2_000_000
