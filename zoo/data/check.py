"""`zoo data check` decodes every file of a data set once and says what is wrong, before training finds out."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError
from ..runtime.files import printable
from ..runtime.progress import track
from .layouts import SPLITS
from .pictures import CONVERT, BadImage
from .sources import ImageSource, open_layout
from .store import UNREAD


@dataclass
class Report:
    """What a scan found.

    Attributes:
        root: The folder or zip.
        total: Number of image files found.
        splits: Number of images in each split of the layout.
        problems: One line for each bad file, sorted by path, under each kind of problem.
        skipped: Pictures that every reader passes over, under each reason; they count neither as found nor as problems.
    """

    root: str
    total: int
    splits: dict[str, int]
    problems: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, list[str]] = field(default_factory=dict)

    @property
    def bad(self) -> int:
        """The number of files that cannot be used."""
        return sum(len(lines) for lines in self.problems.values())

    def __str__(self) -> str:
        splits = ", ".join(f"{name} {count}" for name, count in self.splits.items() if count)
        lines = [f"{self.root}: {self.total} images ({splits or 'in no split'}), {self.bad} with problems"]
        for kind, found in sorted(self.problems.items()):
            lines += [f"{kind}: {len(found)}", *(f"  {line}" for line in found)]
        for reason, found in sorted(self.skipped.items()):
            advice = f"; {CONVERT}" if reason == UNREAD else ""
            lines += [f"passed over, {reason}: {len(found)}{advice}", *(f"  {line}" for line in found)]
        return "\n".join(lines)


def check(
    root: str | Path, name: str = "folder", size: int = 64, *, crop: str | int | None = None, threads: int = 0
) -> Report:
    """Decode every image below `root` as training would.

    Args:
        root: Folder, zip or shards.
        name: The layout, one of `layouts.LAYOUTS`.
        size: Image side in pixels of the planned training, which decides what is too small.
        crop: Region of each picture; by default the layout's own.
        threads: Number of decoding threads; 0 takes one for each core.

    Raises:
        DataError: The layout is unknown, nothing is at `root`, or it holds no images.
    """
    files, chosen = open_layout(name, root)
    source = ImageSource(files, files.names, size, crop=chosen.crop if crop is None else crop)

    def problem(index: int) -> BadImage | None:
        try:
            source.load(index)
        except BadImage as error:
            return error
        return None

    splits = Counter({split: len(chosen.select(files, split)) for split in SPLITS})
    if not any(splits.values()):
        raise DataError(f"data.root={printable(files.root)} has no images in the layout of data={name}")
    report = Report(printable(files.root), len(files.names), dict(splits))
    report.skipped = {reason: sorted(map(files.where, skipped)) for reason, skipped in files.skipped.items()}
    if files.unreadable:
        report.problems["folder cannot be listed"] = [files.where(path) for path in files.unreadable]
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        found = pool.map(problem, range(len(source)))
        for error in track(found, "checking", len(source)):
            if error is not None:
                report.problems.setdefault(error.kind, []).append(str(error))
    return report
