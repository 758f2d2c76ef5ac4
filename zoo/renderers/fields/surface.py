"""Surfaces of implicit fields along rays: where a ray enters, and where to sample around it (Xu et al. 2021).

There are B objects, N rays and K samples. Distances are Euclidean along unit rays. Nothing here carries gradients.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Crossing(NamedTuple):
    """The places where rays enter a surface."""

    distance: Tensor  # (B, N, 1); a given constant where no surface is found
    found: Tensor  # (B, N, 1) bool


@torch.no_grad()
def find_surface(
    logits: Tensor,
    z: Tensor,
    evaluate: Callable[[Tensor], Tensor],
    steps: int,
    otherwise: float,
) -> Crossing:
    """Find the first place where each ray goes from outside (negative) to inside (positive).

    The coarse samples bracket it; the bracket is then narrowed. A ray that starts inside, or whose first change of sign
    leaves the object, has no such place.

    Args:
        logits: (B, N, K, 1) field values at the coarse samples; the surface is where they are 0.
        z: (B, N, K) distances of the samples, ascending.
        evaluate: Gives field values (B, N, 1) at distances (B, N, 1).
        steps: Number of refinements, by the secant rule.
        otherwise: Distance returned where nothing is found.
    """
    a = logits[..., 0]
    changes = a[..., :-1] * a[..., 1:] < 0
    first = changes.int().argmax(-1, keepdim=True)  # the first of equal values
    low, high = first, first + 1
    z_low, z_high, a_low, a_high = z.gather(-1, low), z.gather(-1, high), a.gather(-1, low), a.gather(-1, high)
    found = changes.any(-1, keepdim=True) & (a_low < 0) & (a[..., :1] < 0)

    def guess() -> Tensor:
        rise = torch.where(found, a_high - a_low, 1.0)
        return z_low - a_low * (z_high - z_low) / rise

    distance = guess()
    for _ in range(steps):
        value = evaluate(torch.where(found, distance, otherwise)).reshape_as(distance)
        outside = value < 0
        z_low, a_low = torch.where(outside, distance, z_low), torch.where(outside, value, a_low)
        z_high, a_high = torch.where(outside, z_high, distance), torch.where(outside, a_high, value)
        distance = guess()
    return Crossing(torch.where(found, distance, otherwise), found)


def surface_distances(crossing: Crossing, half_width: float, steps: int, near: float, far: float) -> Tensor:
    """Sample distances (B, N, steps) around surfaces.

    They lie evenly over `half_width` on both sides of the surface, shifted to lie within [near, far]. They cover all of
    [near, far] if there is no surface, or if `half_width` is half of that range or more.
    """
    half_width = min(half_width, (far - near) / 2)
    low, high = crossing.distance - half_width, crossing.distance + half_width
    into = (near - low).clamp_min(0)
    low, high = low + into, high + into
    back = (high - far).clamp_min(0)
    low, high = low - back, high - back
    low, high = torch.where(crossing.found, low, near), torch.where(crossing.found, high, far)
    return low + (high - low) * torch.linspace(0, 1, steps, device=low.device)
