"""The report: one file, nothing outside it, every picture described, names escaped, published figures apart."""

import io
import json
import os
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from rich.console import Console

from zoo import registry
from zoo.errors import ConfigError
from zoo.evaluation import scores
from zoo.evaluation.benchmark import Kind, Options, Row
from zoo.evaluation.benchmarks.bfm import BFM
from zoo.evaluation.benchmarks.heads import Heads
from zoo.evaluation.comparison import Comparison, compare, measure
from zoo.evaluation.report import page, text_table, write_report
from zoo.fitting.runs import FinishedRun
from zoo.generators.shadegan import ShadeGAN
from zoo.output.colours import ramp
from zoo.output.strips import Sheet, show_error
from zoo.runtime import files
from zoo.runtime.files import atomic_write

SMALL = replace(Heads.standard, n_test=4, n_pairs=4, steps=2, batch_size=2, n_surface=1)


def row(name: str, kind: Kind, side: tuple[float, float], mad: tuple[float, float], *notes: str) -> Row:
    figures = {"SIDE": side[0], "MAD": mad[0], "SIDE_std": side[1], "MAD_std": mad[1], "variance": None, "psnr": None}
    return Row(name, kind, "heads-v1", 199, figures, 61.0, notes)


ROWS = [
    row("constant", "baseline", (1.77, 0.2), (40.8, 3.0)),
    row("<b>mine</b>", "model", (0.512, 0.1), (12.34, 1.5), "1 test images skipped"),
]


class Page(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]


def made(benchmark: str = "heads") -> Comparison:
    sheet = Sheet("Samples", "Look & see.", [("image", torch.rand(3, 3, 8, 8)), ("depth", torch.rand(3, 3, 8, 8))])
    kind = {"heads": Heads, "bfm": BFM}[benchmark]
    return Comparison(kind(kind.standard, {}, Options()), ROWS, {"<b>mine</b>": [sheet]}, 'zoo compare "<x>"')


def test_the_page_needs_nothing_else_and_describes_its_pictures() -> None:
    parsed = Page(page(made()))
    assert len(parsed.images) == 2
    assert all(link.startswith("data:image/png;base64,") for link in parsed.links)
    assert all(image["alt"] and image["width"] == "24" for image in parsed.images)
    assert not {"script", "link", "iframe", "b"} & set(parsed.tags)


def test_names_and_commands_are_escaped() -> None:
    text = page(made())
    assert "<b>mine" not in text
    assert "&lt;b&gt;mine&lt;/b&gt;" in text
    assert "zoo compare &quot;&lt;x&gt;&quot;" in text


def test_figures_are_printed_as_papers_do() -> None:
    text = Page(page(made())).text
    assert "0.512 ± 0.100" in text
    assert "12.34 ± 1.50" in text
    assert "1 test images skipped" in text


def test_published_figures_stand_in_a_table_of_their_own_and_only_for_bfm() -> None:
    assert "Published figures" not in page(made())
    text = Page(page(made("bfm"))).text
    ours, published = text.split("Published figures")
    assert "0.793 ± 0.140" in published
    assert "0.793" not in ours


def test_pictures_of_models_come_before_those_of_baselines() -> None:
    text = page(made())
    assert "<h2>&lt;b&gt;mine&lt;/b&gt; <small>model</small>" in text.split("<h2>constant")[0]


def test_write_report_is_whole_and_repeatable(tmp_path: Path) -> None:
    comparison = made()
    path = write_report(comparison, tmp_path / "deep" / "report.html")
    first = path.read_bytes()
    assert write_report(comparison, path).read_bytes() == first
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = atomic_write(tmp_path / "a.txt", "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_written_files_have_ordinary_rights(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    written = atomic_write(tmp_path / "written", b"x")
    assert os.stat(written).st_mode == os.stat(plain).st_mode


def test_rows_as_plain_values_and_as_text() -> None:
    rows = [json.loads(json.dumps(row.as_dict())) for row in ROWS]
    assert rows[1]["SIDE"] == pytest.approx(0.512)
    assert {"name", "SIDE", "MAD", "n", "protocol", "kind"} <= set(rows[0])
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(text_table(made().benchmark, ROWS))
    text = console.export_text()
    assert "1.770 ± 0.200" in text
    assert "heads-v1" in text
    assert "1 test images skipped" in text
    assert "Variance" not in text  # no row has one


def test_the_error_map_is_dark_where_only_a_common_scale_differs() -> None:
    depth, mask = torch.linspace(0.9, 1.1, 16).view(1, 1, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool)
    assert torch.allclose(show_error(2 * depth, depth, mask), ramp(torch.zeros_like(depth)), atol=1e-3)
    assert show_error(depth + torch.eye(4), depth, mask).max() > 0.9


def test_a_small_comparison_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Heads, "standard", SMALL)
    torch.manual_seed(0)
    generator = ShadeGAN(ShadeGAN.tiny()).eval()
    comparison = compare({"tiny": generator}, progress=False, command="zoo compare tiny")
    assert [row.name for row in comparison.rows] == ["constant", "average", "supervised", "tiny"]
    assert [sheet.title for sheet in comparison.sheets["tiny"]] == [
        "Samples",
        "Relit",
        "Rotated",
        "Test images",
    ]
    lit = [label for label, _ in comparison.sheets["tiny"][1].rows]
    assert lit == ["light front", "light left", "light right", "light top", "light below"]  # as `zoo invert` has them
    text = write_report(comparison, tmp_path / "report.html").read_text(encoding="utf-8")
    strips = [strip for sheets in comparison.sheets.values() for sheet in sheets for strip in sheet.rows]
    assert len(Page(text).images) == len(strips)
    assert all(torch.isfinite(images).all() and images.min() >= 0 and images.max() <= 1 for _, images in strips)


def test_ctrl_c_keeps_the_rows_that_are_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Heads, "standard", SMALL)

    def interrupted(images: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    flat = lambda images: torch.ones_like(images[:, :1])  # noqa: E731
    models = {"flat": flat, "stuck": interrupted, "late": flat}
    comparison = compare(models, progress=False)
    assert [row.name for row in comparison.rows] == list(comparison.sheets) == [*Heads.baselines, "flat"]
    assert not comparison.complete
    assert compare({"flat": flat}, progress=False).complete
    monkeypatch.setattr(Heads, "baselines", ())
    with pytest.raises(KeyboardInterrupt):
        compare({"stuck": interrupted}, progress=False)


def test_subjects_that_mislead_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="average: the name of a baseline"):
        compare({"average": lambda images: images[:, :1]}, progress=False)
    with pytest.raises(ConfigError, match="unknown baseline 'averge'"):
        compare({"x": "averge"}, progress=False)
    with pytest.raises(ConfigError, match="which the benchmark heads cannot score"):
        compare({"x": FinishedRun(tmp_path, {}, [])}, progress=False)


def test_one_row_draws_no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Heads, "standard", SMALL)
    monkeypatch.setattr(Heads, "sheets", lambda *_: pytest.fail("pictures that nobody looks at"))
    benchmark, found = measure("constant", "constant", progress=False)
    assert (benchmark.protocol, found.name) == ("heads-v1", "constant")


def test_shape_is_asked_for_once_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Heads, "standard", SMALL)
    asked: list[str] = []
    monkeypatch.setattr(ShadeGAN, "need_3d", lambda self, what: asked.append(what))
    torch.manual_seed(0)
    measure("tiny", ShadeGAN(ShadeGAN.tiny()).eval(), progress=False)
    assert asked == ["depth to score"]


def test_without_names_pictures_without_shape_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(scores, "load", loaded.append)
    monkeypatch.setattr(
        registry, "list_models", lambda **_: ["gof_shaded.heads32", "stylegan2.heads64", "hologan.heads64"]
    )
    assert list(scores.named([], "heads")) == loaded == ["gof_shaded.heads32"]
    assert list(scores.named([], "identity")) == ["gof_shaded.heads32", "stylegan2.heads64", "hologan.heads64"]
    assert scores.named([], "instances") == {}
