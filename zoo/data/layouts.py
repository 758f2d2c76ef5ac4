"""How published data sets lie on disk: which files belong to a split, and which crop their papers used."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from .store import Files

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    Attributes:
        select: (files, split) -> names of that split, in order; empty if there is no such split.
        crop: default region, see `transforms.crop_box`.
    """

    select: Callable[[Files, str], list[str]]
    crop: str | int = "square"


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part.lower() for part in PurePosixPath(name).parts[:-1])


def _by_folder(names: list[str], split: str) -> list[str]:
    """Names below a folder called like the split; all names are "train" if no such folders exist."""
    present = {part for name in names for part in _parts(name)} & set(SPLITS)
    if not present:
        return names if split == "train" else []
    if split == "val" and "val" not in present:  # AFHQ v2 and others publish train and test only
        split = "test"
    return [name for name in names if split in _parts(name)]


def _folder(files: Files, split: str) -> list[str]:
    return _by_folder(files.names, split)


def _lfw(files: Files, split: str) -> list[str]:
    """`Name/Name_0001.jpg` or `p00000/0001.jpg`: no person is in two splits (90, 5, 5 % of the people)."""

    def split_of(person: str) -> str:
        share = int(hashlib.sha256(person.encode()).hexdigest()[:8], 16) / 0x100000000
        return "train" if share < 0.9 else "val" if share < 0.95 else "test"

    return [name for name in files.names if split_of(PurePosixPath(name).parent.name) == split]


def _celeba(files: Files, split: str) -> list[str]:
    """`img_align_celeba/000001.jpg`, by `list_eval_partition.txt` beside or above it, else by number."""
    text = None
    for name in ("list_eval_partition.txt", "Eval/list_eval_partition.txt"):
        text = text or files.text(name) or files.text(f"../{name}")
    code = str(SPLITS.index(split))
    if text:
        rows = (line.split() for line in text.splitlines())
        wanted = {row[0] for row in rows if len(row) == 2 and row[1] == code}
        return [name for name in files.names if PurePosixPath(name).name in wanted]
    first, last = {"train": (1, 162770), "val": (162771, 182637), "test": (182638, 202599)}[split]
    return [name for name in files.names if first <= _number(name) <= last]


def _ffhq(files: Files, split: str) -> list[str]:
    """`00000/00000.png` in folders of a thousand: 60,000 to train, 10,000 to validate, as its authors say."""
    first, last = {"train": (0, 59999), "val": (60000, 69999), "test": (0, -1)}[split]
    return [name for name in files.names if first <= _number(name) <= last]


def _number(name: str) -> int:
    stem = PurePosixPath(name).stem
    return int(stem) if stem.isdecimal() else -1


def _afhq_cats(files: Files, split: str) -> list[str]:
    """`train/cat/*.jpg` of AFHQ, or a folder that holds cats only."""
    cats = [name for name in files.names if {"cat", "cats"} & set(_parts(name))]
    return _by_folder(cats or files.names, split)


def _synface(files: Files, split: str) -> list[str]:
    """`train/image/*.png` of Unsup3d's BFM renderings; their `depth` pictures are left out."""
    return [name for name in files.names if split in _parts(name) and _parts(name)[-1] == "image"]


LAYOUTS: dict[str, Layout] = {
    "folder": Layout(_folder),
    "zip": Layout(_folder),
    "lfw": Layout(_lfw),
    "celeba": Layout(_celeba, "celeba"),
    "ffhq": Layout(_ffhq),
    "afhq_cats": Layout(_afhq_cats),
    "synface": Layout(_synface, 170),
}
