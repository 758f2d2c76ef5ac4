"""Rows outlive the process: found by weights, protocol and seed; measured anew when they are damaged or asked for."""

import ast
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
from zoo.cli import main as cli
from zoo.evaluation import benchmarks, provenance, scores, store
from zoo.evaluation.benchmark import Benchmark, Options, Pictures, Row, Subject
from zoo.evaluation.benchmarks.heads import Heads
from zoo.evaluation.benchmarks.heads_v2 import HeadsV2
from zoo.evaluation.benchmarks.inversions import Inversions
from zoo.evaluation.benchmarks.photos import Photos
from zoo.evaluation.comparison import compare, measure
from zoo.output.strips import Sheet
from zoo.runtime.progress import Steps


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Names of the rows that were measured, in place of work that takes minutes."""
    names: list[str] = []

    def row(self: Benchmark, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        names.append(name)
        figures = {
            "SIDE": float(len(names)),
            "MAD": 2.0,
            "SIDE_std": None,
            "MAD_std": None,
            "variance": None,
            "psnr": None,
        }
        samples = {"SIDE": np.arange(4.0)}
        found = Row(name, "model", self.protocol, 4, figures, 1.0, ["a note"], {"SIDE": (0.5, 2.0)}, samples)
        found = replace(found, probes={"SIDE": np.array([1.0, 2.0])})
        return found, lambda: [
            Sheet("Samples", "Look.", [("image", torch.linspace(0, 1, 2 * 3 * 64).view(2, 3, 8, 8))])
        ]

    monkeypatch.setattr(Heads, "row", row)
    monkeypatch.setattr(Heads, "test", None)
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "nothing")
    return names


def test_a_second_comparison_measures_nothing(measured: list[str]) -> None:
    first = compare({}, "heads", progress=False)
    assert measured == list(Heads.baselines)
    second = compare({}, "heads", progress=False)
    assert measured == list(Heads.baselines)
    assert [row.as_dict() for row in second.rows] == [row.as_dict() for row in first.rows]
    row = second.rows[0]
    assert row.intervals == {"SIDE": (0.5, 2.0)}
    assert row.probes["SIDE"].tolist() == [1, 2]
    assert row.samples["SIDE"].tolist() == [0, 1, 2, 3]
    assert {"command", "date", "versions", "threads", "machine"} <= row.made.keys()
    ((label, images),) = second.sheets["constant"][0].rows
    assert label == "image"
    assert (images - first.sheets["constant"][0].rows[0][1]).abs().max() < 0.1  # WebP loses a little
    compare({}, "heads", progress=False, fresh=True)
    assert len(measured) == 2 * len(Heads.baselines)


def test_a_row_that_lacks_an_extra_is_measured_anew_once_it_is_there(
    measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = False
    monkeypatch.setattr(Heads, "extras", {"fid": lambda: here, "identity": lambda: here})
    row = Heads.row

    def lacks(self: Heads, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        found, pictures = row(self, name, subject, steps)
        said = ["KID is not measured: it needs zoo3d[fid]"] if name == "average" and not here else []
        return replace(found, notes=said), pictures

    monkeypatch.setattr(Heads, "row", lacks)
    for _ in range(2):
        made = [row.made.get("without") for row in compare({}, "heads", progress=False).rows]
        assert made == [None, "fid", None, None]  # only what has left a figure out
        assert measured == list(Heads.baselines)
    here = True
    for _ in range(2):
        assert not any("without" in row.made for row in compare({}, "heads", progress=False).rows)
        assert measured == [*Heads.baselines, "average"]


@pytest.mark.parametrize(("benchmark", "again"), [("heads", ["supervised"]), ("heads_v2", [])])
def test_baselines_that_draw_nothing_are_measured_once(
    benchmark: str, again: list[str], measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = benchmarks.find(benchmark)
    nothing = dict.fromkeys(column.key for column in kind(None, {}, Options()).columns)  # type: ignore[call-arg]

    def row(self: Benchmark, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        measured.append(name)
        figures = {key: None for key in nothing if key not in ("n", "seconds")}
        return Row(name, "baseline", self.protocol, 4, figures), list

    monkeypatch.setattr(kind, "row", row)
    compare({}, benchmark, progress=False)
    assert measured == list(kind.baselines)
    compare({}, benchmark, seed=1, progress=False)
    assert measured == [*kind.baselines, *again]


def test_a_killed_comparison_goes_on(measured: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    row = Heads.row

    def dies(self: Heads, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        if name == "supervised":
            raise SystemExit
        return row(self, name, subject, steps)

    monkeypatch.setattr(Heads, "row", dies)
    with pytest.raises(SystemExit):
        compare({}, "heads", progress=False)
    monkeypatch.setattr(Heads, "row", row)
    assert measured == ["constant", "average"]
    compare({}, "heads", progress=False)
    assert measured == list(Heads.baselines)


@pytest.mark.parametrize("error", [ValueError("depth is flat"), RuntimeError("a bug\nof the method")])
def test_a_row_that_fails_costs_the_others_nothing(
    error: Exception,
    measured: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    row = Heads.row

    def fails(self: Heads, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        if name == "average":
            raise error
        return row(self, name, subject, steps)

    monkeypatch.setattr(Heads, "row", fails)
    monkeypatch.setattr(scores, "named", lambda names, benchmark: {})
    assert cli._run(["compare", "--benchmark", "heads", "--out", str(tmp_path / "page.html")], debug=False) == 1
    shown = capsys.readouterr()
    assert "1 of 4 rows failed: average" in shown.err
    assert str(error).split()[-1] in shown.out
    assert "failed: " in (tmp_path / "page.html").read_text("utf-8")
    assert measured == [name for name in Heads.baselines if name != "average"]
    monkeypatch.setattr(Heads, "row", row)
    assert not compare({}, "heads", progress=False).failed  # what failed is not kept
    assert measured[-1] == "average"


def test_rows_belong_to_weights_seed_and_protocol(measured: list[str]) -> None:
    one, same, other = (zoo.build("pigan", **TINY, seed=seed) for seed in (0, 0, 1))
    measure("one", one, "heads", progress=False)
    assert measure("renamed", same, "heads", progress=False)[1].name == "renamed"
    assert measured == ["one"]
    with torch.no_grad():
        next(same.parameters()).view(-1)[0] += 1e-6
    for subject, options in ((other, {}), (same, {}), (one, {"seed": 1}), (one, {"quick": True})):
        measure("x", subject, "heads", progress=False, **options)  # type: ignore[arg-type]
    assert len(measured) == 5
    measure("f", lambda images: images[:, :1], "heads", progress=False)
    measure("f", lambda images: images[:, :1], "heads", progress=False)
    assert len(measured) == 7


def changed(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def figures_of(path: Path) -> dict[str, object]:
    return dict(json.loads(path.read_text())["figures"])


def packed(path: Path, **arrays: np.ndarray) -> None:
    with np.load(path.with_suffix(".npz")) as found:
        arrays = {key: found[key] for key in found} | arrays
    np.savez_compressed(path.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "no text": lambda path: path.write_bytes(b"\xff\xfe"),
    "other fields": lambda path: path.write_text("{}"),
    "figures": lambda path: changed(path, figures={"SIDE": {"a": 1}}),
    "figures of no numbers": lambda path: changed(path, figures={"SIDE": [None]}),
    "figures that hide the row": lambda path: changed(path, figures={"name": "another"}),
    "figures beyond numbers": lambda path: changed(path, figures={"SIDE": float("nan")}),
    "another protocol": lambda path: changed(path, protocol="heads-v1/quick"),
    "a third kind": lambda path: changed(path, kind="guess"),
    "notes": lambda path: changed(path, notes="a note"),
    "how it was made": lambda path: changed(path, made={"date": 2026}),
    "figures that are words": lambda path: changed(path, figures=figures_of(path) | {"SIDE": "x"}),
    "stages that are words": lambda path: changed(path, figures=figures_of(path) | {"SIDE": [1, "x"]}),
    "deviations that are words": lambda path: changed(path, figures=figures_of(path) | {"SIDE_std": "x"}),
    "seconds": lambda path: changed(path, seconds="1"),
    "no seconds": lambda path: changed(path, seconds=""),
    "intervals": lambda path: changed(path, intervals={"SIDE": [2, 0.5]}),
    "a bomb": lambda path: packed(path, **{"samples/SIDE": np.zeros(2**24, np.float32)}),
    "samples": lambda path: packed(path, **{"samples/SIDE": np.zeros((4, 3), np.float32)}),
    "sheets": lambda path: packed(path, sheets=np.frombuffer(b'[{"title": 1, "caption": "", "labels": []}]', np.uint8)),
    "a column less": lambda path: path.write_text(path.read_text().replace('"psnr": null', '"older": null')),
    "no pictures": lambda path: path.with_suffix(".npz").unlink(),
    "cut pictures": lambda path: path.with_suffix(".npz").write_bytes(path.with_suffix(".npz").read_bytes()[:-50]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_costs_time_and_nothing_else(
    name: str, measured: list[str], rows_of_its_own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    measure("constant", "constant", "heads", progress=False)
    DAMAGE[name](rows_of_its_own / "heads-v1" / "constant.json")
    with caplog.at_level(logging.WARNING):
        measure("constant", "constant", "heads", progress=False)
    assert measured == ["constant", "constant"]
    assert "measured anew" in caplog.text
    measure("constant", "constant", "heads", progress=False)
    assert measured == ["constant", "constant"]


def test_a_disk_that_cannot_be_written_costs_a_warning(
    measured: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_RESULTS", str(tmp_path / "file" / "below"))
    with caplog.at_level(logging.WARNING):
        assert measure("constant", "constant", "heads", progress=False)[1].figures["MAD"] == 2
    assert "is not kept" in caplog.text


def test_a_kill_between_two_files_leaves_no_row(
    measured: list[str], monkeypatch: pytest.MonkeyPatch, rows_of_its_own: Path
) -> None:
    """Else old figures would stand beside new samples."""
    measure("constant", "constant", "heads", progress=False)
    write = store.atomic_write

    def dies(path: Path, data: bytes | str) -> Path:
        if path.suffix == ".json":
            raise SystemExit
        return write(path, data)

    monkeypatch.setattr(store, "atomic_write", dies)
    with pytest.raises(SystemExit):
        measure("constant", "constant", "heads", progress=False, fresh=True)
    monkeypatch.setattr(store, "atomic_write", write)
    assert not list(rows_of_its_own.rglob("*.json"))
    measure("constant", "constant", "heads", progress=False)
    assert len(measured) == 3


def test_a_folder_that_cannot_even_be_asked_costs_a_warning(
    measured: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ZOO_RESULTS", str(tmp_path / ("x" * 300)))
    with caplog.at_level(logging.WARNING):
        assert measure("constant", "constant", "heads", progress=False)[1].figures["MAD"] == 2
    assert "measured anew" in caplog.text


def test_figures_that_are_no_numbers_cost_the_others_nothing(rows_of_its_own: Path) -> None:
    opened = Heads(Heads.standard, {}, Options())
    nan = float("nan")
    nothing = dict.fromkeys({column.key for column in opened.columns} - {"n", "seconds"})
    figures = nothing | {"SIDE": nan, "MAD": 2.0, "psnr": [1.0, nan]}
    row = Row("x", "model", opened.protocol, 4, figures, 1.0, intervals={"SIDE": (nan, nan), "MAD": (1.0, 3.0)})
    kept = store.keep(opened, row, [], "x")
    found = store.find(opened, None, "x")
    assert found is not None
    for each in (kept, found[0]):
        assert [each.figures[key] for key in ("SIDE", "MAD", "psnr")] == [None, 2, None]
        assert each.intervals == {"MAD": (1, 3)}


def test_a_row_with_pictures_that_cannot_be_written_is_not_kept(
    rows_of_its_own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = Heads(Heads.standard, {}, Options())
    endless = Sheet("Samples", "Look.", [("image", torch.zeros(2**14, 3, 1, 1))])
    with caplog.at_level(logging.WARNING):
        store.keep(opened, Row("x", "model", opened.protocol, 4, {"SIDE": 1.0}), [endless], "x")
    assert "is not kept" in caplog.text
    assert not list(rows_of_its_own.rglob("x.*"))


def test_names_of_folders_are_plain() -> None:
    opened = Heads(replace(Heads.standard, name="heads-v1/quick/n_test=5"), {}, Options())
    assert store.folder_of(opened) == "heads-v1+quick+n_test=5"
    assert store.key_of("mean shape", 2) == "mean-shape-seed2"


def test_rows_of_other_code_say_so_and_those_of_other_numbers_are_measured_anew(
    measured: list[str], rows_of_its_own: Path
) -> None:
    path = rows_of_its_own / "heads-v1" / "constant.json"
    measure("constant", "constant", "heads", progress=False)
    made = json.loads(path.read_text())["made"]
    changed(path, made=made | {"code": "00000000", "date": "2026-01-02"})
    row = measure("constant", "constant", "heads", progress=False)[1]
    assert row.notes == ["a note", "measured by other code, 2026-01-02"]
    changed(path, made={})  # of an earlier version, which did not say
    assert len(measure("constant", "constant", "heads", progress=False)[1].notes) == 2
    assert measured == ["constant"]
    changed(path, made=made | {"numbers": "00000000"})
    assert measure("constant", "constant", "heads", progress=False)[1].notes == ["a note"]
    assert measured == ["constant", "constant"]


def test_rows_of_a_method_that_has_changed_say_so(
    measured: list[str], rows_of_its_own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = zoo.build("pigan", **TINY)

    def notes() -> list[str]:
        return list(measure("mine", generator, "heads", progress=False)[1].notes)

    assert notes() == notes() == ["a note"]
    (path,) = (rows_of_its_own / "heads-v1").glob("*.json")
    made = json.loads(path.read_text())["made"]
    assert len(made["method"]) == 8
    changed(path, made=made | {"method": "00000000", "date": "2026-01-02"})
    assert notes() == ["a note", "measured by other code, 2026-01-02"]
    changed(path, made={key: value for key, value in made.items() if key != "method"})  # of an earlier version
    assert notes() == ["a note"]
    assert measured == ["mine"]
    assert provenance.method_of("constant") == ""


def test_searches_count_for_the_benchmarks_that_use_them() -> None:
    for kind, searches in ((Heads, False), (Inversions, True), (Photos, True)):
        decides = provenance._decide(kind)
        assert ("zoo.editing.inversion" in decides) == searches
        assert kind.__module__ in decides


def test_the_code_of_a_row_is_that_which_decides_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    code = provenance.code_of.__wrapped__  # without its cache
    before = {kind: code(kind) for kind in (Heads, HeadsV2)}
    plain = provenance._without_comments

    def registered_otherwise(source: str, tree: ast.Module) -> str:
        return plain(source, tree) + ("pass" if "def register(" in source else "")

    monkeypatch.setattr(provenance, "_without_comments", registered_otherwise)
    assert code(Heads) == before[Heads]
    assert code(HeadsV2) != before[HeadsV2]
    old, new = (
        '"""Old."""\n\nx = "#"  # why\n\n\ndef f():\n    """Says."""\n    return x\n',
        'x = "#"\ndef f():\n    return x',
    )
    assert plain(old, ast.parse(old)) == plain(new, ast.parse(new))
    assert plain(old, ast.parse(old)) != plain(old.replace("#", "-", 1), ast.parse(old))
