"""Photographs: reading them, finding the face, and cutting them the way a generator's training images were cut."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..data.pictures import BadImage, Picture, decode
from ..data.store import read_file
from ..data.transforms import MIN_SIDE, to_float, to_uint8
from ..errors import DataError
from ..faces import align as faces
from ..faces.align import Framing, similarity
from ..generators.base import Generator
from ..images import resize
from ..runtime.files import printable
from .face import look

Source = str | os.PathLike[str] | Picture | Image.Image | np.ndarray | Tensor

_MARGIN = 2  # the canvas is this many times wider than the frame, for turned and shifted cuts
_FRAME = 256  # side of the frame on the canvas; also the largest side of a canvas that is not aligned


@dataclass(frozen=True)
class Photo:
    """A photograph, ready to be cut.

    Attributes:
        canvas: (1, 3, C, C) in [-1, 1] stands on the generator's backdrop already: colours have been multiplied by the
            mask, once.
        known: (1, 1, C, C) in [0, 1] is 0 where the canvas is wider than the photograph.
        mask: (1, 1, C, C) in [0, 1] covers the object, if a mask was given.
        points: (3, 2) says where eyes and nose lie on the canvas, -1..1, x right and y down; None if the canvas is the
            frame.
        pose: (2,) is pitch and yaw in radians as the face mesh shows them; None without one.
        notes: What makes a reconstruction doubtful, one sentence each.
    """

    canvas: Tensor
    known: Tensor
    mask: Tensor | None = None
    points: Tensor | None = None
    pose: Tensor | None = None
    notes: tuple[str, ...] = ()

    def to(self, device: torch.device) -> "Photo":
        """The photograph on another device."""
        moved: dict[str, Any] = {
            key: value.to(device) for key, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def cut(self, points: Tensor | None, size: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Cut picture (B, 3, S, S), known (B, 1, S, S) and mask so that eyes and nose lie at `points` (B, 3, 2).

        Gradients reach the points. Without points, or without a face, the whole canvas is the frame.
        """
        maps = torch.cat([self.canvas, self.known, *([] if self.mask is None else [self.mask])], 1)
        side = size if self.points is None else size * _MARGIN
        maps = resize(maps, side)
        if self.points is not None and points is not None:
            maps = _resample(maps, self.points, points, size)
        return maps[:, :3], maps[:, 3:4], maps[:, 4:] if self.mask is not None else None

    def misfit(self, points: Tensor) -> Tensor:
        """How far eyes and nose remain from where they were expected (B, 3, 2), after turning, shifting and scaling.

        What remains depends on the pose.

        Returns:
            Mean squared distances (B,), in halves of the frame; 0 without a face.
        """
        if self.points is None:
            return points.new_zeros(len(points))
        p, q = (torch.view_as_complex(x.contiguous()) for x in (points, self.points.expand_as(points)))
        turn = similarity(p, q)[:, None]
        rest = (q - q.mean(1, keepdim=True)) / turn - (p - p.mean(1, keepdim=True))
        return torch.view_as_real(rest).square().sum(-1).mean(1)


def _resample(maps: Tensor, found: Tensor, wanted: Tensor, size: int) -> Tensor:
    """Cut (B, C, S, S) out of maps (1, C, T, T) by the similarity that brings `wanted` (B, 3, 2) closest to `found`."""
    p, q = (torch.view_as_complex(x.contiguous()) for x in (wanted, found.expand_as(wanted)))
    turn = similarity(p, q)
    shift = q.mean(1) - turn * p.mean(1)
    axis = torch.linspace(-1, 1, size, device=maps.device)  # "corner": pixel centres on the edge of the frame
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    at = turn[:, None, None] * torch.complex(x, y) + shift[:, None, None]
    grid = torch.view_as_real(at)
    return F.grid_sample(maps.expand(len(grid), -1, -1, -1), grid, align_corners=True)


def framing_of(generator: Generator) -> Framing | None:
    """Which data set's framing the training images of a generator have; None if its card names none that is known."""
    data = "" if generator.card is None else generator.card.data.lower()
    return next((framing for framing in faces.FRAMINGS if framing in data), None)


def frame_points(generator: Generator, pose: Tensor, size: int) -> Tensor:
    """Where eyes and nose lie (B, 3, 2), -1..1, on the training images of a generator at poses (B, 2).

    A generator of other data takes CelebA's framing; see `zoo.faces.align.frame_points`.
    """
    return faces.frame_points(framing_of(generator) or "celeba", generator.camera_at(pose, size))


def read_photo(source: Source, generator: Generator, *, align: bool = True, mask: Source | None = None) -> Photo:
    """Read a photograph and frame it as a generator's training images were framed.

    Args:
        source: Is a path, a PIL image, a `Picture`, an array (H, W, 3|4) of uint8, or a tensor (3, H, W) or
            (1, 3, H, W) in [-1, 1].
        generator: Says which framing is wanted, see `frame_points`.
        align: Finds the face; False takes the largest square in the middle as the frame.
        mask: Is a picture of the same size, white where the object is; by default the alpha channel, if there is one.
            What it leaves out becomes the generator's backdrop.

    Raises:
        DataError: The source is no picture or of an unusable size or kind, shows no face, or its mask has another size.
    """
    picture, white = _open(source), generator.scene.white_back
    image, alpha, where = picture.on(white), picture.alpha, picture.where
    seen = image
    if mask is not None:
        alpha = _open(mask, colour=False).on(white=False).convert("L")
        if alpha.size != image.size:
            raise DataError(f"{where}: {image.size} px, its mask {alpha.size} px; give a mask of the same size")
        seen = Picture(image, alpha, where).on(white)
    if min(image.size) < MIN_SIDE:
        raise BadImage(where, "too small", f"{image.width} x {image.height} px; at least {MIN_SIDE} are needed")
    layers = [seen, Image.new("L", image.size, 255), *([] if alpha is None else [alpha])]
    if not align:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        small = min(side, _FRAME)
        box = (left, top, left + side, top + side)
        parts = [x.resize((small, small), Image.Resampling.LANCZOS, box=box) for x in layers]
        return _photo(parts, None)
    face = look(image, where)
    found = face.places
    middle = torch.zeros(1, 2, device=generator.device)
    wanted = torch.view_as_complex(frame_points(generator, middle, _FRAME)[0].cpu().contiguous())
    points = torch.view_as_complex(found)
    turn = similarity(wanted, points)
    centre = points.mean() - turn * wanted.mean()  # of the frame, in pixels of the photograph
    scale = _FRAME / 2 / turn.abs().item()
    half = _FRAME * _MARGIN / 2
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if max(size) > 40 * _FRAME:
        raise BadImage(where, "face too small", "its eyes are less than a few pixels apart; give a closer picture")
    corner = (round(half - centre.real.item() * scale), round(half - centre.imag.item() * scale))
    parts = []
    for layer in layers:
        colour = "white" if white and layer is seen else "black"
        canvas = Image.new(layer.mode, (round(2 * half), round(2 * half)), colour)
        canvas.paste(layer.resize(size, Image.Resampling.LANCZOS), corner)
        parts.append(canvas)
    on_canvas = (found + 0.5) * scale + torch.tensor(corner) - 0.5
    return replace(_photo(parts, on_canvas / (2 * half - 1) * 2 - 1), pose=face.pose, notes=face.notes)


def _photo(parts: list[Image.Image], points: Tensor | None) -> Photo:
    maps = [torch.from_numpy(np.asarray(part).copy()) for part in parts]
    known, *mask = (x[None, None].float() / 255 for x in maps[1:])
    return Photo(to_float(maps[0].permute(2, 0, 1))[None], known, mask[0] if mask else None, points)


def _open(source: Source, *, colour: bool = True) -> Picture:
    if isinstance(source, Picture):
        return source
    if isinstance(source, Tensor):
        return Picture(_from_tensor(source), None, "the tensor")
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] not in (3, 4) or 0 in source.shape:
            raise DataError(f"array {source.shape} of {source.dtype}: give (H, W, 3) or (H, W, 4) of uint8")
        source = Image.fromarray(source)
    if isinstance(source, Image.Image):
        return Picture.of(source, printable(getattr(source, "filename", "") or "the picture"), colour=colour)
    return decode(read_file(Path(source)), printable(source), colour=colour)


def _from_tensor(value: Tensor) -> Image.Image:
    value = value[0] if value.ndim == 4 and len(value) == 1 else value
    if value.ndim != 3 or len(value) != 3 or not value.is_floating_point() or not value.numel():
        raise DataError(f"tensor {tuple(value.shape)} of {value.dtype}: give (3, H, W) of floats in [-1, 1]")
    if not value.isfinite().all() or value.abs().max() > 1 + 1e-3:
        raise DataError(f"tensor {tuple(value.shape)} has values that are not finite or lie outside [-1, 1]")
    return Image.fromarray(to_uint8(value.detach().cpu()).permute(1, 2, 0).contiguous().numpy())
