"""Unsup3D's published files."""

from typing import Any

from ...errors import WeightsError
from ..layouts import Tensors, networks
from .base import Method, shape

SCENE = {"scene": {"fov": 10.0}}
_CARS = {"border_depth": 1.08, "diffuse": [0.5, 1.0], "flip_weight": 1.0, "perceptual_weight": 0.01}


def sizes(tensors: Tensors, where: str) -> dict[str, Any]:
    """Unsup3D: the number of layers tells the size of photographs. Group norms have 16 groups at the first width."""
    levels = sum(key.startswith("netL.network.") for key in tensors) - 2
    if not 3 <= levels <= 8:
        raise WeightsError(f"{where}: {levels + 2} layers in netL; published ones have 6, at 64 px")
    found = {
        "size": 4 << levels,
        "nf": shape(tensors, "netD.network.0.weight", where, 4)[0],
        "zdim": shape(tensors, f"netD.network.{3 * levels - 1}.weight", where, 4)[0],
        "encoder_nf": shape(tensors, "netL.network.0.weight", where, 4)[0],
        "confidence": any(key.startswith("netC.") for key in tensors),
    }
    if found["confidence"]:
        found["conf_zdim"] = shape(tensors, f"netC.network.{3 * levels - 1}.weight", where, 4)[0]
    return found


METHOD = Method(
    settings={
        "celeba": SCENE,
        "bfm": SCENE,
        "cats": {**SCENE, "z_range": 0.1},
        "syncar": {**SCENE, **_CARS, "smooth_weight": 0.1},
    },
    sizes=sizes,
    tensors=networks,
    averaged=False,
    code_licence="MIT",
    citation="Wu, Rupprecht, Vedaldi: Unsupervised Learning of Probably Symmetric Deformable 3D Objects from "
    "Images in the Wild, CVPR 2020",
    mirrored_light=True,
)
