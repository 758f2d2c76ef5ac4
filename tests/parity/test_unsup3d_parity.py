"""Unsup3D's networks, losses and whole forward pass against the published code."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from recorded import Comparison, Recorded, load_strict, run_part
from torch import Tensor, nn

from zoo import images, losses
from zoo.generators.unsup3d import Unsup3D, Unsup3DConfig
from zoo.geometry import Light
from zoo.metrics import evaluation_mask, side_per_image
from zoo.networks.confnet import ConfNet
from zoo.networks.encoders import EDDeconv, Encoder
from zoo.networks.perceptual import LPIPS, PerceptualLoss
from zoo.renderers.depthmaps import depthmap as dm

TO_THEIRS = torch.tensor([-1.0, 1.0, 1.0])  # zoo's x runs to the right, on their normals and lights to the left
IMAGE, LOSS, NET, CODE, NORMAL = 5e-5, 1e-5, 1e-5, 1e-6, 1e-5
NORMAL_OF_WARPED = 3e-5  # a last digit of a depth near 1 moves the normals of a 32 px map by 1e-5
UNUSED = "slice4"  # published beside the loss and never called


def network(recorded: Recorded, c: Comparison) -> None:
    kind, weights = recorded.path.stem[-1], recorded.tensors("weights/network.")
    widths = {"nf": weights["0.weight"].shape[0], "size": recorded.tensor("in/image").shape[-1]}
    net: nn.Module
    if kind in "LV":
        net = Encoder(cout=weights["10.weight"].shape[0], **widths)
    else:
        widths["zdim"] = weights["11.weight"].shape[0]
        net = ConfNet(**widths) if kind == "C" else EDDeconv(cout=3 if kind == "A" else 1, tanh=kind == "A", **widths)
    load_strict(net, recorded.tensors("weights/"))
    # In float64, because float32 convolutions differ from processor to processor by as much as the tolerance. What was
    # recorded is float32 itself: netD's, which reaches 3.7, lies 1.3e-5 from this.
    with torch.no_grad():
        result = net.double()(recorded.tensor("in/image").double())
    for name, ours in zip(recorded.outputs(), result if kind == "C" else [result], strict=True):
        atol = CODE if kind in "LV" else NET
        c.check(name, ours, atol=atol, rtol=atol)


def perceptual(recorded: Recorded, c: Comparison) -> None:
    loss = perceptual_loss(recorded, "weights/")
    first, second, mask, sigma = (recorded.tensor(f"in/{name}") for name in ("im1", "im2", "mask", "conf_sigma"))
    c.check("plain", loss(first, second), atol=CODE)
    c.check("mask", loss(first, second, mask), atol=CODE)
    c.check("mask_conf", loss(first, second, mask, sigma), atol=CODE)


def perceptual_loss(recorded: Recorded, prefix: str) -> PerceptualLoss:
    state = {key: value for key, value in recorded.tensors(prefix).items() if not key.startswith(UNUSED)}
    widths = [state[f"slice{k}.{i}.bias"].shape[0] for k, i in ((1, 0), (2, 5), (3, 10))]
    loss = PerceptualLoss(widths)
    load_strict(loss, state)
    return loss


def lpips(recorded: Recorded, c: Comparison) -> None:
    state = recorded.tensors("weights/")
    distance = LPIPS([state[f"lin{k}.model.1.weight"].shape[1] for k in range(5)])
    assert state.keys() == distance.state_dict().keys()
    distance.load_state_dict(state)
    first, second = recorded.tensor("in/in0"), recorded.tensor("in/in1")
    c.check("dist", distance(first, second), atol=CODE)
    layers = distance.layers(first, second)
    for k in (1, 4):
        c.check(f"layer{k}", layers[k], atol=CODE)


def scalars(recorded: Recorded, c: Comparison) -> None:
    given = recorded.tensors("in/")
    pair = given["a"], given["b"]
    c.check("photometric", losses.photometric_loss(*pair), atol=LOSS)
    c.check("photometric_mask", losses.photometric_loss(*pair, given["mask"]), atol=LOSS)
    c.check("photometric_mask_conf", losses.photometric_loss(*pair, given["mask"], given["conf_sigma"]), atol=LOSS)
    c.check("latent_norm", losses.latent_norm(given["offset"]), atol=LOSS)
    for name in ("map3d", "map4d"):
        c.check(f"smooth_{name}", losses.smoothness_loss(given[name]), atol=LOSS)
    for name in recorded.outputs("resize_.*"):
        c.check(name, images.resize(given["a"], int(name.rpartition("_")[2])), atol=1e-6)
    for name in recorded.outputs("crop_.*"):
        c.check(name, images.centre_crop(given["a"], int(name.rpartition("_")[2])))


class Fixed(nn.Module):
    """A network whose output was recorded."""

    def __init__(self, output: Tensor | tuple[Tensor, ...]) -> None:
        super().__init__()
        self.output = output

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.output


def recorded_model(recorded: Recorded) -> Unsup3D:
    def setting(name: str) -> float:
        return recorded.tensor(f"in/cfg_{name}").item()

    config = Unsup3DConfig(
        size=recorded.tensor("in/image01").shape[-1],
        nf=16,
        border_depth=setting("border_depth"),
        rotation_range=setting("xyz_rotation_range"),
        xy_range=setting("xy_translation_range"),
        z_range=setting("z_translation_range"),
        diffuse=[setting("min_diff_light"), setting("max_diff_light")],
        confidence=bool(setting("use_conf_map")),
        flip_weight=setting("lam_flip"),
        perceptual_weight=setting("lam_perc"),
        smooth_weight=setting("lam_depth_sm"),
    )
    model = Unsup3D(config)
    for ours, theirs in (("netD", "netD_raw"), ("netA", "netA"), ("netL", "netL"), ("netV", "netV")):
        setattr(model, ours, Fixed(recorded.tensor(f"in/{theirs}")))
    if config.confidence:
        model.netC = Fixed((recorded.tensor("in/netC_l1"), recorded.tensor("in/netC_perc")))  # type: ignore[assignment]
    return model


def pipeline(recorded: Recorded, c: Comparison) -> None:
    model, image = recorded_model(recorded), recorded.tensor("in/image01") * 2 - 1
    p = model.predict(image, flip=True)
    c.check("canon_depth", p.canonical_depth[:, 0], atol=IMAGE)
    c.check("canon_albedo", p.albedo, atol=IMAGE)
    c.check("canon_light_a", p.light.ambient[:, None], atol=CODE)
    c.check("canon_light_b", p.light.diffuse[:, None], atol=CODE)
    c.check("canon_light_d", p.light.direction * TO_THEIRS, atol=CODE)
    c.check("canon_normal", p.normal.permute(0, 2, 3, 1) * TO_THEIRS, atol=NORMAL)
    pure = Light(torch.cat([torch.tensor([[-1.0, 1.0]]).expand(len(p.light), 2), p.light.params[:, 2:]], 1))
    c.check("canon_diffuse_shading", dm.map_shading(p.normal, pure), atol=IMAGE)
    c.check("canon_im", p.canonical, atol=IMAGE)
    c.check("view", p.view, atol=CODE)
    c.check("recon_depth", p.depth[:, 0], atol=2e-6)
    c.check("recon_mask", p.valid[:, 0].float())
    c.check("recon_im", p.recon, atol=IMAGE)
    normal = dm.map_normals(p.depth, model.map_camera)
    c.check("recon_normal", normal.permute(0, 2, 3, 1) * TO_THEIRS, atol=NORMAL_OF_WARPED)
    middle = model.config.size // 2
    axis = torch.zeros_like(p.depth)
    axis[..., middle - 1 : middle + 1] = 1
    c.check("recon_sym_axis", dm.sample(axis, p.grid) * p.mask, atol=IMAGE)

    total, terms = model.losses(image, perceptual_loss(recorded, "weights/perc."))
    names = {"l1": "l1_im", "l1_flip": "l1_im_flip", "perceptual": "perc_im", "perceptual_flip": "perc_im_flip"}
    for ours, theirs in (names | {"smooth": "depth_sm"}).items():
        c.check(f"loss_{theirs}", terms[ours], atol=LOSS)
    c.check("loss_total", total, atol=LOSS)
    scores(recorded, c, model, p.depth[: len(image)], p.valid[: len(image)])


def scores(recorded: Recorded, c: Comparison, model: Unsup3D, depth: Tensor, valid: Tensor) -> None:
    """The published test of depth, whose normals are not quite unit and whose mask also asks the prediction."""
    config = model.config
    unit = (1 - recorded.tensor("in/depth_gt01")) * 2 - 1
    target = (1 + unit) / 2 * config.max_depth + (1 - unit) / 2 * config.min_depth
    c.check("depth_gt", target[:, 0], atol=CODE)
    theirs, ours = (dm.map_normals(x, model.map_camera) for x in (target, depth))
    c.check("normal_gt", theirs.permute(0, 2, 3, 1) * TO_THEIRS, atol=NORMAL)
    mask = evaluation_mask(target < target.max(), valid)

    def mean(values: Tensor) -> Tensor:
        return (values * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))

    c.check("acc_sie_masked", side_per_image(depth, target, mask), atol=1e-6)
    c.check("acc_mae_masked", mean((depth - target).abs()), atol=LOSS)
    c.check("acc_mse_masked", mean((depth - target).square()), atol=LOSS)
    angle = (ours * theirs).sum(1, keepdim=True).clamp(-1, 1).acos().rad2deg()
    c.check("acc_normal_masked", mean(angle), atol=1e-3)


FILES = [
    *((f"unsup3d_net{kind}", network) for kind in "DLVC"),
    ("unsup3d_perceptual", perceptual),
    ("g2s_lpips_small", lpips),
    ("g2s_losses_32", scalars),
    ("unsup3d_pipeline_32", pipeline),
    ("unsup3d_pipeline_32_noconf", pipeline),
]


@pytest.mark.parametrize(("file", "part"), FILES, ids=[file for file, _ in FILES])
def test_recorded(parity_file: Callable[[str], Path], file: str, part: Callable) -> None:
    run_part(Recorded(parity_file(f"{file}.npz")), ".*", part)


@pytest.mark.skipif(not os.environ.get("ZOO_PARITY_DIR"), reason="too large for this repository; netD is built alike")
def test_albedo_network(parity_file: Callable[[str], Path]) -> None:
    run_part(Recorded(parity_file("unsup3d_netA.npz")), ".*", network)


def test_state_dict_equals_official(parity_file: Callable[[str], Path]) -> None:
    """Keys and shapes of the networks in `checkpointNNN.pth`, and of those of GAN2Shape that are built alike."""
    official = json.loads(parity_file("g2s_state_dict_shapes.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        model = Unsup3D(Unsup3DConfig())
        ours = {f"unsup3d/{name}": net for name, net in model.named_children()}
        for size, nf, groups in ((64, 64, 16), (128, 32, 8)):
            for name, cout in (("netD", 1), ("netA", 3)):
                ours[f"gan2shape{size}/{name}"] = EDDeconv(cout=cout, nf=nf, groups=groups, size=size, tanh=cout == 3)
            for name, cout in (("netV", 6), ("netL", 4)):
                ours[f"gan2shape{size}/{name}"] = Encoder(cout=cout, nf=nf, size=size)
    expected = {name for name in official if re.fullmatch(r"unsup3d/.*|gan2shape\d+/net[DAVL]", name)}
    assert set(ours) == expected
    for name, net in ours.items():
        assert {key: list(value.shape) for key, value in net.state_dict().items()} == official[name], name
