"""Lambertian shading of composited maps (Pan et al. 2021, ShadeGAN, eq. 5; lights as in Wu et al. 2020)."""

import torch
from torch import Tensor

from ..geometry import Light


def unit_normals(gradient: Tensor) -> Tensor:
    """Outward unit normals from composited density gradients (..., 3).

    The sum is normalised once, so steep samples weigh more.
    """
    out: Tensor = -gradient / (gradient.norm(dim=-1, keepdim=True) + 1e-7)
    return out


def lambert(normal: Tensor, light: Light, ratio: float = 1.0) -> Tensor:
    """The light factor (B, N, 1) of unit normals (B, N, 3) in the world frame: ambient + diffuse * max(0, n . light).

    `ratio` blends from no shading (0) to full shading (1), for a warm-up. A normal that is not a number counts as
    facing the light, so that empty rays stay harmless.
    """
    cosine = (normal * light.direction[:, None]).sum(-1, keepdim=True).clamp(0, 1)
    cosine = torch.where(cosine.isnan(), torch.ones_like(cosine), cosine)
    shading = light.ambient[:, None, None] + light.diffuse[:, None, None] * cosine
    return ratio * shading + (1 - ratio)
