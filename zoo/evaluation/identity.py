"""Does a face stay itself while it turns? GAN2Shape's comparison with methods that turn faces (Pan et al. 2021).

The paper's embedding (ArcFace) and its exact distances are not released. Here each face has a frontal picture and views
to both sides; its loss is the distance of their embeddings from the frontal one's. Two more columns tell what a small
loss is worth: how far apart different faces are, and how far the heads have turned.
"""

import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import radians
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..generators.base import Generator
from ..images import resize
from ..metrics.identity import embed_faces, similarity_losses
from ..output.colours import show_image
from ..output.strips import Sheet
from ..probes.pose import PoseProbe, train_pose_probe
from ..runtime.memory import keep_memory
from ..runtime.progress import Steps, keeping
from .turners import Turner, true_heads, turners_of

Embedding = Callable[[Tensor], Tensor]  # pictures (B, 3, S, S) in [-1, 1] to (B, D)
TRUE = "true heads"
_SHOWN = 6
_CHUNK = 16


@dataclass(frozen=True)
class IdentityProtocol:
    """Everything a figure depends on, besides the method and the embedding.

    Attributes:
        name: printed beside every figure; changes whenever a number below does.
        faces: number of faces.
        views: of each, evenly from side to side.
        reach: degrees of yaw to each side.
        size: image side in pixels.
        psi: truncation of the faces.
    """

    name: str = "identity-v1"
    faces: int = 100
    views: int = 20
    reach: float = 20.0
    size: int = 64
    psi: float = 0.7

    @classmethod
    def of(cls, quick: bool) -> "IdentityProtocol":
        """The whole, or 8 faces in 4 views: `identity-v1/quick`."""
        return cls("identity-v1/quick", faces=8, views=4) if quick else cls()

    @property
    def yaws(self) -> list[float]:
        """Radians, rising."""
        return torch.linspace(-radians(self.reach), radians(self.reach), self.views).tolist()

    def words(self) -> list[str]:
        """The protocol in sentences, for people."""
        return [
            f"{self.faces} faces (truncation {self.psi:g}) at {self.size} px, each in {self.views} views from "
            f"-{self.reach:g} to {self.reach:g} degrees of yaw, level, and once from the front.",
            "The loss of a view is the Euclidean distance of its face embedding (dlib's ResNet, 128 numbers) from that "
            "of the frontal picture; below 0.6 its author takes two photographs for one person. Mean is over all "
            "views; worst takes the largest loss of each face, and their mean.",
            "Others is the mean distance between the frontal pictures of different faces: a method whose faces are all "
            "alike, or all smeared, has small losses for no merit. Reached is half the difference in yaw between the "
            "two outermost views, as a pose probe trained on the embedded heads sees it: a method that does not turn "
            "its faces has small losses, too.",
            "Methods with a camera turn by it. A 2D GAN is moved along one line in its code until the probe sees the "
            "wanted yaw; SeFa and GANSpace are two ways to find the line. True heads are those of the test split. A "
            "run of GAN2Shape has as many faces as pictures, at most the number above; they turn from its canonical "
            "view.",
        ]


@dataclass(frozen=True)
class IdentityRow:
    """One line of the table.

    Attributes:
        name: method, and how it turns faces if that is not by camera.
        mean, worst: similarity losses, see `IdentityProtocol.words`.
        others: mean distance of different faces.
        reached: degrees of yaw to each side, as measured.
        n: faces.
        protocol: its name.
        kind: "baseline" or "model".
        seconds: wall time.
    """

    name: str
    mean: float
    worst: float
    others: float
    reached: float
    n: int
    protocol: str
    kind: Literal["baseline", "model"]
    seconds: float

    def figures(self) -> dict[str, object]:
        """The row as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class IdentityComparison:
    """What a report shows.

    Attributes:
        protocol: the rules that all rows share.
        rows: the baseline first.
        sheets: views of every row, by its name.
        command: how to repeat it.
        complete: False after Ctrl-C, which keeps the rows that were finished.
    """

    protocol: IdentityProtocol
    rows: list[IdentityRow]
    sheets: dict[str, Sheet]
    command: str
    complete: bool = True


def compare_identity(
    models: Mapping[str, Generator | Turner],
    *,
    quick: bool = False,
    seed: int = 0,
    progress: bool = True,
    command: str | None = None,
    embed: Embedding = embed_faces,
) -> IdentityComparison:
    """Turn faces by every method, and the true heads, and measure how far they stay the same.

    Args:
        models: row name -> generator, or a function that turns N faces, see `turners.turners_of_run`. A StyleGAN2 gives
            two rows.
        quick: see `IdentityProtocol.of`.
        seed: of the faces.
        progress: show a progress bar.
        command: what the report calls the way to repeat it; by default this process's command line.
        embed: face embedding, for example an ArcFace network; say so beside the figures.

    Raises:
        ConfigError: a model named like the baseline, or one that can neither turn a camera nor move a code.
        ZooError: the packages of the extra `identity` are missing.
    """
    if TRUE in models:
        raise ConfigError(f"{TRUE}: the name of the baseline; give the model another")
    rules = IdentityProtocol.of(quick)
    keep_memory()
    embed(torch.zeros(1, 3, rules.size, rules.size))  # what is missing shows before the long work
    with Steps("poses", enabled=progress) as steps, steps.task("training the pose probe", 500) as advance:
        probe = train_pose_probe(advance=advance)
    turners: dict[str, Turner] = {TRUE: true_heads(rules.faces, rules.size, seed)}
    for name, model in models.items():
        if isinstance(model, Generator):
            latents = model.latents(rules.faces, seed, rules.psi)
            turners |= turners_of(name, model, latents, rules.size, probe)
        else:
            turners[name] = model
    rows: list[IdentityRow] = []
    sheets = {}
    with keeping(rows, len(turners)):
        for name, turner in turners.items():
            row, sheets[name] = _score(name, turner, rules, probe, embed, progress)
            rows.append(row)
    command = command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return IdentityComparison(rules, rows, sheets, command, complete=len(rows) == len(turners))


@torch.no_grad()
def _score(
    name: str, turner: Turner, rules: IdentityProtocol, probe: PoseProbe, embed: Embedding, progress: bool
) -> tuple[IdentityRow, Sheet]:
    start = time.perf_counter()
    with Steps(name, enabled=progress) as steps:
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
                parts.append(embed(part))
                advance(len(part))
    embedded = torch.cat(parts).unflatten(0, (n, views))
    losses = similarity_losses(embedded[:, 0], embedded[:, 1:])
    first, last = (probe.cpu()(pictures[:, i])[:, 1].mean() for i in (1, -1))
    row = IdentityRow(
        name=name,
        mean=losses.mean.mean().item(),
        worst=losses.worst.mean().item(),
        others=torch.pdist(embedded[:, 0]).mean().item(),
        reached=(last - first).rad2deg().item() / 2,
        n=n,
        protocol=rules.name,
        kind="baseline" if name == TRUE else "model",
        seconds=round(time.perf_counter() - start, 2),
    )
    return row, _sheet(pictures[:_SHOWN], rules)


def _sheet(pictures: Tensor, rules: IdentityProtocol) -> Sheet:
    chosen = torch.linspace(0, rules.views - 1, 4).round().long().tolist()
    rows = [("front", show_image(pictures[:, 0]))]
    for i in chosen:
        angle = f"{np.degrees(rules.yaws[i]):+.0f}\N{DEGREE SIGN}"
        rows.append((f"yaw {angle}", show_image(pictures[:, 1 + i])))
    return Sheet("Views", "The picture that the others are compared with, and four of the views.", rows)
