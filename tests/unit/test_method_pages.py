"""The methods' pages against docs/CONTRIBUTING.md, the code's defaults and the recipes."""

import dataclasses
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from zoo import registry
from zoo.config import recipes

DOCS = Path(__file__).parents[2] / "docs"
NAMES = sorted(path.stem for path in (DOCS / "models").glob("*.md"))
FROM_DATA = "scene"  # belongs to the data set
REFERENCE = re.compile(r"((?:\(\d+\)(?:,| and| to| or)?\s)+)of\s+\[[^\]]+\]\((\w+)\.md#equations\)")

methods = pytest.mark.parametrize("name", NAMES)


def order() -> list[str]:
    """The sections, from the one sentence that lists them."""
    text = (DOCS / "CONTRIBUTING.md").read_text("utf-8")
    listed = re.search(r"page has the\s+sections\s+(.+?), in this order", text, re.S)
    assert listed is not None
    return re.split(r",\s+", listed[1])


def sections(name: str) -> dict[str, str]:
    text = (DOCS / "models" / f"{name}.md").read_text("utf-8")
    text = re.sub(r"^```python\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def table(text: str, first: str) -> tuple[list[str], dict[str, list[str]]]:
    """Header and rows, by the name in their first cell, of the table whose first header cell is `first`."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    start = next((n for n, cells in enumerate(lines) if cells[0] == f"`{first}`"), None)
    if start is None:
        return [], {}
    rows: dict[str, list[str]] = {}
    for cells in lines[start + 2 :]:
        if not re.fullmatch(r"`[a-z_0-9]+`", cells[0]) or len(cells) != len(lines[start]):
            break
        rows[cells[0].strip("`")] = cells
    return lines[start], rows


def said(value: Any) -> str:
    """As the tables write it."""
    if value is None or isinstance(value, bool):
        return "none" if value is None else str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(said(v) for v in value)}]"
    return str(getattr(value, "name", getattr(value, "mode", value)))


def test_every_method_has_a_page() -> None:
    assert sorted(registry.names()) == NAMES


@methods
def test_sections_stand_in_one_order(name: str) -> None:
    assert list(sections(name))[1:] == order()


@methods
def test_equations_are_numbered(name: str) -> None:
    block = re.search(r"^```text\n(.*?)^```", sections(name)["Equations"], re.MULTILINE | re.DOTALL)
    assert block is not None
    numbers = [int(n) for n in re.findall(r" \((\d+)\)$", block[1], re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1)) != []


@methods
def test_equations_that_are_named_exist(name: str) -> None:
    for other, text in ((name, sections(name)[s]) for s in order()):
        for numbers, page in re.findall(
            r"((?:\(\d+\)(?:,| and| to| or)? )+)of\s+\[[^\]]+\]\((\w+)\.md#equations\)", text
        ):
            block = sections(page)["Equations"]
            assert all(f" ({n})\n" in block for n in re.findall(r"\d+", numbers)), (other, numbers, page)


@methods
def test_switches_are_those_of_the_code(name: str) -> None:
    config = registry.resolve(name).Config
    inherited = [registry.resolve(n).Config for n in NAMES if n != name]
    base = next((c() for c in config.__mro__[1:] if c in inherited), None)
    new = {
        f.name: said(getattr(config(), f.name))
        for f in dataclasses.fields(config)
        if f.name != FROM_DATA and getattr(base, f.name, "missing") != getattr(config(), f.name)
    }
    _, rows = table(sections(name)["Switches"], "generator.")
    there = {key: cells[1] for key, cells in rows.items()}
    assert there == new
    assert all(cell for cells in rows.values() for cell in cells)


@methods
def test_what_recipes_change_is_listed(name: str) -> None:
    header, rows = table(sections(name)["Switches"], "system.")
    if not header:
        assert name in ("gan2shape", "mobilestylegan")  # by published file in a table of its own; not trained here
        return
    named = [cell.strip("`") for cell in header[3:]]
    systems = [recipes.load_run(recipe, ["data.root=."] if "_heads" not in recipe else []).system for recipe in named]
    plain = type(systems[0])()
    changed = {}
    for f in dataclasses.fields(plain):
        values = [said(getattr(system, f.name)) for system in systems]
        default = said(getattr(plain, f.name))
        if f.name not in ("name", "stages") and values != [default] * len(values):
            changed[f.name] = [default, *values]
    assert {key: [cells[1], *cells[3:]] for key, cells in rows.items()} == changed


@methods
def test_figure_licences_and_citation(name: str) -> None:
    parts = sections(name)
    assert re.search(r"!\[[^\]]{20,}\]\(\.\./images/\w+\.png\)", parts["Idea"]) or name == "mobilestylegan"
    assert all(row in parts["Licence"] for row in ("| our code |", "| the published code |", "| weights |", "| data |"))
    entry = parts["Citation"]
    title = re.search(r"title = \{(.+)\},\n", entry)
    assert title is not None
    assert re.search(r"author = \{.+\},\n.*year = \{(20\d\d)\},\n\}\n```", entry, re.DOTALL)
    plain = " ".join(parts[""].split())
    assert re.sub(r"[{}]", "", title[1]) in plain


@methods
def test_headings_jump_no_level(name: str) -> None:
    text = re.sub(
        r"^```.*?^```", "", (DOCS / "models" / f"{name}.md").read_text("utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
