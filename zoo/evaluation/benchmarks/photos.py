"""Photographs of people, which have no true depth: agreement with a face mesh, likeness of inversions, KID."""

import hashlib
import html
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from ...data.layouts import share_of
from ...data.store import open_files
from ...editing.photo import framing_of
from ...errors import ConfigError, WeightsError
from ...faces.align import Framing, face_masks
from ...generators.base import DepthPredictor, Explainer, Generator
from ...geometry import continued
from ...heads.sampling import mean_heads
from ...metrics import identity, inception
from ...metrics.agreement import correlation_samples
from ...networks.perceptual import LPIPS
from ...output.colours import show_depth, show_image
from ...output.strips import TEST, Sheet, model_sheets
from ...resources import user_path
from ...runtime.progress import Steps
from ..benchmark import Benchmark, Column, Figure, Options, Pictures, Row, Subject
from ..photographs.inversions import Inversions, invert_all
from ..photographs.pictures import HELD_OUT, Crops, Photographs, depth_agreement, held_out
from ..photographs.protocol import PhotosProtocol
from ..photographs.samples import draw_samples, kid_of, shape_of
from ..shape.truth import heads_at, plain_view
from ..statistics import figure, interval
from ..store import digest_of

SETTINGS = {
    "data.root=DIR": "folder or zip of photographs of people; needed",
    "n_test=N": "number of photographs",
    "n_invert=N": "number of photographs that are inverted, which takes long; default 0",
    "n_tune=N": "number of these to which the generator is tuned, too; default 0",
    "vgg=FILE": "VGG16 weights of torchvision, for LPIPS of inversions",
    "lpips=FILE": "linear layers of LPIPS 0.1 with VGG",
}
MEAN = "mean shape"
_OF_THE_TEST = ("people", "n", "seconds")  # columns that every row has
_SHOWN, _BATCH = 8, 16


@dataclass(frozen=True)
class Photos(Benchmark):
    """Methods that read photographs against the face mesh; generators by their inversions and samples.

    Subjects are generators, and functions from images (N, 3, S, S) to depth (N, 1, S, S).

    Attributes:
        rules: The numbers that fix the test.
        subjects: Maps row names to subjects.
        options: How it was opened.
    """

    title = "Photographs"
    weights = "*.photos*"
    baselines: ClassVar[tuple[str, ...]] = (MEAN,)
    unseeded = baselines
    extras: ClassVar[Mapping[str, Callable[[], bool]]] = {"fid": inception.available, "identity": identity.available}
    bar = "depth_agreement"
    bar_caption = (
        "Bars show the agreement of depth with the face mesh. After the plus-minus sign stands half of the 95 % "
        "interval over people."
    )
    columns = (
        Column("depth_agreement", "Depth agreement", better="higher"),
        Column("yaw_agreement", "Yaw agreement"),  # none is the best: searches are told the mesh's pose, encoders not
        Column("pitch_agreement", "Pitch agreement"),
        Column("PSNR", "PSNR", "dB", better="higher", form=".1f"),
        Column("LPIPS", "LPIPS", better="lower"),
        Column("identity", "Identity", better="lower"),
        Column("turned", "Identity turned", better="lower"),
        Column("turn_error", "Turn error", "°", better="lower", form=".1f"),
        Column("PSNR_tuned", "PSNR tuned", "dB", better="higher", form=".1f"),
        Column("identity_tuned", "Identity tuned", better="lower"),
        Column("depth_agreement_tuned", "Depth agreement tuned", better="higher"),
        Column("KID", "KID", "×10⁻³", better="lower", form=".1f"),
        Column("sample_depth", "Depth agreement of samples", better="higher"),
        Column("sample_turn", "Turn of samples", form=".2f"),  # the best is 1, from either side
        Column("people", "People", form=".0f", main=False),
        Column("n", "Photographs", form=".0f"),
        Column("seconds", "Seconds", form=".0f", main=False),
    )

    rules: PhotosProtocol
    subjects: Mapping[str, Subject]
    options: Options

    @classmethod
    def open(cls, subjects: Mapping[str, Subject], options: Options) -> Self:
        if not options.settings.get("data_root"):
            raise ConfigError(
                "benchmark 'photos' reads a folder or zip of photographs: give data.root=DIR, in Python data_root"
            )
        rules = PhotosProtocol.of(options)
        files = [options.settings.get(key) for key in ("vgg", "lpips")]
        if any(files) and not (all(files) and rules.n_invert):
            raise ConfigError("vgg and lpips go together, and with n_invert: they compare inversions with photographs")
        for subject in subjects.values():
            if rules.n_invert and isinstance(subject, Generator):
                subject.need_3d("inversion; leave n_invert out")
        open_files(options.settings["data_root"])  # if there are none, fails before networks are trained or rows read
        return cls(rules, subjects, options)

    @property
    def protocol(self) -> str:
        return self.rules.name

    @cached_property
    def data(self) -> str | None:
        settings = self.options.settings
        return digest_of(
            settings["data_root"], *(_digest(settings[key]) for key in ("vgg", "lpips") if settings.get(key))
        )

    @cached_property
    def perceptual(self) -> LPIPS | None:
        """What compares inversions with photographs as the eye does, if its weights are given."""
        settings = self.options.settings
        return LPIPS.from_files(settings["vgg"], settings["lpips"]) if settings.get("lpips") else None

    @cached_property
    def photographs(self) -> Photographs:
        """The test photographs, with their faces."""
        root, n = self.options.settings["data_root"], self.rules.n_test
        with (
            Steps("photographs", enabled=self.options.progress) as steps,
            steps.task("finding faces", len(held_out(open_files(root).names, n))) as advance,
        ):
            return Photographs.open(root, n, advance)

    @cached_property
    def _crops(self) -> dict[Framing, Crops]:
        return {}

    def crops(self, framing: Framing) -> Crops:
        """The test photographs, framed as the images of a data set."""
        if framing not in self._crops:
            self._crops[framing] = self.photographs.crops(framing, self.rules.size)
        return self._crops[framing]

    @torch.no_grad()
    def row(self, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        """Measure what a subject can show: depth and cameras that it reads, inversions, samples.

        Raises:
            DataError: None of the photographs shows a face.
            ConfigError: A subject's depth has another shape, or is not finite.
        """
        rules, photographs, crops = self.rules, self.photographs, self.crops(_framing(subject))
        start = time.perf_counter()
        figures: dict[str, Figure] = {column.key: None for column in self.columns if column.key not in _OF_THE_TEST}
        intervals: dict[str, tuple[float, float]] = {}
        values: dict[str, np.ndarray | None] = {}
        shapes: dict[str, np.ndarray] = {}  # of samples, which show nobody
        notes = self._notes()
        shown = [("image", show_image(crops.images[:_SHOWN]))]
        reads = not isinstance(subject, Generator) or isinstance(subject, DepthPredictor)
        if reads:
            with steps.task("reading depth", 1) as advance:
                depth = self._depth(name, subject, crops)
                advance(1)
            values["depth_agreement"] = depth_agreement(depth, crops.points)
            inside = face_masks(crops.points[:_SHOWN], rules.size, rules.size) > 0
            shown.append(("recovered depth", show_depth(depth[:_SHOWN], inside)))
        if isinstance(subject, Explainer):
            found = [subject.explain(part, rules.size).camera.pose.cpu() for part in crops.images.split(_BATCH)]
            values |= _pose_agreement(torch.cat(found).numpy(), photographs.poses.numpy())
        if isinstance(subject, Generator):
            if rules.n_invert:
                made = self._inversions(subject, steps)
                read = values  # a method with an encoder has read all photographs, not only those
                values = {**made.values, **_pose_agreement(made.poses, photographs.poses.numpy()), **read}
                notes += made.notes
                shown.append(("reconstruction", made.pictures[:_SHOWN]))
                if len(made.tuned):
                    shown.append(("tuned", made.tuned[:_SHOWN]))
            if not reads:
                drawn = draw_samples(subject, len(crops.images), rules.size, self.options.seed, steps)
                shapes = shape_of(drawn)
                kid, said = kid_of(drawn, crops.images)
                notes += said
                if kid is not None:
                    figures["KID"] = 1000 * kid.value
                    intervals["KID"] = 1000 * (kid.value - 1.96 * kid.error), 1000 * (kid.value + 1.96 * kid.error)
        samples = {
            key: photographs.by_person(each)
            for key, each in values.items()
            if each is not None and np.isfinite(each).any()
        }
        for key, each in (samples | shapes).items():
            figures[key] = figure(each)
            if len(each) > 1:
                intervals[key] = interval(each)
        row = Row(
            name=name,
            kind="baseline" if isinstance(subject, str) else "model",
            protocol=self.protocol,
            n=len(photographs.names),
            figures={**figures, "people": len(set(photographs.people))},
            seconds=round(time.perf_counter() - start, 2),
            notes=notes,
            intervals=intervals,
            samples=samples | shapes,
        )
        return row, lambda: self._sheets(subject, shown, reads)

    def _inversions(self, subject: Generator, steps: Steps) -> Inversions:
        rules, n = self.rules, min(self.rules.n_invert, len(self.photographs.names))
        with steps.task("inverting", n) as advance:
            return invert_all(
                subject,
                self.photographs,
                n,
                n_tune=rules.n_tune,
                steps=rules.steps,
                reach=rules.reach,
                size=rules.size,
                advance=advance,
                perceptual=self.perceptual,
                seed=self.options.seed,
            )

    def _notes(self) -> list[str]:
        photographs = self.photographs
        notes = []
        if photographs.left_out:
            notes.append(f"{len(photographs.left_out)} pictures without a usable face skipped")
        seen = sum(share_of(person) < HELD_OUT for person in set(photographs.people))
        if seen:
            notes.append(f"{seen} of {len(set(photographs.people))} people are in train or val of data=lfw")
        return notes

    def _depth(self, name: str, subject: Subject, crops: Crops) -> Tensor:
        """Depth (N, 1, S, S) that a subject reads off the photographs."""
        if isinstance(subject, str):
            poses = self.photographs.poses
            plain = plain_view(len(poses))
            mean = heads_at(mean_heads(len(poses)), poses, plain, self.rules.size)
            return continued(-mean.points[:, 2:], mean.mask)
        read = subject.predict_depth if isinstance(subject, DepthPredictor) else subject
        assert callable(read)
        assert not isinstance(read, Generator)
        depth: Tensor = torch.cat([read(part).cpu() for part in crops.images.split(_BATCH)])
        if depth.shape != crops.images[:, :1].shape or not depth.isfinite().all():
            wanted = (len(crops.images), 1, *crops.images.shape[-2:])
            raise ConfigError(f"{name}: depth of {tuple(depth.shape)}; give {wanted}, finite everywhere")
        return depth

    def _sheets(self, subject: Subject, shown: list[tuple[str, Tensor]], reads: bool) -> list[Sheet]:
        made = []
        if isinstance(subject, Generator) and not reads:
            made = model_sheets(subject, size=self.rules.size, psi=1.0)
        if len(shown) == 1:
            return made
        title = TEST if _framing(subject) == "heads" else "Photographs"
        caption = "Depth is light where it is near, and shown inside the rim of the face mesh."
        return [*made, Sheet(title, caption, shown)]

    def words(self) -> list[str]:
        return self.rules.words()

    def lead(self, rows: Sequence[Row]) -> str:
        models = [row for row in rows if row.kind == "model" and row.figures.get("depth_agreement") is not None]
        said = (
            "Photographs have no true depth: figures say how far methods agree with a face mesh, not how true they are."
        )
        if not models:
            return said
        best = max(models, key=lambda row: float(row.figures["depth_agreement"]))  # type: ignore[arg-type]
        value = best.figures["depth_agreement"]
        return f"{said} Highest agreement of depth: <strong>{html.escape(best.name)}</strong> with {value:.3f}."


def _pose_agreement(found: np.ndarray, mesh: np.ndarray) -> dict[str, np.ndarray | None]:
    """The samples of both correlations: poses (n, 2) that were found, and those of the mesh (N, 2), n <= N."""
    seen, made = np.isfinite(found).all(1), dict[str, np.ndarray | None]()
    for key, own, other in zip(("pitch_agreement", "yaw_agreement"), found.T, mesh[: len(found)].T, strict=True):
        samples, filled = correlation_samples(own[seen], other[seen]), np.full((len(found), 2), np.nan)
        if samples is not None:
            filled[seen] = samples
        made[key] = None if samples is None else filled
    return made


def _digest(path: str | Path) -> str:
    try:
        return hashlib.sha256(user_path(path, WeightsError).read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be read ({error.strerror}); give the files of VGG16 and of LPIPS"
        ) from error


def _framing(subject: Subject) -> Framing:
    """How the training images of a subject are framed; functions get the framing of the embedded heads."""
    return framing_of(subject) or "celeba" if isinstance(subject, Generator) else "heads"
