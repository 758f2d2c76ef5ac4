"""GRAF's published files."""

import math
from typing import Any

from ..layouts import Tensors, graf_network
from .base import Method, shape


def sizes(tensors: Tensors, where: str) -> dict[str, Any]:
    """GRAF: with the published 10 and 4 frequencies, what is left of the inputs is the latent."""
    hidden = shape(tensors, "nerf.alpha_linear.weight", where)[1]
    layers = max(1, sum(f"nerf.pts_linears.{k}.weight" in tensors for k in range(len(tensors))))
    inputs = [shape(tensors, f"nerf.pts_linears.{k}.weight", where)[1] for k in range(layers)]
    skips = [k - 1 for k, seen in enumerate(inputs) if k > 0 and seen != hidden]
    return {
        "hidden_dim": hidden,
        "layers": len(inputs),
        "skip": skips[0] if skips else len(inputs),
        "shape_dim": inputs[0] - (3 + 6 * 10),
        "appearance_dim": shape(tensors, "nerf.views_linears.0.weight", where)[1] - hidden - (3 + 6 * 4),
    }


def _settings(
    fov: float, azimuth: float, highest: float, lowest: float, near: float = 0.75, **more: Any
) -> dict[str, Any]:
    """azimuth: the published views span this many degrees; highest, lowest: ends of their v = (1 - cos(polar)) / 2.

    The published camera stands 10 away, planes lie at 7.5 and 12.5; zoo's unit is ten of those. CelebA's stands 9.5 to
    10.5 away, and its planes are those of the farthest: half a unit nearer for one at 10.
    """
    pose = {
        "distribution": "spherical_uniform",
        "yaw_std": math.radians(azimuth / 2),
        "pitch_mean": math.pi * ((highest + lowest) / 2 - 0.5),
        "pitch_std": math.pi * (lowest - highest) / 2,
    }
    return {"steps": 64, "scene": {"fov": fov, "near": near, "far": near + 0.5, "pose": pose}, **more}


METHOD = Method(
    settings={
        "celeba": _settings(10.0, 90.0, 0.329, 0.4564, near=0.7),
        "cats": _settings(10.0, 70.0, 0.329, 0.4564, front=35.0),
        "carla": _settings(30.0, 360.0, 0.0, 0.4564),
    },
    sizes=sizes,
    tensors=graf_network,
    averaged=False,
    code_licence="MIT",
    citation="Schwarz, Liao, Niemeyer, Geiger: GRAF: Generative Radiance Fields for 3D-Aware Image Synthesis, "
    "NeurIPS 2020",
    discriminators=("patch",),
    beside="discriminator",
)
