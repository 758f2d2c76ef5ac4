"""Adversarial losses as pure functions; every one returns a scalar mean over the batch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(score: Tensor, keep: float = 1.0) -> Tensor:
    """Non-saturating loss softplus(-D(fake)) (Goodfellow et al. 2014) over the best-scored fraction `keep` of the batch
    (top-k training, Sinha et al. 2020). score: (B,)."""
    if keep < 1:
        score = score.topk(math.ceil(keep * len(score))).values
    return F.softplus(-score).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """softplus(D(fake)) + softplus(-D(real)); both (B,)."""
    return F.softplus(fake).mean() + F.softplus(-real).mean()


def r1_penalty(score: Tensor, images: Tensor) -> Tensor:
    """1/2 E |grad_x D(x)|^2 on real images (Mescheder et al. 2018). `images` (B, 3, H, W) must require grad."""
    (gradient,) = torch.autograd.grad(score.sum(), images, create_graph=True)
    return 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean()
