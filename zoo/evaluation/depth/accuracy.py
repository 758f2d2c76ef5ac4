"""SIDE and MAD by the letter of the published test (Wu et al. 2020)."""

from typing import ClassVar

from ...metrics import evaluation_mask
from ..benchmark import Column, Figure
from .protocol import DepthProtocol, Scored


class Accuracy:
    """How far depth and its normals are from the truth, over the test images that show foreground."""

    keys: ClassVar = ("SIDE", "MAD", "SIDE_std", "MAD_std")
    columns: ClassVar = (
        Column("SIDE", "SIDE", "×10⁻²", better="lower", spread="SIDE_std"),
        Column("MAD", "MAD", "°", better="lower", form=".2f", spread="MAD_std"),
    )

    def words(self, rules: DepthProtocol) -> list[str]:
        """What SIDE and MAD are, and which pixels count."""
        return [
            "SIDE is the standard deviation of log predicted depth minus log true depth, so a common scale is free "
            "and a shift is not. MAD is the mean angle between the normals of both depth maps, in degrees. Normals "
            "come from central differences of depth, back-projected with a field of view of "
            f"{rules.fov:g} degrees, first and last pixel centre on the edge of the frustum.",
            "Only pixels of the true foreground count, eroded by one pixel. Each image gives one value; the table has "
            "the mean over images and, after the plus-minus sign, their standard deviation. Nothing is re-aligned.",
        ]

    def measure(self, scored: Scored) -> dict[str, Figure]:
        """Means and standard deviations over images: SIDE in units of 1e-2, MAD in degrees.

        Raises:
            ValueError: Depth has another shape, or is not finite or not positive in the foreground.
        """
        from ...metrics import MAD, SIDE  # with torchmetrics, which rows from disk do not need

        side, mad = SIDE(on_empty="skip"), MAD(on_empty="skip")
        test, mask = scored.test, evaluation_mask(scored.test.mask)
        side.update(scored.depth, test.depth, mask)
        mad.update(scored.rules.normals(scored.depth), scored.rules.normals(test.depth), mask)
        return {
            "SIDE": 100 * side.compute().item(),
            "MAD": mad.compute().item(),
            "SIDE_std": 100 * side.spread(),
            "MAD_std": mad.spread(),
        }
