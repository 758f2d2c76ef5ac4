"""Files that `torch.save` wrote, read without importing or running anything that they name.

A pickle is a small program, and whole pickled networks name classes of packages that are not here. So: every name in
the file is read first, and a file that names anything but tensors and the published classes is refused; then those
classes are replaced by `Inert`, which keeps attributes and does nothing. Zip files (torch 1.6 and newer) go through
`torch.load(weights_only=True)`; the older format with whole networks, which that refuses, through `_Unpickler`.
"""

import hashlib
import io
import json
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from safetensors.torch import load as parse_safetensors
from torch import Tensor

from ..errors import WeightsError
from ..resources import user_path
from ..runtime.pickles import in_archive, scan
from ..weights import files as weights

_MAX_FILE = 4 * 2**30
_LEGACY = 0x1950A86A20F9469CFC6C  # the first value of a file written before torch 1.6
_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_TENSOR_PARTS = {
    "collections.OrderedDict",
    "builtins.set",
    "torch.Size",
    "torch.device",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    *(f"torch.{device}{name}" for device in ("", "cuda.") for name in _STORAGES),
}
# Beside tensors: networks and averages of pi-GAN, the log of Unsup3D, numbers in GRAF's, options in StyleGAN2's.
_INERT = (
    "generators.",
    "siren.",
    "discriminators.",
    "torch.nn.",
    "torch_ema.",
    "unsup3d.",
    "numpy.",
    "_codecs.encode",
    "argparse.",
)


class Inert:
    """An instance of a class that is not here: its attributes, in `state`, and no behaviour."""

    state: Mapping[Any, Any] = MappingProxyType({})
    path: ClassVar[str] = ""  # module and name of the class

    def __init__(self, *arguments: Any) -> None:
        """Take what the class was called with, and forget it."""

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


@dataclass(frozen=True)
class OfficialFile:
    """What a file holds: dicts, lists, numbers, tensors and `Inert`s.

    Attributes:
        where: Its path, for messages; "tensors" for values that never were in a file.
        tree: The content.
        sha256: Hash of the whole file, in hex.
        size: Bytes of the file.
        notes: What was changed to read its tensors, by kind; sentences for the card.
    """

    where: str
    tree: Any
    sha256: str = ""
    size: int = sys.maxsize
    notes: dict[str, str] = field(default_factory=dict)


def read(path: str | Path) -> OfficialFile:
    """Read a file of `torch.save`, tensors on the CPU.

    Raises:
        WeightsError: Missing, too big, damaged, not such a file, or it names code that published weights do not need.
    """
    path = user_path(path, WeightsError)
    if not path.is_file():
        raise WeightsError(f"{path} is not a file; name the .pth or .pt that the authors published")
    if path.stat().st_size > _MAX_FILE:
        raise WeightsError(f"{path}: {path.stat().st_size:,} bytes, more than the {_MAX_FILE:,} this library reads")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); see its rights") from None
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8:
        reader = _from_safetensors  # first, as the length of a header can look like the others
    elif data[:4] == b"PK\x03\x04":
        reader = _from_zip
    elif data[:1] == b"\x80":
        reader = _from_legacy
    else:
        raise WeightsError(f"{path}: {_what_else(data)}; get the file again")
    try:
        tree = reader(data, path)
    except WeightsError:
        raise
    except Exception as error:  # parsers of hostile bytes raise whatever they like
        text = str(error)
        reason = " ".join((text.partition("WeightsUnpickler error:")[2] or text).split())
        reason = weights.shown(reason) or type(error).__name__
        raise WeightsError(f"{path}: damaged, or not what torch.save writes ({reason}); get the file again") from None
    return OfficialFile(str(path), tree, hashlib.sha256(data).hexdigest(), len(data))


def _what_else(data: bytes) -> str:
    if not data:
        return "empty"
    if data.lstrip()[:1] == b"<":
        return "a web page, not weights (a download that asked for a login?)"
    if data.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights themselves"
    return "not a file of torch.save, nor safetensors"


def _known(name: str) -> bool:
    return name in _TENSOR_PARTS or name.startswith(_INERT)


def _inert(path: str) -> type[Inert]:
    return type(path.rpartition(".")[2], (Inert,), {"path": path})


def _from_zip(data: bytes, where: Path) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = scan(in_archive(archive, len(data), where), where, known=_known).names
    shims = [(_inert(name), name) for name in names - _TENSOR_PARTS if name != "_codecs.encode"]
    with torch.serialization.safe_globals(shims):  # type: ignore[arg-type]  # pairs of class and name are documented
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _from_safetensors(data: bytes, where: Path) -> Any:
    """Tensors by name, as somebody has converted them; a hostile header cannot run anything."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    if "zoo.format" in header.get("__metadata__", {}):
        raise WeightsError(f"{where}: weights of zoo, nothing to import; use file:{where.parent}")
    return parse_safetensors(data)


def _from_legacy(data: bytes, where: Path) -> Any:
    """Five pickles (mark, version, machine, content, keys of the storages), then the storages one after another."""
    stream = io.BytesIO(data)
    starts = scan(stream, where, pickles=5, known=_known).starts
    end = stream.tell()

    def load(part: int, storages: dict[str, Tensor]) -> tuple[Any, dict[str, torch.dtype]]:
        stream.seek(starts[part])
        unpickler = _Unpickler(stream, storages)
        return unpickler.load(), unpickler.kinds

    if load(0, {})[0] != _LEGACY or not load(2, {})[0]["little_endian"]:
        raise WeightsError(
            f"{where}: not a file of torch.save, or of a big-endian machine; load and save it anew there"
        )
    kinds = load(3, {})[1]
    storages = {}
    for key in load(4, {})[0]:
        width, count = kinds[key].itemsize, int.from_bytes(data[end : end + 8], "little")
        raw = bytearray(data[end + 8 : end + 8 + count * width])
        if len(raw) != count * width:
            raise WeightsError(f"{where}: cut short; get the file again")
        storages[key] = torch.frombuffer(raw, dtype=kinds[key]) if count else torch.empty(0, dtype=kinds[key])
        end += 8 + len(raw)
    return load(3, storages)[0]


class _Unpickler(pickle.Unpickler):
    """Knows tensors and `Inert`, nothing else. `kinds` has the types of the storages that were asked for."""

    def __init__(self, stream: io.BytesIO, storages: dict[str, Tensor]) -> None:
        super().__init__(stream)
        self.storages, self.kinds = storages, dict[str, torch.dtype]()

        # Made anew for every file: what a pickle does to a function, it does to its own.
        def tensor(storage: Tensor | None, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
            return None if storage is None else torch.as_strided(storage, size, stride, offset)  # checks the bounds

        def parameter(data: Any, *_: Any) -> Any:
            return data if isinstance(data, Tensor) else None

        self.known = {
            "collections.OrderedDict": OrderedDict,
            "builtins.set": set,
            "torch._utils._rebuild_parameter": parameter,
            "torch._utils._rebuild_tensor": tensor,
            "torch._utils._rebuild_tensor_v2": tensor,
        }

    def find_class(self, module: str, name: str) -> Any:
        path = f"{module}.{name}".replace("__builtin__", "builtins")
        if module in ("torch", "torch.cuda") and name in _STORAGES:
            return _STORAGES[name]
        return self.known.get(path) or _inert(path)

    def persistent_load(self, pid: Any) -> Any:
        match pid:
            case ("module", kind, *_):  # with its source code, which nobody needs
                return kind
            case ("storage", torch.dtype() as kind, str(key), _, _, None):
                self.kinds[key] = kind
                return self.storages.get(key)
        raise pickle.UnpicklingError("unknown kind of storage")
