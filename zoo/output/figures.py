"""The figures of the mesh GAN paper, for any generator: canonical views and interpolations."""

import math
from collections.abc import Callable, Sequence

import torch
from PIL.Image import Image
from torch import Tensor

from ..generators.base import Generator, Latents
from .colours import show_image, show_normal, tile
from .sheets import headed

Advance = Callable[[], None]


@torch.no_grad()
def canonical_views(
    generator: Generator,
    latents: Latents,
    *,
    size: int = 96,
    reach: float = math.pi / 2,
    views: int = 5,
    seed: int = 0,
    advance: Advance | None = None,
) -> Image:
    """Draw one row for each object: a view from a random pose, its normals, the method's own maps, and turned views.

    Args:
        generator: Any generator with cameras; a mesh GAN adds its texture and background.
        latents: B objects.
        size: Side of each picture in pixels.
        reach: How far the outermost views are turned to each side, in radians (pi / 2 turns from profile to profile).
        views: Number of turned views.
        seed: Makes the random poses, which are drawn from the poses of the training data.
        advance: Called after every object.

    Raises:
        ConfigError: The generator has no cameras.
    """
    generator.need_camera("turned views")
    cameras = generator.cameras(len(latents), seed, size)
    turned = torch.linspace(-reach, reach, views).tolist()
    rows = []
    for i in range(len(latents)):
        one = latents[i : i + 1]
        random = generator(one, cameras[i : i + 1]).cpu()
        row = {"random view": show_image(random.rgb)}
        if random.normal is not None:
            row["normal"] = show_normal(random.normal, random.normal.square().sum(1, keepdim=True) > 0.25)
        row |= {name: show_image(_fitted(m.cpu(), size)) for name, m in generator.own_maps(one).items()}
        for yaw in turned:
            row[f"yaw {yaw:+.2f}"] = show_image(generator(one, generator.camera(yaw, size=size)).rgb.cpu())
        rows.append(torch.cat(list(row.values())))
        if advance:
            advance()
    return headed(tile(rows), list(row))


@torch.no_grad()
def interpolation(
    generator: Generator,
    start: Latents,
    end: Latents,
    *,
    steps: int = 7,
    yaws: Sequence[float] = (-math.pi / 4, 0.0, math.pi / 4),
    size: int = 96,
    advance: Advance | None = None,
) -> Image:
    """Draw the way from one object to another, in a straight line in z.

    There is one row for each pair of objects and each yaw. Its columns lead from the first object to the second.

    Args:
        generator: Any generator that has cameras and draws its objects from z.
        start, end: B objects each.
        steps: Number of columns, both ends included.
        yaws: Yaws of the rows of a pair, in radians.
        size: Side of each picture in pixels.
        advance: Called after every column of every pair.

    Raises:
        ConfigError: The generator has no cameras.
    """
    generator.need_camera("turned views")
    rows = []
    for i in range(len(start)):
        columns = []
        for t in torch.linspace(0, 1, steps).tolist():
            between = Latents(torch.lerp(start.z[i : i + 1], end.z[i : i + 1], t), start.psi)
            columns.append([show_image(generator(between, generator.camera(yaw, size=size)).rgb.cpu()) for yaw in yaws])
            if advance:
                advance()
        rows += [torch.cat(row) for row in zip(*columns, strict=True)]
    return tile(rows)


def _fitted(maps: Tensor, size: int) -> Tensor:
    return torch.nn.functional.interpolate(maps, size=(size, size), mode="bilinear", antialias=True)
