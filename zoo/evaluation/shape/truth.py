"""Rendered heads with all that is known of them, under the two conditions of `heads-v2`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...geometry import Camera, points_to_normal
from ...heads.dataset import WILD, HeadDataset
from ...heads.model import HeadModel, Heads
from ...heads.render import render_heads
from ...heads.sampling import FOV, mean_heads, sample_heads
from ...heads.views import PLAIN, backproject
from ...metrics import evaluation_mask
from ...metrics.registration import Registered
from ...metrics.shape import ShapeErrors, errors_by_surface

CONDITIONS = ("plain", "wild")


class Surface(NamedTuple):
    """B surfaces as seen from their cameras.

    Attributes:
        points: (B, 3, S, S) in the camera's frame; finite everywhere.
        normals: (B, 3, S, S) unit, from central differences of the points.
        mask: (B, 1, S, S) bool, where there is a surface.
    """

    points: Tensor
    normals: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Truth:
    """N test heads, one picture each.

    Attributes:
        image: (N, 3, S, S) in [-1, 1].
        depth: (N, 1, S, S) along the optical axis in world units, 0 where there is no head.
        albedo: (N, 3, S, S) in [0, 1].
        mask: (N, 1, S, S) bool, eroded by a pixel: the pixels that count.
        pose: (N, 2) pitch and yaw in radians.
        view: (N, 4), see `zoo.heads.views`.
        surface: The true surfaces.
        mean: The mean head at the true poses, seen by the same cameras.
    """

    image: Tensor
    depth: Tensor
    albedo: Tensor
    mask: Tensor
    pose: Tensor
    view: Tensor
    surface: Surface
    mean: Surface

    @classmethod
    def open(cls, split: str, condition: str, n: int, size: int, seed: int = 0) -> "Truth":
        """Render heads of a split.

        Args:
            split: "val", "sealed" or another of `HeadDataset`.
            condition: One of `CONDITIONS`.
            n: Number of heads.
            size: Image side in pixels.
            seed: Makes the heads.
        """
        options = WILD if condition == "wild" else {}
        items = HeadDataset(split, size, n, seed, **options).batch(list(range(n)))  # type: ignore[arg-type]
        pose, view = items["pose"], items["view"]
        return cls(
            items["image"],
            items["depth"],
            items["albedo"],
            evaluation_mask(items["mask"]),
            pose,
            view,
            surface_of(items["depth"], items["mask"] > 0.5, view),
            heads_at(mean_heads(n), pose, view, size),
        )

    @property
    def camera(self) -> Camera:
        """The plain camera, which is all that a method knows of how the pictures were taken."""
        return Camera.orbit(fov=FOV, size=self.image.shape[-1])

    @cached_property
    def mean_errors(self) -> Tensor:
        """(N,) errors of shape of the mean head at the true pose, in world units: what R2 compares with."""
        return self.compare(self.mean)[0].shape

    def compare(self, surface: Surface) -> tuple[ShapeErrors, Registered]:
        """Errors of surfaces read off the images, in world units, and where they lie once they are in place."""
        return errors_by_surface(*surface, *self.surface[:2], self.mask)

    @property
    def to_world(self) -> Tensor:
        """(N, 3, 3) rotations from the cameras' frames to the frame of head and light."""
        return Camera.at(self.pose).cam2world[:, :3, :3]


def surface_of(depth: Tensor, mask: Tensor, view: Tensor) -> Surface:
    """Back-project depth (B, 1, S, S) that is valid in a mask; elsewhere the mean depth of the mask is put."""
    inside = mask & depth.isfinite() & (depth > 0)
    total, count = torch.where(inside, depth, 0.0).sum((1, 2, 3), keepdim=True), inside.sum((1, 2, 3), keepdim=True)
    points = backproject(torch.where(inside, depth, total / count.clamp_min(1)), view)
    return Surface(points, points_to_normal(points), inside)


def plain_view(count: int) -> Tensor:
    """Views (count, 4) of pictures as the plain camera takes them, see `zoo.heads.views`."""
    return torch.tensor(PLAIN).expand(count, -1)


def heads_at(heads: Heads, pose: Tensor, view: Tensor, size: int) -> Surface:
    """Heads at poses (B, 2), seen in views (B, 4)."""
    poses, views = pose.double().numpy(), view.double().numpy()
    rendered = render_heads(heads, poses, np.zeros((len(poses), 4)), size, views=views)
    return surface_of(torch.from_numpy(rendered.depth), torch.from_numpy(rendered.mask) > 0.5, view)


def frontal_heads(split: str, first: int, count: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Depth and mask (count, 1, S, S), float32, of the heads of a split from the front, beginning with head `first`."""
    heads = sample_heads(np.arange(first, first + count), seed, split, HeadModel.load())
    return _frontal(heads, size)


def frontal_mean(size: int) -> tuple[Tensor, Tensor]:
    """Depth and mask (1, 1, S, S), float32, of the mean head from the front."""
    return _frontal(mean_heads(1), size)


def _frontal(heads: Heads, size: int) -> tuple[Tensor, Tensor]:
    count = len(heads.shape)
    parts: list[Sequence[np.ndarray]] = []
    for start in range(0, count, 250):  # a batch has all maps of its heads in memory
        part = Heads(*(field[start : start + 250] for field in heads))
        n = len(part.shape)
        rendered = render_heads(part, np.zeros((n, 2)), np.zeros((n, 4)), size)
        parts.append((rendered.depth, rendered.mask))
    depth, mask = (torch.from_numpy(np.concatenate(maps)) for maps in zip(*parts, strict=True))
    return depth, mask
