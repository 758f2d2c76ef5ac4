"""Faces of the Basel model under random poses and lights: pure functions of (seed, split, index)."""

from __future__ import annotations

import numpy as np

from ...heads.dataset import Rendering
from ...heads.model import vertex_normals
from ...heads.sampling import Bits, sample_lights, sample_poses
from ...renderers.zbuffer import Fragments, in_threads, pixel_slopes, rasterize_batch
from .model import FaceModel, Linear

LIMIT = 3.0  # standard deviations at which coefficients are cut
_SHAPE, _COLOUR, _EXPRESSION = 20, 21, 22  # streams after those of the embedded heads


def render_faces(model: FaceModel, indices: np.ndarray, seed: int, split: str, size: int, fov: float) -> Rendering:
    """Render the faces with the given numbers (B,), each in a pose and light of its own, on black.

    Poses and lights are those of the embedded heads: `sample_poses`, `sample_lights`. The camera stands on the unit
    sphere and looks at the origin.

    Args:
        model: The face model.
        indices: Numbers of the images.
        seed: Makes faces, poses and lights.
        split: "train", "val" or "test", which share no face.
        size: Pixels per side.
        fov: Full angle of view in degrees, by the pixel rule "corner".
    """
    batch = len(indices)
    shapes = {"image": 3, "depth": 1, "normal": 3, "albedo": 3, "mask": 1, "coverage": 1}
    out = Rendering(**{name: np.zeros((batch, n, size, size), np.float32) for name, n in shapes.items()})
    poses, lights = sample_poses(indices, seed, split), sample_lights(indices, seed, split)
    # Rounding makes sine and cosine the same numbers on every machine.
    trig = np.round(np.stack([np.sin(poses), np.cos(poses)], -1), 9)
    grid, fine = pixel_slopes(size, fov), pixel_slopes(size, fov, supersample=2)

    def draw(b: int) -> None:
        index = int(indices[b])

        def drawn(part: Linear, stream: int) -> np.ndarray:
            return part.at(Bits(seed, split, stream, index).normal(len(part.basis), LIMIT))

        vertices = drawn(model.shape, _SHAPE)
        if model.expression is not None:
            vertices += drawn(model.expression, _EXPRESSION)
        colours = drawn(model.colour, _COLOUR).clip(0, 1)
        _draw(vertices, colours, model.faces, trig[b], lights[b], grid, fine, Rendering(*(array[b] for array in out)))

    in_threads(draw, batch)
    return out


def _draw(
    vertices: np.ndarray,
    colours: np.ndarray,
    faces: np.ndarray,
    trig: np.ndarray,
    light: np.ndarray,
    grid: np.ndarray,
    fine: np.ndarray,
    out: Rendering,
) -> None:
    """Render one face into `out`, whose arrays have no batch axis. `trig` has sine and cosine of pitch and of yaw."""
    (sin_pitch, cos_pitch), (sin_yaw, cos_yaw) = trig
    axes = np.array(
        [  # right, up and back of the camera
            [cos_yaw, 0.0, sin_yaw],
            [-sin_pitch * sin_yaw, cos_pitch, sin_pitch * cos_yaw],
            [-cos_pitch * sin_yaw, -sin_pitch, cos_pitch * cos_yaw],
        ]
    )
    normals = np.empty_like(vertices)
    vertex_normals(vertices, faces, normals)
    seen = _turned(vertices, axes)
    seen[:, 2] -= 1

    found = rasterize_batch(seen[None], faces, grid, grid, cull_backfaces=True)
    inside = found.face[0] >= 0
    out.mask[0], out.depth[0] = inside, found.depth[0]
    out.albedo[:, inside] = _on_surface(colours, faces, found).T
    out.normal[:, inside] = _turned(_unit(_on_surface(normals, faces, found)), axes).T

    found = rasterize_batch(seen[None], faces, fine, fine, cull_backfaces=True)
    inside = found.face[0] >= 0
    x, y, z = _unit(np.array([[light[2], light[3], 1.0]]))[0]
    n = _unit(_on_surface(normals, faces, found))
    cosine = np.maximum(n[:, 0] * x + n[:, 1] * y + n[:, 2] * z, 0)
    shade = 0.5 + light[0] / 2 + (0.5 + light[1] / 2) * cosine
    samples = np.zeros((4, *inside.shape))
    samples[:3, inside] = np.minimum(_on_surface(colours, faces, found) * shade[:, None], 1).T
    samples[3] = inside
    means = _boxes(samples)
    out.image[:], out.coverage[0] = 2 * means[:3] - 1, means[3]


def _turned(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Coordinates (N, 3) along three axes, without BLAS, whose order of sums differs between machines."""
    out: np.ndarray = points[:, :1] * axes[:, 0] + points[:, 1:2] * axes[:, 1] + points[:, 2:] * axes[:, 2]
    return out


def _on_surface(values: np.ndarray, faces: np.ndarray, found: Fragments) -> np.ndarray:
    """Values (V, 3) of vertices where the surface is seen: (pixels, 3), row by row."""
    inside = found.face[0] >= 0
    corners, bary = faces[found.face[0][inside]], found.bary[0][inside].astype(np.float64)
    first, second, third = (bary[:, k, None] * values[corners[:, k]] for k in range(3))
    out: np.ndarray = first + second + third
    return out


def _unit(vectors: np.ndarray) -> np.ndarray:
    x, y, z = vectors[:, 0], vectors[:, 1], vectors[:, 2]
    out: np.ndarray = vectors / np.maximum(np.sqrt(x * x + y * y + z * z), 1e-30)[:, None]
    return out


def _boxes(samples: np.ndarray) -> np.ndarray:
    """Means over the 2 x 2 samples of each pixel, (C, 2 S, 2 S) to (C, S, S)."""
    rows = samples[:, ::2] + samples[:, 1::2]
    out: np.ndarray = (rows[:, :, ::2] + rows[:, :, 1::2]) / 4
    return out
