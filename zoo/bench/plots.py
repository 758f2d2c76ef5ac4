"""Sweeps as drawings: images per second and memory along each axis, both logarithmic."""

from collections.abc import Sequence
from pathlib import Path

from ..output.charts import Curve, curves
from ..runtime.files import atomic_write
from .scaling import Point


def plot(points: Sequence[Point], folder: Path) -> dict[str, str]:
    """Write one SVG for each axis.

    Args:
        points: What `scaling.measure` found.
        folder: Takes `scaling-<axis>.svg`; it is made if it is missing.

    Returns:
        For each axis, the file's place as seen from the folder above.
    """
    written = {}
    folder.mkdir(parents=True, exist_ok=True)
    for axis in dict.fromkeys(point.axis for point in points):
        own = [point for point in points if point.axis == axis]
        methods = list(dict.fromkeys(point.method for point in own))
        speed = [
            _curve(f"{m}, images/s", [(p.value, p.images_per_s) for p in own if p.method == m and p.images_per_s])
            for m in methods
        ]
        memory = [
            _curve(f"{m}, MiB", [(p.value, p.memory_mb) for p in own if p.method == m and p.memory_mb]) for m in methods
        ]
        name = f"scaling-{axis.split(',')[0].replace(' ', '-')}.svg"
        text = curves(axis, [curve for curve in speed + memory if curve.points])
        atomic_write(folder / name, text)
        written[axis] = f"{folder.name}/{name}"
    return written


def _curve(name: str, points: list[tuple[int, float]]) -> Curve:
    return Curve(name, tuple((float(x), y) for x, y in points))
