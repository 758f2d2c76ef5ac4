"""Where a field is computed: the compiled loops of `kernels` on a CPU, or their twins in `triton_kernels` on a GPU."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)


def run(kernel: Callable[..., Any], *tensors: Tensor) -> None:
    """Run one of `kernels`, or on a GPU the Triton kernel of the same name.

    Args:
        kernel: Says which one.
        tensors: Are its arguments, float32, contiguous and all on one device.
    """
    if tensors[0].device.type == "cpu":
        kernel(*(tensor.numpy() for tensor in tensors))
    else:
        from . import triton_kernels  # Triton is asked for by tensors on a GPU alone

        getattr(triton_kernels, kernel.__name__)(*tensors)


def has_kernels(device: torch.device) -> bool:
    """Whether `run` can work there. Of a GPU on which it cannot, the first call says why."""
    return device.type == "cpu" or (device.type == "cuda" and _triton_works(device))


@cache
def _triton_works(device: torch.device) -> bool:
    """Triton may be missing, or the compiler that it needs, or the GPU may be too old: trying tells."""
    try:
        from . import triton_kernels

        one = torch.zeros(1, 1, device=device)
        triton_kernels.sine(one, one[0], one[0], torch.empty_like(one))
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning("fields on %s are computed layer by layer, which takes more time and memory: %s", device, reason)
        return False
    return True
