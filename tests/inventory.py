"""What zoo consists of: `make sbom` writes dist/sbom.json (CycloneDX 1.6) and dist/licences.md.

These are the packages that pyproject.toml asks for and those which they ask for, as they are installed here, and the
weights and assets that are shipped. The same installation gives the same bytes.
"""

import json
import re
import sys
import tomllib
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from tests.licences import EXCEPTIONS, RESTRICTED, in_cyclonedx, licence_of
from zoo import registry
from zoo.weights import cards
from zoo.weights.shipped import PACKAGE, assets, weight_files

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
_TOOLS = ("dev", "test")  # extras that work on zoo; zoo does not work with them


@dataclass
class Package:
    """A package that is installed, the names of those it asks for, and whether zoo itself cannot do without it."""

    at: Distribution
    asks: list[str]
    required: bool

    @property
    def ref(self) -> str:
        return f"pkg:pypi/{canonical(self.at.name)}@{self.at.version}"


@dataclass
class File:
    """A file that is shipped: its name, its SHA-256 and its licence."""

    name: str
    kind: str
    sha256: str
    licence: str


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def packages() -> tuple[dict[str, Package], list[str]]:
    """Packages by name, those that are required first; and the requirements of extras that are not installed here."""
    extras = [
        need for extra, needs in PROJECT["optional-dependencies"].items() if extra not in _TOOLS for need in needs
    ]
    found: dict[str, Package] = {}
    missing = list[str]()
    for roots, required in ((PROJECT["dependencies"], True), (extras, False)):
        waiting, seen = [Requirement(need) for need in roots], set[str]()
        while waiting:
            need = waiting.pop()
            if str(need) in seen:
                continue
            seen.add(str(need))
            try:
                at = distribution(need.name)
            except PackageNotFoundError:
                missing.append(str(need))
                continue
            asked = [Requirement(line) for line in at.requires or []]
            wanted = [
                r for r in asked if not r.marker or any(r.marker.evaluate({"extra": e}) for e in ("", *need.extras))
            ]
            package = found.setdefault(canonical(need.name), Package(at, [], required))
            package.asks = sorted({*package.asks, *(canonical(r.name) for r in wanted)})
            waiting += wanted
    return found, missing


def files() -> list[File]:
    """Weights, of the licences on their cards, and assets, of those in zoo/assets.json."""
    found = [
        File(f"{name}/{path.name}", "machine-learning-model", known, cards.read(folder / cards.CARD).licence["weights"])
        for name, folder in sorted(registry.weight_folders().items())
        for path, known in weight_files(folder)
    ]
    listed = sorted(assets().items())
    return found + [File(p.relative_to(PACKAGE).as_posix(), "data", a.sha256, a.licence) for p, a in listed]


def bill(found: dict[str, Package]) -> dict[str, Any]:
    """The bill of materials, as CycloneDX lays it out."""
    ours = f"pkg:pypi/{PROJECT['name']}@{PROJECT['version']}"
    parts = [
        {
            "type": "library",
            "bom-ref": package.ref,
            "name": package.at.name,
            "version": package.at.version,
            "scope": "required" if package.required else "optional",
            "licenses": [in_cyclonedx(licence_of(package.at))],
            "purl": package.ref,
        }
        for _, package in sorted(found.items())
    ]
    parts += [
        {
            "type": file.kind,
            "bom-ref": file.name,
            "name": file.name,
            "hashes": [{"alg": "SHA-256", "content": file.sha256}],
            "licenses": [in_cyclonedx(file.licence)],
        }
        for file in files()
    ]
    roots = {canonical(Requirement(need).name) for need in PROJECT["dependencies"]}
    graph = [(ours, roots), *((package.ref, package.asks) for _, package in sorted(found.items()))]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": ours,
                "name": PROJECT["name"],
                "version": PROJECT["version"],
                "licenses": [{"expression": PROJECT["license"]}],
                "purl": ours,
            }
        },
        "components": parts,
        "dependencies": [
            {"ref": ref, "dependsOn": sorted(found[name].ref for name in asks if name in found)} for ref, asks in graph
        ],
    }


def table(found: dict[str, Package], missing: list[str]) -> str:
    """The licences for people."""
    lines = ["# Licences", "", "| package | version | licence | needed |", "|---|---|---|---|"]
    for _, p in sorted(found.items()):
        lines.append(
            f"| {p.at.name} | {p.at.version} | {licence_of(p.at)} | {'yes' if p.required else 'by an extra'} |"
        )
    lines += ["", "Exceptions:", "", *(f"- `{name}`, {licence}: {why}." for name, (licence, why) in EXCEPTIONS.items())]
    lines += ["", "| weights or asset | licence | SHA-256 |", "|---|---|---|"]
    lines += [f"| {file.name} | {file.licence} | {file.sha256} |" for file in files()]
    lines += ["", *(f"- `{name}`: {why}." for name, why in RESTRICTED.items())]
    if missing:
        lines += [
            "",
            "Not installed here, so not looked at: " + ", ".join(f"`{need}`" for need in sorted({*missing})) + ".",
        ]
    return "\n".join(lines) + "\n"


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    found, missing = packages()
    (out / "sbom.json").write_text(json.dumps(bill(found), indent=1) + "\n", encoding="utf-8")
    (out / "licences.md").write_text(table(found, missing), encoding="utf-8")
    print(f"{out}/sbom.json, {out}/licences.md: {len(found)} packages, {len(files())} files")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
