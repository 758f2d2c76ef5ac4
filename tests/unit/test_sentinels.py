"""The readings that a training takes of its own shapes, and the warnings that follow from them."""

import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

import zoo
from tests.tiny import TINY
from zoo.metrics.curvature import depth_curvature, depth_variety
from zoo.systems.base import TrainingSystem
from zoo.systems.callbacks import ALIKE, Samples
from zoo.systems.photometric import PhotometricSystem


def bowl(bulge: float) -> Tensor:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")
    return (1 + bulge * (x * x + y * y))[None, None]


def test_curvature_is_the_paraboloid_of_each_object() -> None:
    depth, mask = torch.cat([bowl(0.1), bowl(-0.2), bowl(0.1)]), torch.ones(3, 1, 16, 16)
    mask[2] = 0
    found = depth_curvature(depth, mask)
    torch.testing.assert_close(found[:2], torch.tensor([0.1, -0.2]))
    assert found[2].isnan()


def test_variety_is_the_spread_over_objects() -> None:
    all_of_it = torch.ones(2, 1, 16, 16)
    assert depth_variety(torch.cat([bowl(0.1), bowl(0.1)]), all_of_it) == 0
    flat, deep = bowl(0.1), bowl(0.3)
    pixels = torch.cat([flat, deep])[:, 0]
    expected = pixels.std(0).mean() / pixels.mean(0).std()
    torch.testing.assert_close(depth_variety(torch.cat([flat, deep]), all_of_it), expected)
    assert expected > 0.1

    differ_outside = torch.cat([flat, flat])
    differ_outside[1, :, :4] = 7
    half = all_of_it.clone()
    half[0, :, :4] = 0
    assert depth_variety(differ_outside, half) == 0
    assert depth_variety(flat, all_of_it[:1]).isnan()
    assert depth_variety(torch.cat([flat, deep]), 0 * all_of_it).isnan()


class Recorder:
    def __init__(self) -> None:
        self.records: list[dict[str, float]] = []

    def log_metrics(self, record: dict[str, float]) -> None:
        self.records.append(record)


def readings(tmp_path: Path, values: list[tuple[float, ...]], cfg: Any, caplog: pytest.LogCaptureFixture) -> Any:
    """Show a run's sentinels these curvatures, varieties and perhaps covers; records and warnings come back."""
    recorder, samples = Recorder(), Samples(tmp_path, 1.0, patience=2)
    model = SimpleNamespace(hollow_advice=None)
    advice = getattr(cfg, "advice", TrainingSystem.alike_advice)
    sheet = {"shown": lambda n: object(), "inputs": lambda n: None}
    system = SimpleNamespace(**sheet, kimg=1.0, generator=model, cfg=cfg, alike_advice=advice)
    with caplog.at_level(logging.WARNING, "zoo.systems.callbacks"):
        for value in values:
            samples.draw = lambda *_, value=value: (*value, math.nan)[:3]  # type: ignore[method-assign]
            samples._look(cast(Any, SimpleNamespace(loggers=[recorder])), cast(Any, system))
            again = Samples(tmp_path, 1.0, patience=2)  # as a run that was stopped here and goes on
            again.load_state_dict(samples.state_dict())
            samples = again
    return recorder.records, [r.getMessage() for r in caplog.records]


def test_one_shape_for_all_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    decays = SimpleNamespace(advice=PhotometricSystem.alike_advice)
    records, told = readings(tmp_path, [(0.1, ALIKE / 2), (0.1, 0.2), *[(0.1, ALIKE / 2)] * 3], decays, caplog)
    assert [r["variety"] for r in records] == [ALIKE / 2, 0.2, *[ALIKE / 2] * 3]
    assert len(told) == 1
    assert "one shape in 2 samples running" in told[0]
    assert "system.weight_decay=0 or lower" in told[0]
    caplog.clear()
    _, told = readings(tmp_path, [(0.1, 0.0)] * 2, SimpleNamespace(), caplog)
    assert "weight_decay" not in told[0]


def test_hollow_shapes_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = [(-0.1, 0.2), (0.1, math.nan), *[(-0.1, 0.2)] * 3]
    records, told = readings(tmp_path, values, SimpleNamespace(), caplog)
    assert "variety" not in records[1]
    assert len(told) == 1
    assert "hollow in 2 samples running" in told[0]


def test_walls_and_lost_objects_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wall, lost, sound = ((0.1, 0.2, cover) for cover in (0.99, 0.01, 0.5))
    records, told = readings(tmp_path, [wall, sound, wall, wall, wall], SimpleNamespace(), caplog)
    assert [r["cover"] for r in records if "cover" in r] == [0.99, 0.5, 0.99, 0.99, 0.99]
    assert len(told) == 1
    assert "objects have been walls in 2 samples running (cover 0.99 at 1.0 kimg): restart with init=" in told[0]
    caplog.clear()
    assert (
        "backgrounds have hidden objects in 2 samples"
        in readings(tmp_path, [lost] * 2, SimpleNamespace(), caplog)[1][0]
    )
    caplog.clear()
    assert readings(tmp_path, [(0.1, 0.2)] * 3, SimpleNamespace(), caplog)[1] == []  # no background, nothing to cover


def test_cover_is_the_share_that_objects_fill(tmp_path: Path) -> None:
    for background in ("none", "map"):
        model = zoo.build("pigan", **TINY, density_scale=30, background=background).eval()
        system = SimpleNamespace(
            averaged=lambda model=model: model,
            stage=lambda: (SimpleNamespace(size=16),),
            beside=lambda n: {},
            images=0,
        )
        latents = model.latents(2)
        cover = Samples(tmp_path, 1.0, patience=1).draw(cast(Any, system), latents)[2]
        mask = model(latents, model.camera(size=16)).mask
        assert 0 < (mask > 0.5).float().mean() < 1
        assert math.isnan(cover) if background == "none" else cover == (mask > 0.5).float().mean().item()


def test_a_dead_depth_network_shows(tmp_path: Path) -> None:
    model = zoo.build("unsup3d", size=32, nf=8, zdim=8, groups=4, encoder_nf=4, depth_prior="ellipsoid").eval()
    system = SimpleNamespace(
        averaged=lambda: model, stage=lambda: (SimpleNamespace(size=32),), beside=lambda n: {}, images=0
    )
    draw, latents = Samples(tmp_path, 1.0, patience=1).draw, model.latents(3)
    alive = draw(cast(Any, system), latents)[1]
    with torch.no_grad():
        for weight in model.netD.parameters():
            weight.mul_(1e-3)
    dead = draw(cast(Any, system), latents)[1]
    assert dead < ALIKE / 10
    assert alive > 10 * dead
