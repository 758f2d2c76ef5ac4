"""Weights that travel: to a hub and back, over a hub on this machine; the user's own folder; torch.hub."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import zoo
from tests.fakehub import FakeHub, serving
from tests.tiny import TINY
from zoo import resources
from zoo.cli import main as cli
from zoo.config.schemas import Card, Metric
from zoo.errors import WeightsError, ZooError
from zoo.weights import cards, remote
from zoo.weights.hubcard import hub_readme

ROOT = Path(__file__).parents[2]
TOKEN = "hf_notForAnybodysEyes"
METRICS = [
    Metric("SIDE x1e-2", 1.25, "heads-v1", 500, "zoo eval a"), Metric("cover", 0.5, "photos", 40, "zoo eval b"),
    Metric("MAD deg", 12.5, "heads-v1", 500, "zoo eval a"),
]  # fmt: skip
CARD = Card(name="shadegan.mine", summary="mine", licence={"weights": "CC0-1.0", "data": "CC0-1.0"}, metrics=METRICS)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "shadegan.mine"
    return zoo.save(zoo.build("shadegan", seed=3, **TINY), folder, card=CARD, discriminator={"a": torch.ones(2)})


@pytest.fixture
def mine(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "mine" / "shadegan.mine"))


@pytest.fixture(scope="module")
def served() -> Iterator[FakeHub]:
    """The hub that HF_ENDPOINT names, which the client reads once, when it is imported."""

    def forget() -> None:
        for name in [n for n in sys.modules if n.partition(".")[0] == "huggingface_hub"]:
            del sys.modules[name]

    pytest.importorskip("huggingface_hub")
    with serving() as (hub, address), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", address)
        patch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        forget()
        yield hub
    forget()


@pytest.fixture
def hub(served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """The same, empty."""
    vars(served).update(vars(FakeHub()))
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return served


@pytest.fixture
def zoo_(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli._run([str(a) for a in arguments], debug=False)
        return code, *capsys.readouterr()

    return run


def front(text: bytes | str) -> dict[str, Any]:
    text = text if isinstance(text, str) else text.decode()
    return dict(yaml.safe_load(text.split("---\n")[1]))


def test_pushed_and_pulled_weights_are_the_same(hub: FakeHub, mine: Path, zoo_: Any, tmp_path: Path) -> None:
    with (mine / "README.md").open("a") as readme:
        readme.write("\nWords of my own.\n")
    code, out, _ = zoo_("push", mine, "me/faces", "--private", "--dataset", "me/photos")
    assert code == 0
    assert hub.private == {"me/faces"}
    files = hub.files["me/faces"]
    assert [line.split()[0] for line in out.splitlines()[1:5]] == [*files]
    assert {*files} == {"model.safetensors", "config.json", "README.md", "discriminator.safetensors"}
    assert files["model.safetensors"] == (mine / "model.safetensors").read_bytes()
    readme_there = files["README.md"].decode()
    assert "Words of my own." in readme_there
    assert 'zoo.load("hf:me/faces")' in readme_there
    assert front(readme_there)["datasets"] == ["me/photos"]

    copy = tmp_path / "own" / "shadegan.again"
    assert zoo_("pull", "me/faces", "--out", copy)[0] == 0
    first, again = zoo.load(f"file:{mine}", device="cpu"), zoo.load("hf:me/faces", device="cpu")
    assert again.card == first.card == zoo.load(f"file:{copy}", device="cpu").card
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in first.state_dict().items())
    assert (copy / "discriminator.safetensors").is_file()
    hub.files["me/faces"]["virus.py"] = b"print()"
    assert not (remote.download("me/faces") / "virus.py").exists()


def test_a_dry_run_says_everything_and_sends_nothing(hub: FakeHub, mine: Path, zoo_: Any) -> None:
    code, out, err = zoo_("push", mine, "me/faces", "--dry-run")
    assert (code, err, hub.requests) == (0, "", [])
    for name in remote.FILES:
        assert name in out
    assert front(out[out.index("---") :])["license"] == "cc0-1.0"


def test_private_weights_are_not_sent_to_a_public_repository(hub: FakeHub, mine: Path, zoo_: Any) -> None:
    hub.files["me/faces"] = {"words.txt": b"of somebody"}
    code, _, err = zoo_("push", mine, "me/faces", "--private")
    assert code == 1
    assert "hf:me/faces is public, and nothing was uploaded" in err
    assert err.count("\n") == 1
    assert [*hub.files["me/faces"]] == ["words.txt"]
    hub.private.add("me/faces")
    assert zoo_("push", mine, "me/faces", "--private")[0] == 0
    assert zoo_("push", mine, "me/others")[0] == 0
    assert not {"private", "visibility"} & {key for key, value in hub.created[-1].items() if value is not None}


def test_the_token_is_never_shown(hub: FakeHub, mine: Path, zoo_: Any) -> None:
    hub.refuse = f"no rights for {TOKEN}, nor for hf_another"
    code, out, err = zoo_("push", mine, "me/faces")
    assert code == 1
    assert "upload failed" in err
    assert "hf auth login" in err
    assert err.count("\n") == 1
    assert "hf_" not in out + err
    assert not hub.files["me/faces"]


def test_what_is_pulled_is_a_strangers(hub: FakeHub, mine: Path, zoo_: Any) -> None:
    zoo_("push", mine, "me/faces")
    files = hub.files["me/faces"]
    sound = dict(files)
    files["discriminator.safetensors"] = sound["discriminator.safetensors"][:-1] + b"x"
    assert "discriminator.safetensors: its SHA-256 is not the card's" in zoo_("pull", "me/faces")[2]
    files["discriminator.safetensors"] = sound["discriminator.safetensors"]
    files["model.safetensors"] = sound["model.safetensors"][:-1] + b"x"
    assert "the card says" in zoo_("pull", "me/faces")[2]
    files["model.safetensors"] = b"\x80\x02}."
    assert zoo_("pull", "me/faces")[0] == 1
    hub.files["me/faces"] = {"README.md": sound["README.md"]}
    assert "no model.safetensors there" in zoo_("pull", "me/faces")[2]
    hub.files["me/faces"], hub.sizes["model.safetensors"] = sound, 5 * 2**30
    asked = len(hub.requests)
    assert "more than the 4,294,967,296" in zoo_("pull", "me/faces")[2]
    assert len(hub.requests) == asked + 1  # nothing was fetched
    assert "download to" in zoo_("pull", "me/nothing")[2]
    for name in ("../x", "me/faces@../../x", "faces", "me/a/b"):
        assert "write hf:org/repo" in zoo_("pull", name)[2]


def test_a_pulled_copy_is_whole_or_not_there(
    hub: FakeHub, mine: Path, zoo_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    assert "file is a file" in zoo_("pull", "me/faces", "--out", tmp_path / "file" / "copy")[2]
    assert not hub.requests  # nothing was fetched
    zoo_("push", mine, "me/faces")
    copy = shutil.copyfile

    def cut_short(source: Path, target: Path) -> None:
        if source.name == "config.json":
            raise OSError(28, "No space left on device")
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", cut_short)
    assert "No space left" in zoo_("pull", "me/faces", "--out", tmp_path / "own" / "copy")[2]
    assert not list((tmp_path / "own").iterdir())


def test_offline_takes_what_is_there_and_asks_nobody(
    hub: FakeHub, mine: Path, zoo_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo_("push", mine, "me/faces")
    zoo_("pull", "me/faces")
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    asked = len(hub.requests)
    assert zoo.load("hf:me/faces", device="cpu").name == "shadegan.mine"
    with pytest.raises(WeightsError, match="ZOO_OFFLINE is set"):
        zoo.load("hf:me/others")
    assert "ZOO_OFFLINE is set" in zoo_("push", mine, "me/faces")[2]
    assert len(hub.requests) == asked
    monkeypatch.setenv("ZOO_OFFLINE", "0")
    with pytest.raises(WeightsError, match="download to"):
        zoo.load("hf:me/others")


def test_a_card_speaks_the_hubs_language_and_stays_ours(tmp_path: Path) -> None:
    text = hub_readme(CARD, cards.write(CARD), "me/faces", "image-to-3d")
    values = front(text)
    assert list(values) == ["license", "library_name", "tags", "pipeline_tag", "model-index", "zoo"]
    assert [r["dataset"]["name"] for r in values["model-index"][0]["results"]] == [
        "heads-v1, 500 images", "photos, 40 images"
    ]  # fmt: skip
    path = tmp_path / "README.md"
    path.write_text(text, "utf-8")
    assert cards.read(path) == CARD
    ours = Card(name="a.b", licence={"weights": "research use only; ask first"})
    other = front(hub_readme(ours, cards.write(ours), "me/faces", "image-to-3d"))
    assert (other["license"], other["license_name"]) == ("other", "research-use-only-ask-first")
    with pytest.raises(WeightsError, match="names no licence"):
        hub_readme(Card(name="a.b"), "", "me/faces", "image-to-3d")


@pytest.mark.parametrize("name", zoo.list(pretrained=True))
def test_the_hubs_own_reader_takes_every_shipped_card(name: str) -> None:
    client = pytest.importorskip("huggingface_hub")
    folder = resources.checkpoints() / name
    readme = remote.plan(folder, "me/faces", "image-to-3d").files["README.md"]
    assert isinstance(readme, bytes)
    data = client.ModelCard(readme.decode()).data
    assert data.library_name == "zoo3d"
    assert len(data.eval_results or []) == len(zoo.card(name).metrics)


def test_only_saved_weights_with_a_licence_are_pushed(mine: Path, zoo_: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert "zoo save" in zoo_("push", tmp_path / "run", "me/faces")[2]
    card = zoo.card(f"file:{mine}")
    (mine / "README.md").write_text(cards.write(Card(**{**vars(card), "licence": {}})), "utf-8")
    assert "names no licence" in zoo_("push", mine, "me/faces", "--dry-run")[2]
    (mine / "model.safetensors").write_bytes(b"x")
    assert "the card says" in zoo_("push", mine, "me/faces", "--dry-run")[2]


def test_the_clients_absence_is_one_line(mine: Path, monkeypatch: pytest.MonkeyPatch, zoo_: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    assert zoo_("push", mine, "me/faces", "--dry-run")[0] == 0
    assert "pip install 'zoo3d[hub]'" in zoo_("push", mine, "me/faces")[2]
    with pytest.raises(ZooError, match="zoo3d"):
        remote.download("me/faces")


def test_a_folder_of_own_weights_has_names(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "shadegan.mine" not in zoo.list()
    monkeypatch.setenv("ZOO_WEIGHTS", str(mine.parent))
    assert "shadegan.mine" in zoo.list("shade*", pretrained=True)
    assert zoo.load("shadegan.mine", device="cpu").card == zoo.card(f"file:{mine}")
    assert zoo.load("shadegan", device="cpu").name == "shadegan.heads64"  # what is shipped keeps its names
    impostor = Path(shutil.copytree(mine, mine.parent / "shadegan.heads64"))
    assert zoo.load("shadegan.heads64", device="cpu").name == "shadegan.heads64"
    assert zoo.card("shadegan.heads64") != zoo.card(f"file:{impostor}")


def test_a_broken_one_among_own_weights_leaves_the_list_whole(
    mine: Path, zoo_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_WEIGHTS", str(mine.parent))
    (Path(shutil.copytree(mine, mine.parent / "shadegan.broken")) / "README.md").write_text("no card", "utf-8")
    code, out, _ = zoo_("list", "shadegan*")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0
    assert "cannot be used: " in lines["shadegan.broken"]
    assert "CC0-1.0" in lines["shadegan.mine"]
    rows = {row["name"]: row for row in json.loads(zoo_("list", "shadegan*", "--json")[1])}
    assert "no card" in rows["shadegan.broken"]["error"]
    with pytest.raises(WeightsError, match="no card"):
        zoo.load("shadegan.broken", device="cpu")


def test_a_cards_example_works_where_it_stands(tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = zoo.load(f"file:{saved}", device="cpu")
    monkeypatch.setenv("ZOO_WEIGHTS", str(tmp_path / "own"))
    for folder, call in (
        (tmp_path / "own" / "shadegan.mine", 'zoo.load("shadegan.mine")'),
        (tmp_path / "elsewhere" / "shadegan.mine", 'zoo.load("file:shadegan.mine")'),
    ):
        zoo.save(model, folder)
        assert f"gen = {call}" in (folder / "README.md").read_text("utf-8")


def test_torch_hub_finds_every_method() -> None:
    def load(name: str, **options: Any) -> Any:
        return torch.hub.load(str(ROOT), name, source="local", **options)

    assert load("shadegan", tag="heads32", device="cpu").name == "shadegan.heads32"
    assert load("pigan", pretrained=False, **TINY).card is None
    found = runpy.run_path(str(ROOT / "hubconf.py"))
    entries = {name for name, what in found.items() if callable(what) and not name.startswith("_")}
    assert entries == {*zoo.list(pretrained=False)}
