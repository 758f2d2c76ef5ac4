"""Rows outlive the process: found by weights, protocol and seed; measured anew when they are damaged or asked for."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from tests.tiny import TINY
from zoo.evaluation import store
from zoo.evaluation.benchmark import Benchmark, Options, Pictures, Row, Subject
from zoo.evaluation.benchmarks.heads import Heads
from zoo.evaluation.comparison import compare, measure
from zoo.output.strips import Sheet
from zoo.runtime.progress import Steps


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the rows that were measured, in place of work that takes minutes."""
    names: list[str] = []

    def row(self: Benchmark, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        names.append(name)
        figures = {"SIDE": float(len(names)), "MAD": 2.0, "SIDE_std": None, "MAD_std": None}
        samples = {"SIDE": np.arange(4.0)}
        found = Row(name, "model", self.protocol, 4, figures, 1.0, ["a note"], {"SIDE": (0.5, 2.0)}, samples)
        return found, lambda: [
            Sheet("Samples", "Look.", [("image", torch.linspace(0, 1, 2 * 3 * 64).view(2, 3, 8, 8))])
        ]

    monkeypatch.setattr(Heads, "row", row)
    monkeypatch.setattr(Heads, "test", None)
    return names


def test_a_second_comparison_measures_nothing(measured: list[str]) -> None:
    first = compare({}, progress=False)
    assert measured == list(Heads.baselines)
    second = compare({}, progress=False)
    assert measured == list(Heads.baselines)
    assert [row.as_dict() for row in second.rows] == [row.as_dict() for row in first.rows]
    row = second.rows[0]
    assert row.intervals == {"SIDE": (0.5, 2.0)}
    assert row.samples["SIDE"].tolist() == [0, 1, 2, 3]
    assert {"command", "date", "versions", "threads", "machine"} <= row.made.keys()
    ((label, images),) = second.sheets["constant"][0].rows
    assert label == "image"
    assert (images - first.sheets["constant"][0].rows[0][1]).abs().max() < 0.1  # WebP loses a little
    compare({}, progress=False, fresh=True)
    assert len(measured) == 2 * len(Heads.baselines)


def test_a_killed_comparison_goes_on(measured: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    row = Heads.row

    def dies(self: Heads, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        if name == "supervised":
            raise SystemExit
        return row(self, name, subject, steps)

    monkeypatch.setattr(Heads, "row", dies)
    with pytest.raises(SystemExit):
        compare({}, progress=False)
    monkeypatch.setattr(Heads, "row", row)
    assert measured == ["constant", "average"]
    compare({}, progress=False)
    assert measured == list(Heads.baselines)


def test_rows_belong_to_weights_seed_and_protocol(measured: list[str]) -> None:
    one, same, other = (zoo.build("pigan", **TINY, seed=seed) for seed in (0, 0, 1))
    measure("one", one, progress=False)
    assert measure("renamed", same, progress=False)[1].name == "renamed"
    assert measured == ["one"]
    with torch.no_grad():
        next(same.parameters()).view(-1)[0] += 1e-6
    for subject, options in ((other, {}), (same, {}), (one, {"seed": 1}), (one, {"quick": True})):
        measure("x", subject, progress=False, **options)  # type: ignore[arg-type]
    assert len(measured) == 5
    measure("f", lambda images: images[:, :1], progress=False)
    measure("f", lambda images: images[:, :1], progress=False)
    assert len(measured) == 7


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "no text": lambda path: path.write_bytes(b"\xff\xfe"),
    "other fields": lambda path: path.write_text("{}"),
    "figures": lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {"figures": {"SIDE": {"a": 1}}})),
    "no pictures": lambda path: path.with_suffix(".npz").unlink(),
    "cut pictures": lambda path: path.with_suffix(".npz").write_bytes(path.with_suffix(".npz").read_bytes()[:-50]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_costs_time_and_nothing_else(
    name: str, measured: list[str], rows_of_its_own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    measure("constant", "constant", progress=False)
    DAMAGE[name](rows_of_its_own / "heads-v1" / "constant.json")
    with caplog.at_level(logging.WARNING):
        measure("constant", "constant", progress=False)
    assert measured == ["constant", "constant"]
    assert "measured anew" in caplog.text
    measure("constant", "constant", progress=False)
    assert measured == ["constant", "constant"]


def test_a_disk_that_cannot_be_written_costs_a_warning(
    measured: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_RESULTS", str(tmp_path / "file" / "below"))
    with caplog.at_level(logging.WARNING):
        assert measure("constant", "constant", progress=False)[1].figures["MAD"] == 2
    assert "is not kept" in caplog.text


def test_names_of_folders_are_plain() -> None:
    opened = Heads(replace(Heads.standard, name="heads-v1/quick/n_test=5"), {}, Options())
    assert store.folder_of(opened) == "heads-v1+quick+n_test=5"
    assert store.key_of("mean shape", 2) == "mean-shape-seed2"
