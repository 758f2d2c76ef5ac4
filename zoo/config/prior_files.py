"""Light and pose priors in files, as numbers for a configuration."""

import json
from pathlib import Path
from typing import Any

from ..errors import DataError


def read_prior(kind: str, path: str | Path) -> dict[str, Any]:
    """What a file says in place of `data.scene.light`, `data.scene.pose` or `generator.view`.

    Its keys are checked with the rest.

    Args:
        kind: "light" or "view": `mean` and `cov` in a .json or .npz (`LightPrior.load` also reads the official .pth);
            "pose": .json with the keys of `PoseConfig`.
        path: the file.

    Raises:
        DataError: missing, damaged, or not of that kind.
    """
    path = Path(path).expanduser()
    endings = (".json",) if kind == "pose" else (".json", ".npz")
    if path.suffix not in endings:
        raise DataError(f"{path}: a {kind} prior is a {' or '.join(endings)} file")
    try:
        values = _parse(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # two parsers, each with errors of its own
        reason = str(error).split("\n")[0]
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


def _parse(path: Path) -> Any:
    if path.suffix == ".json":
        return json.loads(path.read_text("utf-8"))
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        return dict(file)
