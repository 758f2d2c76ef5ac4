"""Ray marching: how few samples it works with."""

import pickle
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import zoo
from zoo.errors import ConfigError
from zoo.registry import resolve
from zoo.renderers.fields import volume
from zoo.renderers.fields.volume import FieldOut, Sampling, render_rays


def haze(points: Tensor, directions: Tensor) -> FieldOut:
    return FieldOut(torch.full_like(points, 0.5), torch.full_like(points[..., :1], 3.0), None)


@pytest.mark.parametrize(("steps", "fine_steps"), [(2, 0), (3, 1), (3, 12)])
@pytest.mark.parametrize("random", [False, True])
def test_the_fewest_samples_give_finite_maps(steps: int, fine_steps: int, random: bool) -> None:
    origins, directions = torch.zeros(1, 4, 3), torch.tensor([0.0, 0, 1]).expand(1, 4, 3)
    maps = render_rays(haze, origins, directions, 0.9, 1.1, Sampling(steps, fine_steps, random))
    assert all(values.isfinite().all() for values in maps if values is not None)


@pytest.mark.parametrize(
    ("steps", "fine_steps", "message"),
    [
        (2, 1, "steps=2 with fine_steps=1: use steps of 3 or more"),
        (1, 0, "steps=1 with fine_steps=0: use steps of 2 or more"),
        (12, -1, "fine_steps=-1: use 0 or more"),
    ],
)
def test_fewer_are_refused(steps: int, fine_steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(steps, fine_steps)


@pytest.mark.parametrize("method", ["pigan", "shadegan", "gof", "graf"])
@pytest.mark.parametrize("setting", ["density_scale=nan", "density_scale=0", "noise_kimg=-1", "mesh_level=inf"])
def test_settings_that_render_nothing_are_refused(method: str, setting: str) -> None:
    key, _, value = setting.partition("=")
    with pytest.raises(ConfigError, match=rf"{key}={float(value)}: use a finite number"):
        zoo.build(method, **{key: float(value)})


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (0, 0, 3)])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(4, 4, random=True),
        Sampling(4, 4, noise_std=1.0, last_back=True, least_weight=1e-3),
        Sampling(4, 2, surface_steps=3, interval=0.1),
    ],
)
@pytest.mark.parametrize("recorded", [False, True])
def test_no_objects_and_no_rays_are_rendered(shape: tuple[int, ...], sampling: Sampling, recorded: bool) -> None:
    def field(points: Tensor, directions: Tensor, counts: list[int] | None = None) -> FieldOut:
        return haze(points, directions)._replace(gradient=torch.ones_like(points))

    with torch.set_grad_enabled(recorded):
        maps = render_rays(
            field, torch.zeros(shape), torch.zeros(shape), 0.9, 1.1, sampling, density=lambda p: p[..., :1] + 3
        )
    assert maps.rgb.shape == shape
    assert maps.gradient is not None
    assert maps.gradient.shape == shape
    assert maps.depth.shape == (*shape[:2], 1)


def test_surfaces_of_no_objects_are_painted() -> None:
    cls = resolve("gof")
    generator = cls(cls.tiny()).eval()
    code, camera = generator.code(generator.latents(1))[:0], generator.cameras(1, size=4)[:0]
    sampling = generator.inference()
    maps = generator.march(code, camera, sampling)
    painted = generator.paint_surface(code, camera, generator.lights(1)[:0], maps, sampling, 0.0)
    assert [value.shape for value in painted] == [(0, 16, 3)] * 2


def test_depth_of_rays_that_end_opaque_is_their_published_sum() -> None:
    """pi-GAN's: the last sample counts by the light that is left, and nothing is divided by less than all weights."""
    kind = resolve("pigan")
    generator = kind(kind.tiny()).eval()

    def haze_ball(points: Tensor, *_: Any) -> Tensor:
        return 0.3 * (points.norm(dim=-1, keepdim=True) < 0.07)

    generator._sigma = haze_ball
    generator._query = lambda points, *_: FieldOut(torch.ones_like(points), haze_ball(points), None)
    latents, camera, found = generator.latents(1), generator.camera(size=12), []
    for last_back in (False, True):
        generator.config = replace(generator.config, last_back=last_back)
        with torch.no_grad():
            found.append(generator(latents, camera))
    opacity, plain, filled = found[0].mask, found[0].aux["ray_distance"], found[1].aux["ray_distance"]
    expected = opacity * plain + (1 - opacity) * generator.scene.far
    thin = (opacity > 0.1) & (opacity < 0.9)
    assert thin.any()
    torch.testing.assert_close(filled[thin], expected[thin], atol=1e-4, rtol=0)
    assert (filled <= generator.scene.far + 1e-5).all()


# ---------------------------------------------------------------- density first


@pytest.mark.parametrize("name", ["pigan", "shadegan", "gof"])
def test_density_first_gives_the_same_picture(name: str) -> None:
    torch.manual_seed(0)
    cls = resolve(name)
    generator = cls(replace(cls.tiny(), density_scale=300, outward_init=True)).eval()
    generator.initialise()
    latents, camera = generator.latents(3, seed=1), generator.cameras(3, seed=2, size=12)
    thrifty = generator.inference()
    assert thrifty.least_weight > 0
    with torch.no_grad():
        quick = generator(latents, camera, sampling=thrifty)
        full = generator(latents, camera, sampling=replace(thrifty, least_weight=0.0))
    error = (quick.rgb - full.rgb).square().mean() / 4
    assert -10 * torch.log10(error + 1e-12) > 50
    assert torch.allclose(quick.depth, full.depth, atol=1e-4)
    assert quick.normal is not None
    assert full.normal is not None
    assert torch.allclose(quick.normal, full.normal, atol=0.02)


def test_density_first_colours_only_what_counts() -> None:
    asked: list[int] = []

    def density(points: Tensor) -> Tensor:
        return 1e4 * (points.norm(dim=-1, keepdim=True) < 0.1)

    def field(points: Tensor, directions: Tensor, counts: list[int]) -> FieldOut:
        asked.extend(counts)
        return FieldOut(torch.ones_like(points), density(points), None)

    origins = torch.tensor([[[0.0, 0.0, 1.0], [0.5, 0.0, 1.0]]])  # one ray hits the ball, one misses it
    directions = torch.tensor([[[0.0, 0.0, -1.0]]]).expand(1, 2, 3)
    sampling = Sampling(steps=24, least_weight=1e-4)
    with torch.no_grad():
        maps = render_rays(field, origins, directions, 0.8, 1.2, sampling, density=density)
    assert sum(asked) == 1  # the first sample in the ball hides the others
    assert torch.allclose(maps.rgb[0, :, 0], torch.tensor([1.0, 0.0]), atol=1e-4)


def test_density_first_without_anything_to_colour() -> None:
    def field(points: Tensor, directions: Tensor, counts: list[int]) -> FieldOut:
        return FieldOut(torch.ones_like(points), torch.zeros_like(points[..., :1]), torch.ones_like(points))

    rays = torch.zeros(2, 3, 3), torch.tensor([[[0.0, 0.0, -1.0]]]).expand(2, 3, 3)
    with torch.no_grad():
        maps = render_rays(
            field, *rays, 0.8, 1.2, Sampling(4, least_weight=1e-4), density=lambda p: torch.zeros_like(p[..., :1])
        )
    assert not maps.rgb.any()
    assert maps.gradient is not None
    assert not maps.gradient.any()


@pytest.mark.parametrize("name", ["pigan", "shadegan"])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_training_leaves_out_only_samples_without_gradients(name: str, noise: float) -> None:
    torch.manual_seed(0)
    cls = resolve(name)
    generator = cls(replace(cls.tiny(), density_scale=300, fine_steps=6, outward_init=True)).train()
    generator.initialise()
    latents, camera = generator.latents(2, seed=1), generator.cameras(2, seed=2, size=8)
    wanted = torch.rand(2, 3, 8, 8)

    def gradients(least: float) -> Tensor:
        sampling = replace(generator.schedule(0.0), least_weight=least, noise_std=noise)
        torch.manual_seed(3)
        (generator(latents, camera, sampling=sampling).rgb - wanted).square().mean().backward()
        out = torch.cat([p.grad.flatten() for p in generator.parameters() if p.grad is not None])
        generator.zero_grad()
        return out

    quick, full = gradients(generator.schedule(0.0).least_weight), gradients(0.0)
    assert (quick - full).norm() <= 1e-3 * full.norm()


def test_training_looks_where_light_comes_and_something_is() -> None:
    asked: list[int] = []

    def density(points: Tensor) -> Tensor:
        return 2e3 * (0.1 - points.norm(dim=-1, keepdim=True))

    def field(points: Tensor, directions: Tensor, counts: list[int]) -> FieldOut:
        asked.extend(counts)
        return FieldOut(torch.ones_like(points), density(points), None)

    origins = torch.tensor([[[0.0, 0.0, 1.0], [0.5, 0.0, 1.0]]]).requires_grad_()
    directions = torch.tensor([[[0.0, 0.0, -1.0]]]).expand(1, 2, 3)
    maps = render_rays(field, origins, directions, 0.8, 1.2, Sampling(96, least_weight=1e-4), density=density)
    maps.rgb.sum().backward()
    assert 0 < sum(asked) < 30  # of 192


@pytest.mark.parametrize("name", ["pigan", "shadegan", "gof"])
@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode])
def test_parts_of_a_picture_are_the_same_on_any_number_of_threads(
    name: str, without_gradients: Callable[[], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    cls = resolve(name)
    g = cls(replace(cls.tiny(), density_scale=300, outward_init=True)).eval()
    g.initialise()
    latents, camera = g.latents(2, seed=0), g.cameras(2, seed=0, size=12)
    random = replace(g.inference(), random=True, noise_std=0.5)
    torch.manual_seed(0)
    with torch.no_grad():
        whole, noisy_whole = g(latents, camera), g(latents, camera, sampling=random)
    monkeypatch.setattr(volume, "_CHUNK_ELEMENTS", 2048)
    threads = set[str]()
    march = volume._march

    def watched(*args: Any) -> volume.RayMaps:
        threads.add(threading.current_thread().name)
        assert not torch.is_grad_enabled()
        return march(*args)

    monkeypatch.setattr(volume, "_march", watched)
    before, found = torch.get_num_threads(), []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            threads.clear()
            with without_gradients():
                out = g(latents, camera)
                assert (threads == {"MainThread"}) == (n == 1)
                threads.clear()
                torch.manual_seed(0)
                noisy = g(latents, camera, sampling=random)
                assert (threads == {"MainThread"}) == (n == 1)
            found.append((out, noisy))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        for key in ("rgb", "depth", "normal", "mask"):
            assert torch.equal(getattr(one, key), getattr(two, key)), key
    for one, picture in zip(found[0], (whole, noisy_whole), strict=True):  # one chunk draws the same numbers, too
        assert torch.allclose(one.rgb, picture.rgb, atol=1e-5)
        assert torch.allclose(one.depth, picture.depth, atol=1e-5)


@pytest.mark.parametrize("recorded", [False, True])
def test_no_training_render_counts_samples_where_that_would_wait(
    recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume, "counts_freely", lambda device: False)
    monkeypatch.setattr(volume, "_coloured", lambda *_: pytest.fail("samples were counted"))

    def field(points: Tensor, directions: Tensor, counts: list[int] | None = None) -> FieldOut:
        return haze(points, directions)

    rays = torch.zeros(1, 4, 3), torch.tensor([0.0, 0, 1]).expand(1, 4, 3)
    with torch.set_grad_enabled(recorded):
        render_rays(
            field, *rays, 0.9, 1.1, Sampling(6, random=True, least_weight=1e-3), density=lambda p: p[..., :1] + 3
        )


def test_a_field_without_counts_is_asked_for_everything() -> None:
    origins, directions = torch.zeros(1, 4, 3), torch.tensor([0.0, 0, 1]).expand(1, 4, 3)
    maps = [
        render_rays(haze, origins, directions, 0.9, 1.1, Sampling(6, least_weight=least), density=lambda p: p[..., :1])
        for least in (0.0, 0.5)
    ]
    assert torch.equal(maps[0].rgb, maps[1].rgb)


def test_copies_of_a_compiled_field_have_weights_of_their_own() -> None:
    generator = resolve("pigan")(resolve("pigan").tiny())
    generator.compile_field()
    assert deepcopy(generator).siren.plain.__self__ is not generator.siren
    pickle.dumps(generator)
