"""How, when and by which code a row was measured."""

import ast
import datetime
import hashlib
import io
import os
import re
import shlex
import sys
import tokenize
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import torch

from ..generators.base import Generator
from ..heads.dataset import VERSION
from ..output.pages import versions
from ..runtime.machine import processor
from ..runtime.packages import commit
from .benchmark import Benchmark, Subject

_ROOT = Path(__file__).parents[1]
# Figures are made by benchmarks, formulas, probes and searches; what shows and keeps rows does not change them.
_DECIDES = re.compile(r"zoo\.(metrics|probes|editing|evaluation\.(statistics$|turners$|\w+\.))")
_LAZY = re.compile(r"(zoo(?:\.\w+)+):\w+")  # a class that is imported when it is needed


def made(benchmark: Benchmark, subject: Subject | None, notes: Sequence[str]) -> dict[str, str]:
    """What is kept with a row of a subject that has just been measured, and has these notes."""
    said = " ".join(notes)
    lacking = " ".join(sorted(x for x, here in benchmark.extras.items() if f"zoo3d[{x}]" in said and not here()))
    return ({"without": lacking} if lacking else {}) | {
        "command": shlex.join([Path(sys.argv[0]).name.replace("__main__.py", "zoo"), *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "versions": versions(),
        "commit": commit(),
        "numbers": numbers_of(benchmark),
        "code": code_of(type(benchmark)),
        **({"method": method} if (method := method_of(subject)) else {}),
        "threads": str(torch.get_num_threads()),
        "machine": f"{os.cpu_count()} x {processor()}",
    }


def numbers_of(benchmark: Benchmark) -> str:
    """Eight digits that change with any number of a protocol, whatever its name, and with the pictures of the heads."""
    return _digest(repr((getattr(benchmark, "rules", None), VERSION)))


@cache
def code_of(kind: type[Benchmark]) -> str:
    """Eight digits that change with the code that decides a benchmark's figures, but not with its comments.

    That code is the benchmark's own file and, of the benchmarks, formulas, probes and searches, whatever it imports.
    """
    return _digest(repr(sorted(_decide(kind).items())))


def _decide(kind: type[Benchmark]) -> dict[str, str]:
    """Source without comments of the modules that decide a benchmark's figures, by their names."""
    found: dict[str, str] = {}
    queue = [kind.__module__]
    while queue:
        module = queue.pop()
        path = _file(module)
        if module not in found and path is not None:
            source = path.read_text("utf-8")
            tree = ast.parse(source)
            found[module] = _without_comments(source, tree)
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            queue += [name for name in _imported(tree, package) if _DECIDES.match(name)]
    return found


def method_of(subject: Subject | None) -> str:
    """Eight digits that change with the file of a generator's class, but not with its comments; else nothing."""
    subject = getattr(subject, "generator", subject)  # whose faces are turned
    return _file_digits(type(subject).__module__) if isinstance(subject, Generator) else ""


@cache
def _file_digits(module: str) -> str:
    if (path := _file(module)) is None:  # a class that was typed in
        return ""
    source = path.read_text("utf-8")
    return _digest(_without_comments(source, ast.parse(source)))


def _without_comments(source: str, tree: ast.Module) -> str:
    """Python source without comments, docstrings and empty lines: alike for every Python that can read it."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] = lines[token.start[0] - 1][: token.start[1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and first.end_lineno:
                lines[first.lineno - 1 : first.end_lineno] = [""] * (first.end_lineno - first.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Absolute names of what a module of a package may import; some are those of functions."""
    parts = package.split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (lazy := _LAZY.fullmatch(node.value)):
            yield lazy[1]


def _file(module: str) -> Path | None:
    known = getattr(sys.modules.get(module), "__file__", None)  # a benchmark may be of somebody else's package
    path = _ROOT.joinpath(*module.split(".")[1:])
    places = [Path(known)] if known else [path.with_suffix(".py"), path / "__init__.py"]
    return next((place for place in places if place.is_file()), None)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
