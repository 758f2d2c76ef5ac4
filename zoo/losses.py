"""Losses as pure functions: the adversarial ones first, then the photometric ones.

A loss is a scalar mean over the batch.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .runtime import draws

EPS = 1e-7


def generator_loss(score: Tensor, keep: float = 1.0) -> Tensor:
    """Non-saturating loss softplus(-D(fake)) (Goodfellow et al. 2014).

    Args:
        score: (B,) scores of generated images.
        keep: Fraction of the batch that counts, the best-scored images first (top-k training, Sinha et al. 2020).
    """
    if keep < 1:
        score = score.topk(math.ceil(keep * len(score))).values
    return F.softplus(-score).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """softplus(D(fake)) + softplus(-D(real)), from scores (B,) of real and of generated images."""
    return F.softplus(fake).mean() + F.softplus(-real).mean()


def r1_penalty(score: Tensor, images: Tensor) -> Tensor:
    """1/2 E |grad_x D(x)|^2 on real images (Mescheder et al. 2018).

    Args:
        score: (B,) scores of `images`.
        images: (B, 3, H, W); they must require gradients.
    """
    (gradient,) = torch.autograd.grad(score.sum(), images, create_graph=True)
    return 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean()


def path_lengths(images: Tensor, code: Tensor) -> Tensor:
    """How much images (B, 3, H, W) change with their codes (B, ...): (B,) lengths |J^T y|, one random image y for each.

    y has the standard deviation 1 / sqrt(H W). With codes (B, L, D), one for each layer, the length is the root of the
    mean square over layers (Karras et al. 2020, eq. 4). The graph is kept, so that gradients flow through the lengths.
    The length of an image that does not depend on its code is 1e-6.
    """
    y = draws.randn_like(images) / math.sqrt(images.shape[-2] * images.shape[-1])
    (gradient,) = torch.autograd.grad((images * y).sum(), code, create_graph=True)
    squares = gradient.square().sum(-1).reshape(len(gradient), -1).mean(1)
    return (squares + 1e-12).sqrt()  # the slope of the root is infinite at 0


def masked_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of values (B,C,H,W), weighted by a mask (B,1,H,W).

    It is 0 if the mask is empty, and the plain mean without a mask.
    """
    if mask is None:
        return values.mean()
    mask = mask.expand_as(values)
    return (values * mask).sum() / mask.sum().clamp_min(EPS)


def photometric_loss(first: Tensor, second: Tensor, mask: Tensor | None = None, sigma: Tensor | None = None) -> Tensor:
    """L1 distance of images, or its negative log-likelihood under a Laplace distribution (Wu et al. 2020, eq. 3).

    Args:
        first, second: Images (B,3,H,W).
        mask: (B,1,H,W) in [0,1], how much each pixel counts.
        sigma: (B,1,H,W) > 0, the spread of the error. With it, sqrt(2) |d| / sigma + log sigma replaces |d|.
    """
    error = (first - second).abs()
    if sigma is not None:
        error = math.sqrt(2) * error / (sigma + EPS) + (sigma + EPS).log()
    return masked_mean(error, mask)


def step_loss(maps: Tensor) -> Tensor:
    """Mean absolute difference of vertical neighbours plus that of horizontal ones, for maps (...,H,W).

    It is Unsup3D's smoothness term, which its supplementary material calls depth smoothness.
    """
    return maps.diff(dim=-2).abs().mean() + maps.diff(dim=-1).abs().mean()


def smoothness_loss(maps: Tensor) -> Tensor:
    """Sum of the four mean absolute second differences of maps (...,H,W) (Pan et al. 2021, GAN2Shape)."""
    down, right = maps.diff(dim=-2), maps.diff(dim=-1)
    seconds = (right.diff(dim=-1), right.diff(dim=-2), down.diff(dim=-1), down.diff(dim=-2))
    return torch.stack([second.abs().mean() for second in seconds]).sum()


def latent_norm(offset: Tensor) -> Tensor:
    """Mean square of latent offsets (B,C); in GAN2Shape it limits how far an inversion leaves its start."""
    return offset.square().mean()
