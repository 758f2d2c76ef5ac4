"""The lights under which sheets and reports show an object."""

import torch

from ..geometry import Light

_SLOPES = {"front": (0.0, 0.0), "left": (-1.2, 0.0), "right": (1.2, 0.0), "top": (0.0, 1.2), "below": (0.0, -1.0)}


def preset_lights(device: torch.device) -> dict[str, Light]:
    """One light for each side that it can come from, "front" first, all of the same strength."""
    return {side: Light.of(0.25, 0.75, *slope).to(device) for side, slope in _SLOPES.items()}
