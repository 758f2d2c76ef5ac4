"""StyleGAN2's published files, as rosinality's code writes them."""

from typing import Any

from ...errors import WeightsError
from ..layouts import Tensors, averaged_style
from .base import Method, shape


def sizes(tensors: Tensors, where: str) -> dict[str, Any]:
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


METHOD = Method(
    settings={name: {} for name in ("celeba", "bfm", "cats", "cars", "churches", "ffhq")},
    sizes=sizes,
    tensors=averaged_style,
    averaged=False,
    code_licence="MIT; weights converted from NVIDIA's have its terms",
    citation="Karras, Laine, Aittala, Hellsten, Lehtinen, Aila: Analyzing and Improving the Image Quality of "
    "StyleGAN, CVPR 2020",
    discriminators=("style",),
    beside="d",
)
