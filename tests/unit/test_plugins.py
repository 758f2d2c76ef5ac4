"""A package of somebody else brings all of a method: the plug-in of docs/add_a_method.md, made from the page itself."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import zoo
from zoo import registry, resources
from zoo.config import recipes
from zoo.config.regimes import REGIMES
from zoo.data.sources import open_source
from zoo.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add_a_method.md").read_text("utf-8")
METHOD_FILE = re.search(r"^## 2\..*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
FILES = re.findall(r"^`(zoo-ellipsoid/[^`]+)`\n\n```\w+\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```bash\n(pip install.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def write_package(folder: Path) -> Path:
    """The files of the page, word by word; returns the folder of the package."""
    package = folder / "zoo-ellipsoid" / "zoo_ellipsoid"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    assert METHOD_FILE is not None
    (package / "ellipsoid.py").write_text(METHOD_FILE[1])
    for name, text in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return package


def forget() -> None:
    """Look for plug-ins anew."""
    for cached in (resources.plugins, resources._plugin_folders, registry.resolve):
        cached.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "zoo_ellipsoid"]:
        del sys.modules[name]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The plug-in as if pip had installed it: on the path, with its entry points."""
    package = write_package(tmp_path)
    toml = (package.parent / "pyproject.toml").read_text()
    groups = re.findall(r'^\[project\.entry-points\."([\w.]+)"\]\n((?:\w+ = .+\n)+)', toml, re.MULTILINE)
    info = package.parent / "zoo_ellipsoid-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: zoo-ellipsoid\nVersion: 0.1\n")
    entries = "\n".join(f"[{group}]\n{lines}" for group, lines in groups).replace('"', "")
    (info / "entry_points.txt").write_text(entries)
    monkeypatch.syspath_prepend(package.parent)
    forget()
    yield package
    monkeypatch.undo()
    forget()


def test_the_page_has_all_files_of_the_package() -> None:
    assert sorted(Path(name).name for name, _ in FILES) == [
        "ellipsoid.yaml", "ellipsoid_heads32.yaml", "portraits.py", "portraits.yaml", "published.py", "pyproject.toml",
    ]  # fmt: skip
    assert len(COMMANDS) == 1


def test_a_method_with_its_defaults_recipes_and_weights(package: Path) -> None:
    assert zoo.list("ellipsoid*") == ["ellipsoid"]
    assert "zoo_ellipsoid.ellipsoid" not in sys.modules  # names are known without running the package
    assert "ellipsoid_heads32" in recipes.names()
    model = zoo.build("ellipsoid", seed=3)
    assert model.config.hidden_dim == 32  # of its YAML file, not of its class
    assert recipes.load_run("ellipsoid_heads32").trainer.max_kimg == 16
    with pytest.raises(ConfigError, match=r"generator\.steps=1: use 2 or more"):
        zoo.build("ellipsoid", steps=1)

    zoo.save(model, package / "zoo_checkpoints" / "ellipsoid.heads32")
    forget()
    assert zoo.list("ellipsoid*") == ["ellipsoid", "ellipsoid.heads32"]
    same = zoo.load("ellipsoid", device="cpu")
    assert all(torch.equal(value, same.state_dict()[key]) for key, value in model.state_dict().items())
    assert zoo.card("ellipsoid.heads32").sha256
    (package / "zoo_checkpoints" / "ellipsoid.heads32" / "README.md").unlink()
    with pytest.raises(zoo.hub.WeightsError, match="without a card cannot be verified"):
        zoo.load("ellipsoid.heads32")


def test_ours_come_first(package: Path) -> None:
    before = zoo.card("pigan").name
    zoo.save(zoo.build("pigan", hidden_dim=8, layers=1), package / "zoo_checkpoints" / "pigan.zzz")
    (package / "zoo_configs" / "pigan_heads32.yaml").write_text("use: [generator/gof]")
    (package / "zoo_configs" / "generator" / "pigan.yaml").write_text("class: zoo_ellipsoid.ellipsoid:Ellipsoid")
    forget()
    assert "pigan.zzz" in zoo.list("pigan*")
    assert zoo.card("pigan").name == before
    assert registry.target("pigan") == "zoo.generators.pigan:PiGAN"
    assert recipes.load_run("pigan_heads32").generator["name"] == "pigan"


def test_a_data_set_is_a_layout_and_a_yaml_file(package: Path, tmp_path: Path) -> None:
    (tmp_path / "faces" / "people").mkdir(parents=True)
    for i in range(5):
        Image.new("RGB", (40, 40), (i, 0, 0)).save(tmp_path / "faces" / "people" / f"{i}.png")
    run = recipes.load_run("ellipsoid", ["data=portraits", f"data.root={tmp_path / 'faces'}"])
    assert (run.data.name, run.data.size, run.generator["scene"]["fov"]) == ("portraits", 32, 20.0)
    assert [len(open_source("portraits", run.data.root, split)) for split in ("train", "val")] == [3, 2]  # type: ignore[arg-type]
    with pytest.raises(DataError, match="Did you mean 'portraits'"):
        open_source("portrait", tmp_path)


def test_published_weights_are_read_by_its_table(package: Path, tmp_path: Path) -> None:
    torch.save(zoo.build("ellipsoid", z_dim=8).state_dict(), tmp_path / "published.pth")
    model = zoo.import_official("ellipsoid", tmp_path / "published.pth", out=tmp_path / "ellipsoid.celeba")
    assert (model.config.z_dim, model.config.steps) == (8, 12)
    with pytest.raises(ConfigError, match="Did you mean 'ellipsoid'"):
        zoo.import_official("elipsoid", tmp_path / "published.pth")


def test_its_module_may_add_a_regime(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.config.regimes.REGIMES", REGIMES)  # taken back below
    with (package / "ellipsoid.py").open("a") as file:
        file.write(
            '\nEllipsoid.system = "coaxing"\n'
            "from zoo.config.regimes import REGIMES, Regime\n"
            "from zoo.config.schemas import SystemConfig\n"
            'REGIMES["coaxing"] = Regime(SystemConfig, "zoo.systems.base:TrainingSystem")\n'
        )
    (package / "zoo_configs" / "system").mkdir()
    (package / "zoo_configs" / "system" / "coaxing.yaml").write_text("name: coaxing\ngrad_clip: 7\n")
    try:
        run = recipes.load_run("ellipsoid", ["data.size=32"])
        assert (run.system.name, run.system.grad_clip) == ("coaxing", 7)
    finally:
        REGIMES.pop("coaxing", None)


def test_a_plugin_that_does_not_work_is_named(package: Path) -> None:
    (package / "ellipsoid.py").write_text("import a_package_that_nobody_has\n")
    assert "ellipsoid" in zoo.list()
    with pytest.raises(ConfigError, match=r"ellipsoid: the package that brings it does not work .*nobody_has"):
        zoo.build("ellipsoid")


def shell(text: str, cwd: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(["bash", "-ec", text], cwd=cwd, capture_output=True, text=True, env=environment, timeout=450)
    assert done.returncode == 0, f"{text}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_page_followed_in_a_fresh_environment(tmp_path: Path) -> None:
    write_package(tmp_path)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    binaries = tmp_path / "env" / "bin"
    # zoo is this checkout, and what it depends on, some 5 GB, that of the running environment.
    where = [binaries / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip()
    (Path(packages) / "zoo.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
    (binaries / "zoo").write_text(f'#!/bin/sh\nexec {binaries / "python"} -m zoo "$@"\n')
    (binaries / "zoo").chmod(0o755)
    environment: dict[str, Any] = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"PATH": f"{binaries}:{os.environ['PATH']}", "ZOO_CACHE": str(tmp_path / "cache")}
    environment |= {"PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1"}  # without a network

    shell(COMMANDS[0], tmp_path, environment)
    assert Image.open(tmp_path / "grid.png").size[0] >= 64
    listed = json.loads(shell('zoo list "ellipsoid*" --json', tmp_path, environment))
    assert [row["name"] for row in listed] == ["ellipsoid", "ellipsoid.heads32"]

    # And as a wheel, with the weights inside; their folder is out of the way.
    shell("pip uninstall -qy zoo-ellipsoid && pip install -q ./zoo-ellipsoid", tmp_path, environment)
    (tmp_path / "zoo-ellipsoid").rename(tmp_path / "elsewhere")
    code = "import zoo; m = zoo.load('ellipsoid'); print(m.name, m.config.hidden_dim, m.card.kimg > 0)"
    assert shell(f'python -c "{code}"', tmp_path, environment).split() == ["ellipsoid.heads32", "32", "True"]
