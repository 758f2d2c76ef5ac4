"""The embedded heads: what an item holds, that its parts agree, and that it never changes."""

import pickle
from collections import Counter

import numpy as np
import pytest
import torch

from zoo.geometry import Camera
from zoo.heads.dataset import VERSION, HeadDataset, render_heads
from zoo.heads.model import HeadModel
from zoo.heads.sampling import LIGHT_PRIOR, POSE_PRIOR, sample_heads, sample_lights, sample_poses
from zoo.renderers.zbuffer import pixel_slopes, rasterize_batch

SIZE = 64
POSES = [[0.032228546485906756, -0.12730260548935438], [0.029235376019565572, -0.15736289751628155]]
LIGHTS = [[-0.02830242588446455, 0.04966609889188055, -0.414485859930966, 0.31766330928133907]]


@pytest.fixture(scope="module")
def data():
    return HeadDataset("train", size=SIZE)


@pytest.fixture(scope="module")
def batch(data):
    return data.batch(range(12))


def test_an_item_has_the_promised_shapes_ranges_and_types(data):
    item = data[3]
    shapes = {"image": 3, "albedo": 3, "normal": 3, "depth": 1, "mask": 1}
    for name, channels in shapes.items():
        assert item[name].shape == (channels, SIZE, SIZE)
        assert item[name].dtype == torch.float32
    assert item["pose"].shape == (2,)
    assert item["light"].shape == (4,)
    assert (item["identity"], item["index"]) == (3, 3)
    assert item["image"].abs().max() <= 1
    assert set(item["mask"].unique().tolist()) == {0.0, 1.0}


def test_heads_fill_the_frame_and_stay_inside_it(batch):
    rows = batch["mask"].amax((1, 3)).sum(1) / SIZE
    assert rows.min() > 0.75
    border = torch.ones(SIZE, SIZE, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert batch["mask"][..., border].mean() < 0.01
    inside = batch["mask"] > 0
    assert batch["depth"][inside].min() > 0.85
    assert batch["depth"][inside].max() < 1.15


def test_maps_are_empty_outside_the_mask(batch):
    outside = batch["mask"] == 0
    for name in ("depth", "normal", "albedo"):
        assert (batch[name] * outside).abs().max() == 0
    # A sample of a pixel may hit the head where its centre does not; one pixel further out there is nothing.
    far = torch.nn.functional.max_pool2d(batch["mask"], 3, 1, 1) == 0
    assert (batch["image"][far.expand(-1, 3, -1, -1)] == -1).all()


def test_normals_are_unit_and_mostly_those_of_the_depth(batch):
    mask = batch["mask"][:, 0] > 0
    normal = batch["normal"].permute(0, 2, 3, 1)
    assert (normal[mask].norm(dim=-1) - 1).abs().max() < 1e-5
    camera = Camera.orbit(fov=12.0, size=SIZE)
    points = batch["depth"] * camera.pixel_grid().reshape(SIZE, SIZE, 3).permute(2, 0, 1)
    points = points / camera.pixel_grid()[:, 2].reshape(SIZE, SIZE).abs()
    dx, dy = points[..., 1:-1, 2:] - points[..., 1:-1, :-2], points[..., :-2, 1:-1] - points[..., 2:, 1:-1]
    from_depth = torch.nn.functional.normalize(torch.linalg.cross(dx, dy, dim=1), dim=1).permute(0, 2, 3, 1)
    solid = -torch.nn.functional.max_pool2d(-batch["mask"], 5, 1, 2)[:, 0, 1:-1, 1:-1] > 0
    cosine = (from_depth * normal[:, 1:-1, 1:-1]).sum(-1)[solid]
    assert cosine.median() > 0.98


def test_image_is_albedo_times_light(batch):
    """The image averages samples and the maps do not, so they agree where the face is smooth: at most pixels."""
    camera = Camera.orbit(yaw=batch["pose"][:, 1], pitch=batch["pose"][:, 0], fov=12.0, size=SIZE)
    world = torch.einsum("bij,bjhw->bihw", camera.cam2world[:, :3, :3], batch["normal"])
    a, d, x, y = batch["light"].unbind(1)
    direction = torch.nn.functional.normalize(torch.stack([x, y, torch.ones_like(x)], 1), dim=1)
    cosine = (world * direction[..., None, None]).sum(1, keepdim=True).clamp_min(0)
    shade = (a / 2 + 0.5)[:, None, None, None] + (d / 2 + 0.5)[:, None, None, None] * cosine
    expected = (batch["albedo"] * shade).clamp(max=1) * 2 - 1
    solid = (batch["mask"] > 0).expand_as(expected)
    assert (expected - batch["image"])[solid].abs().median() < 0.01


def test_camera_is_that_of_the_zoo():
    """The depth is that of the same vertices seen through `Camera`."""
    heads = sample_heads(np.arange(2), 0, "val", HeadModel.load())
    poses = np.array([[0.2, -0.4], [-0.3, 0.5]])
    depth = render_heads(heads, poses, np.zeros((2, 4)), SIZE).depth[:, 0]
    camera = Camera.orbit(yaw=torch.tensor(poses[:, 1]), pitch=torch.tensor(poses[:, 0]), fov=12.0, size=SIZE)
    verts = camera.to_camera(torch.tensor(HeadModel.load().vertices(heads), dtype=torch.float32)).numpy()
    slopes = pixel_slopes(SIZE, camera.fov, camera.pixel_centres)
    seen = rasterize_batch(verts, HeadModel.load().faces, slopes, slopes, cull_backfaces=True)
    assert ((seen.depth > 0) != (depth > 0)).mean() < 0.001
    assert np.quantile(np.abs(seen.depth - depth), 0.995) < 1e-5


def test_an_item_is_a_function_of_seed_split_and_index(data, batch):
    assert torch.equal(data[5]["image"], batch["image"][5])
    assert torch.equal(pickle.loads(pickle.dumps(data))[5]["image"], batch["image"][5])
    assert torch.equal(HeadDataset("train", SIZE, length=6)[-1]["depth"], batch["depth"][5])
    for other in (HeadDataset("val", SIZE), HeadDataset("train", SIZE, seed=1)):
        assert not torch.equal(other[5]["image"], batch["image"][5])


def test_random_numbers_are_the_recorded_ones():
    """Values from the first machine: another one, or another numpy, must draw the same."""
    assert sample_poses(np.array([0, 1]), 0, "train").tolist() == POSES
    assert sample_lights(np.array([7]), 3, "test").tolist() == LIGHTS


def test_views_show_one_identity_under_other_poses():
    data = HeadDataset("train", 32, length=6, views=3)
    items = data.batch([0, 1, 2, 3])
    assert items["identity"].tolist() == [0, 0, 0, 1]
    assert not torch.equal(items["pose"][0], items["pose"][1])
    model = HeadModel.load()
    first = sample_heads(np.array([0, 0, 1]), 0, "train", model)
    assert np.array_equal(first.shape[0], first.shape[1])
    assert not np.array_equal(first.shape[0], first.shape[2])


def test_splits_share_no_identity():
    numbers = [set(HeadDataset(split, 32).batch([0, 1])["identity"].tolist()) for split in ("train", "val", "test")]
    assert not set.intersection(*numbers)
    assert len(set.union(*numbers)) == 6


def test_pose_and_light_follow_their_priors():
    index = np.arange(3000)
    poses, lights = sample_poses(index, 0, "train"), sample_lights(index, 0, "train")
    np.testing.assert_allclose(poses.std(0), POSE_PRIOR["std"], rtol=0.1)
    assert (np.abs(poses) <= 2.5 * POSE_PRIOR["std"]).all()
    np.testing.assert_allclose(lights.mean(0), LIGHT_PRIOR["mean"], atol=0.03)
    np.testing.assert_allclose(lights.std(0)[[0, 2, 3]], np.sqrt(np.diag(LIGHT_PRIOR["cov"]))[[0, 2, 3]], rtol=0.1)
    assert (1 + lights[:, 0] / 2 + lights[:, 1] / 2 <= 1.1001).all()


@pytest.mark.parametrize("level", [0, 1])
def test_the_surface_is_closed_and_faces_outwards(level):
    model = HeadModel.load(level)
    edges = Counter()
    for face in model.faces.tolist():
        edges.update((face[i], face[(i + 1) % 3]) for i in range(3))
    assert max(edges.values()) == 1
    assert all((b, a) in edges for a, b in edges)
    a, b, c = (model.mean[model.faces[:, i]] for i in range(3))
    assert (np.cross(a, b) * c).sum() > 0
    assert np.abs(model.mean).max(0)[2] < 0.115
    assert 0.180 < np.ptp(model.mean[:, 1]) < 0.190


def test_texture_is_an_albedo(batch):
    model = HeadModel.load()
    heads = sample_heads(np.arange(2), 0, "train", model)
    texture = model.texture(heads)
    assert texture.shape == (2, *model.texture_shape)
    assert 0 <= texture.min() <= texture.max() <= 1


@pytest.mark.parametrize(
    ("options", "word"),
    [({"split": "dev"}, "train, val, test"), ({"size": 16}, "32 to 256"), ({"views": 0}, "1 or more")],
)
def test_wrong_options_are_refused_with_the_fix(options, word):
    with pytest.raises(ValueError, match=word) as error:
        HeadDataset(**options)
    assert "\n" not in str(error.value)


def test_an_index_out_of_range_ends_the_loop(data):
    with pytest.raises(IndexError, match="19999"):
        data[len(data)]
    assert len(HeadDataset("val", 32, length=3)) == 3


def test_random_backgrounds_stand_behind_the_very_same_heads() -> None:
    plain, wild = (
        HeadDataset("val", size=64).batch([3, 4]),
        HeadDataset("val", size=64, background="random").batch([3, 4]),
    )
    for name in ("depth", "normal", "albedo", "mask", "pose", "light"):
        assert torch.equal(plain[name], wild[name])
    within = torch.nn.functional.avg_pool2d(plain["mask"], 5, 1, 2) > 0.999
    away = torch.nn.functional.max_pool2d(plain["mask"], 5, 1, 2) == 0
    assert torch.equal(plain["image"][within.expand(-1, 3, -1, -1)], wild["image"][within.expand(-1, 3, -1, -1)])
    assert (plain["image"][away.expand(-1, 3, -1, -1)] == -1).all()
    first, second = (wild["image"][i][:, away[i, 0] & away[1 - i, 0]].mean(1) for i in (0, 1))
    assert (first - second).abs().max() > 0.05
    assert wild["image"].min() >= -1
    assert wild["image"].max() <= 1
    again = HeadDataset("val", size=64, background="random").batch([4])
    assert torch.equal(again["image"][0], wild["image"][1])
    with pytest.raises(ValueError, match="background='red' does not exist; use one of black, random"):
        HeadDataset("val", background="red")


def test_each_picture_has_a_background_of_its_own_and_outlines_are_mixed_once() -> None:
    from zoo.heads.backgrounds import draw_backgrounds

    ground = torch.from_numpy(draw_backgrounds(np.arange(40), 0, "train", 32))
    assert ground.shape == (40, 3, 32, 32)
    assert ground.mean((1, 2, 3)).std() > 0.15  # dark and light ones
    assert len({tuple(g.flatten()[:9].tolist()) for g in ground}) == 40
    heads = HeadDataset("train", size=32, background="random").batch(list(range(40)))
    black = HeadDataset("train", size=32).batch(list(range(40)))["image"]
    added = (heads["image"] - black) / (2 * ground).clamp_min(1e-3)  # what of each pixel shows the background
    assert added[ground > 0.1].min() > -1e-4
    assert added[ground > 0.1].max() < 1 + 1e-4


# Version -> size -> mean of red, green, blue; share of the mask; mean depth inside; mean |dx| of red.
RECORDED = {
    1: {
        32: [-0.600478, -0.719559, -0.786275, 0.413086, 0.953114, 0.084763],
        64: [-0.587931, -0.710599, -0.779332, 0.425903, 0.953085, 0.048032],
        128: [-0.583591, -0.707602, -0.777036, 0.429871, 0.952991, 0.026968],
    }
}


def test_pictures_are_those_of_the_version():
    """Caches on disk are keyed by VERSION: whoever changes the pictures raises it and records them here."""
    found = {}
    for size in (32, 64, 128):
        items = HeadDataset("train", size=size, seed=3).batch([0, 7])
        image, mask = items["image"], items["mask"]
        detail = image[:, 0].diff(dim=-1).abs().mean()
        inside = items["depth"][mask > 0].mean()
        found[size] = torch.stack([*image.mean((0, 2, 3)), mask.mean(), inside, detail])
    for size, expected in RECORDED[VERSION].items():
        torch.testing.assert_close(found[size], torch.tensor(expected), rtol=0, atol=2e-5, msg=f"{size} px")
