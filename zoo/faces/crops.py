"""Squares that are cut out of pictures, turned if need be, for networks that see one size."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ZooError

_ENLARGED = 1.5  # the crop of a face, in sides of its box


def checked(pictures: Tensor) -> Tensor:
    """The pictures as float32 on the CPU.

    Raises:
        ZooError: They are not (B, 3, H, W) of finite floats in [-1, 1].
    """
    if pictures.ndim != 4 or pictures.shape[1] != 3 or not pictures.is_floating_point() or not pictures.numel():
        raise ZooError(f"pictures {tuple(pictures.shape)} of {pictures.dtype}: give (B, 3, H, W) of floats in [-1, 1]")
    low, high = pictures.aminmax()  # NaN if there is one
    if not (low >= -1 - 1e-3 and high <= 1 + 1e-3):
        raise ZooError(f"pictures {tuple(pictures.shape)} have values that are not finite or lie outside [-1, 1]")
    return pictures.detach().float().cpu().contiguous()


def cut(pictures: Tensor, frames: Tensor, side: int, outside: str = "border") -> Tensor:
    """Cut one square out of each picture.

    Args:
        pictures: (B, 3, H, W) in [-1, 1].
        frames: (B, 3, 2) x and y of the square's centre, and of the vectors from there to the middles of its right and
            its lower edge. They are in pixels, of which 0 is the centre of the left or upper one.
        side: The side S of the crops.
        outside: What lies beyond the picture: "border" repeats its edge, "black" is -1.

    Returns:
        (B, 3, S, S).
    """
    axis = (torch.arange(side) + 0.5) * (2 / side) - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    crops = []
    for picture, frame in zip(pictures, frames, strict=True):
        shrink = max(1, int(2 * frame[1].norm() / side))  # a mean over pixels first: large pictures would be aliased
        small = picture[None] if shrink == 1 else F.avg_pool2d(picture[None], shrink, ceil_mode=True)
        centre, right, down = (frame + torch.tensor([[0.5], [0], [0]])) / shrink
        at = centre + x[..., None] * right + y[..., None] * down
        grid = (at * 2 / torch.tensor([small.shape[-1], small.shape[-2]]) - 1)[None]
        if outside == "black":
            crops.append(F.grid_sample(small + 1, grid, padding_mode="zeros", align_corners=False) - 1)
        else:
            crops.append(F.grid_sample(small, grid, padding_mode="border", align_corners=False))
    return torch.cat(crops)


def face_frames(boxes: Tensor, keypoints: Tensor) -> Tensor:
    """The squares around faces, for `cut`: turned by the line of the eyes, half as large again as the box.

    Args:
        boxes: (N, 4) left, top, right, bottom.
        keypoints: (N, 2 or more, 2), first the eye on the left of the picture, then the other.

    Returns:
        (N, 3, 2).
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    eyes = keypoints[:, 1] - keypoints[:, 0]
    angle = torch.atan2(eyes[:, 1], eyes[:, 0])
    half = _ENLARGED / 2 * (high - low).amax(1)
    right = half[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return torch.stack([(low + high) / 2, right, torch.stack([-right[:, 1], right[:, 0]], 1)], 1)
