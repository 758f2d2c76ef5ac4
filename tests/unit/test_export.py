"""Mesh files that open upright and coloured, sheets with honest colours, films that exist whole."""

import json
import weakref
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
import trimesh
from PIL import ExifTags, Image, ImageFilter

import zoo
from tests.tiny import TINY
from zoo.config.fill import to_dict
from zoo.config.schemas import PoseConfig
from zoo.errors import ConfigError, ZooError
from zoo.generators.base import Generator
from zoo.geometry import Render
from zoo.output import films
from zoo.output.films import _quantised, _write_gif, film, turntable
from zoo.output.sheets import grid, save_png, stack
from zoo.renderers.p3d import pytorch3d


@pytest.fixture(scope="module")
def generator() -> Generator:
    return zoo.build("shadegan", **TINY).eval()


def tetrahedron(colours: torch.Tensor | None = None):
    verts = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0, 0.2, 0], [0, 0, 0.3]])
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    p3d = pytorch3d()
    return p3d.structures.Meshes([verts], [faces], None if colours is None else p3d.renderer.TexturesVertex([colours]))


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply"])
def test_meshes_come_back_upright_closed_and_in_the_same_colours(suffix: str, tmp_path: Path) -> None:
    colours = torch.tensor([[0.0, 0.5, 1.0], [0.2, 0.4, 0.6], [1.0, 0.0, 0.0], [0.1, 0.9, 0.3]])
    mesh = tetrahedron(colours)
    path = zoo.export(mesh, tmp_path / f"face.{suffix}")
    read = trimesh.load(path, force="mesh", process=False)
    np.testing.assert_allclose(read.vertices, mesh.verts_packed(), atol=1e-7)
    np.testing.assert_array_equal(read.faces, mesh.faces_packed())
    assert read.is_watertight
    assert read.volume == pytest.approx(0.001)
    if suffix != "glb":  # which has linear colours, see below
        expected = (colours * 255).round().byte().numpy()
        np.testing.assert_array_equal(read.visual.vertex_colors[:, :3], expected)


def gltf(path: Path) -> tuple[dict, bytes]:
    """The JSON and the binary chunk of a .glb."""
    data = path.read_bytes()
    length = int.from_bytes(data[12:16], "little")
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def test_glb_colours_are_linear_and_its_material_is_no_metal(tmp_path: Path) -> None:
    colours = torch.tensor([[0.5, 0.5, 0.5], [0.02, 0.0, 1.0], [1.0, 0.25, 0.75], [0.1, 0.9, 0.3]])
    tree, binary = gltf(zoo.export(tetrahedron(colours), tmp_path / "face.glb"))
    (primitive,) = tree["meshes"][0]["primitives"]
    accessor = tree["accessors"][primitive["attributes"]["COLOR_0"]]
    assert (accessor["componentType"], accessor["type"], accessor["count"]) == (5126, "VEC3", 4)
    view = tree["bufferViews"][accessor["bufferView"]]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stored = np.frombuffer(binary, np.float32, 12, start).reshape(4, 3)
    srgb = np.where(stored <= 0.0031308, 12.92 * stored, 1.055 * stored ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(srgb, colours.numpy(), atol=1e-6)
    assert stored[0, 0] == pytest.approx(0.21404, abs=1e-5)
    assert not [name for name in primitive["attributes"] if name.startswith("_")]
    material = tree["materials"][primitive["material"]]
    assert material["pbrMetallicRoughness"] == {"metallicFactor": 0.0, "roughnessFactor": 0.95}
    assert material["doubleSided"] is False
    p3d = pytorch3d()
    sheet = p3d.structures.Meshes([torch.eye(3)], [torch.tensor([[0, 1, 2]])])
    tree, _ = gltf(zoo.export(sheet, tmp_path / "open.glb"))
    assert tree["materials"][0]["doubleSided"] is True


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply"])
def test_files_state_units_and_centre(suffix: str, tmp_path: Path) -> None:
    data = zoo.export(tetrahedron(), tmp_path / f"face.{suffix}").read_bytes()
    for words in (b"world units", b"not re-centred", b"+Y up"):
        assert words in data


def test_capitals_mean_the_same_and_stl_has_the_shape(tmp_path: Path) -> None:
    mesh = tetrahedron()
    small, capital = (zoo.export(mesh, tmp_path / name).read_bytes() for name in ("face.glb", "FACE.GLB"))
    assert small == capital
    found = trimesh.load(zoo.export(mesh, tmp_path / "face.stl"), force="mesh")
    assert found.is_watertight
    assert len(found.faces) == len(mesh.faces_packed())
    assert found.bounds == pytest.approx(trimesh.load(tmp_path / "face.glb", force="mesh").bounds)


def test_what_cannot_be_exported_is_named(tmp_path: Path) -> None:
    mesh = tetrahedron()
    with pytest.raises(ConfigError, match=r"\.glb, \.obj, \.ply, \.stl"):
        zoo.export(mesh, tmp_path / "face.fbx")
    with pytest.raises(ConfigError, match="2 meshes"):
        zoo.export(mesh.extend(2), tmp_path / "face.glb")
    with pytest.raises(ZooError, match="not finite"):
        zoo.export(mesh.scale_verts(float("nan")), tmp_path / "face.glb")
    empty = pytorch3d().structures.Meshes([torch.zeros(0, 3)], [torch.zeros(0, 3, dtype=torch.long)])
    with pytest.raises(ZooError, match="empty"):
        zoo.export(empty, tmp_path / "face.glb")
    assert not list(tmp_path.iterdir())


def flat(**maps: torch.Tensor) -> Render:
    return Render(rgb=torch.full((1, 3, 4, 4), 0.2), **maps)


def test_colours_are_mapped_linearly_and_never_stretched() -> None:
    normal = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    render = flat(albedo=torch.full((1, 3, 4, 4), -1.0), normal=normal, shading=torch.full((1, 1, 4, 4), 0.5))
    sheet = np.asarray(grid(render))
    assert sheet.shape == (16, 4, 3)
    assert (sheet[:4] == 153).all()
    assert (sheet[4:8] == 0).all()
    assert (sheet[8:12] == [128, 128, 255]).all()
    assert (sheet[12:] == 128).all()


def test_depth_is_light_where_near_and_grey_where_there_is_nothing() -> None:
    depth = torch.linspace(0.9, 1.1, 16).reshape(1, 1, 4, 4)
    mask = torch.ones(1, 1, 4, 4)
    mask[..., 3, :] = 0
    shown = np.asarray(grid(flat(depth=depth, mask=mask), maps=["depth"])).astype(int)
    assert (shown[3] == 128).all()
    assert (np.diff(shown[:3].sum(-1).reshape(-1)) < 0).all()
    assert (np.asarray(grid(flat(depth=depth, mask=0 * mask), maps=["depth"])) == 128).all()


def test_sheets_have_a_column_for_each_object_and_a_row_for_each_map(generator: Generator) -> None:
    with torch.no_grad():
        render = generator(generator.latents(3), generator.camera(size=16))
    assert grid(render).size == (48, 80)
    assert grid([render, render], maps=["rgb"], labels=list("abcdef")).size == (96, 30)
    assert stack([grid(render), grid(render, maps=["rgb"])]).size == (48, 96)
    with pytest.raises(ConfigError, match="known: rgb"):
        grid(render, maps=["rbg"])
    with pytest.raises(ConfigError, match="2 labels for 3"):
        grid(render, labels=["a", "b"])
    with pytest.raises(ConfigError, match="none of the maps"):
        grid(flat(), maps=["depth"])


def test_png_says_where_it_comes_from(tmp_path: Path) -> None:
    notes = {"model": "shadegan", "seed": 3, "command": "zoo sample — ü"}
    path = save_png(Image.new("RGB", (2, 2)), tmp_path / "a.png", notes)
    assert Image.open(path).info == {k: str(v) for k, v in notes.items()} | {"zoo": zoo.__version__}


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply", "stl"])
def test_meshes_say_where_they_come_from(suffix: str, tmp_path: Path) -> None:
    notes = {"model": "shadegan", "seed": 3, "command": "zoo export — \nü"}
    first, second = (
        zoo.export(tetrahedron(), tmp_path / f"{name}.{suffix}", notes).read_bytes() for name in ("first", "second")
    )
    assert first == second
    said = {"zoo": zoo.__version__, "model": "shadegan", "seed": "3", "command": "zoo export — \\nü"}
    if suffix == "glb":
        assert gltf(tmp_path / "first.glb")[0]["asset"]["extras"] == said
    elif suffix != "stl":
        lines = [line.removeprefix("comment ").removeprefix("# ") for line in first.decode("latin-1").splitlines()]
        assert {f"{key}: {value}".encode().decode("latin-1") for key, value in said.items()} <= {*lines}
    assert trimesh.load(tmp_path / f"first.{suffix}", force="mesh").volume == pytest.approx(0.001)


def test_films(generator: Generator, tmp_path: Path) -> None:
    latents, seen = generator.latents(1), []
    notes = {"model": "shadegan"}
    said = {"zoo": zoo.__version__, **notes}
    kwargs = {"size": 17, "notes": notes, "maps": ("rgb", "normal")}
    mp4 = turntable(generator, latents, tmp_path / "a.mp4", 4, advance=lambda: seen.append(1), **kwargs)
    assert iio.imread(mp4).shape == (4, 34, 18, 3)
    assert len(seen) == 4
    gif = Image.open(turntable(generator, latents, tmp_path / "a.gif", 4, **kwargs))
    assert (gif.n_frames, gif.size) == (4, (17, 34))  # sides are odd where the codec of .mp4 does not forbid it
    assert json.loads(gif.info["comment"]) == said
    webp = Image.open(turntable(generator, latents, tmp_path / "a.webp", 4, **kwargs))
    assert (webp.n_frames, webp.size) == (4, (17, 34))
    assert json.loads(webp.getexif()[ExifTags.Base.ImageDescription]) == said
    frames = sorted(turntable(generator, latents, tmp_path / "frames", 4, **kwargs).iterdir())
    assert [p.name for p in frames] == ["0000.png", "0001.png", "0002.png", "0003.png"]
    assert (Image.open(frames[0]).info, Image.open(frames[0]).size) == (said, (17, 34))
    first, left, middle, right = (np.asarray(Image.open(p)).astype(int) for p in frames)
    np.testing.assert_array_equal(first, middle)  # both frontal
    assert (left != right).any()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gif", "a.mp4", "a.webp", "frames"]
    with pytest.raises(ZooError, match="exists"):
        turntable(generator, latents, tmp_path / "frames", 4)
    with pytest.raises(ConfigError, match="at least 2"):
        turntable(generator, latents, tmp_path / "b.mp4", 1)
    with pytest.raises(ConfigError, match="unknown kind"):
        turntable(generator, latents, tmp_path / "b.avi", 4)


@pytest.mark.parametrize(("distribution", "reach"), [("gaussian", 0.8), ("uniform", 0.4), ("spherical_uniform", 0.4)])
def test_films_show_views_that_training_saw(
    distribution: str, reach: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pose = PoseConfig(distribution, yaw_std=0.4)
    model, yaws = zoo.build("shadegan", **TINY, scene={"pose": to_dict(pose)}).eval(), []
    camera = model.camera
    monkeypatch.setattr(model, "camera", lambda yaw, *rest: yaws.append(yaw) or camera(yaw, *rest))
    turntable(model, model.latents(1), tmp_path / "a.gif", 4, size=8)
    assert yaws == pytest.approx([0, reach, -reach])


def test_gifs_keep_smooth_colours_smooth(tmp_path: Path) -> None:
    y, x = np.mgrid[:128, :128] * 2
    smooth = Image.fromarray(np.stack([x, y, 255 - (x + y) // 2], -1).astype(np.uint8))
    _write_gif(iter([smooth, smooth.transpose(Image.Transpose.ROTATE_90)]), tmp_path / "a.gif", 25, {})
    shown = Image.open(tmp_path / "a.gif").convert("RGB")
    wide = ImageFilter.BoxBlur(3)  # what an eye sees of it from further away
    difference = np.subtract(shown.filter(wide), smooth.filter(wide), dtype=int)
    assert np.abs(difference).mean() < 0.5  # 0.99 without dithering


@pytest.mark.parametrize("fps", [7, 25, 30, 48, 50])
@pytest.mark.parametrize(("suffix", "tick"), [("gif", 10), ("webp", 1)])
def test_pictures_that_move_keep_time(suffix: str, tick: int, fps: int, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (2 * i, 255 * (i % 2), 0)) for i in range(100)]
    shown, end = Image.open(film(iter(frames), tmp_path / f"a.{suffix}", size=(8, 8), fps=fps)), 0
    for i in range(shown.n_frames):
        shown.seek(i)
        shown.load()
        end += shown.info["duration"]
        assert end == pytest.approx(1000 * (i + 1) / fps, abs=tick / 2)
    assert shown.n_frames == 100


def test_a_gif_is_written_as_its_frames_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are those of frames that are all there before."""
    frames = [Image.new("RGB", (8, 8), (9 * i, i, 0)) for i in range(5)]
    quantised: list[weakref.ref[Image.Image]] = []

    def watched(image: Image.Image, delay: int) -> Image.Image:
        assert sum(ref() is not None for ref in quantised) <= 2  # the first, which writes, and the one before
        frame = _quantised(image, delay)
        quantised.append(weakref.ref(frame))
        return frame

    with monkeypatch.context() as patched:
        patched.setattr(films, "_quantised", watched)
        film(iter(frames), tmp_path / "a.gif", size=(8, 8))
    assert len(quantised) == 5
    first, *rest = [_quantised(frame, 4) for frame in frames]
    comment = json.dumps({"zoo": zoo.__version__}).encode()
    first.save(tmp_path / "b.gif", save_all=True, append_images=rest, duration=40, loop=0, comment=comment)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


def test_a_gif_faster_than_its_format_is_refused_before_a_frame_is_drawn(tmp_path: Path) -> None:
    frames = iter(lambda: pytest.fail("a frame was drawn"), None)
    with pytest.raises(ConfigError, match=r"a\.gif: fps=51, and a \.gif has at most 50"):
        film(frames, tmp_path / "a.gif", size=(8, 8), fps=51)


def test_suffixes_of_films_may_be_upper_case(tmp_path: Path) -> None:
    for name, start in (("a.MP4", b"ftyp"), ("a.WebP", b"RIFF"), ("a.GIF", b"GIF8")):
        frames = [Image.new("RGB", (8, 8), (90 * i, 0, 0)) for i in range(2)]
        assert start in film(iter(frames), tmp_path / name, size=(8, 8)).read_bytes()[:12]


def test_a_film_that_fails_leaves_nothing(generator: Generator, tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    for name in ("a.mp4", "a.webp", "a.gif", "frames"):
        with pytest.raises(KeyboardInterrupt):
            turntable(generator, generator.latents(1), tmp_path / name, 4, size=8, advance=stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mp4", "a.webp"])
def test_films_larger_than_their_format_are_refused_before_a_frame_is_drawn(
    name: str, generator: Generator, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"the film of yesterday")

    def never() -> None:
        pytest.fail("a frame was drawn")

    latents = generator.latents(256)
    with pytest.raises(ConfigError, match=r"16640 x 65 px, and a \.\w+ has at most 1638[34] per side; ask for fewer"):
        turntable(generator, latents, tmp_path / name, 2, size=65, advance=never)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"the film of yesterday"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("cat > /dev/null; exit 3", "exit code 3"),
        ("kill -9 $$", "signal 9"),
        ("head -c 100 > /dev/null; echo 'No space left on device' >&2; exit 1", "No space left on device"),
    ],
)
def test_an_encoder_that_fails_leaves_the_old_film(
    script: str, reason: str, generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tmp_path / "encoder"
    encoder.write_text(f"#!/bin/sh\n{script}\n")
    encoder.chmod(0o755)
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: str(encoder))
    (tmp_path / "a.mp4").write_bytes(b"the film of yesterday")
    with pytest.raises(ZooError, match=reason):
        turntable(generator, generator.latents(1), tmp_path / "a.mp4", 40, size=32)
    assert (tmp_path / "a.mp4").read_bytes() == b"the film of yesterday"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "encoder"]
