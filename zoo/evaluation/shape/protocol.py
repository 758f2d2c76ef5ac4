"""The numbers that fix a test of shape on the embedded heads."""

from dataclasses import dataclass, replace
from typing import Any, Self

from ...errors import ConfigError
from ..departures import with_departures

SPLITS = ("sealed", "val")
_LEAST = {"n_pairs": 10, "n_shapes": 10, "n_pictures": 20}  # a tenth of pairs is held back; KID has ten blocks of two


@dataclass(frozen=True)
class ShapeProtocol:
    """Everything a figure depends on, besides the method.

    Attributes:
        name: What is printed beside every figure; it changes whenever a number below does.
        split: "sealed" for results; "val" while something is developed or chosen.
        size: Image side in pixels.
        n_test: Number of heads in each condition.
        n_pairs: Number of pairs that a generator renders for its probes; a tenth of them is held back.
        probes: Number of probes, with seeds that follow each other; their errors are averaged.
        steps: Number of optimiser steps of a probe at most; it stops when the pairs held back get no better.
        batch_size: Pairs in each step.
        width: Width of a probe at its first level.
        n_shapes: Number of samples whose shapes are compared with those of real heads.
        n_pictures: Number of samples whose pictures are compared with those of real heads.
        n_real: Number of real heads that span the space of shapes; as many as `n_shapes` others are compared.
        n_turned: Number of samples that are turned.
    """

    name: str = "heads-v2"
    split: str = "sealed"
    size: int = 64
    n_test: int = 300
    n_pairs: int = 1000
    probes: int = 3
    steps: int = 600
    batch_size: int = 16
    width: int = 16
    n_shapes: int = 500
    n_pictures: int = 300
    n_real: int = 2000
    n_turned: int = 48

    def quick(self) -> Self:
        """Fewer heads, samples, probes and steps, for a look in seconds: `heads-v2/quick`."""
        few: dict[str, Any] = {
            "n_test": 60,
            "n_pairs": 200,
            "probes": 1,
            "steps": 100,
            "n_shapes": 100,
            "n_pictures": 100,
            "n_real": 200,
            "n_turned": 8,
        }
        return replace(self, name=f"{self.name}/quick", **few)

    def but(self, **numbers: int | str) -> Self:
        """The protocol with other numbers, each of which shows in its name: `heads-v2/n_test=50`.

        Raises:
            ConfigError: A number is too small, or the split is unknown.
        """
        if (split := numbers.get("split", self.split)) not in SPLITS:
            raise ConfigError(f"split={split}: use {' or '.join(SPLITS)}")
        return with_departures(self, numbers, _LEAST, 2)
