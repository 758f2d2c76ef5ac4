"""BlazeFace, short range: a face detector for pictures in which faces are not small (Bazarevsky et al. 2019).

The network, its weights and the settings around it are those of MediaPipe's graph `FaceDetectionShortRange`.
"""

from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import Block, load_shipped
from .crops import checked, cut

SIDE = 128  # px, of the pictures that the network sees
_GRIDS = ((16, 2), (8, 6))  # cells on a side, and boxes that each cell proposes
_WIDTHS = (24, 28, -32, 36, 42, -48, 56, 64, 72, 80, 88)  # channels block by block; a minus halves the picture
_COARSE = (-96, 96, 96, 96, 96)
_SURE, _SAME = 0.5, 0.3  # least score of a face; boxes that overlap more than this show one face


class Detections(NamedTuple):
    """The N faces of one picture, most certain first, in pixels: 0 is the centre of the left or upper pixel.

    Attributes:
        boxes: (N, 4) left, top, right and bottom, from the brows to the chin.
        keypoints: (N, 6, 2) x and y of both eyes, nose tip, mouth and both ears, beginning with the person's right.
        scores: (N,) in [0.5, 1].
    """

    boxes: Tensor
    keypoints: Tensor
    scores: Tensor


class BlazeFace(nn.Module):
    """The detection network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 5, 2)
        self.fine, self.coarse = _blocks(24, _WIDTHS), _blocks(88, _COARSE)
        widths = (abs(_WIDTHS[-1]), abs(_COARSE[-1]))
        self.score = nn.ModuleList(nn.Conv2d(c, n, 1) for c, (_, n) in zip(widths, _GRIDS, strict=True))
        self.place = nn.ModuleList(nn.Conv2d(c, 16 * n, 1) for c, (_, n) in zip(widths, _GRIDS, strict=True))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, 3, 128, 128) in [-1, 1] -> logits (B, 896), and places (B, 896, 8, 2) in px from the anchors.

        A place has the centre of the box, its width and height, and six keypoints.
        """
        fine = self.fine(torch.relu(self.stem(F.pad(pictures, (1, 2, 1, 2)))))
        maps, n = (fine, self.coarse(fine)), len(pictures)
        logits = [net(x).permute(0, 2, 3, 1).reshape(n, -1) for net, x in zip(self.score, maps, strict=True)]
        places = [net(x).permute(0, 2, 3, 1).reshape(n, -1, 8, 2) for net, x in zip(self.place, maps, strict=True)]
        return torch.cat(logits, 1), torch.cat(places, 1)


def _blocks(inner: int, widths: tuple[int, ...]) -> nn.Sequential:
    before = (inner, *map(abs, widths))
    pairs = zip(before, widths, strict=False)
    return nn.Sequential(*(Block(a, abs(b), 1 if b > 0 else 2, nn.ReLU(inplace=True)) for a, b in pairs))


def anchors() -> Tensor:
    """Centres (896, 2) of the cells, in shares of the picture's side, each as often as the cell proposes boxes."""
    out = []
    for cells, boxes in _GRIDS:
        axis = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        out.append(torch.stack([x, y], -1).view(-1, 1, 2).expand(-1, boxes, -1).reshape(-1, 2))
    return torch.cat(out)


@cache
def network() -> BlazeFace:
    """The network with its weights."""
    net = BlazeFace()
    load_shipped(net, "detector.")
    return net


@torch.no_grad()
def detect(pictures: Tensor) -> list[Detections]:
    """Find the faces on pictures (B, 3, H, W) in [-1, 1], one entry for each picture.

    The network sees the whole picture at 128 px, as published. Where it finds nothing, it looks again: at nine parts
    of half the side, for faces below a tenth of it; and at the picture with a margin, for those that fill it.

    Raises:
        ZooError: The pictures have another shape, or values that are not finite or lie outside [-1, 1].
    """
    pictures = checked(pictures)
    whole = _whole(*pictures.shape[-2:])
    found = [_merged(*faces) for faces in zip(*_look(pictures, whole.expand(len(pictures), 3, 2)), strict=True)]
    again = torch.cat([_parts(whole), whole * torch.tensor([[1.0], [2.0], [2.0]])])
    for i, faces in enumerate(found):
        if not len(faces.scores):
            scores, places = _look(pictures[i].expand(len(again), -1, -1, -1), again)
            found[i] = _merged(scores.flatten(), places.flatten(0, 1))
    return found


def _whole(height: int, width: int) -> Tensor:
    """The square around a picture, (1, 3, 2) as `cut` takes it."""
    half = max(height, width) / 2
    return torch.tensor([[[(width - 1) / 2, (height - 1) / 2], [half, 0], [0, half]]])


def _parts(whole: Tensor) -> Tensor:
    """Nine squares (9, 3, 2) of half the side, which overlap by half."""
    centre, right, down = whole[0] / torch.tensor([[1.0], [2.0], [2.0]])
    steps = [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return torch.stack([torch.stack([centre + x * right + y * down, right, down]) for x, y in steps])


def _look(pictures: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (B, 896) of all boxes in upright frames (B, 3, 2), and their places (B, 896, 8, 2) in the pictures."""
    logits, places = network()(cut(pictures, frames, SIDE, outside="black"))
    share = places / SIDE
    share[:, :, 0] += anchors()
    share[:, :, 2:] += anchors()[:, None]
    half = frames[:, 1, 0].view(-1, 1, 1, 1)
    points = frames[:, None, :1] + (2 * share - 1) * half
    points[:, :, 1] = share[:, :, 1] * 2 * half[:, 0]
    return logits.sigmoid(), points


def _merged(scores: Tensor, places: Tensor) -> Detections:
    """Mean faces of the boxes that overlap, weighted by score."""
    sure = scores >= _SURE
    order = scores[sure].argsort(descending=True, stable=True)
    scores, places = scores[sure][order], places[sure][order]
    corners = torch.stack([places[:, 0] - places[:, 1] / 2, places[:, 0] + places[:, 1] / 2], 1)
    points, faces, best = torch.cat([corners, places[:, 2:]], 1), [], []
    while len(scores):
        low, high = points[:, 0], points[:, 1]
        both = (torch.minimum(high, high[0]) - torch.maximum(low, low[0])).clamp(min=0).prod(-1)
        area = (high - low).clamp(min=0).prod(-1)
        same = both > _SAME * (area + area[0] - both)
        same[0] = True  # a box without an area would overlap nothing, not even itself
        weight = scores[same, None, None]
        faces.append((points[same] * weight).sum(0) / weight.sum())
        best.append(scores[0])
        scores, points = scores[~same], points[~same]
    merged = torch.stack(faces) if faces else torch.zeros(0, 8, 2)
    return Detections(merged[:, :2].flatten(1), merged[:, 2:], torch.stack(best) if best else torch.zeros(0))
