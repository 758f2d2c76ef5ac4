"""Reading and writing weight files that may come from strangers: hash first, parse then; safetensors; strict fit."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as serialize
from torch import Tensor, nn

from ..config.schemas import Card
from ..errors import WeightsError
from ..generators.base import Generator
from ..runtime.files import atomic_write
from ..version import __version__
from . import cards
from .cards import CARD, CONFIG, DISCRIMINATOR, WEIGHTS
from .places import newest

FORMAT = "1"
_MAX_WEIGHTS = 4 * 2**30
_MAX_HEADER = 16 * 2**20
_MAX_SHOWN, _MAX_LETTERS = 10, 120  # keys in a message, letters of each


@dataclass(frozen=True)
class Stored:
    """What lay on disk: `name` and fields of the method's Config, tensors by key, the card if there is one."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    card: Card | None


def read_weights(place: Path) -> Stored:
    """Weights from a folder, a .safetensors file, a training run or one of its checkpoints.

    Raises:
        WeightsError: missing, too big, damaged, not what the card says, or not a format that is safe to read.
    """
    place = newest(place)
    if place.suffix == ".ckpt":
        return _from_checkpoint(place)
    folder, path = (place, place / WEIGHTS) if place.is_dir() else (place.parent, place)
    card = cards.read(_inside(folder, folder / CARD)) if (folder / CARD).is_file() and path.name == WEIGHTS else None
    data = _read(_inside(folder, path))
    if card is not None and card.sha256:
        _verify(path, data, card)
    header = _header(path, data)
    config = _config(path, header)
    if path.name == WEIGHTS and (folder / CONFIG).is_file():
        _compare_config(_inside(folder, folder / CONFIG), config)
    try:
        return Stored(config, parse_safetensors(data), card)
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged ({error}); get the file again") from None


def _inside(folder: Path, path: Path) -> Path:
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise WeightsError(f"{path} is a link that leaves its folder; copy the file there instead")
    return path


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; a folder of weights holds {WEIGHTS}, {CONFIG} and {CARD}")
    if path.stat().st_size > _MAX_WEIGHTS:
        raise WeightsError(f"{path}: {path.stat().st_size:,} bytes, more than the {_MAX_WEIGHTS:,} this library reads")
    return path.read_bytes()


def _verify(path: Path, data: bytes, card: Card) -> None:
    if len(data) != card.bytes:
        raise WeightsError(f"{path}: {len(data):,} bytes, the card says {card.bytes:,}; get the file again")
    found = hashlib.sha256(data).hexdigest()
    if found != card.sha256:
        raise WeightsError(f"{path}: SHA-256 {found[:12]}..., the card says {card.sha256[:12]}...; get the file again")


def _header(path: Path, data: bytes) -> dict[str, str]:
    """The text fields of a safetensors header; names what else the file is when it is something else."""
    if data[:2] == b"PK" or data[:1] == b"\x80":
        raise WeightsError(f"{path}: a pickle, which can run code when it is read; only safetensors are loaded")
    if data.lstrip()[:1] == b"<":
        raise WeightsError(f"{path}: a web page, not weights (a download that asked for a login?); get the file again")
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(_MAX_HEADER, len(data) - 8):
        raise WeightsError(f"{path}: cut short or not a safetensors file; get the file again")
    try:
        header = json.loads(data[8 : 8 + size])
        return dict(header["__metadata__"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise WeightsError(f"{path}: no zoo header; only files written by zoo.save carry their config") from None


def _config(path: Path, header: Mapping[str, str]) -> dict[str, Any]:
    if header.get("zoo.format") != FORMAT:
        raise WeightsError(f"{path}: format {header.get('zoo.format')!r}, this version reads {FORMAT!r}; update zoo")
    text = header.get("zoo.config", "")
    if "${" in text:
        raise WeightsError(f"{path}: its config holds an interpolation '${{...}}', which is not allowed")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict) or not isinstance(config.get("name"), str):
        raise WeightsError(f"{path}: its header holds no config")
    return config


def _compare_config(path: Path, config: dict[str, Any]) -> None:
    try:
        same = path.stat().st_size <= _MAX_HEADER and json.loads(path.read_text(encoding="utf-8")) == config
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise WeightsError(f"{path} is not the config these weights were saved with; delete it or get both again")


def _from_checkpoint(path: Path) -> Stored:
    """The averaged generator of a training checkpoint."""
    from .checkpoints import read_checkpoint

    checkpoint = read_checkpoint(path)
    try:
        run = dict(checkpoint["zoo"]["config"])
        config = dict(run["generator"])
        state = dict(checkpoint["state_dict"])
        card = Card(
            name=str(config["name"]),
            data=str(run["data"]["name"]),
            recipe=str(run["recipe"]),
            kimg=float(run["system"].get("start_kimg", 0)) + float(checkpoint["zoo"]["kimg"]),
            seed=int(run["seed"]),
        )
    except (KeyError, TypeError, AttributeError):
        raise WeightsError(f"{path}: not a checkpoint of zoo train") from None
    if "${" in json.dumps(config, default=str):
        raise WeightsError(f"{path}: its config holds an interpolation '${{...}}', which is not allowed")
    return Stored(config, _under("ema.average.", state), card)


def discriminator_state(place: Path) -> dict[str, Tensor] | None:
    """The discriminator that was trained beside a generator; None for weights that come without one.

    Raises:
        WeightsError: damaged, or not what the card says.
    """
    place = newest(place)
    if place.suffix == ".ckpt":
        from .checkpoints import read_checkpoint

        return _under("discriminator.", read_checkpoint(place)["state_dict"]) or None
    folder = place if place.is_dir() else place.parent
    card = cards.read(_inside(folder, folder / CARD)) if (folder / CARD).is_file() else None
    if card is None or not card.discriminator_sha256:
        return None
    path = folder / DISCRIMINATOR
    data = _read(_inside(folder, path))
    if hashlib.sha256(data).hexdigest() != card.discriminator_sha256:
        raise WeightsError(f"{path}: its SHA-256 is not the card's; get the file again")
    try:
        return parse_safetensors(data)
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged ({error}); get the file again") from None


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def fit(model: Generator, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into a model whose keys and shapes must be exactly theirs.

    Raises:
        WeightsError: as `check_fit`.
    """
    check_fit(model, tensors, where)
    model.load_state_dict(dict(tensors))


def check_fit(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Compare tensors with a model, which may be on the meta device.

    Raises:
        WeightsError: missing, unexpected or wrongly shaped keys, at most ten of each; values that are not finite.
    """
    own = model.state_dict()
    shapes = [
        f"{k} {tuple(tensors[k].shape)} for {tuple(own[k].shape)}"
        for k in own
        if k in tensors and tensors[k].shape != own[k].shape
    ]
    problems = {
        "missing": own.keys() - tensors.keys(),
        "unexpected": tensors.keys() - own.keys(),
        "wrong shape": shapes,
    }
    if any(problems.values()):
        raise WeightsError(f"{where}: weights do not fit: " + "; ".join(_some(k, v) for k, v in problems.items() if v))
    if bad := [k for k, v in tensors.items() if v.is_floating_point() and not bool(v.isfinite().all())]:
        raise WeightsError(f"{where}: {_some('not finite', bad)}; get the file again or use an earlier checkpoint")


def shown(key: Any) -> str:
    """A word of a stranger's file for a message: short, on one line, nothing that a terminal would obey."""
    text = ascii(key[:_MAX_LETTERS])[1:-1] if isinstance(key, str) else f"a key of type {type(key).__name__}"
    return text[:_MAX_LETTERS]


def _some(what: str, keys: Iterable[str]) -> str:
    ordered = [shown(key) for key in sorted(keys)]
    more = f" and {len(ordered) - _MAX_SHOWN} more" if len(ordered) > _MAX_SHOWN else ""
    return f"{what}: {', '.join(ordered[:_MAX_SHOWN])}{more}"


def to_safetensors(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> bytes:
    """A safetensors file whose bytes depend on its content alone: the library orders a header's fields at random.

    Raises:
        RuntimeError: two tensors share memory.
    """
    data = serialize(dict(tensors), dict(header) or None)
    size = int.from_bytes(data[:8], "little")
    fields = json.loads(data[8 : 8 + size])
    text = json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def write_weights(
    model: Generator,
    config: dict[str, Any],
    card: Card,
    folder: Path,
    discriminator: Mapping[str, Tensor] | None = None,
) -> None:
    """Write weights, config and card, each whole or not at all; the card last: its hash tells a half-written folder.

    Raises:
        WeightsError: two tensors of the model share memory.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    header = {"zoo.format": FORMAT, "zoo.version": __version__, "zoo.config": json.dumps(config, sort_keys=True)}
    try:
        data = to_safetensors(tensors, header)
    except RuntimeError as error:
        raise WeightsError(f"{folder}: cannot save: {' '.join(str(error).split())}") from None
    card = replace(
        card,
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        parameters=sum(p.numel() for p in model.parameters()),
        discriminator_sha256="",
    )
    if discriminator is not None:
        beside = to_safetensors({k: v.detach().cpu().contiguous() for k, v in discriminator.items()}, {})
        card = replace(card, discriminator_sha256=hashlib.sha256(beside).hexdigest())
        atomic_write(folder / DISCRIMINATOR, beside)
    atomic_write(folder / WEIGHTS, data)
    atomic_write(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
    atomic_write(folder / CARD, cards.write(card))
