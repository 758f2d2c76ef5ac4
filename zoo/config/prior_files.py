"""Light and pose priors in files, as numbers for a configuration."""

import io
import math
import zipfile
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..resources import user_path
from .untrusted import MOST_BYTES, from_json

_MAX_NUMBERS = 1024  # in one entry; the largest prior has 36


def read_prior(kind: str, path: str | Path) -> dict[str, Any]:
    """What a file says in place of `data.scene.light`, `data.scene.pose` or `generator.view`.

    Its keys are checked with the rest.

    Args:
        kind: "light" or "view": `mean` and `cov` in a .json or .npz (`LightPrior.load` also reads the official .pth);
            "pose": .json with the keys of `PoseConfig`.
        path: The file.

    Raises:
        DataError: Missing, damaged, or not of that kind.
    """
    path = user_path(path, DataError)
    endings = (".json",) if kind == "pose" else (".json", ".npz")
    if path.suffix not in endings:
        raise DataError(f"{path}: a {kind} prior is a {' or '.join(endings)} file")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: {path.stat().st_size:,} bytes is no {kind} prior, which has some hundred")
        values = from_json(path.read_bytes(), str(path), DataError) if path.suffix == ".json" else _npz(path)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # zipfile and numpy have many, and words of the file in some
        reason = ascii(" ".join(str(error).split())[:120])[1:-1]
        raise DataError(f"{path}: not a {kind} prior ({reason})") from error
    if not isinstance(values, dict):
        example = "{yaw_std: 0.3}" if kind == "pose" else "{mean: [...], cov: [[...], ...]}"
        raise DataError(f"{path}: not a {kind} prior, which is a mapping, e.g. {example}")
    if kind == "pose":
        return values
    try:
        return {key: values[key] if isinstance(values[key], list) else values[key].tolist() for key in ("mean", "cov")}
    except (KeyError, AttributeError) as error:
        raise DataError(f"{path}: no entry {error}; a {kind} prior has 'mean' and 'cov'") from error


def _npz(path: Path) -> dict[str, Any]:
    """`mean` and `cov` of an archive: nothing else is unpacked, and no more than their headers say in few numbers."""
    import numpy as np

    with zipfile.ZipFile(path) as archive:
        out = {}
        for key in ("mean", "cov"):
            if f"{key}.npy" not in archive.namelist():
                continue
            if archive.getinfo(f"{key}.npy").file_size > MOST_BYTES:
                raise ValueError(f"{key} is too large")
            data = io.BytesIO(archive.read(f"{key}.npy"))
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, kind = read_header[np.lib.format.read_magic(data)](data)
            if math.prod(shape) > _MAX_NUMBERS or kind.kind not in "iuf":
                raise ValueError(f"{key} is {kind} of shape {shape}")
            data.seek(0)
            out[key] = np.lib.format.read_array(data, allow_pickle=False)
        return out
