"""The texture atlas of the head model, built once: a spherical chart, resampled skins, and painted fields.

The atlas has SKIN x SKIN texels for the head and, below them, an EYE_TEXELS x EYE_TEXELS tile that both eyeballs
share. Texel (row, column) has its centre at v = row + 0.5, u = column + 0.5. Columns wrap at the back of the head;
rows run from the crown to the underside. The chart gives the front of the head 1.6 times the columns of an even one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from ..renderers.zbuffer import rasterize_batch
from .model import EYE_TEXELS, FIELD_RANGE, IRIS_TEXELS

SKIN = 320
UNIT = 0.0743  # one MakeHuman unit (10 cm) in the world; the sizes below are written in MakeHuman units

# Hairline, front to back: angle around the vertical axis in degrees, height in world units on the mean head.
HAIRLINE = (
    (0, 0.063),
    (25, 0.060),
    (40, 0.048),
    (52, 0.040),
    (62, 0.022),
    (74, 0.000),
    (86, 0.002),
    (112, -0.022),
    (145, -0.048),
    (180, -0.053),
)
# Eyebrow, nose to temple, on one side: x, height above the eye centre, half thickness, all in MakeHuman units.
BROW = ((0.11, 0.155, 0.030), (0.20, 0.185, 0.036), (0.32, 0.205, 0.033), (0.43, 0.185, 0.025), (0.52, 0.130, 0.013))


def chart(mean: np.ndarray, quads: np.ndarray, eye_sizes: list[int]) -> np.ndarray:
    """Atlas coordinates (u, v) of quad corners in texels, (Q, 4, 2).

    Corners of quads across the back seam run past SKIN, so wrap the columns when sampling.

    Args:
        mean: (V, 3) vertices in world units.
        quads: (Q, 4) vertices of each quad; the last `sum(eye_sizes)` quads are the eyeballs.
        eye_sizes: Number of quads in each eyeball.
    """
    around, up = _angles(mean)
    t = np.abs(around) / np.pi
    u = SKIN * (0.5 + 0.5 * np.sign(around) * t * (1.6 - 0.6 * t))
    v = SKIN * (0.5 - up / np.pi)
    corners: np.ndarray = np.stack([u, v], -1)[quads]
    columns = corners[..., 0]
    across = columns.max(1) - columns.min(1) > SKIN / 2
    columns[across] += np.where(columns[across] < SKIN / 2, SKIN, 0)
    start = len(quads) - sum(eye_sizes)
    for size in eye_sizes:
        ball = quads[start : start + size]
        points = mean[np.unique(ball)]
        centre, radius = points.mean(0), np.ptp(points[:, 1]) / 2
        local = (mean[ball] - centre)[..., :2] / radius * IRIS_TEXELS
        corners[start : start + size] = np.stack(
            [EYE_TEXELS / 2 + local[..., 0], SKIN + EYE_TEXELS / 2 - local[..., 1]], -1
        )
        start += size
    return corners


def bake(
    mean: np.ndarray, quads: np.ndarray, uv: np.ndarray, source_uv: np.ndarray, images: list[np.ndarray]
) -> list[np.ndarray]:
    """Resample images from MakeHuman's texture layout to the chart.

    Args:
        mean: (V, 3) vertices.
        quads: (Q, 4) vertices of each quad.
        uv: (Q, 4, 2) chart coordinates of the corners.
        source_uv: (Q, 4, 2) MakeHuman's coordinates of the corners.
        images: (h, w) or (h, w, 3) in [0, 1].

    Returns:
        One array of SKIN x SKIN (x 3) for each image, and last the world position of every texel. Texels off the
        surface repeat the nearest one.
    """
    position = mean[quads]
    # Where surfaces overlap in the chart (ears), the outer one wins, because it is nearer to the eye of this almost
    # orthographic view.
    depth = 3 - np.linalg.norm(position, axis=-1, keepdims=True)
    rays = np.concatenate([uv[..., :1], -uv[..., 1:], np.full_like(depth, -1)], -1)
    shifted = rays - np.array([SKIN, 0, 0])
    corners = np.concatenate([rays * depth, shifted * depth])
    triangles = (np.arange(4 * len(corners)).reshape(-1, 4)[:, [[0, 1, 2], [0, 2, 3]]]).reshape(-1, 3)
    grid = np.arange(SKIN) + 0.5
    seen = rasterize_batch(corners.reshape(1, -1, 3), triangles, grid, grid - SKIN)
    face, bary = seen.face[0], seen.bary[0, ..., None]
    holes = face < 0
    nearest = np.asarray(ndimage.distance_transform_edt(holes, return_distances=False, return_indices=True))

    def spread(values: np.ndarray) -> np.ndarray:
        doubled = np.concatenate([values, values]).reshape(-1, values.shape[-1])
        texels = (doubled[triangles[face]] * bary).sum(2)
        out: np.ndarray = texels[tuple(nearest)]
        return out

    where = spread(source_uv)
    return [*(_sample(image, where) for image in images), spread(position)]


def paint_fields(
    model: dict[str, Any], images: list[np.ndarray], skins: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Make the skins (skins, SKIN, SKIN, 3) uint8, without the scalp's stubble, and the painted fields.

    The fields are (SKIN, SKIN) uint8: `hairline` (128 on the line, 127 steps per FIELD_RANGE, more is hair), `brow` (a
    profile of the distance, 255 on the middle line), `lips`, `lash`, and `strands` (noise for hair and brows, mean
    128). With them comes `scalp` (V,) float16, the hairline field at the vertices in world units.
    """
    lips, ears, position = images[skins:]
    mean, rim = model["mean"], model["eye_rim"]
    hair = _above_hairline(position) - 0.03 * ears
    hair = _blur(hair, 1.5, 1.5)
    eye = mean[rim].mean(0)[1]
    fields = {
        "hairline": np.clip(128 + 127 * hair / FIELD_RANGE, 0, 255),
        "brow": 255 * _brow(position, eye),
        "lips": 255 * lips,
        "lash": 255 * _lash(position, mean[rim], eye),
        "strands": np.clip(128 + 64 * _strands(), 0, 255),
    }
    clean = [_clean_scalp(skin, hair, ears) for skin in images[:skins]]
    result = {name: np.round(field).astype(np.uint8) for name, field in fields.items()}
    ear_tip = np.abs(mean[:, 0]) > 0.066
    result["scalp"] = np.where(ear_tip, -FIELD_RANGE, _above_hairline(mean)).astype(np.float16)
    return np.round(np.stack(clean) * 255).astype(np.uint8), result


def _angles(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angle around the vertical axis (0 at the front) and elevation of (..., 3) points, in radians."""
    x, y, z = np.moveaxis(points, -1, 0)
    return np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))


def _above_hairline(points: np.ndarray) -> np.ndarray:
    """Height above the hairline, world units, negative on bare skin."""
    angle = np.rad2deg(np.abs(_angles(points)[0]))
    line = np.interp(angle, *np.array(HAIRLINE, float).T)
    out: np.ndarray = (points[..., 1] - line).clip(-FIELD_RANGE, FIELD_RANGE)
    return out


def _brow(position: np.ndarray, eye: float) -> np.ndarray:
    """1 on the middle line of the brows, 0.5 on their edge, 0 at twice their half thickness and beyond."""
    line = np.array(BROW)
    fine = np.linspace(0, 1, 200)
    knots = np.linspace(0, 1, len(line))
    x, y, thick = (np.interp(fine, knots, column) * UNIT for column in line.T)
    points = np.stack([np.abs(position[..., 0]), position[..., 1] - eye], -1)
    near = ((points[..., None, :] - np.stack([x, y], -1)) ** 2).sum(-1)
    best = near.argmin(-1)
    distance = np.sqrt(near.min(-1)) / (2 * thick[best])
    return np.where(position[..., 2] > 0, (1 - distance).clip(0, 1), 0)


def _lash(position: np.ndarray, rim: np.ndarray, eye: float) -> np.ndarray:
    """Dark line along the lids: strong on the upper one, faint on the lower one."""
    distance = np.sqrt(((position[:, :, None] - rim) ** 2).sum(-1).min(-1))
    upper = np.where(position[..., 1] > eye, 1.0, 0.4)
    out: np.ndarray = upper * np.exp(-((distance / (0.035 * UNIT)) ** 2))
    return out


def _strands() -> np.ndarray:
    """Noise of unit variance, drawn out from the crown downwards like combed hair."""
    noise = np.random.Generator(np.random.Philox(11)).standard_normal((SKIN, SKIN))
    fine = _blur(noise, 5, 0.8)
    broad = _blur(noise, 14, 4)
    mixed = fine / fine.std() + broad / broad.std()
    out: np.ndarray = mixed / mixed.std()
    return out


def _clean_scalp(skin: np.ndarray, hair: np.ndarray, ears: np.ndarray) -> np.ndarray:
    """Replace the scalp, which carries painted stubble, with the smooth colour of the bare skin around it."""
    bare = (np.clip((-0.012 - hair) / 0.008, 0, 1) * (1 - ears))[..., None]
    smooth = skin * bare
    weight = bare
    filled = np.zeros_like(skin)
    covered = np.zeros_like(bare)
    for _ in range(12):
        smooth, weight = _blur(smooth, 12, 12), _blur(weight, 12, 12)
        new = smooth / np.maximum(weight, 1e-6)
        take = (covered < 0.5) & (weight > 1e-3)
        filled = np.where(take, new, filled)
        covered = np.where(take, 1.0, covered)
    keep = np.maximum(bare, ears[..., None])
    out: np.ndarray = skin * keep + filled * (1 - keep)
    return out


def _blur(image: np.ndarray, rows: float, columns: float) -> np.ndarray:
    """Gaussian blur of (SKIN, SKIN, ...) by standard deviations in texels; columns wrap."""
    out: np.ndarray = ndimage.gaussian_filter1d(
        ndimage.gaussian_filter1d(image, rows, 0, mode="nearest"), columns, 1, mode="wrap"
    )
    return out


def _sample(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear samples of (h, w[, c]) at uv (..., 2) in [0, 1], v upwards."""
    height, width = image.shape[:2]
    at = np.stack([(1 - uv[..., 1]) * height - 0.5, uv[..., 0] * width - 0.5])
    planes = np.moveaxis(np.atleast_3d(image), -1, 0)
    out = np.stack([ndimage.map_coordinates(plane, at, order=1, mode="nearest") for plane in planes], -1)
    return out if image.ndim == 3 else out[..., 0]
