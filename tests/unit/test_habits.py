"""What continuous integration, the package's metadata and the make targets say of each other is true."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

from zoo.version import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def test_the_version_is_one() -> None:
    assert PROJECT["version"] == __version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == __version__
    newest = re.search(r"^## (\S+)", (ROOT / "docs" / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__


def test_the_workflow_runs_the_make_targets_on_every_python_that_is_named() -> None:
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]["check"]
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", c)]
    assert job["strategy"]["matrix"] == {"python": named, "torch": ["full", "cpu"]}
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert [run.split()[:2] for run in runs] == [["make", each] for each in ("lint", "docs", "test", "slow")]
    local = (ROOT / ".ci/run").read_text("utf-8").splitlines()
    assert [line for line in local if line.startswith("make ")] == [" ".join(run.split()[:2]) for run in runs]
    assert all(re.search(rf"^{run.split()[1]}:", MAKEFILE, re.MULTILINE) for run in runs)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What make would do, whatever the make was told that runs the tests."""
    told = ("MAKE", "MFLAGS", "TORCH", "PINS")
    env = {key: value for key, value in os.environ.items() if not key.startswith(told)}
    return subprocess.run(["make", "-n", "-B", *arguments], cwd=ROOT, capture_output=True, text=True, env=env)


def requirements(*arguments: str) -> str:
    script = [sys.executable, str(ROOT / ".ci/requirements.py"), *arguments]
    return subprocess.run(script, capture_output=True, text=True, check=True).stdout


def test_a_cpu_only_torch_keeps_its_version() -> None:
    lines = make("test", "TORCH=cpu", "TORCH_CPU=torch==1.2.3").stdout
    assert 'pip install -q "torch==1.2.3"' in lines
    assert ".venv/" not in lines
    assert "use full or cpu" in make("test", "TORCH=gpu").stderr
    needs = requirements().split()
    assert not [need for need in needs if need.startswith(("torch>", "torch=", "torch<", "zoo3d"))]
    assert {"torchmetrics>=1.9", "tensorboard>=2.19", "pytest>=8.3"} <= {*needs}


def test_pins_hold_all_that_is_asked_for_with_hashes() -> None:
    blocks = re.split(r"^(?=\w)", (ROOT / ".ci/pins.txt").read_text("utf-8"), flags=re.MULTILINE)[1:]
    pinned: dict[str, list[str]] = {}
    for block in blocks:
        name, version = re.match(r"([\w.-]+)==(\S+)", block).groups()  # type: ignore[union-attr]
        pinned.setdefault(name, []).append(version)
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), name
    for need in [*requirements().split("\n"), *(n for n in PROJECT["dependencies"] if n.startswith("torch>"))]:
        if need:
            asked = Requirement(need)
            versions = pinned.get(asked.name.lower().replace("_", "-"))
            assert versions, f"{need}: make pins"
            assert all(version in asked.specifier for version in versions), f"{need}: make pins"

    beside_torch = requirements("pins")
    assert not re.search(r"^(torch|triton|nvidia|cuda)\b", beside_torch, re.MULTILINE)
    assert "torchmetrics==" in beside_torch
    assert beside_torch.count("==") >= 100


def test_make_installs_pins_unless_asked_not_to() -> None:
    assert "--require-hashes --no-deps -r .ci/pins.txt" in make("test").stdout
    assert "--require-hashes" in make("test", "TORCH=cpu").stdout
    for newest in (make("test", "PINS=no").stdout, make("test", "TORCH=cpu", "PINS=no").stdout):
        assert "--require-hashes" not in newest
        assert ".venv/" not in newest  # pinned environments stay
    assert "use yes or no" in make("test", "PINS=maybe").stderr
