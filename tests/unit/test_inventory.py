"""Everything that zoo stands on or ships has a licence that we accept, and the bill of materials names it."""

import json
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from tests import inventory
from tests.licences import ALLOWED, EXCEPTIONS, RESTRICTED, allowed, in_cyclonedx, licence_of
from zoo import registry, resources
from zoo.weights import cards
from zoo.weights.shipped import assets


@pytest.fixture(scope="module")
def installed() -> dict[str, inventory.Package]:
    return inventory.packages()[0]


def test_licences_of_packages_are_allowed(installed: dict[str, inventory.Package]) -> None:
    strange = {package.at.name: licence_of(package.at) for package in installed.values() if not allowed(package.at)}
    assert not strange, "leave the package out, or write down in tests/licences.py why it may stay"


def package(tmp_path: Path, *lines: str) -> Distribution:
    folder = tmp_path / f"{len(list(tmp_path.iterdir()))}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", "Name: stranger", "Version: 1", *lines]))
    return Distribution.at(folder)


REFUSED = (
    "",
    "License: Proprietary",
    "License-Expression: GPL-3.0-only",
    "License-Expression: MIT AND AGPL-3.0-only",
    "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
)
ACCEPTED = (
    "License: BSD",
    "License-Expression: (MIT)",
    "License-Expression: MIT OR GPL-2.0-only",
    "License-Expression: Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND BSD-2-Clause AND BSL-1.0 AND MIT",
    "Classifier: License :: OSI Approved :: MIT License",
)


def test_strange_licences_are_noticed(tmp_path: Path) -> None:
    assert [line for line in (*REFUSED, *ACCEPTED) if allowed(package(tmp_path, line))] == [*ACCEPTED]


def test_only_spdx_is_written_as_an_expression() -> None:
    for said in (
        "MIT",
        "Apache-2.0 OR BSD-2-Clause",
        "BSD-2-Clause AND Apache-2.0 WITH LLVM-exception",
        "GPL-3.0-or-later",
    ):
        assert in_cyclonedx(said) == {"expression": said}
    assert in_cyclonedx("research use only") == {"license": {"name": "research use only"}}
    assert in_cyclonedx("") == {"license": {"name": "not stated"}}


def test_exceptions_are_needed(installed: dict[str, inventory.Package]) -> None:
    assert licence_of(installed["imageio-ffmpeg"].at) == "BSD-2-Clause AND GPL-3.0-or-later"
    text = installed["easypytorch3d"].at.read_text("LICENSE") or ""
    assert "Redistribution and use in source and binary forms" in text
    assert "Neither the name" in text
    assert all(why for _, why in EXCEPTIONS.values())


def test_weights_and_assets_say_their_licences() -> None:
    for name, folder in registry.weight_folders().items():
        licence = cards.read(folder / cards.CARD).licence
        assert {*licence} == {"code", "weights", "data"}, name
        assert ({*licence.values()} <= ALLOWED) != (name in RESTRICTED), name
    for path, asset in assets().items():
        assert asset.licence in ALLOWED, path
        assert asset.origin, path


def test_the_bill_names_all_parts(
    installed: dict[str, inventory.Package], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory.main(tmp_path / "one")
    inventory.main(tmp_path / "two")
    assert (tmp_path / "one/sbom.json").read_bytes() == (tmp_path / "two/sbom.json").read_bytes()
    bill = json.loads((tmp_path / "one/sbom.json").read_text("utf-8"))
    parts = {part["bom-ref"]: part for part in bill["components"]}
    assert len(parts) == len(bill["components"])
    names = {part["name"].lower() for part in parts.values() if part["type"] == "library"}
    assert {"torch", "lightning", "numpy", "iopath", "llvmlite"} <= names  # what they ask for, too
    assert not {"pytest", "ruff"} & names
    refs = {*parts, bill["metadata"]["component"]["bom-ref"]}
    assert all({line["ref"], *line["dependsOn"]} <= refs for line in bill["dependencies"])
    for path in resources.checkpoints().glob("*/*.safetensors"):
        assert parts[f"{path.parent.name}/{path.name}"]["hashes"]
    assert "GPL-3.0-or-later" in (tmp_path / "one/licences.md").read_text("utf-8")
