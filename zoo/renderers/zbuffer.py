"""A z-buffer rasteriser for the CPU: triangles in camera space go in, one visible face per pixel comes out.

Which pixels a triangle covers is decided on its projection, snapped to 1/16384 of a pixel: there every edge function
is exact in float64, so the triangles around an edge or a vertex share its pixels without gap or overlap.
Depth and barycentric coordinates come from the unsnapped planes through the camera and the triangle's edges: a ray's
products with the three planes, divided by their sum, are perspective-correct as they stand. The same products decide
coverage for the few triangles that cross the near plane and have no projection.

All arithmetic runs in a fixed order without fused or reordered operations, so every machine gets the same bits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from ..runtime.compiled import njit

BACKGROUND = -1


class Fragments(NamedTuple):
    """What the camera sees: B images of H x W pixels, with row 0 at the top.

    Attributes:
        face: (B, H, W) int32 index into `faces`, or -1 where nothing is seen.
        depth: (B, H, W) float32 distance along the optical axis in world units, 0 where nothing is seen.
        bary: (B, H, W, 3) float32 perspective-correct weights of the three corners. They sum to 1, and are 0 where
            nothing is seen.
    """

    face: np.ndarray
    depth: np.ndarray
    bary: np.ndarray


def pixel_slopes(size: int, fov: float, centres: str = "corner", supersample: int = 1) -> np.ndarray:
    """Slopes x / -z of the pixel centres of a square camera: (size * supersample,) float64, ascending.

    Args:
        size: Pixels per side.
        fov: Full angle of view in degrees.
        centres: "corner" puts the first and last pixel centre on the edge of the frustum, "half" puts them half a pixel
            inside.
        supersample: Number of equal parts into which each pixel is split. Under either rule, the mean over the parts of
            a pixel is that pixel's box-filtered value.

    Raises:
        ValueError: The rule is unknown, or the size is below 2.
    """
    if centres not in ("corner", "half"):
        raise ValueError(f"pixel_slopes: centres={centres!r} is not a pixel rule; use 'corner' or 'half'")
    if size < 2:
        raise ValueError(f"pixel_slopes: size={size} is too small; use 2 or more")
    # Rounding makes the one transcendental function here the same number on every machine.
    half_width = round(float(np.tan(np.deg2rad(fov) / 2)), 9)
    first, step = (-1.0, 2.0 / (size - 1)) if centres == "corner" else (1.0 / size - 1.0, 2.0 / size)
    parts = (np.arange(size * supersample) + 0.5) / supersample - 0.5
    return half_width * (first + step * parts)


def rasterize_batch(
    verts: np.ndarray,
    faces: np.ndarray,
    slopes_x: np.ndarray,
    slopes_y: np.ndarray,
    *,
    near: float = 1e-3,
    cull_backfaces: bool = False,
) -> Fragments:
    """Find the nearest triangle on every pixel ray.

    Args:
        verts: (B, V, 3) vertices in camera axes (x right, y up, looking along -z), in world units.
        faces: (F, 3) integers below V, counter-clockwise seen from outside.
        slopes_x, slopes_y: (W,) and (H,) evenly spaced, ascending slopes x / -z and y / -z of the pixel centres, see
            `pixel_slopes`.
        near: Surface closer than this along the optical axis is not drawn.
        cull_backfaces: Skip faces that are seen from behind.

    Raises:
        ValueError: An array has another shape, or a face points outside the vertices.
    """
    if verts.ndim != 3 or verts.shape[-1] != 3:
        raise ValueError(f"rasterize_batch: verts has shape {verts.shape}; give (B, V, 3)")
    if faces.ndim != 2 or faces.shape[-1] != 3:
        raise ValueError(f"rasterize_batch: faces has shape {faces.shape}; give (F, 3)")
    if len(faces) and not (faces.min() >= 0 and faces.max() < verts.shape[1]):
        found, most = f"{faces.min()}..{faces.max()}", verts.shape[1] - 1
        raise ValueError(f"rasterize_batch: faces {found} point outside the vertices; use 0..{most}")
    if min(len(slopes_x), len(slopes_y)) < 2:
        raise ValueError(f"rasterize_batch: image is {len(slopes_y)} x {len(slopes_x)} pixels; use 2 x 2 or more")
    batch, height, width = len(verts), len(slopes_y), len(slopes_x)
    out = Fragments(
        np.full((batch, height, width), BACKGROUND, np.int32),
        np.zeros((batch, height, width), np.float32),
        np.zeros((batch, height, width, 3), np.float32),
    )
    verts, faces = np.ascontiguousarray(verts, np.float64), np.ascontiguousarray(faces, np.int32)
    slopes = np.asarray(slopes_x, np.float64), np.asarray(slopes_y, np.float64)

    def draw(i: int) -> None:
        rasterize_one(verts[i], faces, *slopes, near, cull_backfaces, *(array[i] for array in out))

    in_threads(draw, batch)
    return out


def in_threads(work: Callable[[int], None], count: int, threads: int | None = None) -> None:
    """Call `work(i)` for i in 0..count-1 in several threads, which pays if `work` is compiled with nogil.

    These are plain threads, because numba's own pool breaks forked data workers and changes torch's number of threads.
    A single call or a single thread runs in the calling thread. The first exception is raised again here.

    Args:
        work: Called with each index.
        count: Number of calls.
        threads: Number of threads; None takes one for each processor.
    """
    threads = min(count, threads or os.cpu_count() or 1)
    if threads <= 1:
        for i in range(count):
            work(i)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(count)))


@njit(nogil=True)
def rasterize_one(verts, faces, xs, ys, near, cull, face, depth, bary):  # pragma: no cover - compiled
    """One image of `rasterize_batch`, for callers that are compiled themselves; `face` must come filled with -1."""
    height, width = face.shape
    zbuf = np.full((height, width), np.inf)
    edge, cover = np.empty((3, 3)), np.empty((3, 3))
    for f in range(len(faces)):
        a, b, c = verts[faces[f, 0]], verts[faces[f, 1]], verts[faces[f, 2]]
        _edge_plane(b, c, edge[0])
        _edge_plane(c, a, edge[1])
        _edge_plane(a, b, edge[2])
        # Six times the signed volume of the tetrahedron (camera, a, b, c). It is negative if the front side is seen.
        volume = a[0] * edge[0, 0] + a[1] * edge[0, 1] + a[2] * edge[0, 2]
        if volume == 0.0 or (cull and volume > 0.0):
            continue
        left, right, low, high = _coverage(a, b, c, edge, volume, xs, ys, near, cover)
        for j in range(low, high + 1):
            row, y = height - 1 - j, ys[j]
            for col in range(left, right + 1):
                if not (_inside(cover[0], col, j) and _inside(cover[1], col, j) and _inside(cover[2], col, j)):
                    continue
                x = xs[col]
                # Snapping may admit a ray that misses by a hair; its weights stay on the triangle.
                w0 = max((edge[0, 0] * x + edge[0, 1] * y - edge[0, 2]) / volume, 0.0)
                w1 = max((edge[1, 0] * x + edge[1, 1] * y - edge[1, 2]) / volume, 0.0)
                w2 = max((edge[2, 0] * x + edge[2, 1] * y - edge[2, 2]) / volume, 0.0)
                total = w0 + w1 + w2
                if total <= 0.0:
                    continue
                z = 1.0 / total
                if z < near or z >= zbuf[row, col]:
                    continue
                zbuf[row, col] = z
                face[row, col] = f
                depth[row, col] = z
                bary[row, col, 0] = w0 * z
                bary[row, col, 1] = w1 * z
                bary[row, col, 2] = w2 * z


@njit()
def _edge_plane(p, q, out):  # pragma: no cover - compiled
    """Normal of the plane through the camera and the edge p-q."""
    out[0] = p[1] * q[2] - p[2] * q[1]
    out[1] = p[2] * q[0] - p[0] * q[2]
    out[2] = p[0] * q[1] - p[1] * q[0]


@njit()
def _inside(line, col, j):  # pragma: no cover - compiled
    """Whether a pixel lies on the inner side of an edge. Of two triangles that share an edge, one owns its pixels."""
    side = line[0] * col + line[1] * j + line[2]
    if side != 0.0:
        return side > 0.0
    return line[0] > 0.0 or (line[0] == 0.0 and line[1] > 0.0)


@njit()
def _coverage(a, b, c, edge, volume, xs, ys, near, cover):  # pragma: no cover - compiled
    """Fill `cover` with the edge functions over (column, row from below, 1), positive inside.

    Returns the columns and rows that the triangle can touch, both ends included: left, right, low, high.
    """
    nearest, farthest = min(-a[2], -b[2], -c[2]), max(-a[2], -b[2], -c[2])
    step_x, step_y = xs[1] - xs[0], ys[1] - ys[0]
    if farthest < near:
        return 1, 0, 1, 0
    if nearest < near:
        for k in range(3):
            cover[k, 0] = edge[k, 0] * step_x / volume
            cover[k, 1] = edge[k, 1] * step_y / volume
            cover[k, 2] = (edge[k, 0] * xs[0] + edge[k, 1] * ys[0] - edge[k, 2]) / volume
        return 0, len(xs) - 1, 0, len(ys) - 1
    ax, ay = _snap(-a[0] / a[2], xs[0], step_x), _snap(-a[1] / a[2], ys[0], step_y)
    bx, by = _snap(-b[0] / b[2], xs[0], step_x), _snap(-b[1] / b[2], ys[0], step_y)
    cx, cy = _snap(-c[0] / c[2], xs[0], step_x), _snap(-c[1] / c[2], ys[0], step_y)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area == 0.0:
        return 1, 0, 1, 0
    side = 1.0 if area > 0.0 else -1.0
    _edge_line(bx, by, cx, cy, side, cover[0])
    _edge_line(cx, cy, ax, ay, side, cover[1])
    _edge_line(ax, ay, bx, by, side, cover[2])
    left, right = max(np.ceil(min(ax, bx, cx)), 0.0), min(np.floor(max(ax, bx, cx)), len(xs) - 1.0)
    low, high = max(np.ceil(min(ay, by, cy)), 0.0), min(np.floor(max(ay, by, cy)), len(ys) - 1.0)
    if left > right or low > high:
        return 1, 0, 1, 0
    return int(left), int(right), int(low), int(high)


@njit()
def _snap(slope, first, step):  # pragma: no cover - compiled
    """A slope as a pixel coordinate, rounded to 1/16384."""
    return np.floor((slope - first) / step * 16384.0 + 0.5) / 16384.0


@njit()
def _edge_line(px, py, qx, qy, side, out):  # pragma: no cover - compiled
    """The line through two snapped points; swapping them negates it exactly."""
    out[0] = (py - qy) * side
    out[1] = (qx - px) * side
    out[2] = (px * qy - py * qx) * side
