"""Resizing and cropping of images before they are compared."""

import torch.nn.functional as F
from torch import Tensor


def resize(images: Tensor, size: int) -> Tensor:
    """Resize images (B,C,S,S) to (B,C,size,size): by area average when they shrink, bilinearly when they grow."""
    if images.shape[-2] == size:
        return images
    mode = "area" if images.shape[-2] > size else "bilinear"
    return F.interpolate(images, size=(size, size), mode=mode)


def centre_crop(images: Tensor, size: int) -> Tensor:
    """Cut the middle (B,C,size,size) out of images (B,C,S,S).

    Raises:
        ValueError: The images are smaller than `size`.
    """
    side = images.shape[-1]
    if side < size:
        raise ValueError(f"cannot crop {size} px out of images of {side} px; use a size up to {side}")
    start = (side - size) // 2
    return images[..., start : start + size, start : start + size]
