"""Rows that outlive a process: figures and pictures on disk, found again by weights, protocol and data.

A row is `<protocol>/<key>.json` (figures, intervals, and how it was made) beside `<key>.npz` (what intervals are made
of, and the pictures). The key is the name of a baseline, or the first 12 digits of the SHA-256 of a generator's
configuration and weights. Rows of shipped weights are shipped; new ones go to `$ZOO_RESULTS`, or to `results` in the
cache folder.
"""

import hashlib
import io
import json
import logging
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import resources
from ..config.fill import departures, to_dict
from ..config.untrusted import from_json
from ..errors import ConfigError
from ..fitting.runs import FinishedRun
from ..generators.base import Generator
from ..output.strips import Sheet
from ..runtime.files import atomic_write, printable
from .benchmark import Benchmark, Kind, Row, Subject
from .provenance import code_of, made, method_of, numbers_of

log = logging.getLogger(__name__)
SHIPPED = Path(__file__).parent / "rows"
_FIELDS = ("name", "kind", "protocol", "n", "figures", "seconds", "notes", "intervals", "made")
_OLDER = "measured by other code, {}"  # than this; --fresh measures it again
_MOST = 64 * 2**20  # bytes of a row's samples and pictures, unpacked
_MOST_PIXELS = 2**24  # of a strip of pictures
_MOST_SAMPLES = 2**17  # numbers behind a figure: intervals draw them 2,000 times


def key_of(subject: Subject, seed: int) -> str | None:
    """What a row is known by on disk; None for functions, which are not kept."""
    tail = f"-seed{seed}" if seed else ""
    if isinstance(subject, str):
        return subject.replace(" ", "-") + tail
    if isinstance(subject, FinishedRun):  # its figures and times are those of no other run
        fits = [(picture.name, picture.SIDE, picture.MAD, picture.seconds) for picture in subject.pictures]
        return hashlib.sha256(repr([subject.settings, fits]).encode()).hexdigest()[:12] + tail
    if not isinstance(subject, Generator):
        return None
    config = departures(to_dict(subject.config), to_dict(type(subject.config)()))
    digest = hashlib.sha256(json.dumps([type(subject).__name__, config], sort_keys=True).encode())
    for name, tensor in sorted(subject.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12] + tail


def digest_of(root: str | Path, *settings: Any) -> str:
    """Eight digits that change with the names and sizes of the files in a folder, or of a zip, and with settings."""
    root = resources.user_path(root, ConfigError)
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    listed = [(path.relative_to(root).as_posix(), path.stat().st_size) for path in files]
    return hashlib.sha256(repr([listed, *settings]).encode()).hexdigest()[:8]


def own() -> Path:
    """The folder of the rows that were measured on this machine: `$ZOO_RESULTS`, else `results` in the cache."""
    return Path(os.path.expanduser(os.environ.get("ZOO_RESULTS") or resources.cache() / "results"))


def folder_of(benchmark: Benchmark) -> str:
    """The name of the folder of a protocol's rows."""
    return "+".join([benchmark.protocol.replace("/", "+"), *([benchmark.data] if benchmark.data else [])])


def find(benchmark: Benchmark, name: str | None, key: str, *, shipped: bool = False) -> tuple[Row, list[Sheet]] | None:
    """A row that was measured before; None if there is none, or none that can be read.

    A row that was measured with other numbers under the same name is none. One that other code has measured, of the
    benchmark or of the method, is used, and a note says so.

    Args:
        benchmark: Says under which protocol, and on which data.
        name: What the row is to be called; None leaves it the name under which it was measured.
        key: See `key_of`.
        shipped: Look among the rows that come with zoo only.
    """
    for place in [SHIPPED] if shipped else [own(), SHIPPED]:
        path = place / folder_of(benchmark) / f"{key}.json"
        try:
            if path.is_file():
                row, sheets = _read(path, benchmark, name)
                if row.made.get("numbers", numbers_of(benchmark)) != numbers_of(benchmark):
                    raise ConfigError(f"the numbers of {benchmark.protocol} were others then")
                if missing := sorted({column.key for column in benchmark.columns} - row.as_dict().keys()):
                    raise ConfigError(f"it has no {missing[0]}: it is older than that column")
                lacking = row.made.get("without", "").split()
                if new := [extra for extra, here in benchmark.extras.items() if extra in lacking and here()]:
                    raise ConfigError(f"it lacks what zoo3d[{new[0]}] measures, which is installed now")
                method = method_of(benchmark.subjects.get(name or ""))
                others = method and row.made.get("method", method) != method
                if others or row.made.get("code") != code_of(type(benchmark)):
                    row = replace(row, notes=[*row.notes, _OLDER.format(row.made.get("date", "an unknown day"))])
                return row, sheets
        except Exception as error:  # a stored row is a convenience, so damage costs time, not the comparison
            log.warning("%s: cannot be read (%s); the row is measured anew", path, printable(str(error))[:200])
    return None


def seconds_of(benchmark: Benchmark, key: str) -> float:
    """How long a row took to measure, under whatever code and numbers; endless if nobody knows."""
    for place in [own(), SHIPPED]:
        try:
            values = from_json((place / folder_of(benchmark) / f"{key}.json").read_text("utf-8"), key)
            return float(values["seconds"])
        except (OSError, ValueError, TypeError, KeyError, ConfigError):
            continue
    return math.inf


def keep(benchmark: Benchmark, row: Row, sheets: Sequence[Sheet], key: str) -> Row:
    """Write a row with its pictures, and say how it was made.

    Figures that are not finite are None in it: one of them must not cost the others. What cannot be written costs a
    warning.
    """
    figures = {key: value if _finite(value) else None for key, value in row.figures.items()}
    intervals = {key: ends for key, ends in row.intervals.items() if _finite(ends)}
    row = replace(
        row, made=made(benchmark, benchmark.subjects.get(row.name), row.notes), figures=figures, intervals=intervals
    )
    base = own() / folder_of(benchmark)
    try:
        text = json.dumps(_plain(row), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        packed = _packed(row, sheets)
        (base / f"{key}.json").unlink(missing_ok=True)  # or a kill leaves old figures beside new samples
        atomic_write(base / f"{key}.npz", packed)
        atomic_write(base / f"{key}.json", text)
    except (OSError, ValueError) as error:  # a full disk; a strip too long for WebP
        log.warning("the row of %s is not kept: %s", row.name, error)
    return row


def _finite(value: Any) -> bool:
    numbers = value if isinstance(value, Sequence) else [value]
    return all(math.isfinite(number) for number in numbers if isinstance(number, float))


def _plain(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _FIELDS}


def _packed(row: Row, sheets: Sequence[Sheet]) -> bytes:
    numbers = {"samples": row.samples, "probes": row.probes}
    arrays = {
        f"{kind}/{key}": np.asarray(value, np.float32)
        for kind, found in numbers.items()
        for key, value in found.items()
    }
    index = []
    for number, sheet in enumerate(sheets):
        labels = [label for label, _ in sheet.rows]
        index.append({"title": sheet.title, "caption": sheet.caption, "labels": labels})
        for line, (_, images) in enumerate(sheet.rows):
            arrays[f"pictures/{number}/{line}"] = np.frombuffer(_encoded(images), np.uint8)
    arrays["sheets"] = np.frombuffer(json.dumps(index, ensure_ascii=False).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _encoded(images: Tensor) -> bytes:
    """Images (N, 3, S, S) in [0, 1] below each other, as WebP."""
    pixels = images.mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).flatten(0, 1).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=90, method=6)
    return buffer.getvalue()


def _read(path: Path, benchmark: Benchmark, name: str | None) -> tuple[Row, list[Sheet]]:
    values = from_json(path.read_text("utf-8"), str(path))
    _refuse_odd(values, benchmark)
    data = path.with_suffix(".npz")
    with zipfile.ZipFile(data) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MOST:
            raise ConfigError("its pictures are too large")
    with np.load(data, allow_pickle=False) as arrays:
        samples, probes = (
            {key.partition("/")[2]: _samples(arrays[key]) for key in arrays if key.startswith(f"{kind}/")}
            for kind in ("samples", "probes")
        )
        sheets = []
        for i, sheet in enumerate(from_json(arrays["sheets"].tobytes().decode(), str(data))):
            title, caption, labels = sheet["title"], sheet["caption"], sheet["labels"]
            if not labels or not all(isinstance(text, str) for text in (title, caption, *labels)):
                raise ConfigError("its pictures have no names")
            strips = [(label, _decoded(arrays[f"pictures/{i}/{line}"])) for line, label in enumerate(labels)]
            sheets.append(Sheet(title, caption, strips))
    intervals = {key: (low, high) for key, (low, high) in values["intervals"].items()}
    own = {"name": name or values["name"], "intervals": intervals, "samples": samples, "probes": probes}
    return Row(**{**values, **own}), sheets


def _refuse_odd(values: Any, benchmark: Benchmark) -> None:
    """Refuse what `keep` has not written for this benchmark: tables and pages rely on the types of a row."""
    if not isinstance(values, Mapping) or set(values) != set(_FIELDS):
        raise ConfigError("it is no row")
    if values["protocol"] != benchmark.protocol:
        raise ConfigError("it is a row of another protocol")
    figures, made, ends = values["figures"], values["made"], values["intervals"]
    parts = {key: value if isinstance(value, list) else [value] for key, value in figures.items() if value is not None}
    printed = {key for column in benchmark.columns if column.form for key in (column.key, column.spread)}
    shown = [part for key in parts for part in parts[key] if key in printed or not isinstance(part, str)]
    numbers = [*shown, *(end for pair in ends.values() for end in pair)]
    words = [values["name"], *values["notes"], *made, *made.values()]
    fits = (
        values["kind"] in get_args(Kind)
        and isinstance(values["notes"], list)
        and not set(figures) & set(_FIELDS)
        and all(map(_is_number, [values["n"], *numbers]))
        and (values["seconds"] is None or _is_number(values["seconds"]))
        and all(low <= high for low, high in ends.values())
        and all(isinstance(word, str) for word in words)
    )
    if not fits:
        raise ConfigError("its values are not those of a row")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _samples(values: np.ndarray) -> np.ndarray:
    if values.shape[1:] not in ((), (2,)) or values.ndim == 0 or values.size > _MOST_SAMPLES:
        raise ConfigError("its samples are not those of a row")
    return values.astype(np.float64)


def _decoded(data: np.ndarray) -> Tensor:
    with Image.open(io.BytesIO(data.tobytes()), formats=["WEBP"]) as image:
        if image.width * image.height > _MOST_PIXELS:
            raise ConfigError("its pictures are too large")
        pixels = torch.from_numpy(np.array(image.convert("RGB")))
    side = pixels.shape[1]
    return pixels.view(-1, side, side, 3).permute(0, 3, 1, 2).float() / 255
