"""What inversion finds, and the file it is kept in."""

import copy
import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..config.schemas import SIDE
from ..config.untrusted import from_json
from ..errors import WeightsError
from ..generators.base import Generator, Latents
from ..geometry import Camera, Light, Render
from ..runtime.files import atomic_write
from ..weights.files import shown, to_safetensors
from .codes import at

if TYPE_CHECKING:
    import os

    from pytorch3d.structures import Meshes

FORMAT, TUNED_FORMAT = "reconstruction-1", "reconstruction-tuned-1"  # versions before 0.2 refuse the second
_MAX_BYTES = 512 * 2**20
_TUNED = "tuned."  # in front of the names of tuned weights
_KINDS: dict[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (float, int)}  # as JSON has them


@dataclass(frozen=True)
class Fit:
    """How a search went.

    Attributes:
        psnr: Peak signal-to-noise ratio in dB over the pixels that count.
        l1: Mean absolute difference of colours in [0, 1] over them.
        steps: Number of steps of the optimiser.
        stopped: Why it ended before its last step: "plateau", "interrupted", "not finite"; else "".
        warning: What makes the result doubtful, a sentence; else "".
    """

    psnr: float
    l1: float
    steps: int = 0
    stopped: str = ""
    warning: str = ""


@dataclass(frozen=True, repr=False)
class Reconstruction:
    """One object of a generator that explains a photograph.

    Attributes:
        generator: The generator.
        latents: The object; its `code` was optimised, or predicted.
        camera: Where the photograph was taken from.
        light: Its light; None if the generator has none.
        image: (1, 3, T, T) the photograph as it was cut for the comparison, in [-1, 1], T >= 128.
        weight: (1, 1, S, S) how much its pixels counted at the size of the comparison, in [0, 1].
        fit: How close they are.
        origin: Says which weights the generator had before it was tuned to this photograph, see `fingerprint`; "" if it
            was not.
    """

    generator: Generator
    latents: Latents
    camera: Camera
    light: Light | None
    image: Tensor
    weight: Tensor
    fit: Fit
    origin: str = ""

    def __repr__(self) -> str:
        pitch, yaw = (f"{round(angle, 2) + 0.0:g}" for angle in self.camera.pose[0].tolist())
        name = self.generator.title + (", tuned" if self.origin else "")
        return f"Reconstruction({name}, yaw {yaw}, pitch {pitch}, {self.fit.psnr:.1f} dB)"

    @torch.no_grad()
    def render(self, camera: Camera | None = None, light: Light | None = None, size: int | None = None) -> Render:
        """The object from its own or another camera, under its own or another light, at any size."""
        camera = camera or self.camera
        camera = camera if size is None else camera.resized(size)
        if light is None:
            return self.generator(self.latents, camera, self.light)
        return self.generator(self.latents, camera, light, self.generator.keeping_albedo(self.light))

    def mesh(self, resolution: int = 128, level: float | None = None) -> "Meshes":
        """The object as a coloured mesh, see `Generator.mesh`."""
        return self.generator.mesh(self.latents, resolution, level)

    def save(self, path: "str | os.PathLike[str]") -> Path:
        """Write it as .safetensors, with the name and a hash of the generator's weights, and tuned weights themselves.

        Raises:
            WeightsError: The path has another suffix.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            raise WeightsError(f"{path}: a reconstruction is written as .safetensors")
        assert self.latents.code is not None
        tensors = {
            "code": self.latents.code,
            "cam2world": self.camera.cam2world,
            "image": self.image,
            "weight": self.weight,
        }
        if self.light is not None:
            tensors["light"] = self.light.params
        if self.origin:
            tensors |= {f"{_TUNED}{key}": value for key, value in self.generator.named_parameters()}
        header = {
            "zoo.format": TUNED_FORMAT if self.origin else FORMAT,
            "zoo.model": self.generator.name,
            "zoo.weights": self.origin or fingerprint(self.generator),
            "zoo.camera": json.dumps([self.camera.fov, self.camera.size, self.camera.pixel_centres]),
            "zoo.fit": json.dumps(vars(self.fit)),
        }
        data = to_safetensors({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, header)
        return atomic_write(path, data)


def fingerprint(generator: Generator) -> str:
    """SHA-256 of the names, shapes and values of all weights."""
    digest = hashlib.sha256()
    for key, value in sorted(generator.state_dict().items()):
        digest.update(f"{key}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def model_of(path: "str | os.PathLike[str]") -> str:
    """The name of the generator that a reconstruction belongs to. Raises WeightsError."""
    return _read(Path(path))[0]["zoo.model"]


def read(path: "str | os.PathLike[str]", generator: Generator) -> Reconstruction:
    """A reconstruction from a file, exactly as it was saved.

    Args:
        path: Is the file.
        generator: Is the one that was inverted. If it was tuned, the reconstruction has a copy with tuned weights.

    Raises:
        WeightsError: Missing, damaged, not a reconstruction, of other weights, or with values that are not finite.
    """
    path = Path(path)
    header, tensors = _read(path)
    if header.get("zoo.weights") != fingerprint(generator):
        made = f"made with {shown(header['zoo.model'])}, not with these weights of {generator.title}"
        raise WeightsError(f"{path}: {made}; load those")
    if bad := [k for k, v in tensors.items() if v.dtype != torch.float32 or not bool(v.isfinite().all())]:
        raise WeightsError(f"{path}: {shown(bad[0])} is not finite; invert the photograph again")
    try:
        camera, light, fit = _facts(header, tensors, str(path))
        code, image, weight = (tensors[key] for key in ("code", "image", "weight"))
        like, t, s = generator.code(generator.latents(1)).shape, image.shape[-1], camera.size
        for name, value, shape in (
            ("code", code, like), ("image", image, (1, 3, t, t)), ("weight", weight, (1, 1, s, s)),
            ("cam2world", camera.cam2world, (1, 4, 4)), ("light", light.params if light else None, (1, 4)),
        ):  # fmt: skip
            if value is not None and value.shape != shape:
                raise ValueError(f"{name} is {tuple(value.shape)}, must be {tuple(shape)}")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise WeightsError(
            f"{path}: not a reconstruction of {shown(header['zoo.model'])} ({shown(str(error))})"
        ) from None
    device, origin = generator.device, ""
    if header["zoo.format"] == TUNED_FORMAT:
        tuned = {key.removeprefix(_TUNED): value for key, value in tensors.items() if key.startswith(_TUNED)}
        generator, origin = _with(generator, tuned, path), header["zoo.weights"]
    return Reconstruction(
        generator, at(generator, code.to(device)), camera.to(device), light.to(device) if light else None,
        image.to(device), weight.to(device), fit, origin,
    )  # fmt: skip


def _with(generator: Generator, tuned: dict[str, Tensor], path: Path) -> Generator:
    """A copy of a generator with tuned weights."""
    own = copy.deepcopy(generator)
    weights = dict(own.named_parameters())
    if {k: v.shape for k, v in tuned.items()} != {k: v.shape for k, v in weights.items()}:
        whose = f"not those of a {generator.title}"
        raise WeightsError(f"{path}: its tuned weights are {whose}; invert the photograph again")
    with torch.no_grad():
        for key, weight in weights.items():
            weight.copy_(tuned[key])
    return own


def _facts(header: dict[str, str], tensors: dict[str, Tensor], where: str) -> tuple[Camera, Light | None, Fit]:
    """What is said in text. Raises ValueError, KeyError, TypeError, WeightsError for what no reconstruction has."""
    fov, size, centres = from_json(header["zoo.camera"], where, WeightsError)
    if isinstance(size, bool) or not isinstance(size, int) or not 2 <= size <= SIDE:
        raise ValueError(f"a camera of {size} pixels; 2 to {SIDE} are possible")
    values = from_json(header["zoo.fit"], where, WeightsError)
    if not isinstance(values, dict):
        raise ValueError("its fit is no mapping")
    fit = Fit(**values)
    if odd := [f.name for f in fields(fit) if type(getattr(fit, f.name)) not in _KINDS[f.type]]:
        raise ValueError(f"{odd[0]} of its fit is of another type")
    light = Light(tensors["light"]) if "light" in tensors else None
    return Camera(tensors["cam2world"], float(fov), size, centres), light, fit


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; give a reconstruction that zoo invert has written")
    if path.stat().st_size > _MAX_BYTES:
        raise WeightsError(f"{path}: {path.stat().st_size:,} bytes is no reconstruction")
    try:
        with safe_open(path, "pt") as file:
            header = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:  # types that torch lacks, too
        raise WeightsError(f"{path}: damaged or not a safetensors file ({shown(str(error))})") from None
    if header.get("zoo.format") not in (FORMAT, TUNED_FORMAT) or "zoo.model" not in header:
        raise WeightsError(f"{path}: not a reconstruction; give a file that zoo invert has written")
    return header, tensors
