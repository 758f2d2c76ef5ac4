"""StyleGAN2's blocks and networks against numbers from the PyTorch port whose checkpoints people use."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from recorded import Recorded
from torch import Tensor

from zoo.networks.stylegan2 import ModulatedConv2d, StyleDiscriminator, fir_kernel, official_width, upfirdn
from zoo.networks.stylegan2_generator import StyleGAN2Generator

ATOL = 1e-5
POSE_HEAD = {"pose_head.weight", "pose_head.bias"}  # ours; the published network has a score only


@pytest.fixture
def ops(parity_file: Callable[[str], Path]) -> Recorded:
    return Recorded(parity_file("g2s_stylegan2_ops.npz"))


def close(ours: Tensor, recorded: Tensor) -> None:
    torch.testing.assert_close(ours, recorded, atol=ATOL, rtol=0)


def test_kernels(ops: Recorded) -> None:
    close(fir_kernel(), ops.tensor("out/kernel_plain"))
    close(fir_kernel(gain=4.0), ops.tensor("out/kernel_up"))


@pytest.mark.parametrize(
    ("name", "gain", "options"),
    [
        ("upsample", 4.0, {"up": 2, "pad": (2, 1)}),
        ("downsample", 1.0, {"down": 2, "pad": (1, 1)}),
        ("blur_pad21_up2", 4.0, {"pad": (2, 1)}),
        ("blur_pad22", 1.0, {"pad": (2, 2)}),
        ("blur_pad11", 1.0, {"pad": (1, 1)}),
    ],
)
def test_resampling(ops: Recorded, name: str, gain: float, options: dict) -> None:
    close(upfirdn(ops.tensor("in/x"), fir_kernel(gain=gain), **options), ops.tensor(f"out/{name}"))


@pytest.mark.parametrize(
    ("name", "options"),
    [("plain", {}), ("up", {"up": True}), ("nodemod", {"demodulate": False}), ("down", {"down": True})],
)
def test_modulated_convolution(ops: Recorded, name: str, options: dict) -> None:
    weights = ops.tensors(f"weights/modconv_{name}.")
    _, outputs, inputs, kernel, _ = weights["weight"].shape
    layer = ModulatedConv2d(inputs, outputs, kernel, weights["modulation.weight"].shape[1], **options)
    layer.load_state_dict(weights)
    close(
        layer(ops.tensor(f"in/modconv_{name}_x"), ops.tensor(f"in/modconv_{name}_style")),
        ops.tensor(f"out/modconv_{name}"),
    )


def test_discriminator(parity_file: Callable[[str], Path]) -> None:
    recorded = Recorded(parity_file("g2s_stylegan2_D_32.npz"))
    weights, images = recorded.tensors("weights/"), recorded.tensor("in/image4")
    blocks = sum(key.endswith("conv1.0.weight") for key in weights)
    widths = [weights["convs.0.0.weight"].shape[0]]
    widths += [weights[f"convs.{i}.conv2.1.weight"].shape[0] for i in range(1, blocks + 1)]
    d = StyleDiscriminator(max_size=images.shape[-1], channels=widths)
    missing, unexpected = d.load_state_dict(weights, strict=False)
    assert set(missing) == POSE_HEAD
    assert not unexpected
    close(d(images).score[:, None], recorded.tensor("out/logit_b4"))
    close(d(images[:2]).score[:, None], recorded.tensor("out/logit_b2"))
    x = d.convs[0](images)
    for i in range(blocks):
        x = d.convs[i + 1](x)
        close(x, recorded.tensor(f"out/feat{i}_b4"))


def recorded_generator(recorded: Recorded) -> StyleGAN2Generator:
    """The network of a recording; its sizes are those of the weights."""
    weights = recorded.tensors("weights/")
    ups = [key for key in weights if key.endswith("conv.blur.kernel")]
    size, style_dim = 4 << len(ups), weights["style.1.weight"].shape[0]
    widths = {4: weights["input.input"].shape[1]}
    widths |= {8 << k: weights[f"convs.{2 * k}.conv.weight"].shape[1] for k in range(len(ups))}
    layers = sum(key.startswith("style.") and key.endswith(".weight") for key in weights)
    g = StyleGAN2Generator(size, style_dim=style_dim, n_mlp=layers, width=widths.__getitem__)
    g.load_state_dict(weights)
    return g


@pytest.fixture
def recording(parity_file: Callable[[str], Path]) -> Recorded:
    return Recorded(parity_file("g2s_stylegan2_G_32.npz"))


def test_generator(recording: Recorded) -> None:
    g = recorded_generator(recording)
    w = g.style(recording.tensor("in/z"))
    mean = recording.tensor("in/mean_w")
    close(w, recording.tensor("out/w"))
    features: dict[str, Tensor] = {}
    for layer in g.convs[1::2]:
        layer.register_forward_hook(lambda _module, _inputs, out: features.update({f"feat_{out.shape[-1]}": out}))
    pictures = {"image_wplus": recording.tensor("in/wplus"), "image_trunc07": mean + 0.7 * (w - mean), "image_w": w}
    for name, code in pictures.items():
        torch.testing.assert_close(g(code), recording.tensor(f"out/{name}"), atol=2e-5, rtol=0)
    assert sorted(features) == sorted(recording.outputs(r"feat_\d+"))
    for name, value in features.items():
        torch.testing.assert_close(value, recording.tensor(f"out/{name}"), atol=2e-5, rtol=0)
    stored = [g.noises.get_buffer(f"noise_{i}") for i in range(g.n_latent - 1)]
    assert torch.equal(g(w, noise=stored), g(w))
    assert not torch.allclose(g(w, noise=[None] * len(stored)), g(w), atol=1e-3)


def test_parts_of_the_mapping_network(recording: Recorded) -> None:
    """GAN2Shape adds the output of an encoder in the middle of the mapping network."""
    g = recorded_generator(recording)
    zero, w = torch.zeros(1, g.style_dim), recording.tensor("out/w")
    close(g.style(zero), recording.tensor("out/center_w"))
    depths = [name.removeprefix("center_h_F") for name in recording.outputs(r"center_h_F\d+")]
    assert depths
    for depth in depths:
        cut = 8 - int(depth)
        head, tail = g.style[:cut], g.style[cut:]
        close(head(zero), recording.tensor(f"out/center_h_F{depth}"))
        offset, of_picture = recording.tensor("in/enc_offset"), recording.tensor("in/enc_offset_of_gan_im")
        for relative, shift in enumerate((offset, offset - of_picture)):
            change = tail(shift + head(zero)) - g.style(zero)
            close(change, recording.tensor(f"out/woffset_F{depth}_rel{relative}"))
            close(w + change, recording.tensor(f"out/wnew_F{depth}_rel{relative}"))


def test_official_generator_keys(parity_file: Callable[[str], Path]) -> None:
    shapes = json.loads(parity_file("g2s_state_dict_shapes.json").read_text())
    names = [name for name in shapes if name.startswith("stylegan2/G_")]
    assert names
    for name in names:
        size, multiplier = (int(part.strip("m")) for part in name.split("_")[1:])
        with torch.device("meta"):
            g = StyleGAN2Generator(size, width=official_width(multiplier))
        assert {key: list(value.shape) for key, value in g.state_dict().items()} == shapes[name]


def test_official_keys(parity_file: Callable[[str], Path]) -> None:
    shapes = json.loads(parity_file("g2s_state_dict_shapes.json").read_text())
    names = [name for name in shapes if name.startswith("stylegan2/D_")]
    assert names
    for name in names:
        size, multiplier = (int(part.strip("m")) for part in name.split("_")[1:])
        sides = [size >> k for k in range(size.bit_length() - 2)]
        with torch.device("meta"):
            d = StyleDiscriminator(max_size=size, channels=[official_width(multiplier)(s) for s in sides])
        ours = {key: list(value.shape) for key, value in d.state_dict().items() if key not in POSE_HEAD}
        assert ours == shapes[name]
