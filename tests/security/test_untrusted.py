"""Files from strangers: always one clear error, never a crash, never code."""

import json
import pickle
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as to_safetensors

import zoo
from tests.tiny import TINY
from zoo import resources
from zoo.config import recipes
from zoo.errors import ConfigError, WeightsError, ZooError
from zoo.weights import files as weights


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, saved once."""
    return zoo.save(zoo.build("pigan", **TINY), tmp_path_factory.mktemp("saved") / "weights")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it to tamper with."""
    return Path(shutil.copytree(saved, tmp_path / "weights"))


def rewrite(folder: Path, config: dict[str, Any] | str, tensors: dict[str, torch.Tensor] | None = None) -> None:
    """Put other content into a folder of weights, without a card that would give it away by its hash."""
    text = config if isinstance(config, str) else json.dumps(config)
    if tensors is None:
        tensors = zoo.build("pigan", **TINY).state_dict()
    header = {"zoo.format": "1", "zoo.version": "0", "zoo.config": text}
    (folder / "model.safetensors").write_bytes(to_safetensors(tensors, header))
    for name in ("README.md", "config.json"):
        (folder / name).unlink(missing_ok=True)


def refused(folder: Path, match: str, kind: type[ZooError] = WeightsError) -> None:
    with pytest.raises(kind, match=match) as caught:
        zoo.load(f"file:{folder}", device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flip", [0, 9, 200, -1])
def test_a_flipped_bit_is_found_before_anything_is_parsed(
    folder: Path, flip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[flip] ^= 1
    (folder / "model.safetensors").write_bytes(data)

    def parse(*_: object) -> None:
        raise AssertionError("parsed before the hash was compared")

    monkeypatch.setattr(weights, "parse_safetensors", parse)
    monkeypatch.setattr(weights, "_header", parse)
    refused(folder, "SHA-256")


def test_a_truncated_file_is_found_by_its_size(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(folder, "bytes, the card says")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "cut short"),
        (b"\x08\x00\x00", "cut short"),
        (struct.pack("<Q", 2**63) + b"{}", "cut short"),
        (struct.pack("<Q", 2) + b"{}", "no zoo header"),
        (struct.pack("<Q", 4) + b"null", "no zoo header"),
        (struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc", "no zoo header"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, "no zoo header"),
        (b"<!DOCTYPE html><html>quota exceeded</html>", "web page"),
        (b"  <html>", "web page"),
        (b"PK\x03\x04 zip", "pickle"),
        (b"\x80\x04\x95", "pickle"),
        (bytes(range(7, 7 + 64)), "cut short|no zoo header|pickle|web page"),
    ],
)
def test_garbage_without_a_card_is_named_for_what_it_is(folder: Path, content: bytes, match: str) -> None:
    (folder / "README.md").unlink()
    (folder / "model.safetensors").write_bytes(content)
    refused(folder, match)


def test_truncated_tensors_without_a_card_are_refused(folder: Path) -> None:
    (folder / "README.md").unlink()
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(folder, "damaged")


def test_foreign_safetensors_have_no_config(folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "model.safetensors").write_bytes(to_safetensors({"a": torch.zeros(2)}))
    refused(folder, "no zoo header")


def test_interpolations_do_not_read_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "42")
    for text in ("${oc.env:HOME}", "${oc.env:SECRET}"):
        rewrite(folder, {"name": "pigan", **TINY, "steps": text})
        refused(folder, "interpolation")


def test_interpolations_in_a_card_are_refused(folder: Path) -> None:
    card = folder / "README.md"
    card.write_text(card.read_text().replace("summary: ''", "summary: ${oc.env:HOME}"))
    refused(folder, "interpolation")


def test_escapes_do_not_hide_an_interpolation(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "42")
    original = (folder / "README.md").read_text()
    for line in (r'summary: "\x24{oc.env:SECRET}"', r'licence: {code: "\u0024{oc.env:SECRET}"}'):
        key = line.partition(":")[0]
        (folder / "README.md").write_text(
            re.sub(rf"^{key}: .*$", lambda _, line=line: line, original, flags=re.MULTILINE)
        )
        refused(folder, "interpolation")
        with pytest.raises(WeightsError, match="interpolation"):
            zoo.card(f"file:{folder}")
    rewrite(folder, json.dumps({"name": "pigan", **TINY, "steps": "@"}).replace("@", r"\u0024{oc.env:SECRET}"))
    refused(folder, "interpolation")

    recipe = tmp_path / "mine.yaml"
    recipe.write_text('use: [generator/pigan, data/heads]\nsystem: {stages: [{batch: "\\x24{oc.env:SECRET}"}]}')
    prior = tmp_path / "prior.json"
    prior.write_text(r'{"yaw_std": "\u0024{oc.env:SECRET}"}')
    given = [f"data.scene.pose={prior}", r'system.stages=[{batch: "\x24{oc.env:SECRET}"}]', "seed=${oc.env:SECRET}"]
    for name, overrides in [(str(recipe), []), *(("pigan", ["data=folder", override]) for override in given)]:
        with pytest.raises(ConfigError, match="interpolation"):
            recipes.load_run(name, overrides)


@pytest.mark.parametrize("name", ["os:system", "zoo.generators.pigan:PiGAN", "../pigan", "", "PiGAN"])
def test_only_registered_names_become_classes(folder: Path, name: str) -> None:
    rewrite(folder, {"name": name, **TINY})
    refused(folder, "unknown method", ConfigError)


@pytest.mark.parametrize(
    "config", ["", "null", "[]", "{", '{"name": 3}', '{"z_dim": 8}', "[" * 100_000], ids=lambda c: c[:12]
)
def test_a_header_without_a_config_is_refused(folder: Path, config: str) -> None:
    rewrite(folder, config)
    refused(folder, "holds no config")


def test_unknown_and_wrongly_typed_keys_are_refused(folder: Path) -> None:
    rewrite(folder, {"name": "pigan", **TINY, "_target_": "os.system"})
    refused(folder, "_target_", ConfigError)
    rewrite(folder, {"name": "pigan", **TINY, "steps": "many"})
    refused(folder, "steps", ConfigError)
    rewrite(folder, {"name": "pigan", **TINY, "scene": {"fov": 12, "exec": 1}})
    refused(folder, "exec", ConfigError)


def test_a_config_file_that_differs_from_the_header_is_refused(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"steps": 6', '"steps": 7'))
    refused(folder, "not the config these weights were saved with")


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    tensors = zoo.build("pigan", **TINY).state_dict()
    tensors["siren.final_layer.bias"][0] = float("nan")
    rewrite(folder, {"name": "pigan", **TINY}, tensors)
    refused(folder, r"not finite: siren\.final_layer\.bias")


def test_missing_unexpected_and_wrong_shapes_are_listed_ten_at_most(folder: Path) -> None:
    tensors = {f"extra{i:02}": torch.zeros(1) for i in range(12)}
    tensors["siren.final_layer.bias"] = torch.zeros(2)
    rewrite(folder, {"name": "pigan", **TINY}, tensors)
    refused(folder, r"missing: .* and \d+ more; unexpected: extra00, .*extra09 and 2 more; wrong shape: .*final_layer")


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["model.safetensors", "last.ckpt"])
def test_pickles_are_never_run(folder: Path, name: str, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    path = folder / name
    with path.open("wb") as file:
        pickle.dump({"state_dict": Bomb(proof)}, file)
    (folder / "README.md").unlink()
    target = folder if name.endswith("safetensors") else path
    with pytest.raises(WeightsError):
        zoo.load(f"file:{target}")
    torch.save({"state_dict": Bomb(proof)}, path)
    with pytest.raises(WeightsError):
        zoo.load(f"file:{target}")
    assert not proof.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "README.md", "config.json"])
def test_links_that_leave_the_folder_are_refused(folder: Path, name: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    refused(folder, "leaves its folder")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "pigan.../../../etc", "shadegan/../x", "~/nothing-here", "file:", "hf:", "x\x00y"]
)
def test_names_that_walk_the_disk_are_refused(name: str) -> None:
    with pytest.raises(ZooError):
        zoo.load(name)


@pytest.mark.parametrize("name", ["hf:org", "hf:../..", "hf:org/..", "hf:org/repo@../x", "hf:/etc/passwd", "hf:a/b/c"])
def test_hub_names_are_checked_before_the_network_is_asked(name: str) -> None:
    with pytest.raises(WeightsError, match="write hf:org/repo"):
        zoo.load(name)


def test_oversized_files_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_MAX_WEIGHTS", 1000)
    refused(folder, "more than the 1,000")
    with (folder / "README.md").open("ab") as card:
        card.write(b" " * 2**20)
    refused(folder, "is no card")


@pytest.mark.parametrize(
    "text",
    ["", "no front matter", "---\n: [\n---\n", "---\n- a\n---\n", "---\nsha: 1\n---\n", "---\nkimg: x\n---\n",
     "---\n!!python/object/apply:os.system [ls]\n---\n"],
)  # fmt: skip
def test_broken_cards_are_refused(folder: Path, text: str) -> None:
    (folder / "README.md").write_text(text)
    refused(folder, "README.md")
    (folder / "README.md").write_bytes(b"\xff\xfe\x00")
    refused(folder, "not a text file")


def test_shipped_weights_are_verified(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "checkpoints", lambda: folder.parent)
    folder.rename(folder.parent / "pigan.mine")
    data = folder.parent / "pigan.mine" / "model.safetensors"
    data.write_bytes(data.read_bytes()[:-1] + b"\x07")
    with pytest.raises(WeightsError, match="SHA-256"):
        zoo.load("pigan")
