"""What a generator makes, compared with real heads without any probe: shapes, pictures, and whether views agree."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...generators.base import Generator
from ...geometry import Camera, Render
from ...metrics.consistency import own_normals, view_differences
from ...metrics.distributions import frechet_distance, kernel_distance, precision_recall
from ...metrics.inception import available, inception_features
from ...metrics.shapespace import shape_figures
from ...probes.depth import render_pairs
from ...runtime.progress import Steps
from ..statistics import LEVEL, interval
from .protocol import ShapeProtocol
from .reals import Reals

Figures = dict[str, float | None]
Intervals = dict[str, tuple[float, float]]
_SHAPES = {"shape_FD": "distance", "coverage": "coverage", "density": "density", "spread": "spread"}
_TURN = 0.3  # radians of yaw between the two views of a sample
_BATCH = 16
DRAWS = 100  # of a bootstrap over samples, each of which needs distances between all


@torch.no_grad()
def generated_figures(
    generator: Generator | None, reals: Reals, steps: Steps, seed: int = 0, pictures: Tensor | None = None
) -> tuple[Figures, Intervals]:
    """Figures of what a generator makes, and the 95 % intervals of those that have one.

    Args:
        generator: What makes samples (psi 1: what it has learned, not its best side); None stands for held-out real
            heads.
        reals: What samples are compared with.
        steps: Where progress is shown.
        seed: Makes the samples.
        pictures: (N, 3, S, S) in [-1, 1], samples in the poses and lights of the generator's priors, if there are any.
    """
    if generator is None:
        return _compared(*reals.held_out(), reals)
    rules, scene = reals.rules, generator.scene
    latents = generator.latents(rules.n_shapes, seed)
    front = generator.camera(size=rules.size)
    with steps.task("rendering shapes", rules.n_shapes) as advance:
        depth, mask = [], []
        for start in range(0, rules.n_shapes, _BATCH):
            maps = _maps(generator(latents[start : start + _BATCH], front).cpu())
            depth.append(maps[1])
            mask.append(maps[2])
            advance(len(maps[1]))
    camera = Camera.orbit(fov=scene.fov, size=rules.size, radius=scene.radius, pixel_centres=front.pixel_centres)
    shapes = reals.space.project(torch.cat(depth), torch.cat(mask), camera)
    if pictures is None or len(pictures) < rules.n_pictures:
        with steps.task("rendering pictures", rules.n_pictures) as advance:
            pictures = render_pairs(generator, rules.n_pictures, size=rules.size, seed=seed, advance=advance).image
    figures, intervals = _compared(shapes, pictures[: rules.n_pictures], reals)
    with steps.task("turning samples", rules.n_turned) as advance:
        for key, values in _turned(generator, rules, seed, advance).items():
            if len(values := values[np.isfinite(values)]) > 1:
                figures[key], intervals[key] = float(values.mean()), interval(values)
    return figures, intervals


def _compared(shapes: Tensor, pictures: Tensor, reals: Reals) -> tuple[Figures, Intervals]:
    """Shapes (M, K) and pictures (M, 3, S, S) of samples against those of real heads."""
    whole = shapes[shapes.isfinite().all(1)]
    if len(whole) < len(shapes) / 2:
        raise ValueError("fewer than half of the samples show a head, so their shapes cannot be compared: train longer")
    found = shape_figures(reals.shapes, whole)
    figures: Figures = {key: getattr(found, field) for key, field in _SHAPES.items()}
    source = torch.Generator().manual_seed(0)
    draws = [
        shape_figures(reals.shapes, whole[torch.randint(len(whole), (len(whole),), generator=source)])
        for _ in range(DRAWS)
    ]
    intervals: Intervals = {}
    for key, field in _SHAPES.items():
        values = np.array([getattr(draw, field) for draw in draws])
        # A sample drawn twice adds nothing new, which moves these figures; only the width of the interval is used.
        ends = getattr(found, field) + np.quantile(values - values.mean(), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        low, high = ends.clip(0, 1 if key == "coverage" else None).tolist()
        intervals[key] = low, high
    if available():
        real, fake = reals.features, inception_features(pictures)
        kid = kernel_distance(real, fake)
        figures |= {"FID": frechet_distance(real, fake), "KID": 1000 * kid.value}
        intervals["KID"] = 1000 * (kid.value - 1.96 * kid.error), 1000 * (kid.value + 1.96 * kid.error)
        figures |= precision_recall(real, fake)._asdict()
    return figures, intervals


def _turned(
    generator: Generator, rules: ShapeProtocol, seed: int, advance: Callable[[int], None]
) -> dict[str, np.ndarray]:
    """How well two views of each sample agree, and a method's normals with its depth: one number for each sample."""
    latents = generator.latents(rules.n_turned, seed + 3)
    views = [generator.camera(yaw, size=rules.size) for yaw in (-_TURN / 2, _TURN / 2)]
    found: dict[str, list[Tensor]] = {}
    for start in range(0, rules.n_turned, _BATCH):
        part = latents[start : start + _BATCH]
        first, second = (generator(part, camera).cpu() for camera in views)
        agreement = view_differences(_maps(first), views[0].to("cpu"), _maps(second), views[1].to("cpu"))
        found.setdefault("consistency", []).append(100 * agreement.colour)
        found.setdefault("depth_consistency", []).append(1000 * agreement.depth)
        if first.normal is not None:
            normals = own_normals(first.normal, *_maps(first)[1:], views[0].to("cpu"))
            found.setdefault("own_normals", []).append(normals)
        advance(len(part))
    return {key: torch.cat(parts).double().numpy() for key, parts in found.items()}


def _maps(render: Render) -> tuple[Tensor, Tensor, Tensor]:
    """Colour, depth and mask of a render; without a mask everything counts."""
    assert render.depth is not None
    mask = torch.ones_like(render.depth) if render.mask is None else render.mask
    return render.rgb, render.depth, mask
