"""What is known of each method's published files: sizes that shapes tell, and settings that no tensor carries.

Numbers of cameras and sampling are those of the published curricula (pi-GAN, ShadeGAN, GOF, Unsup3d), by data set.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, WeightsError
from ..generators.shadegan import tracking_window
from .layouts import Tensors, averaged_style, graf_network, holds, networks, plain
from .pickles import OfficialFile

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
        settings: by data set, fields of the generator's Config that shapes do not tell; `scene` goes over `SCENES`.
        sizes: fields of the Config that shapes do tell.
        tensors: the named tensors of a file.
        averaged: an average of the weights lies beside them in a file of its own.
        discriminators: short names of those that its papers train it against.
        beside: the key under which one lies in the file of the generator.
        code_licence: of the authors' repository.
        citation: the paper.
        mirrored_light: the light that a network of its own finds has x the other way round than zoo's.
    """

    settings: Mapping[str, Mapping[str, Any]]
    sizes: Callable[[Tensors, str], dict[str, Any]]
    tensors: Callable[[OfficialFile], Tensors]
    averaged: bool
    code_licence: str
    citation: str
    mirrored_light: bool = False
    discriminators: tuple[str, ...] = ()
    beside: str = ""


# ---------------------------------------------------------------- sizes


def shape(tensors: Tensors, key: str, where: str, dims: int = 2) -> tuple[int, ...]:
    """The shape of a tensor that must be there, with that many dimensions and none of them 0.

    Raises:
        WeightsError: it is not so.
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


def pigan(tensors: Tensors, where: str) -> dict[str, Any]:
    """pi-GAN, GOF, and the pi-GAN baseline of ShadeGAN: colour sees the direction."""
    sizes, beside = siren(tensors, where)
    if beside not in (0, 3):
        hint = "; this is a ShadeGAN: use the method shadegan" if beside in (4, 7) else ""
        raise WeightsError(f"{where}: its colour layer sees {beside} values beside the features, not 3{hint}")
    return {**sizes, "view_condition": beside == 3}


def shadegan(tensors: Tensors, where: str) -> dict[str, Any]:
    """ShadeGAN: colour sees the light ("noview"), or direction and light ("view"); with or without surface tracking."""
    sizes, beside = siren(tensors, where)
    if beside not in (4, 7):
        hint = "; this is a pi-GAN (ShadeGAN's baseline): use the method pigan" if beside == 3 else ""
        raise WeightsError(f"{where}: its colour layer sees {beside} values beside the features, not 4 or 7{hint}")
    sizes["view_condition"] = beside == 7
    if any(key.startswith("surfacenet.") for key in tensors):
        top = shape(tensors, "surfacenet.network.0.weight", where, 4)[0]
        last = max((k for k in tensors if k.startswith("surfacenet.network.")), key=_index)
        features = shape(tensors, last, where, 4)[1]
        size = 8 * max(1, top // features)
        sizes |= {"surface_tracking": True, "surface_features": features, "surface_size": size}
    return sizes


def _index(key: str) -> int:
    number = key.split(".")[2]
    return int(number) if number.isdecimal() and len(number) < 6 else -1


def unsup3d(tensors: Tensors, where: str) -> dict[str, Any]:
    """Unsup3d: the number of layers tells the size of photographs. Group norms have 16 groups at the first width."""
    levels = sum(key.startswith("netL.network.") for key in tensors) - 2
    if not 3 <= levels <= 8:
        raise WeightsError(f"{where}: {levels + 2} layers in netL; published ones have 6, at 64 px")
    sizes = {
        "size": 4 << levels,
        "nf": shape(tensors, "netD.network.0.weight", where, 4)[0],
        "zdim": shape(tensors, f"netD.network.{3 * levels - 1}.weight", where, 4)[0],
        "encoder_nf": shape(tensors, "netL.network.0.weight", where, 4)[0],
        "confidence": any(key.startswith("netC.") for key in tensors),
    }
    if sizes["confidence"]:
        sizes["conf_zdim"] = shape(tensors, f"netC.network.{3 * levels - 1}.weight", where, 4)[0]
    return sizes


def gan2shape(tensors: Tensors, where: str) -> dict[str, Any]:
    """GAN2Shape: Unsup3d's four networks, half as many groups from 128 px on, and the offset encoder."""
    sizes = unsup3d(tensors, where)
    last = max((k for k in tensors if k.startswith("netEnc.network.")), key=_index, default="netEnc.network.0.weight")
    return {
        **sizes,
        "groups": 8 if sizes["size"] >= 128 else 16,
        "offset_nf": shape(tensors, "netEnc.network.0.weight", where, 4)[0],
        "offset_dim": shape(tensors, last, where, 4)[0],
    }


def stylegan2(tensors: Tensors, where: str) -> dict[str, Any]:
    """StyleGAN2: every size counts in layers or channels."""
    levels = sum(key.startswith("network.to_rgbs.") and key.endswith(".conv.weight") for key in tensors)
    if not 1 <= levels <= 8:
        raise WeightsError(f"{where}: {levels} levels behind the first; published ones have 5 (128 px) to 8 (1024 px)")
    return {
        "z_dim": shape(tensors, "network.style.1.weight", where)[1],
        "size": 4 << levels,
        "mapping_layers": sum(f"network.style.{i}.weight" in tensors for i in range(len(tensors))),
        "channel_base": shape(tensors, f"network.convs.{2 * levels - 1}.conv.weight", where, 5)[1] << (levels + 2),
        "channel_max": shape(tensors, "network.input.input", where, 4)[1],
    }


def graf(tensors: Tensors, where: str) -> dict[str, Any]:
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


# ---------------------------------------------------------------- surface tracking

RELEASED_WINDOWS = {False: 0.06491, True: 0.06423}  # of ShadeGAN on CelebA, by view condition
_TRACKING = {"celeba": (3e-5, (12, 6)), "cats": (1e-4, (20, 10))}  # decay a step, samples at first and in the end


def window(dataset: str, view: bool, delta: float | None, step: int | None) -> float:
    """Width of the interval that ShadeGAN's weights were sampled in when they were saved; 0: the whole ray.

    Raises:
        ConfigError: it is not known, or was given twice.
    """
    if delta is not None and step is not None:
        raise ConfigError(f"delta={delta} and step={step} say the same thing; give one of them")
    if step is not None:
        if dataset not in _TRACKING:
            raise ConfigError(f"step={step}: no schedule is published for {dataset}; give delta")
        decay, steps = _TRACKING[dataset]
        return tracking_window(step, 5000, decay, (0.24, 0.06), steps)[0]
    if delta is None and dataset != "celeba":
        raise ConfigError(f"no window is published for {dataset}; give delta (see the authors' delta.txt) or delta=0")
    chosen = RELEASED_WINDOWS[view] if delta is None else delta
    if not 0 <= chosen <= 0.24:
        raise ConfigError(f"delta={chosen}: use 0 (the whole ray) to 0.24")
    return chosen


# ---------------------------------------------------------------- the table


def _steps(n: int, **more: Any) -> dict[str, Any]:
    return {"steps": n, "fine_steps": n, **more}


def _gof(surface: int, fine: int, smallest: float, largest: float) -> dict[str, Any]:
    steps = {"steps": 9, "surface_steps": surface, "fine_steps": fine}
    return {**steps, "interval_min": smallest, "interval_max": largest, "last_back": True}


def _graf(fov: float, azimuth: float, highest: float, lowest: float, near: float = 0.75, **more: Any) -> dict[str, Any]:
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


_UNSUP3D_SCENE = {"scene": {"fov": 10.0}}
_CARS = {"border_depth": 1.08, "diffuse": [0.5, 1.0], "flip_weight": 1.0, "perceptual_weight": 0.01}
METHODS = {
    "pigan": Method(
        settings={
            # The last sample takes what is left over at inference only (`eval_last_back`).
            "celeba": _steps(12, last_back=True),
            "bfm": _steps(12),  # ShadeGAN's baseline
            "cats": _steps(24, last_back=True),
            "carla": _steps(48, box=0.0),
        },
        sizes=pigan,
        tensors=plain,
        averaged=True,
        code_licence="no licence file",
        citation="Chan, Monteiro, Kellnhofer, Wu, Wetzstein: pi-GAN: Periodic Implicit Generative Adversarial Networks "
        "for 3D-Aware Image Synthesis, CVPR 2021",
        discriminators=("ccs_encoder", "progressive_encoder", "progressive", "ccs", "strided"),
    ),
    "shadegan": Method(
        settings={"celeba": _steps(12), "bfm": _steps(12), "cats": _steps(20, steps_min=10)},
        sizes=shadegan,
        tensors=plain,
        averaged=True,
        code_licence="MIT",
        citation="Pan, Xu, Loy, Theobalt, Dai: A Shading-Guided Generative Implicit Model for Shape-Accurate 3D-Aware "
        "Image Synthesis, NeurIPS 2021",
        discriminators=("progressive_encoder", "strided"),
    ),
    "gof": Method(
        settings={
            "celeba": _gof(9, 6, 0.03, 0.12),
            "bfm": _gof(12, 3, 0.02, 0.12),
            "cats": _gof(9, 6, 0.10, 0.20),
        },
        sizes=pigan,
        tensors=plain,
        averaged=True,
        code_licence="Apache-2.0",
        citation="Xu, Pan, Lin, Dai: Generative Occupancy Fields for 3D Surface-Aware Image Synthesis, NeurIPS 2021",
        discriminators=("progressive_encoder", "strided"),
    ),
    "graf": Method(
        settings={
            "celeba": _graf(10.0, 90.0, 0.329, 0.4564, near=0.7),
            "cats": _graf(10.0, 70.0, 0.329, 0.4564, front=35.0),
            "carla": _graf(30.0, 360.0, 0.0, 0.4564),
        },
        sizes=graf,
        tensors=graf_network,
        averaged=False,
        code_licence="MIT",
        citation="Schwarz, Liao, Niemeyer, Geiger: GRAF: Generative Radiance Fields for 3D-Aware Image Synthesis, "
        "NeurIPS 2020",
        discriminators=("patch",),
        beside="discriminator",
    ),
    "unsup3d": Method(
        settings={
            "celeba": _UNSUP3D_SCENE,
            "bfm": _UNSUP3D_SCENE,
            "cats": {**_UNSUP3D_SCENE, "z_range": 0.1},
            "syncar": {**_UNSUP3D_SCENE, **_CARS, "smooth_weight": 0.1},
        },
        sizes=unsup3d,
        tensors=networks,
        averaged=False,
        code_licence="MIT",
        citation="Wu, Rupprecht, Vedaldi: Unsupervised Learning of Probably Symmetric Deformable 3D Objects from "
        "Images in the Wild, CVPR 2020",
        mirrored_light=True,
    ),
    "gan2shape": Method(
        settings={
            "celeba": _UNSUP3D_SCENE,
            "bfm": {**_UNSUP3D_SCENE, "gan_crop": [256, 170], "mapping_tail": 8},
            "cats": {**_UNSUP3D_SCENE, "gan_crop": [256, 170]},
            "cars": {**_UNSUP3D_SCENE, "relative": False},
            "churches": {**_UNSUP3D_SCENE, "relative": False},
        },
        sizes=gan2shape,
        tensors=networks,
        averaged=False,
        code_licence="MIT",
        citation="Pan, Dai, Liu, Loy, Luo: Do 2D GANs Know 3D Shape? Unsupervised 3D Shape Reconstruction from 2D "
        "Image GANs, ICLR 2021",
        mirrored_light=True,
    ),
    "stylegan2": Method(
        settings={name: {} for name in ("celeba", "bfm", "cats", "cars", "churches", "ffhq")},
        sizes=stylegan2,
        tensors=averaged_style,
        averaged=False,
        code_licence="MIT; weights converted from NVIDIA's have its terms",
        citation="Karras, Laine, Aittala, Hellsten, Lehtinen, Aila: Analyzing and Improving the Image Quality of "
        "StyleGAN, CVPR 2020",
        discriminators=("style",),
        beside="d",
    ),
}
