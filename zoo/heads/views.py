"""Where the camera of a head stands and which part of its picture is kept: `view` = (fov, scale, shift x, shift y).

The field of view `fov` is in degrees. The camera looks at the origin from as far away as shows the head as large as 12
degrees do from the unit sphere. The picture is then enlarged by `scale` about its middle and moved by `shift` pixels to
the right and down, as crops of photographs are. (12, 1, 0, 0) is the plain view. Pixel rule: "corner".
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..renderers.zbuffer import pixel_slopes
from .sampling import FOV, VIEW, Bits

PLAIN = (FOV, 1.0, 0.0, 0.0)
_FOV, _SCALE, _SHIFT = 3.0, 0.08, 4 / 64  # largest departures: degrees, part of the size, part of the picture
_QUALITY = (50, 95)  # of JPEG, both ends included


def plain_views(count: int, fov: float = FOV) -> np.ndarray:
    """Views (B, 4), float64, of whole pictures that are not moved; they are the plain ones at 12 degrees."""
    return np.tile([fov, *PLAIN[1:]], (count, 1))


def sample_views(indices: np.ndarray, seed: int, split: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw views (B, 4), float64 that float32 holds exactly, and qualities of JPEG (B,), int64, for pictures of `size`.

    Fields of view are 9 to 15 degrees, scales 0.92 to 1.08, shifts up to a sixteenth of the picture, qualities 50 to
    95; all are uniform.
    """
    u = np.array([Bits(seed, split, VIEW, int(i)).uniform(5) for i in indices]).reshape(-1, 5)
    views = PLAIN + (2 * u[:, :4] - 1) * (_FOV, _SCALE, _SHIFT * size, _SHIFT * size)
    low, high = _QUALITY
    return views.astype(np.float32).astype(np.float64), low + (u[:, 4] * (high + 1 - low)).astype(np.int64)


def view_distances(views: np.ndarray) -> np.ndarray:
    """Distances (B,) of the cameras of views (B, 4) from the origin, in world units; 1 for plain ones."""
    out: np.ndarray = _half_width(np.array(FOV)) / _half_width(views[:, 0])
    return out


def view_slopes(size: int, views: np.ndarray, supersample: int = 1) -> np.ndarray:
    """Slopes of the pixel centres, as of `pixel_slopes`, across and upwards for views (B, 4): (B, 2, S), ascending."""
    out = np.empty((len(views), 2, size * supersample))
    steps = 2 * _half_width(views[:, 0]) / (size - 1)
    for row, (fov, scale, x, y), step in zip(out, views, steps, strict=True):
        plain = pixel_slopes(size, fov, supersample=supersample)
        row[0], row[1] = (plain - x * step) / scale, (plain + y * step) / scale
    return out


def _half_width(fov: np.ndarray) -> np.ndarray:
    # Rounding makes the one transcendental function here the same number on every machine.
    out: np.ndarray = np.round(np.tan(np.deg2rad(fov) / 2), 9)
    return out


def backproject(depth: Tensor, view: Tensor) -> Tensor:
    """Back-project depth (B, 1, S, S) along the optical axis to points (B, 3, S, S) in the camera frame.

    The camera looks along -z; the origin of the head is at (0, 0, -D), with D from `view_distances`.

    Args:
        depth: Depth in world units.
        view: (B, 4), the views of the pictures, see above.

    Raises:
        ValueError: The maps are not square, or there are not as many views as maps.
    """
    b, _, height, size = depth.shape
    if height != size or view.shape != (b, 4):
        raise ValueError(
            f"backproject: depth is {tuple(depth.shape)}, view {tuple(view.shape)}; give (B, 1, S, S) and (B, 4)"
        )
    fov, scale, x, y = view.to(depth)[..., None].unbind(1)
    half_width = torch.tan(torch.deg2rad(fov) / 2) / scale
    at = torch.arange(size, dtype=depth.dtype, device=depth.device)
    right = half_width * (2 * (at - x) / (size - 1) - 1)
    up = half_width * (1 - 2 * (at - y) / (size - 1))
    return torch.cat([right[:, None, None] * depth, up[:, None, :, None] * depth, -depth], 1)


def compress(images: np.ndarray, qualities: np.ndarray) -> np.ndarray:
    """What JPEG of the qualities (B,) leaves of images (B, 3, S, S) in [-1, 1]: float32 of the same shape and range.

    The last bits may depend on the version of the codec.
    """
    pixels = np.round((images.transpose(0, 2, 3, 1) + 1) * 127.5).astype(np.uint8)
    out = np.empty(images.shape, np.float32)
    for row, picture, quality in zip(out, pixels, qualities, strict=True):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=int(quality))
        row[:] = np.asarray(Image.open(file), np.float32).transpose(2, 0, 1) / 127.5 - 1
    return out
