"""What generators make beside photographs: the kernel distance of their faces."""

import torch
from torch import Tensor

from ...generators.base import Generator
from ...images import resize
from ...metrics.distributions import KID, kernel_distance
from ...metrics.inception import available, inception_features
from ...runtime.progress import Steps
from .pictures import faces_alone

_BATCH, _BLOCKS = 16, 10


@torch.no_grad()
def kid_of(generator: Generator, photographs: Tensor, seed: int, steps: Steps) -> tuple[KID | None, list[str]]:
    """KID of the faces on as many samples as there are photographs (N, 3, S, S), and what a reader must know of it.

    Samples have psi 1, and poses and lights of the generator's priors. None if it cannot be measured.
    """
    n, size = len(photographs), photographs.shape[-1]
    if not available():
        return None, ["KID is not measured: it needs zoo3d[fid]"]
    if n < 2 * _BLOCKS:
        return None, [f"KID is not measured: it needs {2 * _BLOCKS} photographs"]
    latents, cameras = generator.latents(n, seed), generator.cameras(n, seed + 1, size)
    lights = generator.lights(n, seed + 2) if generator.uses_light else None
    parts = []
    with steps.task("rendering samples", n) as advance:
        for start in range(0, n, _BATCH):
            part = slice(start, start + _BATCH)
            rgb = generator(latents[part], cameras[part], None if lights is None else lights[part]).rgb
            parts.append(resize(rgb.cpu().float(), size).clamp(-1, 1))
            advance(len(rgb))
    fake, missing = faces_alone(torch.cat(parts))
    real, _ = faces_alone(photographs)
    kid = kernel_distance(inception_features(real), inception_features(fake), _BLOCKS)
    return kid, [f"no face on {missing} of {n} samples"] if missing else []
