"""GAN2Shape's published files: Unsup3D's networks and an encoder."""

from typing import Any

from ..layouts import Tensors, networks
from . import unsup3d
from .base import Method, index, shape
from .unsup3d import SCENE

# Lights of pseudo images, in `rand_light` of the published code's model by category.
_BFM_LIGHTS = {"light_x": [-0.9, 0.9], "light_y": [-0.3, 0.8], "light_gain": [-0.1, 0.7], "ambient_share": -0.4}


def sizes(tensors: Tensors, where: str) -> dict[str, Any]:
    """GAN2Shape: Unsup3D's four networks, half as many groups from 128 px on, and the offset encoder."""
    found = unsup3d.sizes(tensors, where)
    last = max((k for k in tensors if k.startswith("netEnc.network.")), key=index, default="netEnc.network.0.weight")
    return {
        **found,
        "groups": 8 if found["size"] >= 128 else 16,
        "offset_nf": shape(tensors, "netEnc.network.0.weight", where, 4)[0],
        "offset_dim": shape(tensors, last, where, 4)[0],
    }


METHOD = Method(
    settings={
        "celeba": SCENE,
        "bfm": {**SCENE, "gan_crop": [256, 170], "mapping_tail": 8, **_BFM_LIGHTS},
        "cats": {**SCENE, "gan_crop": [256, 170]},
        "cars": {**SCENE, "relative": False, "view_scale": 1.0},
        "churches": {**SCENE, "relative": False, "view_scale": 1.0},
    },
    sizes=sizes,
    tensors=networks,
    averaged=False,
    code_licence="MIT",
    citation="Pan, Dai, Liu, Loy, Luo: Do 2D GANs Know 3D Shape? Unsupervised 3D Shape Reconstruction from 2D "
    "Image GANs, ICLR 2021",
    mirrored_light=True,
    takes_view=True,
)
