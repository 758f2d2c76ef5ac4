"""Imports point downwards only, as docs and design say."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "zoo"
LEVELS = (
    {"version", "errors", "resources", "files", "registry", "config", "memory", "prior_files", "schemas"},
    {"geometry"},
    {"networks", "renderers", "losses", "metrics", "data", "pictures"},
    {"generators"},
    {"systems", "evaluation", "editing"},
    {"hub", "cards", "weights", "doctor", "export", "importers", "instances", "bench"},
    {
        "__init__",
        "cli",
        "cli_bench",
        "cli_data",
        "cli_edit",
        "cli_eval",
        "cli_import",
        "cli_invert",
        "cli_media",
        "cli_run",
        "cli_train",
        "__main__",
    },
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    """`zoo/generators/base.py` -> "generators"; `zoo/hub.py` -> "hub"."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Absolute names of all that a file imports, apart from what only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    package = ["zoo", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{origin}.{alias.name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    own = part(path)
    assert own in LEVEL, f"{path.name}: give it a level in this test"
    for name in imports(path):
        if name.startswith("zoo."):
            target = name.split(".")[1]
            assert target in LEVEL, f"{path}: imports {name}, which has no level"
            assert LEVEL[target] <= LEVEL[own], f"{path} (level {LEVEL[own]}) imports {name} (level {LEVEL[target]})"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_stay_where_they_belong(path: Path) -> None:
    own, roots = part(path), {name.split(".")[0] for name in imports(path)}
    if LEVEL[own] == 0:
        assert "torch" not in roots
    if LEVEL[own] <= LEVEL["generators"] and path.relative_to(PACKAGE).as_posix() != "data/module.py":
        assert not roots & {"lightning", "pytorch_lightning"}
    assert "pytorch3d" not in roots, "import PyTorch3D through zoo.renderers.p3d"
