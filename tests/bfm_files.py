"""Tiny files in the three formats of the Basel Face Model: a ball whose depth, normals and colours are known."""

from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from scipy import io

RADIUS = 90.0  # millimetres
SPREAD = np.array([4.0, 3.0, 2.0])  # millimetres, of the radius and of the centre's x and y
FORMATS = ("01_MorphableModel.mat", "model2017-1_bfm_nomouth.h5", "model2019_bfm.h5")


def ball(subdivisions: int = 3) -> dict[str, np.ndarray]:
    """Points and shifts in millimetres, colours in [0, 1]; components are columns of length 1."""
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    n, root = np.asarray(mesh.vertices), np.sqrt(len(mesh.vertices))
    moves = np.stack([n, np.tile([1.0, 0, 0], (len(n), 1)), np.tile([0, 1.0, 0], (len(n), 1))], -1) / root
    tints = np.stack([np.tile(np.eye(3)[k], (len(n), 1)) for k in range(3)], -1) / root
    return {
        "mean": RADIUS * n + [3.0, -7.0, 11.0],  # the model's own origin is nobody's business
        "basis": moves,
        "std": SPREAD * root,
        "colour": 0.5 + 0.2 * n,
        "tints": tints,
        "tint_std": np.array([0.02, 0.02, 0.02]) * root,
        "faces": np.asarray(mesh.faces),
    }


def write_model(folder: Path, name: str, parts: dict[str, np.ndarray] | None = None, **changes: Any) -> Path:
    """The ball as a file of a name of `FORMATS`, with arrays of the file replaced by `changes` (None drops one)."""
    p, path = parts or ball(), folder / name
    if name.endswith(".mat"):
        arrays = {
            "shapeMU": 1000 * p["mean"].reshape(-1, 1),
            "shapePC": p["basis"].reshape(-1, len(p["std"])),
            "shapeEV": 1000 * p["std"][:, None],
            "texMU": 255 * p["colour"].reshape(-1, 1),
            "texPC": p["tints"].reshape(-1, len(p["tint_std"])),
            "texEV": 255 * p["tint_std"][:, None],
        }
        arrays = {key: value.astype(np.float32) for key, value in arrays.items()}
        arrays["tl"] = p["faces"][:, ::-1].astype(np.float64) + 1  # BFM's triangles turn the other way
        changed = {key: value for key, value in (arrays | changes).items() if value is not None}
        io.savemat(path, changed, do_compression=True)
        return path
    import h5py

    arrays = {
        "shape/model/mean": p["mean"].reshape(-1).astype(np.float32),
        "shape/model/pcaBasis": p["basis"].reshape(-1, len(p["std"])).astype(np.float32),
        "shape/model/pcaVariance": p["std"].astype(np.float32) ** 2,
        "color/model/mean": p["colour"].reshape(-1).astype(np.float32),
        "color/model/pcaBasis": p["tints"].reshape(-1, len(p["tint_std"])).astype(np.float32),
        "color/model/pcaVariance": p["tint_std"].astype(np.float32) ** 2,
        "expression/model/mean": np.zeros(p["mean"].size, np.float32),
        "expression/model/pcaBasis": p["basis"].reshape(-1, len(p["std"]))[:, :1].astype(np.float32),
        "expression/model/pcaVariance": p["std"][:1].astype(np.float32) ** 2,
        "shape/representer/cells": p["faces"].T.astype(np.int32),
    }
    with h5py.File(path, "w") as file:
        for key, value in (arrays | changes).items():
            if value is not None:
                file[key] = value
    return path
