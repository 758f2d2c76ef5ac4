"""Where one looks from: between the camera of a page in the browser, the page's sliders, and our own `Camera`.

A browser's camera (three.js, viser) has a position, a point that it looks at, and a vertical field of view for a canvas
of any shape; right-handed, +Y up, as ours. Ours stands on the scene's sphere, and its picture is square. So a view
keeps the direction, turns distance into zoom, and lets the square fill the shorter side of the canvas.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from ..config.schemas import SceneConfig
from ..generators.base import Generator
from ..geometry import Camera

Point = tuple[float, float, float]
_STEEPEST = 1.5  # radians of pitch; at pi / 2 the yaw would have no meaning
_ZOOM = (0.2, 3.0)
_FURTHEST = 0.15  # world units; beyond this the object is out of sight


@dataclass(frozen=True)
class View:
    """A direction, a zoom and a shift.

    Attributes:
        yaw: Angle in radians; positive turns the head to its left.
        pitch: Angle in radians; positive raises the chin.
        zoom: How wide the picture is, 1 for the picture that the generator was trained on and 2 for twice its width.
        target: The point (x, y, z) in the middle of the picture, in the world frame.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    zoom: float = 1.0
    target: Point = (0.0, 0.0, 0.0)

    @classmethod
    def seen(
        cls, position: Sequence[float], look_at: Sequence[float], fov: float, aspect: float, scene: SceneConfig
    ) -> Self:
        """The view of a browser's camera; what lies outside the bounds of views is brought back to them.

        Args:
            position: Where the camera stands, (x, y, z) in the world frame.
            look_at: What it looks at.
            fov: Vertical field of view in radians.
            aspect: Width of the canvas by its height.
            scene: The scene that the generator was trained for.
        """
        x, y, z = (a - b for a, b in zip(position, look_at, strict=True))
        distance = math.sqrt(x * x + y * y + z * z)
        if not (0 < distance < math.inf and all(map(math.isfinite, (*look_at, fov)))):
            return cls()
        half = distance * math.tan(fov / 2) * min(1.0, aspect)
        zoom = half / _half(scene)
        far = math.sqrt(sum(c * c for c in look_at))
        near = min(1.0, _FURTHEST / far) if far > 0 else 1.0
        return cls(
            math.atan2(-x, z),
            clamp(math.asin(clamp(-y / distance, -1, 1)), -_STEEPEST, _STEEPEST),
            clamp(zoom, *_ZOOM),
            (look_at[0] * near, look_at[1] * near, look_at[2] * near),
        )

    def position(self, scene: SceneConfig) -> Point:
        """Where a browser's camera stands that has this view, if its field of view is that of `fov_of`."""
        away = scene.radius * self.zoom
        x, y, z = self.target
        flat = away * math.cos(self.pitch)
        return (
            x - flat * math.sin(self.yaw), y - away * math.sin(self.pitch), z + flat * math.cos(self.yaw),
        )  # fmt: skip

    def camera(self, generator: Generator, size: int) -> Camera:
        """Our camera of this view. Zoom changes its field of view, so that the object stays between near and far.

        The outer edges of the outermost pixels lie on the edge of the frustum, as they do in a browser.
        """
        scene, straight = generator.scene, generator.camera(self.yaw, self.pitch, size)
        matrix = straight.cam2world.clone()
        matrix[:, :3, 3] += torch.tensor(self.target, device=matrix.device)
        fov = 2 * math.atan(self.zoom * _half(scene) / scene.radius)
        return Camera(matrix, math.degrees(fov), size, "half")


def aspect_of(width: int, height: int) -> float:
    """Width of a canvas by its height, no further from 1 than a page can make sense of."""
    return clamp(width / max(1, height), 0.2, 5.0)


def fov_of(scene: SceneConfig, aspect: float) -> float:
    """The vertical field of view in radians with which the scene's square fills the shorter side of a canvas."""
    return 2 * math.atan(_half(scene) / scene.radius / min(1.0, aspect))


def clamp(value: float, low: float, high: float) -> float:
    """The number within bounds; `low` if it is not a number."""
    return min(max(value, low), high) if value == value else low


def _half(scene: SceneConfig) -> float:
    """Half the width of the scene's picture at the distance of its middle, in world units."""
    return scene.radius * math.tan(math.radians(scene.fov) / 2)
