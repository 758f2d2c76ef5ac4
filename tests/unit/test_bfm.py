"""Pictures from files of the Basel Face Model: what the three formats say, what is drawn, how the folder is written."""

import json
import math
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import zoo
from tests.bfm_files import FORMATS, RADIUS, SPREAD, ball, write_model
from zoo.cli.main import app
from zoo.config import recipes
from zoo.data.bfm import write
from zoo.data.bfm.faces import _COLOUR, _SHAPE, LIMIT, render_faces
from zoo.data.bfm.model import ABOVE, BEHIND, MM, FaceModel, read_model
from zoo.data.bfm.write import write_bfm
from zoo.data.module import FaceData
from zoo.data.synface import SynfaceDataset, native_fov
from zoo.errors import DataError, Interrupted, ZooError
from zoo.evaluation.benchmark import Options
from zoo.evaluation.benchmarks.bfm import BFM
from zoo.geometry import Camera, Light
from zoo.heads.sampling import Bits, sample_lights, sample_poses

MAT, H5 = FORMATS[0], FORMATS[1]
RECIPES = [name for name in recipes.names() if "_synface" in name]


def made(folder: Path, name: str, **changes: Any) -> Path:
    if name.endswith(".h5"):
        pytest.importorskip("h5py", reason="needs the extra bfm")
    return write_model(folder, name, **changes)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), MAT)


@pytest.fixture(scope="module")
def root(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bfm") / "set"
    write_bfm(out, model, n=4, progress=False)
    return out


# ---------------------------------------------------------------- the files


@pytest.mark.parametrize("name", FORMATS)
def test_all_formats_are_one_model_in_world_units(name: str, model: Path, tmp_path: Path) -> None:
    found, expected = read_model(made(tmp_path, name)), read_model(model)
    p = ball()
    tip = p["mean"][p["mean"][:, 2].argmax()]
    np.testing.assert_allclose(found.shape.mean, (p["mean"] - tip - [0, ABOVE, -BEHIND]) / MM, atol=1e-7)
    assert found.shape.mean[:, 2].max() == pytest.approx(BEHIND / MM)
    np.testing.assert_allclose(found.colour.mean, p["colour"], atol=1e-6)
    for part in ("shape", "colour"):
        ours, theirs = getattr(found, part), getattr(expected, part)
        np.testing.assert_allclose(ours.basis, theirs.basis, atol=1e-8)
    corners = found.shape.mean[found.faces] - found.shape.mean.mean(0)
    assert (np.einsum("fd,fd->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) > 0).all()
    assert found.expression is None


def test_expressions_are_read_when_they_are_asked_for(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2009 has no expressions; leave --expressions out"):
        read_model(model, expressions=True)
    path = made(tmp_path, FORMATS[2])
    calm, moved = read_model(path), read_model(path, expressions=True)
    assert moved.expression is not None
    a, b = (render_faces(m, np.arange(2), 0, "train", 32, 14.0).depth for m in (calm, moved))
    assert not np.array_equal(a, b)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"texPC": None}, "texPC is missing"),
    "text": ({"shapeMU": "hello"}, "shapeMU holds char, no numbers"),
    "cells": ({"tl": np.array([[{"a": 1}, 2, 3]], object)}, "tl holds cell"),
    "sizes": ({"shapeEV": np.ones((4, 1))}, "which do not fit together"),
    "not finite": ({"shapeMU": np.full((1926, 1), np.nan)}, "not finite"),
    "other units": ({"shapeMU": ball()["mean"].reshape(-1, 1)}, "mm tall"),
    "other range": ({"texMU": np.full((1926, 1), 70000.0)}, "another range"),
    "triangles": ({"tl": np.array([[1.0, 2.0, 1e6]])}, "triangles"),
    "no triangles": ({"tl": np.array([[1.0, 2.0]])}, "triangles"),
    "complex": ({"shapeEV": np.full((3, 1), 1 + 2j)}, "shapeEV holds complex numbers"),
    "lines": ({"tl": np.array([[1.0, 2.0, 2.0], [3.0, 1.0, 3.0]])}, "all of its triangles are lines"),
    "fewer colours": ({"texMU": np.zeros((3, 1)), "texPC": np.zeros((3, 3))}, "different numbers of vertices"),
}


def test_triangles_that_are_lines_are_left_out(tmp_path: Path) -> None:
    whole = ball()
    with_line = {**whole, "faces": np.concatenate([whole["faces"], [[0, 1, 1]]])}
    model = read_model(write_model(tmp_path, MAT, with_line))
    assert len(model.faces) == len(whole["faces"])


@pytest.mark.parametrize("case", WRONG)
def test_wrong_mat_files_are_one_line_and_nothing_is_written(case: str, tmp_path: Path) -> None:
    changes, words = WRONG[case]
    path = write_model(tmp_path, MAT, **changes)
    with pytest.raises(DataError, match=words) as caught:
        write_bfm(tmp_path / "out", path, n=1, progress=False)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [MAT]


def test_wrong_h5_files_are_one_line(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the extra bfm")
    secret = write_model(tmp_path, "secret.h5")
    wrong = {
        "pcaBasis is missing": {"shape/model/pcaBasis": None},
        "pcaVariance is negative": {"color/model/pcaVariance": np.full(3, -1.0)},
        "mean is missing, or no array of numbers": {"shape/model/mean": np.array([b"x"])},
        "cells is missing": {"shape/representer/cells": h5py.ExternalLink(secret, "shape/representer/cells")},
    }
    for words, changes in wrong.items():
        with pytest.raises(DataError, match=words):
            read_model(write_model(tmp_path, H5, **changes))
    path = write_model(tmp_path, H5, **{"shape/model/pcaBasis": None})
    with h5py.File(path, "a") as file:  # claimed, not stored: a small file that asks for gigabytes
        file.create_dataset("shape/model/pcaBasis", (1926, 2**30), "f4", chunks=(1, 1024))
    with pytest.raises(DataError, match="more than any face model"):
        read_model(path)
    path = write_model(tmp_path, H5, **dict.fromkeys(("shape/model/mean", "color/model/mean")))
    with h5py.File(path, "a") as file:  # each of them could be that of a model, but not all
        for name in ("shape/model/mean", "color/model/mean"):
            file.create_dataset(name, (2**26 + 1,), "f4", chunks=(1024,))
    with pytest.raises(DataError, match="more than any face model"):
        read_model(path)


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_one_line(name: str, tmp_path: Path) -> None:
    path = made(tmp_path, name)
    whole = path.read_bytes()
    for size in (0, 100, 300, len(whole) // 3, len(whole) - 200):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError) as caught:
            read_model(path)
        assert "\n" not in str(caught.value)


def test_what_is_no_model_says_where_one_is_got(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file; give 01_MorphableModel\.mat.*University of Basel"):
        read_model(tmp_path / "nothing.mat")
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    with pytest.raises(DataError, match=r"save -v7"):
        read_model(tmp_path / "a.mat")
    (tmp_path / "b.h5").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match="is no Basel Face Model"):
        read_model(tmp_path / "b.h5")


def test_h5_without_h5py_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ZooError, match=r"pip install 'zoo3d\[bfm\]'"):
        read_model(tmp_path / "a.h5")


# ---------------------------------------------------------------- what is drawn


def test_the_ball_is_where_and_how_large_it_should_be(tmp_path: Path) -> None:
    face = read_model(write_model(tmp_path, MAT, ball(5)))
    size, fov, indices = 64, native_fov(64), np.arange(3)
    drawn = render_faces(face, indices, 5, "val", size, fov)
    poses, lights = sample_poses(indices, 5, "val"), sample_lights(indices, 5, "val")
    camera = Camera.at(torch.tensor(poses, dtype=torch.float32), fov=fov, size=size)
    origins, rays, cosine = (np.asarray(x, np.float64) for x in camera.rays())
    for i in indices:
        shape, tint = (Bits(5, "val", stream, i).normal(3, LIMIT) for stream in (_SHAPE, _COLOUR))
        grown, right, up = SPREAD * shape
        centre, radius = np.array([right, up - ABOVE, BEHIND - RADIUS]) / MM, (RADIUS + grown) / MM
        away = origins[i] - centre
        b = (away * rays[i]).sum(-1)
        root = b**2 - (away**2).sum(-1) + radius**2
        hit = root > 5e-4  # towards its outline a polyhedron is no ball
        depth = (-b - np.sqrt(np.maximum(root, 0))) * cosine
        flat = {name: array[i].reshape(-1, size * size) for name, array in drawn._asdict().items()}
        assert flat["mask"][0][root > 1e-5].all()
        assert not flat["mask"][0][root < -1e-5].any()
        np.testing.assert_allclose(flat["depth"][0][hit], depth[hit], atol=1e-4)
        n = (away + rays[i] * (depth / cosine)[:, None]) / radius
        to_camera = np.asarray(camera.cam2world[i, :3, :3], np.float64)
        np.testing.assert_allclose(flat["normal"][:, hit].T, (n @ to_camera)[hit], atol=5e-3)
        albedo = 0.5 + 0.2 * n + 0.02 * tint
        np.testing.assert_allclose(flat["albedo"][:, hit].T, albedo[hit], atol=2e-3)
        inner = flat["coverage"][0] == 1
        light = Light(torch.tensor(lights[i : i + 1], dtype=torch.float32))
        towards = light.direction[0].numpy()
        shading = light.ambient.item() + light.diffuse.item() * np.maximum(n @ towards, 0)
        image = 2 * np.minimum(albedo * shading[:, None], 1) - 1
        np.testing.assert_allclose(flat["image"][:, inner & hit].T, image[inner & hit], atol=0.03)


def test_an_image_depends_on_its_seed_split_and_number_alone(model: Path) -> None:
    face = read_model(model)

    def drawn(indices: list[int], seed: int = 0, split: str = "train") -> np.ndarray:
        return render_faces(face, np.array(indices), seed, split, 32, 14.0).image

    whole = drawn([0, 1, 2])
    assert np.array_equal(whole[1:], drawn([1, 2]))
    others = [drawn([0], split=split) for split in ("val", "test")] + [drawn([0], seed=1), whole[1:2]]
    assert not any(np.array_equal(whole[:1], other) for other in others)


# ---------------------------------------------------------------- the folder


def test_the_folder_is_synface_with_albedo_and_normals(root: Path, model: Path) -> None:
    counts = {split: len(list((root / split / "image").iterdir())) for split in ("train", "val", "test")}
    assert counts == {"train": 4, "val": 1, "test": 1}
    assert not (root / "sealed").exists()  # a split of the embedded heads alone
    record = json.loads((root / "bfm.json").read_text())
    assert record["model"] == "Basel Face Model 2009"
    drawn = render_faces(read_model(model), np.arange(1), 0, "train", 256, native_fov(256))
    item = SynfaceDataset(root, "train", size=170)[0]
    cut = slice(43, 213)
    inside = drawn.mask[0, 0, cut, cut] > 0
    depth = item["depth"][0].numpy()
    np.testing.assert_allclose(depth[inside], drawn.depth[0, 0, cut, cut][inside], atol=0.2 / 255 / 2 + 1e-6)
    assert (depth[~inside] == np.float32(1.1)).all()

    def read(kind: str) -> np.ndarray:
        return np.asarray(Image.open(root / f"train/{kind}/000000_{kind}.png"), np.float32) / 255

    seen = drawn.mask[0, 0] > 0
    np.testing.assert_allclose(read("albedo")[seen], drawn.albedo[0].transpose(1, 2, 0)[seen], atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(2 * read("normal")[seen] - 1, drawn.normal[0].transpose(1, 2, 0)[seen], atol=1 / 255)
    assert not read("normal")[~seen].any()
    assert not read("albedo")[~seen].any()
    assert read("image")[~seen].std() > 0  # procedural pictures, not black


def test_a_stopped_set_goes_on_and_is_the_same(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "stopped"
    out, whole, drawn = place / "set", tmp_path / "whole", list[int]()
    write_bfm(whole, model, n=8, size=48, progress=False)
    plain = write.render_faces

    def stops(face: FaceModel, indices: np.ndarray, *rest: Any) -> Any:
        drawn.append(len(indices))
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return plain(face, indices, *rest)

    monkeypatch.setattr(write, "CHUNK", 3)
    monkeypatch.setattr(write, "render_faces", stops)
    with pytest.raises(Interrupted, match="goes on where it stopped"):
        write_bfm(out, model, n=8, size=48, progress=False)
    assert [p.name for p in place.iterdir()] == [".set.part"]
    with pytest.raises(DataError, match=r"unfinished set of other arguments \(seed\)"):
        write_bfm(out, model, n=8, size=48, seed=1, progress=False)
    write_bfm(out, model, n=8, size=48, progress=False)
    assert sum(drawn) - drawn[1] == 8 + 1 + 1  # none is drawn twice
    assert [p.name for p in place.iterdir()] == ["set"]
    names = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(out) for p in out.rglob("*") if p.is_file())
    assert all((out / name).read_bytes() == (whole / name).read_bytes() for name in names)
    with pytest.raises(DataError, match="not an empty folder"):
        write_bfm(out, model, n=8, size=48, progress=False)


def test_other_pictures_stand_behind_the_faces(model: Path, tmp_path: Path) -> None:
    (tmp_path / "behind").mkdir()
    Image.new("RGB", (90, 60), (10, 200, 30)).save(tmp_path / "behind" / "a.png")
    write_bfm(tmp_path / "set", model, n=1, size=64, background=str(tmp_path / "behind"), progress=False)
    image = np.asarray(Image.open(tmp_path / "set/test/image/000000_image.png"))
    assert image[0, 0].tolist() == [10, 200, 30]
    with pytest.raises(DataError, match="background=nowhere: use black, random, or a folder"):
        write_bfm(tmp_path / "b", model, n=1, background="nowhere", progress=False)
    assert not (tmp_path / "b").exists()


def test_the_command_prints_json(model: Path, tmp_path: Path) -> None:
    arguments = ["data", "bfm", "--model", str(model), "--out", str(tmp_path / "set"), "--n", "1", "--size", "64"]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert (found["folder"], found["train"], found["test"]) == (str(tmp_path / "set"), 1, 1)
    assert isinstance(CliRunner().invoke(app, arguments).exception, DataError)


# ---------------------------------------------------------------- who reads it


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_for_the_set_reads_it(recipe: str, root: Path) -> None:
    run = recipes.load_run(recipe, [f"data.root={root}", "data.workers=0"])
    batch = next(iter(FaceData(run.data, batch=2).train_dataloader()))
    assert batch["image"].shape == (2, 3, run.data.size, run.data.size)
    assert batch["image"].std() > 0


def test_every_method_that_is_trained_has_a_recipe_for_the_set() -> None:
    assert {name.partition("_")[0] for name in RECIPES} == {n.partition("_")[0] for n in recipes.names() if "_" in n}


def test_the_benchmark_takes_folder_and_zip_and_warns_of_few_images(root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in root.rglob("*.*"):
            archive.write(path, Path("set") / path.relative_to(root))
    rows = [zoo.evaluate("average", "bfm", data_root=place, progress=False) for place in (root, tmp_path / "set.zip")]
    assert rows[0]["SIDE"] == rows[1]["SIDE"] > 0
    assert math.isfinite(rows[0]["MAD"])
    assert rows[0]["notes"] == rows[1]["notes"] == "only 1 test image; below 500, figures are rough"
    assert "only 1 test image" in " ".join(BFM.open({}, Options(settings={"data_root": root})).words())
