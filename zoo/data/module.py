"""`FaceData`: the images of a run as a LightningDataModule."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from ..config.schemas import DataConfig
from ..errors import DataError
from ..runtime.progress import track
from .cache import COPIES, MemoryCache, free_memory, on_disk, place
from .shards.reader import Shards
from .sources import HeadSource, ImageSource, NoSplit, open_source
from .stream import Batch, Read, Stream, StreamLoader

log = logging.getLogger(__name__)

AUTO_CACHE_BYTES = 2**30


class FaceData(LightningDataModule):
    """Images to train on, as a `DataConfig` describes them.

    The training loader has no end and starts at `position`, the number of images that all processes together have
    seen, which is saved in Lightning's checkpoints. The processes share the stream by themselves, without a distributed
    sampler.

    Args:
        config: Says which images are used, and how.
        batch: Images per process and step: a number, or, for curricula that change it, a function of the position.

    Attributes:
        position: The position at which the stream continues.
    """

    def __init__(self, config: DataConfig, batch: int | Callable[[int], int] = 16) -> None:
        super().__init__()
        self.config = config
        self.batch = batch if callable(batch) else _Constant(batch)
        self.position = 0
        self._train: ImageSource | HeadSource | None = None
        self._read: Read | None = None

    def source(self, split: str = "train") -> ImageSource | HeadSource:
        """One split as a map-style data set, in file order and without mirroring.

        "val" and "test" of the embedded heads have a sixteenth as many heads as "train".

        Raises:
            DataError: See `open_source`.
        """
        c = self.config
        return open_source(
            c.name,
            c.root,
            split,
            c.size,
            crop=c.crop,
            align=c.align,  # type: ignore[arg-type]
            resample=c.resample,  # type: ignore[arg-type]
            on_error=c.on_error,  # type: ignore[arg-type]
            white_back=c.scene.white_back,
            limit=c.limit,
            holdout=c.holdout,
            length=c.length if split == "train" else max(1, c.length // 16),
            seed=c.seed,
            background=c.background,
            highlights=c.highlights,
            jitter=c.jitter,
        )

    def prepare_data(self) -> None:
        """Fill the cache folder, with heads or with measured faces, for all processes to read.

        Lightning calls this once per machine.
        """
        if self.config.align != "none" or (self.config.name == "heads" and self.config.cache != "never"):
            self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Open the training images; a second call does nothing.

        Raises:
            DataError: See `open_source`; or a setting of the stream or the cache is wrong.
        """
        if self._train is None:
            self._train = self.source()
            self._read = _reader(self._train, self.config)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches without end from `position` on, see `Stream.at`."""
        self.setup()
        assert self._train is not None
        assert self._read is not None
        stream = Stream(
            self._read,
            len(self._train),
            self.config.seed,
            hflip=self.config.hflip,
            batch=self.batch,
            start=self.position,
            rank=self._rank,
            world=self._world,
            poses=self._train.poses if isinstance(self._train, ImageSource) else None,
        )
        pin = torch.cuda.is_available()
        return StreamLoader(stream, num_workers=self._workers, pin_memory=pin)

    def val_dataloader(self) -> DataLoader[Any]:
        """The "val" split once, in order, not mirrored; the training images if there is no such split."""
        try:
            source = self.source("val")
        except NoSplit as error:
            log.info("%s; validating on the training images", error)
            source = self.source("train")
        size = self.batch(self.position)
        return DataLoader(source, batch_size=size, num_workers=self._workers)

    @property
    def _workers(self) -> int:
        # The heads' compiled renderer runs in parallel by itself, and does not survive a fork.
        return 0 if self.config.name == "heads" else self.config.workers

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _world(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def advance(self, batch: Batch) -> None:
        """Note that a batch of the training stream has been taken. Lightning's `fit` calls this by itself."""
        self.position = int(batch["position"][-1]) - self._rank + self._world

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        # Counted here and not in the sampler, which workers run ahead of the training.
        if isinstance(batch, dict) and "position" in batch:
            self.advance(batch)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the position, the number of images and the seed."""
        return {
            "position": self.position,
            "images": len(self._train) if self._train is not None else None,
            "seed": self.config.seed,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the saved position, with a warning if the data or the seed are not those of the checkpoint."""
        self.setup()
        self.position = int(state_dict["position"])
        now = self.state_dict()
        for key in ("images", "seed"):
            if state_dict.get(key) != now[key]:
                message = "data: %s were %s in the checkpoint and are %s now; the order of the images changes"
                log.warning(message, key, state_dict.get(key), now[key])


class _Constant:
    """A batch size that never changes. It is a class because a lambda cannot be sent to spawned workers."""

    def __init__(self, value: int) -> None:
        if value < 1:
            raise DataError(f"batch={value}: use at least 1 image")
        self.value = value

    def __call__(self, position: int) -> int:
        return self.value


def _reader(source: ImageSource | HeadSource, config: DataConfig) -> Read:
    """What a `Stream` reads images by, from memory if the configuration allows it."""
    if config.cache not in ("auto", "always", "never"):
        raise DataError(f"data.cache={config.cache!r} is unknown: use auto, always or never")
    if config.cache == "never":
        return _Direct(source)
    if isinstance(source, HeadSource):
        key = _heads_key(config, len(source))
        _need_memory(len(source), config.size, drawn=place("heads", key).is_file())
        return _Rendered(on_disk("heads", key, lambda: _render(source)))
    far = isinstance(source.files, Shards) and source.files.remote  # where a batch costs no more than a picture
    if config.cache == "auto" and (far or len(source) * 3 * config.size**2 > AUTO_CACHE_BYTES):
        return _Direct(source)
    return MemoryCache(len(source), config.size, source.find)


def _need_memory(n: int, size: int, *, drawn: bool) -> None:
    """Refuse to draw or to read more heads than fit into memory, before it fills up and the system ends processes.

    Args:
        n: Number of heads.
        size: Side of their pictures in pixels.
        drawn: Whether they are on disk already.

    Raises:
        DataError: They do not fit; the message says how many do.
    """
    each, free = 3 * size**2 * (1 if drawn else COPIES), free_memory()
    if n * each > free:
        takes = f"{n * each / 1e9:,.1f} GB of memory" + ("" if drawn else " while they are drawn")
        fix = f"use data.length={free // each} or less, or data.cache=never, which draws each anew"
        raise DataError(f"data.length={n}: these heads take {takes}, of which {free / 1e9:,.1f} GB are free; {fix}")


class _Direct:
    """Reads every image anew."""

    def __init__(self, source: ImageSource | HeadSource) -> None:
        self.source = source

    def __call__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.source.read_batch(indices.tolist())


class _Rendered:
    """Has all images at hand."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __call__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices], indices


def _render(source: HeadSource, chunk: int = 50) -> Tensor:
    starts = track(range(0, len(source), chunk), "rendering heads")
    return torch.cat([source.read_batch(list(range(s, min(s + chunk, len(source)))))[0] for s in starts])


def _heads_key(config: DataConfig, length: int) -> dict[str, Any]:
    """Everything on which the rendered heads depend; `VERSION` stands for the model and the code that draws it."""
    from ..heads.dataset import VERSION  # its compiler takes a second to import

    wild = {name: True for name in ("highlights", "jitter") if getattr(config, name)}  # absent: caches keep their names
    return {
        "length": length,
        "seed": config.seed,
        "size": config.size,
        "background": config.background,
        "version": VERSION,
        **wild,
    }
