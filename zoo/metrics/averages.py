"""SIDE and MAD as torchmetrics classes: averaged once over all images, even if several processes have seen them."""

from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from .depth import angle_per_image, side_per_image


class _ImageMean(Metric):
    """Mean of a per-image value, from sums and counts, so that it is right for any split over processes.

    Attributes:
        count: Images that entered the mean.
        skipped: Images with an empty mask, left out of the mean.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False

    total: Tensor
    squares: Tensor
    count: Tensor
    skipped: Tensor

    def __init__(self, on_empty: Literal["raise", "skip"] = "raise", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if on_empty not in ("raise", "skip"):
            raise ValueError(f"on_empty must be 'raise' or 'skip', got {on_empty!r}")
        self.on_empty = on_empty
        for name, dtype in (
            ("total", torch.float64),
            ("squares", torch.float64),
            ("count", torch.int64),
            ("skipped", torch.int64),
        ):
            self.add_state(name, torch.zeros((), dtype=dtype), dist_reduce_fx="sum")

    def _add(self, values: Tensor) -> None:
        valid = ~values.isnan()
        empty = int((~valid).sum())
        if empty and self.on_empty == "raise":
            where = (~valid).nonzero().flatten().tolist()
            raise ValueError(f"empty mask for image(s) {where} of the batch: nothing to compare; pass on_empty='skip'")
        self.total += values[valid].sum()
        self.squares += values[valid].square().sum()
        self.count += valid.sum()
        self.skipped += empty

    def compute(self) -> Tensor:
        """The mean over the images seen, float64.

        Raises:
            ValueError: No image was seen, or all were skipped.
        """
        if not self.count:
            raise ValueError(f"no valid image to average (skipped for an empty mask: {int(self.skipped)})")
        return self.total / self.count

    def spread(self) -> float:
        """The standard deviation over the images of this process, which papers write after the +- sign."""
        mean = self.total / self.count
        return (self.squares / self.count - mean.square()).clamp_min(0).sqrt().item()


class SIDE(_ImageMean):
    """Scale-invariant depth error, see `side_per_image`. It is raw; the papers print it times 100.

    Args:
        on_empty: "raise" raises ValueError for an image with an empty mask; "skip" leaves it out and counts it in
            `skipped`.

    Raises:
        ValueError: `on_empty` is neither.
    """

    def update(self, prediction: Tensor, target: Tensor, mask: Tensor) -> None:
        """Add depth maps (B,1,H,W) with their masks (B,1,H,W).

        Raises:
            ValueError: See `side_per_image`; or a mask is empty and `on_empty` is "raise".
        """
        self._add(side_per_image(prediction, target, mask))


class MAD(_ImageMean):
    """Mean angle deviation of normals in degrees, see `angle_per_image`.

    Args:
        on_empty: "raise" raises ValueError for an image with an empty mask; "skip" leaves it out and counts it in
            `skipped`.

    Raises:
        ValueError: `on_empty` is neither.
    """

    def update(self, prediction: Tensor, target: Tensor, mask: Tensor) -> None:
        """Add maps (B,3,H,W) of unit normals with their masks (B,1,H,W).

        Raises:
            ValueError: See `angle_per_image`; or a mask is empty and `on_empty` is "raise".
        """
        self._add(angle_per_image(prediction, target, mask))
