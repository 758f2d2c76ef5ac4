import itertools
import multiprocessing
import pickle
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import lightning
import numpy as np
import pytest
import torch
from PIL import Image

from zoo.config.fill import structured
from zoo.config.recipes import group, group_file
from zoo.config.schemas import DataConfig
from zoo.data import cache, module, sources
from zoo.data.cache import MemoryCache, on_disk
from zoo.data.module import FaceData
from zoo.data.pictures import BadImage
from zoo.data.sources import ImageSource, names
from zoo.data.stream import PositionSampler, Stream
from zoo.data.transforms import to_uint8
from zoo.errors import ConfigError, DataError
from zoo.priors import light_prior, pose_prior

N = 11


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of N pictures; the left edge of picture i has the value 10 * i, the right edge 10 * i + 5."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(N):
        pixels = np.full((16, 16, 3), 10 * i, np.uint8)
        pixels[:, 8:] += 5
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return folder


def config(root: Path, **values) -> DataConfig:
    return DataConfig(name="folder", root=str(root), size=16, **values)


def take(data: FaceData, count: int) -> list[dict[str, torch.Tensor]]:
    return list(itertools.islice(data.train_dataloader(), count))


def same(one: list[dict[str, torch.Tensor]], two: list[dict[str, torch.Tensor]]) -> bool:
    keys = {"image", "index", "position"}
    return len(one) == len(two) and all(
        a.keys() == b.keys() == keys and all(torch.equal(a[k], b[k]) for k in keys)
        for a, b in zip(one, two, strict=True)
    )


def test_sampler_is_a_permutation_of_its_own_each_epoch() -> None:
    order = PositionSampler(100, 7)(np.arange(300)).reshape(3, 100)
    assert (np.sort(order, 1) == np.arange(100)).all()
    assert (order[0] != order[1]).any()
    assert (order[1] != order[2]).any()
    assert np.array_equal(PositionSampler(100, 7)(np.arange(250, 260)), order[2, 50:60])
    assert (PositionSampler(100, 8)(np.arange(100)) != order[0]).any()
    assert PositionSampler(1, 0)(np.arange(5)).tolist() == [0] * 5
    assert PositionSampler(5, -1)(np.arange(5)).tolist() != []


def test_sampler_order_is_frozen() -> None:
    # Changing it would make every old checkpoint go on with other images.
    assert PositionSampler(10, 0)(np.arange(20)).tolist() == [
        0,
        2,
        9,
        1,
        8,
        5,
        4,
        3,
        6,
        7,
        5,
        3,
        7,
        8,
        2,
        4,
        1,
        0,
        6,
        9,
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache", ["auto", "never"])
def test_resume_gives_the_very_same_batches(root: Path, workers: int, cache: str) -> None:
    whole = take(FaceData(config(root, cache=cache), batch=4), 9)
    first = FaceData(config(root, cache=cache, workers=workers), batch=4)
    for batch in itertools.islice(first.train_dataloader(), 3):  # 12 images: into the second epoch
        first.advance(batch)
    second = FaceData(config(root, cache=cache, workers=workers), batch=4)
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    assert second.position == 12
    assert same(take(second, 6), whole[3:])


def test_workers_outlive_the_sigterm_of_a_launcher(root: Path) -> None:
    whole = take(FaceData(config(root), batch=4), 9)
    batches = iter(FaceData(config(root, workers=2), batch=4).train_dataloader())
    begun = list(itertools.islice(batches, 2))
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        worker.terminate()
    assert same(begun + list(itertools.islice(batches, 7)), whole)
    del batches
    for worker in workers:
        worker.join(20)
    assert not any(worker.is_alive() for worker in workers)


def test_python_ends_while_batches_are_being_loaded(root: Path) -> None:
    program = "import sys; from zoo.config.schemas import DataConfig; from zoo.data.module import FaceData\n"
    program += "data = FaceData(DataConfig(name='folder', root=sys.argv[1], size=16, workers=1), batch=4)\n"
    program += "batches = iter(data.train_dataloader()); next(batches); print('one')"
    done = subprocess.run([sys.executable, "-c", program, root], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("one", 0), done.stderr


def test_images_index_and_mirror(root: Path) -> None:
    batches = take(FaceData(config(root), batch=N), 6)
    image, index = (torch.cat([b[k] for b in batches]) for k in ("image", "index"))
    assert image.dtype == torch.float32
    assert image.shape == (6 * N, 3, 16, 16)
    edges = ((image[:, 0, 0, [0, -1]] + 1) * 127.5).round().long()
    assert torch.equal(edges.min(1).values, 10 * index)
    mirrored = edges[:, 0] > edges[:, 1]
    assert 0.25 < mirrored.float().mean() < 0.75
    plain = take(FaceData(config(root, hflip=False), batch=N), 1)[0]["image"]
    assert (plain[:, :, :, 0] < plain[:, :, :, -1]).all()


def test_ranks_share_the_stream(root: Path) -> None:
    def stream(rank: int, world: int, batch: int) -> list[list[int]]:
        data = FaceData(config(root))
        data.setup()
        s = Stream(data._read, N, 0, hflip=True, batch=lambda _: batch, rank=rank, world=world)  # type: ignore[arg-type]
        return [b["index"].tolist() for b in itertools.islice(s, 5)]

    alone = list(itertools.chain(*stream(0, 1, 6)))
    ranks = [itertools.chain(*stream(r, 2, 3)) for r in (0, 1)]
    assert [i for pair in zip(*ranks, strict=True) for i in pair] == alone


def test_batch_size_may_follow_the_position(root: Path) -> None:
    def batch(position: int) -> int:
        return 4 if position < 12 else 2

    runs = [take(FaceData(config(root, workers=w), batch=batch), 6) for w in (0, 2)]
    assert [len(b["image"]) for b in runs[0]] == [4, 4, 4, 2, 2, 2]
    assert torch.cat([b["position"] for b in runs[0]]).tolist() == list(range(18))
    assert same(*runs)
    with pytest.raises(DataError, match="batch=0"):
        FaceData(config(root), batch=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_stay_one_line_even_from_workers(root: Path, workers: int) -> None:
    (root / "05.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"05\.png: empty file") as caught:
        take(FaceData(config(root, workers=workers), batch=N), 1)
    assert "\n" not in str(caught.value)
    assert len(take(FaceData(config(root, workers=workers, on_error="skip"), batch=N), 1)[0]["image"]) == N


def test_validation_is_finite_and_in_order(root: Path) -> None:
    batches = list(FaceData(config(root), batch=4).val_dataloader())
    assert torch.cat([b["index"] for b in batches]).tolist() == list(range(N))


class Probe(lightning.LightningModule):
    """Keeps what it is trained on, and stops in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[int] = []

    def training_step(self, batch, batch_idx):
        self.seen += batch["position"].tolist()
        return self.weight * batch["image"].mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_resumes_in_the_middle(root: Path, tmp_path: Path, workers: int) -> None:
    def fit(steps: int, checkpoint: str | None = None) -> tuple[Probe, lightning.Trainer]:
        probe = Probe()
        trainer = lightning.Trainer(
            max_steps=steps,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(probe, datamodule=FaceData(config(root, workers=workers), batch=3), ckpt_path=checkpoint)
        return probe, trainer

    first, trainer = fit(5)
    path = str(tmp_path / "a.ckpt")
    trainer.save_checkpoint(path)
    second, _ = fit(9, path)
    assert first.seen + second.seen == list(range(27))


def test_warning_when_the_data_changed(root: Path, caplog) -> None:
    state = FaceData(config(root))
    state.setup()
    saved = state.state_dict()
    (root / "00.png").unlink()
    FaceData(config(root, seed=3)).load_state_dict(saved)
    assert [r.getMessage().split(" in the")[0] for r in caplog.records] == [
        f"data: images were {N}",
        "data: seed were 0",
    ]


def test_memory_cache_reads_once() -> None:
    calls: list[int] = []

    def read(index: int) -> tuple[torch.Tensor, int]:
        calls.append(index)
        return torch.full((3, 4, 4), index, dtype=torch.uint8), index

    cache = MemoryCache(5, 4, read)
    for _ in range(2):
        images, indices = cache(torch.tensor([3, 1, 3]))
        assert images[:, 0, 0, 0].tolist() == indices.tolist() == [3, 1, 3]
    assert set(calls) == {1, 3}
    assert calls.count(1) == 1


@pytest.mark.parametrize("cache", ["never", "always"])
def test_a_picture_in_place_of_a_bad_one_has_its_own_pose_and_no_place_in_the_cache(
    root: Path, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = FaceData(config(root, cache=cache, on_error="skip", hflip=False), batch=N)
    data.setup()
    source = cast(ImageSource, data._train)
    source.poses = torch.stack([torch.arange(N), torch.arange(N)], 1).float()
    original, lost = ImageSource.load, {"05.png": "unreadable", "07.png": "damaged"}

    def load(self: ImageSource, index: int) -> torch.Tensor:
        if kind := lost.get(self.names[index]):
            raise BadImage(self.names[index], kind, "for now")
        return original(self, index)

    monkeypatch.setattr(ImageSource, "load", load)

    def epoch() -> list[int]:
        (batch,) = take(data, 1)
        values = ((batch["image"][:, 0, 0, 0] + 1) * 127.5 / 10).round().long()
        assert torch.equal(values, batch["index"])
        assert torch.equal(values, batch["pose"][:, 0].long())
        return sorted(values.tolist())

    for _ in range(2):
        assert epoch() == sorted([*(i for i in range(N) if i not in (5, 7)), 6, 8])
    lost.clear()  # the disk is back, and what was damaged has been found out
    assert epoch() == sorted([*(i for i in range(N) if i not in (5, 7)), 6, 8])  # not tried again so soon
    now = time.monotonic()
    monkeypatch.setattr(sources, "time", SimpleNamespace(monotonic=lambda: now + 2 * sources._AGAIN))
    assert epoch() == sorted([*(i for i in range(N) if i != 7), 8])


def test_auto_cache_has_a_limit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reader(**values) -> str:
        data = FaceData(config(root, **values))
        data.setup()
        return type(data._read).__name__

    assert reader() == "MemoryCache"
    assert reader(cache="never") == "_Direct"
    monkeypatch.setattr(module, "AUTO_CACHE_BYTES", 1000)
    assert reader() == "_Direct"
    assert reader(cache="always") == "MemoryCache"
    with pytest.raises(DataError, match=r"data\.cache='on'"):
        reader(cache="on")


def test_disk_cache_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    made: list[int] = []

    def make() -> torch.Tensor:
        made.append(1)
        return torch.arange(100, dtype=torch.uint8)

    for _ in range(2):
        assert torch.equal(on_disk("x", {"seed": 0}, make), torch.arange(100, dtype=torch.uint8))
    assert len(made) == 1
    on_disk("x", {"seed": 1}, make)
    assert len(made) == 2
    for damage in (lambda b: b[:-1] + b"\xff", lambda b: b[:50], lambda b: b""):
        path = next(tmp_path.glob("x-*"))
        path.write_bytes(damage(path.read_bytes()))
        for key in (0, 1):
            assert torch.equal(on_disk("x", {"seed": key}, make), torch.arange(100, dtype=torch.uint8))
    assert len(made) == 5
    assert sum("damaged" in r.message for r in caplog.records) == 3
    monkeypatch.setenv("ZOO_CACHE", str(next(tmp_path.glob("x-*")) / "no_folder"))
    on_disk("x", {"seed": 0}, make)
    assert "ZOO_CACHE" in caplog.records[-1].message


def test_heads_are_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    few = DataConfig(size=32, length=6)
    first = FaceData(few, batch=4)
    first.prepare_data()
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(module, "_render", None)  # a second rendering would fail
    whole = take(first, 4)
    assert whole[0]["image"].shape == (4, 3, 32, 32)
    assert same(take(FaceData(few, batch=4), 4), whole)
    assert same(take(FaceData(DataConfig(size=32, length=6, cache="never", workers=2), batch=4), 4), whole)
    assert len(list(FaceData(DataConfig(size=32, length=6, workers=1)).val_dataloader())) == 1
    with pytest.raises(DataError, match="size=8 is out of range"):
        FaceData(DataConfig(size=8)).setup()


def test_more_heads_than_fit_into_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(module, "_render", None)  # nothing is drawn
        with pytest.raises(DataError, match=r"data\.length=100000000: these heads take 3,686\.4 GB of memory while"):
            FaceData(DataConfig(length=10**8)).setup()
    head = 3 * 32**2
    few = DataConfig(size=32, length=6)
    monkeypatch.setattr(module, "free_memory", lambda: 3 * 5 * head)  # for what is drawn and two copies
    with pytest.raises(DataError, match=r"use data\.length=5 or less, or data\.cache=never, which draws each anew$"):
        FaceData(few).setup()
    FaceData(DataConfig(size=32, length=6, cache="never")).setup()
    FaceData(DataConfig(size=32, length=6, limit=5)).setup()
    monkeypatch.setattr(module, "free_memory", lambda: 3 * 6 * head)
    FaceData(few).setup()
    monkeypatch.setattr(module, "free_memory", lambda: 6 * head)  # once they are drawn, they are only read
    FaceData(few).setup()
    monkeypatch.setattr(module, "free_memory", lambda: 6 * head - 1)
    with pytest.raises(DataError, match=r"take 0\.0 GB of memory, of which .*data\.length=5 or less"):
        FaceData(few).setup()


def test_free_memory_ends_where_a_container_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2**20 < cache.free_memory() < 2**50
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:    500 kB\n")
    monkeypatch.setattr(cache, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(cache, "_LIMITS", (tmp_path / "max", tmp_path / "none"))
    for limit, free in (("max\n", 512_000), ("9000000\n", 512_000), ("4096\n", 4096)):
        (tmp_path / "max").write_text(limit)
        assert cache.free_memory() == free
    (tmp_path / "max").unlink()
    monkeypatch.setattr(cache, "_MEMINFO", tmp_path / "none")  # not Linux
    assert cache.free_memory() > 2**26


def test_another_version_of_the_heads_is_rendered_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    few = DataConfig(size=32, length=2)
    FaceData(few).prepare_data()
    monkeypatch.setattr("zoo.heads.dataset.VERSION", 10**6)
    FaceData(few).prepare_data()
    assert len(list(tmp_path.iterdir())) == 2


def test_heads_before_random_backgrounds_are_other_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    black, wild = (
        take(FaceData(DataConfig(size=32, length=4, background=name, hflip=False), batch=4), 1)[0]["image"]
        for name in ("black", "random")
    )
    assert len(list(tmp_path.iterdir())) == 2
    assert black[:, :, 0].max() == -1  # the top row, where no head reaches
    assert (wild[:, :, 0] > -0.9).float().mean() > 0.3


@pytest.mark.parametrize("name", names())
def test_shipped_configurations_are_valid(name: str) -> None:
    data = structured(DataConfig, group_file("data", name), "data")
    assert data.name == name
    pose_prior(data.scene.pose).sample(2, torch.Generator())
    light_prior(data.scene.light).sample(2, torch.Generator())


def test_every_data_set_has_a_configuration() -> None:
    assert group("data") == sorted(names())


def test_images_held_back_are_never_trained_on(root: Path) -> None:
    data = FaceData(config(root, holdout=0.2, hflip=False))
    train, held = data.source("train"), data.source("val")
    assert held.names == ["04.png", "09.png"]
    assert sorted([*train.names, *held.names]) == [f"{i:02d}.png" for i in range(N)]
    seen = {int(value) for batch in take(data, 3) for value in to_uint8(batch["image"])[:, 0, 0, 0]}
    assert seen == {10 * i for i in range(N) if i not in (4, 9)}
    assert len(FaceData(config(root, holdout=0.2, limit=6)).source("val")) == 1
    with pytest.raises(DataError, match=r"data\.holdout=0\.05: holds back none of 11 pictures; .*larger share"):
        FaceData(config(root, holdout=0.05)).source("val")
    with pytest.raises(ConfigError, match=r"data\.holdout=0\.2: the heads have a split val"):
        structured(DataConfig, {"name": "heads", "holdout": 0.2}, "data")
