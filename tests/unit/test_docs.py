"""The documents against the code: links, commands, overrides, code blocks, calls, paths."""

import ast
import errno
import importlib
import inspect
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from zoo.cli import main as cli
from zoo.config import recipes
from zoo.evaluation import benchmarks

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:zoo|tests|configs)/[\w./-]+)`")
STAND_INS = {"ellipsoid": "shadegan", "ellipsoid_heads32": "shadegan_heads32"}  # the walk-through's own method
IMAGINARY = {"zoo/generators/ellipsoid.py", "configs/generator/ellipsoid.yaml", "configs/ellipsoid_heads32.yaml"}

NO_PARTS = {"zoo.format"}  # a key in the header of weights

pages = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def blocks(page: Path, *languages: str) -> list[str]:
    return [code for language, code in FENCE.findall(page.read_text("utf-8")) if language in languages]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text("utf-8"))


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of every `zoo` call in the shell blocks."""
    for block in blocks(page, "bash", "sh", "shell", "console", ""):
        for line in block.replace("\\\n", " ").splitlines():
            for call in re.split(r"\s*(?:&&|;|\|)\s*|\s{3,}", line.strip().removeprefix("$ ")):
                try:
                    words = shlex.split(call, comments=True)
                except ValueError:  # an apostrophe in a block of text
                    continue
                if words and words[0] == "zoo" and len(words) > 1:
                    yield words[1:]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ +(.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pages
def test_relative_links_resolve(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {link}"


@pages
def test_named_files_exist(page: Path) -> None:
    for name in set(FILE.findall(prose(page))) - IMAGINARY:
        assert (ROOT / name).exists(), f"{page.name}: {name}"


@pages
def test_commands_are_real(page: Path) -> None:
    for words in commands(page):
        command, rest = typer.main.get_command(cli.app), words
        while hasattr(command, "commands") and rest:
            if rest[0].startswith("-"):
                break
            assert rest[0] in command.commands, f"{page.name}: zoo {' '.join(words)}"
            command, rest = command.commands[rest[0]], rest[1:]
        options = {option for parameter in command.params for option in parameter.opts} | {"--debug", "--help", "-h"}
        for word in rest:
            if word.startswith("-"):
                assert word.partition("=")[0] in options, f"{page.name}: zoo {' '.join(words)}: {word}"


@pages
def test_settings_are_real(page: Path) -> None:
    for words in commands(page):
        settings = [word for word in words[1:] if re.match(r"[a-z]\w*(\.\w+)*=", word)]
        if words[0] == "train" and not words[1].endswith((".yaml", ".yml")):
            recipes.load_run(STAND_INS.get(words[1], words[1]), settings)
        elif words[0] == "finetune":
            recipes.load_run("shadegan_heads32", ["data=folder", *settings])  # as finetune adds where there is a root
        elif words[0] in ("eval", "compare"):
            named = words[words.index("--benchmark") + 1] if "--benchmark" in words else "heads"
            benchmarks.parse(named, settings)


@pages
def test_python_blocks_compile(page: Path) -> None:
    for number, block in enumerate(blocks(page, "python", "py")):
        compile(block, f"{page.name}, block {number + 1}", "exec")


def exists(name: str) -> bool:
    """Whether `zoo.a.b.c` is a module, or something in one."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            found = getattr(found, part, None)
        return found is not None
    return False


@pages
def test_named_parts_of_zoo_exist(page: Path) -> None:
    if page.name in ("CHANGELOG.md", "UPGRADING.md"):  # they name what was there before, too
        return
    named = set(re.findall(r"`(zoo(?:\.\w+)+)(?=[`(])", prose(page)))
    for block in blocks(page, "python", "py"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "zoo":
                named |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert [name for name in sorted(named - NO_PARTS) if not exists(name)] == []


def imported(tree: ast.AST) -> dict[str, object]:
    """What a block has from zoo, by the name that it has there."""
    found: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.asname or a.name: importlib.import_module(a.name) for a in node.names if a.name == "zoo"}
        elif isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "zoo":
            module = importlib.import_module(str(node.module))
            found |= {a.asname or a.name: getattr(module, a.name) for a in node.names if hasattr(module, a.name)}
    return found


@pages
def test_calls_of_zoo_are_possible(page: Path) -> None:
    for block in blocks(page, "python", "py"):
        tree = ast.parse(block)
        known = imported(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or any(isinstance(a, ast.Starred) for a in node.args):
                continue
            start, *rest = ast.unparse(node.func).split(".")
            callee = known.get(start)
            for part in rest:
                callee = getattr(callee, part, None)
            if callable(callee) and all(keyword.arg for keyword in node.keywords):
                given = {str(keyword.arg): None for keyword in node.keywords}
                try:
                    inspect.signature(callee).bind(*node.args, **given)
                except TypeError as error:
                    pytest.fail(f"{page.name}: {ast.unparse(node)}: {error}")


def test_the_drawing_of_the_house_shows_every_folder() -> None:
    drawing = next(block for block in blocks(ROOT / "docs" / "CONTRIBUTING.md", "text") if block.startswith("zoo/"))
    folders = {path.parent.name for path in (ROOT / "zoo").glob("*/__init__.py")}
    assert sorted(folder for folder in folders if f"-- {folder}/" not in drawing) == []


@pages
def test_recipes_in_yaml_are_valid(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "yaml"):
        if block.startswith("use:"):
            path = tmp_path / "recipe.yaml"
            path.write_text(block.replace("generator/ellipsoid", "generator/shadegan"), "utf-8")
            recipes.load_run(str(path))


def test_the_index_names_every_page() -> None:
    named = {
        (ROOT / "docs" / link.partition("#")[0]).resolve() for link in LINK.findall(prose(ROOT / "docs/README.md"))
    }
    assert {page.resolve() for page in PAGES[1:]} - {(ROOT / "docs/README.md").resolve()} <= named


def test_the_site_has_every_page() -> None:
    nav = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    listed = sorted(re.findall(r"[\w/]+\.md", nav))
    assert listed == sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES[1:])


def _said() -> str:
    """All that code says, with a zero byte where an f-string fills something in."""
    out = [(ROOT / "Makefile").read_text("utf-8"), os.strerror(errno.ENOSPC)]
    for path in (ROOT / "zoo").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                out.append("".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                out.append(node.value)
    return "\n".join(out)


def test_quoted_messages_are_said() -> None:
    said, lost = _said(), []
    for row in (ROOT / "docs" / "troubleshooting.md").read_text("utf-8").splitlines():
        for message in re.findall("`([^`]+)`", row.split(" | ")[0] if row.startswith("| ") else ""):
            parts = re.split(r"\b[A-Z][A-Z0-9_]*\b|\.\.\.|\b\d[\d.]*|[:;=']", message)  # cut where messages vary
            pieces = [part.strip(" ,()") for part in parts]
            lost += [f"{piece!r} of {message!r}" for piece in pieces if " " in piece and piece not in said]
    assert not lost


def test_every_benchmark_and_its_settings_are_documented() -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
    for name in benchmarks.names():
        assert f"--benchmark {name}" in text, name
        for form in benchmarks.settings(name):
            assert form.partition("=")[0] + "=" in text, f"{name}: {form}"
