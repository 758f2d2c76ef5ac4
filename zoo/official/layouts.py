"""From what a published file holds to tensors by name."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import WeightsError
from ..weights import files as weights
from .pickles import Inert, OfficialFile

Tensors = dict[str, Tensor]
_OTHER_FLOATS = (torch.float16, torch.bfloat16, torch.float64)
_AVERAGES = ("shadow_params", "shadow", "ema_model", "ema", "model_ema", "state_dict_ema", "ema_state_dict")
_COUNTERS = ("n_averaged", "num_updates", "decay", "step", "initted")  # beside the tensors of some averages
_MAX_WRAPPED = 8  # wrappers around a network
_MAX_MODULES, _MAX_KEY = 1_000, 300  # layers of a network, letters of a name; published ones have some 50 of each


def plain(file: OfficialFile) -> Tensors:
    """A state dict, or a whole network."""
    return named(file, file.tree)


def networks(file: OfficialFile) -> Tensors:
    """Unsup3D, GAN2Shape: a state dict for each network, beside optimisers and a log."""
    tree = by_network(file.tree)
    names = [name for name in ("netD", "netA", "netL", "netV", "netC", "netEnc") if name in tree]
    if not names:
        raise WeightsError(f"{file.where}: {holds(file.tree)}, not the networks netD, netA, netL and netV")
    return {f"{name}.{key}": value for name in names for key, value in named(file, tree[name]).items()}


def graf_network(file: OfficialFile) -> Tensors:
    """GRAF: the average under `generator_test`, the last weights under `generator`."""
    tree = by_network(file.tree)
    if not tree.keys() & {"generator_test", "generator"}:
        raise WeightsError(f"{file.where}: {holds(file.tree)}, not the networks generator_test and generator of GRAF")
    return {f"nerf.{k}": v for k, v in named(file, tree.get("generator_test", tree.get("generator"))).items()}


def averaged_style(file: OfficialFile) -> Tensors:
    """StyleGAN2: the average under `g_ema`, beside the rest of the training; or its state dict alone."""
    tree = by_network(file.tree).get("g_ema", file.tree)
    return {f"network.{key}": value for key, value in named(file, tree).items()}


def discriminator(file: OfficialFile, key: str) -> Tensors:
    """A discriminator: a file of its own, or a `key` among the networks of a training."""
    return named(file, by_network(file.tree).get(key, file.tree) if key else file.tree)


def field_class(file: OfficialFile) -> str:
    """The published class of a pickled pi-GAN's field; "" if the file does not say."""
    tree = file.tree
    for _ in range(_MAX_WRAPPED):
        children = tree.state.get("_modules") if isinstance(tree, Inert) else None
        inner = (
            [children[name] for name in weights.WRAPPERS if name in children] if isinstance(children, Mapping) else []
        )
        if not inner:
            break
        tree = inner[0]
    field = children.get("siren") if isinstance(children, Mapping) else None
    return weights.shown(type(field).__name__) if isinstance(field, Inert) else ""


def named(file: OfficialFile, tree: Any) -> Tensors:
    """The tensors of a state dict or of a pickled network, by their keys.

    Raises:
        WeightsError: It is something else, or claims more values than the file has room for.
    """
    if isinstance(tree, Inert) and "_modules" in tree.state:
        out: Tensors = {}
        if not _collect(tree, out, set()):
            raise WeightsError(
                f"{file.where}: not a network: too large, or a layer is in it twice; do not trust this file"
            )
        tree = out
    if isinstance(tree, Inert | list | tuple) or (isinstance(tree, Mapping) and "shadow_params" in tree):
        what = "an average without names" if _nameless(tree) else holds(tree)
        raise WeightsError(f"{file.where}: {what}; give the generator's own file, and an average as ema")
    if not isinstance(tree, Mapping) or not tree or not all(isinstance(v, Tensor) for v in tree.values()):
        raise WeightsError(f"{file.where}: {holds(tree)}, not the weights of one network")
    if any(not isinstance(key, str) for key in tree):
        raise WeightsError(f"{file.where}: {holds(tree)}, not the weights of one network; their keys must be text")
    _dense(file, list(tree.values()))
    if sum(v.numel() * v.element_size() for v in tree.values()) > file.size:
        raise WeightsError(f"{file.where}: claims more values than it has room for; do not trust this file")
    return _bare(file, {key: value.detach() for key, value in tree.items()})


def _bare(file: OfficialFile, tensors: Tensors) -> Tensors:
    """Without what DataParallel and torch.compile put into names, as 32-bit numbers; the file's notes say so."""
    out = {weights.bare_key(key): _single(file, value) for key, value in tensors.items()}
    if len(out) != len(tensors):
        raise WeightsError(f"{file.where}: has tensors with and without 'module.' of one name; save one network alone")
    if any(part in weights.WRAPPERS for key in tensors for part in key.split(".")):
        file.notes["names"] = "Names had parts of DataParallel or torch.compile (module., _orig_mod.), taken off."
    return out


def _single(file: OfficialFile, value: Tensor) -> Tensor:
    if value.dtype not in _OTHER_FLOATS:
        return value
    kind = str(value.dtype).removeprefix("torch.")
    file.notes[kind] = f"The file's numbers are {kind}; they are float32 inside."
    return value.float()


def by_network(tree: Any) -> Mapping[Any, Any]:
    """Networks by name: as a file nests them, or, in a file that cannot nest, from the first part of each name."""
    if not isinstance(tree, Mapping):
        return {}
    out: dict[Any, Any] = {}
    for key, value in tree.items():
        name, _, rest = weights.bare_key(key).partition(".") if isinstance(key, str) else (key, "", "")
        if rest and name not in tree and isinstance(value, Tensor):
            out.setdefault(name, {})[rest] = value
        else:
            out[key if rest else name] = value
    return out


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


def average(file: OfficialFile) -> Tensors | list[Tensor]:
    """Averaged parameters: by name, or, where the file has no names, in the order of `parameters()`.

    They may be those of torch_ema (an object, or its state dict with `shadow_params`), a mapping `shadow`, a state dict
    or network of their own, a list, a tuple or a ParameterList.

    Raises:
        WeightsError: It is something else.
    """
    values = _averaged(file.tree)
    if isinstance(values, list | tuple) and values and all(isinstance(v, Tensor) for v in values):
        _dense(file, list(values))
        return [_single(file, v.detach()) for v in values]
    if isinstance(values, Mapping):
        values = {key: value for key, value in values.items() if key not in _COUNTERS}
        if not all(isinstance(value, Tensor) for value in values.values()):
            values = {}
    if not isinstance(values, Mapping | Inert) or not values:
        what = f"{holds(file.tree)}, not a moving average: neither a list nor tensors by name"
        raise WeightsError(f"{file.where}: {what}")
    found = named(file, values)
    if all(key.isdecimal() for key in found):  # of a ParameterList
        return [found[key] for key in sorted(found, key=int)]
    return found


def _averaged(tree: Any) -> Any:
    """What lies under one of the names that averages have, if there is one."""
    for _ in range(_MAX_WRAPPED):
        state = by_network(tree.state if isinstance(tree, Inert) else tree)
        inner = [state[name] for name in _AVERAGES if name in state]
        if not inner or isinstance(inner[0], Tensor):
            break
        tree = inner[0]
    return tree


def _nameless(tree: Any) -> bool:
    values = _averaged(tree)
    return isinstance(values, list | tuple) and all(isinstance(v, Tensor) for v in values)


def holds(tree: Any) -> str:
    """What something is, for a message."""
    if isinstance(tree, Inert):
        return f"a {weights.shown(type(tree).path)}"
    if isinstance(tree, Mapping):
        return f"holds {', '.join(map(weights.shown, list(tree)[:3]))[:100] or 'nothing'}"
    return f"a {type(tree).__name__}"
