"""Folders of zoo run over the same pictures, side by side: shape after each stage.

This compares switches (initial shape, symmetry, stages). Each run was scored while it was fitted.
"""

import hashlib
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, cast

import torch

from ...data.synface import SynfaceDataset
from ...errors import ConfigError, WeightsError
from ...fitting.runs import FinishedRun, alike, stage_means
from ...generators.base import Generator
from ...output.strips import Sheet
from ...probes.depth import Pairs
from ...runtime.progress import Steps
from ..benchmark import Column, Kind, Options, Pictures, Row, Subject
from ..depth.accuracy import Accuracy
from ..depth.benchmark import need_depth, pairs_of, spread
from ..depth.protocol import Scored
from ..store import digest_of, key_of
from .bfm import BFM
from .heads import Heads

SETTINGS = {
    "n_pairs=N": "number of training pairs",
    "data.root=DIR": "folder or zip of runs over bfm:0-19, whose train split gives the row average",
}
SHOWN = 6
_LONGEST = 60  # characters of a changed setting


@dataclass(frozen=True)
class Instances(Heads):
    """Runs beside each other, and beside the average depth and models on the same pictures.

    Attributes:
        pictures: What all runs were fitted to, with true depth.
        on_bfm: Whether they are of a folder in the layout of synface, and not embedded heads.
    """

    title = "Shape of single pictures"
    baselines = ("average",)
    takes_runs = True
    bar_caption = "Bars show the last SIDE."
    standard = replace(Heads.standard, name="instances-v1")
    columns = (
        Column("SIDE", "SIDE by stage", "×10⁻²", better="lower", spread="SIDE_error"),
        Column("MAD", "MAD by stage", "°", better="lower", form=".2f"),
        Column("SIDE_change", "Change of SIDE", form="+.3f", spread="SIDE_change_error"),
        Column("n", "Pictures", form=".0f"),
        Column("seconds", "Seconds each", form=".0f"),
    )

    pictures: Pairs
    on_bfm: bool = False

    @classmethod
    def open(cls, subjects: Mapping[str, Subject], options: Options) -> Self:
        """Read the pictures of the runs.

        Raises:
            ConfigError: No run; pictures without true depth; runs over different pictures; a model without depth; a
                folder that is needed and not given.
            WeightsError: Files are damaged.
        """
        need_depth(subjects)
        runs = {name: subject for name, subject in subjects.items() if isinstance(subject, FinishedRun)}
        pictures = _pairs(list(runs.values()))
        first = next(iter(runs.values()))
        on_bfm = first.pictures[0].name.startswith("bfm")
        if on_bfm and "average" in subjects and not options.settings.get("data_root"):
            raise ConfigError(f"{first.folder}: give data.root=DIR, the folder of its bfm:..., for the row average")
        standard = replace(BFM.standard, name="instances-bfm-v1") if on_bfm else cls.standard
        rules = standard.quick() if options.quick else standard
        numbers = {key: value for key, value in options.settings.items() if key == "n_pairs"}
        rules = rules.but(**numbers, size=pictures.image.shape[-1])
        others = {name: subject for name, subject in subjects.items() if name not in runs}
        return cls(replace(rules, n_test=len(pictures)), others | runs, options, pictures, on_bfm)

    @cached_property
    def data(self) -> str | None:
        """Digits of the pictures, of the first run, and of the folder from which the row average comes."""
        root = self.options.settings.get("data_root")
        digest = hashlib.sha256(f"{key_of(self._first, 0)} {digest_of(root) if root else None}".encode())
        for maps in (self.pictures.image, self.pictures.depth, self.pictures.mask):
            digest.update(maps.contiguous().numpy().tobytes())
        return digest.hexdigest()[:8]

    @classmethod
    def suits(cls, method: type[Generator]) -> bool:
        return False  # runs are on the user's disk, and weights alone are no comparison of runs

    def true_pairs(self, split: str, n: int) -> Pairs:
        if split == "test":
            return self.pictures
        if not self.on_bfm:
            return super().true_pairs(split, n)
        images = SynfaceDataset(self.options.settings["data_root"], split=split, size=self.rules.size)
        return pairs_of(images.items(spread(len(images), n)))

    @property
    def _first(self) -> FinishedRun:
        return next(subject for subject in self.subjects.values() if isinstance(subject, FinishedRun))

    def row(self, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        """Measure a model or a run.

        The row of a run has means over its pictures after each stage, the initial shape first, with the standard error
        of the last mean and of its difference from the first run. SIDE is in units of 1e-2, MAD in degrees, and
        seconds are per picture.
        """
        if isinstance(subject, FinishedRun):
            return self._fitted(name, subject), lambda: [self._stages(subject)]
        depth = self.depth(subject, steps)
        found = Accuracy().measure(Scored(subject, depth, self.test, self.rules, self.options.seed, steps))
        side, spread, n = found["SIDE"], cast(float, found["SIDE_std"]), self.counted
        figures = self._figures(
            SIDE=[side], MAD=[found["MAD"]], SIDE_error=spread / math.sqrt(n - 1) if n > 1 else None
        )
        kind: Kind = "baseline" if isinstance(subject, str) else "model"
        return Row(name, kind, self.protocol, n, figures), lambda: [self.test_sheet(depth, SHOWN)]

    @staticmethod
    def _figures(**known: Any) -> dict[str, Any]:
        return {"SIDE_change": None, "SIDE_change_error": None, "changed": []} | known

    def _fitted(self, name: str, run: FinishedRun) -> Row:
        last, reference = ([picture.SIDE[-1] for picture in r.pictures] for r in (run, self._first))
        figures = self._figures(
            SIDE=stage_means(picture.SIDE for picture in run.pictures),
            MAD=stage_means(picture.MAD for picture in run.pictures),
            SIDE_error=_standard_error(last),
            changed=changes(self._first.settings, run.settings),
        )
        if run is not self._first:
            change = [ours - theirs for ours, theirs in zip(last, reference, strict=True)]
            figures |= {"SIDE_change": statistics.fmean(change), "SIDE_change_error": _standard_error(change)}
        seconds = statistics.fmean(picture.seconds for picture in run.pictures)
        return Row(name, "model", self.protocol, len(last), figures, seconds, figures["changed"])

    def _stages(self, run: FinishedRun) -> Sheet:
        depths = [picture.depths(self.rules.size) for picture in run.pictures[:SHOWN]]
        initial, final = (torch.cat([stages[at][None] for stages in depths]) for at in (0, -1))
        before, after = (self.test_sheet(depth, SHOWN) for depth in (initial, final))
        image, true_depth, *others = after.rows
        return replace(after, rows=[image, true_depth, ("initial depth", before.rows[2][1]), *others])

    def words(self) -> list[str]:
        rules = self.rules
        split, like = (
            ("test split of a synface folder", "bfm-v1") if self.on_bfm else ("embedded test split", "heads-v1")
        )
        return [
            f"The same {rules.n_test} images of the {split} at {rules.size} px. Each run was fitted to "
            "them one by one, or jointly, and scored after each stage; the first figure is the shape that it started "
            "from.",
            "SIDE is the standard deviation of log recovered depth minus log true depth; MAD is the mean angle between "
            f"the normals of both, at a field of view of {rules.fov:g} degrees. Both as in {like}: pixels of the "
            "true foreground count, eroded by one pixel. After the plus-minus sign stands the standard error of the "
            "mean of the last stage. Change is the difference from the first run at the last stage; its standard error "
            "is that of differences picture by picture.",
            f"Average is, pixel by pixel, the mean true depth of {rules.n_pairs} training images that show foreground "
            "there. Models without a depth network of their own are scored through a depth probe.",
        ]

    def lead(self, rows: Sequence[Row]) -> str:
        return (
            "How good shapes fitted to single pictures are after each stage, the initial shape first. Lower is better "
            f"for both; pictures are the first {min(SHOWN, self.rules.n_test)}."
        )


def _pairs(runs: Sequence[FinishedRun]) -> Pairs:
    """The pictures that all runs share."""
    if not runs:
        raise ConfigError("no run to compare: the benchmark instances needs a folder that zoo run has written")
    first, *others = runs
    for run in runs:
        if blind := [picture.name for picture in run.pictures if not picture.SIDE]:
            raise ConfigError(f"{run.folder}: the true depth of {blind[0]} is not known; compare runs of heads:0-19")
    subjects = [picture.subject() for picture in first.pictures]
    for run in others:
        if odd := {p.name for p in first.pictures} ^ {p.name for p in run.pictures}:
            raise ConfigError(f"{first.folder} and {run.folder}: only one has {min(odd)}; compare runs of the same")
        for picture, subject in zip(run.pictures, subjects, strict=True):
            image = picture.subject().image
            if image.shape != subject.image.shape:
                raise ConfigError(f"{first.folder} and {run.folder}: sizes differ; compare runs of one generator.size")
            if not alike(image, subject.image):
                which = f"{picture.name} is another picture there"
                raise ConfigError(f"{first.folder} and {run.folder}: {which}; compare runs of the same")
    parts = [Pairs(s.image, s.depth, s.inside) for s in subjects if s.depth is not None and s.inside is not None]
    if len(parts) < len(subjects) or len({part.image.shape for part in parts}) > 1:
        raise WeightsError(f"{first.folder}: its pictures differ in size or lack true depth; run it again")
    return Pairs.cat(parts)


def _standard_error(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def changes(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The settings that differ in `other`, as `key=value`; stages have one value each, or one if all are equal."""
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
