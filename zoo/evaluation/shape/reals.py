"""Real heads with which samples are compared, and the space of their shapes.

The space that the protocol asks for is shipped, as it takes minutes to span. `python -m zoo.evaluation.shape.reals`
writes it.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...geometry import Camera, depth_to_points
from ...heads.dataset import HeadDataset
from ...heads.sampling import FOV
from ...metrics.inception import inception_features
from ...metrics.shapespace import ShapeSpace
from .protocol import ShapeProtocol
from .truth import frontal_heads, frontal_mean

ASSET = Path(__file__).parent / "assets" / "space.npz"
_KEPT = (ShapeProtocol.size, ShapeProtocol.n_real)  # of the space that is shipped
_ARRAYS = ("mean", "region", "centre", "components", "unit")
_FACE = (-0.075, 0.055, 0.02)  # the face of the mean head: from chin to hairline, and no further back, in world units


@dataclass(frozen=True)
class Reals:
    """Real heads with which samples are compared.

    Attributes:
        rules: The protocol.
    """

    rules: ShapeProtocol

    @property
    def camera(self) -> Camera:
        """The frontal view in which shapes are compared."""
        return _front(self.rules.size)

    @cached_property
    def space(self) -> ShapeSpace:
        """The space of shapes, spanned by heads of the train split."""
        size, n = self.rules.size, self.rules.n_real
        return load_space() if (size, n) == _KEPT else fit_space(size, n)

    @cached_property
    def shapes(self) -> Tensor:
        """Shapes of the real heads that samples are compared with."""
        return self._shapes(0)

    @cached_property
    def images(self) -> Tensor:
        """Their pictures (N, 3, S, S) in [-1, 1], in the condition plain."""
        return self._images(0)

    def held_out(self) -> tuple[Tensor, Tensor]:
        """As many other heads, in place of a generator's: their shapes, and pictures (N, 3, S, S)."""
        return self._shapes(self.rules.n_shapes), self._images(self.rules.n_pictures)

    def _shapes(self, first: int) -> Tensor:
        rules = self.rules
        return self.space.project(*frontal_heads(rules.split, first, rules.n_shapes, rules.size), self.camera)

    @cached_property
    def features(self) -> Tensor:
        """Features of `images`."""
        return inception_features(self.images)

    def _images(self, first: int) -> Tensor:
        n = self.rules.n_pictures
        heads = HeadDataset(self.rules.split, self.rules.size, first + n)
        return torch.cat(
            [heads.batch(list(range(i, min(i + 100, first + n))))["image"] for i in range(first, first + n, 100)]
        )


def fit_space(size: int, n: int) -> ShapeSpace:
    """The space that is spanned by `n` heads of the train split, seen at `size` pixels a side."""
    mean, inside = frontal_mean(size)
    region = inside.bool() & face_region(mean, _front(size))
    head = torch.where(
        inside > 0, mean, 0.0
    )  # or the picture's border would be the outline that heads are registered to
    return ShapeSpace.fit(*frontal_heads("train", 0, n, size), head, region, _front(size))


def load_space() -> ShapeSpace:
    """The space that is shipped, which is that of `ShapeProtocol`."""
    with np.load(ASSET, allow_pickle=False) as found:
        mean, region, centre, components, unit = (torch.from_numpy(found[key]) for key in _ARRAYS)
    return ShapeSpace(mean, region, _front(mean.shape[-1]), centre, components, float(unit))


def _front(size: int) -> Camera:
    return Camera.orbit(fov=FOV, size=size)


def face_region(depth: Tensor, camera: Camera) -> Tensor:
    """Where the mean head shows its face: (1, 1, S, S) bool."""
    points = depth_to_points(depth, camera)
    low, high, back = _FACE
    return (points[:, 1:2] > low) & (points[:, 1:2] < high) & (1 + points[:, 2:] > back)


if __name__ == "__main__":
    space = fit_space(*_KEPT)
    ASSET.parent.mkdir(exist_ok=True)
    np.savez_compressed(ASSET, **{key: np.asarray(getattr(space, key)) for key in _ARRAYS})  # type: ignore[arg-type]
