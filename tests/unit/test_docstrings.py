"""Docstrings speak one dialect, as docs/CONTRIBUTING.md says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ZOO = Path(__file__).parents[2] / "zoo"
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):\n((?:[ ]{4}.*\n|\n)+)", re.MULTILINE)
NAMED = r"(?:\S.*?: )"  # `name: ` before what is said of it; results have no name
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
CODE = r"(?:rgb|huggingface_hub|torchrun)\b"  # what starts a sentence in lower case


def entries(docstring: str) -> Iterator[str]:
    """What the sections of a docstring say, one text for each entry."""
    for section, body in SECTION.findall(docstring + "\n"):
        if section in ("Returns", "Yields"):
            yield from (" ".join(part.split()) for part in body.split("\n\n") if part.strip())
        else:
            for part in re.split(r"^ {4}(?=\S)", body, flags=re.MULTILINE)[1:]:
                yield re.sub(f"^{NAMED}", "", " ".join(part.split()))


def test_entries_start_with_a_capital_and_end_with_a_full_stop() -> None:
    wrong = []
    for path in sorted(ZOO.rglob("*.py")):
        found = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, DOCUMENTED)]
        for entry in (entry for node in found for entry in entries(ast.get_docstring(node) or "")):
            if (entry[0].islower() and not re.match(CODE, entry)) or not entry.endswith((".", ".)")):
                wrong.append(f"{path.relative_to(ZOO)}: {entry}")
    assert not wrong


def test_entries_of_both_kinds_are_found() -> None:
    text = "Do it.\n\nArgs:\n    a, b: First: one.\n        And more.\n    c: second\n\nReturns:\n    Two\n    lines.\n"
    assert [*entries(text)] == ["First: one. And more.", "second", "Two lines."]
