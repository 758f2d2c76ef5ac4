"""Volume rendering along rays: where to sample, how to composite (Mildenhall et al. 2020; Chan et al. 2021).

There are B objects, N rays and K samples. Distances are Euclidean along unit rays. Everything here is float32, because
weights are cumulative products, for which half precision is too coarse.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import NamedTuple, Self

import torch
from torch import Tensor

from ...runtime import draws
from ...runtime.workers import spread
from .surface import Crossing, find_surface, surface_distances


class FieldOut(NamedTuple):
    """A field at M points of each of B objects. `gradient` is d sigma / d x in the field's own (warped) coordinates."""

    rgb: Tensor  # (B, M, 3) in [0, 1]
    sigma: Tensor  # (B, M, 1) raw density or occupancy logit
    gradient: Tensor | None  # (B, M, 3)


Field = Callable[..., FieldOut]
"""(points (B, M, 3), unit directions (B, M, 3)) -> FieldOut. Where it takes a third argument,
`Sampling.least_weight` works, and gives the number of points of each object, after which nothing is looked at."""
Density = Callable[[Tensor], Tensor]
"""points (B, M, 3) -> raw density or occupancy logit (B, M, 1)."""

_LAST_INTERVAL = 1e10  # so that any density at the last sample makes the ray opaque, as in the published code
_EPS = 1e-5
_CHUNK_ELEMENTS = 2**19  # numbers per pass without gradients: they stay in cache, far below 2 GB at 256 px
_TOGETHER = 4  # passes come in multiples of this, so that 2 or 4 threads have as many each
_WORTH_IT = 2**13  # points of an object; with fewer, passes are not divided for threads, as each has costs of its own


@dataclass(frozen=True)
class Sampling:
    """How rays are sampled and composited. A method that needs more settings has a subclass in its own file.

    Attributes:
        steps: Samples over the whole ray, or over the window around a tracked surface.
        fine_steps: Importance samples added where the first ones found density; 0 adds none.
        random: Whether the samples are jittered, as in training; otherwise everything is deterministic.
        noise_std: Standard deviation of Gaussian noise on the raw density.
        last_back: Whether the last sample takes the weight that is left over.
        window: Full width of the interval around the tracked surface in world units; 0 means the whole ray.
        surface_steps: Samples around the surface that root finding meets; 0 turns this off. If it is on, the first
            samples only find the surface, and only these and the fine ones are composited.
        interval: Half width of the interval that `surface_steps` cover, in world units.
        refine: Steps of root finding.
        least_weight: Density decides first, and samples that weigh less get neither colour nor gradient. A ray's
            colour, in [0, 1], is off by less than the number of its samples times this; its depth is not. Where
            gradients are recorded, samples are left out that have none: those whose density is clamped to 0, and those
            that less light than this reaches. 0 computes everything at every sample.

    Raises:
        ValueError: `steps` is below `least_steps`, `fine_steps` is negative, or `surface_steps` or `refine` is out of
            range.
    """

    steps: int = 12
    fine_steps: int = 0
    random: bool = False
    noise_std: float = 0.0
    last_back: bool = False
    window: float = 0.0
    surface_steps: int = 0
    interval: float = 0.0
    refine: int = 4
    least_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.fine_steps < 0:
            raise ValueError(f"fine_steps={self.fine_steps}: use 0 or more")
        if self.surface_steps == 1 or min(self.surface_steps, self.refine) < 0:
            raise ValueError(f"surface_steps={self.surface_steps}, refine={self.refine}: use 2 or more, or 0")
        if self.steps < (least := least_steps(self.fine_steps)):
            raise ValueError(f"steps={self.steps} with fine_steps={self.fine_steps}: use steps of {least} or more")

    @classmethod
    def of(cls, sampling: "Sampling") -> Self:
        """The same sampling as an object of this class; settings that only this class has get their defaults."""
        return sampling if isinstance(sampling, cls) else cls(**vars(sampling))


def least_steps(fine_steps: int) -> int:
    """The fewest samples with which a ray can be marched; fine samples need the midpoints of three or more."""
    return 3 if fine_steps > 0 else 2


class RayMaps(NamedTuple):
    """Composited values, one per ray.

    Where the last sample takes what is left over, it counts in `distance`, and not in the opacity by which that is
    divided for `depth`: so the published code of ShadeGAN and GOF has it, whose depth is too far where opacity is low.
    """

    rgb: Tensor  # (B, N, 3) in [0, 1], on black
    distance: Tensor  # (B, N, 1) sum of weight * distance, not normalised
    depth: Tensor  # (B, N, 1) mean distance, within [near, far]
    depth_std: Tensor  # (B, N, 1) spread of the weights around the mean distance
    opacity: Tensor  # (B, N, 1) sum of weights, before `last_back`
    gradient: Tensor | None  # (B, N, 3) weighted sum of the field's gradient, not normalised
    surface: Tensor | None = None  # (B, N, 1) distance of the surface found; the middle of the scene where none is
    found: Tensor | None = None  # (B, N, 1) bool
    samples: Tensor | None = None  # (B, N, K, 4) colours and raw densities composited, with surface sampling


def counts_freely(device: torch.device) -> bool:
    """Whether a training step may count samples. On a GPU, which runs behind Python, it would have to wait for it."""
    return device.type == "cpu"


def ray_distances(
    near: float, far: float, steps: int, centre: Tensor | None = None, window: float = 0.0, *, like: Tensor
) -> Tensor:
    """Sample distances (B, N, K), evenly over [near, far], or over `window` around `centre` (B, N, 1) within it."""
    if centre is None or window <= 0:
        return torch.linspace(near, far, steps, device=like.device).expand(*like.shape[:2], steps)
    centre = centre.clamp(near + window / 2, far - window / 2)
    return centre + torch.linspace(-1, 1, steps, device=like.device) * (window / 2)


def jitter(z: Tensor, u: Tensor) -> Tensor:
    """Move sorted distances (B, N, K) by up to half a step either way, by `u` (B, N, K), uniform in [0, 1]."""
    return z + (u - 0.5) * (z[..., 1:2] - z[..., :1])


def composite_weights(
    sigma: Tensor, z: Tensor, *, density_scale: float = 1.0, clamp: str = "relu", noise: Tensor | None = None
) -> Tensor:
    """Weights (B, N, K, 1) of samples, from their raw density.

    A sample has alpha = 1 - exp(-interval * act(sigma + noise)) and the weight alpha * product of (1 - alpha) of the
    samples before it.

    Args:
        sigma: (B, N, K, 1) raw density.
        z: (B, N, K) sorted distances.
        density_scale: Factor on the activated density.
        clamp: The activation: "relu", "softplus", or "occupancy" for logits with alpha = sigmoid(density_scale * sigma)
            and no interval (Xu et al. 2021).
        noise: (B, N, K, 1) added to the raw density.

    Raises:
        ValueError: `clamp` is unknown.
    """
    raw = sigma if noise is None else sigma + noise
    if clamp == "occupancy":
        alpha = torch.sigmoid(density_scale * raw)
    elif clamp in ("relu", "softplus"):
        act = torch.relu(raw) if clamp == "relu" else torch.nn.functional.softplus(raw)
        interval = torch.cat([z[..., 1:] - z[..., :-1], torch.full_like(z[..., :1], _LAST_INTERVAL)], -1)
        alpha = 1 - torch.exp(-interval[..., None] * density_scale * act)
    else:
        raise ValueError(f"clamp must be 'relu', 'softplus' or 'occupancy', got {clamp!r}")
    through = torch.cumprod(torch.cat([torch.ones_like(alpha[..., :1, :]), 1 - alpha + 1e-10], -2), -2)
    return alpha * through[..., :-1, :]


def fill_last(weights: Tensor) -> Tensor:
    """Weights (B, N, K, 1) of which the last takes what is left over, so that they sum to 1."""
    left = 1 - weights.sum(-2, keepdim=True)
    return torch.cat([weights[..., :-1, :], weights[..., -1:, :] + left], -2)


def composite(out: FieldOut, z: Tensor, weights: Tensor, near: float, far: float, last_back: bool = False) -> RayMaps:
    """Weighted sums along the rays; every tensor of `out` is (B, N, K, .)."""
    opacity = weights.sum(-2)
    if last_back:
        weights = fill_last(weights)
    z = z[..., None]
    distance = (weights * z).sum(-2)
    mean = distance / (opacity + _EPS)
    n = z.shape[-2]
    with torch.no_grad():
        variance = (weights * (z - mean[..., None, :]) ** 2).sum(-2) / ((opacity + _EPS) * (n - 1) / n)
    gradient = None if out.gradient is None else (weights * out.gradient).sum(-2)
    rgb = (weights * out.rgb).sum(-2)
    return RayMaps(rgb, distance, mean.clamp(near, far), variance.sqrt(), opacity, gradient)


def sample_pdf(bins: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Inverse-CDF sampling: bins (..., K+1), weights (..., K), u (..., F) in [0, 1] -> positions (..., F)."""
    pdf = weights + _EPS
    pdf = pdf / pdf.sum(-1, keepdim=True)
    cdf = torch.cat([torch.zeros_like(pdf[..., :1]), pdf.cumsum(-1)], -1)
    index = torch.searchsorted(cdf, u.contiguous())
    low, high = (index - 1).clamp(min=0), index.clamp(max=weights.shape[-1])
    cdf_low, cdf_high = cdf.gather(-1, low), cdf.gather(-1, high)
    bin_low, bin_high = bins.gather(-1, low), bins.gather(-1, high)
    step = cdf_high - cdf_low
    step = torch.where(step < _EPS, torch.ones_like(step), step)
    return bin_low + (u - cdf_low) / step * (bin_high - bin_low)


def fine_distances(z: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Importance samples (B, N, F) from coarse distances z (B, N, K) and their weights (B, N, K, 1).

    They pass no gradient. `u` (B, N, F) in [0, 1] chooses them, see `sample_pdf`.
    """
    middle = 0.5 * (z[..., 1:] + z[..., :-1])
    return sample_pdf(middle, (weights[..., 0] + _EPS)[..., 1:-1], u).detach()


def render_rays(
    field: Field,
    origins: Tensor,
    directions: Tensor,
    near: float,
    far: float,
    sampling: Sampling,
    *,
    density_scale: float = 1.0,
    clamp: str = "relu",
    centre: Tensor | None = None,
    density: Density | None = None,
    u_jitter: Tensor | None = None,
    u_fine: Tensor | None = None,
    width: int = 256,
) -> RayMaps:
    """March B x N rays through a field and composite.

    Args:
        field: The field to query. It is called once for the first samples and once for the fine ones, or, with
            `surface_steps`, once for all.
        origins, directions: (B, N, 3) origins and unit directions in the world frame.
        near, far: Range of distances.
        sampling: How the rays are sampled.
        density_scale: Factor on the activated density.
        clamp: The activation, see `composite_weights`.
        centre: (B, N, 1) distance of a tracked surface, used if `sampling.window` > 0.
        density: The field's raw density alone, which `sampling.surface_steps` and `sampling.least_weight` need.
        u_jitter, u_fine: (B, N, steps or surface_steps) and (B, N, fine_steps) numbers in [0, 1] that replace fresh
            random ones, for tests.
        width: Numbers that the field holds in memory for a point, such as the width of its layers. Without gradients
            the rays are rendered in chunks for which these fit a CPU's cache or fill a GPU.

    Raises:
        ValueError: `clamp` is unknown, or `density` is missing although `surface_steps` needs it.
    """
    b, n, _ = origins.shape
    composited = sampling.surface_steps + sampling.fine_steps if sampling.surface_steps else 0
    points_per_ray = max(sampling.steps, composited) * b
    shared_out = origins.device.type == "cpu" and not torch.is_grad_enabled()
    worth_it = shared_out and n * points_per_ray > _WORTH_IT * b
    chunks = _chunks(n, width * points_per_ray, origins.is_cuda, _TOGETHER if worth_it else 1)
    parts: list[RayMaps | None] = [None] * len(chunks)
    numbers = _drawn(sampling, b, n, origins, u_jitter, u_fine)

    def march(i: int) -> None:
        def cut(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[:, chunks[i]]

        parts[i] = _march(
            field, origins[:, chunks[i]], directions[:, chunks[i]], near, far, sampling, density_scale, clamp,
            cut(centre), density, _Numbers._make(map(cut, numbers)),
        )  # fmt: skip

    if shared_out and len(chunks) > 1:
        spread([torch.no_grad()(partial(march, i)) for i in range(len(chunks))])
    else:
        for i in range(len(chunks)):
            march(i)
    done = [part for part in parts if part is not None]
    if len(done) == 1:
        return done[0]
    return RayMaps._make(None if v[0] is None else torch.cat(v, 1) for v in zip(*done, strict=True))


def _chunks(n: int, elements: int, on_gpu: bool, least: int) -> list[slice]:
    """All of n rays, each of which needs `elements` numbers; without gradients in parts that fit, and in `least` parts
    or more. How many there are does not depend on the number of threads."""
    fits = _CHUNK_ELEMENTS * (128 if on_gpu else 1)
    count = 1 if torch.is_grad_enabled() else max(least, -(-n * elements // fits))
    if count > 1 and not on_gpu:
        count = -(-count // _TOGETHER) * _TOGETHER
    size = max(1, -(-n // max(1, count)))
    return [slice(start, start + size) for start in range(0, max(1, n), size)]


class _Numbers(NamedTuple):
    """The random numbers of rays; None where there are none."""

    jitter: Tensor | None  # (B, N, K) in [0, 1] of the samples that are jittered
    fine: Tensor | None  # (B, N, F) in [0, 1]
    coarse_noise: Tensor | None  # (B, N, K, 1) on the density by which the fine samples are chosen
    noise: Tensor | None  # (B, N, K, 1) on the density that is composited


def _drawn(
    sampling: Sampling, b: int, n: int, like: Tensor, u_jitter: Tensor | None, u_fine: Tensor | None
) -> _Numbers:
    """The numbers of all rays, drawn before these are cut into chunks, so that chunks do not change the picture."""
    first, fine = sampling.surface_steps or sampling.steps, sampling.fine_steps

    def uniform(steps: int) -> Tensor | None:
        return draws.rand(b, n, steps, device=like.device) if sampling.random else None

    def normal(steps: int) -> Tensor | None:
        if sampling.noise_std <= 0:
            return None
        return draws.randn(b, n, steps, 1, dtype=like.dtype, device=like.device) * sampling.noise_std

    return _Numbers(  # in this order, by which seeds give the pictures that they gave
        uniform(first) if u_jitter is None else u_jitter,
        None if fine == 0 else uniform(fine) if u_fine is None else u_fine,
        None if fine == 0 else normal(sampling.steps),
        normal(first + fine),
    )


class _Samples(NamedTuple):
    """What is known of samples (B, N, K, .): their density, and the rest if it was asked for at once."""

    sigma: Tensor
    rgb: Tensor | None = None
    gradient: Tensor | None = None


def _march(
    field: Field, origins: Tensor, directions: Tensor, near: float, far: float, sampling: Sampling,
    density_scale: float, clamp: str, centre: Tensor | None, density: Density | None, numbers: _Numbers,
) -> RayMaps:  # fmt: skip
    if sampling.surface_steps > 0 and density is None:
        raise ValueError("surface_steps needs the argument `density`, which gives the raw density alone")
    recorded = torch.is_grad_enabled()
    density_first = sampling.least_weight > 0 and density is not None and _takes_counts(field)
    if recorded or sampling.random:  # in training, D's pictures are made without gradients
        density_first = density_first and counts_freely(origins.device)
    if recorded:
        density_first = density_first and clamp == "relu"

    def at(z: Tensor) -> Tensor:
        return (origins[:, :, None] + z[..., None] * directions[:, :, None]).flatten(1, 2)

    def along(z: Tensor) -> Tensor:
        return directions[:, :, None].expand(-1, -1, z.shape[-1], -1).flatten(1, 2)

    def density_at(z: Tensor) -> Tensor:
        assert density is not None
        return density(at(z)).reshape(*z.shape, 1)

    def look(z: Tensor) -> _Samples:
        if density_first:
            with torch.no_grad():
                return _Samples(density_at(z))
        rgb, sigma, gradient = (None if v is None else v.reshape(*z.shape, v.shape[-1]) for v in field(at(z), along(z)))
        assert sigma is not None
        return _Samples(sigma, rgb, gradient)

    def weigh(sigma: Tensor, z: Tensor, noise: Tensor | None) -> Tensor:
        return composite_weights(sigma, z, density_scale=density_scale, clamp=clamp, noise=noise)

    def jittered(z: Tensor) -> Tensor:
        return z if numbers.jitter is None else jitter(z, numbers.jitter)

    def refined(sigma: Tensor, z: Tensor) -> Tensor:
        f = sampling.fine_steps
        u = (torch.arange(f, device=z.device) + 0.5) / f if numbers.fine is None else numbers.fine
        return fine_distances(z, weigh(sigma, z, numbers.coarse_noise), u.expand(*z.shape[:2], f))

    z = ray_distances(near, far, sampling.steps, centre, sampling.window, like=origins)
    crossing: Crossing | None = None
    if sampling.surface_steps > 0:
        with torch.no_grad():
            sigma = density_at(z)
            crossing = find_surface(sigma, z, density_at, sampling.refine, (near + far) / 2)
            around = jittered(surface_distances(crossing, sampling.interval, sampling.surface_steps, near, far))
            z = torch.cat([refined(sigma, z), around], -1).sort(-1).values if sampling.fine_steps > 0 else around
        samples = look(z)
    else:
        z = jittered(z)
        samples = look(z)
        if sampling.fine_steps > 0:
            with torch.no_grad():
                z_fine = refined(samples.sigma, z)
            fine = look(z_fine)
            z, order = torch.cat([z_fine, z], -1).sort(-1)
            samples = _Samples._make(_merge(a, c, order) for a, c in zip(fine, samples, strict=True))
    noise = numbers.noise
    weights = weigh(samples.sigma, z, noise)
    if density_first:
        seen = weights >= sampling.least_weight
        if recorded:
            reached = 1 - weights.cumsum(-2) + weights >= sampling.least_weight
            seen = reached & ((samples.sigma if noise is None else samples.sigma + noise) > 0)
        if sampling.last_back:
            seen[..., -1, :] = True
        samples = _coloured(samples, seen[..., 0], field, at(z), along(z))
        weights = weigh(samples.sigma, z, noise) if recorded else weights
    assert samples.rgb is not None
    out = FieldOut(samples.rgb, samples.sigma, samples.gradient)
    maps = composite(out, z, weights, near, far, sampling.last_back)
    if crossing is None:
        return maps
    return maps._replace(surface=crossing.distance, found=crossing.found, samples=torch.cat([out.rgb, out.sigma], -1))


def _coloured(samples: _Samples, seen: Tensor, field: Field, points: Tensor, directions: Tensor) -> _Samples:
    """The samples with what the field says where `seen` (B, N, K), and with neither colour nor gradient elsewhere.

    Objects have their seen points first in the rows of a smaller batch, which is as long as the longest.
    """
    flat = seen.flatten(1)
    row, column = flat.nonzero(as_tuple=True)
    place = (flat.cumsum(1) - 1)[row, column]
    counts = flat.sum(1).tolist()
    taken = column.new_zeros(len(flat), max(counts, default=0))
    taken[row, place] = column
    index = taken[..., None].expand(-1, -1, 3)
    out = field(points.gather(1, index), directions.gather(1, index), counts)

    def spread(values: Tensor, onto: Tensor) -> Tensor:
        return onto.index_put((row, column), values[row, place]).reshape(*seen.shape, onto.shape[-1])

    nothing = out.rgb.new_zeros(*flat.shape, 3)
    gradient = None if out.gradient is None else spread(out.gradient, nothing)
    return _Samples(spread(out.sigma, samples.sigma.reshape(*flat.shape, 1)), spread(out.rgb, nothing), gradient)


def _takes_counts(field: Field) -> bool:
    """Whether a field that may not be ours takes the numbers of points."""
    try:
        signature(field).bind(None, None, None)
    except TypeError:
        return False
    return True


def _merge(first: Tensor | None, second: Tensor | None, order: Tensor) -> Tensor | None:
    if first is None or second is None:
        return None
    both = torch.cat([first, second], -2)
    return both.gather(-2, order[..., None].expand_as(both))
