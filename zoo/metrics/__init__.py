"""Formulas, one topic a file; SIDE and MAD as torchmetrics classes, too, which average once over all processes."""

from typing import TYPE_CHECKING, Any

from .depth import angle_per_image, erode, evaluation_mask, side_per_image

if TYPE_CHECKING:
    from .averages import MAD, SIDE

__all__ = ["MAD", "SIDE", "angle_per_image", "erode", "evaluation_mask", "side_per_image"]


def __getattr__(name: str) -> Any:
    if name not in ("MAD", "SIDE"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import averages  # torchmetrics takes seconds to import, and few need it

    return getattr(averages, name)
