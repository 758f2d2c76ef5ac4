"""The lights under which sheets and reports show an object."""

import torch

from ..geometry import Light

_SLOPES = {
    "front": (0.0, 0.0), "left": (-1.2, 0.0), "upper left": (-0.8, 0.8), "top": (0.0, 1.2), "upper right": (0.8, 0.8),
    "right": (1.2, 0.0), "below": (0.0, -1.0),
}  # fmt: skip


def preset_lights(device: torch.device, strength: float = 1.0) -> dict[str, Light]:
    """One light for each side that it can come from, "front" first; a surface that faces it is `strength` bright."""
    return {side: Light.of(0.25 * strength, 0.75 * strength, *slope).to(device) for side, slope in _SLOPES.items()}
