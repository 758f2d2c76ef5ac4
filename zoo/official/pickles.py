"""Files that `torch.save` wrote, read without importing or running anything that they name.

A pickle is a small program, and whole pickled networks name classes of packages that are not here. So: every name in
the file is read first, and a file that names anything but tensors and the published classes is refused; then those
classes are replaced by `Inert`, which keeps attributes and does nothing. Zip files (torch 1.6 and newer) go through
`torch.load(weights_only=True)`; the older format with whole networks, which that refuses, through `_Unpickler`.
"""

import hashlib
import io
import json
import os
import pickle
import pickletools
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
from ..weights import files as weights

_MAX_FILE = 4 * 2**30
# Without the tensors. All of a StyleGAN2 for 1024 px, with its optimisers, has 140 kB and 40,000 instructions.
_MAX_PICKLE, _MAX_STEPS = 2 * 2**20, 150_000
_MAX_TUPLES = 20_000  # hashing a tuple nested 400,000 deep ends the process; published files have some thousands
_MAX_WEIGHT = (
    1_000  # steps to hash one tuple: 40 pairs, each of the last one twice, take 2^40; published ones have some 30
)
_TOO_MUCH = "asks for more memory or more steps than weights need; do not trust this file"
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
# Beside tensors: networks and averages of pi-GAN, the log of Unsup3d, numbers in GRAF's, options in StyleGAN2's.
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
        where: its path, for messages; "tensors" for values that never were in a file.
        tree: the content.
        sha256: of the whole file, in hex.
        size: bytes of the file.
        notes: what was changed to read its tensors, by kind; sentences for the card.
    """

    where: str
    tree: Any
    sha256: str = ""
    size: int = sys.maxsize
    notes: dict[str, str] = field(default_factory=dict)


def read(path: str | Path) -> OfficialFile:
    """Read a file of `torch.save`, tensors on the CPU.

    Raises:
        WeightsError: missing, too big, damaged, not such a file, or it names code that published weights do not need.
    """
    path = place(path)
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


def place(given: str | Path) -> Path:
    """A path that the system can have, whether or not something lies there.

    Raises:
        WeightsError: too long, with a zero byte, below a file, of a home or a folder that is out of reach.
    """
    try:
        path = Path(given).expanduser()
        os.stat(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise WeightsError(f"{weights.shown(str(given))}: no usable path ({reason}); name another") from None
    return path


def _what_else(data: bytes) -> str:
    if not data:
        return "empty"
    if data.lstrip()[:1] == b"<":
        return "a web page, not weights (a download that asked for a login?)"
    if data.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights themselves"
    return "not a file of torch.save, nor safetensors"


def _scan(stream: io.BytesIO, where: Path, pickles: int = 1) -> tuple[set[str], list[int]]:
    """The names in the pickles that start here, all known, and where each starts; the stream stands behind them."""
    names, starts, steps, tuples = set[str](), list[int](), 0, 0
    for _ in range(pickles):
        starts.append(stream.tell())
        machine = _Machine()
        for code, argument, position in pickletools.genops(stream):
            if code.name == "GLOBAL":
                names.add(str(argument).replace("__builtin__", "builtins").replace(" ", ".", 1))
            elif code.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
                raise WeightsError(f"{where}: uses {code.name}, which torch.save does not write; get the file again")
            steps, tuples = steps + 1, tuples + ("TUPLE" in code.name)
            far = code.name.endswith("PUT") and int(argument or 0) > (position or 0)  # a slot of memory never reached
            if far or tuples > _MAX_TUPLES or steps > _MAX_STEPS or (position or 0) > _MAX_PICKLE:
                raise WeightsError(f"{where}: {_TOO_MUCH}")
            if odd := machine.step(code, argument):
                raise WeightsError(f"{where}: has {odd}, which no published weights need; do not trust this file")
        if foreign := sorted(name for name in names if name not in _TENSOR_PARTS and not name.startswith(_INERT)):
            unknown = f"asks for {foreign[0]!r}, which no published weights need"
            raise WeightsError(f"{where}: {unknown}; do not trust this file")
    return names, starts


_TABLES = ([pickletools.pylist], [pickletools.pydict], [pickletools.pyset])


class _Machine:
    """Follows the stack of a pickle without making anything.

    A value that is made once and named twice, level upon level, makes a few bytes take forever to hash or to print.
    So tuples have a weight, and what will be hashed or may be printed must be `simple`: a constant, or tuples of them.
    """

    def __init__(self) -> None:
        self.stack: list[tuple[int, bool]] = []  # weight, simple
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, tuple[int, bool]] = {}

    def step(self, code: pickletools.OpcodeInfo, argument: Any) -> str:
        """Follow one instruction; what is wrong with it, or ""."""
        if code.name.endswith("PUT") or code.name == "MEMOIZE":
            self.memo[len(self.memo) if argument is None else int(argument)] = self.stack[-1]
            return ""
        if code.name.endswith("GET"):
            self.stack.append(self.memo[int(argument)])
            return ""
        taken = self._take(code)
        weight, simple = 1 + sum(w for w, _ in taken), all(s for _, s in taken)
        is_tuple = "TUPLE" in code.name
        if is_tuple and weight > _MAX_WEIGHT:
            return "tuples of tuples of tuples"
        keys = {"SETITEM": taken[1:2], "SETITEMS": taken[1::2], "DICT": taken[::2]}.get(code.name, [])
        if any(key != (1, True) for key in keys):
            return "a key that is no constant"
        if code.name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX") and taken[0] != (1, True):
            return "a call of what is no name"
        if code.name == "BINPERSID" and not simple:
            return "a storage that is no plain name"
        # What the name of a storage stands for is a storage, or a class: old files write classes so.
        # What a call makes is hashed by its place in memory, or has no hash.
        if code.name in ("BINPERSID", "REDUCE") or code.stack_after in _TABLES:
            weight = 1
        if not is_tuple:
            simple = code.name == "BINPERSID" or (not code.stack_before and code.stack_after not in _TABLES)
        made = weight, simple
        if code.name == "MARK":
            self.marks.append(len(self.stack))
        else:
            self.stack += [made] * len(code.stack_after)
        return ""

    def _take(self, code: pickletools.OpcodeInfo) -> list[tuple[int, bool]]:
        before = code.stack_before
        if code.name == "POP" and self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
            return []
        if pickletools.markobject not in before:
            return self._pop(len(before))
        if not self.marks:
            raise pickle.UnpicklingError("takes more than there is")
        items = self._pop(len(self.stack) - self.marks[-1])
        self.marks.pop()
        return self._pop(before.index(pickletools.markobject)) + items

    def _pop(self, count: int) -> list[tuple[int, bool]]:
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise pickle.UnpicklingError("takes more than there is")
        found = self.stack[start:]
        del self.stack[start:]
        return found


def _inert(path: str) -> type[Inert]:
    return type(path.rpartition(".")[2], (Inert,), {"path": path})


def _from_zip(data: bytes, where: Path) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        packed = any(e.compress_type != zipfile.ZIP_STORED for e in entries)
        if packed or sum(e.file_size for e in entries) > len(data):  # or it unpacks to more than was downloaded
            raise WeightsError(f"{where}: a compressed archive; unpack it and name the .pth inside")
        pickles = [e for e in entries if e.filename.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise WeightsError(f"{where}: an archive, but not one of torch.save; unpack it and name the .pth inside")
        if pickles[0].file_size > _MAX_PICKLE:
            raise WeightsError(f"{where}: {_TOO_MUCH}")
        names, _ = _scan(io.BytesIO(archive.read(pickles[0])), where)
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
    _, starts = _scan(stream, where, pickles=5)
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
