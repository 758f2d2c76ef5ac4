"""A square map as a mesh: its pixels are the vertices, and every quad of pixels is two triangles."""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..p3d import pytorch3d
from ..rasterize import rasterize


@cache
@torch.inference_mode(False)  # the cached tensor must serve training as well
def grid_faces(size: int) -> Tensor:
    """The triangles (2 (S-1)^2, 3) of a depth map over its pixels in row-major order, on the CPU.

    The upper left halves of all quads (top left, bottom left, top right) come first, then the lower right ones (top
    right, bottom left, bottom right). Seen from the camera, both run counter-clockwise.
    """
    index = torch.arange(size * size).view(size, size)
    tl, tr, bl, br = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    halves = torch.stack([tl, bl, tr], -1).reshape(-1, 3), torch.stack([tr, bl, br], -1).reshape(-1, 3)
    return torch.cat(halves)


def faces_within(inside: Tensor) -> tuple[Tensor, Tensor]:
    """The part of a map that lies in a mask (S, S), bool: its pixels and their triangles.

    Returns:
        Row-major indices (V,) of the pixels that a triangle inside needs, and these triangles (F, 3), in the order of
        `grid_faces`, as indices into the first.
    """
    faces = grid_faces(len(inside)).to(inside.device)
    faces = faces[inside.flatten()[faces].all(1)]
    pixels, renumbered = faces.unique(return_inverse=True)
    return pixels, renumbered


class Visible(NamedTuple):
    """What is seen of B grids at H x W samples, with row 0 at the top.

    Attributes:
        face: (B,H,W) int64 index into `grid_faces`, -1 where nothing is seen.
        weights: (B,H,W,3) perspective-correct weights of the face's corners.
        depth: (B,H,W) distance along the optical axis; it means nothing where nothing is seen.
    """

    face: Tensor
    weights: Tensor
    depth: Tensor


def rasterize_grid(pixels: Tensor, depth: Tensor, image_size: int, samples: int = 1) -> Visible:
    """Find the nearest triangle of a grid at every sample of an image, seen from either side.

    Depth, weights and position of what is seen are differentiable; which triangle is seen is held fixed.

    Args:
        pixels: (B,S,S,2) positions of the grid's vertices in the image, 0 at the centre of its first pixel.
        depth: (B,S,S) distance of the vertices along the optical axis.
        image_size: Side of the image in pixels.
        samples: Samples per pixel and direction; the result has `samples * image_size` rows and columns.

    Raises:
        ValueError: A vertex is not finite, for example because the depth is not.
    """
    batch, size = depth.shape[:2]
    ndc = 1 - (2 * pixels + 1) / image_size  # PyTorch3D's screen: +1 on the left and at the top
    verts = torch.cat([ndc, depth[..., None]], -1).flatten(1, 2)
    faces = grid_faces(size).to(verts.device)
    meshes = pytorch3d().structures.Meshes(verts, faces.expand(batch, -1, -1))
    fragments = rasterize(meshes, samples * image_size)
    face, weights = fragments.pix_to_face[..., 0], fragments.bary_coords[..., 0, :]
    first = torch.arange(batch, device=face.device).view(-1, 1, 1) * len(faces)
    return Visible(torch.where(face >= 0, face - first, -1), weights, fragments.zbuf[..., 0])


def interpolate_vertices(values: Tensor, visible: Visible, faces: Tensor) -> Tensor:
    """Interpolate values of the vertices at every sample: (B,C,H,W), 0 where nothing is seen.

    Args:
        values: (B,V,C), one vector for each vertex.
        visible: What is seen.
        faces: (F,3) vertices of each triangle.
    """
    batch, height, width = visible.face.shape
    corners = faces.to(values.device)[visible.face.clamp_min(0)].view(batch, -1, 1)
    found = values.gather(1, corners.expand(-1, -1, values.shape[-1])).view(batch, height, width, 3, -1)
    found = (found * visible.weights[..., None]).sum(-2) * (visible.face >= 0)[..., None]
    return found.permute(0, 3, 1, 2)
