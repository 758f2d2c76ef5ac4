"""The report: one file, nothing outside it, every picture described, names escaped, published figures apart."""

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from PIL import Image
from rich.console import Console

from zoo import registry
from zoo.errors import ConfigError
from zoo.evaluation import benchmarks, report, scores
from zoo.evaluation.benchmark import Benchmark, Column, Figure, Kind, Options, Pictures, Row, Subject
from zoo.evaluation.benchmarks.bfm import BFM
from zoo.evaluation.benchmarks.heads import Heads
from zoo.evaluation.comparison import Comparison, compare, measure
from zoo.evaluation.report import best, page, text_table, write_report
from zoo.fitting.runs import FinishedRun
from zoo.generators.shadegan import ShadeGAN
from zoo.output.charts import Dot, intervals
from zoo.output.colours import ramp
from zoo.output.inline import turntable
from zoo.output.lights import preset_lights
from zoo.output.strips import ROTATED, TEST, Sheet, show_error
from zoo.runtime import files
from zoo.runtime.files import atomic_write
from zoo.runtime.progress import Steps

SMALL = replace(Heads.standard, name="heads-small", n_test=4, n_pairs=4, steps=2, batch_size=2, n_surface=1)


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
        self.anchors: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        self.anchors += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "action", "data")]


def made(benchmark: str = "heads") -> Comparison:
    sheet = Sheet("Samples", "Look & see.", [("image", torch.rand(3, 3, 8, 8)), ("depth", torch.rand(3, 3, 8, 8))])
    kind = {"heads": Heads, "bfm": BFM}[benchmark]
    return Comparison(kind(kind.standard, {}, Options()), ROWS, {"<b>mine</b>": [sheet]}, 'zoo compare "<x>"')


class Toy(Benchmark):
    """A benchmark of which only the way of showing rows is used."""

    subjects: ClassVar[dict[str, Subject]] = {}
    title = "Toy"
    bar = "R2"
    bar_caption = "Bars show R2."
    protocol = "toy-v1"
    columns = (
        Column("R2", "R2", better="higher", form=".2f"),
        Column("pose", "Pose", "°", better="lower", form=".1f", main=False),
        Column("rank", "Rank", form=""),
        Column("n", "People", form=".0f"),
    )

    @classmethod
    def open(cls, subjects: object, options: object) -> "Toy":
        return cls()

    def row(self, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        raise NotImplementedError

    def words(self) -> list[str]:
        return ["How."]

    def lead(self, rows: Sequence[Row]) -> str:
        return "What."


def toy(name: str, kind: Kind, R2: float | None, spread: float = 0.1, pose: float | None = None) -> Row:
    figures: dict[str, Figure] = {"R2": R2, "pose": pose, "rank": ["2–3"] if kind == "model" else None}
    ends = {} if R2 is None else {"R2": (R2 - spread, R2 + spread)}
    how = {"date": "2026-01-02", "threads": "1", "command": f"zoo eval {name}"} if kind == "model" else {}
    return Row(name, kind, "toy-v1", 9, figures, 61.0, intervals=ends, made=how)


TOYS = [toy("late", "model", 0.5, pose=4.04), toy("flat", "baseline", -90.0), toy("early", "model", 0.4, pose=4.01),
        toy("far", "model", 0.1, pose=9.0), toy("none", "model", None)]  # fmt: skip


def flat(images: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(images[:, :1])


def shown(*sheets: Sheet) -> str:
    return page(Comparison(Toy(), TOYS, {each.name: list(sheets) for each in TOYS}, "zoo compare"))


def test_the_page_needs_nothing_else_and_describes_its_pictures() -> None:
    parsed = Page(page(made()))
    assert len(parsed.images) == 2
    pictures = [link for link in parsed.links if not link.startswith("#")]
    assert all(re.match("data:image/(png|webp);base64,", link) for link in pictures)
    assert all(image["alt"] and image["width"] == "24" for image in parsed.images)
    assert not {"link", "iframe", "b"} & set(parsed.tags)


def test_the_browser_is_told_the_only_script() -> None:
    text = page(made())
    script = text.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'\">" in text
    assert text.count("<script") == 1


def test_contents_lead_to_all_sections_and_methods() -> None:
    turned = Sheet(ROTATED, "Look.", [(f"yaw {i}", torch.rand(2, 3, 8, 8)) for i in range(3)])
    test = Sheet(TEST, "See.", [("image", torch.rand(2, 3, 8, 8)), ("recovered depth", torch.rand(2, 3, 8, 8))])
    text = shown(turned, test)
    contents = Page(text.partition("<nav")[2].partition("</nav>")[0])
    whole = Page(text)
    assert contents.links == ["#results", "#intervals", "#protocol", "#same", *[f"#same-{i}" for i in range(5)],
                              "#pictures", *[f"#row-{i}" for i in range(5)], "#made"]  # fmt: skip
    assert {link[1:] for link in whole.links if link.startswith("#")} <= set(whole.anchors)
    levels = [int(tag[1]) for tag in whole.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_baselines_come_first_and_are_sorted_apart() -> None:
    table = shown().partition("<table")[2].partition("</table>")[0]
    bodies = [re.findall('scope="row" data-value="([a-z]+)"', body) for body in table.split("<tbody>")[1:]]
    assert bodies == [["flat"], ["late", "early", "far", "none"]]
    assert re.findall('data-first="([a-z]+)"', table) == [
        "ascending", "descending", "ascending", "ascending", "ascending"
    ]  # fmt: skip
    assert '<td data-label="Rank" data-value="2–3">' in table  # sorted by the 2
    assert table.count("<td></td>") == 4  # what is missing has no value, so that it stays below


def test_what_no_interval_shows_to_be_worse_is_best() -> None:
    r2, pose, rank, n = Toy.columns
    assert best(r2, TOYS) == {"late", "early"}  # the baseline does not count; intervals of the first two overlap
    assert best(pose, TOYS) == {"late", "early"}  # without intervals, what is printed alike
    assert best(rank, TOYS) == best(n, TOYS) == set()  # no way is better
    assert best(r2, TOYS[:2]) == set()  # nothing to be better than
    assert best(r2, [TOYS[0], toy("broken", "model", float("nan"))]) == set()
    text = shown()
    assert text.count('<em class="unseen"> (best)</em></strong>') == 4
    assert "Bold: best of the models" in text
    assert "Bold:" not in page(made())


def test_intervals_are_drawn_with_a_line_at_zero_where_signs_differ() -> None:
    text = shown()
    assert text.count("<svg") == 1  # only main columns with intervals
    said = Page(text).text
    assert "R2" in said.partition("Intervals")[2]
    assert 'aria-label="R2\N{NO-BREAK SPACE}↑: flat -90.00 ± 0.10; late 0.50 ± 0.10; ' in text
    dots = [Dot("a", "1", 1.0, (0.5, 1.5), "model"), Dot("b", "-1", -1.0, (-2.0, 0.5), "model")]
    both = intervals("t", dots, ".1f")
    assert 'class="zero"' in both
    assert ">-2.0</text>" in both
    assert ">1.5</text>" in both
    assert 'class="zero"' not in intervals("t", dots[:1], ".1f")
    far = intervals("t", [*dots, Dot("<c>", "-99", -99.0, (-99.0, -98.0), "baseline")], ".1f")
    assert "\N{BLACK LEFT-POINTING TRIANGLE}" in far  # it does not press the others together
    assert ">-2.0</text>" in far
    assert "&lt;c&gt;" in far
    assert "<c>" not in far
    for place in re.findall(r'c?x[12]?="([-\d.]+)%"', far):
        assert 0 <= float(place) <= 100
    assert "nan" not in intervals("t", [Dot("a", "0", 0.0, (0.0, 0.0), "model")], ".1f")


def test_figures_that_are_no_numbers_are_not_drawn() -> None:
    odd = [replace(each, figures={**each.figures, "R2": "odd"}) for each in TOYS]
    comparison = replace(made(), benchmark=Toy(), rows=odd)
    assert "<svg" not in page(comparison)
    assert page(comparison).count(">odd</td>") == len(odd)


def test_the_same_pictures_are_shown_once_and_their_reading_for_each_method() -> None:
    labels = ["image", "true depth", "recovered depth", "true normals", "recovered normals", "depth error"]
    text = shown(Sheet(TEST, "See.", [(label, torch.rand(2, 3, 8, 8)) for label in labels]))
    alts = [str(image["alt"]) for image in Page(text).images]
    assert sum("true depth" in alt for alt in alts) == sum("image of" in alt for alt in alts) == 1
    for each in TOYS:
        assert sum(alt.startswith(f"{each.name}: ") for alt in alts) == 3
    assert len(alts) == 1 + 3 + 3 * len(TOYS)
    assert "Depth error: 0" in text
    assert "5 % of the distance or more" in text
    assert "Pictures by method" not in text


def test_turntables_go_there_and_back_and_stand_still_for_those_who_wish() -> None:
    text = turntable(Sheet(ROTATED, "", [(str(i), torch.full((2, 3, 8, 8), i / 4)) for i in range(5)]), "<x>")
    still, moving = (
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall('(?:srcset|src)="data:image/[a-z]+;base64,([^"]*)"', text)
    )
    assert "prefers-reduced-motion:reduce" in text
    assert '<img alt="&lt;x&gt;: 2 objects' in text
    assert getattr(still, "n_frames", 1) == 1
    assert getattr(moving, "n_frames", 1) == 8
    seen = []
    for frame in range(8):
        moving.seek(frame)
        seen.append(round(moving.convert("L").getpixel((8, 4)) / 255 * 4))  # type: ignore[operator]
    assert seen == [0, 1, 2, 3, 4, 3, 2, 1]
    assert still.convert("L").getpixel((8, 4)) == pytest.approx(128, abs=2)


def test_pictures_take_the_smaller_form() -> None:
    noise, flat = torch.rand(4, 3, 32, 32), torch.zeros(4, 3, 8, 8)
    text = shown(Sheet("Samples", "", [("noise", noise), ("flat", flat)]))
    forms = {str(image["alt"]).split(": ")[1][:4]: str(image["src"])[:15] for image in Page(text).images}
    assert forms["nois"] == "data:image/webp"
    assert all(len(str(image["src"])) < 200 for image in Page(text).images if "flat" in str(image["alt"])[5:])


def test_the_page_says_how_every_figure_was_made() -> None:
    text = Page(shown()).text.rpartition("How these figures were made")[2]
    for word in ("zoo compare", "late (61 s)", "flat (61 s)", "2026-01-02", "Threads", "zoo eval far", "not kept"):
        assert word in text


def test_the_terminal_has_main_columns_and_says_where_the_others_are() -> None:
    def printed(rows: list[Row]) -> str:
        console = Console(width=120, record=True, file=io.StringIO())
        console.print(text_table(Toy(), rows))
        return console.export_text()

    text = printed(TOYS)
    assert "R2" in text
    assert "Pose" not in text
    assert "all columns: --out page.html or --json" in text
    assert "all columns: --json" in printed(TOYS[:1])
    assert "all columns" not in printed([toy("x", "model", 0.5)])


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
    text = Page(page(made("bfm")).partition("<main>")[2]).text
    ours, published = text.split("Published figures")
    assert "0.793 ± 0.140" in published
    assert "0.793" not in ours


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
    comparison = compare({"tiny": generator}, "heads", progress=False, command="zoo compare tiny")
    assert [row.name for row in comparison.rows] == ["constant", "average", "supervised", "mean shape", "tiny"]
    assert [sheet.title for sheet in comparison.sheets["tiny"]] == [
        "Samples",
        "Relit",
        "Rotated",
        "Test images",
    ]
    lit = [label for label, _ in comparison.sheets["tiny"][1].rows]
    assert lit == [f"light {side}" for side in preset_lights(generator.device)]  # as `zoo invert` has them
    text = write_report(comparison, tmp_path / "report.html").read_text(encoding="utf-8")
    strips = [strip for sheets in comparison.sheets.values() for sheet in sheets for strip in sheet.rows]
    # Three strips of each row are the same and shown once; the scale of errors and a turntable are added.
    assert len(Page(text).images) == len(strips) - 3 * (len(comparison.rows) - 1) + 2
    assert all(torch.isfinite(images).all() and images.min() >= 0 and images.max() <= 1 for _, images in strips)


def test_only_rows_that_were_measured_have_meshes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(report, "meshes", asked.extend)
    subjects: dict[str, Subject] = {"late": flat, "far": flat, "never": flat}
    monkeypatch.setattr(Toy, "subjects", subjects)
    page(Comparison(Toy(), TOYS, {}, "zoo compare", complete=False, failed={"far": "failed: a bug"}))
    assert asked == ["late"]


def test_ctrl_c_keeps_the_rows_that_are_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Heads, "standard", SMALL)

    def interrupted(images: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    models = {"flat": flat, "stuck": interrupted, "late": flat}
    comparison = compare(models, "heads", progress=False)
    assert [row.name for row in comparison.rows] == list(comparison.sheets) == [*Heads.baselines, "flat"]
    assert not comparison.complete
    assert compare({"flat": flat}, "heads", progress=False).complete
    monkeypatch.setattr(Heads, "baselines", ())
    with pytest.raises(KeyboardInterrupt):
        compare({"stuck": interrupted}, "heads", progress=False)


def test_subjects_that_mislead_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="average: the name of a baseline"):
        compare({"average": lambda images: images[:, :1]}, "heads", progress=False)
    with pytest.raises(ConfigError, match="unknown baseline 'averge'"):
        compare({"x": "averge"}, "heads", progress=False)
    with pytest.raises(ConfigError, match="which the benchmark heads cannot score"):
        compare({"x": FinishedRun(tmp_path, {}, [])}, "heads", progress=False)


def test_one_row_that_is_not_kept_draws_no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Heads, "standard", SMALL)
    monkeypatch.setattr(Heads, "sheets", lambda *_: pytest.fail("pictures that nobody looks at"))
    benchmark, found = measure("flat", lambda images: torch.ones_like(images[:, :1]), "heads", progress=False)
    assert (benchmark.protocol, found.name) == ("heads-small", "flat")


def test_shape_is_asked_for_once_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Heads, "standard", SMALL)
    asked: list[str] = []
    monkeypatch.setattr(ShadeGAN, "need_3d", lambda self, what: asked.append(what))
    torch.manual_seed(0)
    measure("tiny", ShadeGAN(ShadeGAN.tiny()).eval(), "heads", progress=False)
    assert asked == ["depth to score"]


def test_without_names_heads_are_not_asked_of_weights_of_photographs() -> None:
    trained = set(registry.list_models(pretrained=True))
    of_heads = {name for name in trained if name.split(".")[1].startswith("heads")}
    for benchmark, weights in (("heads", of_heads), ("heads_v2", of_heads), ("photos", trained - of_heads)):
        assert set(registry.list_models(benchmarks.find(benchmark).weights, pretrained=True)) == weights


def test_without_names_pictures_without_shape_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(scores, "load", loaded.append)
    monkeypatch.setattr(
        registry, "list_models", lambda *_, **__: ["gof_shaded.heads32", "stylegan2.heads64", "hologan.heads64"]
    )
    assert list(scores.named([], "heads")) == loaded == ["gof_shaded.heads32"]
    assert list(scores.named([], "identity")) == ["gof_shaded.heads32", "stylegan2.heads64", "hologan.heads64"]
    assert scores.named([], "instances") == {}
