"""A step reads no number off the device: what it logs is read when a record is written. Parts of its time are told."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from zoo import registry
from zoo.bench.steps import fit
from zoo.config import recipes
from zoo.errors import ZooError
from zoo.renderers.fields import volume
from zoo.systems.adversarial import AdversarialSystem
from zoo.systems.base import TrainingSystem
from zoo.systems.callbacks import RunLogger, Samples
from zoo.systems.parts import Parts, shown
from zoo.systems.stopping import held_back
from zoo.systems.stopping.held_back import HeldBack

STYLE = ["system.ada_target=0.6", "system.ada_kimg=0.01", "system.mixing=0.5", "system.path_length=2",
         "system.path_length_every=1", "generator.z_dim=8",
         "generator.size=32", "generator.mapping_layers=2", "generator.channel_base=128", "generator.channel_max=8",
         "system.stages=[{size: 32, batch: 4}]", "system.discriminator={name: plain, channels: [4, 4, 8, 8]}",
         "data.size=32", "data.length=40", "trainer.accelerator=cpu", "trainer.compile=never"]  # fmt: skip


class Reads(TorchDispatchMode):
    """Counts what makes Python wait for a device: tensors that become numbers, or indices."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in ("aten::_local_scalar_dense", "aten::nonzero"):
            self.found.append(func._schema.name)
        return func(*args, **(kwargs or {}))


class Copies(TorchFunctionMode):
    """Counts tensors of Python's numbers that are made beside others, or on a device: they would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asked = func in (torch.tensor, torch.as_tensor) and "device" in (kwargs or {})
        if asked or func is torch.Tensor.new_tensor:
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("pigan", {"lock_view": True}), ("shadegan", {}), ("gof", {}), ("graf", {}), ("stylegan2", {}),
        ("mobilestylegan", {}), ("hologan", {}), ("hologan", {"reverse": True}),
    ],
)  # fmt: skip
def test_no_picture_of_a_step_takes_numbers_from_python(
    method: str, changes: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume, "counts_freely", lambda device: False)
    kind = registry.resolve(method)
    generator = kind(replace(kind.tiny(), **changes)).train()
    latents, camera = generator.latents(2), generator.cameras(2, size=16)
    light = generator.lights(2) if generator.uses_light else None
    with Copies() as copies:
        generator(latents, camera, light, generator.schedule(0.0)).rgb.mean().backward()
        assert copies.found == []
        torch.zeros(1).new_tensor([1.0])
        torch.tensor([1.0], device="cpu")
    assert copies.found == ["new_tensor", "tensor"]


@pytest.mark.parametrize("method", ["pigan", "shadegan", "stylegan2"])
def test_no_step_reads_a_number(
    method: str, tiny: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingSystem, "runs_ahead", True)
    monkeypatch.setattr(volume, "counts_freely", lambda device: False)
    # Adam reads its count of steps, which lies on the CPU wherever the weights are.
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, closure=None: closure and closure())
    found: list[str] = []
    step = TrainingSystem.training_step

    def watched(self: TrainingSystem, batch: Any, batch_idx: int) -> None:
        with Reads() as reads:
            step(self, batch, batch_idx)
        found.extend(reads.found)

    monkeypatch.setattr(TrainingSystem, "training_step", watched)
    recipe = recipes.load_run(
        f"{method}_heads64", [*(STYLE if method == "stylegan2" else tiny()), "trainer.log_every=4"]
    )
    system = fit(recipe, tmp_path, steps=2)
    assert system.images == 8
    assert found == []
    record = json.loads((tmp_path / "metrics.jsonl").read_text("utf-8"))
    assert {"g", "d", "score_real", "r1"} <= set(record)
    assert all(isinstance(value, float | int) for value in record.values())
    assert ("augment_p" in record) == (method == "stylegan2")


def test_a_gradient_that_is_no_number_is_told_later_where_the_device_runs_ahead(
    tiny: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingSystem, "runs_ahead", True)
    monkeypatch.setattr(volume, "counts_freely", lambda device: False)
    run = recipes.load_run("pigan_heads32", [*tiny(), "trainer.log_every=2"])
    steps: list[int] = []

    def spoil(system: TrainingSystem, images: torch.Tensor) -> None:
        steps.append(system.images)
        if len(steps) == 1:
            next(system.generator.parameters()).data.fill_(float("nan"))

    with pytest.raises(ZooError, match=r"is not finite at 0\.0 kimg"):
        fit(run, tmp_path, steps=5, before=spoil)
    assert steps == [0, 4]


@pytest.mark.parametrize("kind", ["sheets", "held back"])
def test_gradients_that_are_no_numbers_are_told_before_anything_is_drawn(
    kind: str, tiny: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recipes.load_run("pigan_heads32", [*tiny(), "trainer.sample_kimg=0.004", "trainer.patience=2"])
    system = AdversarialSystem(run)
    monkeypatch.setattr(Samples, "draw", lambda *_: pytest.fail("drawn"))
    monkeypatch.setattr(held_back, "judge_of", lambda _: lambda *_: pytest.fail("read"))
    sheets = Samples(tmp_path, run.trainer.sample_kimg, 1)
    looks: Any = sheets if kind == "sheets" else HeldBack(tmp_path, run, torch.zeros(2, 3, 16, 16))
    looks._judge = held_back.judge_of(system)
    looks.due(0.0)
    system.images = 8
    system._norms.append(("PiGAN", 0.004, torch.tensor(float("nan"))))
    with pytest.raises(ZooError, match=r"the gradient of PiGAN is not finite at 0\.0 kimg"):
        looks.on_train_batch_end(SimpleNamespace(is_global_zero=True), system)


def test_records_hold_the_means_of_numbers_and_of_scalars(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path, 2)
    weight = torch.ones((), requires_grad=True)
    logger.log_metrics({"a": weight * 0.1, "b": 1.0}, 4)
    logger.log_metrics({"a": torch.tensor(0.3), "c": torch.tensor(5.0, dtype=torch.bfloat16)}, 8)
    exact = (torch.tensor(0.1).item() + torch.tensor(0.3).item()) / 2
    assert logger.records() == [{"kimg": 0.008, "a": exact, "b": 1.0, "c": 5.0}]


def test_shares_are_those_of_the_time_between_laps(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 3.0, 10.0, 13.0, 14.0])
    monkeypatch.setattr("zoo.systems.parts.time.perf_counter", lambda: next(times))
    parts, cpu = Parts(), torch.device("cpu")
    for part in ("data", "G", "D"):
        parts.lap(part, cpu)
    parts.resume(cpu)
    parts.lap("G", cpu)
    parts.lap("rest", cpu)
    assert parts.shares() == {"G": 4 / 7, "D": 2 / 7, "rest": 1 / 7}
    assert shown({"G": 4 / 7, "data": 0.0}) == "G 57 %, data 0 %"
    assert parts.shares() == {}
