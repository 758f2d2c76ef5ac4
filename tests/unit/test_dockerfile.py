"""The Dockerfile, read: no container is built here."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import typer
from packaging.requirements import Requirement

from zoo.cli import main as cli

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TEXT = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
STEPS = [(line.split()[0], line.partition(" ")[2].strip()) for line in TEXT.splitlines() if line.strip()]


def told(word: str) -> list[str]:
    return [rest for name, rest in STEPS if name == word]


def listed() -> dict[str, str]:
    """What is installed beside torch, with its hashes."""
    script = [sys.executable, str(ROOT / ".ci/requirements.py"), "run"]
    text = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    return {block.partition("==")[0]: block for block in re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]}


def needed(name: str, extra: str = "") -> set[str]:
    """Packages that an installed one needs here, with theirs."""
    found: set[str] = set()
    queue = [(name, extra)]
    while queue:
        package, extra = queue.pop()
        try:
            needs = [Requirement(line) for line in requires(package) or ()]
        except PackageNotFoundError:
            continue
        for need in needs:
            here = need.marker is None or need.marker.evaluate({"extra": extra})
            plain = need.name.lower().replace("_", "-").replace(".", "-")
            if here and plain not in found and not re.match(r"torch$|triton|nvidia|cuda", plain):
                found.add(plain)
                queue += [(plain, ""), *((plain, inner) for inner in need.extras)]
    return found


def test_what_is_copied_exists_and_is_sent() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] not in ("", "#")]
    assert rules[0] == "*"
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {source for rest in told("COPY") if not rest.startswith("--from") for source in rest.split()[:-1]}
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)
    assert {"zoo", "configs", "checkpoints", "LICENSE", PROJECT["readme"]} <= copied  # what a wheel is made of


def test_packages_have_hashes_and_are_enough() -> None:
    run = " ".join(told("RUN"))
    assert "pip install --require-hashes --no-deps -r requirements.txt" in run
    lines = listed()
    assert all("--hash=sha256:" in block for block in lines.values())
    assert "hatchling" in lines  # zoo is built without asking for more
    assert not {"ruff", "mypy", "pytest", "uv", "torch"} & {*lines}
    asked = {Requirement(need).name.lower().replace("_", "-") for need in PROJECT["dependencies"]} - {"torch"}
    extra = {Requirement(need).name for need in PROJECT["optional-dependencies"]["view"]}
    everything = asked | extra | {inner for name in asked | extra | {"torch", "hatchling"} for inner in needed(name)}
    assert everything - {*lines} == set()


def test_the_python_is_one_that_is_tested() -> None:
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", line)]
    assert told("ARG")[0].removeprefix("PYTHON=") in named
    assert [rest.split()[0] for rest in told("FROM")] == ["python:${PYTHON}-slim"] * 2


def test_it_runs_the_viewer_and_not_as_root() -> None:
    last = STEPS[max(n for n, (word, _) in enumerate(STEPS) if word == "FROM") :]
    assert ("USER", "zoo") in last
    assert ("STOPSIGNAL", "SIGINT") in last  # KeyboardInterrupt, which ends the viewer in good order
    assert json.loads(told("ENTRYPOINT")[0]) == [*PROJECT["scripts"]]
    name, *words = json.loads(told("CMD")[0])
    command = typer.main.get_command(cli.app).commands[name]
    given = command.make_context(name, words).params
    assert (given["what"], given["host"], given["open_"]) == ("shadegan", "0.0.0.0", False)
    assert told("EXPOSE") == [str(given["port"])]
    assert f"-p 127.0.0.1:{given['port']}:{given['port']} zoo3d" in (ROOT / "docs/install.md").read_text("utf-8")
