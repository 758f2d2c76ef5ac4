"""Draw heads: exact maps at the pixel centres, and a shaded picture from samples inside each pixel.

All arithmetic runs in a fixed order and with rounded transcendental functions, so every machine gets the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..renderers.zbuffer import in_threads, rasterize_one
from ..runtime.compiled import njit
from .looks import Looks, highlight, lamp_axes, lit, no_looks, shadow_map, sky_light
from .model import HeadModel, Heads, paint_head, shape_head, vertex_normals
from .sampling import FOV
from .views import plain_views, view_distances, view_slopes

FINE = 96  # from this size on, the smoothed mesh is worth its price


class Rendering(NamedTuple):
    """B rendered heads, all float32 with row 0 at the top. Depth, normal and albedo are 0 outside the mask.

    Attributes:
        image: (B, 3, S, S) in [-1, 1], on a black background.
        depth: (B, 1, S, S) along the optical axis, in world units.
        normal: (B, 3, S, S) unit normals in the camera frame, towards the viewer.
        albedo: (B, 3, S, S) in [0, 1].
        mask: (B, 1, S, S), 1 where the pixel centre sees the head, else 0.
        coverage: (B, 1, S, S) in [0, 1], the part of each pixel of the image that shows the head.
    """

    image: np.ndarray
    depth: np.ndarray
    normal: np.ndarray
    albedo: np.ndarray
    mask: np.ndarray
    coverage: np.ndarray


def render_heads(
    heads: Heads,
    poses: np.ndarray,
    lights: np.ndarray,
    size: int,
    fov: float = FOV,
    *,
    views: np.ndarray | None = None,
    looks: Looks | None = None,
) -> Rendering:
    """Render B heads. Up to 128 px, the image is the mean of 2 x 2 samples per pixel.

    Args:
        heads: Parameters of the heads.
        poses: (B, 2) pitch and yaw in radians.
        lights: (B, 4) = (a, d, dx, dy).
        size: Pixels per side.
        fov: Full angle of view in degrees, for cameras on the unit sphere.
        views: (B, 4), see `zoo.heads.views`; they stand over `fov`.
        looks: Highlights, sky and shadows of the heads; None leaves the light to `lights`.
    """
    model = HeadModel.load(int(size >= FINE))
    poses, lights = np.asarray(poses, np.float64), np.asarray(lights, np.float64)  # one type, compiled once
    batch = len(poses)
    samples = 2 if size <= 128 else 1
    out = Rendering(
        np.empty((batch, 3, size, size), np.float32),
        np.zeros((batch, 1, size, size), np.float32),
        np.zeros((batch, 3, size, size), np.float32),
        np.zeros((batch, 3, size, size), np.float32),
        np.zeros((batch, 1, size, size), np.float32),
        np.zeros((batch, 1, size, size), np.float32),
    )
    if views is None:
        views, distances = plain_views(batch, fov), np.ones(batch)
    else:
        views = np.asarray(views, np.float64)
        distances = view_distances(views)
    # Rounding makes sine and cosine, the only transcendental functions here, the same numbers on every machine.
    trig = np.round(np.stack([np.sin(poses), np.cos(poses)], -1).reshape(batch, 4), 9)
    shape = model.mean, model.basis, model.scalp, model.faces
    texture = model.uv, model.skins, model.fields, model.texture_shape
    cameras = trig, distances, view_slopes(size, views), view_slopes(size, views, samples)
    inputs = shape, texture, heads, cameras, lights, looks is not None, looks or no_looks(batch), out
    in_threads(lambda b: _render_one(b, *inputs), batch)
    return out


@njit(nogil=True)
def _render_one(b, shape, texture, heads, cameras, lights, wild, looks, out):  # pragma: no cover - compiled
    """Render head `b` of the batch into row `b` of `out`."""
    mean, basis, scalp, faces = shape
    uv, skins, fields, atlas_shape = texture
    trig, distances, grids, fine_grids = cameras
    verts, normals, seen = np.empty_like(mean), np.empty_like(mean), np.empty_like(mean)
    shape_head(mean, basis, scalp, faces, heads.shape[b], heads.hairline[b], heads.volume[b], verts)
    vertex_normals(verts, faces, normals)
    atlas = np.empty(atlas_shape, np.float32)
    paint_head(
        skins,
        fields,
        heads.skin[b],
        heads.hair[b],
        heads.iris[b],
        heads.hairline[b],
        heads.brow[b],
        heads.lips[b],
        atlas,
    )
    sin_pitch, cos_pitch, sin_yaw, cos_yaw = trig[b, 0], trig[b, 1], trig[b, 2], trig[b, 3]
    axes = np.array(
        [  # right, up and back of the camera
            [cos_yaw, 0.0, sin_yaw],
            [-sin_pitch * sin_yaw, cos_pitch, sin_pitch * cos_yaw],
            [-cos_pitch * sin_yaw, -sin_pitch, cos_pitch * cos_yaw],
        ]
    )
    _turn(axes, verts, seen)
    seen[:, 2] -= distances[b]
    grid, fine_grid = grids[b], fine_grids[b]
    _draw_maps(
        seen, normals, faces, uv, atlas, axes, grid, out.depth[b, 0], out.normal[b], out.albedo[b], out.mask[b, 0]
    )
    look = looks.sky[b], looks.gloss[b], looks.shininess[b], verts, distances[b] * axes[2]
    per_pixel = fine_grid.shape[1] // grid.shape[1]
    _draw_image(
        seen, normals, faces, uv, atlas, lights[b], wild, look, fine_grid, per_pixel, out.image[b], out.coverage[b, 0]
    )


@njit()
def _turn(axes, points, out):  # pragma: no cover - compiled
    for i in range(len(points)):
        for d in range(3):
            out[i, d] = axes[d, 0] * points[i, 0] + axes[d, 1] * points[i, 1] + axes[d, 2] * points[i, 2]


@njit()
def _fragments(seen, faces, slopes):  # pragma: no cover - compiled
    size = slopes.shape[1]
    face, depth = np.full((size, size), -1, np.int32), np.empty((size, size), np.float32)
    bary = np.empty((size, size, 3), np.float32)
    rasterize_one(seen, faces, slopes[0], slopes[1], 1e-3, True, face, depth, bary)
    return face, depth, bary


@njit()
def _draw_maps(seen, normals, faces, uv, atlas, axes, grid, depth, normal, albedo, mask):  # pragma: no cover - compiled
    """Draw depth, normal, albedo and mask at the exact pixel centres."""
    face, z, bary = _fragments(seen, faces, grid)
    colour, n, turned = np.empty(3), np.empty((1, 3)), np.empty((1, 3))
    for r in range(len(face)):
        for c in range(len(face)):
            f = face[r, c]
            if f < 0:
                continue
            mask[r, c], depth[r, c] = 1.0, z[r, c]
            _interpolate_normal(normals, faces[f], bary[r, c], n[0])
            _turn(axes, n, turned)
            _look_up(atlas, uv[f], bary[r, c], colour)
            for d in range(3):
                normal[d, r, c], albedo[d, r, c] = turned[0, d], colour[d]


@njit()
def _draw_image(
    seen, normals, faces, uv, atlas, light, wild, look, grid, per_pixel, image, coverage
):  # pragma: no cover - compiled
    """Draw the shaded picture, in which each pixel is the mean of its samples."""
    face, _, bary = _fragments(seen, faces, grid)
    ambient, diffuse = 0.5 + 0.5 * light[0], 0.5 + 0.5 * light[1]
    length = np.sqrt(light[2] * light[2] + light[3] * light[3] + 1.0)
    lamp = np.array([light[2] / length, light[3] / length, 1.0 / length])
    sky, gloss, shininess, verts, camera = look
    lamp_view = lamp_axes(lamp)
    shadow = shadow_map(verts, faces, lamp_view) if wild else np.empty((0, 0), np.float32)
    image[:] = -1.0
    weight = 2.0 / (per_pixel * per_pixel)
    colour, n, shade, point, gleam = np.empty(3), np.empty(3), np.empty(3), np.empty(3), 0.0
    for r in range(len(face)):
        for c in range(len(face)):
            f = face[r, c]
            if f < 0:
                continue
            _interpolate_normal(normals, faces[f], bary[r, c], n)
            _look_up(atlas, uv[f], bary[r, c], colour)
            cosine = max(0.0, n[0] * lamp[0] + n[1] * lamp[1] + n[2] * lamp[2])
            if wild:
                _interpolate(verts, faces[f], bary[r, c], point)
                direct = diffuse * lit(shadow, lamp_view, point, n) if cosine > 0.0 else 0.0
                gleam = gloss * direct * highlight(n, lamp, camera, point, shininess)
                sky_light(sky, n, shade)
                for d in range(3):
                    shade[d] = ambient * shade[d] + direct * cosine
            else:
                shade[:] = ambient + diffuse * cosine
            for d in range(3):
                image[d, r // per_pixel, c // per_pixel] += weight * min(colour[d] * shade[d] + gleam, 1.0)
            coverage[r // per_pixel, c // per_pixel] += weight / 2


@njit()
def _interpolate(values, corners, bary, out):  # pragma: no cover - compiled
    for d in range(3):
        out[d] = bary[0] * values[corners[0], d] + bary[1] * values[corners[1], d] + bary[2] * values[corners[2], d]


@njit()
def _interpolate_normal(normals, corners, bary, out):  # pragma: no cover - compiled
    _interpolate(normals, corners, bary, out)
    length = np.sqrt(out[0] * out[0] + out[1] * out[1] + out[2] * out[2])
    for d in range(3):
        out[d] /= max(length, 1e-30)


@njit()
def _look_up(atlas, corners, bary, out):  # pragma: no cover - compiled
    """Sample the atlas bilinearly; columns wrap, rows end."""
    u = bary[0] * corners[0, 0] + bary[1] * corners[1, 0] + bary[2] * corners[2, 0] - 0.5
    v = bary[0] * corners[0, 1] + bary[1] * corners[1, 1] + bary[2] * corners[2, 1] - 0.5
    v = min(max(v, 0.0), len(atlas) - 1.001)
    c0, r0 = int(np.floor(u)), int(v)
    fu, fv = u - c0, v - r0
    width = atlas.shape[1]
    left, right = c0 % width, (c0 + 1) % width
    for d in range(3):
        top = atlas[r0, left, d] + fu * (atlas[r0, right, d] - atlas[r0, left, d])
        bottom = atlas[r0 + 1, left, d] + fu * (atlas[r0 + 1, right, d] - atlas[r0 + 1, left, d])
        out[d] = top + fv * (bottom - top)
