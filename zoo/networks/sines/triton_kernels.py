"""The kernels of `zoo.networks.sines.kernels` for a GPU, in Triton, with the same names and arguments.

Importing this needs Triton, which comes with torch where there are GPUs. With TRITON_INTERPRET=1 in the environment it
runs on a CPU, slowly, for tests. Products and sums are not fused, so that angles round as in the published code.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024  # elements of a tile, row by row, for one program


@triton.jit
def _sine(x, frequency, phase, out, n, width: tl.constexpr, block: tl.constexpr):
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside, column = at < n, at % width
    angle = tl.load(frequency + column) * tl.load(x + at, mask=inside) + tl.load(phase + column)
    tl.store(out + at, tl.sin(angle), mask=inside)


@triton.jit
def _sine_cosine(x, frequency, phase, factor, sines, cosines, n, width: tl.constexpr, block: tl.constexpr):
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside, column = at < n, at % width
    angle = tl.load(frequency + column) * tl.load(x + at, mask=inside) + tl.load(phase + column)
    tl.store(sines + at, tl.sin(angle), mask=inside)
    tl.store(cosines + at, tl.cos(angle) * tl.load(factor + column), mask=inside)


@triton.jit
def _through_slope(g, cosine, back, sines, n, block: tl.constexpr):
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < n
    value = tl.load(g + at, mask=inside)
    bent = -value * tl.load(back + at, mask=inside) * tl.load(sines + at, mask=inside)
    tl.store(back + at, bent, mask=inside)
    tl.store(g + at, value * tl.load(cosine + at, mask=inside), mask=inside)


def sine(x: Tensor, frequency: Tensor, phase: Tensor, out: Tensor) -> None:
    """out <- sin(frequency * x + phase), with one frequency and phase per column."""
    _launch(_sine, x.numel(), x, frequency, phase, out, x.numel(), x.shape[1])


def sine_cosine(x: Tensor, frequency: Tensor, phase: Tensor, factor: Tensor, sines: Tensor, cosines: Tensor) -> None:
    """Of the same angles: sines <- sin, cosines <- factor * cos, with one factor per column."""
    _launch(_sine_cosine, x.numel(), x, frequency, phase, factor, sines, cosines, x.numel(), x.shape[1])


def through_sine(g: Tensor, cosine: Tensor, total: Tensor) -> None:
    """g <- g * cosine; total <- sum of g over the rows."""
    torch.sum(g.mul_(cosine), 0, out=total)


def through_sine_and_slope(g: Tensor, cosine: Tensor, bent: Tensor, total: Tensor) -> None:
    """g <- g * cosine + bent; total <- sum of g over the rows."""
    torch.sum(torch.addcmul(bent, g, cosine, out=g), 0, out=total)


def through_slope(g: Tensor, cosine: Tensor, back: Tensor, sines: Tensor) -> None:
    """Of r = back * cosine: back <- -g * back * sines, and g <- g * cosine."""
    _launch(_through_slope, g.numel(), g, cosine, back, sines, g.numel())


def _launch(kernel: Any, n: int, *args: Any) -> None:
    if n == 0:
        return
    with torch.cuda.device_of(args[0]):  # Triton launches on the current GPU, whatever its arguments
        kernel[(triton.cdiv(n, _BLOCK),)](*args, block=_BLOCK, enable_fp_fusion=False)
