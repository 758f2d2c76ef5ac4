"""A space in which the shapes of heads are points, whatever their pose, size and place.

A head is its frontal depth map. Its surface is registered to the mean head (`zoo.metrics.registration`), and its
heights over the face region, along the mean head's rays, are projected on the principal components of real heads. The
norm of what is left over is one more coordinate: shapes that no real head has differ there.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry import Camera, continued, depth_to_points
from .depth import erode
from .distributions import density_coverage, frechet_distance
from .registration import register, sample

_BATCH = 50  # heads that are registered together
_TRACED = 4  # how often the place where a ray meets a surface is corrected


@dataclass(frozen=True)
class ShapeSpace:
    """The face region of the mean head and the principal components of real heads over its P pixels, float64.

    Attributes:
        mean: (1, 1, S, S) depth of the mean head along the optical axis, to which heads are registered; 0 around it.
        region: (1, 1, S, S) bool, the pixels of the face.
        camera: The mean head's view.
        centre: (P,) mean depth of the real heads in place.
        components: (K, P), orthonormal, by falling variance.
        unit: Root mean square distance of the real heads from `centre`. Coordinates are in this unit, so real heads
            have a spread of 1.
    """

    mean: Tensor
    region: Tensor
    camera: Camera
    centre: Tensor
    components: Tensor
    unit: float

    @classmethod
    def fit(
        cls, depth: Tensor, mask: Tensor, mean: Tensor, region: Tensor, camera: Camera, components: int = 30
    ) -> "ShapeSpace":
        """The space of real heads.

        Args:
            depth: (N, 1, S, S) of real heads from the front, along the optical axis.
            mask: (N, 1, S, S), 0 or 1, where there is a head.
            mean: (1, 1, S, S) depth of the mean head, 0 around it. Heads are registered to all of it: the face alone
                says less about where it is.
            region: (1, 1, S, S), 0 or 1: the face, some pixels inside the mean head's outline. Nearer to it, pose moves
                heights more than the person does.
            camera: The camera of all these maps; one, for only field of view, size and pixel rule count.
            components: Number of principal components, K.

        Raises:
            ValueError: There are too few heads or pixels for so many components, or a head has no depth.
        """
        place = cls(mean, region.bool(), camera, torch.empty(0), torch.empty(0), 1.0)
        heights = place._heights(depth, mask, camera)
        if components >= min(heights.shape):
            raise ValueError(
                f"{components} components need more than {len(heights)} heads of {heights.shape[1]} pixels"
            )
        if not heights.isfinite().all():
            raise ValueError("a real head has no depth in the face region: check its mask")
        centre = heights.mean(0)
        away = heights - centre
        axes = torch.linalg.eigh(away.T @ away).eigenvectors[:, -components:].flip(1).T
        return cls(mean, place.region, camera, centre, axes, float(away.square().sum(1).mean().sqrt()))

    def project(self, depth: Tensor, mask: Tensor, camera: Camera) -> Tensor:
        """Coordinates (N, K + 1) of heads, float64: K components, then the norm of what is left over.

        Holes in the face region, and what turns into view from beyond the outline, are filled with the mean depth of
        their neighbours, ring by ring. A head with fewer than three valid pixels on the mean head has NaN.

        Args:
            depth: (N, 1, S, S) from the front, along the optical axis, in any unit. Values that are not finite or not
                positive count as holes.
            mask: (N, 1, S, S) opacity; above 0.5 there is a head.
            camera: The camera of these maps; its field of view may differ from that of the space.

        Raises:
            ValueError: The maps are not as large as those of the space.
        """
        away = self._heights(depth, mask, camera) - self.centre
        along = away @ self.components.T
        return torch.cat([along, (away - along @ self.components).norm(dim=1, keepdim=True)], 1) / self.unit

    def _heights(self, depth: Tensor, mask: Tensor, camera: Camera) -> Tensor:
        """Depth (N, P) of heads in place, along the rays of the face region."""
        if depth.shape[1:] != self.mean.shape[1:]:
            raise ValueError(f"depth must be (N, {', '.join(map(str, self.mean.shape[1:]))}), got {tuple(depth.shape)}")
        target, outline = depth_to_points(self.mean, self.camera), erode(self.mean > 0)
        heights = []
        for maps, inside in zip(depth.split(_BATCH), mask.split(_BATCH), strict=True):
            valid = (inside > 0.5) & maps.isfinite() & (maps > 0)
            points = depth_to_points(continued(maps.double(), valid), camera)
            found = register(points, valid, target, outline)
            in_place = found.similarity.apply(points)
            met = sample(in_place, _on_rays(in_place, found.nearest, self.camera))
            heights.append(-met[:, 2, self.region[0, 0]])
        return torch.cat(heights)


def _on_rays(points: Tensor, at: Tensor, camera: Camera) -> Tensor:
    """Where surfaces (N, 3, S, S) meet the rays of a camera's pixels (N, S, S, 2), searched from `at` on."""
    size = points.shape[-1]
    axis = torch.linspace(-1, 1, size).to(points)
    goal = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    view = Camera(torch.eye(4).to(points)[None], camera.fov, size, camera.pixel_centres)
    for _ in range(_TRACED):
        pixels, _depth = view.project(sample(points, at).flatten(2).mT)
        at = (at + goal - (pixels / (size - 1) * 2 - 1).view_as(at)).clamp(-1, 1)
    return at


class ShapeFigures(NamedTuple):
    """How the shapes of samples differ from those of real heads.

    Attributes:
        distance: Shape FD, the squared Fréchet distance; 0 for the same shapes. Samples that are all the mean face have
            about 1, for the spread that they lack; a wrong mean face adds its squared distance.
        density: See `zoo.metrics.distributions.density_coverage`.
        coverage: See the same function.
        spread: Root mean square distance from their mean, over that of the real heads.
    """

    distance: float
    density: float
    coverage: float
    spread: float


def shape_figures(real: Tensor, samples: Tensor) -> ShapeFigures:
    """Compare coordinates from `ShapeSpace.project`: (N, K + 1) of real heads and (M, K + 1) of samples.

    The real heads should not be those that the space was fitted to, for little of these is left over.

    Raises:
        ValueError: A set is too small, or has NaN.
    """
    spreads = [x.var(0).sum().sqrt() for x in (samples, real)]
    return ShapeFigures(
        frechet_distance(real, samples), *density_coverage(real, samples), float(spreads[0] / spreads[1])
    )
