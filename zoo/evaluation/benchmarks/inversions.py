"""Heads explained as photographs are, by inversion or by `zoo run`, against their true shape."""

import html
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from ...editing.inversion import invert, unless_interrupted
from ...errors import ConfigError
from ...fitting.runs import FinishedRun, alike
from ...generators.base import Generator
from ...geometry import continued
from ...output.colours import show_depth, show_image
from ...output.strips import TEST, Sheet
from ...probes.supervised import load_supervised
from ...runtime.progress import Steps
from ..benchmark import Benchmark, Column, Figure, Options, Pictures, Row, Subject
from ..departures import with_departures
from ..depth.benchmark import need_depth
from ..shape.predicted import EYES, Reading, errors
from ..shape.protocol import SPLITS
from ..shape.truth import Truth
from ..statistics import figure, interval

SETTINGS = {
    "split=WORD": "sealed for results, or val while something is chosen; default sealed",
    "n_test=N": "number of heads, each of which is inverted; default 12",
    "steps=N": "steps of each inversion at most; default 150",
}
MEAN = "mean shape"
_SHOWN = 8


@dataclass(frozen=True)
class InversionProtocol:
    """Everything a figure depends on, besides the method.

    Attributes:
        name: What is printed beside every figure; it changes whenever a number below does.
        split: "sealed" for results; "val" while something is developed or chosen.
        n_test: Number of heads, in the condition plain of heads-v2.
        steps: Number of steps of each inversion at most: what a method may spend on a picture.
        size: Image side in pixels.
    """

    name: str = "inversions-v1"
    split: str = "sealed"
    n_test: int = 12
    steps: int = 150
    size: int = 64

    @classmethod
    def of(cls, options: Options) -> Self:
        """The protocol with its departures; `quick` takes 4 heads and 20 steps.

        Raises:
            ConfigError: A number is too small, or the split is unknown.
        """
        given = options.settings
        if (split := given.get("split", cls.split)) not in SPLITS:
            raise ConfigError(f"split={split}: use {' or '.join(SPLITS)}")
        chosen = cls("inversions-v1/quick", n_test=4, steps=20) if options.quick else cls()
        return with_departures(chosen, given, {"n_test": 2})


@dataclass(frozen=True)
class Inversions(Benchmark):
    """What can be said of shape after a method has seen a picture for a while.

    Attributes:
        rules: The numbers that fix the test.
        subjects: Maps row names to generators, runs over the heads of the test, and baselines.
        options: How it was opened.
    """

    title = "Shape by inversion"
    weights = "*.heads*"
    baselines: ClassVar[tuple[str, ...]] = (MEAN, "supervised")
    unseeded = baselines
    takes_runs = True
    bar = "R2"
    bar_caption = (
        "Bars show R2 where it is above 0. After the plus-minus sign stands half of the 95 % interval over people."
    )
    columns = (
        Column("R2", "R2 person", better="higher", form=".2f"),
        Column("pose", "Pose", "°", better="lower", form=".2f"),
        Column("shape", "Shape", "%", better="lower", form=".2f"),
        Column("normals", "Normals", "°", better="lower", form=".1f"),
        Column("SIDE", "SIDE", "×10⁻²", better="lower"),
        Column("MAD", "MAD", "°", better="lower", form=".1f"),
        Column("PSNR", "PSNR", "dB", better="higher", form=".1f"),
        Column("n", "Heads", form=".0f"),
        Column("seconds", "Seconds", form=".0f"),
    )

    rules: InversionProtocol
    subjects: Mapping[str, Subject]
    options: Options

    @classmethod
    def open(cls, subjects: Mapping[str, Subject], options: Options) -> Self:
        """Fix the rules.

        Raises:
            ConfigError: A setting is out of range; a subject has no depth, or is a function, which inverts nothing.
        """
        need_depth(subjects)
        for name, subject in subjects.items():
            if not isinstance(subject, str | Generator | FinishedRun):
                raise ConfigError(f"{name}: a function cannot be inverted; score it with --benchmark heads_v2")
        return cls(InversionProtocol.of(options), subjects, options)

    @classmethod
    def suits(cls, method: type[Generator]) -> bool:
        return method.is_3d

    @property
    def protocol(self) -> str:
        return self.rules.name

    @property
    def data(self) -> str | None:
        return ""

    @cached_property
    def truth(self) -> Truth:
        """The heads of the test."""
        return Truth.open(self.rules.split, "plain", self.rules.n_test, self.rules.size)

    def row(self, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        """Invert the heads, or read them off a run, and compare shapes.

        Raises:
            ConfigError: A run is over other pictures, or of another size.
        """
        start = time.perf_counter()
        shown: list[tuple[str, Tensor]] = []
        samples: dict[str, np.ndarray] = {}
        if isinstance(subject, Generator):
            reading, pictures, psnr = self._inverted(subject, steps)
            samples["PSNR"] = psnr
            shown.append(("reconstruction", pictures[:_SHOWN]))
        elif isinstance(subject, FinishedRun):
            reading = self._fitted(subject)
        else:
            reading = self._baseline(str(subject))
        found = errors(reading, self.truth)
        mean = (100 / EYES * self.truth.mean_errors).square()
        found["R2"] = torch.stack([found["shape"].square(), mean], 1)
        samples |= {key: values.double().numpy() for key, values in found.items() if key not in ("albedo", "relit")}
        figures: dict[str, Figure] = dict.fromkeys(c.key for c in self.columns if c.key not in ("n", "seconds"))
        intervals = {}
        for key, values in samples.items():
            if np.isfinite(values.reshape(len(values), -1)).all(1).sum() > 1:
                figures[key], intervals[key] = figure(values), interval(values)
        row = Row(
            name=name,
            kind="baseline" if isinstance(subject, str) else "model",
            protocol=self.protocol,
            n=self.rules.n_test,
            figures=figures,
            seconds=round(time.perf_counter() - start, 2),
            intervals=intervals,
            samples=samples,
        )
        return row, lambda: [self._sheet(reading, shown)]

    def _inverted(self, generator: Generator, steps: Steps) -> tuple[Reading, Tensor, np.ndarray]:
        """Depth of the inversions, their pictures (N, 3, S, S) in [0, 1], and their PSNR in dB."""
        rules, depth, masks, pictures, psnr = self.rules, [], [], [], []
        with steps.task("inverting", rules.n_test) as advance:
            for image in self.truth.image.split(1):
                # The pictures are framed as training images are, so no face is searched.
                seed = self.options.seed
                made = unless_interrupted(
                    invert(generator, image, steps=rules.steps, size=rules.size, align=False, free=False, seed=seed)
                )
                render = made.render(size=rules.size).cpu()
                assert render.depth is not None
                seen = torch.ones_like(render.depth) if render.mask is None else render.mask
                masks.append(seen > 0.5)
                depth.append(continued(render.depth, masks[-1]))
                pictures.append(show_image(render.rgb))
                psnr.append(made.fit.psnr)
                advance(1)
        return Reading(torch.cat(depth), valid=torch.cat(masks)), torch.cat(pictures), np.array(psnr)

    def _fitted(self, run: FinishedRun) -> Reading:
        """Depth after the last stage of a run over the very pictures of the test, in their order."""
        rules, wanted = self.rules, f"{self.rules.split}:0-{self.rules.n_test - 1}"
        chosen = run.pictures[: rules.n_test]
        names = [f"{rules.split}{i:04d}" for i in range(rules.n_test)]
        if [picture.name for picture in chosen] != names:
            raise ConfigError(f"{run.folder}: is not over the heads of the test; fit it to {wanted}")
        images = torch.cat([picture.subject().image for picture in chosen])
        if images.shape != self.truth.image.shape or not alike(images, self.truth.image):
            raise ConfigError(f"{run.folder}: its pictures are others; fit it anew to {wanted}, at {rules.size} px")
        return Reading(torch.cat([picture.depths(rules.size)[-1:] for picture in chosen]))

    def _baseline(self, name: str) -> Reading:
        if name == "supervised":
            return Reading(load_supervised().predict(self.truth.image))
        mean = self.truth.mean
        return Reading(continued(-mean.points[:, 2:], mean.mask), view=self.truth.view, valid=mean.mask)

    def _sheet(self, reading: Reading, shown: list[tuple[str, Tensor]]) -> Sheet:
        n = min(_SHOWN, self.rules.n_test)
        truth, inside = self.truth, self.truth.depth[:n] > 0
        rows = [
            ("image", show_image(truth.image[:n])),
            ("true depth", show_depth(truth.depth[:n], inside)),
            *shown,
            ("recovered depth", show_depth(reading.depth[:n], inside)),
        ]
        return Sheet(TEST, "Depth is light where it is near.", rows)

    def words(self) -> list[str]:
        rules = self.rules
        return [
            f"The first {rules.n_test} heads of the split {rules.split!r} at {rules.size} px, as in the condition "
            "plain of heads-v2. No head is seen in training.",
            "Each picture is explained by zoo invert: the best of 128 random objects, poses and lights are refined, at "
            f"most {rules.steps} steps, among the objects that a method draws (free=False). A method with an encoder "
            "reads everything off at once, without a step. Depth is that of the object in the pose that was found. "
            "Runs are folders of zoo run over the same pictures "
            f"({rules.split}:0-{rules.n_test - 1}), with whatever they have spent; their last stage counts.",
            "Pose, shape, normals, R2 of the person, SIDE and MAD are those of heads-v2. PSNR is over the pixels that "
            "belong to the object.",
            "Baselines: mean shape (the mean head at the true pose), supervised (a probe trained on true depth).",
            f"Intervals are 95 % percentile intervals of a bootstrap over people; {rules.n_test} people are few.",
        ]

    def lead(self, rows: Sequence[Row]) -> str:
        known: dict[str, Any] = {row.name: row.figures.get("R2") for row in rows if row.kind == "model"}
        known = {name: value for name, value in known.items() if value is not None}
        if not known:
            return "Baselines only: no model was scored."
        best = max(known, key=lambda name: known[name])
        return f"Highest R2 of the person: <strong>{html.escape(best)}</strong> with {known[best]:.2f}."
