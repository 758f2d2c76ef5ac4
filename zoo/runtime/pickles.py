"""Pickles are small programs. What they would make is followed here, without making it, before anything runs them.

`torch.load(weights_only=True)` refuses foreign code, but not a few bytes that take all memory, or hours to hash.
"""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import WeightsError

TOO_MUCH = "asks for more memory or more steps than weights need; do not trust this file"
_MOST_WEIGHT = (
    1_000  # steps to hash one tuple: 40 pairs, each of the last one twice, take 2^40; published ones have some 30
)


@dataclass(frozen=True)
class Limits:
    """How much the pickles of one file may ask for, without their tensors.

    All of a StyleGAN2 for 1024 px, with its optimisers, has 140 kB and 40,000 instructions.
    """

    size: int = 2 * 2**20  # bytes
    steps: int = 150_000
    tuples: int = 20_000  # hashing a tuple nested 400,000 deep ends the process; published files have some thousands


OWN = Limits(64 * 2**20, 4_000_000, 1_000_000)  # what users save themselves may be larger


@dataclass(frozen=True)
class Scan:
    """What the pickles of a file would use: the names of classes and functions, and where each pickle starts."""

    names: set[str]
    starts: list[int]


def scan(
    stream: BinaryIO,
    where: Path,
    pickles: int = 1,
    limits: Limits = Limits(),
    known: Callable[[str], bool] = lambda name: True,
) -> Scan:
    """Follow the pickles that start here; the stream then stands behind them.

    Raises:
        WeightsError: They ask for too much, for what `torch.save` never writes, or for a name that is not known.
    """
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
            if far or tuples > limits.tuples or steps > limits.steps or (position or 0) > limits.size:
                raise WeightsError(f"{where}: {TOO_MUCH}")
            if odd := machine.step(code, argument):
                raise WeightsError(f"{where}: has {odd}, which no weights need; do not trust this file")
        if foreign := sorted(name for name in names if not known(name)):
            raise WeightsError(f"{where}: asks for {foreign[0]!r}, which no weights need; do not trust this file")
    return Scan(names, starts)


def in_archive(archive: zipfile.ZipFile, size: int, where: Path, limits: Limits = Limits()) -> io.BytesIO:
    """The pickle inside a zip file of `torch.save` that has `size` bytes.

    Raises:
        WeightsError: It unpacks to more than the file has, or is another archive.
    """
    entries = archive.infolist()
    packed = any(e.compress_type != zipfile.ZIP_STORED for e in entries)
    if packed or sum(e.file_size for e in entries) > size:
        raise WeightsError(f"{where}: a compressed archive; unpack it and name the .pth inside")
    pickles = [e for e in entries if e.filename.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise WeightsError(f"{where}: an archive, but not one of torch.save; unpack it and name the .pth inside")
    if pickles[0].file_size > limits.size:
        raise WeightsError(f"{where}: {TOO_MUCH}")
    return io.BytesIO(archive.read(pickles[0]))


def read_plain(path: Path, map_location: Any | None = "cpu") -> Any:
    """What `torch.save` wrote, if it is tensors and plain values; never runs code from the file.

    Raises:
        WeightsError: It asks for too much, or is an archive of another kind.
        Exception: Whatever zip files, pickles and `torch.load` raise over what is damaged or holds anything else.
    """
    import torch

    if path.exists() and not path.is_file():  # a pipe would wait for ever
        raise WeightsError(f"{path} is not a file")
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        if head == b"PK\x03\x04":
            with zipfile.ZipFile(file) as archive:
                scan(in_archive(archive, path.stat().st_size, path, OWN), path, limits=OWN)
        elif head[:1] == b"\x80":  # before torch 1.6: mark, version, machine, content, keys of the storages
            scan(file, path, 5, OWN)
    return torch.load(path, map_location=map_location, weights_only=True)


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
        if is_tuple and weight > _MOST_WEIGHT:
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
