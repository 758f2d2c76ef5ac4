"""How well a generator explains photographs: likeness of its inversions, from the photograph's side and from others."""

from collections.abc import Callable
from math import degrees, radians
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...editing.inversion import invert, tune_to, unless_interrupted
from ...editing.problem import Perceptual
from ...editing.reconstruction import Reconstruction
from ...errors import DataError, ZooError
from ...faces.align import align
from ...faces.mesh import find_points
from ...faces.pose import measure_poses
from ...generators.base import Explainer, Generator
from ...geometry import Render, continued
from ...images import resize
from ...metrics.identity import embed_faces
from ...output.colours import show_image, to_pil
from .pictures import Photographs, depth_agreement

_SIDE = 128  # px of the pictures whose faces are compared
_TUNED = ("PSNR", "identity", "depth_agreement")  # what is measured again after tuning
_PER_PICTURE = ("PSNR", "LPIPS", "identity", "turned", "turn_error", "depth_agreement", *(f"{k}_tuned" for k in _TUNED))


class Inversions(NamedTuple):
    """Inversions of the first n photographs; NaN where something could not be measured.

    Attributes:
        values: (n,) by figure: PSNR in dB over the pixels that belong to both the object and the photograph; LPIPS
            where the object is; identity, the distance of face embeddings between photograph and reconstruction, and
            turned, the same with the reconstruction turned to either side; turn_error, how far in degrees the face
            mesh on these two views is from their yaw; depth_agreement with the face mesh.
            With _tuned behind their names, three of them are those of generators that have learnt the photograph.
        poses: (n, 2) pitch and yaw in radians of the cameras that were found.
        pictures: (n, 3, S, S) the reconstructions in [0, 1], grey where there is none.
        tuned: (m, 3, S, S) those of tuned generators, of the first m photographs.
        notes: What went wrong.
    """

    values: dict[str, np.ndarray]
    poses: np.ndarray
    pictures: Tensor
    tuned: Tensor
    notes: list[str]


def invert_all(
    generator: Generator,
    photographs: Photographs,
    n: int,
    *,
    n_tune: int = 0,
    steps: int,
    reach: float,
    size: int,
    advance: Callable[[int], None],
    perceptual: Perceptual | None = None,
    seed: int = 0,
) -> Inversions:
    """Invert the first `n` photographs.

    Args:
        generator: What explains them.
        photographs: What is explained.
        n: Their number.
        n_tune: To so many of them a copy of the generator is tuned afterwards. Methods with an encoder have none.
        steps: Limits the steps of each search.
        reach: Degrees of yaw from the front to which reconstructions are turned.
        size: Side S of the pictures that are returned.
        advance: Is called after each of them.
        perceptual: Tells how far pictures are from each other to the eye.
        seed: Seed of each search and of the objects that tuned copies must go on showing.
    """
    notes: list[str] = []
    values, poses = {key: np.full(n, np.nan) for key in _PER_PICTURE}, np.full((n, 2), np.nan)
    n_tune = 0 if isinstance(generator, Explainer) else min(n, n_tune)
    pictures, tuned = (torch.full((count, 3, size, size), 0.5) for count in (n, n_tune))
    compared = _embeds(notes)
    for i in range(n):
        try:
            made = unless_interrupted(invert(generator, photographs.picture(i), steps=steps, seed=seed))
        except DataError as error:
            notes.append(f"not inverted: {error}")
        else:
            found = _measured(made, radians(reach), perceptual, compared)
            poses[i] = made.camera.pose[0].cpu().numpy()
            pictures[i] = resize(show_image(made.render().rgb.cpu()), size)[0]
            if i < n_tune:
                own = unless_interrupted(tune_to(made, photographs.picture(i), seed=seed))
                again = _measured(own, radians(reach), None, compared)
                found |= {f"{key}_tuned": again[key] for key in _TUNED if key in again}
                tuned[i] = resize(show_image(own.render().rgb.cpu()), size)[0]
            for key, value in found.items():
                values[key][i] = value
        advance(1)
    return Inversions(values, poses, pictures, tuned, notes)


def _embeds(notes: list[str]) -> bool:
    """Whether faces can be compared; why not is noted."""
    try:
        embed_faces(torch.zeros(1, 3, _SIDE, _SIDE))
    except ZooError as error:
        notes.append(f"identity is not measured: {error}")
        return False
    return True


@torch.no_grad()
def _measured(made: Reconstruction, reach: float, perceptual: Perceptual | None, compared: bool) -> dict[str, float]:
    """What one reconstruction scores, by figure; turned by `reach` in radians; identity if faces can be `compared`."""
    image, side = made.image.cpu(), made.image.shape[-1]
    render = made.render(size=side).cpu()
    found = {"PSNR": made.fit.psnr}
    if perceptual is not None:  # beyond the object both are the photograph
        weight = resize(made.weight, side).cpu()
        found["LPIPS"] = float(perceptual(image + weight * (render.rgb - image), image))
    yaws = torch.tensor([-reach, reach])
    sides = made.render(made.generator.camera(yaws, size=side)).rgb.cpu()
    seen = measure_poses(find_points(sides.clamp(-1, 1)).points)[:, 1]
    found["turn_error"] = degrees(float((seen - yaws).abs().mean()))  # NaN where no face is seen
    points = find_points(image.clamp(-1, 1)).points
    if bool(points.isfinite().all()):
        found["depth_agreement"] = _depth_agreement(render, points)
        if compared:
            found["identity"], found["turned"] = _likeness(torch.cat([image, render.rgb, sides]), points)
    return found


def _depth_agreement(render: Render, points: Tensor) -> float:
    assert render.depth is not None
    assert render.mask is not None
    agreement = depth_agreement(continued(render.depth, render.mask > 0.5), points)
    return 0.0 if agreement is None else float(agreement[0])


def _likeness(views: Tensor, points: Tensor) -> tuple[float, float]:
    """Distances of the photograph's face from the reconstruction, and from its views to both sides (mean).

    All are cut alike, by the photograph's points, to where the embedding looks for faces.
    """
    cut = torch.stack([align(to_pil(show_image(view)), points, "heads", _SIDE) for view in views])
    embedded = embed_faces(cut)
    distances = (embedded[1:] - embedded[0]).norm(dim=1)
    return distances[0].item(), distances[1:].mean().item()
