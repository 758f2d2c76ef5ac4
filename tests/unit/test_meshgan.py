"""The mesh GAN's maps, shape parametrisation, constraints and background, apart from its renderer."""

import itertools
from dataclasses import replace

import pytest
import torch

import zoo
from zoo.errors import ConfigError
from zoo.generators.meshgan import MeshGAN, MeshSampling, low_pass, sphere_map
from zoo.renderers.meshes.topology import octa_sphere, rms_radius, signed_volume


def build(**changes) -> MeshGAN:
    torch.manual_seed(0)
    return MeshGAN(replace(MeshGAN.tiny(), **changes))


def shaped(**changes) -> MeshGAN:
    """A generator whose shape depends on z: the position heads start at zero."""
    generator = build(**changes)
    for layer in generator.to_position:
        torch.nn.init.normal_(layer.weight)
    return generator


def test_sphere_map_is_the_template_at_its_uv() -> None:
    topology = octa_sphere(16)
    at = torch.nn.functional.grid_sample(sphere_map(257), topology.uv[None, None], align_corners=True)[0, :, 0].T
    assert (at - topology.sphere).abs().max() < 5e-3


@pytest.mark.parametrize("pyramid", [True, False])
def test_training_starts_from_the_sphere(pyramid: bool) -> None:
    generator = build(pyramid=pyramid, shape_blur=0.0, size="none", map_size=64)
    departure, _, _ = generator.maps(generator.code(generator.latents(2)))
    verts = generator.vertices(departure)
    assert len(generator.to_position) == (5 if pyramid else 1)
    assert verts.norm(dim=-1).sub(0.6).abs().max() < 0.02
    assert torch.equal(generator.vertices(departure, shape_weight=0.0), verts)


def test_coarse_levels_move_further_than_fine_ones() -> None:
    generator = build(map_size=32)
    features = [
        torch.ones(1, layer.weight.shape[1], 4 * 2**k, 4 * 2**k) for k, layer in enumerate(generator.to_position)
    ]
    reach = []
    for level in range(len(generator.to_position)):
        for k, layer in enumerate(generator.to_position):
            torch.nn.init.constant_(layer.weight, float(k == level))
        reach.append(generator._departure(features).abs().max().item())
    assert all(a > 1.9 * b for a, b in itertools.pairwise(reach))


@pytest.mark.parametrize(("factor", "expected"), [(0.2, 0.45), (1.0, None), (5.0, 0.75)])
def test_hard_size_constraint_clamps_radius_and_centre(factor: float, expected: float | None) -> None:
    generator = build(size="hard")
    verts = octa_sphere(16).sphere[None] * 0.6 * factor + torch.tensor([0.5, -0.5, 1.0])
    sized = generator.sized(verts)
    before, after = rms_radius(verts).item(), rms_radius(sized).item()
    assert after == pytest.approx(before if expected is None else expected, rel=1e-5)
    assert (sized.mean(1) - torch.tensor([0.15, -0.15, 0.6])).abs().max() < 0.02


def test_outside_the_bounds_no_gradient_is_radial() -> None:
    generator = build(size="hard")
    verts = (octa_sphere(16).sphere[None].double() * 3.0).requires_grad_(True)
    weight = torch.randn(verts.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (generator.sized(verts) * weight).sum().backward()
    assert verts.grad is not None
    radial = (verts.grad * (verts - verts.mean(1, keepdim=True))).sum()
    assert radial.abs() < 1e-6 * (verts.grad.norm() * verts.norm())


def test_soft_size_constraint_costs_outside_only() -> None:
    generator = build(size="soft")
    camera = generator.camera(size=16)

    def cost(base_radius: float) -> float:
        generator.config.base_radius = base_radius
        render = generator(generator.latents(1), camera)
        return generator.regularisers(render)["size"].item()

    assert cost(0.6) == 0.0
    assert cost(0.2) > 0.1
    assert cost(1.2) > 0.1


def test_background_crops_are_random_in_training_and_fixed_otherwise() -> None:
    generator = build(size="hard")
    latents, camera = generator.latents(1), generator.camera(size=16)
    with torch.no_grad():
        fixed = [generator(latents, camera).rgb for _ in range(2)]
        moving = [generator(latents, camera, sampling=MeshSampling(random_crop=True)) for _ in range(2)]
    assert torch.equal(*fixed)
    assert not torch.equal(moving[0].rgb, moving[1].rgb)
    object_only = moving[0].mask == 1
    assert object_only.any()
    assert (moving[0].rgb - fixed[0])[object_only.expand(-1, 3, -1, -1)].abs().max() < 1e-6


def test_background_is_seen_at_its_scale() -> None:
    """A ramp over a map twice as wide as the picture rises half as fast, and keeps its middle in the middle."""
    generator = build(background_crop="none")
    axis = (torch.arange(32) + 0.5) / 16 - 1
    ramp = axis.expand(1, 3, 32, 32)
    crop = generator.crop(ramp, generator.camera(size=16))
    expected = ((torch.arange(16) + 0.5) / 8 - 1) / 2
    assert torch.allclose(crop[0, 0, 3], expected, atol=1e-6)


def test_background_follows_the_view_if_asked() -> None:
    """What lies far behind the object moves as the camera looks: its central ray says where."""
    generator = build(background_crop="view")
    right = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
    for yaw, pitch in ((0.5, 0.0), (-0.5, 0.0), (0.0, 0.3), (0.0, -0.3)):
        camera = generator.camera(yaw, pitch, size=16)
        towards = -camera.cam2world[0, :3, 2]
        x, down = (generator.crop(ramp, camera).mean() for ramp in (right, right.mT))
        assert x.sign() == towards[0].sign() if yaw else x.abs() < 1e-6
        assert down.sign() == -towards[1].sign() if pitch else down.abs() < 1e-6


def test_mirrored_depth_turns_the_volume_over() -> None:
    """A hollow mask covers the same pixels, so only the signed volume tells it apart; the hinge pushes it back."""
    topology = octa_sphere(16)
    solid = topology.sphere[None] * 0.6
    hollow = solid * torch.tensor([1.0, 1.0, -1.0])
    assert signed_volume(solid, topology.faces).item() == pytest.approx(4 / 3 * torch.pi * 0.6**3, rel=0.05)
    assert signed_volume(hollow, topology.faces).item() == pytest.approx(-4 / 3 * torch.pi * 0.6**3, rel=0.05)

    generator = build(volume_weight=1.0, size="none", base_radius=0.2)
    render = generator(generator.latents(1), generator.camera(size=16))
    cost = generator.regularisers(render)["volume"]
    assert cost > 0
    (slope,) = torch.autograd.grad(cost, render.aux["volume"])
    assert slope < 0


def test_low_pass_keeps_constants_and_blurs_steps() -> None:
    flat = torch.full((1, 2, 16, 16), 0.3)
    assert torch.allclose(low_pass(flat, 1.5), flat, atol=1e-6)
    step = (torch.arange(16) > 7).float().expand(1, 1, 16, 16)
    blurred = low_pass(step, 1.5)
    assert blurred.diff(dim=-1).max() < 0.4
    assert torch.equal(low_pass(step, 0.0), step)


def test_meshes_are_closed_textured_and_face_outwards() -> None:
    generator = shaped(size="hard").eval()
    meshes = generator.mesh(generator.latents(2, seed=3), resolution=16)
    assert len(meshes) == 2
    faces = meshes.faces_padded()[0]
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    forward = {tuple(e) for e in edges.tolist()}
    assert len(forward) == len(edges)
    assert all((b, a) in forward for a, b in forward)
    assert (signed_volume(meshes.verts_padded(), faces) > 0).all()
    assert meshes.textures.maps_padded().min() >= 0
    assert meshes.textures.maps_padded().max() <= 1


def test_schedule_lets_the_shape_go_slowly() -> None:
    generator = build(warmup_kimg=10.0)
    assert [generator.schedule(k).shape_weight for k in (0.0, 5.0, 20.0)] == [0.0, 0.5, 1.0]
    assert build().schedule(0.0).shape_weight == 1.0


def test_pictures_and_meshes_depart_from_the_sphere_as_far_as_training_has_come() -> None:
    generator = shaped(warmup_kimg=10.0).eval()
    latents, camera = generator.latents(2), generator.camera(0.3, size=16)
    depths, verts = [], []
    for kimg in (0.0, 5.0, 10.0):
        generator.config = replace(generator.config, **generator.at_rest(kimg))
        with torch.no_grad():
            depths.append(generator(latents, camera).depth)
            asked = generator(latents, camera, sampling=MeshSampling(generator.schedule(kimg).shape_weight))
        assert torch.equal(depths[-1], asked.depth)
        verts.append(generator.mesh(latents, resolution=16).verts_padded())
    assert not torch.equal(depths[0], depths[1])
    assert not torch.equal(depths[1], depths[2])
    torch.testing.assert_close(verts[1], (verts[0] + verts[2]) / 2)
    assert (verts[2] - verts[0]).abs().max() > 1e-3
    assert build().at_rest(0.0) == {"shape_weight": build().config.shape_weight}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"size": "big"}, "generator.size=big"),
        ({"background_crop": "left"}, "generator.background_crop=left"),
        ({"radius_min": 0.9}, "radius_min <= radius_max"),
        ({"map_size": 48}, "generator.map_size=48"),
        ({"background_scale": 3}, "generator.background_scale=3"),
        ({"channel_base": 31}, "generator.channel_base=31: use at least 32, the side of the largest map"),
    ],
)
def test_settings_that_cannot_work_are_named(setting: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(MeshGAN.tiny(), **setting)


def test_every_pixel_of_the_mask_has_depth_and_normal() -> None:
    generator = shaped(size="hard").eval()
    out = generator(generator.latents(3), generator.camera(0.2, size=32))
    inside = out.mask > 0
    assert (out.depth[inside] < generator.scene.far).all()
    assert ((out.normal.norm(dim=1, keepdim=True)[inside] - 1).abs() < 1e-3).all()


def test_looking_first_does_not_hinder_learning_later() -> None:
    octa_sphere.cache_clear()
    generator = build()
    with torch.inference_mode():
        generator(generator.latents(1), generator.camera(size=16))
    generator(generator.latents(1), generator.camera(size=16)).rgb.mean().backward()


def test_shipped_heads_have_no_fin() -> None:
    """Trained before black alone, one of dark matter stood on each of them, and made it 0.25 to 0.30 units tall."""
    generator = zoo.load("meshgan.heads64")
    for verts in generator.mesh(generator.latents(6, seed=0, psi=0.7)).verts_list():
        height = (verts.max(0).values - verts.min(0).values)[1].item()
        assert height == pytest.approx(0.19, abs=0.015)


def test_a_symmetric_shape_is_its_own_mirror_image() -> None:
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    away = []
    for symmetric in (False, True):
        generator = shaped(symmetric=symmetric)
        departure, _, _ = generator.maps(generator.code(generator.latents(2)))
        verts = generator.world_vertices(departure) / generator.unit
        away.append(torch.cdist(verts.double(), verts.double() * mirror).amin(2).max().item())
    assert away[1] < 1e-5 < 0.01 < away[0]


def test_what_no_picture_shows_is_drawn_to_the_sphere() -> None:
    generator = shaped(departure_weight=2.0).train()
    camera = generator.camera(size=16)
    terms = generator.regularisers(generator(generator.latents(2), camera))
    departure, _, _ = generator.maps(generator.code(generator.latents(2)))
    assert torch.allclose(terms["departure"], 2 * departure.square().sum(1).mean())
    terms["departure"].backward()
    assert all(layer.weight.grad.abs().max() > 0 for layer in generator.to_position)
    assert "departure" not in build().regularisers(build()(generator.latents(2), camera))
