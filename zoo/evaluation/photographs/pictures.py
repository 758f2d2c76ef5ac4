"""Photographs as test data: who is on them, where their faces are, and how far depth agrees with the face mesh."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.align import faces_in
from ...data.layouts import share_of
from ...data.pictures import Picture, decode
from ...data.store import Files, open_files
from ...errors import DataError
from ...faces.align import Framing, align, face_masks, points_on_crop
from ...faces.blocks import shipped
from ...faces.pose import measure_poses
from ...metrics.agreement import relief_correlation
from ...runtime.files import printable

HELD_OUT = 0.95  # people whose share (`zoo.data.layouts.share_of`) is at least this are in the test split of data=lfw
_FACE = (4.5, -8.0, 6.5)  # on the mean face: half the width, chin and forehead of what is compared, in cm


def people(names: Sequence[str]) -> dict[str, str]:
    """Who is on which picture, by the first rule that tells at least two people apart.

    The rules: what stands before the last number in a file's name (`Ann_Lee_0001.jpg`); the folder
    (`p00000/0001.jpg`), unless its name is a number; else everybody is on one picture.
    """
    paths = {name: PurePosixPath(name) for name in names}
    rules: list[Callable[[PurePosixPath], str]] = [
        lambda path: re.sub(r"[ _.-]*\d+$", "", path.stem),
        lambda path: "" if path.parent.name.isdigit() else path.parent.name,
    ]
    for rule in rules:
        found = {name: rule(path) or name for name, path in paths.items()}
        if len({rule(path) for path in paths.values()}) > 1:
            return found
    return {name: name for name in names}


def held_out(names: Sequence[str], n: int) -> dict[str, str]:
    """The first `n` pictures of a test, and who is on them.

    Those on whom no training with `data=lfw` has learned come first, then people before further pictures of the same
    person; else the order is that of the people's hashes. So it does not depend on `n`, nor on how files are sorted.
    """
    persons, seen, order = people(names), Counter[str](), []
    for name in sorted(names):
        share = share_of(persons[name])
        order.append((share < HELD_OUT, seen[persons[name]], -share, name))
        seen[persons[name]] += 1
    return {name: persons[name] for *_, name in sorted(order)[:n]}


class Crops(NamedTuple):
    """N photographs as a method sees them.

    Attributes:
        images: (N, 3, S, S) in [-1, 1].
        points: (N, 468, 3) the face mesh, in pixels of the images.
    """

    images: Tensor
    points: Tensor


@dataclass(frozen=True)
class Photographs:
    """N photographs with a face on each. Pictures are read again when they are needed, as they may be large.

    Attributes:
        files: Where they are.
        names: Their names.
        people: Who is on each.
        points: (N, 468, 3) the face mesh, in pixels of the photograph.
        poses: (N, 2) pitch and yaw in radians, as the mesh shows them.
        left_out: The names of pictures without a face, or that cannot be read.
    """

    files: Files
    names: list[str]
    people: list[str]
    points: Tensor
    left_out: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, root: str | Path, n: int, advance: Callable[[int], None] = lambda _: None) -> "Photographs":
        """Find the faces on the first `n` held-out pictures of a folder or zip.

        Raises:
            DataError: There are no pictures, or none of them shows a face.
        """
        files = open_files(root)
        chosen = held_out(files.names, n)
        names, points, left_out = [], [], []
        for name, _, face in faces_in(files, lambda: advance(1), list(chosen)):
            if face is None:
                left_out.append(name)
                continue
            names.append(name)
            points.append(face)
        if not names:
            where = printable(files.root)
            raise DataError(f"{where}: no face on {len(chosen)} pictures; give photographs of people")
        return cls(files, names, [chosen[name] for name in names], torch.cat(points), left_out)

    @cached_property
    def poses(self) -> Tensor:
        return measure_poses(self.points)[:, :2]

    def picture(self, index: int) -> Picture:
        """One of the photographs."""
        name = self.names[index]
        return decode(self.files.read(name), self.files.where(name))

    def crops(self, framing: Framing, size: int) -> Crops:
        """The faces cut as the images of a data set are cut."""
        images = [
            align(self.picture(i).on(white=False), self.points[i : i + 1], framing, size)
            for i in range(len(self.names))
        ]
        return Crops(torch.stack(images), points_on_crop(self.points, framing, size))

    def by_person(self, values: np.ndarray) -> np.ndarray:
        """Values (N,) of the first N photographs as means over each person, or numbers (N, 2) of a ratio as sums.

        Values that are NaN are left out.
        """
        kept = np.isfinite(values.reshape(len(values), -1)).all(1)
        numbers = {person: number for number, person in enumerate(dict.fromkeys(self.people))}
        index = np.array([numbers[person] for person in self.people[: len(values)]])[kept]
        _, index = np.unique(index, return_inverse=True)
        sums = np.zeros((index.max() + 1, *values.shape[1:]))
        np.add.at(sums, index, values[kept])
        return sums if values.ndim == 2 else sums / np.bincount(index)


@cache
def compared_points() -> Tensor:
    """Which of the 468 points are compared: those from forehead to chin that are not on the sides of the face."""
    x, y, _ = shipped()["mean.points"].unbind(1)
    half, chin, forehead = _FACE
    return ((x.abs() < half) & (y > chin) & (y < forehead)).nonzero()[:, 0]


def depth_agreement(depth: Tensor, points: Tensor) -> np.ndarray | None:
    """Correlation (N,) of depth (N, 1, S, S) with that of meshes (N, 468, 3), at the points, without their planes.

    Where depth is flat there is no correlation, and it counts as 0; None if it is flat on all pictures.
    """
    at = points[:, compared_points()]
    grid = at[:, None, :, :2] / (depth.shape[-1] - 1) * 2 - 1
    found = F.grid_sample(depth.double(), grid.double(), padding_mode="border", align_corners=True)[:, 0, 0]
    agreement = relief_correlation(found, at[..., 2], at[..., :2])
    return None if bool(agreement.isnan().all()) else agreement.nan_to_num(0.0).numpy()


def faces_alone(images: Tensor, points: Tensor) -> Tensor:
    """Faces on black: images (N, 3, S, S) in [-1, 1] without what lies outside the rim of their meshes (N, 468, 3).

    Images whose points are NaN stay as they are.
    """
    seen = points.isfinite().flatten(1).all(1)
    inside = (face_masks(points, *images.shape[-2:]) > 0) | ~seen.view(-1, 1, 1, 1)
    return torch.where(inside, images, -1.0)
