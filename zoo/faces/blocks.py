"""What the face detector and the face mesh are built of, and their weights."""

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

ASSET = Path(__file__).parent / "assets" / "faces.safetensors"


class Block(nn.Module):
    """A depthwise and a pointwise convolution beside a shortcut.

    A stride of 2 takes the maximum over 2 x 2 pixels in the shortcut, and pads the convolution at the right and at the
    bottom only, as TensorFlow does. Channels that the shortcut lacks are 0.

    Args:
        inner: Channels that come in.
        outer: Channels that go out, `inner` or more.
        stride: 1 or 2.
        act: The activation behind the sum.
    """

    def __init__(self, inner: int, outer: int, stride: int, act: nn.Module) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(inner, inner, 3, stride, padding=2 - stride, groups=inner)
        self.pointwise = nn.Conv2d(inner, outer, 1)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """(B, inner, H, W) -> (B, outer, H / stride, W / stride); H and W are multiples of the stride."""
        short = x
        if self.stride == 2:
            short, x = F.max_pool2d(x, 2), F.pad(x, (0, 1, 0, 1))
        out = self.pointwise(self.depthwise(x))
        out[:, : short.shape[1]] += short
        activated: Tensor = self.act(out)
        return activated


@cache
def shipped() -> dict[str, Tensor]:
    """Tensors of the shipped file by name, float32. Networks are stored with 16 bits, as published."""
    return {name: value.float() for name, value in load_file(ASSET).items()}


def load_shipped(network: nn.Module, prefix: str) -> None:
    """Fill a network with those shipped tensors whose names start with `prefix`, and freeze it."""
    own = {k.removeprefix(prefix): v for k, v in shipped().items() if k.startswith(prefix)}
    last = torch.channels_last  # a quarter faster
    state = {k: v.contiguous(memory_format=last) if v.ndim == 4 else v for k, v in own.items()}
    network.load_state_dict(state, assign=True)
    network.eval().requires_grad_(False)
