"""What is known of a method's published files: sizes that shapes tell, and settings that no tensor carries.

Numbers of cameras and sampling are those of the published curricula (pi-GAN, ShadeGAN, GOF, Unsup3D), by data set.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import WeightsError
from ..layouts import Tensors, holds
from ..pickles import OfficialFile

_POLAR = math.pi / 4 * 85 / 90  # CARLA's cameras: middle and half width of the angle from straight above
_CATS = {"near": 0.8, "far": 1.2, "pose": {"distribution": "uniform", "yaw_std": 0.5, "pitch_std": 0.4}}
_CARLA_POSE = {"yaw_std": math.pi, "pitch_mean": _POLAR - math.pi / 2, "pitch_std": _POLAR}
SCENES: dict[str, dict[str, Any]] = {
    "celeba": {},  # the defaults of SceneConfig are pi-GAN's for CelebA and BFM
    "bfm": {},
    "cats": _CATS,
    "carla": {
        "fov": 30.0,
        "near": 0.7,
        "far": 1.3,
        "white_back": True,
        "pose": {"distribution": "spherical_uniform", **_CARLA_POSE},
    },
    **{key: {} for key in ("syncar", "cars", "churches", "ffhq")},
}


@dataclass(frozen=True)
class Method:
    """A published method.

    Attributes:
        settings: For each data set, fields of the generator's Config that shapes do not tell; `scene` goes over
            `SCENES`, which has the scenes of data sets that several methods share.
        sizes: Fields of the Config that shapes do tell.
        tensors: The named tensors of a file.
        averaged: An average of the weights lies beside them in a file of its own.
        discriminators: Short names of those that its papers train it against.
        beside: The key under which one lies in the file of the generator.
        code_licence: Licence of the authors' repository.
        citation: The paper.
        mirrored_light: The light that a network of its own finds has x the other way round than zoo's.
        takes_view: A prior of viewpoints was published beside it.
    """

    settings: Mapping[str, Mapping[str, Any]]
    sizes: Callable[[Tensors, str], dict[str, Any]]
    tensors: Callable[[OfficialFile], Tensors]
    averaged: bool
    code_licence: str
    citation: str
    mirrored_light: bool = False
    takes_view: bool = False
    discriminators: tuple[str, ...] = ()
    beside: str = ""


def shape(tensors: Tensors, key: str, where: str, dims: int = 2) -> tuple[int, ...]:
    """The shape of a tensor that must be there, with that many dimensions and none of them 0.

    Raises:
        WeightsError: It is not so.
    """
    found = tuple(tensors[key].shape) if key in tensors else None
    if found is None or len(found) != dims or 0 in found:
        what = f"is {found}" if found is not None else f"is missing; it {holds(tensors)}"
        raise WeightsError(f"{where}: {key} {what}; is this a generator of that method?")
    return found


def siren(tensors: Tensors, where: str) -> tuple[dict[str, Any], int]:
    """Config of a FiLM-SIREN, and how much its colour layer sees beside the features."""
    if "siren.spatial_embeddings" in tensors:
        raise WeightsError(f"{where}: an EmbeddingPiGAN, which is not offered here")
    hidden = shape(tensors, "siren.final_layer.weight", where)[1]
    mapping_dim, z_dim = shape(tensors, "siren.mapping_network.network.0.weight", where)
    layers = sum(f"siren.network.{i}.layer.weight" in tensors for i in range(len(tensors)))
    sizes = {"z_dim": z_dim, "hidden_dim": hidden, "layers": layers, "mapping_dim": mapping_dim}
    return sizes, shape(tensors, "siren.color_layer_sine.layer.weight", where)[1] - hidden


def index(key: str) -> int:
    number = key.split(".")[2]
    return int(number) if number.isdecimal() and len(number) < 6 else -1


def steps(n: int, **more: Any) -> dict[str, Any]:
    return {"steps": n, "fine_steps": n, **more}
