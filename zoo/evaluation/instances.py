"""Runs of `zoo run` over the same pictures side by side: how good the shapes are after each stage.

So switches are compared (initial shape, symmetry, stages), each run being scored as it went along.
"""

import json
import math
import shlex
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ..errors import ConfigError, WeightsError
from ..fitting.runs import FinishedRun, labels, stage_means
from ..generators.base import Generator
from ..output.strips import Sheet, test_sheet
from ..probes.depth import Pairs
from ..runtime.progress import keeping
from .depth import Benchmark, Protocol, Row, Subject, protocol

SHOWN = 6
_LONGEST = 60  # characters of a changed setting


@dataclass(frozen=True)
class InstanceRow:
    """One line of the table.

    Attributes:
        name: of the run's folder, of a model or a baseline.
        SIDE, MAD: means over pictures in units of 1e-2 and degrees; of a run after each stage, its initial shape first.
        SIDE_error: standard error of the last SIDE; None for a single picture.
        SIDE_change: last SIDE minus that of the first run, and the standard error of this difference, picture by
            picture; None for other rows, and for the error of a single picture.
        n: pictures.
        protocol: its name.
        kind: "baseline" or "model".
        seconds: for each picture of a run; else None.
        changed: settings that differ from those of the first run.
    """

    name: str
    SIDE: list[float]
    MAD: list[float]
    SIDE_error: float | None
    n: int
    protocol: str
    kind: Literal["baseline", "model"]
    SIDE_change: float | None = None
    SIDE_change_error: float | None = None
    seconds: float | None = None
    changed: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, object]:
        """The row as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class InstanceComparison:
    """What a report shows.

    Attributes:
        protocol: the rules of the baseline, by the name that all rows share.
        rows: the baseline, then models, then runs.
        sheets: the first pictures in every row, by its name.
        command: how to repeat it.
        complete: False after Ctrl-C, which keeps the rows that were finished.
    """

    protocol: Protocol
    rows: list[InstanceRow]
    sheets: dict[str, Sheet]
    command: str
    complete: bool = True

    def words(self) -> list[str]:
        """The protocol in sentences, for people."""
        rules = self.protocol
        return [
            f"The same {self.rows[-1].n} images of the embedded test split at {rules.size} px. Each run was fitted to "
            "them one by one, or jointly, and scored after each stage; the first figure is the shape that it started "
            "from.",
            "SIDE is the standard deviation of log recovered depth minus log true depth; MAD is the mean angle between "
            f"the normals of both, at a field of view of {rules.fov:g} degrees. Both as in heads-v1: pixels of the "
            "true foreground count, eroded by one pixel. After the plus-minus sign stands the standard error of the "
            "mean of the last stage. Change is the difference from the first run at the last stage; its standard error "
            "is that of differences picture by picture.",
            f"Average is, pixel by pixel, the mean true depth of {rules.n_pairs} training images that show foreground "
            "there. Models without a depth network of their own are scored through a depth probe.",
        ]


def compare_instances(
    runs: Sequence[FinishedRun],
    models: Mapping[str, Generator] | None = None,
    *,
    quick: bool = False,
    n_pairs: int | None = None,
    progress: bool = True,
    command: str | None = None,
) -> InstanceComparison:
    """Set runs beside each other and beside the average depth on the same pictures.

    Args:
        runs: one or more, over the same pictures, whose true depth is known.
        models: row name -> generator that is scored on those pictures, for example unsup3d.
        quick, n_pairs: of the baseline, see `protocols.protocol`.
        progress: show a progress bar.
        command: what the report calls the way to repeat it; by default this process's command line.

    Raises:
        ConfigError: no run; pictures without true depth; runs over different pictures; a name that is taken.
        WeightsError: damaged files.
    """
    names, models = labels(runs), models or {}
    if taken := {"average", *models} & set(names) | {"average"} & set(models):
        raise ConfigError(f"{min(taken)}: the name of two rows; rename the folder")
    pairs = _pairs(runs)
    size = pairs.image.shape[-1]
    rules = replace(protocol("heads", quick=quick, n_pairs=n_pairs), size=size, n_test=len(pairs))
    name = rules.name.replace("heads", "instances") + (f"/size={size}" if size != Protocol.size else "")
    opened = Benchmark(replace(rules, name=name), pairs)

    rows: list[InstanceRow] = []
    sheets, shown = {}, pairs[:SHOWN]
    truth = opened.normals(shown.depth)
    subjects: dict[str, Subject] = {"average": "average", **models}
    with keeping(rows, len(subjects) + len(runs)):
        for label, subject in subjects.items():
            row, depth = opened.row(label, subject, progress=progress)
            sheets[label] = test_sheet(shown, depth[:SHOWN], truth, opened.normals(depth[:SHOWN]))
            rows.append(_scored(row))
        for label, run in zip(names, runs, strict=True):
            depths = [picture.depths(size) for picture in run.pictures[:SHOWN]]
            initial, final = (torch.cat([stages[at][None] for stages in depths]) for at in (0, -1))
            before, after = (test_sheet(shown, depth, truth, opened.normals(depth)) for depth in (initial, final))
            image, true_depth, *others = after.rows
            sheets[label] = replace(after, rows=[image, true_depth, ("initial depth", before.rows[2][1]), *others])
            rows.append(_fitted(label, run, runs[0], name))
    command = command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return InstanceComparison(opened.protocol, rows, sheets, command, complete=len(rows) == len(subjects) + len(runs))


def _pairs(runs: Sequence[FinishedRun]) -> Pairs:
    """The pictures that all runs share."""
    if not runs:
        raise ConfigError("no run to compare; give the folders of zoo run")
    first, *others = runs
    for run in runs:
        if blind := [picture.name for picture in run.pictures if not picture.SIDE]:
            raise ConfigError(f"{run.folder}: the true depth of {blind[0]} is not known; compare runs of heads:0-19")
    subjects = [picture.subject() for picture in first.pictures]
    for run in others:
        if odd := {p.name for p in first.pictures} ^ {p.name for p in run.pictures}:
            raise ConfigError(f"{first.folder} and {run.folder}: only one has {min(odd)}; compare runs of the same")
        if run.pictures[0].subject().image.shape != subjects[0].image.shape:
            raise ConfigError(f"{first.folder} and {run.folder}: sizes differ; compare runs of one generator.size")
    parts = [Pairs(s.image, s.depth, s.inside) for s in subjects if s.depth is not None and s.inside is not None]
    if len(parts) < len(subjects) or len({part.image.shape for part in parts}) > 1:
        raise WeightsError(f"{first.folder}: its pictures differ in size or lack true depth; run it again")
    return Pairs.cat(parts)


def _scored(row: Row) -> InstanceRow:
    error = 100 * row.SIDE_std / math.sqrt(row.n - 1) if row.n > 1 else None
    return InstanceRow(row.name, [100 * row.SIDE], [row.MAD], error, row.n, row.protocol, row.kind)


def _fitted(label: str, run: FinishedRun, first: FinishedRun, rules: str) -> InstanceRow:
    last, reference = ([picture.SIDE[-1] for picture in r.pictures] for r in (run, first))
    change = [ours - theirs for ours, theirs in zip(last, reference, strict=True)]
    return InstanceRow(
        name=label,
        SIDE=stage_means(picture.SIDE for picture in run.pictures),
        MAD=stage_means(picture.MAD for picture in run.pictures),
        SIDE_error=_standard_error(last),
        n=len(last),
        protocol=rules,
        kind="model",
        SIDE_change=None if run is first else statistics.fmean(change),
        SIDE_change_error=None if run is first else _standard_error(change),
        seconds=statistics.fmean(picture.seconds for picture in run.pictures),
        changed=changes(first.settings, run.settings),
    )


def _standard_error(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def changes(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What is set otherwise in `other`, as `key=value`; of stages, one value each, or one if all are equal."""
    before = dict(_flat(first))
    return [f"{key}={value}" for key, value in _flat(other) if before.get(key) != value]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
            yield f"len({prefix}{key})", str(len(value))
            yield from _flat({k: [part.get(k) for part in value] for k in value[0]}, f"{prefix}{key}.")
        else:
            equal = isinstance(value, list) and value and all(part == value[0] for part in value)
            text = value if isinstance(value, str) else json.dumps(value[0] if equal else value)
            yield f"{prefix}{key}", text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
