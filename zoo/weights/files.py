"""Reading and writing weight files that may come from strangers: hash first, parse then; safetensors; strict fit."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as serialize
from torch import Tensor, nn

from ..config.schemas import Card
from ..config.untrusted import from_json, refuse_hostile
from ..errors import WeightsError, ZooError
from ..generators.base import Generator
from ..runtime.files import atomic_write
from ..version import __version__
from . import cards
from .cards import CARD, CONFIG, DISCRIMINATOR, WEIGHTS, Half
from .cards import MOST_WEIGHTS as _MAX_WEIGHTS
from .places import name_of, newest

FORMAT = "1"
_MAX_HEADER = 4 * 2**20
WRAPPERS = ("module", "_orig_mod")  # of DataParallel and its like, and of torch.compile; no layer here is called so
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
        WeightsError: Missing, too big, damaged, not what the card says, or not a format that is safe to read.
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
    return Stored(config, _tensors(path, data), card)


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
    size = int.from_bytes(data[:8], "little")
    whole = len(data) >= 8 and size <= min(_MAX_HEADER, len(data) - 8)
    ours = whole and data[8:9] == b"{"  # before the rest: the length of a header can look like one of those
    if not ours and (data[:2] == b"PK" or data[:1] == b"\x80"):
        raise WeightsError(f"{path}: a pickle, which can run code when it is read; only safetensors are loaded")
    if not ours and data.lstrip()[:1] == b"<":
        raise WeightsError(f"{path}: a web page, not weights (a download that asked for a login?); get the file again")
    if not whole:
        raise WeightsError(f"{path}: cut short or not a safetensors file; get the file again")
    try:
        header = json.loads(data[8 : 8 + size])
        return dict(header["__metadata__"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise WeightsError(f"{path}: no zoo header; only files written by zoo.save carry their config") from None


def _config(path: Path, header: Mapping[str, str]) -> dict[str, Any]:
    if header.get("zoo.format") != FORMAT:
        raise WeightsError(f"{path}: format {header.get('zoo.format')!r}, this version reads {FORMAT!r}; update zoo")
    if not isinstance(text := header.get("zoo.config"), str) or not text:
        raise WeightsError(f"{path}: its header holds no config")
    config = from_json(text, f"{path}: its header holds no config", WeightsError)
    if not isinstance(config, dict) or not isinstance(config.get("name"), str):
        raise WeightsError(f"{path}: its header holds no config")
    refuse_hostile(config, str(path), WeightsError)
    return config


def _compare_config(path: Path, config: dict[str, Any]) -> None:
    try:
        same = path.stat().st_size <= _MAX_HEADER and from_json(path.read_bytes(), str(path), WeightsError) == config
    except (ZooError, OSError):
        same = False
    if not same:
        raise WeightsError(f"{path} is not the config these weights were saved with; delete it or get both again")


def _from_checkpoint(path: Path) -> Stored:
    """The averaged generator of a training checkpoint."""
    from .checkpoints import read_checkpoint

    checkpoint = read_checkpoint(path)
    try:
        run = dict(checkpoint["zoo"]["config"])
        config = dict(run["generator"]) | dict(checkpoint["zoo"].get("at_rest", {}))  # older ones have none
        tensors = _under("ema.average.", path, checkpoint["state_dict"])
        card = card_of(run, float(checkpoint["zoo"]["kimg"]))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        raise WeightsError(f"{path}: not a checkpoint of zoo train") from None
    refuse_hostile(config, str(path), WeightsError)
    return Stored(config, tensors, card)


def card_of(run: Mapping[str, Any], kimg: float) -> Card:
    """What is known of weights from the configuration of the run that made them, and how far it had come."""
    return Card(
        name=str(run["generator"]["name"]),
        data=_data_of(run["data"]),
        recipe=str(run["recipe"]),
        kimg=float(run["system"].get("start_kimg", 0)) + kimg,
        seed=int(run["seed"]),
    )


def _data_of(data: Mapping[str, Any]) -> str:
    """What a card says of the images: their framing, where faces were aligned, as photographs need the same later."""
    align = data.get("align", "none")  # older checkpoints have none
    return str(data["name"]) if align == "none" else f"photographs, framed like {align}"


def discriminator_state(place: Path) -> dict[str, Tensor] | None:
    """The discriminator that was trained beside a generator, in 32 bits; None for weights that come without one.

    Raises:
        WeightsError: Damaged, or not what the card says.
    """
    place = newest(place)
    if place.suffix == ".ckpt":
        from .checkpoints import read_checkpoint

        return _under("discriminator.", place, read_checkpoint(place).get("state_dict")) or None
    folder = place if place.is_dir() else place.parent
    card = cards.read(_inside(folder, folder / CARD)) if (folder / CARD).is_file() else None
    if card is None or not card.discriminator_sha256:
        return None
    path = folder / DISCRIMINATOR
    data = _read(_inside(folder, path))
    if hashlib.sha256(data).hexdigest() != card.discriminator_sha256:
        raise WeightsError(f"{path}: its SHA-256 is not the card's; get the file again")
    return {k: v.float() if v.dtype == torch.float16 else v for k, v in _tensors(path, data).items()}


def _tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        return parse_safetensors(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:  # of types of numbers that torch lacks, too
        raise WeightsError(f"{path}: damaged ({shown(' '.join(str(error).split()))}); get the file again") from None


def _under(prefix: str, path: Path, state: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint whose names begin so, without that. What they claim to hold is in the file."""
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise WeightsError(f"{path}: not a checkpoint of zoo train")
    found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if odd := [key for key, value in found.items() if not _plain(value)]:
        raise WeightsError(f"{path}: {shown(odd[0])} is no plain tensor; use another checkpoint")
    if sum(value.nbytes for value in found.values()) > path.stat().st_size:
        raise WeightsError(f"{path}: claims more values than it has room for; do not trust this file")
    return found


def _plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not (value.is_meta or value.is_quantized)


def fit(model: Generator, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into a model whose keys and shapes must be exactly theirs.

    Raises:
        WeightsError: The weights do not fit, see `check_fit`.
    """
    check_fit(model, tensors, where)
    model.load_state_dict(dict(tensors))


def check_fit(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Compare tensors with a model, which may be on the meta device.

    Raises:
        WeightsError: Missing, unexpected or wrongly shaped keys, at most ten of each; values that are not finite.
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
        "not numbers with a point": [
            k for k in own.keys() & tensors.keys() if own[k].is_floating_point() and not tensors[k].is_floating_point()
        ],
    }
    if any(problems.values()):
        raise WeightsError(f"{where}: weights do not fit: " + "; ".join(_some(k, v) for k, v in problems.items() if v))
    # As 32-bit numbers, which they become; the small types have no test of their own.
    if bad := [k for k, v in tensors.items() if v.is_floating_point() and not bool(v.float().isfinite().all())]:
        raise WeightsError(f"{where}: {_some('not finite', bad)}; get the file again or use an earlier checkpoint")


def bare_key(key: str) -> str:
    """The name of a tensor without what torch.compile and DataParallel put into it, at any depth."""
    return ".".join(part for part in key.split(".") if part not in WRAPPERS) or key


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
        RuntimeError: Two tensors share memory.
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
    half: Half = "none",
) -> None:
    """Write weights, config and card, each whole or not at all; the card last: its hash tells a half-written folder.

    Raises:
        WeightsError: Two tensors of the model share memory, or a number has no room in 16 bits.
    """
    tensors = {bare_key(k): v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    if half == "all":
        tensors = _halved(tensors, folder)
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
        state = {k: v.detach().cpu().contiguous() for k, v in discriminator.items()}
        beside = to_safetensors(state if half == "none" else _halved(state, folder), {})
        card = replace(card, discriminator_sha256=hashlib.sha256(beside).hexdigest())
        atomic_write(folder / DISCRIMINATOR, beside)
    atomic_write(folder / WEIGHTS, data)
    atomic_write(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
    atomic_write(folder / CARD, cards.write(card, named=name_of(folder) == card.name))


def _halved(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Tensors with numbers of 16 bits in place of 32: to 1 part in 2,048, and what is below 6e-5 to 3e-8."""
    out = {key: value.half() if value.dtype == torch.float32 else value for key, value in tensors.items()}
    if lost := [key for key in out if not bool((out[key].isfinite() | ~tensors[key].isfinite()).all())]:
        raise WeightsError(f"{folder}: {_some('too large for 16 bits', lost)}; save them whole")
    return out
