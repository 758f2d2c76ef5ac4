"""A network of sines for one object, on one thread or GPU: a tile of points goes through all layers and back at a time.

With x[-1] the point, a trunk of n layers and a colour layer compute

    y[i] = W[i] x[i - 1] + b[i],   x[i] = sin(a[i]),   a[i] = f[i] y[i] + p[i],   sigma = w x[n - 1],
    y[n] = W[n] x[n - 1] + D direction + b[n],   logits = K sin(f[n] y[n] + p[n]),

and the gradient of sigma goes back through the trunk:

    u[n - 1] = w,   r[i] = u[i] f[i] cos(a[i]),   u[i - 1] = r[i] W[i],   d sigma / d point = r[0] W[0].

Derivatives are those of the same network with FiLM multiplied in, a[i] = V[i] x[i - 1] + c[i] with V[i] = f[i] W[i] and
c[i] = f[i] b[i] + p[i]. Values are computed in the order above, in which the published code rounds.

All that is computed at a tile stays in the core's cache; on a GPU a tile is as large as keeps it busy. The backward
pass computes it again; where memory allows, a forward pass that is to be followed by one leaves it the products y[i].
"""

import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from . import kernels
from .devices import run

# Rows times width. On a CPU: small enough for the cache, large enough for efficient products and few calls.
_TILE_ELEMENTS = 2**17
_TILE_ELEMENTS_ON_GPU = 2**23  # 32 MiB for each layer's sines


class Weights(NamedTuple):
    """Weights of n trunk layers and a colour layer of width H; with FiLM multiplied in, an axis B may come first.

    Attributes:
        points: W[0], transposed, (3, H).
        directions: D, transposed, (3, H); None if colour does not depend on the direction.
        layers: W[1] to W[n - 1], then the colour layer's W[n], n times (H, H).
    """

    points: Tensor
    directions: Tensor | None
    layers: Sequence[Tensor]


class Film(NamedTuple):
    """The layers as values are computed from them: W, and n + 1 times b, f and p, (H,) or (B, H); without gradients."""

    weights: Weights
    biases: Sequence[Tensor]
    frequencies: Sequence[Tensor]
    phases: Sequence[Tensor]


class SineNetwork(NamedTuple):
    """The field of one object, or those of B; float32.

    Attributes:
        density: W, (1, H).
        colour: K, (3, H).
        weights: V, of each object.
        angles: C of the trunk's layers and the colour layer, n + 1 times (H,) or (B, H); only their gradients are used.
    """

    density: Tensor
    colour: Tensor
    weights: Weights
    angles: Sequence[Tensor]


class Rows(NamedTuple):
    """M points of one object, or of each of B."""

    points: Tensor  # (M, 3)
    directions: Tensor | None  # (M, 3); None if colour does not depend on them
    products: Tensor | None  # (M, (n + 1) * H) left for the backward pass: y[0], ..., y[n], ordered as that wants


class Values(NamedTuple):
    """What is computed at M points, or the gradients of it; None is what is not wanted."""

    sigma: Tensor | None  # (M, 1)
    logits: Tensor | None  # (M, 3)
    gradient: Tensor | None  # (M, 3)


class Moves(NamedTuple):
    """The gradients of M points and their directions; None is what is not wanted."""

    points: Tensor | None  # (M, 3)
    directions: Tensor | None  # (M, 3)


Cut = TypeVar("Cut", Rows, Values, Moves)


def cut(values: Cut, part: Any) -> Cut:
    """A part of each tensor."""
    return type(values)._make(None if value is None else value[part] for value in values)


def tiles(m: int, width: int, device: torch.device) -> Iterator[slice]:
    """Runs of as many of m points as a tile has."""
    rows = max(1, (_TILE_ELEMENTS if device.type == "cpu" else _TILE_ELEMENTS_ON_GPU) // width)
    for start in range(0, m, rows):
        yield slice(start, min(start + rows, m))


@torch.inference_mode()  # whatever thread this is
def forward(net: SineNetwork, film: Film, rows: Rows, values: Values) -> None:
    """Fill the `values` that are there, and `rows.products` if it is."""
    n, width = len(net.angles) - 1, net.density.shape[1]
    for part in tiles(len(rows.points), width, rows.points.device):
        tile, out, m = cut(rows, part), cut(values, part), part.stop - part.start
        spare, x, *buffers = _buffers(2 if out.gradient is None else 2 + 2 * n, m, width, rows.points.device)
        products = _products(tile, spare, n)
        if out.gradient is None:
            for i in range(n):
                _multiply(film, i, tile.points if i == 0 else x, products[i])
                run(kernels.sine, products[i], film.frequencies[i], film.phases[i], x)
        else:
            sines, slopes = buffers[:n], buffers[n:]
            _trunk(film, tile.points, products, sines, slopes, film.frequencies)
            torch.mul(net.density, slopes[-1], out=x)
            for i in range(n - 1, 0, -1):
                torch.mm(x, film.weights.layers[i - 1], out=spare)
                torch.mul(spare, slopes[i - 1], out=x)
            torch.mm(x, film.weights.points.t(), out=out.gradient)
            x = sines[-1]
        if out.sigma is not None:
            torch.mm(x, net.density.t(), out=out.sigma)
        if out.logits is not None:
            _multiply_colour(film, tile, x, products[-1])
            run(kernels.sine, products[-1], film.frequencies[n], film.phases[n], x)
            torch.mm(x, net.colour.t(), out=out.logits)


@torch.inference_mode()
def backward(net: SineNetwork, film: Film, rows: Rows, values: Values, moves: Moves, sums: SineNetwork) -> None:
    """Take gradients back.

    Args:
        net: Is the network.
        film: Are its layers.
        rows: Are the points, with the products that the forward pass left, if any.
        values: Are the gradients of what was computed at them.
        moves: Is filled where it is there.
        sums: Gets the gradients of the network added.
    """
    n, width = len(net.angles) - 1, net.density.shape[1]
    weights, ones = net.weights, [torch.ones_like(net.density[0])] * (n + 1)
    for part in tiles(len(rows.points), width, rows.points.device):
        tile, given, into, m = cut(rows, part), cut(values, part), cut(moves, part), part.stop - part.start
        total, g, spare, cosine, *buffers = _buffers(4 + 3 * n, m, width, rows.points.device)
        total, sines, cosines, bent = total[0], buffers[:n], buffers[n : 2 * n], buffers[2 * n :]
        products, ready = _products(tile, spare, n), tile.products is not None
        _trunk(film, tile.points, products, sines, cosines, ones, ready)
        if given.gradient is not None:
            _gradient_backward(net.density, weights, given.gradient, sines, cosines, bent, (g, spare), sums)
        if given.logits is None:
            g.zero_()
        else:
            if not ready:
                _multiply_colour(film, tile, sines[-1], products[-1])
            run(kernels.sine_cosine, products[-1], film.frequencies[n], film.phases[n], ones[n], g, cosine)
            sums.colour.addmm_(given.logits.t(), g)
            torch.mm(given.logits, net.colour, out=spare)
            run(kernels.through_sine, spare, cosine, total)
            sums.angles[n].add_(total)
            sums.weights.layers[-1].addmm_(spare.t(), sines[-1])
            if tile.directions is not None and weights.directions is not None and sums.weights.directions is not None:
                sums.weights.directions.addmm_(tile.directions.t(), spare)
                if into.directions is not None:
                    torch.mm(spare, weights.directions.t(), out=into.directions)
            torch.mm(spare, weights.layers[-1], out=g)
        if given.sigma is not None:
            sums.density.addmm_(given.sigma.t(), sines[-1])
            g.addmm_(given.sigma, net.density)
        for i in range(n - 1, -1, -1):
            if given.gradient is None:
                run(kernels.through_sine, g, cosines[i], total)
            else:
                run(kernels.through_sine_and_slope, g, cosines[i], bent[i], total)
            sums.angles[i].add_(total)
            if i > 0:
                sums.weights.layers[i - 1].addmm_(g.t(), sines[i - 1])
                torch.mm(g, weights.layers[i - 1], out=spare)
                g, spare = spare, g
        sums.weights.points.addmm_(tile.points.t(), g)
        if into.points is not None:
            torch.mm(g, weights.points.t(), out=into.points)


def layer_by_layer(net: SineNetwork, rows: Rows) -> Values:
    """The same of B objects, each with M points, by torch's operations alone, for derivatives of derivatives."""
    weights, angles = net.weights, [angle[:, None] for angle in net.angles]
    angle = rows.points @ weights.points + angles[0]
    cosines = [torch.cos(angle)]
    for weight, shift in zip(weights.layers[:-1], angles[1:-1], strict=True):
        angle = torch.sin(angle) @ weight.mT + shift
        cosines.append(torch.cos(angle))
    features = torch.sin(angle)
    back = net.density * cosines[-1]
    for weight, cosine in zip(weights.layers[-2::-1], cosines[-2::-1], strict=True):
        back = back @ weight * cosine
    angle = features @ weights.layers[-1].mT + angles[-1]
    if rows.directions is not None and weights.directions is not None:
        angle = angle + rows.directions @ weights.directions
    return Values(features @ net.density.mT, torch.sin(angle) @ net.colour.mT, back @ weights.points.mT)


def _products(tile: Rows, spare: Tensor, n: int) -> Sequence[Tensor]:
    """Where y of each layer goes, n + 1 times (m, H): to what is kept, or all to the same place."""
    return [spare] * (n + 1) if tile.products is None else tile.products.view(n + 1, *spare.shape).unbind()


def _multiply(film: Film, i: int, x: Tensor, out: Tensor) -> None:
    torch.addmm(film.biases[i], x, film.weights.layers[i - 1].t() if i > 0 else film.weights.points, out=out)


def _multiply_colour(film: Film, tile: Rows, features: Tensor, out: Tensor) -> None:
    torch.addmm(film.biases[-1], features, film.weights.layers[-1].t(), out=out)
    if tile.directions is not None and film.weights.directions is not None:
        out.addmm_(tile.directions, film.weights.directions)


def _trunk(
    film: Film, points: Tensor, products: Sequence[Tensor], sines: list[Tensor], cosines: list[Tensor],
    factors: Sequence[Tensor], ready: bool = False,
) -> None:  # fmt: skip
    """Fill `sines`, and `cosines` with `factors` times the cosines."""
    for i in range(len(sines)):
        if not ready:
            _multiply(film, i, sines[i - 1] if i > 0 else points, products[i])
        run(kernels.sine_cosine, products[i], film.frequencies[i], film.phases[i], factors[i], sines[i], cosines[i])


def _gradient_backward(
    density: Tensor, weights: Weights, g: Tensor, sines: list[Tensor], cosines: list[Tensor], bent: list[Tensor],
    scratch: tuple[Tensor, Tensor], sums: SineNetwork,
) -> None:  # fmt: skip
    """From the gradient g (M, 3) of d sigma / d point to those of weights, and of each layer's angles, in `bent`."""
    r, spare = scratch
    n = len(sines)
    bent[-1].copy_(density.expand_as(bent[-1]))  # u[n - 1]; each u makes room for what its cosine gives the angle
    for i in range(n - 1, 0, -1):
        torch.mul(bent[i], cosines[i], out=r)
        torch.mm(r, weights.layers[i - 1], out=bent[i - 1])
    torch.mul(bent[0], cosines[0], out=r)
    sums.weights.points.addmm_(g.t(), r)
    torch.mm(g, weights.points, out=spare)
    for i in range(n):
        run(kernels.through_slope, spare, cosines[i], bent[i], sines[i])
        if i + 1 < n:
            torch.mul(bent[i + 1], cosines[i + 1], out=r)
            sums.weights.layers[i].addmm_(r.t(), spare)
            torch.mm(spare, weights.layers[i].t(), out=r)
            r, spare = spare, r
    sums.density.add_(spare.sum(0))


_scratch = threading.local()


def _buffers(n: int, rows: int, width: int, device: torch.device) -> list[Tensor]:
    """n tiles (rows, width) of memory; on a CPU this thread uses the same again and again."""
    if device.type != "cpu":
        return list(torch.empty(n, rows, width, dtype=torch.float32, device=device))  # torch keeps it for the next call
    stride = -(-rows * width // 16) * 16  # whole cache lines
    memory = getattr(_scratch, "memory", None)
    if memory is None or len(memory) < n * stride:
        memory = _scratch.memory = torch.empty(n * stride, dtype=torch.float32, device="cpu")
    return [memory[k * stride : k * stride + rows * width].view(rows, width) for k in range(n)]
