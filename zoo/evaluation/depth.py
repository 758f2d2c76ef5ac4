"""Protocols with names, and the one function that scores anything under them.

`bfm-v1` is the test of Unsup3d (Wu et al. 2020) on its `synface` images; `heads-v1` is the very same code on the
embedded heads. A figure belongs to its protocol: different protocols do not compare. SIDE and MAD are kept raw
(dimensionless, degrees); tables print SIDE times 100, as the papers do.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ..data.synface import SynfaceDataset
from ..errors import ConfigError
from ..generators.base import DepthPredictor, Generator
from ..generators.field import VolumeGenerator
from ..geometry import Camera, depth_to_normal
from ..heads.dataset import HeadDataset
from ..metrics import MAD, SIDE, evaluation_mask
from ..probes.depth import DepthProbe, Pairs, average_depth, render_pairs, train_probe
from ..runtime.memory import keep_memory
from ..runtime.progress import Steps
from .surface import surface_figures

Predictor = Callable[[Tensor], Tensor]
Subject = str | Generator | Predictor
BASELINES = ("constant", "average", "supervised")


@dataclass(frozen=True)
class Protocol:
    """Everything a figure depends on, besides the method.

    Attributes:
        name: what is printed beside every figure; changes whenever a number below does.
        fov: full angle of view in degrees used to turn depth into normals, for prediction and truth alike.
        size: image side in pixels.
        n_test: test images.
        n_pairs: training pairs, rendered by a generator or true ones for the baselines.
        steps: optimiser steps of the probe.
        batch_size: pairs in each step.
        width: width of the probe at its first level.
        n_surface: objects whose surfaces are examined.
    """

    name: str
    fov: float
    size: int = 64
    n_test: int = 500
    n_pairs: int = 1000
    steps: int = 300
    batch_size: int = 16
    width: int = 16
    n_surface: int = 64

    def words(self) -> list[str]:
        """The protocol in sentences, for people."""
        test = (
            f"{self.n_test} test images of {self.size} x {self.size} px in their natural pose distribution; none of "
            "them is seen in training."
        )
        metrics = (
            "SIDE is the standard deviation of log predicted depth minus log true depth, so a common scale is free "
            "and a shift is not. MAD is the mean angle between the normals of both depth maps, in degrees. Normals "
            "come from central differences of depth, back-projected with a field of view of "
            f"{self.fov:g} degrees, first and last pixel centre on the edge of the frustum."
        )
        masks = (
            "Only pixels of the true foreground count, eroded by one pixel. Each image gives one value; the table has "
            "the mean over images and, after the plus-minus sign, their standard deviation. Nothing is re-aligned."
        )
        probe = (
            "A method with a depth network of its own is scored directly. Any other is scored through a depth probe: "
            f"Unsup3d's encoder-decoder at width {self.width}, trained for {self.steps} steps of {self.batch_size} on "
            f"{self.n_pairs} pairs of image and depth that the method renders from its priors (psi 1), with L1 on "
            "depth normalised to its range, where opacity exceeds 0.5. It gives the difference from the average depth "
            "of those pairs. Mirroring and jitter of brightness, contrast "
            "and sharpness are the same for all."
        )
        baselines = (
            "Baselines: constant (a flat depth map), average (pixel by pixel, the mean true depth of the training "
            "images that show foreground there), supervised (the probe trained on as many true pairs: the limit of "
            "what the probe can show)."
        )
        surfaces = (
            f"Fields are examined further on {self.n_surface} objects (psi 0.7, {self.size} px): variance is the mean "
            "squared distance, in squared world units, of rendering weights from their mean along opaque rays (288 "
            "even samples); PSNR compares the volume rendering with a rendering of the surface alone, where a method "
            "makes both and rays meet a surface."
        )
        return [test, metrics, masks, probe, baselines, surfaces]


PROTOCOLS: dict[str, Protocol] = {
    "heads": Protocol("heads-v1", fov=12.0),
    "bfm": Protocol("bfm-v1", fov=10.0),
}


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: method or baseline.
        SIDE: mean scale-invariant depth error, raw; tables print it x 100.
        MAD: mean angle deviation of normals in degrees.
        n: test images behind the means.
        protocol: name of the protocol; figures of different protocols do not compare.
        kind: "baseline" or "model".
        SIDE_std, MAD_std: standard deviation over test images.
        seconds: wall time of rendering, training and testing.
        notes: what a reader must know, for example images that were skipped.
        variance: mean variance of rendering weights along rays, squared world units; None for what is not a field.
        psnr: of volume against surface rendering, dB; None where a method does not make both.
    """

    name: str
    SIDE: float
    MAD: float
    n: int
    protocol: str
    kind: Literal["baseline", "model"]
    SIDE_std: float
    MAD_std: float
    seconds: float
    notes: str = ""
    variance: float | None = None
    psnr: float | None = None

    def as_dict(self) -> dict[str, object]:
        """The row as plain values, SIDE raw."""
        return asdict(self)

    def figures(self) -> dict[str, object]:
        """The row as plain values for people and JSON: SIDE and its deviation in the papers' unit, 1e-2."""
        return self.as_dict() | {"SIDE": 100 * self.SIDE, "SIDE_std": 100 * self.SIDE_std}


def protocol(
    benchmark: str = "heads", *, quick: bool = False, n_test: int | None = None, n_pairs: int | None = None
) -> Protocol:
    """The protocol of a benchmark; any departure from it shows in the name, so that figures are not mixed.

    Args:
        benchmark: "heads" or "bfm".
        quick: fewer images, pairs and steps, for a look in seconds: `heads-v1/quick`.
        n_test: other number of test images: `heads-v1/n_test=50`.
        n_pairs: other number of training pairs: `heads-v1/n_pairs=4000`.

    Raises:
        ConfigError: the benchmark is unknown, or a number is not positive.
    """
    if benchmark not in PROTOCOLS:
        raise ConfigError(f"unknown benchmark {benchmark!r}; known: {', '.join(sorted(PROTOCOLS))}")
    chosen = PROTOCOLS[benchmark]
    if quick:
        chosen = replace(chosen, name=f"{chosen.name}/quick", n_test=200, n_pairs=300, steps=100, n_surface=8)
    for name, value in (("n_test", n_test), ("n_pairs", n_pairs)):
        if value is None or value == getattr(chosen, name):
            continue
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
        chosen = replace(chosen, name=f"{chosen.name}/{name}={value}", **{name: value})
    return chosen


@dataclass(frozen=True)
class Benchmark:
    """A protocol with its images.

    Attributes:
        protocol: the numbers that fix the test.
        test: test images with true depth and foreground.
        data_root: folder of the `bfm` images; None for the embedded heads.
        seed: order of pairs, weights of probes.
    """

    protocol: Protocol
    test: Pairs
    data_root: str | Path | None = None
    seed: int = 0

    @classmethod
    def open(cls, rules: Protocol, *, data_root: str | Path | None = None, seed: int = 0) -> "Benchmark":
        """Read the test images of a protocol.

        Raises:
            ConfigError: `bfm` without a `data_root`.
            DataError: the folder is missing or unreadable.
        """
        return cls(rules, _true_pairs(rules, "test", rules.n_test, data_root), data_root, seed)

    @cached_property
    def train_pairs(self) -> Pairs:
        """True pairs of the train split, for the baselines."""
        return _true_pairs(self.protocol, "train", self.protocol.n_pairs, self.data_root)

    def normals(self, depth: Tensor) -> Tensor:
        """(B,3,S,S) normals of depth (B,1,S,S) under the field of view of the protocol."""
        return depth_to_normal(depth, Camera.orbit(fov=self.protocol.fov, size=self.protocol.size))

    def probe(self, pairs: Pairs, steps: Steps) -> DepthProbe:
        """Train the probe of the protocol on pairs."""
        rules = self.protocol
        with steps.task("training the depth probe", rules.steps) as advance:
            return train_probe(
                pairs,
                steps=rules.steps,
                batch_size=rules.batch_size,
                nf=rules.width,
                seed=self.seed,
                advance=advance,
            )

    def predictor(self, subject: Subject, steps: Steps) -> Predictor:
        """What maps images to depth: the subject itself, its own depth network, or a probe trained for it."""
        if isinstance(subject, str):
            return self._baseline(subject, steps)
        if not isinstance(subject, Generator):
            return subject
        subject.need_3d("depth to score")
        if isinstance(subject, DepthPredictor):
            return subject.predict_depth
        rules = self.protocol
        with steps.task("rendering pairs", rules.n_pairs) as advance:
            pairs = render_pairs(subject, rules.n_pairs, size=rules.size, seed=self.seed, advance=advance)
        return self.probe(pairs, steps).predict

    def surface(self, subject: Subject, steps: Steps) -> dict[str, float]:
        """Figures of the surfaces themselves, see `surface_figures`; none for what is not a field."""
        if not isinstance(subject, VolumeGenerator):
            return {}
        rules = self.protocol
        with steps.task("examining surfaces", rules.n_surface) as advance:
            return surface_figures(subject, rules.n_surface, rules.size, self.seed, advance)

    def _baseline(self, name: str, steps: Steps) -> Predictor:
        if name == "constant":
            return lambda images: torch.ones_like(images[:, :1])
        if name not in BASELINES:
            raise ConfigError(
                f"unknown baseline {name!r}; known: {', '.join(BASELINES)}. Load a model before it is scored"
            )
        pairs = self.train_pairs
        if name == "supervised":
            return self.probe(pairs, steps).predict
        mean = average_depth(pairs)
        return lambda images: mean.expand(len(images), -1, -1, -1)

    def score(self, depth: Tensor) -> tuple[SIDE, MAD]:
        """Both metrics of depth (N,1,S,S) predicted for all test images; those without foreground are skipped.

        Raises:
            ValueError: another shape, or depth that is not finite or not positive in the foreground.
        """
        side, mad = SIDE(on_empty="skip"), MAD(on_empty="skip")
        mask = evaluation_mask(self.test.mask)
        side.update(depth, self.test.depth, mask)
        mad.update(self.normals(depth), self.normals(self.test.depth), mask)
        return side, mad

    def row(self, name: str, subject: Subject, *, progress: bool = False) -> tuple[Row, Tensor]:
        """Score one subject; the row, and the depth (N,1,S,S) it gave to the test images."""
        keep_memory()
        start = time.perf_counter()
        with Steps(name, enabled=progress) as steps:
            depth = self.predictor(subject, steps)(self.test.image)
            surface = self.surface(subject, steps)
        side, mad = self.score(depth)
        skipped = int(side.skipped)
        row = Row(
            name=name,
            SIDE=side.compute().item(),
            MAD=mad.compute().item(),
            n=int(side.count),
            protocol=self.protocol.name,
            kind="baseline" if isinstance(subject, str) else "model",
            SIDE_std=side.spread(),
            MAD_std=mad.spread(),
            seconds=round(time.perf_counter() - start, 2),
            notes=f"{skipped} test images without foreground skipped" if skipped else "",
            **surface,
        )
        return row, depth


def evaluate(
    subject: Subject,
    benchmark: str = "heads",
    *,
    name: str | None = None,
    data_root: str | Path | None = None,
    quick: bool = False,
    n_test: int | None = None,
    n_pairs: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Row:
    """Score one method under a named protocol.

    Args:
        subject: a generator, a function from images (N,3,S,S) in [-1,1] to depth (N,1,S,S), or the name of a
            baseline: "constant", "average", "supervised".
        benchmark: "heads" (embedded) or "bfm" (Unsup3d's synface folder on disk).
        name: how the row is called; by default the baseline, class or function name.
        data_root: folder of the `bfm` images.
        quick, n_test, n_pairs: see `protocol`; the row's protocol name tells them.
        seed: latents, order and weights of the probe.
        progress: show a progress bar with the time left.

    Raises:
        ConfigError: unknown benchmark or baseline, `bfm` without a `data_root`, a generator without depth.
        ValueError: depth that is not finite or not positive, or of the wrong shape.
    """
    if isinstance(subject, Generator):
        subject.need_3d("depth to score")
    rules = protocol(benchmark, quick=quick, n_test=n_test, n_pairs=n_pairs)
    opened = Benchmark.open(rules, data_root=data_root, seed=seed)
    return opened.row(name or _name(subject), subject, progress=progress)[0]


def _name(subject: Subject) -> str:
    if isinstance(subject, str):
        return subject
    return getattr(subject, "__name__", type(subject).__name__)


def _true_pairs(rules: Protocol, split: str, n: int, data_root: str | Path | None) -> Pairs:
    if rules.name.startswith("bfm"):
        if data_root is None:
            raise ConfigError(
                "benchmark 'bfm' reads Unsup3d's synface folder from disk: pass data_root=/path/to/synface"
            )
        dataset: SynfaceDataset | HeadDataset = SynfaceDataset(data_root, split=split, size=rules.size)
    else:
        dataset = HeadDataset(split=split, size=rules.size, length=n)
    chosen = torch.linspace(0, len(dataset) - 1, min(n, len(dataset))).round().long().tolist()
    items = default_collate([dataset[index] for index in chosen])
    return Pairs(items["image"], items["depth"], items["mask"] > 0.5)
