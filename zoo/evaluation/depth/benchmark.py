"""Whatever predicts depth from images, scored against true depth under one protocol.

A method with a depth network of its own is scored directly, any other through a probe that learns from its renderings.
"""

import html
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ...generators.base import DepthPredictor, Generator
from ...metrics import evaluation_mask
from ...output.strips import Sheet, model_sheets, test_sheet
from ...probes.depth import DepthProbe, Pairs, average_depth, render_pairs
from ...runtime.progress import Steps
from ..benchmark import Benchmark, Column, Options, Pictures, Row, Subject
from .protocol import DepthMetric, DepthProtocol, Scored

Predictor = Callable[[Tensor], Tensor]  # images (N, 3, S, S) in [-1, 1] to depth (N, 1, S, S)
METRICS = [
    "zoo.evaluation.depth.accuracy:Accuracy",
    "zoo.evaluation.depth.surface:Surfaces",
]
SHOWN = 8  # test images on the page


@dataclass(frozen=True)
class DepthBenchmark(Benchmark):
    """A protocol with its images.

    Attributes:
        rules: The numbers that fix the test.
        subjects: Maps row names to generators, functions and baselines.
        options: How it was opened.
    """

    title = "Shape from images"
    baselines: ClassVar[tuple[str, ...]] = ("constant", "average", "supervised")
    unseeded: ClassVar[tuple[str, ...]] = ("constant", "average")
    bar = "SIDE"
    bar_caption = "Bars show SIDE. Values are means ± standard deviation over test images."
    standard: ClassVar[DepthProtocol]  # the protocol without any departure

    rules: DepthProtocol
    subjects: Mapping[str, Subject]
    options: Options

    @classmethod
    def open(cls, subjects: Mapping[str, Subject], options: Options) -> Self:
        need_depth(subjects)
        numbers = {key: value for key, value in options.settings.items() if key in ("n_test", "n_pairs")}
        rules = cls.standard.quick() if options.quick else cls.standard
        return cls(rules.but(**numbers), subjects, options)

    @classmethod
    def suits(cls, method: type[Generator]) -> bool:
        return method.is_3d  # a picture has no depth to score

    @abstractmethod
    def true_pairs(self, split: str, n: int) -> Pairs:
        """True depth for `n` images of a split, or for all if there are fewer."""

    @property
    def protocol(self) -> str:
        return self.rules.name

    @cached_property
    def test(self) -> Pairs:
        """The test images."""
        return self.true_pairs("test", self.rules.n_test)

    @cached_property
    def train_pairs(self) -> Pairs:
        """True pairs of the train split, for the baselines."""
        return self.true_pairs("train", self.rules.n_pairs)

    @cached_property
    def metrics(self) -> list[DepthMetric]:
        """One of each of `METRICS`."""
        places = (target.split(":") for target in METRICS)
        return [getattr(import_module(module), name)() for module, name in places]

    @property
    def columns(self) -> Sequence[Column]:
        own = [column for metric in self.metrics for column in metric.columns]
        return [*own, Column("n", "Images", form=".0f"), Column("seconds", "Seconds", form=".0f")]

    def row(self, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        start = time.perf_counter()
        depth = self.depth(subject, steps)
        scored = Scored(subject, depth, self.test, self.rules, self.options.seed, steps)
        figures: dict[str, Any] = {}
        for metric in self.metrics:
            figures |= dict.fromkeys(metric.keys) | metric.measure(scored)
        n = self.counted
        empty = len(self.test) - n
        notes = [f"{empty} test images without foreground skipped"] if empty else []
        if self.unread:
            notes.append(f"{len(self.unread)} unreadable images skipped: {', '.join(self.unread)}")
        row = Row(
            name=name,
            kind="baseline" if isinstance(subject, str) else "model",
            protocol=self.protocol,
            n=n,
            figures=figures,
            seconds=round(time.perf_counter() - start, 2),
            notes=notes,
        )
        return row, lambda: self.sheets(subject, depth)

    @cached_property
    def unread(self) -> list[str]:
        """Names of the images that could not be read and were passed over; filled by `true_pairs`."""
        return []

    @cached_property
    def counted(self) -> int:
        """Number of test images that show foreground."""
        return int(evaluation_mask(self.test.mask).flatten(1).any(1).sum())

    def sheets(self, subject: Subject, depth: Tensor) -> list[Sheet]:
        """Pictures of a model, and of the depth (N, 1, S, S) that the first test images were given."""
        models = model_sheets(subject, size=self.rules.size) if isinstance(subject, Generator) else []
        return [*models, self.test_sheet(depth, SHOWN)]

    def test_sheet(self, depth: Tensor, n: int) -> Sheet:
        """The first `n` test images with recovered and true shape."""
        shown, normals = self.test[:n], self.rules.normals
        return test_sheet(shown, depth[:n], normals(shown.depth), normals(depth[:n]))

    def depth(self, subject: Subject, steps: Steps) -> Tensor:
        """What a subject predicts for the test images: by itself, by its own depth network, or by a probe."""
        return self.predictor(subject, steps)(self.test.image)

    def predictor(self, subject: Subject, steps: Steps) -> Predictor:
        """What maps images to depth."""
        if isinstance(subject, str):
            return self._baseline(subject, steps)
        if isinstance(subject, DepthPredictor):
            return subject.predict_depth
        if not isinstance(subject, Generator):
            assert callable(subject)
            return subject
        rules, seed = self.rules, self.options.seed
        with steps.task("rendering pairs", rules.n_pairs) as advance:
            pairs = render_pairs(subject, rules.n_pairs, size=rules.size, seed=seed, advance=advance)
        return self._probe(pairs, steps).predict

    def _probe(self, pairs: Pairs, steps: Steps) -> DepthProbe:
        from ...probes.training import train_probe  # with Lightning, which rows from disk do not need

        rules = self.rules
        with steps.task("training the depth probe", rules.steps) as advance:
            return train_probe(
                pairs,
                steps=rules.steps,
                batch_size=rules.batch_size,
                nf=rules.width,
                seed=self.options.seed,
                advance=advance,
            )

    def _baseline(self, name: str, steps: Steps) -> Predictor:
        if name == "constant":
            return lambda images: torch.ones_like(images[:, :1])
        if name == "supervised":
            return self._probe(self.train_pairs, steps).predict
        mean = average_depth(self.train_pairs)
        return lambda images: mean.expand(len(images), -1, -1, -1)

    def words(self) -> list[str]:
        rules = self.rules
        test = (
            f"{rules.n_test} test images of {rules.size} x {rules.size} px in their natural pose distribution; none of "
            "them is seen in training."
        )
        probe = (
            "A method with a depth network of its own is scored directly. Any other is scored through a depth probe: "
            f"Unsup3D's encoder-decoder at width {rules.width}, trained for {rules.steps} steps of {rules.batch_size} "
            f"on {rules.n_pairs} pairs of image and depth that the method renders from its priors (psi 1), with L1 on "
            "depth normalised to its range, where opacity exceeds 0.5. It gives the difference from the average depth "
            "of those pairs. Mirroring and jitter of brightness, contrast and sharpness are the same for all."
        )
        baselines = (
            "Baselines: constant (a flat depth map), average (pixel by pixel, the mean true depth of the training "
            "images that show foreground there), supervised (the probe trained on as many true pairs)."
        )
        return [test, *(text for metric in self.metrics for text in metric.words(rules)), probe, baselines]

    def lead(self, rows: Sequence[Row]) -> str:
        models = [row.as_dict() for row in rows if row.kind == "model" and row.figures.get("SIDE") is not None]
        if not models:
            return "Baselines only: no model was scored."
        best = min(models, key=lambda row: row["SIDE"])
        return (
            f"Lowest depth error of {len(models)} model{'s' * (len(models) > 1)}: "
            f"<strong>{html.escape(best['name'])}</strong> with SIDE {best['SIDE']:.3f}×10⁻² and MAD "
            f"{best['MAD']:.2f}° on {best['n']} test images. Lower is better for both."
        )


def need_depth(subjects: Mapping[str, Subject]) -> None:
    """Refuse generators that make pictures only.

    Raises:
        ConfigError: One of the subjects has no depth.
    """
    for subject in subjects.values():
        if isinstance(subject, Generator):
            subject.need_3d("depth to score")


def spread(length: int, n: int) -> list[int]:
    """`n` indices of a data set, evenly spaced; all of them if there are fewer."""
    return torch.linspace(0, length - 1, min(n, length)).round().long().tolist()


def pairs_of(items: Sequence[Mapping[str, Any]]) -> Pairs:
    """Items of a data set with depth as one batch."""
    batch = default_collate(list(items))
    return Pairs(batch["image"], batch["depth"], batch["mask"] > 0.5)
