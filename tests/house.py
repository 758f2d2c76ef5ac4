"""The house in figures: folders, imports that point upwards, circles, sizes. `make house` prints them.

The order of the folders is the table in docs/CONTRIBUTING.md, so that what people read is what is checked.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "zoo"
FILES = sorted(PACKAGE.rglob("*.py"))
_TABLE = ROOT / "docs" / "CONTRIBUTING.md"


def module_of(path: Path) -> str:
    """`zoo/generators/base.py` -> "zoo.generators.base"; of a folder's `__init__.py`, the folder."""
    parts = ["zoo", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def part(module: str) -> str:
    """`zoo.generators.base` -> "generators"; of the package itself, "zoo"."""
    return module.split(".")[1] if "." in module else "zoo"


def levels() -> dict[str, int]:
    """Level of each folder and loose module, 0 the lowest: the numbered lines of the table in CONTRIBUTING."""
    lines = re.findall(r"^ *(\d+)  ([a-z_ ]+?)(?:  .*)?$", _TABLE.read_text("utf-8"), re.MULTILINE)
    return {name: int(level) for level, names in lines for name in names.split()}


def imports(path: Path) -> Iterator[str]:
    """Absolute names of the modules that a file imports, apart from what only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    package = module_of(path).split(".") if path.name == "__init__.py" else module_of(path).split(".")[:-1]
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{origin}.{alias.name}"
                yield whole if whole in MODULES else origin


def inside(path: Path) -> set[str]:
    """The files of zoo that a file imports, by module."""
    return {name for name in imports(path) if name in MODULES} - {module_of(path)}


def circles() -> list[list[str]]:
    """Groups of files that import each other, directly or not."""
    ahead = {module: inside(path) for module, path in MODULES.items()}
    reached: dict[str, set[str]] = {}
    for module in MODULES:
        found, queue = set(), [module]
        while queue:
            for name in ahead[queue.pop()] - found:
                found.add(name)
                queue.append(name)
        reached[module] = found
    rings = {frozenset(m for m in reached[module] if module in reached[m]) for module in MODULES}
    return sorted(sorted(ring) for ring in rings if ring)


def upwards() -> list[str]:
    """Imports that do not point downwards."""
    level = levels()
    return [
        f"{module} imports {name}"
        for module, path in MODULES.items()
        for name in sorted(inside(path))
        if part(name) != part(module) and level.get(part(name), 99) >= level.get(part(module), -1)
    ]


def without_level() -> list[str]:
    """Folders and loose modules that the table leaves out."""
    return sorted({part(module) for module in MODULES} - set(levels()))


def loose() -> list[str]:
    """Modules beside the folders."""
    return sorted(path.name for path in PACKAGE.glob("*.py"))


def folders() -> dict[str, int]:
    """Number of modules in each folder, `__init__.py` not counted, the fullest first."""
    counts: dict[str, int] = {}
    for path in FILES:
        if path.parent != PACKAGE and path.name != "__init__.py":
            name = path.parent.relative_to(PACKAGE).as_posix()
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def lengths() -> dict[str, int]:
    """Lines of each file, the longest first."""
    counted = {str(p.relative_to(PACKAGE)): len(p.read_text("utf-8").splitlines()) for p in FILES}
    return dict(sorted(counted.items(), key=lambda item: -item[1]))


def main() -> None:
    counts, lines = folders(), lengths()
    middle = sorted(lines.values())[len(lines) // 2]
    print(f"circles           {len(circles())} {circles() or ''}".rstrip())
    print(f"upward imports    {len(upwards())} {upwards() or ''}".rstrip())
    print(f"without a level   {len(without_level())} {without_level() or ''}".rstrip())
    print(f"loose modules     {len(loose())}: {' '.join(loose())}")
    print(f"folders           {len(counts)}, the fullest: {', '.join(f'{n} {c}' for n, c in list(counts.items())[:3])}")
    print(f"files             {len(lines)}, {sum(lines.values()):,} lines, median {middle}")
    print(f"longest           {', '.join(f'{name} {n}' for name, n in list(lines.items())[:3])}")


if __name__ == "__main__":
    main()
