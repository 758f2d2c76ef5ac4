"""The benchmark on photographs: rendered heads stand in for them, as the face mesh finds their faces, too."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data_dir
from torch import Tensor

import zoo
from zoo.data.layouts import LAYOUTS
from zoo.data.pictures import Picture
from zoo.data.store import open_files
from zoo.editing.inversion import invert, tune_to
from zoo.editing.reconstruction import Reconstruction
from zoo.errors import ConfigError, DataError, WeightsError, ZooError
from zoo.evaluation.benchmark import Options
from zoo.evaluation.benchmarks.photos import MEAN, Photos
from zoo.evaluation.comparison import compare, measure
from zoo.evaluation.photographs import inversions, samples
from zoo.evaluation.photographs.pictures import Photographs, faces_alone, held_out, people
from zoo.evaluation.report import page
from zoo.evaluation.statistics import figure
from zoo.evaluation.turners import true_heads
from zoo.faces.align import FRAMINGS
from zoo.faces.mesh import find_points
from zoo.generators.base import Explanation, Generator
from zoo.geometry import Camera, continued
from zoo.heads.dataset import HeadDataset
from zoo.metrics.agreement import correlation_samples, relief_correlation
from zoo.output.colours import show_image, to_pil
from zoo.runtime.progress import Steps

N = 20  # the fewest photographs that have a KID


@pytest.fixture(scope="module")
def heads() -> dict[str, Tensor]:
    return HeadDataset("val", size=128).batch(list(range(N)))


@pytest.fixture(scope="module")
def folder(heads: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture of each of N people."""
    root = tmp_path_factory.mktemp("photos")
    for i, image in enumerate(heads["image"]):
        to_pil(show_image(image)).save(root / f"Person_{chr(65 + i)}_0001.png")
    return root


@pytest.fixture(scope="module")
def photographs(folder: Path) -> Photographs:
    return Photographs.open(folder, N)


def index(photographs: Photographs) -> list[int]:
    return [ord(name[7]) - 65 for name in photographs.names]


class Oracle:
    """A method that knows true depth, and the poses of the mesh with an error."""

    def __init__(self, depth: Tensor, poses: Tensor) -> None:
        self.depth, self.poses = depth, poses

    def __call__(self, images: Tensor) -> Tensor:
        part, self.depth = self.depth[: len(images)], self.depth[len(images) :]
        return part

    def explain(self, images: Tensor, size: int) -> Explanation:
        part, self.poses = self.poses[: len(images)], self.poses[len(images) :]
        return Explanation(None, Camera.at(part, size=size), None)  # type: ignore[arg-type]


def true_depth(heads: dict[str, Tensor], photographs: Photographs) -> Tensor:
    """What the crops show, but for the few pixels by which the mesh misses eyes and nose."""
    return continued(heads["depth"], heads["depth"] > 0)[index(photographs)][..., ::2, ::2]


def test_people_are_told_apart_by_names_or_folders() -> None:
    assert people(["Ann_Lee_0001.jpg", "Ann_Lee_0002.jpg", "b/Bo Ek 7.png"]) == {
        "Ann_Lee_0001.jpg": "Ann_Lee", "Ann_Lee_0002.jpg": "Ann_Lee", "b/Bo Ek 7.png": "Bo Ek",
    }  # fmt: skip
    assert people(["p1/0001.jpg", "p1/0002.jpg", "p2/0001.jpg"]) == {
        "p1/0001.jpg": "p1", "p1/0002.jpg": "p1", "p2/0001.jpg": "p2"
    }  # fmt: skip
    assert people(["ann/IMG_1.jpg", "bo/IMG_2.jpg"]) == {"ann/IMG_1.jpg": "ann", "bo/IMG_2.jpg": "bo"}
    for names in (
        ["00000/00001.png", "01000/01000.png"],
        ["all/000001.jpg", "all/000002.jpg"],
        ["me_1.jpg", "me_2.jpg"],
    ):
        assert people(names) == {name: name for name in names}


def test_held_out_people_come_first_and_one_picture_of_each(tmp_path: Path) -> None:
    names = [f"p{i:03}/{k:04}.jpg" for i in range(200) for k in range(1 + i % 3)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    test = set(LAYOUTS["lfw"].select(open_files(tmp_path), "test"))
    persons = {name.partition("/")[0] for name in test}
    order = held_out(names, len(names))
    assert 5 < len(persons) < len(test) < 40
    assert set(list(order)[: len(test)]) == test
    assert set(list(order.values())[: len(persons)]) == persons
    assert list(held_out(names[::-1], 7)) == list(order)[:7]


def test_relief_is_what_is_left_of_depth_without_a_plane() -> None:
    source = torch.Generator().manual_seed(0)
    at = torch.rand(3, 40, 2, generator=source)
    depth = torch.rand(3, 40, generator=source)
    tilted = 5 + 0.3 * depth + at @ torch.tensor([2.0, -7.0])
    assert relief_correlation(depth, tilted, at) == pytest.approx([1] * 3, abs=1e-5)
    assert relief_correlation(depth, -depth, at) == pytest.approx([-1] * 3)
    for flat in (torch.ones(3, 40), at @ torch.tensor([1.0, 2.0])):
        assert relief_correlation(depth, flat, at).isnan().all()
    for bad in (depth[:, :3], depth * torch.nan):
        with pytest.raises(ValueError, match=r"give heights|not finite"):
            relief_correlation(bad, bad, at[:, : bad.shape[1]])


def test_the_correlation_of_poses_is_a_ratio_of_sums() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 30))
    found = correlation_samples(first, first + second)
    assert found is not None
    assert 1 - found[:, 0].sum() / found[:, 1].sum() == pytest.approx(np.corrcoef(first, first + second)[0, 1])
    assert correlation_samples(first[:2], second[:2]) is None
    assert correlation_samples(first, 0 * second) is None


def test_the_mesh_lies_on_the_crops(tmp_path: Path) -> None:
    tilted = Image.open(Path(data_dir) / "astronaut.png").convert("RGB").crop((96, 0, 352, 256)).rotate(20)
    tilted.save(tmp_path / "a.png")
    photographs = Photographs.open(tmp_path, 1)
    for framing in FRAMINGS:
        crops = photographs.crops(framing, 128)
        found = find_points(crops.images).points
        assert (found - crops.points)[..., :2].norm(dim=-1).mean() < 1.5, framing
        assert np.corrcoef(found[0, :, 2], crops.points[0, :, 2])[0, 1] > 0.97
        scale = (found[..., 2].std() / crops.points[..., 2].std()).item()
        assert scale == pytest.approx(1, abs=0.15)


def test_the_truth_agrees_and_its_inside_does_not(
    heads: dict[str, Tensor], photographs: Photographs, folder: Path
) -> None:
    depth = true_depth(heads, photographs)
    poses = photographs.poses
    noisy = 2 * poses + torch.tensor([0.3, 0.0]) + 0.1 * torch.linspace(-1, 1, N)[:, None].cos()
    _, row = measure("truth", Oracle(depth, noisy), "photos", progress=False, data_root=str(folder), n_test=N)
    assert row.figures["depth_agreement"] > 0.75
    assert row.figures["yaw_agreement"] > 0.95
    own = heads["pose"][index(photographs)].numpy()
    assert np.corrcoef(own[:, 1], poses[:, 1])[0, 1] > 0.98  # the fixture's order is right
    low, high = row.intervals["depth_agreement"]
    assert low < row.figures["depth_agreement"] < high < 1
    assert row.samples["depth_agreement"].shape == (N,)
    assert row.samples["yaw_agreement"].shape == (N, 2)

    _, hollow = measure("hollow", Oracle(2 - depth, -poses), "photos", progress=False, data_root=str(folder), n_test=N)
    assert hollow.figures["depth_agreement"] == pytest.approx(-row.figures["depth_agreement"], abs=1e-3)
    assert hollow.figures["yaw_agreement"] == pytest.approx(-1)


def test_rows_and_page(folder: Path) -> None:
    reader = zoo.build("unsup3d", size=32, nf=8, zdim=8, groups=4, encoder_nf=4, conf_zdim=8, seed=0).eval()
    result = compare(
        {"reader": reader, "flat": flat}, "photos", progress=False, data_root=str(folder), n_test=6, n_invert=2
    )
    rows = {row.name: row for row in result.rows}
    assert list(rows) == [MEAN, "reader", "flat"]
    assert {row.protocol for row in result.rows} == {"photos-v1/n_test=6/n_invert=2"}
    assert rows[MEAN].figures["depth_agreement"] > 0.7
    assert rows[MEAN].figures["yaw_agreement"] is None
    assert -1 <= rows["reader"].figures["yaw_agreement"] <= 1
    assert rows["reader"].samples["PSNR"].shape == (2,)
    assert rows["reader"].figures["KID"] is None  # its samples are photographs
    assert rows["flat"].figures["depth_agreement"] is None
    assert (rows["flat"].n, rows["flat"].figures["people"]) == (6, 6)
    assert any("in train or val of data=lfw" in note for note in rows["flat"].notes)
    text = page(result)
    for words in ("agreement, not error", "Depth agreement", "0.42 at worst", "mean shape"):
        assert words in text


def test_identity_compares_the_photograph_with_both_sides(
    photographs: Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An embedding that sees the brightness of the frame: equal pictures are 0 apart."""
    seen: list[Tensor] = []

    def embed(images: Tensor) -> Tensor:
        seen.append(images)
        return images.flatten(1)

    monkeypatch.setattr(inversions, "embed_faces", embed)
    reader = zoo.build("unsup3d", size=32, nf=8, zdim=8, groups=4, encoder_nf=4, conf_zdim=8, seed=0).eval()
    found = inversions.invert_all(reader, photographs, 1, steps=1, reach=20, size=16, advance=lambda _: None)
    assert found.pictures.shape == (1, 3, 16, 16)
    assert math.isfinite(found.values["PSNR"][0])
    photo, own, left, right = seen[1]
    assert find_points(photo[None]).counts[0] == 1
    assert found.values["identity"][0] == pytest.approx((photo - own).norm().item())
    assert found.values["turned"][0] == pytest.approx(((photo - left).norm() + (photo - right).norm()).item() / 2)
    assert (left - right).abs().max() > 0.01

    def missing(images: Tensor) -> Tensor:
        raise ZooError("no dlib")

    monkeypatch.setattr(inversions, "embed_faces", missing)
    distance = lambda first, second: (first - second).square().mean().view(1, 1, 1, 1)  # noqa: E731  # in place of LPIPS
    assert np.isnan(found.values["LPIPS"][0])
    found = inversions.invert_all(
        reader, photographs, 1, steps=1, reach=20, size=16, advance=lambda _: None, perceptual=distance
    )
    assert 0 < found.values["LPIPS"][0] < 4 * 10 ** (-found.values["PSNR"][0] / 10) + 0.1
    assert np.isnan(found.values["identity"][0])
    assert "no dlib" in found.notes[0]


def test_an_object_that_turns_is_told_from_one_that_does_not() -> None:
    """A true head that follows the camera, one that stays, one that turns too far, and no face at all."""
    head = true_heads(1, 128)

    def score(turn: Callable[[Tensor], Tensor]) -> float:
        def rendered(camera: Camera | None = None, *, size: int | None = None) -> zoo.Render:
            yaws = torch.zeros(1) if camera is None else camera.pose[:, 1]
            flat = torch.ones(len(yaws), 1, 128, 128)
            return zoo.Render(rgb=turn(yaws), depth=flat, mask=flat)

        camera = lambda yaws, size: Camera.at(torch.stack([0 * yaws, yaws], 1), size=size)  # noqa: E731
        made = SimpleNamespace(
            image=turn(torch.zeros(1)), weight=None, fit=SimpleNamespace(psnr=20.0), render=rendered,
            generator=SimpleNamespace(camera=camera),
        )  # fmt: skip
        return inversions._measured(made, math.radians(20), None, False)["turn_error"]  # type: ignore[arg-type]

    assert score(lambda yaws: head(yaws.tolist())[0]) < 3
    assert score(lambda yaws: head([0.0] * len(yaws))[0]) == pytest.approx(20, abs=2)
    assert score(lambda yaws: head((1.5 * yaws).tolist())[0]) == pytest.approx(10, abs=3)
    assert math.isnan(score(lambda yaws: torch.zeros(len(yaws), 3, 128, 128)))


def test_a_field_is_read_by_its_inversions_and_tuned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pose and depth of a method without an encoder are what its inversions found; a failed one leaves a gap."""
    field = zoo.build(
        "shadegan", z_dim=8, hidden_dim=16, layers=2, mapping_dim=16, steps=6, fine_steps=0, seed=0
    ).eval()
    found: list[Reconstruction] = []

    def inverted(generator: Generator, picture: Picture, *, steps: int, seed: int) -> Reconstruction:
        seeds.append(seed)
        if len(found) == 1 and not refused:
            refused.append(picture)
            raise DataError("no face")
        found.append(invert(generator, picture, steps=2, size=16))
        return found[-1]

    def tuned(made: Reconstruction, picture: Picture, *, seed: int) -> Reconstruction:
        seeds.append(seed)
        return tune_to(made, picture)

    refused: list[Picture] = []
    seeds: list[int] = []
    monkeypatch.setattr(inversions, "invert", inverted)
    monkeypatch.setattr(inversions, "tune_to", tuned)
    settings = {"data_root": str(folder), "n_test": 5, "n_invert": 5, "n_tune": 1}
    opened, row = measure("f", field, "photos", seed=7, progress=False, **settings)
    assert isinstance(opened, Photos)
    assert seeds == [7] * 6  # five searches, and one tuning
    assert row.protocol == "photos-v1/n_test=5/n_invert=5/n_tune=1"
    assert len(found) == 4
    assert [len(row.samples[key]) for key in ("PSNR", "depth_agreement", "PSNR_tuned")] == [4, 4, 1]
    assert row.figures["PSNR_tuned"] > row.samples["PSNR"][0]
    own = torch.cat([each.camera.pose for each in found])[:, 1].numpy()
    mesh = opened.photographs.poses[[0, 2, 3, 4], 1].numpy()
    assert row.figures["yaw_agreement"] == pytest.approx(np.corrcoef(own, mesh)[0, 1], abs=1e-5)
    assert any("not inverted: no face" in note for note in row.notes)
    with pytest.raises(ConfigError, match="n_tune=2: give n_invert=2 or more"):
        measure("f", field, "photos", progress=False, data_root=str(folder), n_invert=1, n_tune=2)


def test_ctrl_c_ends_the_row_and_not_only_one_search(photographs: Photographs, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = zoo.build("unsup3d", size=32, nf=8, zdim=8, groups=4, encoder_nf=4, conf_zdim=8, seed=0).eval()
    calls = []

    def interrupted(generator: Generator, picture: Picture, *, steps: int, seed: int) -> Reconstruction:
        calls.append(picture)
        found = invert(generator, picture, steps=steps)
        return replace(found, fit=replace(found.fit, stopped="interrupted"))

    monkeypatch.setattr(inversions, "invert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        inversions.invert_all(reader, photographs, 3, steps=1, reach=20, size=16, advance=lambda _: None)
    assert len(calls) == 1


def test_backgrounds_do_not_count(heads: dict[str, Tensor]) -> None:
    image, mask = heads["image"][:4], heads["mask"][:4] > 0.5
    black = faces_alone(image, find_points(image).points)
    other = torch.where(mask, image, 0.4)
    grey = faces_alone(other, find_points(other).points)
    assert (black == -1).all(1).float().mean() > 0.5
    assert (grey - black).abs().mean() < 0.02  # the mesh's rim moves by a pixel or so
    empty = torch.full((1, 3, 64, 64), 0.3)
    assert torch.equal(faces_alone(empty, find_points(empty).points), empty)


def test_kid_tells_heads_from_what_is_none(
    folder: Path, heads: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "available", lambda: True)
    monkeypatch.setattr(
        samples, "inception_features", lambda images: torch.nn.functional.avg_pool2d(images, 8).flatten(1)
    )
    noise = zoo.build("pigan", z_dim=8, hidden_dim=16, layers=2, mapping_dim=16, steps=4, fine_steps=0, seed=0).eval()
    opened, row = measure("noise", noise, "photos", progress=False, data_root=str(folder), n_test=N)
    assert isinstance(opened, Photos)
    low, high = row.intervals["KID"]
    assert low < row.figures["KID"] < high
    assert f"no face on {N} of {N} samples" in row.notes
    photographs = opened.crops("celeba").images
    same, _ = samples.kid_of(drawn(photographs), photographs)
    assert same is not None
    assert 1000 * same.value < low
    few, said = samples.kid_of(drawn(photographs), photographs[:5])
    assert few is None
    assert "needs 20 photographs" in said[0]
    monkeypatch.setattr(samples, "available", lambda: False)
    assert "zoo3d[fid]" in samples.kid_of(drawn(photographs), photographs)[1][0]


def drawn(images: Tensor) -> samples.Samples:
    """Pictures as if a generator had made them."""
    return samples.Samples(images, find_points(images).points, torch.zeros(len(images)), None)


class TrueHeads:
    """As a generator of the rendered heads, whose shapes are noise in part and which turn less than their cameras."""

    uses_light, is_3d = False, True

    def __init__(self, heads: dict[str, Tensor], noise_share: float, turn: float) -> None:
        self.heads, self.noise_share, self.turn = heads, noise_share, turn

    def latents(self, n: int, seed: int) -> Tensor:
        return torch.arange(n)

    def cameras(self, n: int, seed: int, size: int) -> Camera:
        return Camera.at(self.heads["pose"] / self.turn, size=size)

    def __call__(self, latents: Tensor, cameras: Camera, light: None) -> zoo.Render:
        noise = torch.rand(N, 1, 128, 128, generator=torch.Generator().manual_seed(0))
        part = {key: values[latents] for key, values in self.heads.items()}
        mixed = part["depth"] * (1 - self.noise_share) + self.noise_share * noise[latents]
        return zoo.Render(rgb=part["image"], depth=mixed, mask=(part["depth"] > 0).float())


def test_samples_show_their_shapes_and_whether_they_follow_their_cameras(heads: dict[str, Tensor]) -> None:
    def told(noise_share: float, turn: float) -> dict[str, float]:
        made = TrueHeads(heads, noise_share, turn)
        found = samples.shape_of(samples.draw_samples(made, N, 128, 0, Steps("", enabled=False)))  # type: ignore[arg-type]
        return {key: figure(values) for key, values in found.items()}

    true = told(0.0, 1.0)
    assert true["sample_turn"] == pytest.approx(1.0, abs=0.06)
    assert true["sample_depth"] > 0.8
    less = told(0.9, 0.5)
    assert less["sample_turn"] == pytest.approx(0.5, abs=0.04)
    assert less["sample_depth"] < 0.5
    black = torch.full((4, 3, 64, 64), -1.0)
    nobody = samples.Samples(black, find_points(black).points, torch.zeros(4), black[:, :1])
    assert samples.shape_of(nobody) == {}
    assert samples.shape_of(drawn(heads["image"])) == {}
    ahead = drawn(heads["image"])._replace(depth=heads["depth"])  # cameras that never turn have no slope
    assert list(samples.shape_of(ahead)) == ["sample_depth"]


def flat(images: Tensor) -> Tensor:
    return torch.ones_like(images[:, :1])


def test_a_single_photograph_and_damaged_ones(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "Person_A_0001.png").write_bytes((folder / "Person_A_0001.png").read_bytes())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (64, 64)).save(tmp_path / "empty.png")
    opened, row = measure(MEAN, MEAN, "photos", progress=False, data_root=str(tmp_path))
    assert (row.n, row.figures["people"], dict(row.intervals)) == (1, 1, {})
    assert "2 pictures without a usable face skipped" in row.notes
    assert row.figures["depth_agreement"] > 0.5
    json.dumps(row.as_dict(), allow_nan=False)
    before = opened.data
    (tmp_path / "empty.png").unlink()
    assert type(opened).open({}, opened.options).data != before


def test_rows_belong_to_the_files_that_compare_pictures(folder: Path, tmp_path: Path) -> None:
    files = {"vgg": tmp_path / "vgg", "lpips": tmp_path / "lpips"}
    options = Options(settings={"data_root": str(folder), "n_invert": 1} | files)

    def data() -> str | None:
        return Photos.open({}, options).data

    with pytest.raises(WeightsError, match="vgg: cannot be read"):
        data()
    for file in files.values():
        file.write_bytes(b"some")
    before = data()
    assert data() == before
    files["vgg"].write_bytes(b"else")
    assert data() != before


def test_what_cannot_be_measured_is_refused(tmp_path: Path, folder: Path) -> None:
    def tried(subject: object = flat, **settings: object) -> None:
        measure("x", subject, "photos", progress=False, **settings)  # type: ignore[arg-type]

    with pytest.raises(ConfigError, match=r"give data\.root=DIR"):
        tried()
    with pytest.raises(DataError, match="holds no images"):
        tried(data_root=str(tmp_path))
    with pytest.raises(DataError, match="does not exist"):
        tried(data_root=str(tmp_path / "none"))
    Image.new("RGB", (64, 64)).save(tmp_path / "empty.png")
    with pytest.raises(DataError, match="no face on 1 pictures; give photographs of people"):
        tried(data_root=str(tmp_path))
    for key, value in (("n_test", 0), ("n_invert", -1)):
        with pytest.raises(ConfigError, match=f"{key} must be at least"):
            tried(data_root=str(folder), **{key: value})
    for lonely in ({"vgg": "a", "n_invert": 1}, {"vgg": "a", "lpips": "b"}):
        with pytest.raises(ConfigError, match="vgg and lpips go together, and with n_invert"):
            tried(data_root=str(folder), **lonely)
    pictures = zoo.build("stylegan2", size=8, z_dim=8, channel_max=8)
    with pytest.raises(ConfigError, match="leave n_invert out"):
        tried(pictures, data_root=str(folder), n_invert=1)
    for bad in (lambda images: images, lambda images: images[:, :1] * torch.nan):
        with pytest.raises(ConfigError, match=r"x: depth of .*; give \(1, 1, 64, 64\), finite everywhere"):
            tried(bad, data_root=str(folder), n_test=1)
