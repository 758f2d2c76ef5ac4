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

import zoo
from tests.tiny import TINY
from zoo.errors import ConfigError
from zoo.evaluation import solids as solids_module
from zoo.evaluation.benchmark import Kind, Options, Row
from zoo.evaluation.benchmarks.identity import Identity, IdentityProtocol
from zoo.evaluation.comparison import Comparison
from zoo.evaluation.report import write_report
from zoo.evaluation.solids import meshes
from zoo.fitting.gallery import write_index, write_object
from zoo.output import turning
from zoo.output.strips import Sheet
from zoo.output.turning import script, write_mesh_page
from zoo.probes.pose import PoseProbe
from zoo.renderers.p3d import pytorch3d

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


MESH = b"glTF, or so"


def gallery(path: Path) -> Path:
    return write_index(path, [{"name": NAME, "seconds": 3.0, "records": RECORDS}], f"zoo run {NAME}")


def item(path: Path) -> Path:
    return write_object(path, NAME, [sheet()], RECORDS, MESH, torch.rand(3, 8, 8))


def solid(path: Path) -> Path:
    verts, faces = torch.rand(4, 3), torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    return write_mesh_page(path, pytorch3d().structures.Meshes([verts], [faces]), torch.rand(3, 8, 8), NAME)


PAGES = {"report": report, "identity": identity, "gallery": gallery, "object": item, "mesh": solid}
SCRIPTS = {report: 1, identity: 1, gallery: 0, item: 1, solid: 1}  # the one that sorts, or the viewer


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
    assert page.seen.count("script") == text.count(" 'sha256-") == SCRIPTS[make]
    assert not set(page.seen) & {"link", "iframe", "object", "embed", "base", "form", "b"}
    assert page.images
    assert all(image["alt"] for image in page.images)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    sources = {words[0]: set(words[1:]) for words in map(str.split, policy[1].split(";"))}
    assert sources.pop("default-src") == {"'none'"}
    assert {"data:"} <= sources.pop("img-src") <= {"data:", "blob:"} or make is gallery
    assert sources.pop("style-src") == {"'unsafe-inline'"}
    assert sources.pop("connect-src", set()) <= {"data:", "blob:"}
    named = sources.pop("script-src", set()) - {"'wasm-unsafe-eval'"}
    assert all(name.startswith("'sha256-") for name in named)
    assert not sources
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
    assert "://" not in text.replace(script(), "")  # the viewer names places that the policy keeps it from
    assert len(page.anchors) == len(set(page.anchors))
    for place in page.places:
        if place.startswith("#"):
            assert place[1:] in page.anchors
        elif make is gallery:
            assert ":" not in place
        else:
            assert re.match(r"data:(image/(png|webp)|model/gltf-binary);base64,", place)
    for image in page.images:
        if make is not gallery:
            picture = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2], validate=True)))
            assert picture.size == (int(image["width"]), int(image["height"]))


def test_links_lead_to_the_folders(tmp_path: Path) -> None:
    places = [urlsplit(place) for place in Checked(gallery(tmp_path / "index.html").read_text("utf-8")).places]
    assert {unquote(place.path).rpartition("/")[0] for place in places} == {NAME}
    assert not any(place.fragment or place.query for place in places)


def test_pages_hold_meshes_up_to_a_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    poster = torch.rand(3, 8, 8)
    monkeypatch.setattr(turning, "LIMIT", 2500)
    text = turning.gallery(
        [("first", b"a" * 1500, poster), ("second", b"b" * 1500, poster), ("<3>", b"c" * 900, poster)]
    )
    page = Checked(text)
    assert page.seen.count("model-viewer") == 2
    assert page.seen.count("img") == 3
    assert "second: its mesh of 0.0 MB is left out" in text
    monkeypatch.setattr(turning, "LIMIT", 100)
    with pytest.raises(ConfigError, match="lower the resolution"):
        solid(tmp_path / "page.html")


def test_reports_show_a_mesh_of_each_method_that_makes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    flat = zoo.build("stylegan2", size=16, z_dim=8, mapping_layers=1, channel_max=8).eval()
    empty = zoo.build("shadegan", **TINY, mesh_level=1e9).eval()
    buggy = zoo.build("shadegan", **TINY).eval()
    buggy.mesh = None  # type: ignore[assignment]  # any error of a method
    solids = {"<solid>": zoo.build("meshgan").eval(), "flat": flat, "empty": empty, "buggy": buggy}
    solids["constant"] = "constant"
    (made,) = meshes(solids)
    assert made[0] == "<solid>"
    assert made[1].startswith(b"glTF")
    assert made[2].shape == (3, 128, 128)
    (file,) = (tmp_path / "meshes").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(solids_module, "glb", None)  # nothing is made a second time
        (again,) = meshes(solids)
    assert again[:2] == made[:2]
    assert torch.equal(again[2], made[2])
    whole = file.read_bytes()
    for damage in (b"", whole[:500], whole[:200] + bytes(200) + whole[400:]):  # the last raises what nobody foresees
        file.write_bytes(damage)
        assert meshes(solids)[0][1] == made[1]


def test_the_checks_find_what_they_look_for() -> None:
    for bad in ("<p>", "</p>", "<p><i></p></i>", '<img alt="" alt="">', '<p onclick="">'):
        with pytest.raises(AssertionError):
            Checked(bad)
