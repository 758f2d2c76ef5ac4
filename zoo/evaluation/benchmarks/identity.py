"""Does a face stay itself while it turns? Needs zoo3d[identity].

This is GAN2Shape's comparison with methods that turn faces (Pan et al. 2021). The paper's embedding (ArcFace) and its
exact distances are not released. Here each face has a frontal picture and views to both sides; its loss is the distance
of their embeddings from that of the frontal picture. Two more columns tell what a small loss is worth: how far apart
different faces are, and how far the heads have turned.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import radians
from typing import ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor

from ...fitting.runs import FinishedRun
from ...generators.base import Generator
from ...images import resize
from ...metrics.identity import embed_faces, similarity_losses
from ...output.colours import show_image
from ...output.strips import Sheet
from ...probes.pose import PoseProbe, train_pose_probe
from ...runtime.progress import Steps
from ..benchmark import Benchmark, Column, Options, Pictures, Row, Subject
from ..store import key_of
from ..turners import Turner, true_heads, turners_of, turners_of_run

Embedding = Callable[[Tensor], Tensor]  # from pictures (B, 3, S, S) in [-1, 1] to embeddings (B, D)
TRUE = "true heads"
_SHOWN = 6
_CHUNK = 16


@dataclass(frozen=True)
class IdentityProtocol:
    """Everything a figure depends on, besides the method and the embedding.

    Attributes:
        name: What is printed beside every figure; it changes whenever a number below does.
        faces: Number of faces.
        views: Number of views of each, evenly from side to side.
        reach: Degrees of yaw to each side.
        size: Image side in pixels.
        psi: Truncation of the faces.
    """

    name: str = "identity-v1"
    faces: int = 100
    views: int = 20
    reach: float = 20.0
    size: int = 64
    psi: float = 0.7

    @classmethod
    def of(cls, quick: bool) -> "IdentityProtocol":
        """The whole protocol, or 8 faces in 4 views: `identity-v1/quick`."""
        return cls("identity-v1/quick", faces=8, views=4) if quick else cls()

    @property
    def yaws(self) -> list[float]:
        """The yaws of the views in radians, rising."""
        return torch.linspace(-radians(self.reach), radians(self.reach), self.views).tolist()

    def words(self) -> list[str]:
        """The protocol in sentences, for people."""
        return [
            f"{self.faces} faces (truncation {self.psi:g}) at {self.size} px, each in {self.views} views from "
            f"-{self.reach:g} to {self.reach:g} degrees of yaw, level, and once from the front.",
            "The loss of a view is the Euclidean distance of its face embedding (dlib's ResNet, 128 numbers) from that "
            "of the frontal picture; below 0.6 its author takes two photographs for one person. Mean is over all "
            "views; worst is the mean over faces of each one's largest loss.",
            "Others is the mean distance between the frontal pictures of different faces: a method whose faces are all "
            "alike, or all smeared, has small losses without merit. Reached is half the difference in yaw between the "
            "two outermost views, as a pose probe trained on the embedded heads sees it: a method that does not turn "
            "its faces has small losses, too.",
            "Methods with a camera turn by it. A 2D GAN is moved along one line in its code until the probe sees the "
            "wanted yaw; SeFa and GANSpace are two ways to find the line. True heads are those of the test split. A "
            "run of GAN2Shape has as many faces as pictures, at most the number above; they turn from its canonical "
            "view.",
        ]


@dataclass(frozen=True)
class Identity(Benchmark):
    """Faces turned by every method, and the true heads, and how far they stay the same.

    Subjects are generators, folders of `zoo run`, and functions that turn N faces (see `turners.Turner`). A StyleGAN2
    and a run give two rows each.

    Attributes:
        embed: Embeds faces; a sub-class may bring another network, which must then be named beside the figures.
        rules: The numbers that fix the test.
        subjects: Maps row names to functions that turn faces, and to baselines.
        options: How it was opened.
        keys: What the rows of generators and runs are known by on disk.
    """

    title = "Identity in rotation"
    baselines = (TRUE,)
    takes_runs = True
    bar = "mean"
    bar_caption = "Bars show the mean loss."
    columns = (
        Column("mean", "Mean", better="lower"),
        Column("worst", "Worst", better="lower"),
        Column("others", "Others"),
        Column("reached", "Reached", "°", form=".1f"),
        Column("n", "Faces", form=".0f"),
        Column("seconds", "Seconds", form=".0f"),
    )
    embed: ClassVar[Embedding] = staticmethod(embed_faces)

    rules: IdentityProtocol
    subjects: Mapping[str, Subject]
    options: Options
    keys: Mapping[str, str]

    @classmethod
    def open(cls, subjects: Mapping[str, Subject], options: Options) -> Self:
        """Find the ways in which subjects turn faces.

        Raises:
            ConfigError: A subject can neither turn a camera nor move a code.
            ZooError: The packages of the extra `identity` are missing.
        """
        rules = IdentityProtocol.of(options.quick)
        cls.embed(torch.zeros(1, 3, rules.size, rules.size))  # if packages are missing, fails before the long work
        runs = sum(isinstance(subject, FinishedRun) for subject in subjects.values())
        turning: dict[str, Subject] = {}
        keys: dict[str, str] = {}
        opened = cls(rules, turning, options, keys)
        for name, subject in subjects.items():
            ways: dict[str, Turner] = {}
            if isinstance(subject, Generator):
                latents = subject.latents(rules.faces, options.seed, rules.psi)
                ways = turners_of(name, subject, latents, rules.size, partial(getattr, opened, "probe"))
            elif isinstance(subject, FinishedRun):
                method = "GAN2Shape" if runs == 1 else f"GAN2Shape {name}"
                ways = {f"{method} ({how})": turner for how, turner in turners_of_run(subject, rules.faces).items()}
            else:
                turning[name] = subject
            turning |= ways
            for way in ways:  # a subject may turn in two ways, which stand in brackets
                how = re.search(r" \((\w+)\)$", way)
                keys[way] = f"{key_of(subject, options.seed)}{f'-{how[1]}' if how else ''}"
        return opened

    @cached_property
    def probe(self) -> PoseProbe:
        """The pose probe, which sees how far heads have turned."""
        with (
            Steps("poses", enabled=self.options.progress) as steps,
            steps.task("training the pose probe", 500) as advance,
        ):
            return train_pose_probe(advance=advance)

    @property
    def protocol(self) -> str:
        return self.rules.name

    @property
    def data(self) -> str | None:
        return ""

    def key(self, name: str) -> str | None:
        return self.keys.get(name)

    @torch.no_grad()
    def row(self, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        """Turn faces and compare them.

        Raises:
            ValueError: There are fewer than two faces, or another number of views.
        """
        start, rules = time.perf_counter(), self.rules
        baseline = isinstance(subject, str)
        turner = true_heads(rules.faces, rules.size, self.options.seed) if baseline else cast(Turner, subject)
        with steps.task("turning faces", 1) as advance:
            pictures = turner([0.0, *rules.yaws])
            advance(1)
        n, views = pictures.shape[:2]
        pictures = resize(pictures.flatten(0, 1), rules.size).unflatten(0, (n, views))
        if n < 2 or views != 1 + rules.views:
            raise ValueError(f"{name}: {n} faces in {views} views; give 2 faces or more in all {1 + rules.views}")
        with steps.task("comparing faces", n * views) as advance:
            parts = []
            for part in pictures.flatten(0, 1).split(_CHUNK):
                parts.append(type(self).embed(part))
                advance(len(part))
        embedded = torch.cat(parts).unflatten(0, (n, views))
        losses = similarity_losses(embedded[:, 0], embedded[:, 1:])
        first, last = (self.probe.cpu()(pictures[:, i])[:, 1].mean() for i in (1, -1))
        row = Row(
            name=name,
            kind="baseline" if baseline else "model",
            protocol=self.protocol,
            n=n,
            figures={
                "mean": losses.mean.mean().item(),
                "worst": losses.worst.mean().item(),
                "others": torch.pdist(embedded[:, 0]).mean().item(),
                "reached": (last - first).rad2deg().item() / 2,
            },
            seconds=round(time.perf_counter() - start, 2),
        )
        shown = pictures[:_SHOWN].clone()
        return row, lambda: [_sheet(shown, rules)]

    def words(self) -> list[str]:
        return self.rules.words()

    def lead(self, rows: Sequence[Row]) -> str:
        return (
            f"How far faces are from themselves when they turn by up to {self.rules.reach:g}°, as a face embedding "
            "sees it. Lower is better, if different faces are far apart and the heads have turned."
        )


def _sheet(pictures: Tensor, rules: IdentityProtocol) -> Sheet:
    chosen = torch.linspace(0, rules.views - 1, 4).round().long().tolist()
    rows = [("front", show_image(pictures[:, 0]))]
    for i in chosen:
        angle = f"{np.degrees(rules.yaws[i]):+.0f}\N{DEGREE SIGN}"
        rows.append((f"yaw {angle}", show_image(pictures[:, 1 + i])))
    return Sheet("Views", "The picture that the others are compared with, and four of the views.", rows)
