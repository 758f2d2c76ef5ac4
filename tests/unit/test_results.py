"""The rows that are shipped: docs/results.md shows them, they belong to the shipped weights, and come out again."""

import json
import shutil
from pathlib import Path

import pytest

import zoo
from tests import results
from tests.campaigns.claims import CLAIMS, command_of, value_of, verdict
from tests.results import BENCHMARKS, COMPARISON, PAGE, changed_cells, comparison, page, rows, stamp
from zoo.evaluation import benchmarks, store
from zoo.evaluation.benchmark import Benchmark, Options
from zoo.evaluation.benchmarks.heads_v2 import MEAN, HeadsV2
from zoo.evaluation.shape.protocol import ShapeProtocol


def test_the_documents_show_the_rows() -> None:
    assert PAGE.read_text("utf-8") == page(), "call make results"
    shown = COMPARISON.read_text("utf-8")
    assert shown == comparison(shown), "call make results"
    assert "<!-- rows: heads-v2 -->" in shown


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.protocol)
def test_rows_belong_to_shipped_weights(benchmark: Benchmark) -> None:
    """After weights have changed, their old rows must go."""
    keys = {store.key_of(zoo.load(name, device="cpu"), 0) for name in zoo.list(pretrained=True)}
    keys |= {store.key_of(name, 0) for name in benchmark.baselines}
    assert {path.stem for path in (store.SHIPPED / store.folder_of(benchmark)).glob("*.json")} <= keys
    assert all(row.protocol == benchmark.protocol for row in rows(benchmark))


def test_rows_of_other_numbers_are_stamped_if_they_come_out_and_damaged_ones_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (heads,) = (each for each in BENCHMARKS if each.protocol == "heads-v1")
    folder = Path(shutil.copytree(store.SHIPPED / "heads-v1", tmp_path / "heads-v1"))
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    before = rows(heads)
    path = folder / "mean-shape.json"
    values = json.loads(path.read_text("utf-8"))
    values["made"]["numbers"] = "00000000"
    path.write_text(json.dumps(values), "utf-8")
    with pytest.raises(SystemExit, match="the shipped row cannot be read"):
        rows(heads)
    monkeypatch.setattr(results, "changed_cells", lambda *_: ["SIDE"])
    with pytest.raises(SystemExit, match="SIDE changed; measure all rows again"):
        stamp(heads)
    monkeypatch.setattr(results, "changed_cells", lambda *_: [])
    stamp(heads)
    assert [row.figures for row in rows(heads)] == [row.figures for row in before]
    path.write_text("{}", "utf-8")
    with pytest.raises(SystemExit, match="it is no row"):
        stamp(heads)


@pytest.mark.slow
def test_a_row_comes_out_again() -> None:
    opened = HeadsV2(ShapeProtocol(), {}, Options())
    kept = store.find(opened, MEAN, "mean-shape", shipped=True)
    assert kept
    assert not changed_cells(opened, kept[0])


def test_claims_hold_where_all_seeds_agree(tmp_path: Path) -> None:
    lower = CLAIMS[0]
    assert verdict(lower, [-1.0, -1.1, -0.9]).startswith("holds: normals -1 ")
    assert verdict(lower, [-1.0, -9.0, -0.1]).startswith("holds for each seed, within the spread")
    assert verdict(lower, [-1.0, -1.1, 0.1]).startswith("does not hold")
    for claim in CLAIMS:
        (opened,) = (each for each in BENCHMARKS if type(each) is benchmarks.find(claim.benchmark))
        assert claim.figure in {column.key for column in opened.columns}
        for side in (claim.first, claim.second):
            if side.command:
                assert value_of(claim, side, 0, tmp_path) is None
                assert f"{side.name}-2" in command_of(side, 2, tmp_path)
            else:
                assert side.name in zoo.list(pretrained=True)
