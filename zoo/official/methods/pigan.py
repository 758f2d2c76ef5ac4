"""pi-GAN's published files."""

from typing import Any

from ...errors import WeightsError
from ..layouts import Tensors, plain
from .base import Method, siren, steps


def sizes(tensors: Tensors, where: str) -> dict[str, Any]:
    """pi-GAN, GOF, and the pi-GAN baseline of ShadeGAN: colour sees the direction."""
    found, beside = siren(tensors, where)
    if beside not in (0, 3):
        hint = "; this is a ShadeGAN: use the method shadegan" if beside in (4, 7) else ""
        raise WeightsError(f"{where}: its colour layer sees {beside} values beside the features, not 3{hint}")
    return {**found, "view_condition": beside == 3}


METHOD = Method(
    settings={
        # The last sample takes what is left over at inference only (`eval_last_back`).
        "celeba": steps(12, last_back=True),
        "bfm": steps(12),  # ShadeGAN's baseline
        "cats": steps(24, last_back=True),
        "carla": steps(48, box=0.0),
    },
    sizes=sizes,
    tensors=plain,
    averaged=True,
    code_licence="no licence file",
    citation="Chan, Monteiro, Kellnhofer, Wu, Wetzstein: pi-GAN: Periodic Implicit Generative Adversarial Networks "
    "for 3D-Aware Image Synthesis, CVPR 2021",
    discriminators=("ccs_encoder", "progressive_encoder", "progressive", "ccs", "strided"),
)
