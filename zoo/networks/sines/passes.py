"""`tiles.forward` and `tiles.backward` on a CPU as compiled loops, for widths that are multiples of `products.LANES`.

They compute the same up to rounding, but a tile here never comes back to Python: its layers are small, so most of the
time went into calls of torch, and threads waited for each other's hold on Python's lock.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import loops
from .products import LANES, ROWS
from .tiles import Film, Moves, Rows, SineNetwork, Values

_WIDEST = 256  # torch's products are as fast or faster beyond
_TILE_ELEMENTS = 24576  # rows times width, 96 KiB: long enough that reading the weights again costs little


def fits(network: SineNetwork, points: Tensor) -> bool:
    """Whether these loops can compute a network at points, and do it fast: they hold all layers of a tile at once."""
    width = network.density.shape[1]
    return points.device.type == "cpu" and width % LANES == 0 and width <= _WIDEST


@torch.inference_mode()  # whatever thread this is
def forward(net: SineNetwork, film: Film, rows: Rows, values: Values) -> None:
    """Fill the `values` that are there, and `rows.products` if it is."""
    width, weights = net.density.shape[1], film.weights
    directions = None if weights.directions is None else rows.directions
    loops.forward(
        _array(rows.points), _array(directions, 3), _array(weights.points), _array(weights.directions, width),
        _stack(weights.layers), _stack(film.biases), _stack(film.frequencies), _stack(film.phases),
        _array(net.density), _array(net.colour), _array(values.sigma, 1), _array(values.logits, 3),
        _array(values.gradient, 3), _array(rows.products, 0), _rows(len(rows.points), width),
    )  # fmt: skip


@torch.inference_mode()
def backward(net: SineNetwork, film: Film, rows: Rows, values: Values, moves: Moves, sums: SineNetwork) -> None:
    """Take gradients back; the arguments are those of `tiles.backward`."""
    width, weights = net.density.shape[1], film.weights
    layers, angles = _stack(sums.weights.layers), _stack(sums.angles)
    directions, to_directions = (None, None) if weights.directions is None else (rows.directions, moves.directions)
    loops.backward(
        _array(rows.points), _array(directions, 3), _array(weights.points), _array(weights.directions, width),
        _stack(weights.layers), _stack(film.biases), _stack(film.frequencies), _stack(film.phases),
        _array(net.weights.points), _array(net.weights.directions, width), _stack(net.weights.layers),
        _array(net.density), _array(net.colour), _array(rows.products, 0), _array(values.sigma, 1),
        _array(values.logits, 3), _array(values.gradient, 3), _array(moves.points, 3), _array(to_directions, 3),
        _array(sums.weights.points), _array(sums.weights.directions, width), layers, angles, _array(sums.density),
        _array(sums.colour), _rows(len(rows.points), width),
    )  # fmt: skip
    for sum_of, total in zip([*sums.weights.layers, *sums.angles], [*layers, *angles], strict=True):
        sum_of.copy_(torch.from_numpy(total))


def _rows(m: int, width: int) -> int:
    """The number of rows of a tile, for m points."""
    return ROWS * max(1, min(_TILE_ELEMENTS // width // ROWS, -(-m // ROWS)))


def _array(tensor: Tensor | None, columns: int = 0) -> Any:
    """A tensor's memory; none with these columns if there is no tensor."""
    return np.empty((0, columns), np.float32) if tensor is None else tensor.detach().numpy()


def _stack(tensors: Sequence[Tensor]) -> Any:
    return np.stack([tensor.detach().numpy() for tensor in tensors])
