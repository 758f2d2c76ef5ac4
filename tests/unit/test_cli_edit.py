"""zoo invert, relight, rotate, interpolate, mix and turntable --from, as a user meets them."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

import zoo
from tests.tiny import TINY
from zoo import resources
from zoo.cli import main as cli
from zoo.cli.invert import _folders
from zoo.config.schemas import Card
from zoo.editing import inversion, writing
from zoo.editing.reconstruction import Reconstruction
from zoo.generators.base import Generator
from zoo.generators.field import VolumeGenerator
from zoo.resources import photograph


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shelf = tmp_path_factory.mktemp("shelf")
    field = {**TINY, "mesh_level": 0.01}
    flat = {"z_dim": 8, "size": 16, "mapping_layers": 1, "channel_base": 128, "channel_max": 16}
    for name, options in {"shadegan": field, "pigan": field, "stylegan2": flat}.items():
        model = zoo.build(name, **options)
        zoo.save(model, shelf / f"{name}.tiny", card=Card(name=f"{name}.tiny", data="heads"))
    return shelf


@pytest.fixture(scope="module")
def done(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an inverted picture."""
    place = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resources, "checkpoints", lambda: saved)
        patch.setattr(inversion, "DRAWS", 4)
        photo(place / "photo.png")
        assert zoo_("invert", "shadegan", str(place / "photo.png"), *QUICK, "--out", str(place / "out")) == 0
    return place / "out"


@pytest.fixture(autouse=True)
def here(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "checkpoints", lambda: saved)
    monkeypatch.setattr(inversion, "DRAWS", 4)
    monkeypatch.chdir(tmp_path)


QUICK = ("--no-align", "--steps", "2", "--size", "16")


def photo(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 40, 3), np.uint8)).save(path)


def zoo_(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main([*arguments])
    return int(end.value.code or 0)


def failed(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert zoo_(*arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("zoo: ")
    return err


def test_an_inverted_picture_leaves_all_it_found(done: Path) -> None:
    maps = {"photograph", "reconstruction", "albedo", "normal", "depth", "shading", "diffuse", "sheet"}
    views = {f"yaw_{yaw}" for yaw in ("-0.60", "-0.40", "-0.20", "0.00", "0.20", "0.40", "0.60")}
    lights = {f"light_{where}" for where in ("front", "left", "upper_left", "top", "upper_right", "right", "below")}
    assert {path.stem for path in done.glob("*.png")} == maps | views | lights
    for name in maps | views | lights - {"sheet"}:
        assert name == "sheet" or Image.open(done / f"{name}.png").size == (16, 16), name
    assert Image.open(done / "sheet.png").info["model"] == "shadegan.tiny"
    assert len(trimesh.load(done / "mesh.glb", force="mesh").faces) > 10
    assert zoo.load_reconstruction(done / "reconstruction.safetensors").generator.name == "shadegan.tiny"


def test_a_folder_holds_one_reconstruction(done: Path, tmp_path: Path) -> None:
    photo(tmp_path / "photo.png")
    shutil.copytree(done, "out")
    Path("out/yaw_9.00.png").write_bytes(b"of somebody else")
    for folder in ("new", "out"):
        assert zoo_("invert", "pigan", "photo.png", *QUICK, "--out", folder) == 0
    assert {path.name for path in Path("out").iterdir()} == {
        *(path.name for path in Path("new").iterdir()), "yaw_9.00.png",
    }  # fmt: skip
    assert not Path("out/light_top.png").exists()


def test_what_somebody_else_has_made_is_not_replaced(
    done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("photo.png", "photograph.png"):
        photo(Path(name))
    shutil.copytree(done, "out")
    Path("own").mkdir()
    Path("own/depth.png").write_bytes(b"of somebody else")
    monkeypatch.setattr("zoo.hub.load", lambda *_, **__: pytest.fail("weights were loaded"))
    for given, folder, lost in (
        ("photo.png", "own", "own/depth.png"),
        ("photograph.png", ".", "photograph.png"),
        ("out/albedo.png", "out", "out/albedo.png"),
        ("photo.png --mask out/depth.png", "out", "out/depth.png"),
    ):
        words = failed(capsys, 1, "invert", "pigan", *given.split(), "--out", folder)
        assert words.startswith(f"zoo: {lost} would be replaced"), given


def test_a_search_outlives_what_comes_after_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no surface: lower\nthe level")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    photo(Path("photo.png"))
    monkeypatch.setattr(VolumeGenerator, "mesh", fail)
    for _ in range(2):
        assert zoo_("invert", "pigan", "photo.png", *QUICK, "--out", "flat") == 0
        assert caplog.messages.pop() == "flat: there is no mesh (no surface: lower the level); all else is written"
        assert Path("flat/sheet.png").is_file()
        assert not Path("flat/mesh.glb").exists()
        Path("flat/mesh.glb").write_bytes(b"of an earlier reconstruction")
    monkeypatch.setattr(writing, "save_png", interrupt)
    assert zoo_("invert", "pigan", "photo.png", *QUICK, "--out", "cut") == 130
    for folder in ("flat", "cut"):
        assert zoo.load_reconstruction(f"{folder}/reconstruction.safetensors").fit.steps == 2


def test_a_tuned_photograph_is_turned_with_its_own_weights() -> None:
    photo(Path("photo.png"))
    assert zoo_("invert", "shadegan", "photo.png", *QUICK, "--tune", "--no-free", "--out", "out") == 0
    found = zoo.load_reconstruction("out/reconstruction.safetensors")
    assert found.origin
    rotated = ("rotate", "shadegan", "--from", "out/reconstruction.safetensors", "--yaws=0.3,0.3", "--size", "16")
    assert zoo_(*rotated, "--out", "views") == 0
    (first, *_) = sorted(Path("views").glob("*.png"))
    with Image.open(first) as shown, found.render(found.generator.camera(0.3, size=16), size=16).pil()[0] as expected:
        assert np.abs(np.asarray(shown, float) - np.asarray(expected, float)).mean() < 2


def test_a_bad_picture_among_good_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"bad")
    assert zoo_("invert", "pigan", "bad.png", "good.png", *QUICK, "--out", "out", "--json") == 1
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert "bad.png: not an image" in err
    bad, good = json.loads(out)
    assert "error" in bad
    assert good["steps"] == 2
    assert all(Path(file).is_file() for file in good["files"])
    assert not (tmp_path / "out" / "good" / "light_top.png").exists()
    assert not (tmp_path / "out" / "bad").exists()


def test_pictures_of_one_name_get_folders_of_their_own() -> None:
    out = Path("out")
    for photos in (["a/p.jpg", "b/p.jpg", "c/p-1.jpg"], ["p-0.jpg", "p.jpg", "p.png", "P.gif"], ["p.jpg", "p.jpg"]):
        folders = [str(folder).lower() for _, folder in _folders([Path(photo) for photo in photos], out)]
        assert len(set(folders)) == len(photos), folders
    assert [str(f) for _, f in _folders([Path("x/a.png"), Path("x/b.png")], out)] == ["out/a", "out/b"]


def test_a_name_that_is_not_utf_8_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path / "good.png")
    odd = os.fsdecode(b"caf\xe9\x1b.png")
    (tmp_path / "good.png").rename(tmp_path / odd)
    assert zoo_("invert", "pigan", odd, "nowhere.png", *QUICK, "--out", "out", "--json") == 1
    out, _ = capsys.readouterr()
    good, _ = json.loads(out)
    assert good["photo"] == "caf\\xe9\\x1b.png"
    assert all(Path(file).is_file() for file in good["files"])
    assert Image.open(good["files"][0]).info["photo"] == good["photo"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["invert", "pigan", "nowhere.png", "--no-align"], "no such file"),
        (["invert", "pigan", "a.png", "b.png", "--mask", "m.png"], "one picture"),
        (["invert", "pigan", "a.png", "--vgg", "v.pth"], "--lpips go together"),
        (["invert", "pigan", "a.png", "--vgg", "v.pth", "--lpips", "l.pth"], "does not exist"),
        (["relight", "pigan", "--seed", "1", "--out", "a.gif"], "no light to change"),
        (["relight", "shadegan", "--out", "a.avi"], "unknown kind of film"),
        (["relight", "shadegan", "--from", "none.safetensors"], "does not exist"),
        (["rotate", "shadegan", "--yaws", "a,b"], "write radians"),
        (["rotate", "shadegan", "--yaws", "nan"], "write radians"),
        (["interpolate", "shadegan", "--seed", "1"], "2 objects or more"),
        (["mix", "shadegan", "--seed", "1"], "two objects"),
        (["mix", "shadegan", "--seed", "1,2", "--layers", "9"], "use 0 to 3"),
        (["mix", "shadegan", "--seed", "1,2", "--layers", "x"], "whole numbers"),
        (["mix", "stylegan2", "--seed", "1,2", "--yaw", "0.2"], "it has no yaw and pitch"),
        (["interpolate", "stylegan2", "--seed", "1,2", "--pitch", "0.2"], "it has no yaw and pitch"),
    ],
)
def test_mistakes_get_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in failed(capsys, 1, *arguments)


@pytest.mark.parametrize(
    ("command", "out", "words"),
    [
        ("sample shadegan", "grid.jpg", "pictures are written as .png"),
        ("figure shadegan", "figure.jpg", "pictures are written as .png"),
        ("mix shadegan --seed 1,2", "mix.jpg", "pictures are written as .png"),
        ("export shadegan", "face.fbx", "unknown kind of mesh file"),
        ("turntable shadegan", "film.avi", "unknown kind of film"),
        ("relight shadegan", "folder", "exists: choose a new folder"),
        ("interpolate shadegan --seed 1,2", "file/walk.mp4", "file is a file"),
        ("rotate shadegan", "views.jpg", "unknown kind of film"),
        ("rotate shadegan", "file/views.png", "file is a file"),
        ("sample shadegan", "folder.png", "folder.png is a folder"),
        ("invert shadegan photo.png", "file", "file is a file"),
        ("invert shadegan photo.png other.png", "folder", "folder/other is a file"),
        ("sample shadegan", "sealed/grid.png", "sealed is read-only"),
        ("invert shadegan photo.png", "sealed", "sealed is read-only"),
        ("invert shadegan photo.png", "sealed/new", "sealed is read-only"),
    ],
)
def test_what_cannot_be_written_costs_no_work(
    command: str, out: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("folder", "folder.png", "sealed"):
        Path(folder).mkdir()
    Path("file").touch()
    Path("folder/other").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK and Path(path).name == "sealed"))
    monkeypatch.setattr("zoo.hub.load", lambda *_, **__: pytest.fail("weights were loaded"))
    assert words in failed(capsys, 1, *command.split(), "--out", out)


@pytest.mark.parametrize("command", ["sample", "turntable", "relight", "rotate", "interpolate", "mix"])
def test_unknown_maps_cost_no_work(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("zoo.hub.load", lambda *_, **__: pytest.fail("weights were loaded"))
    assert "unknown map 'colour'" in failed(capsys, 1, command, "shadegan", "--maps", "rgb,colour")


def test_ctrl_c_leaves_the_rows_of_finished_pictures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search = inversion.invert

    def interrupt(generator: Generator, image: Path, **options: Any) -> Reconstruction:
        if image.stem == "c":
            raise KeyboardInterrupt
        found = search(generator, image, **options)
        return replace(found, fit=replace(found.fit, stopped="interrupted")) if image.stem == "b" else found

    monkeypatch.setattr(inversion, "invert", interrupt)
    for name in "abc":
        photo(Path(f"{name}.png"))
    for photos, finished in (("ab", "ab"), ("ac", "a")):
        files = [f"{name}.png" for name in photos]
        assert zoo_("invert", "pigan", *files, *QUICK, "--json") == 130
        rows = json.loads(capsys.readouterr().out)
        assert [row["photo"] for row in rows] == [f"{name}.png" for name in finished]
        assert all(Path(row["folder"], "sheet.png").is_file() for row in rows)


def test_a_reconstruction_belongs_to_its_weights(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(done / "reconstruction.safetensors")
    assert "made with shadegan.tiny" in failed(capsys, 1, "rotate", "pigan", "--from", file)


def test_films_and_sheets_of_a_photograph(done: Path, tmp_path: Path) -> None:
    file = str(shutil.copy(done / "reconstruction.safetensors", tmp_path))
    small, both = ("--size", "16"), ("--from", file, "--seed", "3")
    assert zoo_("relight", "shadegan", "--from", file, "--out", "relit", "--frames", "3", *small) == 0
    frames = sorted((tmp_path / "relit").iterdir())
    assert len(frames) == 3
    assert Image.open(frames[0]).info["from"] == file
    assert Image.open(frames[0]).tobytes() != Image.open(frames[1]).tobytes()
    assert zoo_("rotate", "shadegan", *both, "--out", "a.png", "--yaws", "-0.5,0.5", *small) == 0
    assert Image.open("a.png").width == 4 * 16  # two objects side by side from two angles
    assert zoo_("interpolate", "shadegan", *both, "--out", "b.gif", "--frames", "4", *small) == 0
    assert Image.open("b.gif").n_frames == 4
    assert zoo_("mix", "shadegan", *both, "--out", "c.png", *small) == 0
    assert Image.open("c.png").width == 4 * 16  # 0 to 3 layers
    assert zoo_("turntable", "shadegan", "--from", file, "--out", "d.mp4", "--frames", "2", *small) == 0
    assert Path("d.mp4").stat().st_size > 0


@pytest.mark.parametrize(
    "command",
    ["rotate --yaws=0", "turntable --frames 2", "interpolate --frames 2", "mix --layers 3"],
)
def test_a_photograph_keeps_its_light(command: str, done: Path) -> None:
    found = zoo.load_reconstruction(done / "reconstruction.safetensors")
    found = replace(found, light=zoo.Light.of(0.1, 0.9, x=-1.2))
    files = ["--from", str(found.save("lit.safetensors"))] * (2 if command.startswith(("interpolate", "mix")) else 1)
    word, *options = command.split()
    out = "mix.png" if word == "mix" else "views"
    assert zoo_(word, "shadegan", *files, *options, "--size", "16", "--out", out) == 0
    with Image.open(out if word == "mix" else f"{out}/0000.png") as image:
        shown = np.asarray(image)[-16:, :16]
    camera = found.generator.camera(size=16)
    expected, mean = (r.pil()[0] for r in (found.render(camera), found.generator(found.latents, camera)))
    assert np.array_equal(shown, np.asarray(expected))
    assert not np.array_equal(shown, np.asarray(mean))


def test_the_word_example_is_a_photograph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert zoo_("invert", "shadegan", "example", "--steps", "1", "--size", "16", "--json", "--out", "out") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["photo"] == str(zoo.example_photo())
    Path("example").write_bytes(b"a file of that name")
    assert photograph(Path("example")) == Path("example")
