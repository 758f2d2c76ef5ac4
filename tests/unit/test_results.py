"""The rows that are shipped: docs/results.md shows them, they belong to the shipped weights, and come out again."""

import pytest

import zoo
from tests.results import BENCHMARKS, PAGE, README, changed_cells, page, readme, rows
from zoo.evaluation import store
from zoo.evaluation.benchmark import Benchmark, Options
from zoo.evaluation.benchmarks.heads_v2 import MEAN, HeadsV2
from zoo.evaluation.shape.protocol import ShapeProtocol


def test_the_documents_show_the_rows() -> None:
    assert PAGE.read_text("utf-8") == page(), "call make results"
    shown = README.read_text("utf-8")
    assert shown == readme(shown), "call make results"
    assert "<!-- rows: heads-v2 -->" in shown


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.protocol)
def test_rows_belong_to_shipped_weights(benchmark: Benchmark) -> None:
    """After weights have changed, their old rows must go."""
    keys = {store.key_of(zoo.load(name, device="cpu"), 0) for name in zoo.list(pretrained=True)}
    keys |= {store.key_of(name, 0) for name in benchmark.baselines}
    assert {path.stem for path in (store.SHIPPED / store.folder_of(benchmark)).glob("*.json")} <= keys
    assert all(row.protocol == benchmark.protocol for row in rows(benchmark))


@pytest.mark.slow
def test_a_row_comes_out_again() -> None:
    opened = HeadsV2(ShapeProtocol(), {}, Options())
    kept = store.find(opened, MEAN, "mean-shape", shipped=True)
    assert kept
    assert not changed_cells(opened, kept[0])
