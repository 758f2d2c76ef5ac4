"""GOF's published files: pi-GAN's network with settings of its own."""

from typing import Any

from ..layouts import plain
from .base import Method
from .pigan import sizes


def _settings(surface: int, fine: int, smallest: float, largest: float) -> dict[str, Any]:
    steps = {"steps": 9, "surface_steps": surface, "fine_steps": fine}
    return {**steps, "interval_min": smallest, "interval_max": largest, "last_back": True}


METHOD = Method(
    settings={
        "celeba": _settings(9, 6, 0.03, 0.12),
        "bfm": _settings(12, 3, 0.02, 0.12),
        "cats": _settings(9, 6, 0.10, 0.20),
    },
    sizes=sizes,
    tensors=plain,
    averaged=True,
    code_licence="Apache-2.0",
    citation="Xu, Pan, Lin, Dai: Generative Occupancy Fields for 3D Surface-Aware Image Synthesis, NeurIPS 2021",
    discriminators=("progressive_encoder", "strided"),
)
