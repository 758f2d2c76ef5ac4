"""From what a published file holds to tensors by name."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import WeightsError
from ..weights import files as weights
from .pickles import Inert, OfficialFile

Tensors = dict[str, Tensor]
_MAX_MODULES, _MAX_KEY = 1_000, 300  # layers of a network, letters of a name; published ones have some 50 of each


def plain(file: OfficialFile) -> Tensors:
    """A state dict, or a whole network."""
    return named(file, file.tree)


def networks(file: OfficialFile) -> Tensors:
    """Unsup3d, GAN2Shape: a state dict for each network, beside optimisers and a log."""
    tree = file.tree if isinstance(file.tree, Mapping) else {}
    names = [name for name in ("netD", "netA", "netL", "netV", "netC", "netEnc") if name in tree]
    if not names:
        raise WeightsError(f"{file.where}: {holds(file.tree)}, not the networks netD, netA, netL and netV")
    return {f"{name}.{key}": value for name in names for key, value in named(file, tree[name]).items()}


def graf_network(file: OfficialFile) -> Tensors:
    """GRAF: the average under `generator_test`, the last weights under `generator`."""
    tree = file.tree if isinstance(file.tree, Mapping) else {}
    if not tree.keys() & {"generator_test", "generator"}:
        raise WeightsError(f"{file.where}: {holds(file.tree)}, not the networks generator_test and generator of GRAF")
    return {f"nerf.{k}": v for k, v in named(file, tree.get("generator_test", tree.get("generator"))).items()}


def averaged_style(file: OfficialFile) -> Tensors:
    """StyleGAN2: the average under `g_ema`, beside the rest of the training; or its state dict alone."""
    tree = file.tree.get("g_ema", file.tree) if isinstance(file.tree, Mapping) else file.tree
    return {f"network.{key}": value for key, value in named(file, tree).items()}


def discriminator(file: OfficialFile, key: str) -> Tensors:
    """A discriminator: a file of its own, or a `key` among the networks of a training."""
    inside = isinstance(file.tree, Mapping) and key and key in file.tree
    return named(file, file.tree[key] if inside else file.tree)


def field_class(file: OfficialFile) -> str:
    """The published class of a pickled pi-GAN's field; "" if the file does not say."""
    children = file.tree.state.get("_modules") if isinstance(file.tree, Inert) else None
    field = children.get("siren") if isinstance(children, Mapping) else None
    return weights.shown(type(field).__name__) if isinstance(field, Inert) else ""


def named(file: OfficialFile, tree: Any) -> Tensors:
    """The tensors of a state dict or of a pickled network, by their keys.

    Raises:
        WeightsError: it is something else, or claims more values than the file has room for.
    """
    if isinstance(tree, Inert) and "_modules" in tree.state:
        out: Tensors = {}
        if not _collect(tree, out, set()):
            raise WeightsError(
                f"{file.where}: not a network: too large, or a layer is in it twice; do not trust this file"
            )
        tree = out
    if isinstance(tree, Inert | list) or (isinstance(tree, Mapping) and "shadow_params" in tree):
        what = "an average without names" if _shadow(tree) else holds(tree)
        raise WeightsError(f"{file.where}: {what}; give the generator's own file, and an average as ema")
    if not isinstance(tree, Mapping) or not tree or not all(isinstance(v, Tensor) for v in tree.values()):
        raise WeightsError(f"{file.where}: {holds(tree)}, not the weights of one network")
    if any(not isinstance(key, str) for key in tree):
        raise WeightsError(f"{file.where}: {holds(tree)}, not the weights of one network; their keys must be text")
    _dense(file, list(tree.values()))
    if sum(v.numel() * v.element_size() for v in tree.values()) > file.size:
        raise WeightsError(f"{file.where}: claims more values than it has room for; do not trust this file")
    return {key: value.detach() for key, value in tree.items()}


def _dense(file: OfficialFile, values: list[Tensor]) -> None:
    for value in values:
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            kind = "meta" if value.is_meta else "quantised" if value.is_quantized else "sparse"
            raise WeightsError(f"{file.where}: a {kind} tensor among the weights; published ones are dense")


def _collect(module: Inert, out: Tensors, seen: set[int], prefix: str = "") -> bool:
    """Put into `out` what `nn.Module.state_dict` has, in its order; False for what no network is.

    Nothing is visited twice: a chain of 15 layers, each ten times in the next, would have 10^15.
    """
    parts = [module.state.get(part) for part in ("_parameters", "_buffers", "_modules")]
    tables = [part for part in parts if isinstance(part, Mapping)]
    ids = {id(module), *map(id, tables)}
    if ids & seen or len(ids) <= len(tables) or len(seen) > 4 * _MAX_MODULES:
        return False
    seen |= ids
    for table in tables:
        for key, value in table.items():
            name = f"{prefix}{key}" if isinstance(key, str) else ""
            if not name or len(name) > _MAX_KEY:
                return False
            if table is not parts[2] and isinstance(value, Tensor):
                out[name] = value
            if table is parts[2] and isinstance(value, Inert) and not _collect(value, out, seen, f"{name}."):
                return False
    return True


def average(file: OfficialFile) -> list[Tensor]:
    """The averaged parameters of a torch_ema object (or of its state dict, or a list), in the order of `parameters()`.

    Raises:
        WeightsError: it is something else.
    """
    values = _shadow(file.tree)
    if not values:
        raise WeightsError(f"{file.where}: {holds(file.tree)}, not a moving average with a list shadow_params")
    _dense(file, values)
    return [v.detach() for v in values]


def _shadow(tree: Any) -> list[Tensor]:
    state = tree.state if isinstance(tree, Inert) else tree
    values = state.get("shadow_params") if isinstance(state, Mapping) else state
    return values if isinstance(values, list) and all(isinstance(v, Tensor) for v in values) else []


def holds(tree: Any) -> str:
    """What something is, for a message."""
    if isinstance(tree, Inert):
        return f"a {weights.shown(type(tree).path)}"
    if isinstance(tree, Mapping):
        return f"holds {', '.join(map(weights.shown, list(tree)[:3]))[:100] or 'nothing'}"
    return f"a {type(tree).__name__}"
