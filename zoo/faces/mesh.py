"""The face mesh: 468 points of a face, with depth (Kartynnik et al. 2019).

The network, its weights, the crop and the order of the points are those of MediaPipe's graph `FaceLandmark` without
attention. Depth is as the network guesses it.
"""

from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import Block, load_shipped
from .crops import checked, cut, face_frames
from .detector import detect

SIDE, POINTS = 192, 468  # px of the crop that the network sees; points of a face
_SURE = 0.5  # least score of a face
_TOGETHER = 16  # pictures; larger batches leave the cache
_WIDTHS = (16, 16, -32, 32, 32, -64, 64, 64, -128, 128, 128, -128, 128, 128)  # a minus halves the picture


class Faces(NamedTuple):
    """One face for each of B pictures, the largest.

    Attributes:
        points: (B, 468, 3) x right, y down and z away from the viewer, all in pixels; x and y are 0 at the centre of
            the upper left pixel, z at about the middle of the head. NaN where a picture shows no face.
        scores: (B,) in [0, 1], how sure the network is that it sees a face; 0 where none was detected.
        counts: (B,) int64, faces that were detected; 0 where the score is below 0.5.
    """

    points: Tensor
    scores: Tensor
    counts: Tensor


class FaceMesh(nn.Module):
    """The network of the 468 points."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2)
        self.act = nn.PReLU(16)
        self.trunk = nn.Sequential(*(_block(a, b) for a, b in zip((16, *map(abs, _WIDTHS)), _WIDTHS, strict=False)))
        self.points = _tail((-128, 128, 128), 3 * POINTS)
        self.score = _tail((-128,), 1)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Crops (B, 3, 192, 192) in [-1, 1] -> points (B, 468, 3) in pixels of the crop, and logits (B,).

        Points are 0 at the outer edge of the left or upper pixel.
        """
        x = self.trunk(self.act(self.stem(F.pad(crops / 2 + 0.5, (0, 1, 0, 1)))))
        return self.points(x).view(-1, POINTS, 3), self.score(x).view(-1)


def _block(inner: int, width: int) -> Block:
    return Block(inner, abs(width), 1 if width > 0 else 2, nn.PReLU(abs(width)))


def _tail(widths: tuple[int, ...], numbers: int) -> nn.Sequential:
    blocks = (_block(128, width) for width in widths)
    return nn.Sequential(*blocks, nn.Conv2d(128, 32, 1), nn.PReLU(32), _block(32, 32), nn.Conv2d(32, numbers, 3))


@cache
def network() -> FaceMesh:
    """The network with its weights."""
    net = FaceMesh()
    load_shipped(net, "mesh.")
    return net


def find_points(pictures: Tensor) -> Faces:
    """Find the points of the largest face on each of the pictures (B, 3, H, W) in [-1, 1].

    Raises:
        ZooError: The pictures have another shape, or values that are not finite or lie outside [-1, 1].
    """
    parts = [_find(part) for part in checked(pictures).split(_TOGETHER)]
    return Faces(*map(torch.cat, zip(*parts, strict=True)))


@torch.no_grad()
def _find(pictures: Tensor) -> Faces:
    found = detect(pictures)
    points = torch.full((len(pictures), POINTS, 3), torch.nan)
    scores, counts = torch.zeros(len(pictures)), torch.tensor([len(faces.scores) for faces in found])
    seen = counts.nonzero()[:, 0]
    if len(seen):
        boxes = [(found[i].boxes, found[i].keypoints) for i in seen.tolist()]
        frames = torch.stack([face_frames(*faces)[_largest(faces[0])] for faces in boxes])
        placed, logits = network()(cut(pictures[seen], frames, SIDE))
        points[seen], scores[seen] = _to_picture(placed, frames), logits.sigmoid()
    none = scores < _SURE
    points[none], counts[none] = torch.nan, 0
    return Faces(points, scores, counts)


def _largest(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1).argmax()


def _to_picture(points: Tensor, frames: Tensor) -> Tensor:
    """Points (B, 468, 3) of crops in the pixels of the pictures that were cut by frames (B, 3, 2)."""
    share = points[..., :2] * (2 / SIDE) - 1
    flat = frames[:, :1] + share @ frames[:, 1:]
    return torch.cat([flat, points[..., 2:] * (2 / SIDE) * frames[:, 1:2].norm(dim=-1, keepdim=True)], -1)
