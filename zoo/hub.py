"""From a name to a network and back: list, build, load, save, card. Functions that need torch import it themselves.

Weights travel as a folder with `model.safetensors` (its header carries the config), `config.json` (a copy for people)
and `README.md` (the card). Nothing here unpickles, and no file is parsed before its hash has been compared with the
card.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from . import registry
from .config.fill import generator_config, to_dict, without_name
from .config.schemas import Card
from .errors import ConfigError, WeightsError
from .runtime.deprecation import names_left
from .weights import cards
from .weights.build import build, construct_for, device_of
from .weights.cards import CARD, CONFIG, WEIGHTS, Half
from .weights.places import locate

if TYPE_CHECKING:
    from torch import Tensor

    from .editing.reconstruction import Reconstruction
    from .generators.base import Generator

names_left(__name__)


def card(name: "str | os.PathLike[str]") -> Card:
    """Read the card of weights, by any name that `load` takes.

    Raises:
        ConfigError: The name is unknown.
        WeightsError: There is no card, or it cannot be read.
    """
    place = locate(name)
    folder = place if place.is_dir() else place.parent
    if not (folder / CARD).is_file():
        raise WeightsError(f"{folder}: no {CARD}, so nothing is known about these weights")
    return cards.read(folder / CARD)


def load(
    name: "str | os.PathLike[str]", *, device: str = "auto", pretrained: bool = True, **overrides: Any
) -> "Generator":
    """Load a trained network: averaged weights, verified, in evaluation mode, frozen, with `.name` and `.card`.

    Args:
        name: A method (`shadegan` means its default weights), `method.tag`, `file:PATH` of a folder, a .safetensors
            file, a run of `zoo train` or one of its checkpoints, or `hf:org/repo@revision`. A path that exists needs
            no prefix.
        device: "auto" takes a GPU if there is one; else any device that torch knows.
        pretrained: False gives the same architecture with random weights, as `build` does.
        overrides: Change fields of the Config that leave the weights' shapes alone, e.g. `steps=24`.

    Raises:
        ConfigError: A name or field is unknown, the nearest one is offered; or the device is missing.
        WeightsError: A file is missing or damaged, its hash is wrong, or its weights do not fit or are not finite.
    """
    import torch

    from .weights import files as weights

    name, chosen = registry.as_name(name), device_of(device)
    if not pretrained:
        if name in registry.names() and not any(n.startswith(f"{name}.") for n in registry.weights()):
            return build(name, **overrides).to(chosen)
        stored = weights.read_weights(place := locate(name))
        construct_for(stored, {}, str(place))
        return build(stored.config, **overrides).to(chosen)
    place = locate(name)
    stored = weights.read_weights(place)
    if stored.card is None and place in registry.weight_folders().values():
        raise WeightsError(f"{place}: shipped weights without a card cannot be verified; install zoo again")
    with torch.inference_mode(False):
        model = construct_for(stored, overrides, str(place))
        weights.fit(model, stored.tensors, str(place))
    model.card = stored.card
    if stored.card is not None:
        trained = generator_config(stored.config["name"], without_name(stored.config))
        model.loaded = _state(model) if model.config == trained else "with other settings"
        model.name = stored.card.name or model.name
    return model.eval().requires_grad_(False).to(chosen)


def load_reconstruction(
    path: "str | Path", generator: "Generator | None" = None, *, device: str = "auto"
) -> "Reconstruction":
    """Read what `Reconstruction.save` has written, with its generator.

    Args:
        path: Is the .safetensors file.
        generator: Is the one that made it; by default the file's own is loaded, if its weights are shipped.
        device: Is where that one is loaded, see `load`.

    Raises:
        ConfigError: The device is missing.
        WeightsError: The file is missing or damaged, or was made with other weights or with ones that are not shipped.
    """
    from .editing.reconstruction import read

    return read(path, load(shipped_model_of(path), device=device) if generator is None else generator)


def shipped_model_of(path: "str | Path") -> str:
    """The name of the weights with which a reconstruction was made, if `load` knows them by it.

    Raises:
        WeightsError: The file is missing or damaged, or was made with weights that are not shipped.
    """
    from .editing import reconstruction

    name = reconstruction.model_of(path)
    if name not in registry.weights():  # a file must not choose what else is opened
        fix = f"name them: zoo view NAME --from {path} (from Python: pass generator)"
        raise WeightsError(f"{path}: made with {name!r}, which are no shipped weights; {fix}")
    return name


def save(
    model: "Generator",
    folder: "str | Path",
    *,
    card: Card | None = None,
    discriminator: "Mapping[str, Tensor] | None" = None,
    half: Half = "none",
    overwrite: bool = False,
) -> Path:
    """Write weights, config and card to a folder that `load("file:folder")` reads back, bit for bit unless halved.

    Args:
        model: Comes from `build` or `load`, or is any instance of a registered class; torch.compile and DataParallel
            around it are taken off.
        folder: Takes the files; it is made if it is missing.
        card: Says what is known about the weights; hash, size and number of parameters are filled in. By default it is
            that of the weights that were loaded; if they or their settings have changed since, without name or figures.
        discriminator: Holds the discriminator's state, so that fine-tuning can continue with it.
        half: Says what is stored in 16 bits, at half the size: "none", "discriminator" or "all".
        overwrite: Replaces weights that are there already.

    Returns:
        The folder.

    Raises:
        WeightsError: The folder holds weights already, tensors share memory, or a number has no room in 16 bits.
        ConfigError: The class of the model is not registered, or `half` is something else.
    """
    from .weights import files as weights

    if half not in get_args(Half):
        raise ConfigError(f"half={half!r}: use {', '.join(get_args(Half))}")
    folder, model = Path(folder), _bare(model)
    if not overwrite and (taken := [n for n in (WEIGHTS, CONFIG, CARD) if (folder / n).exists()]):
        raise WeightsError(f"{folder / taken[0]} exists: choose another folder, or pass overwrite=True")
    method = _method(model)
    known = card or _card_of(model, half == "all") or Card(name=method)
    weights.write_weights(model, {"name": method, **to_dict(model.config)}, known, folder, discriminator, half)
    return folder


def _card_of(model: "Generator", rounded: bool) -> Card | None:
    """The card of loaded weights; of what has changed since it says so, and no longer what was measured."""
    card: Card | None = model.card
    if card is None or not model.loaded or (model.loaded == _state(model) and not rounded):
        return card
    changed = f"Changed after loading{f' {card.name}' if card.name else ''}; no figure of those weights holds."
    return replace(card, name="", default=False, command="", metrics=[], limits=[*card.limits, changed])


def _state(model: "Generator") -> str:
    """What a card speaks of: the settings and the weights."""
    from .editing.reconstruction import fingerprint

    return f"{model.config!r} {fingerprint(model)}"


def _bare(model: Any) -> "Generator":
    """What torch.compile, DataParallel and their like were given."""
    from .weights.files import WRAPPERS

    bare: Generator = model
    while inner := [part for name, part in vars(bare).get("_modules", {}).items() if name in WRAPPERS]:
        bare = inner[0]
    return bare


def _method(model: "Generator") -> str:
    method, place = model.name.partition(".")[0], f"{type(model).__module__}:{type(model).__name__}"
    for name in sorted(registry.names(), key=lambda name: name != method):  # of two names of one class, the model's own
        if registry.resolve(name) is type(model):
            return name
    raise ConfigError(f"{place} is not registered: add configs/generator/<name>.yaml with 'class: {place}'")
