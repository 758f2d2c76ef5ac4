"""Depth against the embedded heads: SIDE and MAD."""

from ...heads.dataset import HeadDataset
from ...probes.depth import Pairs
from ..depth.benchmark import DepthBenchmark, pairs_of, spread
from ..depth.protocol import DepthProtocol

SETTINGS = {"n_test=N": "number of test images", "n_pairs=N": "number of training pairs"}


class Heads(DepthBenchmark):
    """Unsup3d's test on the embedded heads."""

    standard = DepthProtocol("heads-v1", fov=12.0)

    def true_pairs(self, split: str, n: int) -> Pairs:
        heads = HeadDataset(split=split, size=self.rules.size, length=n)
        return pairs_of([heads[index] for index in spread(len(heads), n)])
