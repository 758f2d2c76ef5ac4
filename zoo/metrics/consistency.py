"""Whether two views of an object show one object, and whether a method's normals are those of its own depth."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Camera, depth_to_normal, depth_to_points
from .depth import angle_per_image, erode


class ViewDifferences(NamedTuple):
    """How B second views differ from what their first views say about them, (B,) each, float64.

    Attributes:
        colour: Mean absolute difference over pixels and channels, where white is 1 and black 0.
        depth: Mean absolute difference of depth along the second view's axis, over that depth.
        compared: Share of the first view's eroded mask that both views see. If it is 0, the others are NaN.
    """

    colour: Tensor
    depth: Tensor
    compared: Tensor


def view_differences(
    first: tuple[Tensor, Tensor, Tensor],
    first_camera: Camera,
    second: tuple[Tensor, Tensor, Tensor],
    second_camera: Camera,
    tolerance: float = 0.01,
) -> ViewDifferences:
    """Take each pixel of the first view to its place in the second by its depth, and compare colour and depth there.

    A point that lies behind the second view's surface by more than the tolerance is hidden there, and does not count.
    One that lies in front of it counts, however far: there the second view sees through the first. Both masks are
    eroded by a pixel, and the places have to lie between four pixels of the second.

    Args:
        first: rgb (B, 3, S, S) in [-1, 1], depth (B, 1, S, S) along the optical axis, and mask (B, 1, S, S), whose
            opacity counts above 0.5.
        first_camera: B cameras of the first views, or one for all.
        second: The same of the second views, of any size.
        second_camera: B cameras of the second views, or one for all.
        tolerance: Share of the depth.

    Raises:
        ValueError: Depth maps are not as large as their cameras' images.
    """
    rgb, depth, mask = (x.double() for x in first)
    other_rgb, other_depth, other_mask = (x.double() for x in second)
    a, b = (_double(camera).expand(len(rgb)) for camera in (first_camera, second_camera))
    inside = erode(mask > 0.5)
    depth = torch.where(inside, depth, 1.0)
    local = depth_to_points(depth, a).flatten(2).mT
    world = local @ a.cam2world[:, :3, :3].mT + a.cam2world[:, None, :3, 3]
    pixels, expected = b.project(world)
    at = (pixels / (b.size - 1) * 2 - 1).view(*inside.shape[:1], *inside.shape[2:], 2)
    expected = expected.view_as(depth)

    valid = erode(other_mask > 0.5).double()
    maps = torch.cat([other_rgb, torch.where(other_mask > 0.5, other_depth, 1.0), valid], 1)
    colour, seen, covered = F.grid_sample(maps, at, align_corners=True).split([3, 1, 1], 1)
    both = inside & (covered > 0.999) & (expected > 0) & (expected - seen <= tolerance * seen)

    def mean(error: Tensor) -> Tensor:
        out: Tensor = torch.where(both, error, 0.0).sum((1, 2, 3)) / (both.sum((1, 2, 3)) * error.shape[1])
        return out

    return ViewDifferences(
        mean((colour - rgb).abs() / 2),
        mean((expected - seen).abs() / seen),
        both.sum((1, 2, 3)) / inside.sum((1, 2, 3)).double(),
    )


def own_normals(normal: Tensor, depth: Tensor, mask: Tensor, camera: Camera) -> Tensor:
    """Mean angle (B,) in degrees between a method's normals and those of its depth, inside its eroded mask.

    Args:
        normal: (B, 3, S, S) in the camera's frame, of any length above 0.
        depth: (B, 1, S, S) along the optical axis.
        mask: (B, 1, S, S) opacity; above 0.5 counts.
        camera: The camera of the maps.

    Returns:
        (B,) float64; NaN for an image whose eroded mask is empty.

    Raises:
        ValueError: Shapes disagree, or inside the mask a normal is 0 or a value is not finite.
    """
    return angle_per_image(F.normalize(normal, dim=1), depth_to_normal(depth, camera), erode(mask > 0.5))


def _double(camera: Camera) -> Camera:
    return Camera(camera.cam2world.double(), camera.fov, camera.size, camera.pixel_centres)
