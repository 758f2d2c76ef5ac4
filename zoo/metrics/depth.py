"""SIDE and MAD, the two errors by which the papers compare recovered shape (Wu, Rupprecht, Vedaldi 2020).

Both are computed per image inside a mask and then averaged over images, so a large face counts no more than
a small one. Everything runs in float64: differences between methods are small, and the average over thousands of
images must not depend on their order or on the number of processes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def erode(mask: Tensor) -> Tensor:
    """Shrink a mask by one pixel: keep a pixel only if its whole 3x3 neighbourhood is inside.

    What lies outside the image counts as outside the mask, so the outermost rows and columns always drop out.

    Args:
        mask: (B,1,H,W), bool or float with values 0 and 1.

    Returns:
        (B,1,H,W) bool.

    Raises:
        ValueError: The shape is not (B,1,H,W), or a value is neither 0 nor 1.
    """
    return F.avg_pool2d(_as_mask(mask).float(), 3, stride=1, padding=1) > 0.99


def evaluation_mask(target: Tensor, prediction: Tensor | None = None) -> Tensor:
    """The pixels that count: those where ground truth and prediction are valid, each eroded by one pixel.

    Args:
        target: (B,1,H,W) foreground of the ground truth, 0 or 1.
        prediction: (B,1,H,W), 1 where the prediction is valid and 0 elsewhere; None if it is valid everywhere.

    Returns:
        (B,1,H,W) bool.

    Raises:
        ValueError: A mask has another shape, or values other than 0 and 1.
    """
    valid = torch.ones_like(target) if prediction is None else prediction
    if valid.shape != target.shape:
        raise ValueError(f"masks differ in shape: target {tuple(target.shape)}, prediction {tuple(valid.shape)}")
    return erode(target) & erode(valid)


def side_per_image(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Scale-invariant depth error: the standard deviation of the log-depth difference inside the mask.

    SIDE = sqrt(mean((e - mean(e))^2)) with e = log prediction - log target (Eigen et al. 2014; Wu et al. 2020).
    A common factor on either depth changes nothing; a shift does. Papers print it times 100.

    Args:
        prediction: (B,1,H,W) depth along the optical axis, > 0 inside the mask, any unit.
        target: (B,1,H,W) depth along the optical axis, > 0 inside the mask, any unit.
        mask: (B,1,H,W), 0 or 1, used without erosion (see `evaluation_mask`).

    Returns:
        (B,) float64, >= 0; NaN for an image whose mask is empty.

    Raises:
        ValueError: Shapes disagree, the mask is not 0/1, or a depth inside it is not finite or not positive.
    """
    inside = _check(prediction, target, mask, channels=1)
    for name, depth in (("prediction", prediction), ("target", target)):
        lowest = depth[inside].min() if inside.any() else torch.ones(())
        if lowest <= 0:
            raise ValueError(f"{name} depth must be > 0 inside the mask; its minimum is {lowest.item():g}")
    # Pixels outside may hold anything, even zero: give them depth 1, whose logarithm is 0.
    logs = [torch.where(inside, depth.double(), 1.0).log() for depth in (prediction, target)]
    difference = logs[0] - logs[1]
    centred = difference - _masked_mean(difference, inside).view(-1, 1, 1, 1)
    return _masked_mean(centred.square(), inside).sqrt()


def angle_per_image(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean angle deviation between two normal maps inside the mask (MAD, Wu et al. 2020).

    The angle is atan2(|a x b|, a.b): arccos(a.b) for unit vectors, and exact near 0, where arccos is not.

    Args:
        prediction: (B,3,H,W) unit normals, any frame, as long as both maps share it.
        target: (B,3,H,W) unit normals.
        mask: (B,1,H,W), 0 or 1, used without erosion.

    Returns:
        (B,) float64 degrees in [0, 180]; NaN for an image whose mask is empty.

    Raises:
        ValueError: Shapes disagree, the mask is not 0/1, or a normal inside it is not finite or not unit.
    """
    inside = _check(prediction, target, mask, channels=3)
    for name, normal in (("prediction", prediction), ("target", target)):
        lengths = normal.norm(dim=1, keepdim=True)[inside]
        if lengths.numel() and (lengths - 1).abs().max() > 1e-2:
            raise ValueError(
                f"{name} normals must have length 1 inside the mask; found {lengths.min().item():.3g}"
                f"..{lengths.max().item():.3g}: normalise them first"
            )
    a, b = (torch.where(inside, normal.double(), 0.0) for normal in (prediction, target))
    angle = torch.atan2(torch.linalg.cross(a, b, dim=1).norm(dim=1), (a * b).sum(dim=1))
    return _masked_mean(angle.unsqueeze(1), inside).rad2deg()


def _masked_mean(values: Tensor, inside: Tensor) -> Tensor:
    return (values * inside).sum(dim=(1, 2, 3)) / inside.sum(dim=(1, 2, 3))


def _as_mask(mask: Tensor) -> Tensor:
    if mask.ndim != 4 or mask.shape[1] != 1:
        raise ValueError(f"mask must be (B,1,H,W), got {tuple(mask.shape)}")
    if mask.dtype != torch.bool and not ((mask == 0) | (mask == 1)).all():
        raise ValueError("mask must hold only 0 and 1; threshold it first, for example mask > 0.5")
    return mask.bool()


def _check(prediction: Tensor, target: Tensor, mask: Tensor, channels: int) -> Tensor:
    """Check shapes and that values are finite; returns the mask as bool (B,1,H,W)."""
    inside = _as_mask(mask)
    expected = (inside.shape[0], channels, *inside.shape[2:])
    for name, value in (("prediction", prediction), ("target", target)):
        if value.shape != expected:
            raise ValueError(f"{name} must be {expected} to go with its mask, got {tuple(value.shape)}")
        broken = ~torch.where(inside, value, torch.zeros_like(value)).isfinite()
        if broken.any():
            raise ValueError(f"{name} has {int(broken.sum())} NaN or infinite values inside the mask")
    return inside
