"""pi-GAN: field, cameras, sampling, compositing, renders and gradients against the published code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fields import (
    EXACT_ATOL,
    POINT_ATOL,
    POINT_RTOL,
    RENDER_ATOL,
    check_gradients,
    composited,
    draws,
    given,
    orbit,
    ready,
    sizes,
)
from recorded import Comparison, Part, Recorded, assert_covered, run_part
from torch import Tensor

from zoo.config.schemas import SceneConfig
from zoo.generators.base import Latents
from zoo.generators.field import FieldConfig, to_image
from zoo.generators.pigan import PiGAN
from zoo.geometry import Camera
from zoo.renderers.fields.volume import Sampling, ray_distances, sample_pdf


def build(recorded: Recorded, **options: Any) -> PiGAN:
    weights = recorded.tensors("weights/")
    args = recorded.meta("render_args")
    scene = SceneConfig(fov=args["fov"], near=args["ray_start"], far=args["ray_end"])
    scene.white_back = options.pop("white_back", False)
    return ready(PiGAN(FieldConfig(**sizes(weights), scene=scene, **options)), weights, recorded)


def field(recorded: Recorded, c: Comparison) -> None:
    points, directions = recorded.tensor("in/points"), recorded.tensor("in/ray_directions")
    for name, box in {"siren_spatial": FieldConfig.box, "siren_tall": 0.0}.items():
        generator = build(recorded, box=box)
        code = generator.code(Latents(recorded.tensor("in/z")))
        out = generator.siren(points, code, directions, None)
        c.check(name, torch.cat([out.rgb, out.sigma], -1), atol=POINT_ATOL, rtol=POINT_RTOL)
    frequencies, phases = code.chunk(2, -1)
    c.check("frequencies", frequencies, atol=EXACT_ATOL)
    c.check("phase_shifts", phases, atol=EXACT_ATOL)


def cameras(recorded: Recorded, c: Comparison) -> None:
    poses = torch.cat([recorded.tensor("in/cam_pitch"), recorded.tensor("in/cam_yaw")], -1)
    camera = orbit(poses, size=2)
    c.check("cam_origin", camera.cam2world[:, :3, 3], atol=EXACT_ATOL)
    c.check("cam2world", camera.cam2world, atol=EXACT_ATOL)
    c.check("world2cam", torch.linalg.inv(camera.cam2world), atol=EXACT_ATOL)


def rays(recorded: Recorded, c: Comparison) -> None:
    _, n, steps, _ = recorded.arrays["out/rays_z_vals"].shape
    args = recorded.meta("render_args")
    directions = Camera.orbit(fov=args["fov"], size=round(n**0.5)).pixel_grid()[None]
    z = ray_distances(args["ray_start"], args["ray_end"], steps, like=directions)[..., None]
    c.check("rays_d_cam", directions, atol=EXACT_ATOL)
    c.check("rays_z_vals", z, atol=EXACT_ATOL)
    c.check("rays_points_cam", directions[:, :, None] * z, atol=EXACT_ATOL)


def compositing(recorded: Recorded, c: Comparison) -> None:
    rgb, sigma = recorded.tensor("in/comp_rgb_sigma").split([3, 1], -1)
    z = recorded.tensor("in/comp_z_vals")[..., 0]
    for name in recorded.outputs("comp_.*_rgb"):
        case = name.removeprefix("comp_").removesuffix("_rgb")
        maps, weights = composited(sigma, rgb, z, case)
        shown = {
            "whiteback": maps.rgb + 1 - maps.opacity,
            "weightfill": maps.opacity.expand_as(maps.rgb),
        }.get(case.rpartition("_")[2], maps.rgb)
        c.check(name, shown, atol=EXACT_ATOL)
        c.check(f"comp_{case}_depth", maps.distance, atol=EXACT_ATOL)
        c.check(f"comp_{case}_weights", weights, atol=EXACT_ATOL)


def inverse_cdf(recorded: Recorded, c: Comparison) -> None:
    bins, weights, u = (recorded.tensor(f"in/pdf_{name}") for name in ("bins", "weights", "u"))
    c.check("pdf_u", sample_pdf(bins, weights, u), atol=EXACT_ATOL)
    even = torch.linspace(0, 1, recorded.arrays["out/pdf_det"].shape[-1]).expand(len(bins), -1)
    c.check("pdf_det", sample_pdf(bins, weights, even), atol=EXACT_ATOL)


def pose(recorded: Recorded) -> Tensor:
    return torch.cat([recorded.tensor("in/render_pitch"), recorded.tensor("in/render_yaw")], -1)


def renders(recorded: Recorded, c: Comparison) -> None:
    args = recorded.meta("render_args")
    camera = orbit(pose(recorded), args["img_size"], args["fov"])
    for name in recorded.outputs("render_.*_rgb"):
        case = name.removesuffix("_rgb")
        psi = float(f"{case[-2]}.{case[-1]}") if "psi" in case else 1.0
        numbers = draws(recorded, case)
        steps = args["num_steps"]
        sampling = Sampling(
            steps,
            fine_steps=steps if "hier" in case else 0,
            last_back="lastback" in case or case == "render_hier_rand",
        )
        generator = build(recorded, lock_view="lockview" in case, white_back="whiteback" in case)
        with torch.no_grad(), given("zoo.generators.field", numbers):
            latents = Latents(recorded.tensor("in/z"), psi)
            out = generator(latents, camera, sampling=sampling)
            maps = generator.march(generator.code(latents), camera, sampling, with_gradient=False)
        c.check(name, out.rgb, atol=RENDER_ATOL)
        c.check(f"{case}_depth", to_image(maps.distance, camera.size)[:, 0], atol=RENDER_ATOL)


def pose_order(recorded: Recorded, c: Comparison) -> None:
    camera = orbit(pose(recorded), size=2)
    c.check("forward_pose", camera.pose + torch.pi / 2, atol=EXACT_ATOL)


def gradients(recorded: Recorded, c: Comparison) -> None:
    args = recorded.meta("render_args")
    generator = build(recorded).train()
    camera = orbit(pose(recorded), args["img_size"], args["fov"])
    out = generator(Latents(recorded.tensor("in/z")), camera, sampling=Sampling(args["num_steps"]))
    check_gradients(c, recorded, generator, out.rgb)


PARTS: dict[str, Part] = {
    "siren_.*|frequencies|phase_shifts": field,
    "cam.*|world2cam": cameras,
    "rays_.*": rays,
    "comp_.*": compositing,
    "pdf_.*": inverse_cdf,
    "render_.*": renders,
    "forward_pose": pose_order,
    "grad_loss|grad/.*": gradients,
}


@pytest.fixture(scope="module")
def recorded(parity_file: Callable[[str], Path]) -> Recorded:
    return Recorded(parity_file("pigan.npz"))


@pytest.mark.parametrize("pattern", PARTS, ids=lambda p: PARTS[p].__name__)
def test_pigan(recorded: Recorded, pattern: str) -> None:
    run_part(recorded, pattern, PARTS[pattern])


def test_every_output_is_compared(recorded: Recorded) -> None:
    assert_covered(recorded, list(PARTS))
