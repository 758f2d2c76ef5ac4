"""GOF: field, root finding, sampling, compositing, priors, schedules and gradients against the published code."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from fields import (
    EXACT_ATOL,
    POINT_ATOL,
    POINT_RTOL,
    RENDER_ATOL,
    composited,
    draws,
    given,
    orbit,
    ready,
    shaped,
    sizes,
)
from recorded import Comparison, Part, Recorded, assert_covered, run_part
from torch import Tensor

from zoo.evaluation.depth.surface import weighted_variance
from zoo.generators import gof
from zoo.generators.base import Latents
from zoo.generators.gof import (
    GOF,
    GOFConfig,
    GOFSampling,
    growing_weight,
    normal_prior,
    opacity_prior,
    shrinking_interval,
    unit,
)
from zoo.geometry import Camera
from zoo.renderers.fields.surface import Crossing, find_surface, surface_distances
from zoo.renderers.fields.volume import RayMaps, Sampling, composite_weights, ray_distances

# ROOT: the root finder amplifies a rounding of the field by one over its slope.
ROOT_ATOL, NEAR, FAR = 1e-5, 0.88, 1.12
STEPS, SURFACE, FINE, REFINE, INTERVAL = 9, 6, 4, 4, 0.05  # of all renders in the file
SCHEDULES = {  # per optimiser step: interval from, to, decay; weight of the opacity prior, its growth
    "bfm": (0.12, 0.02, 3e-5, 0.1, 4e-5),
    "celeba": (0.12, 0.03, 1e-5, 0.05, 0.5e-5),
    "cats": (0.20, 0.10, 2e-5, 0.05, 1e-5),
}


def build(recorded: Recorded, **options: Any) -> GOF:
    weights = recorded.tensors("weights/")
    options |= sizes(weights)
    generator = GOF(GOFConfig(steps=STEPS, **options))
    ready(generator, weights, recorded)
    return generator


def sampling_of(case: str) -> Sampling:
    fine = FINE if "mid" in case or "rand" in case or "psi" in case else 0
    surface = 0 if "nosurf" in case else SURFACE
    return Sampling(STEPS, fine, last_back="lastback" in case, surface_steps=surface, interval=INTERVAL, refine=REFINE)


def image_side(recorded: Recorded) -> int:
    return recorded.arrays["out/surfonly_mask"].shape[-1]


def field(recorded: Recorded, c: Comparison) -> None:
    points, directions = recorded.tensor("in/points"), recorded.tensor("in/ray_directions")
    for name, box in {"siren_spatial": 0.24, "siren_tall": 0.0}.items():
        generator = build(recorded, box=box)
        code = generator.code(Latents(recorded.tensor("in/z")))
        out = generator.siren(points, code, directions, None, with_gradient=True)
        c.check(name, torch.cat([out.rgb, out.sigma], -1), atol=POINT_ATOL, rtol=POINT_RTOL)
        assert out.gradient is not None
        # Without a box the published code takes the gradient of the occupancy, not of its logit: another length.
        slope = 1.0 if box else (out.sigma.sigmoid() * (1 - out.sigma.sigmoid())).detach()
        c.check(f"{name}_normal", unit(out.gradient * slope), atol=2e-3)
        torch.testing.assert_close(generator.siren.sigma(points, code), out.sigma, atol=1e-6, rtol=1e-6)
    frequencies, phases = code.chunk(2, -1)
    c.check("frequencies", frequencies, atol=EXACT_ATOL)
    c.check("phase_shifts", phases, atol=EXACT_ATOL)


def compositing(recorded: Recorded, c: Comparison) -> None:
    rgb, sigma = recorded.tensor("in/comp_rgb_sigma").split([3, 1], -1)
    z = recorded.tensor("in/comp_z_vals")[..., 0]
    for name in recorded.outputs("comp_.*_rgb"):
        case = name.removeprefix("comp_").removesuffix("_rgb")
        kind = case.replace("occ", "occupancy").replace("density", "relu")
        maps, weights = composited(sigma, rgb, z, kind)
        c.check(name, maps.rgb, atol=EXACT_ATOL)
        c.check(f"comp_{case}_depth", maps.depth, atol=EXACT_ATOL)
        c.check(f"comp_{case}_depth_var", maps.depth_std.square(), atol=EXACT_ATOL)
        c.check(f"comp_{case}_weights", weights, atol=EXACT_ATOL)


def bisected(logits: Tensor, z: Tensor, evaluate: Callable[[Tensor], Tensor], steps: int, otherwise: float) -> Crossing:
    """`find_surface` by the published code's other rule, which halves the bracket; its slow twin."""
    found = find_surface(logits, z, evaluate, 0, otherwise).found
    first = (logits[..., :-1, 0] * logits[..., 1:, 0] < 0).int().argmax(-1, keepdim=True)
    low, high = z.gather(-1, first), z.gather(-1, first + 1)
    for _ in range(steps):
        middle = (low + high) / 2
        outside = evaluate(torch.where(found, middle, otherwise)).reshape_as(middle) < 0
        low, high = torch.where(outside, middle, low), torch.where(outside, high, middle)
    return Crossing(torch.where(found, (low + high) / 2, otherwise), found)


def root_finding(recorded: Recorded, c: Comparison) -> None:
    generator = build(recorded)
    code = generator.code(Latents(recorded.tensor("in/z")))
    origins, directions, _ = orbit(recorded.tensor("in/pose"), image_side(recorded)).rays()
    coarse = recorded.tensor("out/march_coarse_rgb_sigma")
    z = ray_distances(NEAR, FAR, coarse.shape[2], like=origins)
    points = (origins[:, :, None] + z[..., None] * directions[:, :, None]).flatten(1, 2)
    along = directions[:, :, None].expand(-1, -1, z.shape[-1], -1).flatten(1, 2)
    out = generator.siren(points, code, along, None)
    values = torch.cat([out.rgb, out.sigma], -1).view_as(coarse)
    c.check("march_coarse_rgb_sigma", values, atol=POINT_ATOL, rtol=POINT_RTOL)
    c.check("march_ray_origins", origins, atol=EXACT_ATOL)
    c.check("march_ray_directions", directions, atol=EXACT_ATOL)
    c.check("march_z_vals", z[..., None], atol=EXACT_ATOL)

    def search(tau: float, rule: Callable[..., Crossing], steps: int) -> Crossing:
        level = math.log(tau / (1 - tau))

        def evaluate(distance: Tensor) -> Tensor:
            return generator.siren.sigma(origins + distance * directions, code) - level

        return rule(coarse[..., 3:] - level, z, evaluate, steps, otherwise=1.0)

    for name in recorded.outputs("march_.*_depth"):
        case = name.removesuffix("_depth")
        named = re.fullmatch(r"march_(secant|bisection)(\d+)", case)
        rule = bisected if named and named[1] == "bisection" else find_surface
        steps = int(named[2]) if named else REFINE
        tau, interval = (0.3, 0.10) if "tau03_interval010" in case else (0.5, INTERVAL)
        crossing = search(tau, rule, steps)
        c.check(name, crossing.distance[..., 0], atol=ROOT_ATOL)
        if f"{case}_surface_z" in recorded.outputs():
            count = recorded.arrays[f"out/{case}_surface_z"].shape[2]
            around = surface_distances(crossing, interval, count, NEAR, FAR)
            c.check(f"{case}_surface_z", around[..., None], atol=ROOT_ATOL)
            c.check(f"{case}_mask", crossing.found[..., 0])


def renders(recorded: Recorded, c: Comparison) -> None:
    camera = orbit(recorded.tensor("in/pose"), image_side(recorded))
    for name in recorded.outputs(r"(?!fwd)\w+_imgs"):
        if name.endswith("_single_imgs"):
            continue
        case = name.removesuffix("_imgs")
        generator = build(recorded, lock_view="lockview" in case)
        latents = Latents(recorded.tensor("in/z"), 0.7 if "psi07" in case else 1.0)
        sampling = sampling_of(case)
        if sampling.surface_steps:
            with torch.no_grad(), given("zoo.generators.field", draws(recorded, case)) as kept:
                out = generator(latents, camera, sampling=sampling)
            maps, rgb = kept[0], out.rgb
            # Rays that meet nothing look at distance 1 in the published code.
            code = generator.code(latents)
            distance = hit(maps)
        else:
            with torch.no_grad():
                code = generator.code(latents)
                maps = generator.march(code, camera, sampling, with_gradient=False)
            rgb, distance = maps.rgb.mT.unflatten(2, (camera.size, -1)) * 2 - 1, maps.depth
        normal, colour = surface_values(generator, code, camera, distance)
        c.check(name, rgb, atol=RENDER_ATOL)
        check_rays(c, recorded, case, maps, normal, colour)


def hit(maps: RayMaps) -> Tensor:
    """Distance of the surface as published: 1 where a ray meets none."""
    surface, found = gof.crossing(maps)
    return torch.where(found, surface, 1.0)


def surface_values(generator: GOF, code: Tensor, camera: Camera, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normal and colour at distances along the rays."""
    origins, directions, _ = camera.rays()
    with torch.no_grad():
        out = generator.field(code, None, with_gradient=True)(origins + distance * directions, directions)
    assert out.gradient is not None
    return unit(out.gradient), out.rgb


def check_rays(c: Comparison, recorded: Recorded, case: str, maps: RayMaps, normal: Tensor, colour: Tensor) -> None:
    values = {
        "depth_map": maps.depth,
        "depth_var": maps.depth_std.square(),
        "surface_normals": normal / 2 + 0.5,
        "single_imgs": colour,  # 0 to 1
    }
    if maps.found is not None:
        values |= {"pred_depth": hit(maps), "mask": maps.found.float()}
    for name, value in values.items():
        if f"out/{case}_{name}" in recorded.arrays:
            # Where next to nothing is absorbed, the variance is a quotient of small numbers and large.
            rtol = 1e-3 if name == "depth_var" else 0.0
            value = shaped(value, recorded.arrays[f"out/{case}_{name}"].shape)
            c.check(f"{case}_{name}", value, atol=RENDER_ATOL, rtol=rtol)
    if f"out/{case}_occupancy" in recorded.arrays:
        assert maps.samples is not None
        logits = maps.samples[..., 3:]
        c.check(f"{case}_occupancy", logits.sigmoid()[..., 0], atol=RENDER_ATOL)
        weights = composite_weights(logits, logits[..., 0], clamp="occupancy")
        c.check(f"{case}_weights", weights, atol=RENDER_ATOL)


def training(recorded: Recorded) -> tuple[GOF, Any, RayMaps, Tensor]:
    """The recorded training pass: generator, render, ray maps, the pairs of normals."""
    generator = build(recorded, official_compat=True, normal_weight=0.05, normal_step=0.01).train()
    camera = orbit(recorded.tensor("in/pose"), image_side(recorded))
    directions = torch.nn.functional.normalize(recorded.tensor("in/fwd_u_normal_dirs") - 0.5, dim=-1)
    pairs: list[Tensor] = []

    def keep(normals: Tensor, compat: bool = False) -> Tensor:
        pairs.append(normals)
        return normal_prior(normals, compat)

    sampling = replace(GOFSampling.of(sampling_of("mid")), opacity_weight=0.05)
    with (
        given("zoo.generators.field", draws(recorded, "fwd")) as kept,
        mock.patch.object(gof, "random_directions", return_value=directions),
        mock.patch.object(gof, "normal_prior", keep),
    ):
        out = generator(Latents(recorded.tensor("in/z")), camera, sampling=sampling)
    return generator, out, kept[0], pairs[0]


def forward(recorded: Recorded, c: Comparison) -> None:
    generator, out, maps, pairs = training(recorded)
    camera = orbit(recorded.tensor("in/pose"), image_side(recorded))
    assert maps.samples is not None
    assert maps.found is not None
    c.check("fwd_imgs", out.rgb, atol=RENDER_ATOL)
    c.check("fwd_pos", camera.pose + math.pi / 2, atol=EXACT_ATOL)
    c.check("fwd_mask", maps.found[..., 0].float())
    c.check("fwd_pred_depth", hit(maps)[..., 0], atol=ROOT_ATOL)
    c.check("fwd_depth_map", maps.depth, atol=RENDER_ATOL)
    c.check("fwd_depth_var", maps.depth_std.square(), atol=RENDER_ATOL)
    c.check("fwd_occupancy", maps.samples[..., 3].sigmoid(), atol=RENDER_ATOL)
    c.check("fwd_opacprior", opacity_prior(maps.samples[..., 0].sigmoid()), atol=POINT_ATOL)
    c.check("fwd_normal_loss_official_indexing", normal_prior(pairs, official_compat=True), rtol=1e-2)
    c.check("fwd_normal_loss_intended", normal_prior(pairs), rtol=1e-2)
    directions = torch.nn.functional.normalize(recorded.tensor("in/fwd_u_normal_dirs") - 0.5, dim=-1)
    with mock.patch.object(gof, "random_directions", return_value=directions):
        code = generator.code(Latents(recorded.tensor("in/z")))
        normals = generator.normal_pairs(code, camera, hit(maps))
    c.check("fwd_pred_normals", normals, atol=2e-3)


def gradients(recorded: Recorded, c: Comparison) -> None:
    generator, out, _, _ = training(recorded)
    loss = (out.rgb * recorded.tensor("in/grad_image_weights")).mean() + sum(generator.regularisers(out).values())
    assert isinstance(loss, Tensor)
    c.check("grad_loss", loss, rtol=1e-2)
    parameters = dict(generator.named_parameters())
    names = [name.removeprefix("grad/") for name in recorded.outputs("grad/.*")]
    for name, gradient in zip(names, torch.autograd.grad(loss, [parameters[n] for n in names]), strict=True):
        c.check(f"grad/{name}", gradient, rtol=1e-2)


def variance(recorded: Recorded, c: Comparison) -> None:
    generator = build(recorded)
    camera = orbit(recorded.tensor("in/pose")[:1], image_side(recorded))
    latents = Latents(recorded.tensor("in/z")[:1])
    value = weighted_variance(generator, latents, camera, steps=36, clear=0.12 / 2)
    c.check("weighted_var_z0", value, rtol=1e-2)


def schedules(recorded: Recorded, c: Comparison) -> None:
    steps = recorded.arrays["in/sched_steps"].tolist()
    for name, (largest, smallest, decay, weight, growth) in SCHEDULES.items():
        intervals = [shrinking_interval(step, largest, smallest, decay) for step in steps]
        c.check(f"sched_{name}_interval", torch.tensor(intervals), atol=1e-6)
        weights = [growing_weight(step, weight, growth) for step in steps]
        c.check(f"sched_{name}_opac_lambda", torch.tensor(weights), atol=1e-6)


PARTS: dict[str, Part] = {
    "siren_.*|frequencies|phase_shifts": field,
    "comp_.*": compositing,
    "march_.*": root_finding,
    r"(surf|nosurf|surfonly|psi\d+)_?.*": renders,
    "fwd_.*": forward,
    "grad_loss|grad/.*": gradients,
    "weighted_var.*": variance,
    "sched_.*": schedules,
}


@pytest.fixture(scope="module")
def recorded(parity_file: Callable[[str], Path]) -> Recorded:
    return Recorded(parity_file("gof.npz"))


@pytest.mark.parametrize("pattern", PARTS, ids=lambda p: PARTS[p].__name__)
def test_gof(recorded: Recorded, pattern: str) -> None:
    run_part(recorded, pattern, PARTS[pattern])


def test_every_output_is_compared(recorded: Recorded) -> None:
    assert_covered(recorded, list(PARTS))
