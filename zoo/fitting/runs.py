"""The folder that `zoo run` writes, read back: its settings, its pictures, and what was reached for each of them."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import hub
from ..config.untrusted import from_json
from ..errors import ConfigError, WeightsError
from ..generators.base import PictureGAN
from ..generators.gan2shape import GAN2Shape
from ..resources import user_path
from ..weights.checkpoints import read_plain
from .subject import Subject

RESULT, LATENT, DEPTHS, SETTINGS = "result.json", "latent.pt", "depths.npy", "run.json"
WEIGHTS = "weights"  # folder of the fitted networks
_ALIKE = 0.02  # largest mean difference of pictures that are the same, scaled by two GANs, in [-1, 1]
_MAPS = {"image": 3, "mask": 1, "shape": 1, "depth": 1, "inside": 1}  # the channels of each


@dataclass(frozen=True)
class Finished:
    """A picture with its result.

    Attributes:
        folder: Is the picture's own.
        seconds: Says how long the fit took.
        SIDE: Holds the depth error after each stage, the initial shape first, in units of 1e-2; empty without true
            depth.
        MAD: Holds the error of normals likewise, in degrees.
    """

    folder: Path
    seconds: float
    SIDE: list[float]
    MAD: list[float]

    @property
    def name(self) -> str:
        """The picture's name."""
        return self.folder.name

    def subject(self) -> Subject:
        """Read what the networks were fitted to.

        Raises:
            WeightsError: The file is missing or damaged.
        """
        return read_subject(self.folder / LATENT)[0]

    def networks(self, gan: PictureGAN, size: int) -> GAN2Shape:
        """Load the networks that were fitted to the picture.

        Args:
            gan: Is the GAN of the run; the networks go to its device.
            size: Is the side of the image that they were fitted to.

        Raises:
            WeightsError: The file is missing or damaged, or of another method, GAN or size.
        """
        place, again = self.folder / WEIGHTS, f"delete {self.folder} and run it again"
        model = hub.load(f"file:{place}", device=str(gan.device))
        if not isinstance(model, GAN2Shape) or model.config.offset_dim != gan.config.z_dim:
            raise WeightsError(f"{place}: these networks were not fitted with this GAN; {again}")
        if model.config.size != size:
            raise WeightsError(f"{place}: these networks take another size than the image in {LATENT}; {again}")
        return model

    def depths(self, size: int) -> Tensor:
        """Read depth (stages + 1,1,size,size) in the view of the photograph, after each stage, the initial shape first.

        Raises:
            WeightsError: The file is missing or damaged.
        """
        path = self.folder / DEPTHS
        try:
            depths = torch.from_numpy(np.load(path, allow_pickle=False))
        except Exception as error:  # numpy and torch raise many kinds
            raise _unreadable(path, f"cannot be read ({error})") from None
        if depths.dtype != torch.float32 or depths.shape[1:] != (size, size) or not len(depths):
            raise _unreadable(path, f"is no float32 depth (stages, {size}, {size})")
        if not (depths.isfinite() & (depths > 0)).all():
            raise _unreadable(path, "holds depth that is not finite or not positive")
        return depths[:, None]


@dataclass(frozen=True)
class FinishedRun:
    """A folder of `zoo run`.

    Attributes:
        folder: Is the path as it was given.
        settings: Holds what `run.json` says: generator, system, seed, gan, joint.
        pictures: Are sorted by name.
    """

    folder: Path
    settings: dict[str, Any]
    pictures: list[Finished]

    def gan(self) -> PictureGAN:
        """Load the GAN that the pictures were fitted with.

        Raises:
            ConfigError: It is not on this disk, or it is no 2D GAN.
            WeightsError: Its weights are damaged.
        """
        name = self.settings["gan"]
        if name.startswith("hf:"):  # a file must not choose what is downloaded
            raise ConfigError(f"{self.folder / SETTINGS}: its GAN is {name}; download it, and write its folder there")
        gan = hub.load(name)
        if not isinstance(gan, PictureGAN):
            raise ConfigError(f"{self.folder / SETTINGS}: its GAN is {name}, which is no 2D GAN; write another there")
        return gan


def is_run(name: str) -> bool:
    """Whether `name` is a folder that `zoo run` has written to.

    Raises:
        ConfigError: The system can have no such path.
    """
    return (user_path(name, ConfigError) / SETTINGS).is_file()


def labels(runs: Sequence[FinishedRun]) -> list[str]:
    """Name the rows of runs by their folders, or by whole paths where two folders have the same name.

    Raises:
        ConfigError: A folder is given twice.
    """
    places = [run.folder.resolve() for run in runs]
    if twice := [str(place) for place in places if places.count(place) > 1]:
        raise ConfigError(f"{twice[0]}: given twice; name each folder once")
    names = [place.name for place in places]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def alike(first: Tensor, second: Tensor) -> bool:
    """Whether two images of one shape, in [-1, 1], show the same: runs scale pictures to their GANs and back."""
    return bool((first - second).abs().mean() <= _ALIKE)


def read_run(folder: str | os.PathLike[str]) -> FinishedRun:
    """Read the folder of a run whose pictures are all finished.

    Raises:
        ConfigError: There is no such folder, or a picture is not finished.
        WeightsError: A file is damaged.
    """
    folder = user_path(folder, ConfigError)
    if not (folder / SETTINGS).is_file():
        raise ConfigError(f"{folder}: is no folder of zoo run: it has no {SETTINGS}")
    settings = _read_json(folder / SETTINGS)
    if not isinstance(settings, dict) or not isinstance(settings.get("gan"), str):
        raise _unreadable(folder / SETTINGS, "does not name the GAN of the run")
    places = sorted(p for p in folder.iterdir() if any((p / name).is_file() for name in (LATENT, RESULT)))
    if unfinished := [p.name for p in places if not (p / RESULT).is_file()]:
        more = f" and {len(unfinished) - 1} more" if len(unfinished) > 1 else ""
        raise ConfigError(
            f"{folder / unfinished[0]}{more}: not finished; repeat the zoo run command to continue, or delete it"
        )
    if not places:
        raise ConfigError(f"{folder}: no picture is finished; repeat the zoo run command to continue")
    return FinishedRun(folder, settings, [_finished(place) for place in places])


def _finished(folder: Path) -> Finished:
    result = _read_json(folder / RESULT)
    try:
        scores = [r for r in result["records"] if "SIDE" in r]
        picture = Finished(folder, float(result["seconds"]), *([float(r[k]) for r in scores] for k in ("SIDE", "MAD")))
    except (KeyError, TypeError, ValueError):
        raise _unreadable(folder / RESULT, "is no result of zoo run") from None
    if not all(math.isfinite(x) and x >= 0 for x in (picture.seconds, *picture.SIDE, *picture.MAD)):
        raise _unreadable(folder / RESULT, "a figure is negative or not finite")
    return picture


def stage_means(scores: Iterable[Sequence[float]]) -> list[float]:
    """Mean scores of all pictures, stage by stage; empty if a picture has none."""
    return [sum(stage) / len(stage) for stage in zip(*scores, strict=False)]


def read_subject(path: Path) -> tuple[Subject, str]:
    """Read a subject as `zoo run` stores it, and the hash of its photograph.

    Raises:
        WeightsError: The file is missing or damaged, or holds values that are not finite.
    """
    try:
        stored = read_plain(path)
        subject = Subject(**{f.name: stored[f.name] for f in fields(Subject)})
        digest = stored["picture"]
    except Exception as error:  # another kind of file
        raise _unreadable(path, f"cannot be read ({error})") from None
    if not _sound(subject):
        raise _unreadable(path, "holds sizes or values that no photograph has")
    return subject, digest


def _sound(subject: Subject) -> bool:
    if not isinstance(subject.image, Tensor) or subject.image.ndim != 4:
        return False
    size = subject.image.shape[-1]
    for name, channels in _MAPS.items():
        value, kind = getattr(subject, name), torch.bool if name == "inside" else torch.float32
        if value is None and name in ("depth", "inside"):
            continue
        if not _finite(value, kind) or value.shape != (1, channels, size, size):
            return False
    return _finite(subject.w, torch.float32) and subject.w.ndim in (2, 3) and len(subject.w) == 1


def _finite(value: object, kind: torch.dtype) -> bool:
    return isinstance(value, Tensor) and value.dtype == kind and bool(value.isfinite().all())


def _read_json(path: Path) -> Any:
    try:
        return from_json(path.read_text("utf-8"), path.name, WeightsError)
    except (OSError, ValueError, WeightsError) as error:
        raise _unreadable(path, f"cannot be read ({error})") from None


def _unreadable(path: Path, why: object) -> WeightsError:
    return WeightsError(f"{path}: {' '.join(str(why).split())[:120]}; delete {path.parent} and run it again")
