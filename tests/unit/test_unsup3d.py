"""Unsup3D as a method: the mirrored branch, agreement of both renderers, lights, meshes, depth at other sizes."""

import math

import pytest
import torch
from torch import Tensor

from tests.tiny import in_float64
from zoo.config.recipes import load_run
from zoo.config.schemas import PoseConfig, SceneConfig
from zoo.errors import ConfigError
from zoo.generators.base import Latents
from zoo.generators.unsup3d import Unsup3D, Unsup3DConfig
from zoo.generators.unsup3d_terms import pose_loss, rigid_loss
from zoo.geometry import Light, continued
from zoo.renderers.depthmaps.gridmesh import grid_faces
from zoo.systems.photometric import PhotometricSystem


def tiny(**options: object) -> Unsup3D:
    torch.manual_seed(0)
    config = Unsup3D.tiny()
    for key, value in options.items():
        setattr(config, key, value)
    return Unsup3D(config)


def photos(model: Unsup3D, n: int = 3) -> Tensor:
    return model.latents(n, seed=1).z.unflatten(1, (3, *[model.config.size] * 2))


def bump(model: Unsup3D) -> Tensor:
    """(1,1,S,S) a cap that stands out of a wall towards the camera."""
    axis = torch.linspace(-1, 1, model.config.size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return (1.04 - 0.1 * (1 - (x**2 + y**2) / 0.5).clamp_min(0).sqrt())[None, None]


def test_the_mirrored_branch_is_the_mirror_image() -> None:
    model = tiny()
    image = photos(model)
    single, double = model.predict(image), model.predict(image, flip=True)
    for name in ("canonical_depth", "albedo"):
        plain, both = getattr(single, name), getattr(double, name)
        assert torch.equal(both[:3], plain), name
        assert torch.equal(both[3:], plain.flip(-1)), name
    assert torch.equal(double.view[3:], single.view)
    assert torch.equal(double.light.params[3:], single.light.params)
    assert torch.equal(double.mask[:3], double.valid[:3] & double.valid[3:])
    assert torch.equal(double.mask[3:], double.mask[:3])
    assert (double.recon[~double.mask.expand_as(double.recon)] == 0).all()


def test_ranges_and_border() -> None:
    model = tiny(z_range=0.1, ambient=[0.2, 0.4], diffuse=[0.5, 1.0])
    p = model.predict(photos(model))
    c = model.config
    assert c.min_depth < p.free_depth.min() < p.free_depth.max() < c.max_depth
    for column in (0, 1, -2, -1):
        torch.testing.assert_close(p.canonical_depth[..., column], torch.full((3, 1, c.size), c.border_depth))
    assert torch.equal(p.canonical_depth[..., 2:-2], p.free_depth[..., 2:-2])
    ends = model.light(torch.tensor([[-1.0, -1, 0, 0], [1, 1, 0.5, 0.5]]))
    torch.testing.assert_close(ends.ambient, torch.tensor([0.2, 0.4]))
    torch.testing.assert_close(ends.diffuse, torch.tensor([0.5, 1.0]))
    assert ends.direction[1, 0] < 0 < ends.direction[1, 1]
    far = model.viewpoint(torch.ones(1, 6))[0]
    torch.testing.assert_close(far, torch.tensor([math.pi / 3] * 3 + [0.1] * 3))


@pytest.mark.parametrize("fov", [10.0, 12.0])
def test_zoo_cameras_see_what_the_method_sees(fov: float) -> None:
    """The mesh renderer from the camera of a viewpoint against warp and look-up of the published method."""
    model = tiny(aligned=True, scene=SceneConfig(fov=fov))
    model.netD.forward = lambda image: torch.atanh((bump(model) - 1) / 0.1 * 0.99).expand(len(image), 1, -1, -1)
    ramp = torch.linspace(-0.8, 0.8, 32)
    albedo = torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), -ramp.expand(32, 32)])[None]
    model.netA.forward = lambda image: albedo.expand(len(image), -1, -1, -1)
    model.viewpoint = lambda raw: torch.tensor([[0.1, -0.3, 0.05, 0.01, -0.02, 0.0]]).expand(len(raw), 6)
    image = photos(model, 2)
    p = model.predict(image)
    out = model(model.encode(image), model.map_camera.world_camera(p.view), p.light)
    inside = p.mask & (torch.nn.functional.avg_pool2d(p.mask.float(), 3, 1, 1) > 0.99)
    assert inside.float().mean() > 0.5
    assert out.mask is not None
    assert out.depth is not None
    assert out.mask[inside].min() == 1
    # The one averages four samples and the other takes the centre; they differ along the rim of the cap and the border.
    assert (out.depth - p.depth)[inside].abs().quantile(0.95) < 2e-3
    assert (out.rgb - p.recon)[inside.expand_as(out.rgb)].abs().median() < 3e-3


def test_light_and_normals_in_the_world() -> None:
    model = tiny().eval()
    code = torch.cat([bump(model), torch.ones(1, 3, 32, 32)], 1)
    latents = Latents(torch.zeros(1, model.config.z_dim), code=code)
    right = model(latents, model.camera(size=33), Light.of(0.2, 0.8, x=2.0))
    assert right.shading is not None
    assert right.normal is not None
    assert right.shading[0, 0, 16, 24] > right.shading[0, 0, 16, 8]
    above = model(latents, model.camera(size=33), Light.of(0.2, 0.8, y=2.0))
    assert above.shading is not None
    assert above.shading[0, 0, 8, 16] > above.shading[0, 0, 24, 16]
    assert right.normal[0, 0, 16, 24] > 0.1 > -0.1 > right.normal[0, 0, 16, 8]
    assert right.normal[0, 1, 8, 16] > 0.1
    # Yaw turns the head to its left: the camera moves to -X and the bump to the right of the picture.
    turned = model(latents, model.camera(0.4, size=33))
    assert turned.depth is not None
    assert turned.depth[0, 0, 16].argmin() > 16


def test_the_mesh_is_upright_and_faces_forward() -> None:
    model = tiny()
    albedo = torch.linspace(1, -1, 32)[:, None].expand(3, 32, 32)[None]  # white at the top
    latents = Latents(torch.zeros(1, model.config.z_dim), code=torch.cat([bump(model), albedo], 1))
    mesh = model.mesh(latents)
    verts = mesh.verts_packed()
    a, b, c = verts[mesh.faces_packed()].unbind(1)  # PyTorch3D's own normals need its native part
    assert (torch.linalg.cross(b - a, c - a)[:, 2] > 0).all()
    colours = mesh.textures.verts_features_packed()
    assert colours.min() >= 0
    assert colours.max() <= 1
    assert colours[verts[:, 1].argmax()].mean() > 0.9 > 0.1 > colours[verts[:, 1].argmin()].mean()
    tip = verts[verts[:, 2].argmax()]
    torch.testing.assert_close(tip, torch.tensor([0.0, 0.0, 0.06]), atol=5e-3, rtol=0)


def test_the_mesh_ends_at_the_ellipsoid_that_training_started_from() -> None:
    whole, model = tiny(), tiny(depth_prior="ellipsoid")
    code = torch.cat([bump(model), torch.zeros(1, 3, 32, 32)], 1)
    latents = Latents(torch.zeros(1, model.config.z_dim), code=code)
    sheet, mesh = whole.mesh(latents), model.mesh(latents)
    assert sheet.verts_packed().shape[0] == 32 * 32
    assert torch.equal(sheet.faces_packed(), grid_faces(32))
    verts = mesh.verts_packed()
    used = mesh.faces_packed().unique()
    assert torch.equal(used, torch.arange(len(verts)))  # no vertex without a triangle
    half = sheet.verts_packed().amax(0)
    assert ((verts[:, 0] / half[0] / 0.65) ** 2 + (verts[:, 1] / half[1] / 0.9) ** 2).max() < 1.05
    at = (model.prior < model.prior.amax() - 1e-3)[0, 0].flatten()  # where depth stands out before the plane
    inside = set(map(tuple, sheet.verts_packed()[at].tolist()))
    assert set(map(tuple, verts.tolist())) <= inside
    assert len(verts) > 0.9 * len(inside)


def test_depth_of_other_sizes_and_batches() -> None:
    model = tiny().eval()
    image = photos(model, 5)
    own = model.predict_depth(image)
    assert own.shape == (5, 1, 32, 32)
    torch.testing.assert_close(own, model.predict_depth(image, batch_size=2))
    p = model.predict(image)
    torch.testing.assert_close(own[p.valid], p.depth.detach()[p.valid])
    large = model.predict_depth(image.repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert large.shape == (5, 1, 64, 64)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(large, 2), own, atol=0.05, rtol=0)
    assert not own.requires_grad


def test_photographs_of_any_size_are_encoded() -> None:
    model = tiny()
    image = photos(model, 2)
    assert torch.equal(model.encode(image).z, image.flatten(1))
    assert model.encode(torch.zeros(1, 3, 100, 100)).z.shape == (1, model.config.z_dim)
    edited = model.code(model.encode(image)).detach()
    again = Latents(torch.zeros(2, model.config.z_dim), code=edited)
    camera = model.camera(size=16)
    torch.testing.assert_close(model(again, camera).rgb, model(model.encode(image), camera).rgb)


def test_without_confidence_there_is_no_fifth_network() -> None:
    model = tiny(confidence=False)
    assert not [key for key in model.state_dict() if key.startswith("netC")]
    image = photos(model)
    total, terms = model.losses(image)
    assert set(terms) == {"l1", "l1_flip", "smooth"}
    torch.testing.assert_close(total, terms["l1"] + 0.5 * terms["l1_flip"])
    assert model.predict(image).sigma is None


def test_half_precision_of_the_trainer_does_not_reach_depth() -> None:
    model = tiny(cycle_weight=1.0).eval()
    image = photos(model)
    with torch.autocast("cpu", torch.bfloat16):
        half, (_, terms) = model.predict(image), model.losses(image)
    assert torch.equal(half.depth, model.predict(image).depth)
    assert torch.equal(terms["cycle"], model.losses(image)[1]["cycle"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_depth": 1.2}, "min_depth=1.2"),
        ({"diffuse": [1.0, 0.5]}, r"generator.diffuse=\[1.0, 0.5\]"),
        ({"ambient": [0.5]}, "generator.ambient"),
        ({"rigid_weight": -1.0}, "generator.rigid_weight=-1.0: use 0 or more"),
        ({"rigid_weight": 1.0, "scene": SceneConfig(pose=PoseConfig(distribution="fixed"))}, "pose does not spread"),
        ({"cycle_weight": math.nan}, "generator.cycle_weight=nan"),
    ],
)
def test_impossible_settings_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Unsup3DConfig(**options)


def test_no_latents_without_photographs() -> None:
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        tiny().latents(0)


def test_depth_is_continued_where_nothing_is_seen() -> None:
    depth = torch.full((1, 1, 8, 8), 1.2)
    depth[..., :4], valid = 0.95, torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    valid[..., :4] = True
    torch.testing.assert_close(continued(depth, valid), torch.full((1, 1, 8, 8), 0.95))
    assert torch.equal(continued(depth, torch.zeros_like(valid)), torch.ones(1, 1, 8, 8))


def test_an_ellipsoid_prior_stands_out_of_a_plane() -> None:
    model = Unsup3D(Unsup3DConfig(size=32, nf=8, zdim=8, groups=4, encoder_nf=4, confidence=False))
    shaped = Unsup3D(
        Unsup3DConfig(size=32, nf=8, zdim=8, groups=4, encoder_nf=4, confidence=False, depth_prior="ellipsoid")
    )
    shaped.load_state_dict(model.state_dict())
    for network in (model, shaped):
        torch.nn.init.zeros_(network.netD.network[-1].weight)
    image = photos(model, 1)
    assert model.free_depth(image).std() < 1e-6
    depth = shaped.free_depth(image)[0, 0]
    assert depth[16, 16] < 0.94 < 1.03 < depth[0, 0]


def test_viewpoints_are_pulled_to_the_spread_of_the_prior() -> None:
    model = tiny()
    pose = model.scene.pose
    draws = torch.randn(4096, 6, generator=torch.Generator().manual_seed(0))
    view = draws * torch.tensor([pose.pitch_std, pose.yaw_std, 0.0, 1.0, 1.0, 1.0])
    assert pose_loss(model, view) < 0.02
    assert pose_loss(model, view * 0.2) > 1
    assert pose_loss(model, view + torch.tensor([0.0, pose.yaw_std, 0, 0, 0, 0])) > 0.9  # turned frames are not spread


def poses_and_pattern(model: Unsup3D, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Viewpoints (n,6), their pitch in deviations of the prior (n,1,1,1), and a gradient (8,8) of +-1/10."""
    view = torch.zeros(n, 6)
    view[:, :2] = torch.randn(n, 2, generator=torch.Generator().manual_seed(0)) * model.pose_moments[1]
    pattern = torch.linspace(-0.1, 0.1, 8)[:, None].expand(8, 8)
    return view, (view[:, 0] / model.pose_moments[1, 0])[:, None, None, None], pattern


def test_objects_that_follow_the_camera_are_not_rigid() -> None:
    model = tiny()
    view, pitch, pattern = poses_and_pattern(model, 4096)
    other = torch.randn(4096, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    still = torch.zeros(4096, 3, 8, 8)
    # One deviation of pitch adds the pattern: to depth in units of its range, 0.2, and to albedo.
    expected = pattern.square().mean().item()
    leaning, painted = 1 + 0.2 * pitch * pattern, (pitch * pattern).expand(-1, 3, -1, -1)
    assert rigid_loss(model, leaning, still, view).item() == pytest.approx(expected, rel=0.1)
    assert rigid_loss(model, still[:, :1] + 1, painted, view).item() == pytest.approx(expected, rel=0.1)
    assert abs(rigid_loss(model, 1 + 0.2 * other * pattern, (other * pattern).expand_as(still), view)) < 0.02 * expected


def test_depth_gives_way_to_viewpoints_and_viewpoints_to_albedo() -> None:
    model = tiny()
    view, pitch, pattern = poses_and_pattern(model, 64)
    depth, albedo = (1 + 0.2 * pitch * pattern).requires_grad_(), (pitch * pattern).expand(-1, 3, -1, -1)
    albedo = albedo.clone().requires_grad_()
    view.requires_grad_()
    flat, white = torch.zeros(64, 1, 8, 8, requires_grad=True), torch.zeros(64, 3, 8, 8, requires_grad=True)

    def slopes(depth: Tensor, albedo: Tensor) -> list[float]:
        loss = rigid_loss(model, depth, albedo, view)
        grads = torch.autograd.grad(loss, (depth, albedo, view), allow_unused=True)
        return [0.0 if g is None else g.abs().max().item() for g in grads]

    d, a, v = slopes(depth, white)
    assert d > 0
    assert a == v == 0
    d, a, v = slopes(flat, albedo)
    assert v > 0
    assert a == d == 0


def test_one_photograph_has_no_covariance() -> None:
    model = tiny(rigid_weight=1.0)
    with pytest.raises(ConfigError, match=r"rigid_weight=1\.0: a batch of 1 has no covariance; use batches of 2"):
        model.losses(photos(model, 1))
    model.need_batch(2)


def test_what_many_batches_know_decides_the_pull() -> None:
    """Chance covariances of a small batch pull at nothing when the average over many is 0; a known one pulls at all."""
    model = tiny()
    view, _, pattern = poses_and_pattern(model, 8)
    depth = (1 + 0.02 * torch.randn(8, 1, 1, 1, generator=torch.Generator().manual_seed(1)) * pattern).requires_grad_()
    albedo = torch.zeros(8, 3, 8, 8)

    def pull(known: float) -> tuple[float, Tensor]:
        loss = rigid_loss(model, depth, albedo, view, lambda batch: torch.full_like(batch, known))
        return loss.item(), torch.autograd.grad(loss, depth)[0]

    assert pull(0.0)[0] == 0
    assert pull(0.0)[1].abs().max() == 0
    value, slope = pull(0.3)
    assert value == pytest.approx(4 * 0.3**2)  # two maps, two angles
    turns = view[:, :2] / model.pose_moments[1]
    expected = (2 * 0.3 / 64 / 0.2 / 7) * (turns - turns.mean(0)).sum(1)[:, None, None, None]
    torch.testing.assert_close(slope, expected.expand_as(slope), rtol=1e-4, atol=1e-6)


def test_alone_a_batch_stands_for_all() -> None:
    """Without an average, the slope is that of the plain square."""
    model = tiny()
    view, pitch, pattern = poses_and_pattern(model, 16)
    depth = (1 + 0.02 * pitch * pattern).double().requires_grad_()
    albedo = torch.zeros(16, 3, 8, 8).double()
    model = in_float64(model)
    loss = rigid_loss(model, depth, albedo, view.double())
    step = torch.randn(depth.shape, generator=torch.Generator().manual_seed(2)).double() * 1e-6
    with torch.no_grad():
        up, down = (rigid_loss(model, depth + sign * step, albedo, view.double()) for sign in (1, -1))
    (slope,) = torch.autograd.grad(loss, depth)
    assert (up - down).item() == pytest.approx(2 * (slope * step).sum().item(), rel=1e-4)


def test_an_object_is_shown_as_its_neighbour_is_seen() -> None:
    """With one light and one viewpoint for all, the second look is at the reconstruction."""
    model = tiny(cycle_weight=1.0).eval()
    image, raw = photos(model, 2), torch.tensor([[0.1, -0.2, 0, 0, 0, 0]])
    seen: list[Tensor] = []
    turns = [raw.expand(2, 6), raw.expand(2, 6) + torch.tensor([0.0, 0.3, 0, 0, 0, 0])]
    model.netV.forward = lambda given: seen.append(given) or turns[len(seen) - 1]
    depth, albedo = bump(model), torch.rand(1, 3, 32, 32) * 2 - 1
    model.netD.forward = lambda given: torch.atanh((depth - 1) / 0.1 * 0.99).expand(len(given), -1, -1, -1)
    model.netA.forward = lambda given: albedo.expand(len(given), -1, -1, -1)
    model.netL.forward = lambda given: torch.tensor([[0.1, 0.2, 0.3, 0.4]]).expand(len(given), -1)
    _, terms = model.losses(image)
    again = model.viewpoint(raw)
    model.netV.forward = lambda given: raw.expand(len(given), 6)
    first = model.predict(image)
    torch.testing.assert_close(first.view, again.expand(2, 6))
    shown = torch.where(first.valid, first.recon.clamp(-1, 1), -1.0)
    torch.testing.assert_close(seen[1], shown)
    assert terms["cycle"].item() == pytest.approx(0.3 / 3, rel=1e-4)  # the yaw of the second look, of three turns
    # Neighbours that are seen otherwise: nothing but the viewpoint is found wrong.
    turns = [torch.cat([raw, -raw]), torch.cat([-raw, raw])]
    model.netV.forward = lambda given: seen.append(given) or turns[len(seen) - 3]
    assert model.losses(image)[1]["cycle"].item() == pytest.approx(0, abs=1e-6)


def test_terms_over_views_wait_for_their_turn() -> None:
    model = tiny(rigid_weight=2.0, cycle_weight=3.0, rigid_kimg=5.0)
    image = photos(model, 4)
    early, early_terms = model.losses(image, kimg=4.9)
    late, terms = model.losses(image, kimg=5.0)
    assert {"rigid", "cycle"} <= set(terms)
    assert not {"rigid", "cycle"} & set(early_terms)
    torch.testing.assert_close(late, early + 2 * terms["rigid"] + 3 * terms["cycle"])


def test_a_free_mean_lets_an_object_come_nearer_as_a_whole() -> None:
    models = [tiny(centred=centred) for centred in (True, False)]
    for model in models:
        raw = model.netD.forward
        model.netD.forward = lambda image, raw=raw: raw(image) + 0.5
    image = photos(models[0])
    fixed, free = (model.free_depth(image).detach() for model in models)
    assert fixed.mean() == pytest.approx(1.0, abs=0.01)
    assert free.mean() > 1.03


def test_schedules_of_a_training_begin_at_start_kimg(monkeypatch: pytest.MonkeyPatch) -> None:
    small = ["size=32", "nf=4", "zdim=4", "groups=2", "encoder_nf=4", "confidence=false"]
    stages = "system.stages=[{size: 32, batch: 4}]"
    run = load_run("unsup3d", [*(f"generator.{setting}" for setting in small), stages, "system.start_kimg=5"])
    system, seen = PhotometricSystem(run), list[float]()

    def training_loss(images: Tensor, kimg: float, *_: object) -> tuple[Tensor, dict[str, Tensor]]:
        seen.append(kimg)
        return images.mean(), {}

    monkeypatch.setattr(system.generator, "training_loss", training_loss)
    monkeypatch.setattr(system, "optimizers", system.configure_optimizers)
    monkeypatch.setattr(system, "all_gather", lambda tensor: tensor[None])
    monkeypatch.setattr(system, "update", lambda optimizer, network, lr, batch, loss: loss(batch)[1])
    system.images = 2000
    system.step({"image": torch.zeros(4, 3, 32, 32)}, run.system.stages[0])
    assert seen == [7.0]


def test_what_a_setting_cannot_be_is_named() -> None:
    with pytest.raises(ConfigError, match="depth_prior=sphere"):
        Unsup3DConfig(depth_prior="sphere")


def test_objects_come_from_the_photographs_that_are_given() -> None:
    model = tiny()
    model.photographs = lambda n, size, source: torch.rand(n, 3, size, size, generator=source)
    expected = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    assert torch.equal(model.latents(2, seed=3).z, expected.flatten(1))
    assert (tiny().latents(1).z != model.latents(1).z).any()
