"""How many pictures a second shards give to a training.

    python -m tests.campaigns.stream [--n 100000] [--size 64] [--seconds 20] [--workers 0 1 2]

makes JPEGs in a temporary folder, writes them with `zoo data shard`, and reads them in training's order: from a disk,
and through fsspec, as from an object store without a network in between. Nothing is cached by zoo.
"""

import argparse
import io
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from zoo.config.schemas import DataConfig
from zoo.data.module import FaceData
from zoo.data.shards.writer import write_shards


def make(path: Path, n: int, size: int) -> None:
    """A zip of smooth random pictures."""
    draws = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(n):
            small = Image.fromarray(draws.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            buffer = io.BytesIO()
            small.resize((size, size), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
            archive.writestr(f"{number:07d}.jpg", buffer.getvalue())


def rate(root: str, size: int, workers: int, seconds: float) -> tuple[float, float]:
    """Pictures a second, in batches of 32, after the first batch; and seconds of this process's CPU for a picture."""
    data = FaceData(DataConfig(name="shards", root=root, size=size, cache="never", workers=workers), batch=32)
    batches = iter(data.train_dataloader())
    next(batches)
    began, used, count = time.perf_counter(), time.process_time(), 0
    while (passed := time.perf_counter() - began) < seconds:
        count += len(next(batches)["image"])
    return count / passed, (time.process_time() - used) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="stream-") as place:
        make(Path(place) / "pictures.zip", given.n, given.size)
        began, out = time.perf_counter(), Path(place) / "shards"
        counts = write_shards(f"{place}/pictures.zip", out)
        spent, size = time.perf_counter() - began, sum(path.stat().st_size for path in out.iterdir())
        print(f"{given.n} pictures, {size / 1e6:.0f} MB in {counts['shards']} shards: {given.n / spent:.0f} written/s")
        began = time.perf_counter()
        FaceData(DataConfig(name="shards", root=str(out), size=given.size)).setup()
        print(f"opened in {time.perf_counter() - began:.2f} s")
        for workers in given.workers:
            for root in (str(out), f"file://{out}"):
                told = root.partition("://")[0] if "://" in root else "disk"
                found, used = rate(root, given.size, workers, given.seconds)
                cost = "" if workers else f", {1e6 * used:.0f} µs of CPU for each"  # alike on a machine that is busy
                print(f"{told}, {workers} workers: {found:.0f} pictures/s{cost}", flush=True)


if __name__ == "__main__":
    main()
