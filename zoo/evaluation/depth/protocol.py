"""The numbers that fix a depth test, and what a metric of it is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self

from torch import Tensor

from ...geometry import Camera, depth_to_normal
from ...probes.depth import Pairs
from ...runtime.progress import Steps
from ..benchmark import Column, Figure, Subject
from ..departures import with_departures


@dataclass(frozen=True)
class DepthProtocol:
    """Everything a figure depends on, besides the method.

    Attributes:
        name: What is printed beside every figure; it changes whenever a number below does.
        fov: Full angle of view in degrees used to turn depth into normals, for prediction and truth alike.
        size: Image side in pixels.
        n_test: Number of test images.
        n_pairs: Number of training pairs, rendered by a generator or true ones for the baselines.
        steps: Number of optimiser steps of the probe.
        batch_size: Pairs in each step.
        width: Width of the probe at its first level.
        n_surface: Number of objects whose surfaces are examined.
    """

    name: str
    fov: float
    size: int = 64
    n_test: int = 500
    n_pairs: int = 1000
    steps: int = 300
    batch_size: int = 16
    width: int = 16
    n_surface: int = 64

    def quick(self) -> Self:
        """Fewer images, pairs and steps, for a look in seconds: `heads-v1/quick`."""
        return replace(self, name=f"{self.name}/quick", n_test=200, n_pairs=300, steps=100, n_surface=8)

    def but(self, **numbers: int) -> Self:
        """The protocol with other numbers, each of which shows in the name: `heads-v1/n_test=50`.

        Raises:
            ConfigError: A number is not positive.
        """
        return with_departures(self, numbers, {})

    def normals(self, depth: Tensor) -> Tensor:
        """Normals (B, 3, S, S) of depth (B, 1, S, S) under the field of view of the protocol."""
        return depth_to_normal(depth, Camera.orbit(fov=self.fov, size=self.size))


@dataclass(frozen=True)
class Scored:
    """What the metrics of a row may look at.

    Attributes:
        subject: The model, function or baseline.
        depth: What it gave to the test images, (N, 1, S, S).
        test: The test images with their true depth.
        rules: The protocol.
        seed: Seed of whatever a metric draws.
        steps: Where progress is shown.
    """

    subject: Subject
    depth: Tensor
    test: Pairs
    rules: DepthProtocol
    seed: int
    steps: Steps


class DepthMetric(Protocol):
    """A metric of the depth benchmarks: a class in a file of its own, and a line in `METRICS`.

    Attributes:
        columns: What tables show of it.
        keys: Names of all its figures; those that it does not measure for a subject are None in the row.
    """

    columns: ClassVar[Sequence[Column]]
    keys: ClassVar[Sequence[str]]

    def words(self, rules: DepthProtocol) -> list[str]:
        """What the figures mean, in sentences."""
        ...

    def measure(self, scored: Scored) -> dict[str, Figure]:
        """The figures of one row, by name; none where the metric says nothing about a subject."""
        ...
