"""Convolutions in another order of arithmetic give what PyTorch's own give, and so do their gradients."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.networks.encoders import DoublingConv2d, NarrowConv2d


def agree(layer: nn.Conv2d, x: Tensor, plain: Tensor) -> None:
    out = layer(x)
    assert out.shape == plain.shape
    torch.testing.assert_close(out, plain, rtol=1e-9, atol=1e-9)
    towards = torch.randn_like(out)
    found = torch.autograd.grad(out, (x, layer.weight), towards)
    expected = torch.autograd.grad(plain, (x, layer.weight), towards)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("outer", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [(8, 12), (8, 6), (7, 8)])
def test_few_channels(outer: int, kernel: int, side: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = NarrowConv2d(6, outer, kernel).double()
    x = torch.randn(2, 6, *side, dtype=torch.float64, requires_grad=True)
    agree(layer, x, F.conv2d(x, layer.weight, padding=kernel // 2))


def test_a_single_channel_is_computed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    strides = []
    convolve = F.conv2d

    def watched(x: Tensor, weight: Tensor, **options: Any) -> Tensor:
        strides.append(options["stride"])
        return convolve(x, weight, **options)

    monkeypatch.setattr(F, "conv2d", watched)
    NarrowConv2d(6, 1, 5)(torch.randn(1, 6, 8, 8))
    NarrowConv2d(6, 4, 5)(torch.randn(1, 6, 8, 8))
    assert strides == [4, 2]


@pytest.mark.parametrize("side", [(4, 6), (5, 3), (1, 1)])
def test_doubled_pictures(side: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = DoublingConv2d(6, 4).double()
    x = torch.randn(2, 6, *side, dtype=torch.float64, requires_grad=True)
    agree(layer, x, F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), layer.weight, padding=1))


def test_keys_are_those_of_plain_convolutions() -> None:
    assert NarrowConv2d(6, 2, 5).state_dict().keys() == {"weight"}
    assert DoublingConv2d(6, 2).state_dict().keys() == {"weight"}
