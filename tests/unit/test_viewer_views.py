"""What the viewer can show without a browser: views are cameras, and states hold what a method can honour."""

import math

import numpy as np
import pytest
import torch

import zoo
from tests.tiny import TINY
from tests.unit.viewer_subjects import shadegan, tiny
from zoo.generators.base import Generator
from zoo.viewer.state import MESH, SEEDS, Abilities, Lamp, Thing
from zoo.viewer.view import View, aspect_of, fov_of


@pytest.fixture(scope="module")
def shaded() -> Generator:
    return shadegan()


# ---------------------------------------------------------------- views


@pytest.mark.parametrize(
    ("yaw", "pitch", "zoom"), [(0.0, 0.0, 1.0), (0.4, -0.3, 0.6), (-1.2, 0.5, 1.7), (3.0, 0.1, 1.0)]
)
@pytest.mark.parametrize("aspect", [0.5, 1.0, 1.9])
def test_a_view_returns_from_the_browser(
    shaded: Generator, yaw: float, pitch: float, zoom: float, aspect: float
) -> None:
    view, scene = View(yaw, pitch, zoom, (0.01, -0.02, 0.03)), shaded.scene
    back = View.seen(view.position(scene), view.target, fov_of(scene, aspect), aspect, scene)
    for one, other in zip(
        (back.yaw, back.pitch, back.zoom, *back.target), (yaw, pitch, zoom, *view.target), strict=True
    ):
        assert one == pytest.approx(other, abs=1e-6)


def test_our_camera_shows_what_the_browser_shows(shaded: Generator) -> None:
    """A point falls on the same share of the picture as a pinhole at the browser's camera would put it."""
    view, scene = View(0.5, -0.2, 0.8, (0.01, 0.02, 0.0)), shaded.scene
    eye, target = np.array(view.position(scene)), np.array(view.target)
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross([0, 1, 0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    camera = view.camera(shaded, 100)
    torch.testing.assert_close(
        camera.cam2world[0, :3, :3], torch.tensor(np.stack([right, up, back], 1)).float(), atol=1e-5, rtol=0
    )
    # In the plane through the target, zoom as distance and zoom as field of view are the same.
    point = target + 0.03 * right + 0.02 * up
    half = np.linalg.norm(eye - target) * math.tan(fov_of(scene, 1.0) / 2)
    wanted = ((np.array([0.03, -0.02]) / half) + 1) / 2 * 100 - 0.5
    pixels, _ = camera.project(torch.tensor(point).float().view(1, 1, 3))
    np.testing.assert_allclose(pixels[0, 0].numpy(), wanted, atol=1e-3)
    assert view.camera(shaded, 64).pose.shape == (1, 2)
    np.testing.assert_allclose(View(0.3, 0.1).camera(shaded, 64).pose[0], [0.1, 0.3], atol=1e-5)


@pytest.mark.parametrize("position", [(0.0, 0.0, 0.0), (math.nan, 0, 1), (math.inf, 0, 1), (0, 50, 0.001), (0, 0, 1e9)])
def test_cameras_of_hostile_browsers_give_views(shaded: Generator, position: tuple[float, float, float]) -> None:
    view = View.seen(position, (0.0, 0.0, 0.0), 0.2, 1.0, shaded.scene)
    assert view.camera(shaded, 16).cam2world.isfinite().all()
    assert View.seen((0, 0, 1), (math.nan, 0.0, 0.0), 0.2, 1.0, shaded.scene) == View()
    assert (aspect_of(0, 0), aspect_of(10**9, 1), aspect_of(800, 400)) == (0.2, 5.0, 2.0)
    far = View.seen((0, 0, 1), (90.0, 0.0, 0.0), 0.2, 1.0, shaded.scene)
    assert math.dist(far.target, (0, 0, 0)) < 0.2


# ---------------------------------------------------------------- states


def test_only_what_a_method_can_honour_is_offered(shaded: Generator) -> None:
    able = Abilities.of(shaded)
    assert able.shown == ("rgb", "albedo", "normal", "depth", "shading", MESH)
    assert able.lamp is not None
    assert able.camera
    assert able.codes
    assert able.photos
    plain = Abilities.of(zoo.build("pigan", **TINY).eval())
    assert plain.lamp is None
    assert "albedo" not in plain.shown
    flat = Abilities.of(tiny("stylegan2"))
    assert (flat.shown, flat.camera, flat.photos, flat.mesh, flat.codes) == (("rgb",), False, False, False, True)
    read = Abilities.of(tiny("unsup3d"))
    assert read.photos
    assert not read.codes


def test_numbers_from_a_browser_stay_within_bounds() -> None:
    thing = Thing(-5, math.nan, 2**60, 7.0).bounded()
    assert (thing.seed, thing.psi, thing.other, thing.share) == (0, 0.0, SEEDS, 1.0)
    assert Lamp(9, -9, math.nan, 9).bounded() == Lamp(1.0, 0.0, -2.0, 2.0)


def test_a_walk_goes_from_the_object_to_the_other_seed(shaded: Generator) -> None:
    first, other = (shaded.code(shaded.latents(1, seed=seed, psi=0.7)) for seed in (3, 8))
    for share in (0.0, 0.25, 1.0):
        code = shaded.code(Thing(3, 0.7, 8, share).latents(shaded))
        torch.testing.assert_close(code, torch.lerp(first, other, share))


def test_lamps_are_lights() -> None:
    light = zoo.Light.of(0.3, 0.6, x=0.5, y=-0.7)
    assert Lamp.of(light) == Lamp(0.3, 0.6, 0.5, -0.7)
    torch.testing.assert_close(Lamp.of(light).light().params, light.params)
