"""What a predictor of depth knows about a person's shape, apart from pose, and about albedo and light.

The predicted surface is taken to the true one by a similarity, either pixel by pixel (`zoo.metrics.alignment`) or as a
surface (`zoo.metrics.registration`). Its rotation is the error of pose; what is left over is the error of shape. SIDE
and MAD (`zoo.metrics.depth`) mix both.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Light
from ..renderers.shading import lambert
from .alignment import Similarity, align, rotation_angle
from .depth import angle_per_image
from .registration import Registered, register


class ShapeErrors(NamedTuple):
    """Errors of B images, each (B,) float64; NaN where the points of an image leave the similarity open.

    Tables give `shape` in per cent of the distance between the eyes, by which the caller divides.

    Attributes:
        pose: Degrees by which the prediction is turned.
        shape: Root mean square distance of aligned points, in the unit of the targets.
        normals: Mean angle in degrees between turned and true normals.
    """

    pose: Tensor
    shape: Tensor
    normals: Tensor


def errors_by_pixel(
    points: Tensor, normals: Tensor, targets: Tensor, target_normals: Tensor, mask: Tensor
) -> tuple[ShapeErrors, Similarity]:
    """Errors after the similarity that fits best, where pixel x of a prediction belongs to pixel x of the truth.

    Args:
        points: (B, 3, H, W) predicted, back-projected; any unit.
        normals: (B, 3, H, W) unit, predicted, in the frame of `points`.
        targets: (B, 3, H, W) true.
        target_normals: (B, 3, H, W) unit, true, in the frame of `targets`.
        mask: (B, 1, H, W), 0 or 1; used without erosion (see `zoo.metrics.evaluation_mask`).

    Returns:
        The errors of each image, and the similarities that take prediction to truth.

    Raises:
        ValueError: Shapes disagree, or normals inside the mask are not unit.
    """
    similarity = align(points, targets, mask)
    return _errors(similarity, points, normals, targets, target_normals, mask.bool()), similarity


def errors_by_surface(
    points: Tensor,
    normals: Tensor,
    mask: Tensor,
    targets: Tensor,
    target_normals: Tensor,
    target_mask: Tensor,
) -> tuple[ShapeErrors, Registered]:
    """Errors after registration, which finds out where a predicted surface belongs (`zoo.metrics.registration`).

    Each true point is compared with the nearest point of the surface, so what a surface leaves out counts against it. A
    true head that is turned by 5 degrees has a pose error of 5 degrees here, and little of an error of shape.

    Args:
        points: (B, 3, S, S) predicted, back-projected; any unit, finite.
        normals: (B, 3, S, S) unit, predicted, in the frame of `points`.
        mask: (B, 1, S, S), 0 or 1, where the prediction is valid.
        targets: (B, 3, S, S) true, in the camera's frame.
        target_normals: (B, 3, S, S) unit, true, in the camera's frame.
        target_mask: (B, 1, S, S), 0 or 1, the pixels that are compared; used without erosion.

    Returns:
        The errors of each image, and where the surface lies.

    Raises:
        ValueError: Shapes disagree, or normals inside the mask are not unit.
    """
    found = register(points, mask, targets, target_mask)
    near, unit = found.look_up(points), F.normalize(found.look_up(normals), dim=1)
    return _errors(found.similarity, near, unit, targets, target_normals, target_mask.bool()), found


def _errors(
    similarity: Similarity, points: Tensor, normals: Tensor, targets: Tensor, target_normals: Tensor, mask: Tensor
) -> ShapeErrors:
    inside = mask & ~similarity.scale.isnan().view(-1, 1, 1, 1)
    squares = torch.where(inside, similarity.apply(points) - targets.double(), 0.0).square().sum((1, 2, 3))
    turned = torch.where(inside, similarity.turn(normals), 0.0)
    return ShapeErrors(
        rotation_angle(similarity.rotation),
        (squares / inside.sum((1, 2, 3))).sqrt(),
        angle_per_image(turned, target_normals, inside),
    )


def person_r2(shape: Tensor, mean_shape: Tensor) -> Tensor:
    """The share of what tells people apart that a method knows: 1 - sum |e|^2 / sum |e_mean|^2 over images.

    1 is the truth; the mean head has 0, so a method above 0 knows something about this person. |e|^2 is the mean over
    an image's pixels, so a large face counts no more than a small one. Figures are ratios of sums: a bootstrap draws
    images and gives `shape[draws]` and `mean_shape[draws]`, with draws (R, B), for R of them.

    Args:
        shape: (..., B) of the method, as in `ShapeErrors`.
        mean_shape: (..., B) of the mean head rendered at the true pose.

    Returns:
        (...) at most 1; NaN if an image has NaN.
    """
    return 1 - shape.square().sum(-1) / mean_shape.square().sum(-1)


def match_albedo(albedo: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Albedo (B, 3, H, W) times the factor per channel and image that brings it nearest to its target.

    A picture cannot tell a darker surface from a weaker light, nor their colours. Factors are least squares over the
    mask, 0 for a channel that is black everywhere.

    Args:
        albedo: (B, 3, H, W) predicted, linear, 0 for black.
        target: (B, 3, H, W) true, in [0, 1].
        mask: (B, 1, H, W), 0 or 1.
    """
    inside = mask.bool()
    a, t = (torch.where(inside, x.double(), 0.0) for x in (albedo, target))
    power = a.square().sum((2, 3), keepdim=True)
    return albedo.double() * torch.where(power > 0, (a * t).sum((2, 3), keepdim=True) / power, 0.0)


def albedo_error(albedo: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Root mean square error (B,) of albedo over pixels and channels, after `match_albedo`; its arguments are the same.

    The unit is that of the target, in which white is 1. An image with an empty mask has NaN.
    """
    return _rms(match_albedo(albedo, target, mask) - target.double(), mask)


def relighting_error(
    albedo: Tensor, normals: Tensor, target_albedo: Tensor, target_normals: Tensor, mask: Tensor, lights: Light
) -> Tensor:
    """Root mean square error (B,) of images under new lights: predicted albedo and normals against true ones.

    The light model is that of the embedded heads: image = albedo * (ambient + diffuse * max(0, n . light)), at most 1.
    Albedo is matched as in `match_albedo`. An image with an empty mask, or with NaN in its normals there, has NaN.

    Args:
        albedo: (B, 3, H, W) predicted, linear, 0 for black.
        normals: (B, 3, H, W) predicted, unit, turned by `Similarity.turn`, and as `target_normals` in the frame of the
            lights: for the heads that is the world's, not the camera's.
        target_albedo: (B, 3, H, W) true, in [0, 1].
        target_normals: (B, 3, H, W) true, unit, in the frame of the lights.
        mask: (B, 1, H, W), 0 or 1.
        lights: L of them; every image is seen under each.
    """
    matched, truth = match_albedo(albedo, target_albedo, mask), target_albedo.double()
    errors = [
        (matched * _shade(normals, light)).clamp_max(1) - (truth * _shade(target_normals, light)).clamp_max(1)
        for light in lights
    ]
    return _rms(torch.cat(errors, 1), mask)


def _shade(normals: Tensor, light: Light) -> Tensor:
    """The light factor (B, 1, H, W) of normals (B, 3, H, W), NaN where they are."""
    shading = lambert(normals.double().flatten(2).mT, light).mT.view_as(normals[:, :1])
    return shading.where(normals.isfinite().all(1, keepdim=True), torch.nan)  # lambert takes NaN for facing the light


def _rms(error: Tensor, mask: Tensor) -> Tensor:
    inside = mask.bool()
    squares = torch.where(inside, error.square(), 0.0).sum((1, 2, 3))
    return (squares / (inside.sum((1, 2, 3)) * error.shape[1])).sqrt()
