"""Metrics as torchmetrics classes, which sum over images and processes and average once at the end."""

from .depth import MAD, SIDE, angle_per_image, erode, evaluation_mask, side_per_image

__all__ = ["MAD", "SIDE", "angle_per_image", "erode", "evaluation_mask", "side_per_image"]
