"""Shape apart from pose on the embedded heads, for predictions of depth and for what generators make."""

import html
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from ...generators.base import DepthPredictor, Generator
from ...geometry import continued, points_to_normal
from ...heads.dataset import HeadDataset
from ...heads.views import backproject
from ...metrics.inception import available
from ...output.strips import Sheet, model_sheets, test_sheet
from ...probes.depth import Pairs, average_depth, render_pairs
from ...probes.supervised import load_supervised
from ...runtime.progress import Steps
from ..benchmark import Benchmark, Column, Figure, Options, Pictures, Row, Subject
from ..depth.benchmark import need_depth
from ..shape.generated import DRAWS, generated_figures
from ..shape.predicted import EYES, Reader, Reading, errors, reader_of
from ..shape.protocol import ShapeProtocol
from ..shape.reals import Reals
from ..shape.truth import CONDITIONS, Truth, plain_view
from ..statistics import NO_PROBES, figure, interval, ranks

SETTINGS = {
    "split=WORD": "sealed for results, or val while something is chosen; default sealed",
    "n_test=N": "number of test heads in each condition",
    "n_pairs=N": "number of training pairs of a generator's probes",
    "n_shapes=N": "number of samples whose shapes are compared with real heads",
    "n_pictures=N": "number of samples whose pictures are compared with real heads",
}
MEAN, REAL = "mean shape", "real heads"
_SHOWN = 8
_PREDICTED = ("SIDE", "MAD", "pose", "shape", "normals", "albedo", "relit", "R2")
_GENERATED = ("shape_FD", "coverage", "density", "spread", "FID", "KID", "precision", "recall")
_TURNED = ("consistency", "depth_consistency", "own_normals")


@dataclass(frozen=True)
class HeadsV2(Benchmark):
    """Two conditions, pose apart from shape, and generators by what they make.

    Attributes:
        rules: The numbers that fix the test.
        subjects: Maps row names to generators, functions and baselines.
        options: How it was opened.
    """

    title = "Shape and pose"
    weights = "*.heads*"
    baselines: ClassVar[tuple[str, ...]] = ("constant", "average", MEAN, "supervised", REAL)
    unseeded = baselines  # the probe of supervised is shipped
    bar = "R2"
    bar_caption = (
        "Bars show R2 where it is above 0. After the plus-minus sign stands half of the 95 % interval, which the "
        "protocol explains."
    )
    extras: ClassVar[Mapping[str, Callable[[], bool]]] = {"fid": available}
    columns = (
        Column("R2", "R2 person", better="higher", form=".2f"),
        Column("rank", "Rank", form=""),
        Column("pose", "Pose", "°", better="lower", form=".2f"),
        Column("shape", "Shape", "%", better="lower", form=".2f"),
        Column("normals", "Normals", "°", better="lower", form=".1f", main=False),
        Column("SIDE", "SIDE", "×10⁻²", better="lower", form=".3f"),
        Column("MAD", "MAD", "°", better="lower", form=".1f"),
        Column("albedo", "Albedo", better="lower", form=".3f", main=False),
        Column("relit", "Relit", better="lower", form=".3f", main=False),
        Column("R2_wild", "R2 wild", better="higher", form=".2f"),
        Column("pose_wild", "Pose wild", "°", better="lower", form=".2f", main=False),
        Column("shape_wild", "Shape wild", "%", better="lower", form=".2f", main=False),
        Column("normals_wild", "Normals wild", "°", better="lower", form=".1f", main=False),
        Column("SIDE_wild", "SIDE wild", "×10⁻²", better="lower", form=".3f", main=False),
        Column("MAD_wild", "MAD wild", "°", better="lower", form=".1f", main=False),
        Column("albedo_wild", "Albedo wild", better="lower", form=".3f", main=False),
        Column("relit_wild", "Relit wild", better="lower", form=".3f", main=False),
        Column("shape_FD", "Shape FD", better="lower", form=".2f"),
        Column("coverage", "Coverage", better="higher", form=".2f"),
        Column("density", "Density", better="higher", form=".2f", main=False),
        Column("spread", "Spread", form=".2f", main=False),
        Column("KID", "KID", "×10⁻³", better="lower", form=".1f"),
        Column("FID", "FID", better="lower", form=".1f", main=False),
        Column("precision", "Precision", better="higher", form=".2f", main=False),
        Column("recall", "Recall", better="higher", form=".2f", main=False),
        Column("consistency", "Consistency", "×10⁻²", better="lower", form=".2f"),
        Column("depth_consistency", "Depth consistency", "×10⁻³", better="lower", form=".2f", main=False),
        Column("own_normals", "Own normals", "°", better="lower", form=".1f", main=False),
        Column("n", "Heads", form=".0f", main=False),
        Column("seconds", "Seconds", form=".0f", main=False),
    )

    rules: ShapeProtocol
    subjects: Mapping[str, Subject]
    options: Options

    @classmethod
    def open(cls, subjects: Mapping[str, Subject], options: Options) -> Self:
        need_depth(subjects)
        rules = ShapeProtocol().quick() if options.quick else ShapeProtocol()
        return cls(rules.but(**options.settings), subjects, options)

    @classmethod
    def suits(cls, method: type[Generator]) -> bool:
        return method.is_3d  # pictures alone have no shape

    @property
    def protocol(self) -> str:
        return self.rules.name

    @property
    def data(self) -> str | None:
        return ""

    @cached_property
    def truths(self) -> dict[str, Truth]:
        """The test heads in each condition."""
        rules = self.rules
        return {name: Truth.open(rules.split, name, rules.n_test, rules.size) for name in CONDITIONS}

    @cached_property
    def reals(self) -> Reals:
        """The real heads with which samples are compared."""
        return Reals(self.rules)

    def row(self, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        start = time.perf_counter()
        figures: dict[str, Figure] = dict.fromkeys(
            [key + tail for key in _PREDICTED for tail in ("", "_wild")] + [*_GENERATED, *_TURNED, "rank"]
        )
        samples: dict[str, np.ndarray] = {}
        probes: dict[str, np.ndarray] = {}
        intervals: dict[str, tuple[float, float]] = {}
        notes: list[str] = []
        shown: Tensor | None = None
        pictures: Tensor | None = None
        if subject != REAL:
            readers, pictures = self._readers(subject, steps)
            for condition, truth in self.truths.items():
                tail = "" if condition == "plain" else f"_{condition}"
                with steps.task(f"reading {condition} heads", len(readers)) as advance:
                    found, reading = self._errors(readers, truth, advance)
                shown = reading.depth if condition == "plain" else shown
                kept = self._kept(found)
                if skipped := int((~kept).sum()):
                    notes.append(f"{skipped} {condition} head{'s' * (skipped > 1)} without a place skipped")
                for key, values in found.items():  # people keep their places, so that rows compare in pairs
                    values[:, ~kept] = np.nan
                    samples[key + tail] = mean = values.mean(0)
                    if kept.sum() > 1:
                        each = np.array([figure(one) for one in values]) if len(values) > 1 else NO_PROBES
                        figures[key + tail], intervals[key + tail] = figure(mean), interval(mean, each)
                        if len(each):
                            probes[key + tail] = each
        if subject == REAL or isinstance(subject, Generator):
            generator = subject if isinstance(subject, Generator) else None
            made, spans = generated_figures(generator, self.reals, steps, self.options.seed, pictures)
            figures |= made
            intervals |= spans
            if not available():
                notes.append("KID, FID, precision and recall are not measured: they need zoo3d[fid]")
        row = Row(
            name=name,
            kind="baseline" if isinstance(subject, str) else "model",
            protocol=self.protocol,
            n=self.rules.n_test,
            figures=figures,
            seconds=round(time.perf_counter() - start, 2),
            notes=notes,
            intervals=intervals,
            samples=samples,
            probes=probes,
        )
        return row, lambda: self._sheets(subject, shown)

    @staticmethod
    def _kept(found: Mapping[str, np.ndarray]) -> np.ndarray:
        """The people (N,) of whom every reader has all errors."""
        whole = [np.isfinite(values).reshape(*values.shape[:2], -1).all((0, 2)) for values in found.values()]
        return np.asarray(np.all(whole, 0))

    def _errors(
        self, readers: Sequence[Reader], truth: Truth, advance: Callable[[int], None]
    ) -> tuple[dict[str, np.ndarray], Reading]:
        """Errors of each head by each of P readers, (P, N) and of R2 (P, N, 2), and what the first one reads."""
        first, all_found = None, list[dict[str, Tensor]]()
        mean = (100 / EYES * truth.mean_errors).square()
        for reader in readers:
            reading = reader(truth.image)
            first = first or reading
            found = errors(reading, truth)
            all_found.append({**found, "R2": torch.stack([found["shape"].square(), mean], 1)})
            advance(1)
        assert first is not None
        stacked = {key: torch.stack([found[key] for found in all_found]).double().numpy() for key in all_found[0]}
        return stacked, first

    def _readers(self, subject: Subject, steps: Steps) -> tuple[list[Reader], Tensor | None]:
        """What reads depth off pictures, and the pictures it has learned from.

        That is the method itself, or probes that have learned from its renderings.
        """
        rules = self.rules
        if isinstance(subject, str):
            return [self._baseline(subject)], None
        if isinstance(subject, DepthPredictor) or not isinstance(subject, Generator):
            assert callable(subject)
            return [reader_of(subject)], None
        from ...probes.training import train_probe  # with Lightning, which rows from disk do not need

        with steps.task("rendering pairs", rules.n_pairs) as advance:
            pairs = render_pairs(subject, rules.n_pairs, size=rules.size, seed=self.options.seed, advance=advance)
        held = len(pairs) // 10
        readers = []
        for probe in range(rules.probes):
            with steps.task(f"training probe {probe + 1} of {rules.probes}", rules.steps) as advance:
                trained = train_probe(
                    pairs[: len(pairs) - held],
                    held_back=pairs[len(pairs) - held :],
                    steps=rules.steps,
                    batch_size=rules.batch_size,
                    nf=rules.width,
                    seed=self.options.seed + probe,
                    advance=advance,
                )
            readers.append(reader_of(trained.predict))
        return readers, pairs.image

    def _baseline(self, name: str) -> Reader:
        if name == "constant":
            return lambda images: Reading(torch.ones_like(images[:, :1]))
        if name == "supervised":
            return reader_of(load_supervised().predict)
        if name == MEAN:
            return self._mean_shape
        heads = HeadDataset("train", self.rules.size, self.rules.n_pairs)
        items = heads.batch(list(range(len(heads))))
        average = average_depth(Pairs(items["image"], items["depth"], items["mask"] > 0.5))
        return lambda images: Reading(average.expand(len(images), -1, -1, -1))

    def _mean_shape(self, images: Tensor) -> Reading:
        (truth,) = (truth for truth in self.truths.values() if truth.image is images)
        depth = continued(-truth.mean.points[:, 2:], truth.mean.mask)
        return Reading(depth, view=truth.view, valid=truth.mean.mask)

    def _sheets(self, subject: Subject, depth: Tensor | None) -> list[Sheet]:
        made = model_sheets(subject, size=self.rules.size, psi=1.0) if isinstance(subject, Generator) else []
        if depth is None:
            return made
        truth, n = self.truths["plain"], min(_SHOWN, self.rules.n_test)
        test = Pairs(truth.image[:n], truth.depth[:n], truth.depth[:n] > 0)
        plain = plain_view(n)
        normals = points_to_normal(backproject(depth[:n], plain))
        return [*made, test_sheet(test, depth[:n], truth.surface.normals[:n], normals)]

    def ranked(self, rows: Sequence[Row]) -> list[Row]:
        models = [row for row in rows if row.kind == "model" and "R2" in row.samples]
        probes = {row.name: row.probes["R2"] for row in models if "R2" in row.probes}
        places = ranks({row.name: row.samples["R2"] for row in models}, "higher", probes)
        out = []
        for row in rows:
            first, last = places.get(row.name, (0, 0))
            rank = f"{first}" if first == last else f"{first} to {last}"
            out.append(replace(row, figures={**row.figures, "rank": rank if first else None}))
        return out

    def words(self) -> list[str]:
        rules = self.rules
        return [
            f"{rules.n_test} heads of the split {rules.split!r} at {rules.size} px, each once in the condition "
            "plain (a black background, the light and the camera of training) and once in the condition wild "
            "(backgrounds, gloss, skies and shadows, another field of view, enlarged, moved, compressed). No head"
            " is seen in training.",
            "Predicted depth is back-projected by the plain camera and brought to the true surface by the "
            "similarity that fits best. Pose is the angle of its rotation; shape is the root mean square distance "
            "of true points from the nearest of the surface in place, in per cent of the distance between the eyes;"
            " normals is the mean angle that is left there. R2 is 1 - sum e² / sum e², where e below is what is left"
            " of the mean head at the true pose: above 0, a method knows something about this person; 1 is the truth. "
            "Albedo is the root mean square error up to a factor for each channel; relit is that of the picture "
            "under three other lights.",
            "SIDE and MAD are by the letter of heads-v1, where nothing is aligned: pose moves them more than the "
            "person does.",
            "A method with a depth network of its own is scored directly. Any other is scored through depth "
            f"probes: Unsup3D's encoder-decoder at width {rules.width}, at most {rules.steps} steps of "
            f"{rules.batch_size} on {rules.n_pairs} pairs that the method renders from its priors (psi 1), until "
            f"the tenth of them that is held back gets no better. Figures are means over {rules.probes} probes "
            "with different seeds.",
            f"Shape FD is the Fréchet distance between the shapes of {rules.n_shapes} samples (psi 1, from the "
            "front) and of as many real heads, in the space of the first 30 principal components of "
            f"{rules.n_real} others and what is left over; coverage and density are those of Naeem et al. (2020) "
            "there, spread is the ratio of the root mean square distances from the mean. KID and FID compare "
            f"{rules.n_pictures} pictures of both (InceptionV3, with zoo3d[fid]). Consistency is the difference "
            f"of colour, and of depth, where two views of each of {rules.n_turned} samples show the same point; "
            "own normals is the angle between a method's normals and those of its depth.",
            "Intervals of predictions, of R2 to relit, are 95 % percentile intervals of a bootstrap over people (2,000 "
            "draws, the same for all rows), widened by the spread of the probes (Student's distribution). A method is "
            "ranked before another where the interval of their difference leaves 0. Intervals of what generators make "
            f"know neither people nor probes: those of shape FD, coverage, density and spread are from {DRAWS} draws "
            f"of the samples, centred on the figure; those of consistency and own normals over the {rules.n_turned} "
            "samples; that of KID is 1.96 standard errors to either side. FID, precision and recall have none.",
            "Baselines: constant (a flat map), average (the mean true depth of training images, pixel by pixel), "
            "mean shape (the mean head at the true pose: it knows the pose and nobody's face), supervised (a "
            "probe trained on true depth until it got no better), real heads (held-out heads in place of "
            "samples).",
        ]

    def lead(self, rows: Sequence[Row]) -> str:
        models = [row for row in rows if row.kind == "model" and "R2" in row.intervals]
        if not models:
            return "Baselines only: no model was scored."
        known = [html.escape(row.name) for row in models if row.intervals["R2"][0] > 0]
        pose = [html.escape(row.name) for row in models if row.intervals["R2"][1] < 0]
        said = [f"Know something of the person (R2 above 0): <strong>{', '.join(known) or 'none'}</strong>."]
        if pose:
            said.append(f"Know no more of it than the mean head does, or less: {', '.join(pose)}.")
        return " ".join(said)
