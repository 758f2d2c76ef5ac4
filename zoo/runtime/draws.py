"""Random numbers of a batch that is shared out: among processes, and into parts that are taken one after the other.

Everybody draws the numbers of the whole batch, from one seed, and keeps the rows of its own images. So the union over
processes and parts is what one process draws for the whole batch at once. The first axis is that of the images.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

_share: ContextVar[tuple[int, int]] = ContextVar("share", default=(0, 1))  # the first row of the batch, and the step


@contextmanager
def share(first: int, step: int) -> Iterator[None]:
    """Inside, images are the rows `first`, `first` + `step`, `first` + 2 `step`, ... of a batch."""
    before = _share.set((first, step))
    try:
        yield
    finally:
        _share.reset(before)


def randn(n: int, *shape: int, **how: Any) -> Tensor:
    """Normal numbers (n, *shape) for n images; `how` is what `torch.randn` takes."""
    first, step = _share.get()
    return torch.randn(n * step, *shape, **how)[first::step]


def rand(n: int, *shape: int, **how: Any) -> Tensor:
    """Uniform numbers in [0, 1), (n, *shape), for n images; `how` is what `torch.rand` takes."""
    first, step = _share.get()
    return torch.rand(n * step, *shape, **how)[first::step]


def randint(low: int, high: int, n: int) -> Tensor:
    """Whole numbers (n,) from `low` to below `high` for n images."""
    first, step = _share.get()
    return torch.randint(low, high, (n * step,))[first::step]


def randn_like(images: Tensor) -> Tensor:
    """Normal numbers of the shape, type and device of images (n, ...)."""
    alone = _share.get()[1] == 1
    return torch.randn_like(images) if alone else randn(*images.shape, dtype=images.dtype, device=images.device)


def rand_like(images: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) of the shape, type and device of images (n, ...)."""
    alone = _share.get()[1] == 1
    return torch.rand_like(images) if alone else rand(*images.shape, dtype=images.dtype, device=images.device)


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Inside, the random numbers of the CPU, and of `device` if it is a GPU, are those of a seed; after it, as before.

    `torch.manual_seed` would seed all GPUs, and the user's numbers there would not come back.
    """
    gpu = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpu):
        torch.default_generator.manual_seed(seed)
        if gpu:
            with torch.cuda.device(gpu[0]):
                torch.cuda.manual_seed(seed)
        yield


State = tuple[Tensor, Tensor | None]
"""Where the random numbers of the CPU stand, and those of the GPU that is worked on."""


def state(device: torch.device) -> State:
    """Where random numbers stand, for a step that works on `device`."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def restore(saved: State, device: torch.device) -> None:
    """Draw from there again."""
    torch.set_rng_state(saved[0])
    if saved[1] is not None:
        torch.cuda.set_rng_state(saved[1], device)


@contextmanager
def replayed(saved: State, device: torch.device) -> Iterator[None]:
    """Inside, numbers are those that were drawn from `saved` on; outside, drawing goes on where it stood."""
    now = state(device)
    restore(saved, device)
    try:
        yield
    finally:
        restore(now, device)
