"""The Basel Face Model from the file that its users have: 2009 as .mat, 2017 and 2019 as .h5.

| | 2009, `01_MorphableModel.mat` | 2017 and 2019, `model2017-1_*.h5`, `model2019_*.h5` |
|---|---|---|
| container | MATLAB 5 | HDF5, in statismo's layout |
| lengths | micrometres | millimetres |
| colours | 0 to 255 for each vertex | 0 to 1 for each vertex |
| spread of a component | standard deviation (`shapeEV`, `texEV`) | variance (`pcaVariance`) |
| triangles | (F, 3), counted from 1 | (3, F), counted from 0 |
| expressions | none | yes |

In all of them x points to the right of the picture, y up and z from the face to the camera, and components are columns
of unit length. Triangles do not wind alike, so that they are turned by the shape itself.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import DataError, ZooError
from ...resources import user_path
from ...runtime.files import printable

MM = 1200.0  # millimetres in a world unit: the benchmark's cut then shows a face from chin to hairline
BEHIND, ABOVE = 75.0, 15.0  # millimetres from the mean face's tip of the nose to the origin
TALLEST, SHORTEST = 600.0, 60.0  # millimetres; faces and heads are between
MAX_NUMBERS = 2**27  # in all arrays of a file that are read; those of BFM have up to 90 million

WHERE = "the University of Basel gives the model to those who accept its terms: see its Basel Face Model site"
KINDS = "01_MorphableModel.mat (2009), model2017-1_*.h5 or model2019_*.h5"


class Linear(NamedTuple):
    """A mean and its principal components.

    Attributes:
        mean: (V, 3) float64.
        basis: (K, V, 3) float32, per standard deviation.
    """

    mean: np.ndarray
    basis: np.ndarray

    def at(self, coefficients: np.ndarray) -> np.ndarray:
        """The instance (V, 3), float64, at K coefficients; summed in a fixed order, so that every machine agrees."""
        out, part = self.mean.copy(), np.empty_like(self.mean)
        for weight, component in zip(coefficients, self.basis, strict=True):
            np.multiply(component, weight, out=part)
            out += part
        return out


@dataclass(frozen=True)
class FaceModel:
    """A morphable face in world units.

    Attributes:
        kind: What the file is, for people.
        sha256: Hash of the file, in hex.
        shape: Vertices in world units, with Y up, the face towards +Z and the origin within the head.
        colour: Albedo in [0, 1] for each vertex; instances may leave that range.
        expression: What is added to vertices, in world units; None if it was not asked for.
        faces: (F, 3) int32, counter-clockwise from outside.
    """

    kind: str
    sha256: str
    shape: Linear
    colour: Linear
    expression: Linear | None
    faces: np.ndarray


class _Raw(NamedTuple):
    """A part as the file has it: mean (3V,), basis (3V, K), standard deviations (K,)."""

    mean: np.ndarray
    basis: np.ndarray
    spread: np.ndarray


def read_model(path: str | Path, *, expressions: bool = False) -> FaceModel:
    """Read a model file of any of the three kinds, which its content tells apart.

    Args:
        path: The file.
        expressions: Whether to read the expressions of 2017 and 2019, too.

    Raises:
        DataError: The file is missing, damaged or another one, or has no expressions.
        ZooError: The package that reads it is not installed.
    """
    path = user_path(path, DataError)
    shown = printable(path)
    if not path.is_file():
        raise DataError(f"{shown}: no such file; give {KINDS} ({WHERE})")
    with path.open("rb") as file:
        start = file.read(16)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        reader: Callable[[Path, bool], tuple[dict[str, _Raw], np.ndarray]] = _read_h5
        kind, unit, white = "Basel Face Model 2017 or 2019", 1.0, 1.0
    elif start.startswith(b"MATLAB 5.0 MAT"):
        reader, kind, unit, white = _read_mat, "Basel Face Model 2009", 1000.0, 255.0
        if expressions:
            raise DataError(f"{shown}: the model of 2009 has no expressions; leave --expressions out")
    elif start.startswith(b"MATLAB 7.3 MAT"):
        raise DataError(
            f"{shown}: saved again by MATLAB in version 7.3; give the file as it was published, or save -v7"
        )
    else:
        raise DataError(f"{shown} is no Basel Face Model; give {KINDS} ({WHERE})")
    try:
        parts, faces = reader(path, expressions)
        scaled = {name: _part(name, raw) for name, raw in parts.items()}
        return _assemble(kind, sha256, scaled, faces, unit, white)
    except ZooError as error:
        raise type(error)(f"{shown}: {error}") from None
    except Exception as error:  # SciPy and h5py raise all sorts on damaged files
        raise DataError(f"{shown}: damaged ({printable(error)[:200]}); copy it again") from None


def _read_mat(path: Path, expressions: bool) -> tuple[dict[str, _Raw], np.ndarray]:
    from scipy import io

    names = {"shape": ("shapeMU", "shapePC", "shapeEV"), "colour": ("texMU", "texPC", "texEV")}
    wanted = [name for part in names.values() for name in part] + ["tl"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there = {name: (shape, kind) for name, shape, kind in io.whosmat(str(path))}
        _refuse_odd({name: there.get(name, ((), ""))[0] for name in wanted})
        for name in wanted:
            if there[name][1] not in ("single", "double", "uint32", "int32"):
                raise DataError(f"{name} holds {there[name][1]}, no numbers; give {KINDS}")
        found = io.loadmat(str(path), variable_names=wanted)
    if odd := [name for name in wanted if np.iscomplexobj(found[name])]:
        raise DataError(f"{odd[0]} holds complex numbers; give {KINDS}")
    parts = {part: _Raw(*(found[name] for name in keys)) for part, keys in names.items()}
    return parts, np.asarray(found["tl"], np.int64) - 1


def _read_h5(path: Path, expressions: bool) -> tuple[dict[str, _Raw], np.ndarray]:
    try:
        import h5py
    except ImportError:
        raise ZooError("the models of 2017 and 2019 need h5py: pip install 'zoo3d[bfm]'") from None

    names = {"shape": "shape", "colour": "color"} | ({"expression": "expression"} if expressions else {})
    cells = "shape/representer/cells"
    keys = ("mean", "pcaBasis", "pcaVariance")
    wanted = [f"{group}/model/{key}" for group in names.values() for key in keys] + [cells]
    with h5py.File(path, "r") as file:

        def dataset(name: str) -> Any:
            """A plain array of this very file: links and stores elsewhere would read other files."""
            found: Any = file
            for part in name.split("/"):
                if not isinstance(found, h5py.Group) or not isinstance(found.get(part, getlink=True), h5py.HardLink):
                    return None
                found = found[part]
            plain = isinstance(found, h5py.Dataset) and not found.is_virtual and not found.external
            return found if plain and found.dtype.kind in "fiu" else None

        found = {name: dataset(name) for name in wanted}
        _refuse_odd({name: () if array is None else array.shape for name, array in found.items()})
        read = {name: np.asarray(array[()]) for name, array in found.items()}
    parts = {}
    for part, group in names.items():
        mean, basis, variance = (read[f"{group}/model/{key}"] for key in keys)
        if (variance < 0).any():
            raise DataError(f"{group}/model/pcaVariance is negative; copy the file again")
        parts[part] = _Raw(mean, basis, np.sqrt(np.asarray(variance, np.float64)))
    return parts, np.asarray(read[cells], np.int64).T


def _refuse_odd(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Say which arrays are missing or too large, before one of them is read."""
    if missing := [name for name, shape in shapes.items() if not shape]:
        raise DataError(f"{missing[0]} is missing, or no array of numbers; give {KINDS} ({WHERE})")
    sizes = {name: int(np.prod(shape, dtype=object)) for name, shape in shapes.items()}
    if sum(sizes.values()) > MAX_NUMBERS:
        largest = max(sizes, key=lambda name: sizes[name])
        raise DataError(f"{largest} has {' x '.join(map(str, shapes[largest]))} numbers, more than any face model")


def _part(name: str, raw: _Raw) -> Linear:
    mean, spread = (np.asarray(array, np.float64).reshape(-1) for array in (raw.mean, raw.spread))
    if len(mean) % 3 or raw.basis.shape != (len(mean), len(spread)) or not len(mean):
        sizes = f"{len(mean)}, {' x '.join(map(str, raw.basis.shape))} and {len(spread)}"
        raise DataError(f"{name}: mean, components and deviations have {sizes} numbers, which do not fit together")
    basis = np.multiply(raw.basis.T, spread[:, None], dtype=np.float32, order="C", casting="unsafe")
    if not (np.isfinite(mean).all() and np.isfinite(basis).all()):
        raise DataError(f"{name}: holds numbers that are not finite; copy the file again")
    return Linear(mean.reshape(-1, 3), basis.reshape(len(spread), -1, 3))


def _assemble(
    kind: str, sha256: str, parts: Mapping[str, Linear], faces: np.ndarray, unit: float, white: float
) -> FaceModel:
    """The model in world units and [0, 1], from `unit` per millimetre and `white` for 1."""
    shape, colour, expression = parts["shape"], parts["colour"], parts.get("expression")
    count = len(shape.mean)
    if any(len(part.mean) != count for part in parts.values()):
        sizes = ", ".join(f"{name} {len(part.mean)}" for name, part in parts.items())
        raise DataError(f"its parts have different numbers of vertices ({sizes})")
    if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces) or not 0 <= faces.min() <= faces.max() < count:
        raise DataError(f"its triangles are no threes of the {count} vertices")
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]  # a corner that comes twice leaves a line, which has no normal
    if not len(faces):
        raise DataError("all of its triangles are lines; copy the file again")
    mean = shape.mean / unit
    height = float(np.ptp(mean[:, 1]))
    if not SHORTEST <= height <= TALLEST:
        raise DataError(f"the mean is {height:.4g} mm tall, and a face {SHORTEST:g} to {TALLEST:g} mm: other units?")
    if not -0.1 <= colour.mean.min() / white <= colour.mean.max() / white <= 1.1:
        raise DataError(f"mean colours go to {colour.mean.max():.4g}, and should to {white:g}: another range?")
    tip = mean[np.argmax(mean[:, 2])]
    origin = tip + np.array([0.0, ABOVE, -BEHIND])
    scale = np.float32(1 / (unit * MM))
    moved = None if expression is None else Linear(expression.mean / (unit * MM), expression.basis * scale)
    return FaceModel(
        kind=kind,
        sha256=sha256,
        shape=Linear((mean - origin) / MM, shape.basis * scale),
        colour=Linear(colour.mean / white, colour.basis * np.float32(1 / white)),
        expression=moved,
        faces=_outwards(mean, faces).astype(np.int32),
    )


def _outwards(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The triangles, all turned round if the surface winds clockwise seen from outside."""
    a, b, c = (vertices[faces[:, corner]] - vertices.mean(0) for corner in range(3))
    volume = (a * np.cross(b, c)).sum()
    return faces if volume > 0 else faces[:, ::-1]
