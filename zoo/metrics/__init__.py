"""Formulas, one topic a file; SIDE and MAD as torchmetrics classes, too, which average once over all processes."""

from .depth import MAD, SIDE, angle_per_image, erode, evaluation_mask, side_per_image

__all__ = ["MAD", "SIDE", "angle_per_image", "erode", "evaluation_mask", "side_per_image"]
