"""The training stream: infinite, and a pure function of (seed, position), so that a run resumes at the next image."""

import itertools
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..errors import DataError
from .transforms import flips, to_float

Batch = dict[str, Tensor]
Read = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From indices (B,) to images (B, 3, S, S) uint8 and their own indices, which differ where bad ones are skipped."""


class PositionSampler:
    """Maps positions in the stream to images; every epoch is a permutation of its own, keyed by (seed, epoch).

    It sorts Philox's raw output, because numpy promises to keep that stream, whereas its `permutation` may change.

    Args:
        n: Number of images.
        seed: Any integer.
    """

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed = n, seed
        self._orders: dict[int, np.ndarray] = {}

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Map positions (B,), >= 0, to indices (B,) below n."""
        epochs, offsets = np.divmod(positions, self.n)
        indices = np.empty_like(offsets)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            indices[here] = self._order(epoch)[offsets[here]]
        return indices

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            key = np.array([self.seed % 2**64, epoch], dtype=np.uint64)
            order = np.argsort(np.random.Philox(key=key).random_raw(self.n), kind="stable")
            # A batch can reach over the end of an epoch, so the epoch before is kept, too.
            self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1} | {epoch: order}
        return self._orders[epoch]


class Stream(IterableDataset[Batch | DataError]):
    """Batches without end, from any position on.

    Rank r of w processes takes every w-th position from r on, and worker k of m makes every m-th batch from k on, so
    the images do not depend on the number of workers.

    Args:
        read: Gives images (B, 3, S, S) uint8 for indices (B,), and the indices of the images given, see `Read`.
        n: Number of images.
        seed: Makes the order, and chooses which images are mirrored.
        hflip: Whether half of the images are mirrored.
        batch: Gives the number of images per process in the batch that starts at a position.
        start: First position.
        rank, world: Number of this process, and number of all processes.
        poses: (n, 2) pitch and yaw of the images, in radians, if they are known.
    """

    def __init__(
        self,
        read: Read,
        n: int,
        seed: int,
        *,
        hflip: bool,
        batch: Callable[[int], int],
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        poses: Tensor | None = None,
    ) -> None:
        self.poses = poses
        self.read, self.seed, self.hflip, self.batch = read, seed, hflip, batch
        self.start, self.rank, self.world = start, rank, world
        self.sampler = PositionSampler(n, seed)

    def at(self, positions: np.ndarray) -> Batch:
        """The batch at positions (B,): `image` (B, 3, S, S) float32 in [-1, 1], `index` and `position` (B,) int64.

        If poses are known, `pose` (B, 2) is there, too; those of mirrored images are mirrored.
        """
        images, indices = self.read(torch.from_numpy(self.sampler(positions)))
        images = to_float(images)
        poses = {} if self.poses is None else {"pose": self.poses[indices]}
        if self.hflip:
            mirrored = torch.from_numpy(flips(self.seed, positions))
            images[mirrored] = images[mirrored].flip(-1)
            for pose in poses.values():
                pose[mirrored] *= torch.tensor([1.0, -1.0])
        return {"image": images, **poses, "index": indices, "position": torch.from_numpy(positions)}

    def __iter__(self) -> Iterator[Batch | DataError]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        position = self.start
        for step in itertools.count():
            size = self.batch(position)
            if step % workers == worker:
                try:
                    yield self.at(position + self.rank + self.world * np.arange(size, dtype=np.int64))
                except DataError as error:
                    # If it were raised here, a worker's error would reach the user as a page of traceback.
                    yield error
            position += size * self.world


class StreamLoader(DataLoader[Any]):
    """Loads batches of a `Stream`, and raises the errors of its workers with their own type and message.

    Its workers outlive SIGTERM, which a launcher sends to all processes: the training still needs them to end a step
    and to save. They end with it, or are killed: nothing else would end one that waits for a disk.
    """

    def __init__(self, stream: Stream, **options: Any) -> None:
        super().__init__(stream, batch_size=None, worker_init_fn=_ignore_sigterm, **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        kill = Finalize(None, _kill, (getattr(batches, "_workers", ()),), exitpriority=0)  # else Python waits for them
        try:
            for batch in batches:
                if isinstance(batch, DataError):
                    raise batch
                yield batch
        finally:
            del batches  # torch asks its workers to end, and waits for seconds
            kill()


def _ignore_sigterm(worker: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _kill(workers: Sequence[BaseProcess]) -> None:
    for worker in workers:
        if worker.is_alive():
            worker.kill()
