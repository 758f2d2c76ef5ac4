"""The embedded `heads` data: rendered heads with exact depth, normals, albedo, light and camera for every image.

Item `i` is a pure function of (seed, split, i): counter-based random bits, sums in place of transcendental functions,
and a compiled renderer with a fixed order of operations give the same pixels on every machine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.utils.data import Dataset

from ..renderers.zbuffer import in_threads, pixel_slopes, rasterize_one
from .backgrounds import draw_backgrounds
from .model import HeadModel, Heads, paint_head, shape_head, vertex_normals
from .sampling import FOV, LIGHT_PRIOR, POSE_PRIOR, SPLITS, sample_heads, sample_lights, sample_poses

__all__ = ["FOV", "LIGHT_PRIOR", "POSE_PRIOR", "HeadDataset", "Rendering", "render_heads"]

VERSION = 1  # version of the pictures; raise it whenever they change, so that older caches are not used
BACKGROUNDS = ("black", "random")
LENGTHS = {"train": 20_000, "val": 1_000, "test": 1_000}
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


class HeadDataset(Dataset[dict[str, Tensor | int]]):
    """Seeded random heads.

    An item is a dict of float32 tensors: image (3, S, S), depth (1, S, S), normal (3, S, S), albedo (3, S, S) and mask
    (1, S, S) as in `Rendering`; pose (2,) = (pitch, yaw) in radians; light (4,) = (a, d, dx, dy). It also has the ints
    identity and index.

    The light is fixed to the head: image = albedo * (0.5 + a / 2 + (0.5 + d / 2) * max(0, n . L)), where L is
    (dx, dy, 1), normalised. The camera stands on the unit sphere and looks at the origin, with a field of view of 12
    degrees and the pixel rule "corner".

    Args:
        split: "train", "val" or "test", which share no identity.
        size: pixels per side, 32..256.
        length: number of images; None gives 20,000 for "train" and 1,000 for the others.
        seed: makes heads, poses and lights; 0 or more.
        views: images of each identity, which follow one another.
        background: "black", or "random" for the procedural pictures of `zoo.heads.backgrounds`.

    Raises:
        ValueError: an argument is unknown or out of range.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 64,
        length: int | None = None,
        seed: int = 0,
        views: int = 1,
        background: str = "black",
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"HeadDataset: split={split!r} does not exist; use one of {', '.join(SPLITS)}")
        if not 32 <= size <= 256:
            raise ValueError(f"HeadDataset: size={size} is out of range; use 32 to 256")
        if (length is not None and length < 1) or views < 1 or seed < 0:
            raise ValueError(
                f"HeadDataset: length={length}, views={views}, seed={seed}; use 1 or more, and a seed of 0 or more"
            )
        if background not in BACKGROUNDS:
            known = ", ".join(BACKGROUNDS)
            raise ValueError(f"HeadDataset: background={background!r} does not exist; use one of {known}")
        self.split, self.size, self.seed, self.views, self.background = split, size, seed, views, background
        self.length = LENGTHS[split] if length is None else length
        self.fov, self.pixel_centres = FOV, "corner"

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        index = int(index)
        if not -self.length <= index < self.length:
            raise IndexError(f"HeadDataset: index {index} is outside 0..{self.length - 1}")
        item = self.batch([index % self.length])
        return {key: int(value[0]) if value.dtype == torch.int64 else value[0] for key, value in item.items()}

    def batch(self, indices: list[int] | Tensor) -> dict[str, Tensor]:
        """Stack the items of `indices`, rendered in parallel; identity and index become (B,) int64.

        Raises:
            IndexError: an index is outside the data set.
        """
        index = np.asarray(indices, np.int64).reshape(-1)
        if len(index) and not (index.min() >= 0 and index.max() < self.length):
            raise IndexError(f"HeadDataset: indices {index.min()}..{index.max()} are outside 0..{self.length - 1}")
        identity = index // self.views
        heads = sample_heads(identity, self.seed, self.split, HeadModel.load())
        poses = sample_poses(index, self.seed, self.split)
        lights = sample_lights(index, self.seed, self.split)
        rendered = render_heads(heads, poses, lights, self.size)
        if self.background == "random":
            behind = 2 * draw_backgrounds(index, self.seed, self.split, self.size)
            rendered.image[:] += (1 - rendered.coverage) * behind  # the image is -1 where there is no head
        item = {name: torch.from_numpy(value) for name, value in rendered._asdict().items() if name != "coverage"}
        item["pose"] = torch.from_numpy(poses.astype(np.float32))
        item["light"] = torch.from_numpy(lights.astype(np.float32))
        item["identity"] = torch.from_numpy(identity + SPLITS[self.split] * 1_000_000_000)
        item["index"] = torch.from_numpy(index)
        return item


def render_heads(heads: Heads, poses: np.ndarray, lights: np.ndarray, size: int, fov: float = FOV) -> Rendering:
    """Render B heads. Up to 128 px, the image is the mean of 2 x 2 samples per pixel.

    Args:
        heads: parameters of the heads.
        poses: (B, 2) pitch and yaw in radians.
        lights: (B, 4) = (a, d, dx, dy).
        size: pixels per side.
        fov: full angle of view in degrees.
    """
    model = HeadModel.load(int(size >= FINE))
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
    # Rounding makes sine and cosine, the only transcendental functions here, the same numbers on every machine.
    trig = np.round(np.stack([np.sin(poses), np.cos(poses)], -1).reshape(batch, 4), 9)
    inputs = (
        *(model.mean, model.basis, model.scalp, model.faces, model.uv, model.skins, model.fields, model.texture_shape),
        *(heads, trig, lights, pixel_slopes(size, fov), pixel_slopes(size, fov, supersample=samples), out),
    )
    in_threads(lambda b: _render_one(b, *inputs), batch)
    return out


@njit(cache=True, nogil=True)
def _render_one(
    b, mean, basis, scalp, faces, uv, skins, fields, atlas_shape, heads, trig, lights, grid, fine_grid, out
):  # pragma: no cover - compiled
    """Render head `b` of the batch into row `b` of `out`."""
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
    seen[:, 2] -= 1.0
    _draw_maps(
        seen, normals, faces, uv, atlas, axes, grid, out.depth[b, 0], out.normal[b], out.albedo[b], out.mask[b, 0]
    )
    _draw_image(seen, normals, faces, uv, atlas, lights[b], grid, fine_grid, out.image[b], out.coverage[b, 0])


@njit(cache=True)
def _turn(axes, points, out):  # pragma: no cover - compiled
    for i in range(len(points)):
        for d in range(3):
            out[i, d] = axes[d, 0] * points[i, 0] + axes[d, 1] * points[i, 1] + axes[d, 2] * points[i, 2]


@njit(cache=True)
def _fragments(seen, faces, slopes):  # pragma: no cover - compiled
    size = len(slopes)
    face, depth = np.full((size, size), -1, np.int32), np.empty((size, size), np.float32)
    bary = np.empty((size, size, 3), np.float32)
    rasterize_one(seen, faces, slopes, slopes, 1e-3, True, face, depth, bary)
    return face, depth, bary


@njit(cache=True)
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


@njit(cache=True)
def _draw_image(
    seen, normals, faces, uv, atlas, light, grid, fine_grid, image, coverage
):  # pragma: no cover - compiled
    """Draw the shaded picture, in which each pixel is the mean of its samples."""
    face, _, bary = _fragments(seen, faces, fine_grid)
    per_pixel = len(fine_grid) // len(grid)
    ambient, diffuse = 0.5 + 0.5 * light[0], 0.5 + 0.5 * light[1]
    length = np.sqrt(light[2] * light[2] + light[3] * light[3] + 1.0)
    lx, ly, lz = light[2] / length, light[3] / length, 1.0 / length
    image[:] = -1.0
    weight = 2.0 / (per_pixel * per_pixel)
    colour, n = np.empty(3), np.empty(3)
    for r in range(len(face)):
        for c in range(len(face)):
            f = face[r, c]
            if f < 0:
                continue
            _interpolate_normal(normals, faces[f], bary[r, c], n)
            _look_up(atlas, uv[f], bary[r, c], colour)
            shade = ambient + diffuse * max(0.0, n[0] * lx + n[1] * ly + n[2] * lz)
            for d in range(3):
                image[d, r // per_pixel, c // per_pixel] += weight * min(colour[d] * shade, 1.0)
            coverage[r // per_pixel, c // per_pixel] += weight / 2


@njit(cache=True)
def _interpolate_normal(normals, corners, bary, out):  # pragma: no cover - compiled
    for d in range(3):
        out[d] = bary[0] * normals[corners[0], d] + bary[1] * normals[corners[1], d] + bary[2] * normals[corners[2], d]
    length = np.sqrt(out[0] * out[0] + out[1] * out[1] + out[2] * out[2])
    for d in range(3):
        out[d] /= max(length, 1e-30)


@njit(cache=True)
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
