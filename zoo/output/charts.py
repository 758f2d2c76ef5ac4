"""Intervals as drawings inside a page: a dot and a bar for each row, on one axis."""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_STEP = 34  # pixels from row to row
_EDGE = 2.0  # per cent that stay free at both ends


@dataclass(frozen=True)
class Dot:
    """A row of `intervals`.

    Attributes:
        name: Stands above the bar.
        text: The figure as the table prints it.
        value: Where the dot is.
        ends: The interval (low, high); both are `value` where there is none.
        kind: "baseline" or "model".
    """

    name: str
    text: str
    value: float
    ends: tuple[float, float]
    kind: str


def intervals(title: str, dots: Sequence[Dot], form: str) -> str:
    """Dots with their intervals as one drawing, which is as wide as there is room.

    A baseline far away does not press models together: it becomes a triangle at the edge. A line marks 0 where figures
    of both signs occur.

    Args:
        title: Stands above the drawing.
        dots: From top to bottom; all their numbers are finite.
        form: Format of the numbers at the axis.
    """
    low, high = _span(dots)
    signs = min(dot.ends[0] for dot in dots) < 0 < max(dot.ends[1] for dot in dots)

    def at(value: float) -> str:
        return f"{_EDGE + (100 - 2 * _EDGE) * (value - low) / (high - low):.2f}%"

    bottom = _STEP * len(dots) + 4
    parts = [f'<line class="axis" x1="0" x2="100%" y1="{bottom}" y2="{bottom}"/>']
    if signs and low <= 0 <= high:
        parts.append(f'<line class="zero" x1="{at(0)}" x2="{at(0)}" y1="0" y2="{bottom}"/>')
        if 0.15 < (0 - low) / (high - low) < 0.85:  # else it would touch the numbers at the ends
            parts.append(f'<text class="tick" x="{at(0)}" y="{bottom + 15}" text-anchor="middle">0</text>')
    for number, dot in enumerate(dots):
        top = _STEP * number
        parts.append(
            f'<g class="{dot.kind}"><text x="0" y="{top + 14}">{html.escape(_short(dot.name))}</text>'
            f'<text class="figure" x="100%" y="{top + 14}" text-anchor="end">{html.escape(dot.text)}</text>'
            f"{_mark(dot, low, high, top + 24, at)}</g>"
        )
    for x, value, anchor in (("0", low, "start"), ("100%", high, "end")):
        parts.append(f'<text class="tick" x="{x}" y="{bottom + 15}" text-anchor="{anchor}">{value:{form}}</text>')
    said = "; ".join(f"{dot.name} {dot.text}" for dot in dots)
    return (
        f"<figure><figcaption><strong>{html.escape(title)}</strong></figcaption>"
        f'<svg role="img" aria-label="{html.escape(f"{title}: {said}", quote=True)}" width="100%" '
        f'height="{bottom + 20}">{"".join(parts)}</svg></figure>'
    )


def _mark(dot: Dot, low: float, high: float, y: int, at: Callable[[float], str]) -> str:
    if dot.value < low:
        return f'<text x="0" y="{y + 5}">\N{BLACK LEFT-POINTING TRIANGLE}</text>'
    if dot.value > high:
        return f'<text x="100%" y="{y + 5}" text-anchor="end">\N{BLACK RIGHT-POINTING TRIANGLE}</text>'
    left, right = (at(min(max(end, low), high)) for end in dot.ends)
    return f'<line x1="{left}" x2="{right}" y1="{y}" y2="{y}"/><circle cx="{at(dot.value)}" cy="{y}" r="4.5"/>'


def _span(dots: Sequence[Dot]) -> tuple[float, float]:
    """The ends of the axis: what models reach, and baselines no farther away than twice that."""

    def ends(chosen: Sequence[Dot]) -> tuple[float, float]:
        return min(dot.ends[0] for dot in chosen), max(dot.ends[1] for dot in chosen)

    models = [dot for dot in dots if dot.kind == "model"]
    low, high = ends(dots)
    if len(models) > 1:
        first, last = ends(models)
        room = 2 * (last - first)
        low, high = ends([dot for dot in dots if first - room <= dot.value <= last + room])
        low, high = max(low, first - room), min(high, last + room)
    if math.isclose(low, high):
        low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
    return low, high


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True)
class Curve:
    """A line of `curves`: its name, and its points (x, y), all above 0 and in the order of x."""

    name: str
    points: tuple[tuple[float, float], ...]


_WIDTH, _HEIGHT, _LEFT, _RIGHT, _FOOT = 560, 260, 8, 190, 44
_INKS = ("#2a7f78", "#b3541e", "#4a5fc1", "#8a6d00", "#a03b6f", "#5b6470")


def curves(title: str, lines: Sequence[Curve]) -> str:
    """Curves over one logarithmic axis as a file of its own, each scaled to its own range, which stands at its ends.

    Doubling is the same step everywhere, so that a straight line is a power law.

    Raises:
        ValueError: There is no curve.
    """
    xs = sorted({x for line in lines for x, _ in line.points})
    if not xs:
        raise ValueError("no curve to draw: give at least one point")
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _FOOT
    span = max(math.log(xs[-1] / xs[0]), 1e-9)
    # All share one scale of factors, so that slopes can be compared though units differ.
    reach = max((math.log(max(y for _, y in c.points) / min(y for _, y in c.points)) for c in lines), default=0) or 1.0

    def place(line: Curve, x: float, y: float) -> tuple[float, float]:
        low = min(v for _, v in line.points)
        across = _LEFT + (right - _LEFT) * math.log(x / xs[0]) / span
        return across, bottom - 12 - (bottom - 48) * math.log(y / low) / reach

    parts = [f'<text x="{_LEFT}" y="18" font-weight="bold">{html.escape(title)}</text>']
    parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="#a9b1bb"/>')
    for x in xs:
        across = place(lines[0], x, min(v for _, v in lines[0].points))[0]
        parts.append(f'<text x="{across:.1f}" y="{bottom + 18}" text-anchor="middle" fill="#5b6470">{x:g}</text>')
    for number, line in enumerate(lines):
        ink, spots = _INKS[number % len(_INKS)], [place(line, x, y) for x, y in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{ink}"/>' for x, y in spots]
        ends = f"{line.points[0][1]:.3g} to {line.points[-1][1]:.3g}"
        top = 40 + 38 * number
        parts.append(f'<text x="{right + 16}" y="{top}" fill="{ink}">{html.escape(line.name)}</text>')
        parts.append(f'<text x="{right + 16}" y="{top + 16}" fill="#5b6470">{ends}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'role="img" font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="#fcfcfb"/>'
        f"{''.join(parts)}</svg>\n"
    )
