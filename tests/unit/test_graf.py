"""GRAF: encoding, published keys and frame, closed-form normals, patches of rendered and of real images."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from zoo.config import recipes
from zoo.config.fill import to_dict
from zoo.errors import ConfigError
from zoo.generators.graf import GRAF, GRAFConfig, Patch, PatchSampling
from zoo.networks.discriminators import build_discriminator
from zoo.networks.nerf_mlp import NeRFMLP, positional_encoding
from zoo.renderers.fields.volume import Sampling


def build(**changes: Any) -> GRAF:
    torch.manual_seed(0)
    generator = GRAF(replace(GRAF.tiny(), **changes)).eval().requires_grad_(False)
    torch.nn.init.constant_(generator.nerf.alpha_linear.bias, 0.3)  # something to see
    return generator


def naive_encoding(point: list[float], frequencies: int) -> list[float]:
    out = list(point)
    for k in range(frequencies):
        out += [math.sin(2**k * v) for v in point] + [math.cos(2**k * v) for v in point]
    return out


@pytest.mark.parametrize("frequencies", [0, 1, 10])
def test_positional_encoding_equals_its_definition(frequencies: int) -> None:
    points = torch.randn(5, 3, dtype=torch.float64)
    expected = torch.tensor([naive_encoding(p, frequencies) for p in points.tolist()], dtype=torch.float64)
    assert torch.allclose(positional_encoding(points, frequencies), expected, atol=1e-12)


def test_default_network_has_the_published_keys() -> None:
    shapes = {
        "pts_linears.0": (256, 191),
        **{f"pts_linears.{i}": (256, 447 if i == 5 else 256) for i in range(1, 8)},
        "views_linears.0": (128, 411),
        "feature_linear": (256, 256),
        "alpha_linear": (1, 256),
        "rgb_linear": (3, 128),
    }
    expected = [(f"{name}.{end}", shape[: 2 if end == "weight" else 1]) for name, shape in shapes.items() for end in
                ("weight", "bias")]  # fmt: skip
    with torch.device("meta"):
        own = GRAF(GRAFConfig()).nerf.state_dict()
    assert [(key, tuple(value.shape)) for key, value in own.items()] == expected


def test_published_discriminator_keys() -> None:
    shapes = {0: (128, 3, 4, 4), 3: (256, 128, 4, 4), 6: (512, 256, 4, 4), 9: (1, 512, 4, 4)}
    own = {key: tuple(value.shape) for key, value in build_discriminator("patch").state_dict().items()}
    expected: dict[str, tuple[int, ...]] = {}
    for i, (o, c, h, w) in shapes.items():
        expected[f"main.{i}.weight_orig"] = (o, c, h, w)
        expected |= {f"main.{i}.weight_u": (o,), f"main.{i}.weight_v": (c * h * w,)}
    assert own == expected


def naive_field(net: NeRFMLP, point: np.ndarray, direction: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, float]:
    """The published field at one point, both in its own frame: colour and raw density."""
    w = {key: value.double().numpy() for key, value in net.state_dict().items()}
    shape, appearance = np.split(z, [net.code_dims[0]])
    entry = np.concatenate([naive_encoding(point.tolist(), net.frequencies), shape])
    h = entry
    for i in range(len(net.pts_linears)):
        h = np.maximum(w[f"pts_linears.{i}.weight"] @ h + w[f"pts_linears.{i}.bias"], 0)
        if i == net.skip and i + 1 < len(net.pts_linears):
            h = np.concatenate([entry, h])
    sigma = w["alpha_linear.weight"] @ h + w["alpha_linear.bias"]
    feature = w["feature_linear.weight"] @ h + w["feature_linear.bias"]
    seen = np.concatenate([feature, naive_encoding(direction.tolist(), net.view_frequencies), appearance])
    hidden = np.maximum(w["views_linears.0.weight"] @ seen + w["views_linears.0.bias"], 0)
    return 1 / (1 + np.exp(-(w["rgb_linear.weight"] @ hidden + w["rgb_linear.bias"]))), float(sigma[0])


@pytest.mark.parametrize("skip", [0, 1, 4])
def test_rendering_equals_the_published_way(skip: int) -> None:
    """Camera 10 away in a z-up frame, rays of one unit along the optical axis through (i - W/2) / f: one pixel at a
    time, in float64."""
    size, steps, u, v = 5, 6, 0.17, 0.41
    g = build(density_scale=10, skip=skip)
    theta, phi = 2 * math.pi * u, math.acos(1 - 2 * v)
    latents = g.latents(1, seed=3)
    camera = g.camera(math.pi / 4 - theta, phi - math.pi / 2, size)
    corner = Patch(size, torch.tensor([1 - 1 / size]), torch.full((1, 2), -1 / size))  # its pixels: -1, .., 1 - 2 / W
    origins, directions, cosine = camera.rays(corner.places())
    maps_rays = (origins, directions / cosine[..., None])
    g.rays = lambda camera, sampling: maps_rays  # type: ignore[method-assign]
    out = g(latents, camera, sampling=Sampling(steps))

    origin = 10 * np.array([math.sin(phi) * math.cos(theta), math.sin(phi) * math.sin(theta), math.cos(phi)])
    back, z = origin / 10, latents.z[0].double().numpy()
    right = np.cross([0, 0, 1], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    focal = size / 2 / math.tan(math.radians(g.scene.fov) / 2)
    for i, j in [(0, 0), (2, 2), (4, 1), (1, 3)]:  # column, row
        ray = right * (i - size / 2) / focal - up * (j - size / 2) / focal - back
        t = np.linspace(10 * g.scene.near, 10 * g.scene.far, steps)
        length = np.append(np.diff(t), 1e10) * np.linalg.norm(ray)
        through, colour, depth, total = 1.0, np.zeros(3), 0.0, 0.0
        for k in range(steps):
            rgb, sigma = naive_field(g.nerf, origin + t[k] * ray, ray / np.linalg.norm(ray), z)
            alpha = 1 - math.exp(-max(sigma, 0) * length[k])
            colour, depth, total = (
                colour + through * alpha * rgb,
                depth + through * alpha * t[k],
                1 - through * (1 - alpha),
            )
            through *= 1 - alpha
        assert out.mask is not None
        assert out.depth is not None
        assert total > 0.5
        assert np.abs(out.rgb[0, :, j, i].numpy() - (2 * colour - 1)).max() < 1e-4
        assert out.depth[0, 0, j, i].item() == pytest.approx(depth / total / 10, rel=1e-4)


def test_gradient_equals_autograd() -> None:
    torch.manual_seed(0)
    for skip in (0, 1, 5):
        net = NeRFMLP(16, 4, skip, 4, 2, 3, 5).double()
        code, towards = torch.randn(2, 8, dtype=torch.float64), torch.randn(2, 7, 3, dtype=torch.float64)
        points = (torch.randn(2, 7, 3, dtype=torch.float64) * 0.1).requires_grad_(True)
        out = net(points, code, F.normalize(towards, dim=-1), with_gradient=True)
        (expected,) = torch.autograd.grad(out.sigma.sum(), points)
        assert out.gradient is not None
        assert torch.allclose(out.gradient, expected, rtol=1e-9, atol=1e-12)
        assert torch.allclose(net.sigma(points, code), out.sigma)


def whole_patch(size: int) -> Patch:
    return Patch(size, torch.ones(2), torch.zeros(2, 2))


def test_a_patch_of_the_whole_image_is_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    g, size = build(patch_size=16), 16
    latents, camera = g.latents(2), g.cameras(2, size=size)
    full = g(latents, camera)
    monkeypatch.setattr(Patch, "draw", lambda n, size, least, device: whole_patch(size))
    part = g(latents, camera, sampling=PatchSampling(g.config.steps, patch=size))
    assert full.rgb.std() > 0.01
    assert torch.allclose(part.rgb, full.rgb, atol=1e-5)
    assert part.depth is not None
    assert torch.allclose(part.depth, full.depth, atol=1e-5)
    images = torch.randn(2, 3, size, size)
    assert torch.allclose(whole_patch(size).cut(images), images, atol=1e-5)


@pytest.mark.parametrize("pixels", ["corner", "half"])
def test_a_patch_on_pixels_shows_these_pixels(pixels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second pixel of the lower right quarter, rendered and cut; and between pixels what grid_sample reads from a
    fine render."""
    g, size = build(), 17
    latents, camera = g.latents(1), replace(g.camera(0.2, 0.1, size), pixel_centres=pixels)  # type: ignore[arg-type]
    patch = Patch(5, torch.tensor([0.5]), torch.tensor([[0.5, 0.5]]))
    monkeypatch.setattr(Patch, "draw", lambda *_: patch)
    sampling = PatchSampling(g.config.steps, patch=5)
    full, part = g(latents, camera), g(latents, camera, sampling=sampling)
    assert torch.allclose(part.rgb, full.rgb[..., 8::2, 8::2], atol=1e-5)
    assert torch.allclose(patch.cut(full.rgb), full.rgb[..., 8::2, 8::2], atol=1e-5)

    patch = Patch(5, torch.tensor([0.37]), torch.tensor([[-0.41, 0.3]]))
    fine = replace(camera, size=129) if pixels == "corner" else None
    if fine is not None:  # with half pixels, another size has its outermost centres elsewhere
        between = g(latents, camera, sampling=sampling).rgb
        assert (between - patch.cut(g(latents, fine).rgb)).abs().max() < 2e-3
        assert (between - part.rgb).abs().max() > 2e-3


def test_patches_are_drawn_inside_the_image() -> None:
    torch.manual_seed(0)
    patch = Patch.draw(2000, 4, 0.3)
    places = patch.places()
    assert places.abs().max() <= 1 + 1e-6
    assert patch.scale.min() >= 0.3
    assert patch.scale.mean().item() == pytest.approx(0.65, abs=0.02)
    span = places[..., 0].amax(1) - places[..., 0].amin(1)
    assert torch.allclose(span, 2 * patch.scale, atol=1e-5)
    assert places.mean((0, 1)).abs().max() < 0.03
    assert (places[..., 0].amin(1) < -0.9).any()
    assert (places[..., 1].amax(1) > 0.9).any()


def test_real_and_generated_images_are_seen_alike() -> None:
    g = build(patch_size=16, patch_least=0.25, patch_decay=0.1).train()
    sampling = [g.schedule(kimg) for kimg in (0.0, 5.0, 1000.0)]
    assert [s.patch_scale for s in sampling] == pytest.approx([0.9, math.exp(-0.5), 0.25])
    ramp = torch.linspace(-1, 1, 64).expand(4, 3, 64, 64)
    seen = g.real_view(ramp, sampling[1])
    render = g(g.latents(4), g.cameras(4, size=64), sampling=sampling[1])
    assert seen.shape == render.rgb.shape == (4, 3, 16, 16)
    assert ((seen[:, 0, 0, -1] - seen[:, 0, 0, 0]) / 2 >= sampling[1].patch_scale - 1e-5).all()
    assert seen[:, 0, 0].diff(dim=-1).std(-1).max() < 1e-5
    assert g.real_view(ramp, build().schedule(0.0)) is ramp


def test_the_opacity_prior_empties_what_nobody_sees() -> None:
    g = build(opacity_weight=0.05).train().requires_grad_(True)
    torch.nn.init.constant_(g.nerf.alpha_linear.bias, 0.01)  # where all is opaque there is no gradient
    render = g(g.latents(2), g.cameras(2, size=8), sampling=g.schedule(0.0))
    assert render.mask is not None
    (loss,) = g.regularisers(render).values()
    assert loss.item() == pytest.approx(0.05 * render.mask.mean().item())
    loss.backward()
    assert g.nerf.alpha_linear.bias.grad is not None
    assert (g.nerf.alpha_linear.bias.grad > 0).all()  # a step against the gradient makes it emptier
    assert build().regularisers(render) == {}


def test_psi_scales_the_latent() -> None:
    g = build()
    latents = g.latents(2, psi=0.4)
    assert torch.allclose(g.code(latents), 0.4 * latents.z)
    assert g.average_code().abs().max() == 0


def test_meshes_lie_where_the_density_is() -> None:
    g = build(outward_init=True, hidden_dim=64, inference_steps=48)
    g.requires_grad_(True).initialise()
    mesh = g.mesh(g.latents(1), resolution=32)
    extent = mesh.verts_packed().amax(0) - mesh.verts_packed().amin(0)
    assert torch.allclose(extent, 0.17 * torch.tensor([0.8, 1.0, 0.85]), rtol=0.2)
    out = g.requires_grad_(False)(g.latents(1), g.camera(size=16))
    assert out.depth is not None
    assert out.normal is not None
    assert out.depth[0, 0, 8, 8].item() == pytest.approx(1 - 0.07, abs=0.02)
    assert out.normal[0, 2, 8, 8] > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 1}, "generator.steps=1: use 2 or more"),
        ({"patch_size": 1}, "generator.patch_size=1: use 2 or more, or 0"),
        ({"patch_least": 0.0}, "generator.patch_least=0.0: use more than 0"),
        ({"unit": math.nan}, "generator.unit=nan: use a finite number above 0"),
        ({"opacity_weight": -1.0}, "generator.opacity_weight=-1.0: use 0 or more"),
        ({"frequencies": -1}, "generator.frequencies=-1: use 0 or more"),
    ],
)
def test_numbers_that_cannot_work_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GRAFConfig(**changes)  # type: ignore[arg-type]


def test_a_discriminator_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_size is 24"):
        build_discriminator("patch", max_size=24)
    with pytest.raises(ConfigError, match="give 2 widths for patches of 16 px"):
        build_discriminator("patch", max_size=16, channels=[8])
    with pytest.raises(ValueError, match="images are 32 px"):
        build_discriminator("patch", max_size=16)(torch.zeros(1, 3, 32, 32))


def test_published_recipe() -> None:
    run = recipes.load_run("graf_celeba")
    own = {k: v for k, v in run.generator.items() if k not in ("name", "scene", "noise_kimg")}
    assert own == {k: v for k, v in to_dict(GRAFConfig()).items() if k in own}
