"""Two convolutions that a processor computes with fewer operations in another order; weights and results are the same.

Both are `nn.Conv2d` in everything but their arithmetic, so checkpoints fit, and results differ by rounding alone.
"""

import torch.nn.functional as F
from torch import Tensor, nn

_LANES = 16  # channels that a processor computes at once, however few a layer has


class NarrowConv2d(nn.Conv2d):
    """A convolution of stride 1 to very few channels, which keeps the side of its picture.

    A processor computes 16 output channels in the time of one. So the pixels of 2 x 2 or 4 x 4 blocks take the places
    of channels: the kernel, shifted to each pixel of a block, gives a wider kernel whose stride is the block's side.

    Args:
        inner: Channels of the input.
        outer: Channels of the output.
        kernel: Side of the kernel, odd.
    """

    def __init__(self, inner: int, outer: int, kernel: int) -> None:
        super().__init__(inner, outer, kernel, 1, kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B,inner,H,W) to (B,outer,H,W)."""
        block = next((side for side in (4, 2) if self.out_channels * side**2 <= _LANES), 1)
        if block == 1 or x.device.type != "cpu" or x.shape[-2] % block or x.shape[-1] % block:
            return super().forward(x)
        wide = self.kernel_size[0] + block - 1
        shifted = F.pad(self.weight, (block - 1,) * 4).unfold(2, wide, 1).unfold(3, wide, 1).flip(2, 3)
        kernels = shifted.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).to(x.dtype)
        return F.pixel_shuffle(F.conv2d(x, kernels, stride=block, padding=self.padding), block)


class DoublingConv2d(nn.Conv2d):
    """A picture is doubled, each pixel to 2 x 2 equal ones, and convolved by a 3 x 3 kernel.

    Of nine pixels under the kernel only four differ. A transposed convolution whose 4 x 4 kernel holds the sums of
    those weights that meet the same pixel needs four products in place of nine, and no doubled picture in memory.

    Args:
        inner: Channels of the input.
        outer: Channels of the output.
    """

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(inner, outer, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Double and convolve (B,inner,H,W) to (B,outer,2H,2W)."""
        turned = F.pad(self.weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
        return F.conv_transpose2d(x, 4 * F.avg_pool2d(turned, 2, 1), stride=2, padding=1)
