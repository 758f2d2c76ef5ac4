"""What is added as docs/CONTRIBUTING.md says is known everywhere: a benchmark by a file, a metric by one and a line."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from zoo.cli import main as cli
from zoo.errors import ConfigError
from zoo.evaluation import benchmarks, comparison
from zoo.evaluation import depth as depth_folder
from zoo.evaluation.benchmark import Column
from zoo.evaluation.benchmarks.heads import Heads
from zoo.evaluation.comparison import compare
from zoo.evaluation.depth import benchmark as depth_benchmark
from zoo.evaluation.report import page

BENCHMARK = '''\
"""How bright pictures are."""

import torch

from zoo.evaluation.benchmark import Benchmark, Column, Row
from zoo.output.strips import Sheet

SETTINGS = {"faces=N": "number of pictures", "word=WORD": "goes to the protocol's name"}


class Brightness(Benchmark):
    title = "Brightness"
    baselines = ("black",)
    bar = "mean"
    bar_caption = "Bars show the mean."
    columns = (
        Column("mean", "Mean", "%", better="higher", form=".1f", spread="std"),
        Column("n", "Pictures", form="d"),
    )

    def __init__(self, subjects, options):
        self.subjects, self.n = subjects, options.settings.get("faces", 4)
        self.word = options.settings.get("word", "")

    @property
    def protocol(self):
        return "brightness-v1" + self.word

    @classmethod
    def open(cls, subjects, options):
        return cls(subjects, options)

    def row(self, name, subject, steps):
        model = not isinstance(subject, str)
        light = (subject(self.n) if model else torch.zeros(self.n, 3, 8, 8)).flatten(1).mean(1)
        figures = {"mean": 100 * light.mean().item(), "std": 100 * light.std().item()}
        picture = light.view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
        row = Row(name, "model" if model else "baseline", self.protocol, self.n, figures, notes=["a note"] * model)
        return row, lambda: [Sheet("Pictures", "Look.", [("light", picture)])]

    def words(self):
        return [f"The mean of {self.n} pictures."]

    def lead(self, rows):
        return "How bright they are."
'''

METRIC = '''\
"""How near depth comes."""

from zoo.evaluation.benchmark import Column


class Nearest:
    keys = ("nearest",)
    columns = (Column("nearest", "Nearest", form=".2f"),)

    def words(self, rules):
        return [f"Nearest is the smallest depth in {rules.n_test} images."]

    def measure(self, scored):
        return {} if scored.subject == "average" else {"nearest": scored.depth.min().item()}
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the folder of benchmarks."""
    (tmp_path / "toy.py").write_text(BENCHMARK, "utf-8")
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "zoo.evaluation.benchmarks.toy", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def toy_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the folder of the depth test, and a line in its table."""
    (tmp_path / "nearest.py").write_text(METRIC, "utf-8")
    monkeypatch.setattr(depth_folder, "__path__", [*depth_folder.__path__, str(tmp_path)])
    line = "zoo.evaluation.depth.nearest:Nearest"
    monkeypatch.setattr(depth_benchmark, "METRICS", [*depth_benchmark.METRICS, line])
    monkeypatch.setattr(
        Heads, "standard", replace(Heads.standard, name="heads-toy", n_test=2, n_pairs=2, steps=1, n_surface=1)
    )


@pytest.mark.usefixtures("toy")
def test_a_benchmark_is_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks.names() == ["bfm", "heads", "heads_v2", "identity", "instances", "inversions", "photos", "toy"]
    result = compare({"grey": lambda n: torch.full((n, 3, 8, 8), 0.5)}, "toy", progress=False, faces=2)
    assert [(row.name, row.kind, row.figures["mean"]) for row in result.rows] == [
        ("black", "baseline", 0.0), ("grey", "model", 50.0)
    ]  # fmt: skip
    text = page(result)
    for word in ("<h1>Brightness: <span>brightness-v1", "How bright they are.", "Mean %\N{NO-BREAK SPACE}↑", "a note",
                 "The mean of 2 pictures.", "50.0 <span>± 0.0"):  # fmt: skip
        assert word in text
    assert text.count("<img") == 2

    assert cli._run(["eval", "black", "--benchmark", "toy", "faces=3", "word=/x", "--json"], debug=False) == 0
    row = json.loads(capsys.readouterr().out)
    assert row == {"name": "black", "kind": "baseline", "protocol": "brightness-v1/x", "n": 3, "mean": 0.0, "std": 0.0,
                   "seconds": None, "notes": ""}  # fmt: skip
    assert cli._run(["eval", "black", "--benchmark", "toy"], debug=False) == 0
    assert "0.0 ± 0.0" in capsys.readouterr().out
    assert "toy: How bright pictures are.\n    faces=N: number of pictures" in benchmarks.guide()


@pytest.mark.usefixtures("toy")
def test_a_long_comparison_says_beforehand_how_long_it_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def slow(n: int) -> torch.Tensor:
        clock[0] += 120
        return torch.full((n, 3, 8, 8), 0.5)

    monkeypatch.setattr(comparison, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    compare({"one": slow, "two": slow, "three": slow}, "toy", faces=2)
    assert [line for line in capsys.readouterr().err.splitlines() if " about " in line] == [
        "2 more rows: about 4 min on this machine"
    ]


@pytest.mark.usefixtures("toy_metric")
def test_a_metric_is_one_file_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = compare({"flat": lambda images: 1.5 + 0 * images[:, :1]}, "heads", progress=False)
    found = {row.name: row.as_dict()["nearest"] for row in result.rows}
    assert (found["constant"], found["average"], found["flat"]) == (1.0, None, 1.5)
    text = page(result)
    assert ">Nearest</th>" in text
    assert "Nearest is the smallest depth in 2 images." in text
    assert cli._run(["eval", "constant", "--benchmark", "heads", "--json"], debug=False) == 0
    assert json.loads(capsys.readouterr().out)["nearest"] == 1.0


def test_cells_are_printed_as_columns_say() -> None:
    values = {"a": 0.01234, "a_std": 0.5, "stages": [1.0, 2.0], "change": -0.5, "none": None}
    assert Column("a", "A", "×10⁻²", better="lower", scale=100, spread="a_std").cell(values) == "1.234 ± 50.000"
    assert Column("a", "A", "×10⁻²", better="lower").heading == "A ×10⁻²\N{NO-BREAK SPACE}↓"
    assert Column("stages", "S", form=".1f").cell(values) == "1.0 → 2.0"
    assert Column("change", "C", form="+.2f", spread="a_std").cell(values) == "-0.50 ± 0.50"
    assert Column("none", "N").cell(values) == Column("absent", "N").cell(values) == ""


def test_settings_are_read_by_each_benchmark_itself() -> None:
    given = ["data.root=/a=b", "n_test=5"]
    assert benchmarks.parse("bfm", given) == {"data_root": "/a=b", "n_test": 5}
    for name, setting, words in (
        ("heads", "data.root=/a", "the benchmark heads takes n_test=N, n_pairs=N"),
        ("identity", "n_test=5", "the benchmark identity takes none"),
        ("heads", "n_test=five", "'five' is not a whole number"),
        ("haeds", "n_test=5", "Did you mean 'heads'"),
        ("../heads", "n_test=5", "unknown benchmark"),
    ):
        with pytest.raises(ConfigError, match=words):
            benchmarks.parse(name, [setting])


def test_every_benchmark_has_what_pages_and_tables_need() -> None:
    for name in benchmarks.names():
        kind = benchmarks.find(name)
        assert kind.title, name
        assert kind.bar_caption, name
        assert benchmarks.summary(name).endswith("."), name
