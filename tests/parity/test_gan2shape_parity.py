"""GAN2Shape's networks and its three steps against the published code."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from recorded import Comparison, Recorded, load_strict, run_part
from torch import Tensor, nn

from zoo.config.schemas import LightConfig, NormalConfig, SceneConfig
from zoo.generators.gan2shape import GAN2Shape, GAN2ShapeConfig, Geometry, relit, with_mirror
from zoo.geometry import Light
from zoo.losses import photometric_loss, smoothness_loss
from zoo.metrics import evaluation_mask, side_per_image
from zoo.networks.encoders import EDDeconv, Encoder, ResEncoder, levels
from zoo.networks.feature_loss import DiscriminatorLoss
from zoo.networks.perceptual import LPIPS
from zoo.renderers.depthmaps import depthmap as dm
from zoo.renderers.depthmaps.obj import MATERIAL, obj_text

TO_THEIRS = torch.tensor([-1.0, 1.0, 1.0])  # zoo's x runs to the right, on their normals and lights to the left
IMAGE, LOSS, NET, CODE, DEPTH = 5e-5, 1e-5, 1e-5, 1e-6, 2e-6
NORMAL = 3e-5  # a last digit of a depth near 1 moves the normals of a 32 px map by 1e-5
LARGE = ("g2s_netD_64", "g2s_netA_128", "g2s_netEnc_128", "g2s_netL_64", "g2s_netV_128")  # 7 MB: not in this repository


def network(recorded: Recorded) -> nn.Module:
    kind, size = recorded.path.stem.removeprefix("g2s_net").split("_")
    weights = recorded.tensors("weights/network.")
    matrices = [value for value in weights.values() if value.ndim == 4]
    nf, last = len(matrices[0]), len(matrices[-1])
    if kind == "Enc":
        return ResEncoder(cout=last, nf=nf, size=int(size))
    if kind in "LV":
        return Encoder(cout=last, nf=nf, size=int(size))
    zdim = len(matrices[levels(int(size))])
    return EDDeconv(cout=last, nf=nf, zdim=zdim, groups=4, size=int(size), tanh=kind == "A")


def check_network(recorded: Recorded, c: Comparison) -> None:
    net = network(recorded)
    load_strict(net, recorded.tensors("weights/"))
    (name,) = recorded.outputs()
    atol = CODE if name.endswith("_raw") else NET
    with torch.no_grad():  # in float64, see test_unsup3d_parity.py
        c.check(name, net.double()(recorded.tensor("in/image").double()), atol=atol, rtol=atol)


class Fixed(nn.Module):
    """A network whose output was recorded: that for a photograph, or for a batch of drawings."""

    def __init__(self, *outputs: Tensor) -> None:
        super().__init__()
        self.outputs = {len(output): output for output in outputs}

    def forward(self, image: Tensor) -> Tensor:
        return self.outputs[len(image)]


def model(recorded: Recorded, **options: object) -> GAN2Shape:
    given = recorded.tensors("in/")
    a, d, dx, dy = given["light_mean"].tolist()
    scene = SceneConfig(fov=10.0, light=LightConfig(mean=[a, d, -dx, dy]))
    view = NormalConfig(given["view_mean"].tolist(), torch.eye(6).tolist())
    config = GAN2ShapeConfig(size=given["image"].shape[-1], nf=16, encoder_nf=4, scene=scene, view=view, **options)  # type: ignore[arg-type]
    out = GAN2Shape(config)
    out.netD, out.netA = Fixed(given["netD_raw"]), Fixed(given["netA"])  # type: ignore[assignment]
    out.netV, out.netL = (Fixed(given[f"net{k}"], given[f"net{k}_proj"]) for k in "VL")  # type: ignore[assignment]
    return out


def perceptual(recorded: Recorded) -> LPIPS:
    state = recorded.tensors("weights/lpips.")
    distance = LPIPS([state[f"lin{k}.model.1.weight"].shape[1] for k in range(5)])
    distance.load_state_dict(state)
    return distance


class Tag:
    """Outputs under one tag of a file."""

    def __init__(self, c: Comparison, tag: str) -> None:
        self.c, self.tag = c, tag

    def check(self, name: str, ours: Tensor, atol: float = 0.0) -> None:
        self.c.check(f"{self.tag}/{name}", ours, atol=atol)


def step1(recorded: Recorded, c: Comparison) -> None:
    for tag in ("step1", "step1flip", "step3flip_input"):
        one_photograph(recorded, Tag(c, tag), flip=tag != "step1", twice=tag == "step3flip_input")


def one_photograph(recorded: Recorded, c: Tag, flip: bool, twice: bool) -> None:
    m, image, lpips = model(recorded), recorded.tensor("in/image"), perceptual(recorded)
    g, albedo = m.geometry(image, flip), with_mirror(m.netA(image), flip)
    rows = 2 if flip else 1
    c.check("depth", g.depth[:, 0], IMAGE)
    c.check("albedo", albedo, IMAGE)
    times = rows if twice else 1
    c.check("view", (recorded.tensor("in/netV") + m.view_mean).repeat(times, 1), CODE)
    c.check("view_trans", g.view.repeat(times, 1), CODE)
    c.check("light", (recorded.tensor("in/netL") + m.light_mean).repeat(rows, 1), CODE)
    c.check("light_a", g.light.ambient[:, None].repeat(rows, 1), CODE)
    c.check("light_b", g.light.diffuse[:, None].repeat(rows, 1), CODE)
    c.check("light_d", (g.light.direction * TO_THEIRS).repeat(rows, 1), CODE)
    c.check("normal", g.normal.permute(0, 2, 3, 1) * TO_THEIRS, NORMAL)
    c.check("diffuse_shading", g.diffuse(), IMAGE)
    c.check("shading", g.shading, IMAGE)
    c.check("texture", dm.shaded(albedo, g.shading), IMAGE)
    c.check("recon_depth", g.seen[:, 0], DEPTH)
    recon = m.compose(albedo, g)
    c.check("recon_im", recon, IMAGE)
    normal = dm.map_normals(g.seen, m.map_camera)
    c.check("recon_normal", normal.permute(0, 2, 3, 1) * TO_THEIRS, NORMAL)
    if not flip:
        c.check("canon_mask", m.canonical_mask(recorded.tensor("in/input_mask"), g), IMAGE)
    halves(c, recon, image, g.mask, lpips)
    c.check("loss_smooth", smoothness_loss(g.depth) + smoothness_loss(g.diffuse()), LOSS)
    c.check("loss_total", m.input_loss(image, albedo, g, lpips), LOSS)
    for name, value in scores(recorded, m, g).items():
        c.check(name, value, 1e-3 if "normal" in name else CODE if "sie" in name else LOSS)


def halves(c: Tag, recon: Tensor, target: Tensor, mask: Tensor, lpips: LPIPS) -> None:
    for suffix, half in zip(("", "_flip"), recon.split(len(target)), strict=False):
        c.check(f"loss_l1_im{suffix}", photometric_loss(half, target, mask), LOSS)
        c.check(f"loss_perc_im{suffix}", lpips(half * mask, target * mask).mean(), LOSS)


def scores(recorded: Recorded, m: GAN2Shape, g: Geometry) -> dict[str, Tensor]:
    """The published test of depth, whose normals are not quite unit and whose mask also asks the prediction."""
    unit, depth = (1 - recorded.tensor("in/depth_gt01")[:, None]) * 2 - 1, g.seen[:1]
    target = (1 + unit) / 2 * m.config.max_depth + (1 - unit) / 2 * m.config.min_depth
    mask = evaluation_mask(target < target.max(), g.valid[:1])
    theirs, ours = (dm.map_normals(x, m.map_camera) for x in (target, depth))
    angle = (ours * theirs).sum(1, keepdim=True).clamp(-1, 1).acos().rad2deg()

    def mean(values: Tensor) -> Tensor:
        return (values * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))

    return {
        "acc_mae_masked": mean((depth - target).abs()),
        "acc_mse_masked": mean((depth - target).square()),
        "acc_sie_masked": side_per_image(depth, target, mask),
        "acc_normal_masked": mean(angle),
    }


def step2(recorded: Recorded, c: Comparison) -> None:
    given, m = recorded.tensors("in/"), model(recorded)
    g, albedo = m.geometry(given["image"], False), m.netA(given["image"])
    share = recorded.arrays["in/alpha"].item()
    gain = given["rand_diffuse"].flatten()
    light = relit(g.light, -given["rand_light_dx"], given["rand_light_dy"], gain, share)
    view = super(GAN2Shape, m).viewpoint(given["rand_views_after_scale"])
    mask = m.canonical_mask(given["input_mask"], g)
    for tag, inside in (("nomask", None), ("mask", mask)):
        images, masks = m.pseudo_images(g, albedo, light, view, inside)
        c.check(f"{tag}/pseudo_im", images, atol=IMAGE)
        c.check(f"{tag}/mask", masks, atol=IMAGE)


def step3(recorded: Recorded, c: Comparison) -> None:
    given, lpips = recorded.tensors("in/"), perceptual(recorded)
    drawings, masks = given["proj_im"], given["proj_mask"]
    for tag, flip in (("noflip_mask", False), ("flip", True)):
        m, t = model(recorded), Tag(c, tag)
        g, albedo = m.geometry(given["image"], flip), with_mirror(m.netA(given["image"]), flip)
        there = m.place(g.depth, m.light(m.netL(drawings)), m.viewpoint(m.netV(drawings)))
        t.check("depth", g.depth[:, 0].repeat_interleave(len(drawings), 0), IMAGE)
        t.check("albedo", albedo.repeat_interleave(len(drawings), 0) if flip else albedo, IMAGE)
        normal = g.normal.permute(0, 2, 3, 1) * TO_THEIRS
        t.check("normal", normal.repeat_interleave(len(drawings), 0) if flip else normal, NORMAL)
        t.check("recon_depth", there.seen[:, 0], DEPTH)
        recon = m.compose(albedo, there)
        t.check("recon_im", recon, IMAGE)
        halves(t, recon, drawings, there.mask * masks, lpips)
        t.check("loss_total", m.joint_loss(given["image"], drawings, masks, flip, lpips), LOSS)
        found = scores(recorded, m, g)
        t.check("SIDE", found["acc_sie_masked"][0], CODE)
        t.check("MAD", found["acc_normal_masked"][0], 1e-3)


FILES = [
    ("g2s_netEnc_64", check_network),
    ("g2s_step1_32", step1),
    ("g2s_step2_pseudo_32", step2),
    ("g2s_step3_32", step3),
]


@pytest.mark.parametrize(("file", "part"), FILES, ids=[file for file, _ in FILES])
def test_recorded(parity_file: Callable[[str], Path], file: str, part: Callable) -> None:
    run_part(Recorded(parity_file(f"{file}.npz")), ".*", part)


@pytest.mark.skipif(not os.environ.get("ZOO_PARITY_DIR"), reason="recordings too large for this repository")
@pytest.mark.parametrize("file", LARGE)
def test_large_recordings(parity_file: Callable[[str], Path], file: str) -> None:
    run_part(Recorded(parity_file(f"{file}.npz")), ".*", check_network)


def test_discriminator_loss(parity_file: Callable[[str], Path]) -> None:
    recorded = Recorded(parity_file("g2s_stylegan2_D_32.npz"))
    loss = DiscriminatorLoss.of(recorded.tensors("weights/"), blocks=recorded.arrays["out/n_early"].item())
    first, second, mask = (recorded.tensor(f"in/{name}") for name in ("image4", "image4_b", "mask4"))
    torch.testing.assert_close(loss(first, second), recorded.tensor("out/dloss_nomask_ftr2"), atol=LOSS, rtol=0)
    torch.testing.assert_close(loss(first, second, mask), recorded.tensor("out/dloss_mask_ftr2"), atol=LOSS, rtol=0)


def test_offset_encoder_keys(parity_file: Callable[[str], Path]) -> None:
    official = json.loads(parity_file("g2s_state_dict_shapes.json").read_text(encoding="utf-8"))
    for size in (64, 128):
        with torch.device("meta"):
            net = ResEncoder(size=size)
        assert {key: list(value.shape) for key, value in net.state_dict().items()} == official[
            f"gan2shape{size}/netEnc"
        ]


def test_lights_of_the_published_frame() -> None:
    """Twice the gain on parameters that are half a strength."""
    x, y, gain = torch.tensor([[0.1], [0.2], [0.3]])
    light = relit(Light.of(0.4, 0.5), x, y, gain, -0.6)
    torch.testing.assert_close(light.ambient, torch.tensor([0.4 - 0.18]))
    torch.testing.assert_close(light.diffuse, torch.tensor([0.8]))


def test_mesh_file(parity_file: Callable[[str], Path]) -> None:
    recorded = Recorded(parity_file("g2s_obj_export_4.npz"))
    depth = recorded.tensor("in/depth")[None]
    ours = obj_text(depth, dm.MapCamera(depth.shape[-1]), "m.mtl")

    def parse(text: str) -> dict[str, list[list[float]]]:
        out: dict[str, list[list[float]]] = {}
        for kind, *values in (line.split() for line in text.splitlines() if re.match(r"(v|vt|vn|f) ", line)):
            out.setdefault(kind, []).append([float(n) for value in values for n in value.split("/")])
        return out

    theirs, found = parse(str(recorded.arrays["out/obj_text"])), parse(ours)
    assert theirs.keys() == found.keys() == {"v", "vt", "vn", "f"}
    for kind, rows in theirs.items():
        torch.testing.assert_close(torch.tensor(found[kind]), torch.tensor(rows), atol=1.01e-4, rtol=0)
    assert "mtllib m.mtl" in ours
    keys = {line.split()[0] for line in str(recorded.arrays["out/mtl_text"]).splitlines()}
    assert {line.split()[0] for line in MATERIAL.format(texture="t.png").splitlines()} == keys
