"""The condition "wild": drawn views and lights, whose geometry stays exact; and the split that nothing learns from."""

import inspect

import numpy as np
import pytest
import torch

from zoo.config.schemas import DataConfig
from zoo.data.module import FaceData, _heads_key
from zoo.data.sources import open_source
from zoo.data.synface import write_synface
from zoo.data.transforms import to_uint8
from zoo.errors import DataError
from zoo.geometry import Camera
from zoo.heads.dataset import VERSION, WILD, HeadDataset
from zoo.heads.looks import no_looks, sample_looks
from zoo.heads.model import HeadModel
from zoo.heads.render import render_heads
from zoo.heads.sampling import KINDS, SPLITS, Bits, mean_heads, sample_heads, sample_lights, sample_poses
from zoo.heads.views import PLAIN, backproject, compress, sample_views, view_distances
from zoo.metrics import evaluation_mask
from zoo.metrics.depth import side_per_image

FIRST = np.arange(4)


def one(split="val", count=4):
    """Heads, poses and lights of the first images of a split."""
    heads = sample_heads(np.arange(count), 0, split, HeadModel.load())
    return heads, sample_poses(np.arange(count), 0, split), sample_lights(np.arange(count), 0, split)


def test_no_two_streams_of_random_numbers_are_the_same():
    keys = {tuple(Bits(0, split, kind, 5).source.state["state"]["key"].tolist()) for split in SPLITS for kind in KINDS}
    assert len(keys) == len(SPLITS) * len(KINDS)


def test_nothing_is_trained_on_the_sealed_split(tmp_path):
    with pytest.raises(DataError, match="sealed"):
        open_source("heads", split="sealed")
    with pytest.raises(DataError, match="sealed"):
        write_synface(tmp_path / "set", 1, splits=("sealed",))
    assert "sealed" not in inspect.signature(write_synface).parameters["splits"].default
    assert len(HeadDataset("sealed")) == 1000
    # Another seed than the sealed one: not even tests look at those pictures.
    numbers = {split: HeadDataset(split, 32, seed=1).batch([0])["identity"].item() for split in SPLITS}
    assert len(set(numbers.values())) == len(SPLITS)


def test_options_change_what_they_say_and_nothing_else():
    maps = ("depth", "normal", "albedo", "mask")
    plain = HeadDataset("val", 32).batch(FIRST)
    assert plain["view"].tolist() == [list(PLAIN)] * 4
    shiny = HeadDataset("val", 32, highlights=True).batch(FIRST)
    assert all(torch.equal(plain[name], shiny[name]) for name in (*maps, "pose", "light", "view"))
    assert not torch.equal(plain["image"], shiny["image"])
    moved, wild = HeadDataset("val", 32, jitter=True).batch(FIRST), HeadDataset("val", 32, **WILD).batch(FIRST)
    assert all(torch.equal(moved[name], wild[name]) for name in (*maps, "pose", "light", "view"))
    assert torch.equal(plain["pose"], moved["pose"])
    assert not torch.equal(plain["depth"], moved["depth"])
    assert torch.equal(HeadDataset("val", 32, **WILD)[3]["image"], wild["image"][3])


def test_views_are_drawn_within_their_ranges_and_scale_with_the_picture():
    views, qualities = sample_views(np.arange(500), 0, "val", 64)
    low, high = np.array([9, 0.92, -4, -4]), np.array([15, 1.08, 4, 4])
    assert (views >= low - 1e-6).all()
    assert (views <= high + 1e-6).all()
    np.testing.assert_allclose(views.mean(0), PLAIN, atol=(high - low).max() / 20)
    assert (qualities.min(), qualities.max()) == (50, 95)
    large, same = sample_views(np.arange(500), 0, "val", 128)
    np.testing.assert_allclose(large, views * [1, 1, 2, 2], rtol=1e-6)
    assert (same == qualities).all()


def test_a_shift_moves_the_picture_by_whole_pixels_right_and_down():
    args = one()
    plain, moved = (render_heads(*args, 64, views=np.tile(view, (4, 1))) for view in (PLAIN, (12.0, 1.0, 3.0, 5.0)))
    there, here = moved.depth[:, :, 5:, 3:], plain.depth[:, :, :-5, :-3]
    assert ((there > 0) != (here > 0)).mean() < 0.001
    assert np.quantile(np.abs(there - here), 0.99) < 1e-6
    assert np.quantile(np.abs(moved.image[:, :, 5:, 3:] - plain.image[:, :, :-5, :-3]), 0.99) < 1e-5


def test_heads_keep_their_size_under_every_field_of_view_and_grow_with_the_scale():
    args = one()
    plain, near, far, large = (
        render_heads(*args, 64, views=np.tile(view, (4, 1))).mask.sum((1, 2, 3))
        for view in (PLAIN, (15.0, 1.0, 0, 0), (9.0, 1.0, 0, 0), (12.0, 1.08, 0, 0))
    )
    np.testing.assert_allclose(near / plain, 1, atol=0.05)
    np.testing.assert_allclose(far / plain, 1, atol=0.05)
    np.testing.assert_allclose(large / plain, 1.08**2, atol=0.03)
    assert view_distances(np.array([PLAIN])) == 1


def to_head(items: dict[str, torch.Tensor]) -> torch.Tensor:
    """The points (B, 3, S, S) that the pictures show, in the frame of the head."""
    distance = torch.from_numpy(view_distances(items["view"].double().numpy()))
    turn = Camera.at(items["pose"]).cam2world[:, :3, :3].double()
    points = backproject(items["depth"].double(), items["view"])
    points[:, 2] += distance[:, None, None]
    return torch.einsum("bij,bjhw->bihw", turn, points)


def test_points_of_two_views_lie_on_the_surface_of_the_one_head():
    items = HeadDataset("val", 64, views=2, **WILD).batch([2, 3])
    assert items["identity"][0] == items["identity"][1]
    assert not torch.equal(items["view"][0], items["view"][1])
    model = HeadModel.load()
    verts = model.vertices(sample_heads(np.array([1]), 0, "val", model))[0]
    a, b, c = (verts[model.faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1)
    for points, mask in zip(to_head(items), items["mask"], strict=True):
        chosen = points[:, mask[0] > 0].T.numpy()[::23]
        to = chosen[:, None] - a
        height = np.abs((to * normal).sum(-1)) / area
        v = (np.cross(to, c - a) * normal).sum(-1) / area**2
        w = (np.cross(b - a, to) * normal).sum(-1) / area**2
        height[(np.minimum(v, w) < -1e-3) | (v + w > 1.001)] = np.inf
        assert len(chosen) > 50
        assert height.min(1).max() < 1e-6


def test_backprojection_of_the_plain_view_is_that_of_the_plain_camera():
    from zoo.geometry import depth_to_points

    item = HeadDataset("val", 32).batch([0])
    points = backproject(item["depth"], item["view"])
    torch.testing.assert_close(points, depth_to_points(item["depth"], Camera.orbit(size=32)), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"\(B, 4\)"):
        backproject(item["depth"], item["view"][0])


def _twin(rendered, heads, poses, lights, looks):
    """Picture without direct light, what direct light adds where it is not shadowed, points and normals, by numpy."""
    rotation = Camera.at(torch.from_numpy(poses)).cam2world[:, :3, :3].double().numpy()
    normal = np.einsum("bij,bjhw->bihw", rotation, rendered.normal)
    points = backproject(torch.from_numpy(rendered.depth).double(), torch.tensor([PLAIN] * len(poses))).numpy()
    points[:, 2] += 1
    points = np.einsum("bij,bjhw->bihw", rotation, points)
    lamp = np.concatenate([lights[:, 2:], np.ones((len(lights), 1))], 1)
    lamp = (lamp / np.linalg.norm(lamp, axis=1, keepdims=True))[:, :, None, None]
    eye = rotation[:, :, 2][:, :, None, None] - points
    half = lamp + eye / np.linalg.norm(eye, axis=1, keepdims=True).clip(1e-9)
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    x, y, z = normal.transpose(1, 0, 2, 3)
    basis = [x, y, z, x * y, y * z, x * z, 3 * z * z - 1, x * x - y * y]
    basis = [f * np.sqrt(k) for f, k in zip(basis, (3, 3, 3, 15, 15, 15, 5 / 4, 15 / 4), strict=True)]
    sky = np.einsum("bck,kbhw->bchw", looks.sky, np.stack([np.ones_like(x), *basis])).clip(0)
    ambient, diffuse = (lights[:, i, None, None, None] / 2 + 0.5 for i in (0, 1))
    cosine = (normal * lamp).sum(1, keepdims=True).clip(0)
    gloss, power = looks.gloss[:, None, None, None], looks.shininess[:, None, None, None]
    shine = gloss * (normal * half).sum(1, keepdims=True).clip(0) ** power * (cosine > 0)
    return rendered.albedo * ambient * sky, diffuse * (rendered.albedo * cosine + shine), points, normal, lamp


def test_the_light_is_that_of_its_formula_and_shadows_are_those_of_rays():
    """At 256 px the picture has one sample for each pixel, where the maps are; a slow twin draws it from them."""
    heads, poses, lights = one(count=2)
    lights[:, 2:] = [[0.8, 0.6], [-0.7, 0.5]]  # from the sides and above, so that noses and chins cast shadows
    looks = sample_looks(np.arange(2), 0, "val")
    rendered = render_heads(heads, poses, lights, 256, looks=looks)
    dark, direct, points, normal, lamp = _twin(rendered, heads, poses, lights, looks)
    image = (rendered.image + 1) / 2
    certain = ((rendered.mask > 0) & (direct > 0.1) & (dark + direct < 0.999)).all(1)
    share = ((image - dark) / np.where(direct > 0.1, direct, 1)).transpose(0, 2, 3, 1)[certain]
    np.testing.assert_allclose(share, share[:, :1].repeat(3, 1), atol=1e-4)  # one shadow for all colours
    assert share.min() > -1e-4
    assert share.max() < 1 + 1e-4
    assert (share[:, 0] > 0.999).mean() > 0.7
    verts = HeadModel.load(1).vertices(heads)
    agree = []
    for b, own in enumerate(np.split(share[:, 0], [certain[0].sum()])):
        chosen = np.concatenate([np.flatnonzero(own < 0.001)[::61], np.flatnonzero(own > 0.999)[::997]])
        at = (points[b] + 0.003 * normal[b]).transpose(1, 2, 0)[certain[b]][chosen]
        corners = [verts[b][HeadModel.load(1).faces[:, i]] for i in range(3)]
        agree += [_blocked(o, lamp[b, :, 0, 0], *corners) == (own[i] < 0.5) for o, i in zip(at, chosen, strict=True)]
    assert len(agree) > 30
    assert np.mean(agree) > 0.9


def _blocked(origin, direction, a, b, c) -> bool:
    """Whether a ray meets a triangle (Moller and Trumbore 1997)."""
    cross = np.cross(direction, c - a)
    det = (cross * (b - a)).sum(-1)
    det = np.where(np.abs(det) < 1e-15, np.inf, det)
    u = ((origin - a) * cross).sum(-1) / det
    other = np.cross(origin - a, b - a)
    v, t = (other @ direction) / det, (other * (c - a)).sum(-1) / det
    return bool(((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)).any())


def test_without_gloss_and_under_an_even_sky_only_shadows_differ():
    args = one()
    plain, dull = render_heads(*args, 32), render_heads(*args, 32, looks=no_looks(4))
    assert (dull.image <= plain.image + 1e-6).all()
    inside = plain.mask > 0
    assert (np.abs(dull.image - plain.image).max(1, keepdims=True) < 1e-5)[inside].mean() > 0.5
    assert (dull.image < plain.image - 0.1).any()


def test_exposure_stays_near_the_plain_one():
    levels = []
    for shiny in (False, True):
        items = HeadDataset("val", 32, highlights=shiny).batch(np.arange(24))
        levels.append(((items["image"] + 1) * items["mask"]).sum() / items["mask"].sum())
        assert (items["image"].amax((2, 3)) <= 1).all()
    assert 0.9 < levels[1] / levels[0] < 1.1


def test_compression_leaves_eight_bits_and_loses_more_at_low_quality():
    image = HeadDataset("val", 64).batch([0, 0])["image"].numpy()
    squeezed = compress(image, np.array([50, 95]))
    levels = (squeezed + 1) * 127.5
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)
    loss = np.abs(squeezed - image).mean((1, 2, 3))
    assert 0 < loss[1] < loss[0] < 0.05


def test_the_mean_head_at_the_true_pose_beats_somebody_elses():
    items = HeadDataset("val", 32, **WILD).batch(np.arange(16))
    poses, lights, views = (items[name].numpy() for name in ("pose", "light", "view"))
    own = sample_heads(np.arange(16), 0, "val", HeadModel.load())
    other = type(own)(*(np.roll(field, 1, 0) for field in own))
    errors = []
    for heads in (own, mean_heads(16), other):
        rendered = render_heads(heads, poses, lights, 32, views=views)
        mask = evaluation_mask(items["mask"], torch.from_numpy(rendered.mask))
        errors.append(side_per_image(torch.from_numpy(rendered.depth), items["depth"], mask).mean().item())
    assert errors[0] < 1e-7
    assert 0.0025 < errors[1] < 0.005
    assert errors[2] > 1.15 * errors[1]


def test_training_takes_the_same_options():
    config = DataConfig(size=32, length=32, cache="never", hflip=False, **WILD)
    data = FaceData(config, batch=4)
    for split, length in (("train", 32), ("val", 2)):
        wanted = HeadDataset(split, 32, length=length, **WILD).batch([1])["image"]
        assert torch.equal(data.source(split).read(1), to_uint8(wanted)[0])
    plain = DataConfig(size=32, length=32)
    keys = [_heads_key(DataConfig(size=32, length=32, **{name: value}), 32) for name, value in WILD.items()]
    assert set(_heads_key(plain, 32)) == {"length", "seed", "size", "background", "version"}  # as before the options
    assert all(key != _heads_key(plain, 32) for key in keys)


# Version -> size -> mean of red, green, blue before JPEG; share of the mask; mean depth inside.
RECORDED = {
    1: {
        32: [-0.599037, -0.709933, -0.783187, 0.37793, 0.878109],
        128: [-0.581959, -0.697389, -0.773756, 0.392426, 0.877847],
    }
}


def test_pictures_are_those_of_the_version():
    """As in `test_heads`; the codec has the last word on the picture, so highlights are recorded without jitter."""
    for size, expected in RECORDED[VERSION].items():
        image = HeadDataset("train", size, seed=3, highlights=True).batch([0, 7])["image"]
        moved = HeadDataset("train", size, seed=3, jitter=True).batch([0, 7])
        found = torch.stack([*image.mean((0, 2, 3)), moved["mask"].mean(), moved["depth"][moved["mask"] > 0].mean()])
        torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=2e-5, msg=f"{size} px: {found.tolist()}")
