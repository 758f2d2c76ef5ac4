"""Peak memory of what is large: pictures of 256 px of every kind of field, and a training step at 128 px."""

from typing import Any

import torch

from ..weights.build import build
from .fields import PUBLISHED, rendering
from .harness import Call, Work
from .train import learning

SIDE, TRAINED = 256, 128


def works(device: str) -> list[Work]:
    """What `zoo bench memory` measures. The reference renders in parts of 50,000 points and learns from all at once."""
    out = [_picture(method, device) for method in ("pigan", "shadegan")]
    out += [_alone(method, device) for method in ("gof", "graf")]
    for method in ("pigan", "shadegan"):
        name = f"{method}, published size: forward and backward, {TRAINED} px, batch 4"
        out.append(learning(name, method, PUBLISHED, TRAINED, 4, device))
    return out


def _picture(method: str, device: str) -> Work:
    name = f"{method}, published size, {SIDE} px"
    return rendering(name, lambda: build(method, **PUBLISHED).to(device), SIDE)


def _alone(method: str, device: str) -> Work:
    def calls() -> dict[str, Call]:
        g: Any = build(method).to(device).eval().requires_grad_(False)
        latents, camera = g.latents(1, seed=0), g.cameras(1, seed=0, size=SIDE)

        def call() -> object:
            with torch.no_grad():
                return g(latents, camera)

        return {"zoo": call}

    return Work(f"{method}, published size, {SIDE} px", calls, images=1, ways=("zoo",))
