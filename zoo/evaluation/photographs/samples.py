"""What generators make beside photographs: the kernel distance of their faces, and what the face mesh says of them."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...faces.mesh import find_points
from ...faces.pose import measure_poses
from ...generators.base import Generator
from ...geometry import continued
from ...images import resize
from ...metrics.distributions import KID, kernel_distance
from ...metrics.inception import available, inception_features
from ...runtime.progress import Steps
from .pictures import depth_agreement, faces_alone

_BATCH, _BLOCKS = 16, 10
_LEAST_TURN = 0.01  # radians that yaws deviate: of less, the slope tells of the mesh's noise alone


class Samples(NamedTuple):
    """N samples of a generator at psi 1, with poses and lights of its priors.

    Attributes:
        images: (N, 3, S, S) in [-1, 1].
        points: (N, 468, 3) the face mesh on them, in pixels; NaN where there is no face.
        yaws: (N,) of their cameras, in radians.
        depth: (N, 1, S, S), continued beyond the object; None of a picture GAN.
    """

    images: Tensor
    points: Tensor
    yaws: Tensor
    depth: Tensor | None


@torch.no_grad()
def draw_samples(generator: Generator, n: int, size: int, seed: int, steps: Steps) -> Samples:
    """Render `n` samples at `size` pixels and find their faces."""
    latents, cameras = generator.latents(n, seed), generator.cameras(n, seed + 1, size)
    lights = generator.lights(n, seed + 2) if generator.uses_light else None
    images, depths = [], []
    with steps.task("rendering samples", n) as advance:
        for start in range(0, n, _BATCH):
            part = slice(start, start + _BATCH)
            made = generator(latents[part], cameras[part], None if lights is None else lights[part]).cpu()
            images.append(resize(made.rgb.float(), size).clamp(-1, 1))
            if made.depth is not None and made.mask is not None:
                depths.append(continued(made.depth, made.mask > 0.5))
            advance(len(made.rgb))
    pictures = torch.cat(images)
    depth = torch.cat(depths) if depths else None
    return Samples(pictures, find_points(pictures).points, cameras.pose[:, 1].cpu(), depth)


def kid_of(samples: Samples, photographs: Tensor) -> tuple[KID | None, list[str]]:
    """KID of the faces on samples and on photographs (N, 3, S, S), and what a reader must know of it.

    None if it cannot be measured.
    """
    if len(photographs) < 2 * _BLOCKS:
        return None, [f"KID is not measured: it needs {2 * _BLOCKS} photographs"]
    if not available():
        return None, ["KID is not measured: it needs zoo3d[fid]"]
    fake = faces_alone(samples.images, samples.points)
    real = faces_alone(photographs, find_points(photographs).points)
    kid = kernel_distance(inception_features(real), inception_features(fake), _BLOCKS)
    missing = int((~_seen(samples)).sum())
    return kid, [f"no face on {missing} of {len(samples.images)} samples"] if missing else []


def shape_of(samples: Samples) -> dict[str, np.ndarray]:
    """What the face mesh says of the shapes, by figure, in the form of `zoo.evaluation.statistics`.

    `sample_depth` (N,) is the agreement of depth with the mesh. `sample_turn` (N, 2) makes the slope of the mesh's yaw
    over the camera's, unless cameras hardly turn. Samples without a face are NaN; without depth, or with fewer than 3
    faces, nothing is told.
    """
    seen = _seen(samples)
    if samples.depth is None or int(seen.sum()) < 3:
        return {}
    yaws, found = (v[seen].double().numpy() for v in (samples.yaws, measure_poses(samples.points)[:, 1]))
    yaws, found = yaws - yaws.mean(), found - found.mean()
    agreement = depth_agreement(samples.depth[seen], samples.points[seen])
    told = {"sample_turn": np.stack([yaws * (yaws - found), yaws * yaws], 1)} if yaws.std() > _LEAST_TURN else {}
    if agreement is not None:
        told["sample_depth"] = agreement
    out = {}
    for key, values in told.items():
        out[key] = np.full((len(seen), *values.shape[1:]), np.nan)
        out[key][seen.numpy()] = values
    return out


def _seen(samples: Samples) -> Tensor:
    return samples.points.isfinite().flatten(1).all(1)
