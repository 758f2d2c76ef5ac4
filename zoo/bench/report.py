"""What benches found, as text for a terminal and as Markdown in a page of the documentation."""

import math
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ..errors import ConfigError
from ..runtime.files import atomic_write
from ..runtime.machine import processor
from .harness import Row, Spread

_COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("zoo, s", lambda row: _spread(row.zoo)),
    ("other, s", lambda row: f"{_spread(row.theirs)} {row.other}" if row.theirs else ""),
    ("ratio", lambda row: f"{row.ratio:.2f}x" if row.ratio else ""),
    ("of limit", lambda row: f"{100 * row.share:.0f} %" if row.share else ""),
    ("images/s", lambda row: f"{row.images_per_s:.3g}" if row.images_per_s else ""),
    ("memory, MiB", lambda row: _memory(row.memory_mb)),
    ("other's", lambda row: _memory(row.their_memory_mb)),
    ("parts", lambda row: ", ".join(f"{part} {100 * share:.0f} %" for part, share in (row.parts or {}).items())),
)


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings, and the cells of each row; columns that nobody fills are left out."""
    shown = [(heading, cell) for heading, cell in _COLUMNS if any(cell(row) for row in rows)]
    return ["case", *(heading for heading, _ in shown)], [[row.case, *(cell(row) for _, cell in shown)] for row in rows]


def machine(device: str) -> str:
    """What the figures were measured on, in one line."""
    where = torch.cuda.get_device_name() if device == "cuda" else f"{processor()}, {torch.get_num_threads()} threads"
    return f"{where}; torch {torch.__version__}, Python {platform.python_version()}"


def markdown(headings: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [headings, ["---"] * len(headings), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def section(page: Path, bench: str) -> tuple[str, str]:
    """What stands before and after the figures of a bench in a Markdown page, marks included.

    Raises:
        ConfigError: The page is missing, or has no such section.
    """
    start, end = f"<!-- bench {bench} -->\n", f"<!-- end {bench} -->"
    whole = page.read_text("utf-8") if page.is_file() else ""
    before, found, rest = whole.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ConfigError(f"{page}: no section for these figures; write the lines '{start.strip()}' and '{end}' there")
    return before + start, end + after


def need_all(page: Path, missing: int) -> None:
    """Refuse to put a table that lacks rows into a page, where it would replace a whole one.

    Raises:
        ConfigError: Rows are missing.
    """
    if missing:
        raise ConfigError(
            f"{page}: stays as it is, as {missing} rows were not measured; allow more --seconds, or mend what failed"
        )


def write(page: Path, bench: str, text: str) -> Path:
    """Put text into the section of a bench; the rest of the page stays as it is.

    Raises:
        ConfigError: The page is missing, or has no such section.
    """
    before, after = section(page, bench)
    return atomic_write(page, f"{before}{text}{after}")


def _spread(spread: Spread | None) -> str:
    """The median, and half of what lies between the quartiles."""
    if spread is None:
        return ""
    digits = max(0, 2 - math.floor(math.log10(max(spread.median, 1e-6))))
    return f"{spread.median:.{digits}f} ± {(spread.high - spread.low) / 2:.{digits}f}"


def _memory(mib: float | None) -> str:
    return "" if mib is None else "does not fit" if math.isinf(mib) else f"{mib:.0f}"
