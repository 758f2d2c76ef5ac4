"""`tiles.forward` and `tiles.backward` on a CPU as compiled loops, for widths that are multiples of `products.LANES`.

They compute the same, in the same order, but a tile here never comes back to Python: its layers are small, so most of
the time went into calls of torch, and threads waited for each other's hold on Python's lock.

Arrays are float32 and contiguous; W, V, b, f, p, w, K and D are those of `tiles`. What is not wanted has length 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import loops
from .products import LANES
from .tiles import Film, Moves, Rows, SineNetwork, Values


def fits(network: SineNetwork, points: Tensor) -> bool:
    """Whether these loops can compute a network at points."""
    return points.device.type == "cpu" and network.density.shape[1] % LANES == 0


@torch.inference_mode()  # whatever thread this is
def forward(net: SineNetwork, film: Film, rows: Rows, values: Values) -> None:
    """Fill the `values` that are there, and `rows.products` if it is."""
    width, weights = net.density.shape[1], film.weights
    loops.forward(
        _array(rows.points), _array(rows.directions, 3), _array(weights.points), _array(weights.directions, width),
        _stack(weights.layers), _stack(film.biases), _stack(film.frequencies), _stack(film.phases),
        _array(net.density), _array(net.colour), _array(values.sigma, 1), _array(values.logits, 3),
        _array(values.gradient, 3), _array(rows.products, 0),
    )  # fmt: skip


@torch.inference_mode()
def backward(net: SineNetwork, film: Film, rows: Rows, values: Values, moves: Moves, sums: SineNetwork) -> None:
    """Take gradients back; the arguments are those of `tiles.backward`."""
    width, weights = net.density.shape[1], film.weights
    layers, angles = _stack(sums.weights.layers), _stack(sums.angles)
    loops.backward(
        _array(rows.points), _array(rows.directions, 3), _array(weights.points), _array(weights.directions, width),
        _stack(weights.layers), _stack(film.biases), _stack(film.frequencies), _stack(film.phases),
        _array(net.weights.points), _array(net.weights.directions, width), _stack(net.weights.layers),
        _array(net.density), _array(net.colour), _array(rows.products, 0), _array(values.sigma, 1),
        _array(values.logits, 3), _array(values.gradient, 3), _array(moves.points, 3), _array(moves.directions, 3),
        _array(sums.weights.points), _array(sums.weights.directions, width), layers, angles, _array(sums.density),
        _array(sums.colour),
    )  # fmt: skip
    for sum_of, total in zip([*sums.weights.layers, *sums.angles], [*layers, *angles], strict=True):
        sum_of.copy_(torch.from_numpy(total))


def _array(tensor: Tensor | None, columns: int = 0) -> Any:
    """A tensor's memory; none with these columns if there is no tensor."""
    return np.empty((0, columns), np.float32) if tensor is None else tensor.detach().numpy()


def _stack(tensors: Sequence[Tensor]) -> Any:
    return np.stack([tensor.detach().numpy() for tensor in tensors])
