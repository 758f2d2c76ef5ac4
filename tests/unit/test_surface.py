"""Root finding along rays against spheres, sampling around the surface, and how surface-like a field is."""

import math
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

import zoo
from zoo.config.schemas import SceneConfig
from zoo.errors import ConfigError
from zoo.evaluation.depth.surface import surface_figures, weighted_variance
from zoo.generators import gof
from zoo.generators.base import Latents
from zoo.generators.gof import GOF, GOFConfig, normal_prior, opacity_prior, shrinking_interval
from zoo.geometry import Camera, Light
from zoo.renderers.fields.surface import Crossing, find_surface, surface_distances
from zoo.renderers.fields.volume import FieldOut, Sampling

RADIUS = 0.07


def sphere(points: Tensor) -> Tensor:
    """Positive inside."""
    return RADIUS - points.norm(dim=-1, keepdim=True)


def search(steps: int, size: int = 9) -> tuple[Crossing, Tensor, Tensor]:
    """Where rays meet the sphere as found, and as geometry says: distance and whether there is one."""
    origins, directions, _ = Camera.orbit(0.3, 0.2, size=size).rays()
    z = torch.linspace(0.88, 1.12, 12).expand(1, size**2, 12)

    def evaluate(distance: Tensor) -> Tensor:
        return sphere(origins + distance * directions)

    logits = sphere(origins[:, :, None] + z[..., None] * directions[:, :, None])
    found = find_surface(logits, z, evaluate, steps, otherwise=1.0)
    along = -(origins * directions).sum(-1, keepdim=True)
    beside = origins.square().sum(-1, keepdim=True) - along.square()
    true = along - (RADIUS**2 - beside).clamp_min(0).sqrt()
    return found, true, beside < RADIUS**2


def test_spheres_are_met_where_they_are() -> None:
    found, true, exists = search(4)
    # A ray may graze the sphere between two samples; none is found where there is none.
    assert not (found.found & ~exists).any()
    assert found.found.sum() > 0.8 * exists.sum() > 10
    assert (found.distance - true)[found.found].abs().max() < 1e-5
    assert (found.distance[~found.found] == 1).all()


def test_more_steps_come_closer() -> None:
    errors = []
    for steps in (0, 1, 2):
        found, true, _ = search(steps)
        errors.append((found.distance - true)[found.found].abs().max().item())
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-1.0, -1.0, 1.0, -1.0], 1.5),  # enters halfway between samples 1 and 2
        ([1.0, 1.0, -1.0, 1.0], None),  # starts inside
        ([-1.0, -1.0, -1.0, -1.0], None),  # passes by
        ([-1.0, 1.0, -1.0, 1.0], 0.5),  # the first of two
        ([0.0, 1.0, -1.0, -1.0], None),  # starts on the surface: only leaves
    ],
)
def test_only_entering_counts(values: list[float], expected: float | None) -> None:
    z = torch.arange(4.0).view(1, 1, 4)
    crossing = find_surface(torch.tensor(values).view(1, 1, 4, 1), z, lambda d: d * 0, steps=0, otherwise=-7.0)
    assert crossing.found.item() == (expected is not None)
    assert crossing.distance.item() == (-7.0 if expected is None else expected)


def test_samples_stay_within_the_scene() -> None:
    crossing = Crossing(
        torch.tensor([0.89, 1.0, 1.1, 1.0]).view(1, 4, 1), torch.tensor([1, 1, 1, 0]).bool().view(1, 4, 1)
    )
    z = surface_distances(crossing, 0.05, 3, 0.88, 1.12)
    expected = torch.tensor([[0.88, 0.93, 0.98], [0.95, 1.0, 1.05], [1.02, 1.07, 1.12], [0.88, 1.0, 1.12]])
    torch.testing.assert_close(z[0], expected)
    wide = surface_distances(crossing, 0.3, 3, 0.88, 1.12)  # wider than the scene
    torch.testing.assert_close(wide[0], torch.tensor([0.88, 1.0, 1.12]).expand(4, 3))


def ball(sharpness: float, **options: Any) -> GOF:
    """A GOF whose field is a ball, its edge as sharp as asked for."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of the colours
        generator = GOF(replace(GOF.tiny(), density_scale=sharpness, inference_steps=24, **options)).eval()
    generator._sigma = lambda points, _: sphere(points)
    own = generator._query

    def query(points: Tensor, *args: Any) -> FieldOut:
        out = own(points, *args)
        gradient = None if out.gradient is None else -points / points.norm(dim=-1, keepdim=True)
        return out._replace(sigma=sphere(points), gradient=gradient)

    generator._query = query
    return generator


def test_sharper_surfaces_have_less_variance_and_render_alike() -> None:
    camera, latents = Camera.orbit(size=16), Latents(torch.zeros(1, 8))
    soft, sharp = ball(300), ball(3000)
    spread = [weighted_variance(g, latents, camera).item() for g in (soft, sharp)]
    assert spread[0] > 1.5 * spread[1] > 0
    cleared = weighted_variance(soft, latents, camera, clear=0.005).item()
    assert 0 < cleared < spread[0]
    figures = [surface_figures(g, 2, 16) for g in (soft, sharp)]
    assert figures[1]["psnr"] > figures[0]["psnr"] > 10
    render = sharp(sharp.latents(1, 0, psi=0.7), sharp.cameras(1, 1, 16))
    met = render.aux["found"].expand_as(render.rgb) > 0  # black on black would flatter
    error = (render.rgb - render.aux["surface_rgb"])[met] / 2  # of colours from 0 to 1
    psnr = surface_figures(sharp, 1, 16)["psnr"]
    assert psnr == pytest.approx(10 * math.log10(1 / error.square().mean().item()), abs=1e-3)


def test_the_background_is_not_compared() -> None:
    """The last sample of a volume rendering fills the background; a surface leaves it black."""
    filled, plain = ball(3000), ball(3000)
    filled.config = replace(filled.config, last_back=True)
    assert surface_figures(filled, 1, 16)["psnr"] == pytest.approx(surface_figures(plain, 1, 16)["psnr"], abs=2)


def test_the_surface_is_the_depth_and_has_the_normal() -> None:
    size = 17
    render = ball(3000)(Latents(torch.zeros(1, 8)), Camera.orbit(size=size))
    assert render.depth is not None
    assert render.normal is not None
    middle = size // 2
    assert abs(render.depth[0, 0, middle, middle].item() - (1 - RADIUS)) < 1e-4
    torch.testing.assert_close(render.normal[0, :, middle, middle], torch.tensor([0.0, 0.0, 1.0]), atol=1e-4, rtol=0)
    assert render.aux["found"][0, 0, middle, middle] == 1
    assert render.aux["found"][0, 0, 0, 0] == 0


def test_the_surface_alone_looks_like_the_volume() -> None:
    """Under a light, with its own background, and in parts as a whole."""
    latents, camera = Latents(torch.zeros(2, 8)), Camera.orbit(torch.tensor([0.3, -0.2]), size=12)
    generator = ball(3000, shading=True)
    light = Light.of(0.2, 0.8, x=1.0)
    render = generator(latents, camera, light)
    surface = render.aux["surface_rgb"]
    middle = (slice(None), slice(None), slice(5, 7), slice(5, 7))
    torch.testing.assert_close(surface[middle], render.rgb[middle], atol=0.02, rtol=0)
    assert render.albedo is not None
    assert (render.albedo[middle] - surface[middle]).abs().max() > 0.1
    assert (surface[:, :, 0, 0] == -1).all()
    with mock.patch.object(gof, "_POINTS", 2 * 7):  # seven rays at a time
        parts = generator(latents, camera, light)
    torch.testing.assert_close(parts.aux["surface_rgb"], surface, atol=1e-6, rtol=1e-5)
    assert parts.normal is not None
    torch.testing.assert_close(parts.normal, render.normal, atol=1e-6, rtol=1e-5)
    white = ball(3000, scene=SceneConfig(white_back=True))(latents, camera)
    assert (white.aux["surface_rgb"][:, :, 0, 0] == 1).all()
    assert (white.rgb[:, :, 0, 0] > 0.98).all()


def test_the_opacity_prior_acts_on_opacity_alone() -> None:
    """As the paper says; the published code's reading is compared with its own values elsewhere."""
    generator = GOF(GOF.tiny()).train()
    render = generator(generator.latents(1), generator.camera(size=8), sampling=generator.schedule(0.0))
    render.aux["opacity_prior"].backward()
    learns = {name: p.grad is not None and bool(p.grad.any()) for name, p in generator.siren.named_parameters()}
    assert learns["final_layer.weight"]
    assert not learns["color_layer_linear.0.weight"]


def test_schedules_reach_the_sampling() -> None:
    config = replace(GOF.tiny(), interval_max=0.1, interval_min=0.02, interval_decay=0.1, opacity_growth=0.2)
    generator = GOF(config)
    first, later, last = (generator.schedule(kimg) for kimg in (0.0, 10.0, 1000.0))
    assert [first.interval, last.interval, generator.inference().interval] == [0.1, 0.02, 0.02]
    assert later.interval == pytest.approx(0.1 / math.e)
    assert [s.opacity_weight for s in (first, later, last)] == pytest.approx([0.05, 0.05 * math.e**2, 0.5])


def test_occupancy_is_what_a_mesh_is_a_level_of() -> None:
    generator = ball(3000)
    volume = generator.density(Latents(torch.zeros(1, 8)), 24, side=0.3)
    assert volume.min() >= 0
    assert volume.max() == 1
    share = (volume > generator.config.mesh_level).double().mean().item()
    assert share == pytest.approx(4 / 3 * math.pi * RADIUS**3 / 0.3**3, rel=0.15)
    edge = sphere(torch.tensor([[0.0, 0.0, RADIUS + 0.001]]))
    assert generator.activated(edge).item() == pytest.approx(1 / (1 + math.exp(3)), rel=1e-3)


def test_sampling_without_a_surface_is_refused() -> None:
    generator = GOF(GOF.tiny()).eval()
    with pytest.raises(ValueError, match="surface_steps of 2 or more"):
        generator(generator.latents(1), generator.camera(size=8), sampling=Sampling(12))


def test_shading_and_tracking_are_switches() -> None:
    generator = GOF(
        replace(GOF.tiny(), shading=True, light_condition=True, surface_tracking=True, surface_size=32)
    ).train()
    assert generator.uses_light
    latents, camera = generator.latents(2), generator.camera(size=8)
    render = generator(latents, camera, generator.lights(2), generator.schedule(1000.0))
    losses = generator.regularisers(render)
    assert set(losses) == {"opacity_prior", "normal_prior", "surface"}
    assert render.albedo is not None
    sum(losses.values(), render.rgb.mean()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in generator.siren.parameters())
    assert not zoo.build("gof", z_dim=8, hidden_dim=16, layers=2, mapping_dim=16).uses_light


def test_pictures_for_the_discriminator_alone_have_no_priors_and_draw_the_same_numbers() -> None:
    generator = GOF(GOF.tiny()).train()
    latents, camera = generator.latents(2), generator.camera(size=8)
    after: list[Tensor] = []
    looked = mock.patch.object(generator, "normal_pairs", wraps=generator.normal_pairs)
    for recorded in (True, False):
        torch.manual_seed(0)
        with torch.set_grad_enabled(recorded), looked as pairs:
            render = generator(latents, camera, sampling=generator.schedule(0.0))
        assert pairs.called == recorded
        assert set(generator.regularisers(render)) == ({"opacity_prior", "normal_prior"} if recorded else set())
        after.append(torch.get_rng_state())
    assert torch.equal(*after)


def test_priors_are_least_where_they_should_be() -> None:
    assert abs(opacity_prior(torch.tensor([0.0, 1.0])).item()) < 1e-4
    assert opacity_prior(torch.tensor(0.5)).item() == pytest.approx(2 * math.log(0.6) + 2.20727)
    same = torch.nn.functional.normalize(torch.randn(5, 1, 3), dim=-1).expand(5, 2, 3)
    assert normal_prior(same) == 0
    assert normal_prior(same[:0]) == 0
    assert normal_prior(torch.stack([same[:, 0], -same[:, 0]], 1)).item() == pytest.approx(4 / 3)


def test_the_interval_shrinks_to_its_least() -> None:
    widths = [shrinking_interval(t, 0.12, 0.02, 0.1) for t in (0.0, 5.0, 10.0, 100.0)]
    assert widths[0] == 0.12
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == 0.02


@pytest.mark.parametrize(
    "values",
    [
        {"surface_steps": 1},
        {"refine_steps": -1},
        {"interval_min": 0.2},
        {"interval_min": 0.0},
        {"interval_max": math.inf},
        {"interval_decay": -1.0},
        {"opacity_weight": math.nan},
        {"opacity_growth": -1.0},
        {"normal_weight": -1.0},
        {"normal_step": math.inf},
    ],
)
def test_settings_that_cannot_work_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(values))}.*use"):
        GOFConfig(**values)  # type: ignore[arg-type]
