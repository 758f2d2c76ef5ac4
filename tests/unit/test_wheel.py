"""The wheel holds all that it needs: built, installed elsewhere, used from there."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USE = """
import zoo, pathlib
place = pathlib.Path(zoo.__file__)
assert "site-packages" in place.parts, place
names = zoo.list(pretrained=True)
for name in names:
    model = zoo.load(name, device="cpu")
    assert model.card.sha256 and model(model.latents(1), model.camera(size=16)).rgb.shape == (1, 3, 16, 16)
model = zoo.build("shadegan_heads32", hidden_dim=8, layers=1, outward_init=False)
from zoo.faces.detector import network
network()  # its weights travel with it
print(zoo.__version__, len(names))
"""


def call(*command: str | Path, cwd: Path, **more: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | more
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_wheel_works_in_a_clean_environment(tmp_path: Path) -> None:
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    wheel = next(tmp_path.glob("zoo3d-*.whl"))
    assert "zoo/py.typed" in zipfile.ZipFile(wheel).namelist()
    assert wheel.stat().st_size < 60e6, "new weights: zoo save --half"
    call(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    call(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    # The dependencies, some 5 GB, come from this environment; zoo itself must not, so its folder is searched last.
    packages = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    (Path(packages) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    listed = call(tmp_path / "env" / "bin" / "zoo", "list", cwd=tmp_path)
    assert "shadegan" in listed
    version, shipped = call(python, "-c", USE, cwd=tmp_path).split()
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()
    assert int(shipped) == len(list((ROOT / "checkpoints").glob("*.*/model.safetensors")))


@pytest.mark.slow
def test_the_same_sources_give_the_same_wheel(tmp_path: Path) -> None:
    """Wherever they lie, whoever may read them, whenever they were written, and whatever Python left beside them."""

    def built(sources: Path, epoch: str) -> bytes:
        out = tmp_path / f"dist-{sources.name}-{epoch}"
        build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, sources)
        call(*build, cwd=tmp_path, SOURCE_DATE_EPOCH=epoch)
        return next(out.glob("zoo3d-*.whl")).read_bytes()

    one, other = tmp_path / "one", tmp_path / "other"
    large = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.npz")  # to compress them takes long
    for name in ("zoo", "configs", "checkpoints"):
        shutil.copytree(ROOT / name, one / name, ignore=large)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, one / name)
    shutil.copytree(one, other)
    (other / "zoo" / "__pycache__").mkdir()
    (other / "zoo" / "__pycache__" / "hub.cpython-311.pyc").write_bytes(b"left over")
    for path in other.rglob("*"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o700 if path.is_dir() else 0o600)
    first = built(one, "1700000000")
    assert first == built(other, "1700000000")
    assert first != built(other, "1800000000")  # the time is that of the commit
