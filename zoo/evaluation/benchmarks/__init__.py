"""The registry of benchmarks: every file of this folder is one, known by the file's name. Imports nothing heavy.

A file has a docstring, whose first line the command line shows; a class derived from `Benchmark`; and, if it takes
settings, a literal `SETTINGS` that maps `key=N` (a whole number) or `key=WORD` (a text) to what the setting does.
"""

import ast
import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, unknown

if TYPE_CHECKING:
    from ..benchmark import Benchmark


def names() -> list[str]:
    """All benchmarks, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> "type[Benchmark]":
    """The class of a benchmark.

    Raises:
        ConfigError: The name is unknown; the message offers the nearest one.
    """
    from ..benchmark import Benchmark

    _file(name)
    module = importlib.import_module(f"{__name__}.{name}")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Benchmark) and value.__module__ == module.__name__:
            return value
    raise ConfigError(f"{module.__file__}: defines no Benchmark; see zoo/evaluation/benchmark.py")


def summary(name: str) -> str:
    """One line on what a benchmark measures.

    Raises:
        ConfigError: The name is unknown.
    """
    return (ast.get_docstring(_source(_file(name))) or "").partition("\n")[0]


def settings(name: str) -> dict[str, str]:
    """The settings of a benchmark: from `key=WORD` to what it does.

    Raises:
        ConfigError: The name is unknown.
    """
    for node in _source(_file(name)).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["SETTINGS"]:
            settings: dict[str, str] = ast.literal_eval(node.value)
            return settings
    return {}


def parse(name: str, given: Iterable[str]) -> dict[str, Any]:
    """Read settings `key=value` as Python keywords: `data.root=DIR` becomes `data_root`.

    Raises:
        ConfigError: The benchmark is unknown or does not take a setting, or a value is no whole number.
    """
    forms = dict(form.split("=") for form in settings(name))
    found: dict[str, Any] = {}
    for setting in given:
        key, _, value = setting.partition("=")
        if key not in forms:
            raise ConfigError(f"unknown setting {setting!r}: the benchmark {name} takes {_taken(name)}")
        try:
            found[_keyword(key)] = int(value) if forms[key] == "N" else value
        except ValueError:
            raise ConfigError(f"{setting!r}: {value!r} is not a whole number") from None
    return found


def check(name: str, given: Iterable[str]) -> None:
    """Refuse Python keywords that are no settings of a benchmark.

    Raises:
        ConfigError: The benchmark or one of the keywords is unknown.
    """
    known = {_keyword(form.partition("=")[0]) for form in settings(name)}
    if extra := sorted(set(given) - known):
        raise ConfigError(f"unknown setting {extra[0]!r}: the benchmark {name} takes {_taken(name)}")


def guide() -> str:
    """All benchmarks and their settings, for the help of the command line."""
    lines = ["Benchmarks:"]
    for name in names():
        lines.append(f"  {name}: {summary(name)}")
        lines += [f"    {form}: {what}" for form, what in settings(name).items()]
    return "\n".join(lines)


def _taken(name: str) -> str:
    return ", ".join(settings(name)) or "none"


def _keyword(key: str) -> str:
    return key.replace(".", "_")


def _file(name: str) -> Path:
    for folder in __path__:
        if name.isidentifier() and (path := Path(folder, f"{name}.py")).is_file() and name in names():
            return path
    raise ConfigError(unknown("benchmark", name, names()))


@cache
def _source(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
