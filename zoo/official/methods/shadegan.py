"""ShadeGAN's published files, and the interval in which its weights were sampled when they were saved."""

from typing import Any

from ...errors import ConfigError, WeightsError
from ...generators.shadegan import tracking_window
from ..layouts import Tensors, plain
from .base import Method, index, shape, siren, steps

RELEASED_WINDOWS = {False: 0.06491, True: 0.06423}  # of ShadeGAN on CelebA, by view condition
_TRACKING = {"celeba": (3e-5, (12, 6)), "cats": (1e-4, (20, 10))}  # decay a step, samples at first and in the end


def sizes(tensors: Tensors, where: str) -> dict[str, Any]:
    """ShadeGAN: colour sees the light ("noview"), or direction and light ("view"); with or without surface tracking."""
    found, beside = siren(tensors, where)
    if beside not in (4, 7):
        hint = "; this is a pi-GAN (ShadeGAN's baseline): use the method pigan" if beside == 3 else ""
        raise WeightsError(f"{where}: its colour layer sees {beside} values beside the features, not 4 or 7{hint}")
    found["view_condition"] = beside == 7
    if any(key.startswith("surfacenet.") for key in tensors):
        top = shape(tensors, "surfacenet.network.0.weight", where, 4)[0]
        last = max((k for k in tensors if k.startswith("surfacenet.network.")), key=index)
        features = shape(tensors, last, where, 4)[1]
        size = 8 * max(1, top // features)
        found |= {"surface_tracking": True, "surface_features": features, "surface_size": size}
    return found


def window(dataset: str, view: bool, delta: float | None, step: int | None) -> float:
    """Width of the interval that ShadeGAN's weights were sampled in when they were saved; 0: the whole ray.

    Raises:
        ConfigError: It is not known, or was given twice.
    """
    if delta is not None and step is not None:
        raise ConfigError(f"delta={delta} and step={step} say the same thing; give one of them")
    if step is not None:
        if dataset not in _TRACKING:
            raise ConfigError(f"step={step}: no schedule is published for {dataset}; give delta")
        decay, counts = _TRACKING[dataset]
        return tracking_window(step, 5000, decay, (0.24, 0.06), counts)[0]
    if delta is None and dataset != "celeba":
        raise ConfigError(f"no window is published for {dataset}; give delta (see the authors' delta.txt) or delta=0")
    chosen = RELEASED_WINDOWS[view] if delta is None else delta
    if not 0 <= chosen <= 0.24:
        raise ConfigError(f"delta={chosen}: use 0 (the whole ray) to 0.24")
    return chosen


METHOD = Method(
    settings={"celeba": steps(12), "bfm": steps(12), "cats": steps(20, steps_min=10)},
    sizes=sizes,
    tensors=plain,
    averaged=True,
    code_licence="MIT",
    citation="Pan, Xu, Loy, Theobalt, Dai: A Shading-Guided Generative Implicit Model for Shape-Accurate 3D-Aware "
    "Image Synthesis, NeurIPS 2021",
    discriminators=("progressive_encoder", "strided"),
)
