"""How published data sets lie on disk: which files belong to a split, and which crop their papers used."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from .store import Files

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    Attributes:
        select: Gives the names of the files in a split, in order, and an empty list for a split that does not exist.
        crop: Region of each picture that is used by default, see `transforms.crop_box`.
    """

    select: Callable[[Files, str], list[str]]
    crop: str | int = "square"


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part.lower() for part in PurePosixPath(name).parts[:-1])


def _by_folder(names: list[str], split: str) -> list[str]:
    """Names below a folder that is named after the split; without such folders, all names belong to "train"."""
    present = {part for name in names for part in _parts(name)} & set(SPLITS)
    if not present:
        return names if split == "train" else []
    if split == "val" and "val" not in present:  # AFHQ v2 and others publish train and test only
        split = "test"
    return [name for name in names if split in _parts(name)]


def _folder(files: Files, split: str) -> list[str]:
    return _by_folder(files.names, split)


def _lfw(files: Files, split: str) -> list[str]:
    """`Name/Name_0001.jpg` or `p00000/0001.jpg`. No person is in two splits, which have 90, 5 and 5 % of the people."""

    def split_of(person: str) -> str:
        share = share_of(person)
        return "train" if share < 0.9 else "val" if share < 0.95 else "test"

    return [name for name in files.names if split_of(PurePosixPath(name).parent.name) == split]


def share_of(person: str) -> float:
    """A number in [0, 1) by which people are split: always the same for the same name. Tests have 0.95 and more."""
    return int(hashlib.sha256(person.encode("utf-8", "surrogateescape")).hexdigest()[:8], 16) / 0x100000000


def _celeba(files: Files, split: str) -> list[str]:
    """`img_align_celeba/000001.jpg`, split by `list_eval_partition.txt` (or .csv) beside or above it, else by number.

    The list names .jpg files, whatever the pictures were saved as, so only stems are compared.
    """
    text = None
    for name in ("list_eval_partition.txt", "Eval/list_eval_partition.txt", "list_eval_partition.csv"):
        text = text or files.text(name) or files.text(f"../{name}")
    code = str(SPLITS.index(split))
    if text:
        rows = (line.replace(",", " ").split() for line in text.splitlines())
        wanted = {stem(row[0]) for row in rows if len(row) == 2 and row[1] == code}
        return [name for name in files.names if stem(name) in wanted]
    first, last = {"train": (1, 162770), "val": (162771, 182637), "test": (182638, 202599)}[split]
    return [name for name in files.names if first <= _number(name) <= last]


def _ffhq(files: Files, split: str) -> list[str]:
    """`00000/00000.png` in folders of a thousand, or `00000/img00000000.png` in the zip that StyleGAN's tools make.

    As its authors say, 60,000 pictures are for training and 10,000 for validation.
    """
    first, last = {"train": (0, 59999), "val": (60000, 69999), "test": (0, -1)}[split]
    return [name for name in files.names if first <= _number(name) <= last]


def stem(name: str) -> str:
    """The last part of a name without its suffix, in lower case."""
    return PurePosixPath(name).stem.lower()


def _number(name: str) -> int:
    match = re.fullmatch(r"(?:img)?([0-9]+)", stem(name))
    return int(match[1]) if match else -1


def _afhq_cats(files: Files, split: str) -> list[str]:
    """`train/cat/*.jpg` of AFHQ, or a folder that holds cats only."""
    cats = [name for name in files.names if {"cat", "cats"} & set(_parts(name))]
    return _by_folder(cats or files.names, split)


def synface(files: Files, split: str) -> list[str]:
    """`train/image/*.png` of Unsup3D's BFM renderings; their `depth` pictures are left out."""
    return [name for name in files.names if split in _parts(name) and _parts(name)[-1] == "image"]


def _shards(files: Files, split: str) -> list[str]:
    """`train/000000000`, as `zoo data shard` counts pictures; "val" is "test" where there is no such split."""

    def of(which: str) -> list[str]:
        return [name for name in files.names if name.startswith(f"{which}/")]

    return of(split) or (of("test") if split == "val" else [])


LAYOUTS: dict[str, Layout] = {
    "folder": Layout(_folder),
    "zip": Layout(_folder),
    "shards": Layout(_shards),
    "lfw": Layout(_lfw),
    "celeba": Layout(_celeba, "celeba"),
    "ffhq": Layout(_ffhq),
    "afhq_cats": Layout(_afhq_cats),
    "synface": Layout(synface, 170),
    "carla": Layout(_folder),  # GRAF's archive has no splits
}
