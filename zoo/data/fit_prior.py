"""Priors fitted to lights or poses of a data set, and written to files that a run can take in place of numbers."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..priors import LightPrior, PosePrior
from ..resources import user_path
from ..runtime.files import atomic_write, printable
from .measured import measure
from .store import open_files


def fit_prior(samples: str | Path, out: str | Path) -> LightPrior | PosePrior:
    """Fit a prior to measured lights or poses and write it where `read_prior` finds it.

    Args:
        samples: A .csv or .npy with one row for each image: a, d, dx, dy of a light, see `zoo.Light`; or pitch and yaw
            in radians, both 0 in front. Of a folder or .zip of photographs, the poses of the faces are measured
            first; those without a face are left out. A .pth light prior of the official releases is converted as it is.
        out: The file to write: a .json, or for lights also a .npz.

    Returns:
        The fitted prior.

    Raises:
        DataError: `samples` cannot be read, or has other columns or numbers that are not finite; or `out` has another
            ending.
        ConfigError: There are fewer than 2 rows.
    """
    path, out = user_path(samples, DataError), user_path(out, DataError)
    if path.suffix in (".pth", ".pt"):
        published = LightPrior.load(path)
        published.save(out)
        return published
    photographs = path.is_dir() or path.suffix.lower() == ".zip"
    if out.suffix != ".json" and photographs:
        raise DataError(f"{out}: save a pose prior as .json")  # before minutes of measuring
    rows = _measured(path) if photographs else torch.from_numpy(_rows(path))
    if rows.shape[1] == 4:
        light = LightPrior.fit(rows)
        light.save(out)
        return light
    if out.suffix != ".json":
        raise DataError(f"{out}: save a pose prior as .json")
    pose = PosePrior.fit(rows)
    atomic_write(out, json.dumps(asdict(pose), indent=2) + "\n")
    return pose


def _measured(root: str | Path) -> Tensor:
    """Pitch and yaw (N, 2) of the faces on photographs."""
    files = open_files(root)
    poses = measure(files, files.names, skip=True).poses
    if len(poses) < 2:
        raise DataError(f"{printable(files.root)}: faces on {len(poses)} of {len(files.names)} pictures; 2 are needed")
    return poses


def _rows(path: Path) -> np.ndarray:
    """Read rows (N, 4) or (N, 2), float64."""
    if path.suffix not in (".csv", ".npy"):
        raise DataError(f"{path}: lights and poses must be in a .csv or .npy file")
    try:
        if path.suffix == ".npy":
            rows = np.asarray(np.load(path, allow_pickle=False), np.float64)
        else:
            rows = np.loadtxt(path, delimiter=",", ndmin=2)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"{path}: not a table of numbers ({reason}); a first line with names starts with #") from error
    if rows.ndim != 2 or rows.shape[1] not in (2, 4):
        fix = "a light is a row of 4 (a, d, dx, dy), a pose a row of 2 (pitch, yaw in radians)"
        raise DataError(f"{path}: numbers of shape {rows.shape}; {fix}")
    if len(bad := np.flatnonzero(~np.isfinite(rows).all(1))):
        raise DataError(f"{path}: row {bad[0] + 1} is not finite; leave it out")
    return rows
