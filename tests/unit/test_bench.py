"""What all benches share: turns, spreads, limits, tables, pages, plots; and that what is compared is comparable."""

import gc
import json
import math
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import zoo
from tests.tiny import TINY
from zoo.bench import fields, fit, harness, limits, memory, peak, report, run, scaling, train
from zoo.bench.harness import Row, Spread, Work, interleaved
from zoo.bench.plots import plot
from zoo.bench.published.generator import Reference
from zoo.cli import main as cli
from zoo.errors import ConfigError, ZooError
from zoo.generators import field
from zoo.output.charts import Curve, curves
from zoo.renderers import p3d
from zoo.renderers.depthmaps.depthmap import MapCamera, warp_depth

ROWS = [
    Row("field", Spread(0.5, 0.4, 0.6, 9), "reference", Spread(1.0, 0.9, 1.1, 9), 0.25, 1, 40.0, 400.0, {"G": 0.75}),
    Row("large", None, "reference", memory_mb=1000.0, their_memory_mb=math.inf),
]


def test_ways_take_turns_and_the_first_turn_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen = [0.0], []
    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock[0])

    def way(name: str, seconds: float) -> Any:
        def call() -> None:
            seen.append(name)
            clock[0] += seconds if len(seen) > 2 else 100.0

        return call

    found = interleaved({"zoo": way("zoo", 1.0), "other": way("other", 4.0)}, rounds=5, seconds=1e9)
    assert seen == ["zoo", "other"] * 6
    assert found == {"zoo": Spread(1.0, 1.0, 1.0, 5), "other": Spread(4.0, 4.0, 4.0, 5)}


def test_no_new_round_begins_when_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock[0])

    def call() -> None:
        clock[0] += 1.0

    assert interleaved({"zoo": call}, rounds=50, seconds=10.5)["zoo"].turns == 10
    assert interleaved({"zoo": call}, rounds=50, seconds=0.9)["zoo"].turns == 2
    assert interleaved({"zoo": call}, rounds=50, seconds=0.0)["zoo"].turns == 1


def test_a_row_says_ratio_share_and_speed() -> None:
    assert (ROWS[0].ratio, ROWS[0].share, ROWS[0].images_per_s) == (2.0, 0.5, 2.0)
    assert (ROWS[1].ratio, ROWS[1].share, ROWS[1].images_per_s) == (None, None, None)
    whole = json.loads(json.dumps(ROWS[1].as_dict(), allow_nan=False))
    assert whole["their_memory_mb"] == "does not fit"
    headings, body = report.cells(ROWS)
    assert headings == [
        "case",
        "zoo, s",
        "other, s",
        "ratio",
        "of limit",
        "images/s",
        "memory, MiB",
        "other's",
        "parts",
    ]
    assert body[0] == ["field", "0.500 ± 0.100", "1.00 ± 0.10 reference", "2.00x", "50 %", "2", "40", "400", "G 75 %"]
    assert body[1][-2:] == ["does not fit", ""]
    assert report.cells(ROWS[1:])[0] == ["case", "memory, MiB", "other's"]


def test_a_section_of_a_page_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench fields -->\nold\n<!-- end fields -->\nafter\n", "utf-8")
    report.write(page, "fields", "new\n")
    assert page.read_text("utf-8") == "before\n<!-- bench fields -->\nnew\n<!-- end fields -->\nafter\n"
    with pytest.raises(ConfigError, match="write the lines '<!-- bench train -->'"):
        report.write(page, "train", "new\n")


def test_the_limits_are_measured_and_leave_torchs_threads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_SECONDS", 0.0)
    threads = torch.get_num_threads()
    for found in (limits.products.__wrapped__(16, "cpu"), limits.sines.__wrapped__("cpu")):
        assert 0 < found < math.inf
    assert torch.get_num_threads() == threads


def test_the_work_of_a_point_is_what_torch_counts() -> None:
    options: dict[str, Any] = {**TINY, "hidden_dim": 32, "layers": 3}
    for method, normals in (("pigan", False), ("shadegan", True)):
        g = zoo.build(method, **options)
        reference, points = Reference(g), torch.rand(1, 64, 3)
        film, light = reference.siren.film(g.latents(1).z).detach(), torch.rand(1, 4) if normals else None
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            reference.siren(points, film, points, light, False)
        gradient = 2 * 32 * (2 * 32 + 3) if normals else 0  # a product for each layer, backwards
        assert counter.get_total_flops() / 64 + gradient == fields.cost(32, 3, normals)[0]


def test_every_bench_lists_works_without_making_them() -> None:
    for module in (fields, train, fit, memory):
        works: list[Work] = module.works("cpu")
        assert len({work.name for work in works}) == len(works)
        assert all(work.ways[0] == "zoo" for work in works)
    assert sum("256 px" in work.name for work in memory.works("cpu")) == 4
    assert {point.axis for point in scaling.sweep()} >= {"image side, px", "batch", "threads"}


def test_both_ways_of_a_work_give_one_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "COARSE", 6)
    monkeypatch.setattr(fields, "FINE", 4)
    monkeypatch.setattr(field, "_LEAST_WEIGHT", 0.0)  # else samples are left out, see test_volume
    options: Mapping[str, Any] = {**TINY, "inference_steps": 0}
    calls = fields.rendering("shadegan", lambda: zoo.build("shadegan", **options), 8).make()
    ours: Any = calls["zoo"]()
    theirs: Any = calls["reference"]()
    torch.testing.assert_close(ours.rgb, theirs.rgb, atol=2e-5, rtol=1e-5)
    calls = fields.rendering("pigan", lambda: zoo.build("pigan", **options), 8).make()
    rays: Any = calls["zoo"]()
    theirs = calls["reference"]()
    torch.testing.assert_close(rays.rgb * 2 - 1, theirs.rgb.flatten(2).mT, atol=2e-5, rtol=1e-5)


@pytest.mark.skipif(not p3d.native()[0], reason="PyTorch3D's native part does not load here")
def test_pytorch3d_sees_the_same_depth() -> None:
    camera = MapCamera(12)
    axis = torch.linspace(-1, 1, 12)
    depth = (1.05 - 0.08 * torch.exp(-2 * (axis[:, None] ** 2 + axis**2))).expand(2, 1, 12, 12)
    view = torch.tensor([[0.1, 0.2, 0.0], [0.0, -0.3, 0.1]])
    ours, theirs = warp_depth(depth, view, camera, fit.NEAR, fit.FAR)[0], fit.pytorch3d_warp(depth, view, camera)
    assert ((ours - theirs).abs() < 1e-5).float().mean() > 0.97  # an edge through a sample may go to either side


def test_rows_are_made_until_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = [Work(f"work {i}", lambda: {"zoo": lambda: None, "reference": lambda: None}, images=2) for i in range(2)]
    monkeypatch.setattr(fields, "works", lambda device: quick)
    monkeypatch.setattr(run, "peak", lambda bench, number, who, device: float(number))
    said: list[str] = []
    rows = list(run.measure("fields", say=said.append))
    assert [(row.case, row.other, row.memory_mb) for row in rows] == [
        ("work 0", "reference", 0),
        ("work 1", "reference", 1),
    ]
    assert said == ["work 0", "work 1"]
    said.clear()
    assert list(run.measure("fields", seconds=0.0, say=said.append)) == []
    assert said == ["left out, as 0 seconds are over: work 0, work 1"]


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_prints_and_writes(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "measure", lambda bench, device, seconds, say: iter(ROWS))
    monkeypatch.setattr(run, "count", lambda bench, device: len(ROWS))
    page = tmp_path / "page.md"
    page.write_text("<!-- bench memory -->\n<!-- end memory -->\n", "utf-8")
    assert cli._run(["bench", "memory", "--page", str(page), *(["--json"] if as_json else [])], debug=False) == 0
    out = capsys.readouterr().out
    if as_json:
        assert [row["case"] for row in json.loads(out)["rows"]] == ["field", "large"]
    else:
        assert "does not fit" in out
    assert "| field | 0.500 ± 0.100 |" in page.read_text("utf-8")


POINTS = [scaling.Point("batch", "shadegan", v, batch=v, seconds=0.5 * v, memory_mb=10.0 * v) for v in (1, 2, 4)]
TRACE = 'Traceback (most recent call last):\n  File "zoo/runtime/memory.py", line 9, in a\n    raise MemoryError\n'


@pytest.mark.parametrize("bench", ["memory", "scaling"])
def test_a_page_without_the_section_is_refused_before_anything_is_measured(
    bench: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (run, scaling):
        monkeypatch.setattr(module, "measure", lambda *_: pytest.fail("something was measured"))
    assert cli._run(["bench", bench, "--page", str(tmp_path / "page.md")], debug=False) == 1
    assert f"no section for these figures; write the lines '<!-- bench {bench} -->'" in capsys.readouterr().err


@pytest.mark.parametrize("bench", ["memory", "scaling"])
def test_a_table_that_lacks_rows_is_printed_and_replaces_none(
    bench: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "measure", lambda bench, device, seconds, say: iter(ROWS))
    monkeypatch.setattr(
        scaling, "measure", lambda points, device, seconds, say: [*POINTS, replace(POINTS[0], seconds=None)]
    )
    page = tmp_path / "page.md"
    page.write_text(whole := f"<!-- bench {bench} -->\nold\n<!-- end {bench} -->\n", "utf-8")
    assert cli._run(["bench", bench, "--page", str(page)], debug=False) == 1
    shown = capsys.readouterr()
    assert ("does not fit" if bench == "memory" else "shadegan") in shown.out
    missing = run.count(bench) - 2 if bench == "memory" else 1
    assert (
        f"stays as it is, as {missing} rows were not measured; allow more --seconds, or mend what failed" in shown.err
    )
    assert page.read_text("utf-8") == whole
    assert list(tmp_path.iterdir()) == [page]


def test_a_sweep_is_written_with_its_drawings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "sweep", lambda: POINTS)
    monkeypatch.setattr(scaling, "measure", lambda points, device, seconds, say: points)
    page = tmp_path / "page.md"
    page.write_text("<!-- bench scaling -->\n<!-- end scaling -->\n", "utf-8")
    assert cli._run(["bench", "scaling", "--page", str(page)], debug=False) == 0
    assert "![batch](images/scaling-batch.svg)\n\n| axis |" in page.read_text("utf-8")


def test_every_row_of_a_bench_counts() -> None:
    assert run.count("memory") == len(memory.works("cpu"))
    assert run.count("train") == len(train.works("cpu")) + len(train.RECIPES)


def test_sweeps_become_drawings(tmp_path: Path) -> None:
    assert plot(POINTS, tmp_path / "images") == {"batch": "images/scaling-batch.svg"}
    text = (tmp_path / "images" / "scaling-batch.svg").read_text("utf-8")
    assert text.count("<polyline") == 2
    assert "shadegan, MiB" in text
    assert "10 to 40" in text
    with pytest.raises(ValueError, match="no curve"):
        curves("nothing", [])
    steep = curves("x", [Curve("a", ((1, 1), (2, 2))), Curve("b", ((1, 10), (2, 20)))])
    first, second = (part.split('"')[0].split() for part in steep.split('points="')[1:])
    assert first == second  # the same factor is the same slope


def test_a_setting_of_several_axes_is_measured_once_in_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter((3.0, 10.0, 1.0, 30.0, 2.0, 20.0))

    def apart(setting: scaling.Point, device: str) -> scaling.Point:
        taken = next(seconds)
        return replace(setting, seconds=taken, memory_mb=taken)

    monkeypatch.setattr(scaling, "_apart", apart)
    points = [
        scaling.Point("batch", "shadegan", 1),
        scaling.Point("image side, px", "shadegan", 64),
        scaling.Point("image side, px", "shadegan", 256, size=256),
    ]
    found = scaling.measure(points)
    assert [(point.axis, point.value, point.seconds, point.memory_mb) for point in found] == [
        ("batch", 1, 2.0, 3.0),
        ("image side, px", 64, 2.0, 3.0),
        ("image side, px", 256, 20.0, 30.0),
    ]
    said: list[str] = []
    assert scaling.measure(points, seconds=0, say=said.append) == points
    assert said == ["left out, as 0 seconds are over: 2 of 2 settings"]


@pytest.mark.parametrize("reason", ["ValueError: wrong", "MemoryError"])
def test_a_point_that_fails_stays_empty_and_the_sweep_goes_on(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def child(command: list[str], **_: Any) -> SimpleNamespace:
        setting = json.loads(command[3])
        if setting["batch"] == 2:
            return SimpleNamespace(returncode=1, stdout="", stderr=TRACE + reason)
        return SimpleNamespace(returncode=0, stdout=json.dumps(setting | {"seconds": 0.5}), stderr="")

    monkeypatch.setattr(subprocess, "run", child)
    monkeypatch.setattr(scaling, "PASSES", 1)
    said: list[str] = []
    points = [replace(point, seconds=None, memory_mb=None) for point in POINTS]
    found = scaling.measure(points, say=said.append)
    assert [point.images_per_s for point in found] == [2.0, None, 8.0]
    assert len(said) == 4
    assert said[2].startswith("left out: ValueError: wrong (exit" if "wrong" in reason else "left out: python -m")


def test_an_empty_point_has_empty_cells(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(scaling, "measure", lambda *_: [scaling.Point("batch", "shadegan", 2)])
    assert cli._run(["bench", "scaling"], debug=False) == 0
    assert "nan" not in capsys.readouterr().out
    assert cli._run(["bench", "scaling", "--json"], debug=False) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["images_per_s"] is None


@pytest.mark.parametrize(
    ("code", "last", "reason"),
    [
        (1, "MemoryError", None),
        (1, "RuntimeError: alloc_cpu.cpp: DefaultCPUAllocator: can't allocate memory: you tried 9 bytes.", None),
        (1, "OSError: [Errno 12] Cannot allocate memory", None),
        (1, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 9 GiB.", None),
        (-9, "", None),
        (1, "ValueError: wrong", "ValueError: wrong (exit code 1)"),
        (-11, "Fatal: wrong", "Fatal: wrong (signal 11)"),
    ],
)
def test_only_a_lack_of_memory_does_not_fit(
    code: int, last: str, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = SimpleNamespace(returncode=code, stdout="", stderr=TRACE + last)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(peak, "_STATUS", Path(__file__))
    if reason is None:
        assert peak.peak("fit", 0, "zoo", "cpu") == math.inf
    else:
        with pytest.raises(ZooError) as raised:
            peak.peak("fit", 0, "zoo", "cpu")
        assert str(raised.value) == f"{reason}; for the trace run: python -m zoo.bench.peak fit 0 zoo cpu"


@pytest.mark.slow
def test_memory_and_sweeps_are_measured_in_processes_of_their_own() -> None:
    found = peak.peak("fields", 0, "zoo", "cpu")
    assert found is not None
    assert 0 < found < 2000
    (point,) = scaling.measure([scaling.Point("batch", "meshgan", 1, size=16, mesh=8)])
    assert point.images_per_s


def test_both_films_of_a_bench_show_the_same_and_go_with_its_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fields.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(fields, "FRAMES", 2)
    monkeypatch.setattr(fields, "FILM_SIDE", 16)
    calls = fields.works("cpu")[-1].make()
    ours, theirs = (iio.imread(str(calls[way]())) for way in ("zoo", "reference"))
    assert ours.shape == theirs.shape == (2, 16, 16, 3)
    assert np.abs(np.subtract(ours, theirs, dtype=int)).mean() < 2
    del calls
    gc.collect()
    assert not list(tmp_path.iterdir())
