"""The fields of many objects as one step of autograd that keeps points and codes and nothing between them.

`zoo.networks.siren` defines the field, `tiles` computes it tile by tile, and `passes` the same on a CPU without Python
in between; here the tiles are shared out over a CPU's threads, or queued on a GPU.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...runtime.workers import alone, spread
from . import passes, tiles
from .tiles import Film, Moves, Rows, SineNetwork, Values, Weights, cut, layer_by_layer

_KEPT_ELEMENTS = 2**28  # a call keeps products of this many elements, 1 GiB, for its backward pass, or none of them
_PARTS = 8  # gradients of weights are summed in at least so many parts, however many threads there are


class SineOut(NamedTuple):
    """What a `SineNetwork` gives at M points of each object; None is what was not asked for."""

    sigma: Tensor  # (B, M, 1)
    logits: Tensor | None  # (B, M, 3)
    gradient: Tensor | None  # (B, M, 3)


def evaluate(
    network: SineNetwork,
    film: Film,
    points: Tensor,
    directions: Tensor | None = None,
    *,
    with_colour: bool = True,
    with_gradient: bool = False,
    counts: Sequence[int] | None = None,
) -> SineOut:
    """Density, colour and gradient of density at points.

    Results can be differentiated by all of `network`, `points` and `directions`, and have the same bits for every
    number of threads. Where their gradients are differentiated, too, these are computed layer by layer.

    Args:
        network: Holds the fields of B objects.
        film: Holds the same fields as layers and FiLM.
        points: Are (B, M, 3) float32, as the first layer takes them.
        directions: Are (B, M, 3) float32; None if colour does not depend on them.
        with_colour: Says whether to compute logits.
        with_gradient: Says whether to compute d sigma / d point.
        counts: Are numbers of points, one per object; at those after them everything is 0. None means all.
    """
    flat = [None if v is None else v.contiguous() for v in (points, directions, *_flat(network))]
    recorded = torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in flat)
    sigma, logits, gradient = _Evaluate.apply(with_colour, with_gradient, recorded, film, counts, *flat)  # type: ignore[no-untyped-call]
    return SineOut(sigma, logits if with_colour else None, gradient if with_gradient else None)


class _Evaluate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, with_colour: bool, with_gradient: bool, recorded: bool, film: Film, counts: Sequence[int] | None,
        points: Tensor, directions: Tensor | None, *flat: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        network = _network(flat)
        (b, m, _), (n, width) = points.shape, (len(network.angles), network.density.shape[1])
        keeps = recorded and b * m * n * width <= _KEPT_ELEMENTS
        rows = Rows(points, directions, points.new_empty(b, m, n * width) if keeps else None)
        new = points.new_empty if counts is None else points.new_zeros
        sigma, logits, gradient = new(b, m, 1), new(b, m * with_colour, 3), new(b, m * with_gradient, 3)
        values = Values(sigma, logits if with_colour else None, gradient if with_gradient else None)
        counts = counts or [m] * b
        objects = [(_one(network, i), _film(film, i)) for i in range(b)]
        # Values do not depend on how points are shared out; the backward pass has the same parts for all numbers of
        # threads, as its sums do.
        whole = [(i, slice(0, m)) for i, m in enumerate(counts)]
        parts = whole if alone() else list(_parts(counts, width, points.device))
        ctx.loops = loops = _loops(network, points)  # products are in an order of its own
        _do([partial(loops.forward, *objects[at[0]], cut(rows, at), cut(values, at)) for at in parts], points.device)
        ctx.set_materialize_grads(False)
        # Torch refuses what is saved here and changes until the backward pass.
        ctx.save_for_backward(*rows, *flat, *_listed(film.weights))
        ctx.film, ctx.counts = film, counts
        return sigma, logits, gradient

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        n = len(_listed(ctx.film.weights))
        points, directions, products, *flat = ctx.saved_tensors  # may be asked for once only, under a checkpoint
        flat, film = flat[:-n], ctx.film._replace(weights=_weights(flat[-n:]))
        graph = torch.is_grad_enabled()
        batched = any(g is not None and torch._C._functorch.is_legacy_batchedtensor(g) for g in grads)
        if graph or batched or len(points) == 0:
            return None, None, None, None, None, *_layer_by_layer([points, directions, *flat], ctx.counts, grads)
        network = _network(flat)
        rows, values = (
            Rows(points, directions, products),
            Values(*(None if g is None else g.contiguous() for g in grads)),
        )
        moves = Moves(
            *(
                torch.zeros_like(v) if needed else None
                for v, needed in zip((points, directions), ctx.needs_input_grad[5:7], strict=True)
            )
        )
        sums: list[list[SineNetwork]] = [[] for _ in points]
        tasks = []
        for at in _parts(ctx.counts, network.density.shape[1], points.device):
            one = _one(network, at[0])
            own = _network([None if v is None else torch.zeros_like(v) for v in _flat(one)])
            sums[at[0]].append(own)
            given = cut(rows, at), cut(values, at), cut(moves, at)
            tasks.append(partial(ctx.loops.backward, one, _film(film, at[0]), *given, own))
        _do(tasks, points.device)
        return None, None, None, None, None, *moves, *_added(sums)


def _layer_by_layer(
    inputs: Sequence[Tensor | None], counts: Sequence[int], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradients of `inputs`, which are points, directions and what `_flat` lists, with a graph if it is wanted."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        own = [None if v is None else v.view_as(v) for v in inputs]  # apart, should one have been computed from another
        points, directions, *flat = own
        assert points is not None
        out = layer_by_layer(_network(flat), Rows(points, directions, None))
    inside = torch.arange(points.shape[1], device=points.device) < torch.tensor(counts, device=points.device)[:, None]
    asked = [(value, g * inside[..., None]) for value, g in zip(out, grads, strict=True) if g is not None]
    moved = [v for v in own if v is not None and v.requires_grad]
    if not asked:
        return [None] * len(own)
    values, given = zip(*asked, strict=True)
    found = iter(torch.autograd.grad(values, moved, given, create_graph=graph, allow_unused=True))
    return [next(found) if v is not None and v.requires_grad else None for v in own]


def _loops(network: SineNetwork, points: Tensor) -> Any:
    """Where `forward` and `backward` of one object are: compiled as wholes, or by torch's operations."""
    return passes if passes.fits(network, points) else tiles


def _do(tasks: Sequence[Callable[[], None]], device: torch.device) -> None:
    """All tasks; on a GPU, which queues them by itself, from this thread, whose stream is the right one."""
    if device.type == "cpu":
        spread(tasks)
    else:
        for task in tasks:
            task()


def _parts(counts: Sequence[int], width: int, device: torch.device) -> Iterator[tuple[int, slice]]:
    """Objects, each with runs of whole tiles of its points."""
    for i, m in enumerate(counts):
        runs = list(tiles.tiles(m, width, device)) or [slice(0, 0)]
        size = -(-len(runs) // max(1, _PARTS // len(counts)))
        for k in range(0, len(runs), size):
            yield i, slice(runs[k].start, runs[k : k + size][-1].stop)


def _flat(network: SineNetwork) -> list[Tensor | None]:
    return [network.density, network.colour, *_listed(network.weights), *network.angles]


def _network(flat: Sequence[Any]) -> SineNetwork:
    density, colour, *rest = flat
    n = len(rest) // 2 + 1
    return SineNetwork(density, colour, _weights(rest[:n]), rest[n:])


def _listed(weights: Weights) -> list[Tensor | None]:
    return [weights.points, weights.directions, *weights.layers]


def _weights(listed: Sequence[Any]) -> Weights:
    points, directions, *layers = listed
    return Weights(points, directions, layers)


def _one(network: SineNetwork, i: int) -> SineNetwork:
    """The network of object `i`."""
    density, colour, *own = _flat(network)
    return _network([density, colour, *(None if v is None else v[i] for v in own)])


def _film(film: Film, i: int) -> Film:
    """The film of object `i`."""
    weights, *vectors = film
    return Film(weights, *([v[i] for v in values] for values in vectors))


def _added(sums: list[list[SineNetwork]]) -> list[Tensor | None]:
    """The gradients of all that `_flat` lists, from those of each object's parts, added in a fixed order."""
    objects = [[_sum(values) for values in zip(*map(_flat, parts), strict=True)] for parts in sums]
    each = list(zip(*objects, strict=True))
    own = [None if values[0] is None else torch.stack(values) for values in each[2:]]
    return [*(_sum(values) for values in each[:2]), *own]


def _sum(values: Sequence[Any]) -> Any:
    return None if values[0] is None else sum(values[1:], values[0])
