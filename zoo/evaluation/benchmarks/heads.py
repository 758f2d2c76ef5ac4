"""Depth against the embedded heads: SIDE and MAD."""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ...geometry import continued
from ...heads.dataset import HeadDataset
from ...heads.render import render_heads
from ...heads.sampling import mean_heads, sample_poses
from ...probes.depth import Pairs
from ...runtime.progress import Steps
from ..benchmark import Subject
from ..depth.benchmark import DepthBenchmark, spread
from ..depth.protocol import DepthProtocol

MEAN = "mean shape"
_TOGETHER = 100  # heads that are rendered at once
SETTINGS = {"n_test=N": "number of test images", "n_pairs=N": "number of training pairs"}


class Heads(DepthBenchmark):
    """Unsup3D's test on the embedded heads, beside what one mean head at the true pose reaches."""

    weights = "*.heads*"
    baselines: ClassVar[tuple[str, ...]] = (*DepthBenchmark.baselines, MEAN)
    unseeded: ClassVar[tuple[str, ...]] = (*DepthBenchmark.unseeded, MEAN)
    standard = DepthProtocol("heads-v1", fov=12.0)

    @property
    def data(self) -> str | None:
        return ""

    def true_pairs(self, split: str, n: int) -> Pairs:
        heads = HeadDataset(split=split, size=self.rules.size, length=n)
        parts = []
        for chosen in torch.tensor(spread(len(heads), n)).split(_TOGETHER):
            items = heads.batch(chosen)
            parts.append(Pairs(items["image"], items["depth"], items["mask"] > 0.5))
        return Pairs.cat(parts)

    def depth(self, subject: Subject, steps: Steps) -> Tensor:
        if subject != MEAN:
            return super().depth(subject, steps)
        heads = HeadDataset(split="test", size=self.rules.size, length=self.rules.n_test)
        shown = spread(len(heads), self.rules.n_test)
        poses = sample_poses(np.array(shown), heads.seed, heads.split)
        rendered = render_heads(mean_heads(len(shown)), poses, np.zeros((len(shown), 4)), self.rules.size)
        return continued(torch.from_numpy(rendered.depth), torch.from_numpy(rendered.mask) > 0)

    def words(self) -> list[str]:
        mean = (
            "Mean shape is one head for everybody, at the true pose: what lies above it knows no more of a person than "
            "where the head looks (see heads_v2, which measures pose and shape apart)."
        )
        return [*super().words(), mean]
