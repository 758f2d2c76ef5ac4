"""StyleGAN2's blocks and discriminator against numbers from the PyTorch port whose checkpoints people use."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from recorded import Recorded
from torch import Tensor

from zoo.networks.stylegan2 import ModulatedConv2d, StyleDiscriminator, fir_kernel, official_width, upfirdn

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


@pytest.mark.parametrize(("name", "options"), [("plain", {}), ("up", {"up": True}), ("nodemod", {"demodulate": False})])
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
