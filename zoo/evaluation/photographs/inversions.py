"""How well a generator explains photographs: likeness of its inversions, from the photograph's side and from others."""

from collections.abc import Callable
from math import radians
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...editing.inversion import invert
from ...editing.problem import Perceptual
from ...editing.reconstruction import Reconstruction
from ...errors import DataError, ZooError
from ...faces.align import align
from ...faces.mesh import find_points
from ...generators.base import Generator
from ...images import resize
from ...metrics.identity import embed_faces
from ...output.colours import show_image, to_pil
from .pictures import Photographs

_SIDE = 128  # px of the pictures whose faces are compared


class Inversions(NamedTuple):
    """Inversions of the first n photographs; NaN where something could not be measured.

    Attributes:
        psnr: (n,) in dB, over the pixels that belong to both the object and the photograph.
        identity: (n,) distance of face embeddings between photograph and reconstruction.
        turned: (n,) the same, the reconstruction turned to either side.
        perceptual: (n,) distance of the pictures, where the object is; NaN without a network that tells it.
        pictures: (n, 3, S, S) the reconstructions in [0, 1], grey where there is none.
        notes: What went wrong.
    """

    psnr: np.ndarray
    identity: np.ndarray
    turned: np.ndarray
    perceptual: np.ndarray
    pictures: Tensor
    notes: list[str]


def invert_all(
    generator: Generator,
    photographs: Photographs,
    n: int,
    *,
    steps: int,
    reach: float,
    size: int,
    advance: Callable[[int], None],
    perceptual: Perceptual | None = None,
) -> Inversions:
    """Invert the first `n` photographs.

    Args:
        generator: What explains them.
        photographs: What is explained.
        n: Their number.
        steps: Limits the steps of each search.
        reach: Degrees of yaw from the front to which reconstructions are turned.
        size: Side S of the pictures that are returned.
        advance: Is called after each of them.
        perceptual: Tells how far pictures are from each other to the eye.
    """
    notes, found = [], np.full((4, n), np.nan)
    pictures = torch.full((n, 3, size, size), 0.5)
    try:
        embed_faces(torch.zeros(1, 3, _SIDE, _SIDE))
        compared = True
    except ZooError as error:
        compared = False
        notes.append(f"identity is not measured: {error}")
    for i in range(n):
        try:
            made = invert(generator, photographs.picture(i), steps=steps)
        except DataError as error:
            notes.append(f"not inverted: {error}")
        else:
            found[0, i] = made.fit.psnr
            pictures[i] = resize(show_image(made.render().rgb.cpu()), size)[0]
            if compared:
                found[1:3, i] = _likeness(made, radians(reach))
            if perceptual is not None:
                found[3, i] = _seen_distance(made, perceptual)
        advance(1)
    return Inversions(found[0], found[1], found[2], found[3], pictures, notes)


@torch.no_grad()
def _seen_distance(made: Reconstruction, perceptual: Perceptual) -> float:
    """The perceptual distance of photograph and reconstruction; beyond the object both are the photograph."""
    side = made.image.shape[-1]
    weight, render = resize(made.weight, side).cpu(), made.render(size=side).rgb.cpu()
    image = made.image.cpu()
    return float(perceptual(image + weight * (render - image), image))


def _likeness(made: Reconstruction, reach: float) -> tuple[float, float]:
    """Distances of the photograph's face from the reconstruction, and from its views to both sides (mean)."""
    points = find_points(made.image.cpu().clamp(-1, 1)).points
    if not points.isfinite().all():
        return np.nan, np.nan
    side = made.image.shape[-1]
    cameras = made.generator.camera(torch.tensor([-reach, reach]), size=side)
    views = torch.cat([made.image, made.render(size=side).rgb, made.render(cameras).rgb]).cpu()
    # All are cut alike, by the photograph's points, to where the embedding looks for faces.
    cut = torch.stack([align(to_pil(show_image(view)), points, "heads", _SIDE) for view in views])
    embedded = embed_faces(cut)
    distances = (embedded[1:] - embedded[0]).norm(dim=1)
    return distances[0].item(), distances[1:].mean().item()
