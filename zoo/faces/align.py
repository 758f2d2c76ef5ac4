"""Photographs of faces, framed like training images: by the eyes and the base of the nose."""

import logging
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from ..errors import DataError
from ..geometry import Camera
from .crops import cut
from .mesh import Faces, find_points
from .pose import measure_poses

log = logging.getLogger(__name__)

Framing = Literal["heads", "ffhq", "celeba"]
FRAMINGS: tuple[Framing, ...] = ("heads", "ffhq", "celeba")

# The middle of each eye lies between its corners, beginning with the eye on the left of the picture. Base of the nose.
_CORNERS, _NOSE = ((33, 133), (362, 263)), 2
# The embedded heads: world coordinates that best fit the points found on 300 training images, the same on both sides
# (`python -m tests.parity.record_faces calibrate`). An error of 4 px of 256 remains, mostly because people differ.
HEAD_POINTS = ((-0.0220, 0.0088, 0.0563), (0.0220, 0.0088, 0.0563), (0.0, -0.0248, 0.0745))
# CelebA's aligned pictures of 178 x 218 px: eyes where its authors place them, the nose at the height that it has on
# photographs (0.78 eye distances below them); then the papers' crop, the middle 0.8 of the width.
_CELEBA_PIXELS = ((70.745, 112.0), (108.237, 112.0), (89.491, 141.2))
_CELEBA_SIDE, _CELEBA_CENTRE = 178 * 0.8, (89.0, 109.0)
# FFHQ: where the points are found on 28 pictures by a network trained on it, mirrored and averaged. Its authors' rule
# puts the eyes at a quarter of the frame's half on either side of the middle, and a little above it.
_FFHQ_POINTS = ((-0.245, -0.042), (0.245, -0.042), (0.0, 0.32))
_SEARCH = 1024  # photographs larger than this are searched for faces at this size

# The rim of the mesh, from the middle of the forehead towards the person's left.
_RIM = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip


def frame_points(framing: Framing, cameras: Camera) -> Tensor:
    """Where eyes and nose lie on the images of a data set: (B, 3, 2), with -1 and 1 at the outermost pixels' centres.

    The embedded heads turn about their middle, so their eyes move with the pose of the B cameras; in CelebA and FFHQ
    they stay in place.
    """
    device = cameras.cam2world.device
    if framing == "heads":
        world = torch.tensor(HEAD_POINTS, device=device).expand(len(cameras), 3, 3)
        return cameras.project(world)[0] / (cameras.size - 1) * 2 - 1
    fixed = torch.tensor(_FFHQ_POINTS)
    if framing == "celeba":
        fixed = (torch.tensor(_CELEBA_PIXELS) - torch.tensor(_CELEBA_CENTRE)) / (_CELEBA_SIDE / 2)
    return fixed.to(device).expand(len(cameras), 3, 2)


def eyes_and_nose(points: Tensor) -> Tensor:
    """The points (B, 3, 2) that faces are aligned by, out of those of the mesh (B, 468, 3)."""
    flat = points[..., :2]
    return torch.stack([*(flat[:, corners].mean(1) for corners in _CORNERS), flat[:, _NOSE]], 1)


def similarity(wanted: Tensor, found: Tensor) -> Tensor:
    """The complex factor (...) of the similarity that brings complex points (..., 3) closest to others (..., 3)."""
    p, q = wanted - wanted.mean(-1, keepdim=True), found - found.mean(-1, keepdim=True)
    return (q * p.conj()).sum(-1) / p.abs().square().sum(-1)


def find_largest(image: Image.Image, where: str = "the picture") -> Faces:
    """Find the largest face of an RGB image; its points are in pixels of the image.

    Raises:
        DataError: There is no face.
    """
    scale = max(1.0, max(image.size) / _SEARCH)
    sides = (max(1, round(image.width / scale)), max(1, round(image.height / scale)))  # a strip keeps one pixel
    faces: Faces = find_points(_tensor(image.resize(sides, Image.Resampling.BILINEAR)))
    if not faces.counts[0]:
        raise DataError(f"{where}: no face found; crop it closer to the face")
    points = faces.points * scale
    points[..., :2] += (scale - 1) / 2
    return faces._replace(points=points)


def find_mesh(image: Image.Image, where: str = "the picture") -> Tensor:
    """Find the points (1, 468, 3) of the largest face of an RGB image, in its pixels. Says so if there are several.

    Raises:
        DataError: There is no face.
    """
    faces = find_largest(image, where)
    if faces.counts[0] > 1:
        log.warning("%s: shows %d faces; the largest is taken", where, faces.counts[0])
    return faces.points


def align(image: Image.Image, points: Tensor, framing: Framing, size: int) -> Tensor:
    """Cut a face out of a photograph as the images of a data set are cut.

    Args:
        image: The photograph, RGB.
        points: (1, 468, 3) the points of its face, see `find_mesh`.
        framing: The data set; with "heads", the pose of the face decides where it lies.
        size: The side S of the crop in pixels.

    Returns:
        (3, S, S) in [-1, 1]. Beyond the photograph its edge is repeated.
    """
    return cut_face(image, measure_poses(points)[:, :2], eyes_and_nose(points), framing, size)


def cut_face(image: Image.Image, poses: Tensor, places: Tensor, framing: Framing, size: int) -> Tensor:
    """As `align`, from the pose of the face (1, 2), pitch and yaw, and the places (1, 3, 2) of its eyes and nose."""
    turn, centre = _placed(poses, places, framing, size)
    right = turn * size / (size - 1)  # `cut` wants the edge of the frame, not the centre of its last pixel
    frame = torch.view_as_real(torch.stack([centre, right, 1j * right], 1))
    return F.avg_pool2d(cut(_tensor(image), frame, 2 * size), 2)[0]  # twice as fine first, against aliasing


def points_on_crop(points: Tensor, framing: Framing, size: int) -> Tensor:
    """The points (B, 468, 3) of faces on the crops of `size` pixels that `align` makes, in pixels of the crops."""
    turn, centre = _placed(measure_poses(points)[:, :2], eyes_and_nose(points), framing, size)
    flat = torch.view_as_complex(points[..., :2].contiguous())
    placed = torch.view_as_real((flat - centre[:, None]) / turn[:, None])
    deep = points[..., 2:] / turn.abs()[:, None, None]
    return torch.cat([(placed + 1) * ((size - 1) / 2), deep * ((size - 1) / 2)], -1)


def _placed(poses: Tensor, places: Tensor, framing: Framing, size: int) -> tuple[Tensor, Tensor]:
    """The complex factor and centre (B,) that take places on crops, -1..1, to pixels of the photographs."""
    wanted = frame_points(framing, Camera.at(poses, size=size))
    p, q = (torch.view_as_complex(x.contiguous()) for x in (wanted, places))
    turn = similarity(p, q)
    return turn, q.mean(1) - turn * p.mean(1)


def face_masks(points: Tensor, height: int, width: int) -> Tensor:
    """Masks (B, 1, height, width) that are 1 inside the rim of faces (B, 468, 3), from forehead to chin, else 0."""
    masks = []
    for face in points:
        mask = Image.new("L", (width, height))
        if face.isfinite().all():  # NaN: there is no face
            ImageDraw.Draw(mask).polygon([(x, y) for x, y, _ in face[list(_RIM)].tolist()], fill=1)
        masks.append(torch.from_numpy(np.asarray(mask, np.float32)))
    return torch.stack(masks)[:, None]


def _tensor(image: Image.Image) -> Tensor:
    """(1, 3, H, W) in [-1, 1] of an RGB image."""
    return torch.from_numpy(np.asarray(image, np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
