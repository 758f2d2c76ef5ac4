"""`zoo doctor --verify` finds what differs from what was packaged, and the list of assets is true."""

import json
import shutil
from pathlib import Path

import pytest

from tests.hashes import listed
from zoo import doctor, registry, resources
from zoo.weights import shipped
from zoo.weights.shipped import LIST, PACKAGE, assets


def test_the_list_of_assets_is_that_of_the_files() -> None:
    assert LIST.read_text("utf-8") == listed(), "make hashes"


def test_shipped_files_are_as_packaged() -> None:
    checks = list(doctor._files())
    assert {check.state for check in checks} == {"ok"}, checks
    kept = [*resources.checkpoints().glob("*/*.safetensors"), *assets()]
    assert len(checks) == len(kept)


def test_differences_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "graf.heads32"
    shutil.copytree(resources.checkpoints() / folder.name, folder)
    monkeypatch.setattr(registry, "weight_folders", lambda: {folder.name: folder})

    discriminator = folder / "discriminator.safetensors"
    damaged = bytearray(discriminator.read_bytes())
    damaged[-1] ^= 1
    discriminator.write_bytes(damaged)
    (folder / "model.safetensors").unlink()
    known = json.loads(LIST.read_text("utf-8"))
    known["heads/assets/heads.npz"]["sha256"] = "0" * 64
    (tmp_path / "assets.json").write_text(json.dumps(known))
    monkeypatch.setattr(shipped, "LIST", tmp_path / "assets.json")

    found = {check.name: check for check in doctor._files() if check.state == "broken"}
    assert {*found} == {f"file {name}" for name in (
        "graf.heads32/discriminator.safetensors", "graf.heads32/model.safetensors", "assets/heads.npz"
    )}  # fmt: skip
    assert "was packaged" in found["file graf.heads32/discriminator.safetensors"].found
    assert "No such file" in found["file graf.heads32/model.safetensors"].found
    assert str(PACKAGE / "heads") in found["file assets/heads.npz"].found

    card = folder / "README.md"
    card.write_text(card.read_text("utf-8").replace("discriminator_sha256: ", "discriminator_sha256: ''  # "))
    assert any("none is known" in check.found for check in doctor._files())
    card.write_text("no card")
    states = {check.name: check.state for check in doctor._files()}
    assert states["files graf.heads32"] == "broken"
    assert states["file assets/faces.safetensors"] == "ok"  # one bad card hides nothing else
    card.unlink()
    assert "files graf.heads32" in {check.name for check in doctor._files()}
    (tmp_path / "assets.json").write_text("{")
    assert "files assets" in {check.name for check in doctor._files()}
