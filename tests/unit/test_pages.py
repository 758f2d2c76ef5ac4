"""Every page that zoo writes: tags that close, pictures inside or beside it, with words, no network, day and night."""

import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch
from PIL import Image
from test_report import made

from zoo.evaluation.benchmark import Kind, Options, Row
from zoo.evaluation.benchmarks.identity import Identity, IdentityProtocol
from zoo.evaluation.comparison import Comparison
from zoo.evaluation.report import write_report
from zoo.fitting.gallery import write_index, write_object
from zoo.output.strips import Sheet
from zoo.probes.pose import PoseProbe

EMPTY = {"meta", "img", "br", "hr", "input", "source", "wbr"}
NAME = 'a "quoted" & <i>name</i> #1 50%'


def sheet() -> Sheet:
    return Sheet("Views & <more>", "Look.", [("front", torch.rand(3, 3, 8, 8)), ('"yaw"', torch.rand(3, 3, 8, 8))])


def report(path: Path) -> Path:
    return write_report(made("bfm"), path)


def identity(path: Path) -> Path:
    named: list[tuple[str, Kind]] = [("true heads", "baseline"), (NAME, "model")]
    figures = {"mean": 0.2, "worst": 0.3, "others": 0.5, "reached": 19.0}
    rows = [Row(name, kind, "identity-v1", 8, figures, 3.0) for name, kind in named]
    benchmark = Identity(IdentityProtocol(), {}, Options(), PoseProbe())
    return write_report(Comparison(benchmark, rows, {r.name: [sheet()] for r in rows}, f"zoo {NAME}"), path)


RECORDS = [
    {"stage": 0, "step": "shape", "iterations": 5, "seconds": 1.0, "SIDE": 1.2, "MAD": 20.0},
    {"stage": 1, "step": "albedo", "iterations": 5, "seconds": 1.0},
]


def gallery(path: Path) -> Path:
    return write_index(path, [{"name": NAME, "seconds": 3.0, "records": RECORDS}], f"zoo run {NAME}")


def item(path: Path) -> Path:
    return write_object(path, NAME, [sheet()], RECORDS)


PAGES = {"report": report, "identity": identity, "gallery": gallery, "object": item}


class Checked(HTMLParser):
    """Follows the tags of a page; what it refers to is in `places`, its pictures in `images`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.images: list[dict[str, str]] = []
        self.anchors: list[str] = []
        self.places: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag}: an attribute twice"
        assert not any(name.startswith("on") for name in names)
        self.seen.append(tag)
        if tag not in EMPTY:
            self.open.append(tag)
        if tag == "img":
            self.images.append({name: value or "" for name, value in attrs})
        self.anchors += [value or "" for name, value in attrs if name == "id"]
        self.places += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


@pytest.mark.parametrize("make", PAGES.values(), ids=PAGES)
def test_pages_are_whole(make: Callable[[Path], Path], tmp_path: Path) -> None:
    text = make(tmp_path / "page.html").read_text("utf-8")
    page = Checked(text)
    assert text.startswith("<!doctype html><html lang=")
    for tag in ("html", "head", "title", "style", "body", "h1", "main"):
        assert page.seen.count(tag) == 1, tag
    # Only reports have a script: the one that sorts, whose digest the policy names.
    assert page.seen.count("script") == text.count("script-src 'sha256-") == (make in (report, identity))
    assert not set(page.seen) & {"link", "iframe", "object", "embed", "base", "form", "b"}
    assert page.images
    assert all(image["alt"] for image in page.images)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src ")
    css = text.partition("<style>")[2].partition("</style>")[0]
    assert css.count("{") == css.count("}")
    assert not re.search(r"url\(|@import", css)
    for wish in ("prefers-color-scheme:dark", "max-width:34rem", "@media print"):
        assert wish in css
    assert '<meta name="color-scheme" content="light dark">' in text
    assert '<meta name="viewport" content="width=device-width' in text


@pytest.mark.parametrize("make", PAGES.values(), ids=PAGES)
def test_pages_need_no_network(make: Callable[[Path], Path], tmp_path: Path) -> None:
    text = make(tmp_path / "page.html").read_text("utf-8")
    page = Checked(text)
    assert "://" not in text
    assert len(page.anchors) == len(set(page.anchors))
    for place in page.places:
        if place.startswith("#"):
            assert place[1:] in page.anchors
        elif make is gallery:
            assert ":" not in place
        else:
            assert re.match(r"data:image/(png|webp);base64,", place)
    for image in page.images:
        if make is not gallery:
            picture = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2], validate=True)))
            assert picture.size == (int(image["width"]), int(image["height"]))


def test_links_lead_to_the_folders(tmp_path: Path) -> None:
    places = [urlsplit(place) for place in Checked(gallery(tmp_path / "index.html").read_text("utf-8")).places]
    assert {unquote(place.path).rpartition("/")[0] for place in places} == {NAME}
    assert not any(place.fragment or place.query for place in places)


def test_the_checks_find_what_they_look_for() -> None:
    for bad in ("<p>", "</p>", "<p><i></p></i>", '<img alt="" alt="">', '<p onclick="">'):
        with pytest.raises(AssertionError):
            Checked(bad)
