"""Batches of cameras, lights, latents and renders: indices, loops, pictures and one-line texts."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests.tiny import TINY
from zoo.errors import ConfigError
from zoo.generators.base import Latents
from zoo.geometry import Batch, Camera, Light, Render, points_to_normal


def render(n: int = 3, size: int = 8) -> Render:
    values = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))
    aux = {"ray_depth": values[:, :1], "scale": torch.tensor(2.0), "points": torch.zeros(n + 1, 3)}
    return Render(rgb=values * 2 - 1, depth=values[:, :1] + 1, mask=torch.ones(n, 1, size, size), aux=aux)


BATCHES = {
    "camera": Camera.orbit(torch.tensor([-0.2, 0.1, 0.4]), 0.1, size=32, fov=20, pixel_centres="half"),
    "light": Light(torch.arange(12.0).view(3, 4)),
    "latents": Latents(torch.arange(6.0).view(3, 2), psi=0.7),
    "codes": Latents(torch.zeros(3, 2), code=torch.arange(12.0).view(3, 2, 2)),
    "render": render(),
}


@pytest.fixture(params=BATCHES)
def batch(request: pytest.FixtureRequest) -> Batch:
    return BATCHES[request.param]


def same(a: Batch, b: Batch) -> bool:
    def plain(value: object) -> object:
        if isinstance(value, torch.Tensor):
            return tuple(value.shape), value.tolist()
        return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value

    return type(a) is type(b) and plain(vars(a)) == plain(vars(b))


def test_an_integer_keeps_the_batch_axis(batch: Batch) -> None:
    for i in range(3):
        assert len(batch[i]) == 1
        assert same(batch[i], batch[i : i + 1])
        assert same(batch[i - 3], batch[i : i + 1])
    assert same(batch[np.int64(1)], batch[1])
    assert same(batch[torch.tensor(1)], batch[1])


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_outside_is_an_index_error(batch: Batch, index: int) -> None:
    with pytest.raises(IndexError, match=f"index {index} is out of range for 3 "):
        batch[index]


def test_slices_tensors_and_lists(batch: Batch) -> None:
    assert same(batch[:], batch)
    assert len(batch[1:1]) == 0
    for index in ([2, 0], (2, 0), torch.tensor([2, 0]), np.array([2, 0])):
        assert same(batch[index][0], batch[2])
        assert same(batch[index][1], batch[0])
    assert same(batch[torch.tensor([False, True, True])], batch[1:])
    assert same(batch[torch.tensor([1])], batch[1])


def test_a_loop_gives_single_objects(batch: Batch) -> None:
    parts = list(batch)
    assert [len(part) for part in parts] == [1, 1, 1]
    assert all(same(part, batch[i]) for i, part in enumerate(parts))


def test_expand(batch: Batch) -> None:
    assert batch.expand(3) is batch
    many = batch[1].expand(5)
    assert len(many) == 5
    assert all(same(part, batch[1]) for part in many)
    with pytest.raises(ValueError, match=r"^3 [a-z]+s for 5 objects: give one [a-z]+ or one for each$"):
        batch.expand(5)


def test_to(batch: Batch) -> None:
    assert same(batch.to("cpu"), batch)
    assert next(v for v in vars(batch.to("meta")).values() if isinstance(v, torch.Tensor)).is_meta


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("camera", "Camera(3 cameras, 32 px, fov 20, yaw -0.2..0.4, pitch 0.1, cpu)"),
        ("light", "Light(3 lights, ambient 0.5..4.5, diffuse 1..5, x 2..10, y 3..11, cpu)"),
        ("latents", "Latents(3 latents, psi 0.7, cpu)"),
        ("codes", "Latents(3 latents, code (2, 2), cpu)"),
        ("render", "Render(3 objects, 8 px, rgb depth mask, aux ray_depth scale points, cpu)"),
    ],
)
def test_texts_are_one_line(name: str, text: str) -> None:
    assert repr(BATCHES[name]) == text


def test_texts_of_one_and_of_none() -> None:
    assert repr(Camera.orbit(0.301, -0.0001)) == "Camera(1 camera, 64 px, fov 12, yaw 0.3, pitch 0, cpu)"
    assert repr(Light.of(0.3, 0.7, x=1.0)) == "Light(1 light, ambient 0.3, diffuse 0.7, x 1, y 0, cpu)"
    assert repr(Camera.orbit()[:0]) == "Camera(0 cameras, 64 px, fov 12, cpu)"
    assert repr(Light.of()[:0]) == "Light(0 lights, cpu)"


def test_batches_are_equal_only_to_themselves(batch: Batch) -> None:
    assert batch == batch
    assert batch != batch[:]
    assert batch in [batch[0], batch]


def test_cameras_of_other_types_have_rays() -> None:
    single, double = (Camera(torch.eye(4, dtype=dtype)[None]) for dtype in (torch.float32, torch.float64))
    for a, b in zip(single.rays(), double.rays(), strict=True):
        assert b.dtype == torch.float64
        assert torch.allclose(a.double(), b, atol=1e-6)
    generator = zoo.build("pigan", **TINY).eval()
    light = Light(torch.zeros(1, 4, dtype=torch.float64))
    for camera in (Camera(torch.eye(4, dtype=torch.int64)[None], size=8), replace(double, size=8)):
        assert generator(generator.latents(1), camera, light).rgb.dtype == torch.float32


def test_what_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="give 3 x 3 or more"):
        points_to_normal(torch.zeros(1, 3, 2, 2))
    generator = zoo.build("pigan", **TINY).eval()
    for resolution in (0, 1):
        with pytest.raises(ValueError, match=f"resolution={resolution}: a mesh needs at least 2 cells"):
            generator.mesh(generator.latents(1), resolution)


def test_latents_of_two_kinds_are_no_batch() -> None:
    drawn, found = BATCHES["latents"], BATCHES["codes"]
    assert isinstance(drawn, Latents)
    assert isinstance(found, Latents)
    both = Latents.cat([found, found[:1]])
    assert both.code is not None
    assert len(both.code) == len(both.z) == 4
    for parts in ([drawn, found], [found, drawn], [drawn, replace(drawn, psi=1.0)]):
        with pytest.raises(ValueError, match="give all of them their codes"):
            Latents.cat(parts)


def test_a_camera_stands_where_its_pose_says() -> None:
    pose = torch.tensor([[0.1, -0.3], [-0.2, 0.5]])
    camera = Camera.at(pose, fov=20, size=32, radius=2.0)
    assert torch.equal(camera.cam2world, Camera.orbit(pose[:, 1], pose[:, 0], radius=2.0).cam2world)
    assert (camera.fov, camera.size) == (20, 32)
    torch.testing.assert_close(camera.pose, pose)
    torch.testing.assert_close(Camera.at(camera.pose, radius=2.0).cam2world, camera.cam2world)
    with pytest.raises(ValueError, match=r"poses must be \(B, 2\) = \(pitch, yaw\), got \(2,\)"):
        Camera.at(pose[0])


def test_gradients_stop_at_detach_and_at_cpu() -> None:
    rgb = torch.zeros(1, 3, 4, 4, requires_grad=True) * 1
    out = Render(rgb=rgb, depth=rgb[:, :1], aux={"a": rgb})
    for copy in (out.detach(), out.cpu()):
        assert not any(t.requires_grad for t in (copy.rgb, copy.depth, copy.aux["a"]))
    assert out.to("cpu").rgb.requires_grad
    assert out[0].rgb.requires_grad
    assert out.rgb.requires_grad  # itself unchanged


def test_numbers_of_the_whole_batch_stay_whole() -> None:
    part = render()[1:]
    assert len(part.aux["ray_depth"]) == 2
    assert part.aux["scale"].item() == 2
    assert len(part.aux["points"]) == 4


def test_pictures() -> None:
    out = render()
    out.rgb[0], out.rgb[1] = -1, 1
    pictures = out.pil()
    assert [picture.size for picture in pictures] == [(8, 8)] * 3
    assert pictures[0].getextrema() == ((0, 0),) * 3
    assert pictures[1].getextrema() == ((255, 255),) * 3
    assert len(out.pil("depth")) == 3
    with pytest.raises(ConfigError, match="this render has no albedo; it has rgb, depth"):
        out.pil("albedo")
    with pytest.raises(ConfigError, match="unknown map 'colour'; known: rgb"):
        out.pil("colour")


def test_a_notebook_shows_a_contact_sheet() -> None:
    out = render()
    sheet = Image.open(io.BytesIO(out._repr_png_()))
    assert sheet.size == (3 * 8, 2 * 8)  # rgb and depth
    page = out._repr_html_()
    assert 'src="data:image/png;base64,' in page
    assert repr(out) in page
    many = render(20)
    assert Image.open(io.BytesIO(many._repr_png_())).size == (16 * 8, 2 * 8)
    assert "the first 16 are shown" in many._repr_html_()
