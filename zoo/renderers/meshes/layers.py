"""What pixel centres see of meshes: face, weights, depth, UV and normal. All but the choice of face is differentiable.

An object unit is half the width of the image at the distance of the origin, distance * tan(fov / 2) in world units.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...geometry import Camera
from ..p3d import pytorch3d
from ..rasterize import rasterize
from .boundary import Scene, facing
from .topology import Topology

_NEAR = 1e-3  # object units
_PLANE = 1e-4  # object units: a vertex in the camera's own plane has no projection and is moved this far


class Layer(NamedTuple):
    """The first or second surface that pixel centres see."""

    hit: Tensor  # (B, 1, S, S) bool
    face: Tensor  # (B, S, S) 0..F-1; any number where nothing is hit, as in the rest
    weight: Tensor  # (B, S, S, 3) perspective-correct
    depth: Tensor  # (B, 1, S, S)
    uv: Tensor  # (B, S, S, 2)

    def depths(self) -> Tensor:
        """Depth (B * S * S,) without gradient, infinite where nothing is hit."""
        return torch.where(self.hit, self.depth.detach(), torch.inf).reshape(-1)


def object_unit(camera: Camera) -> Tensor:
    """(B,) length of an object unit in world units, without gradient."""
    distance = camera.cam2world[:, :3, 3].detach().norm(dim=-1)
    out: Tensor = distance * math.tan(math.radians(camera.fov) / 2)
    return out


def project(verts: Tensor, topology: Topology, camera: Camera, supersample: int) -> Scene:
    """Project vertices (B, V, 3), in the world frame, into images `supersample` times the camera's size."""
    unit = object_unit(camera)
    height = camera.to_camera(verts.detach())[..., 2:]
    least = (_PLANE * unit)[:, None, None]
    flat = height.abs() < least
    if flat.any():
        verts = verts - flat * (least + height) * camera.cam2world[:, None, :3, 2]
    pixels, depth = camera.project(verts)
    corners = torch.cat([(pixels + 0.5) * supersample, depth[..., None]], -1)
    front = facing(corners.detach(), topology.faces)
    return Scene(corners.reshape(-1, 3), front, topology, camera.size * supersample, _NEAR * unit.min().item())


def visible_layers(scene: Scene, count: int) -> list[Layer]:
    """The nearest `count` front faces on each pixel, as layers, nearest first."""
    b, s, topology = scene.batch, scene.size, scene.topology
    ndc = torch.cat([1 - scene.corners[:, :2] * (2 / s), scene.corners[:, 2:]], 1)
    meshes = pytorch3d().structures.Meshes(ndc.view(b, -1, 3), topology.faces.expand(b, -1, -1))
    seen = rasterize(meshes, s, faces_per_pixel=count, cull_backfaces=True, z_near=scene.near)
    corner_uv = topology.uv.to(ndc.dtype)[topology.faces]  # (F, 3, 2)
    out = []
    for k in range(count):
        face, weight = seen.pix_to_face[..., k], seen.bary_coords[..., k, :]
        local = face.clamp_min(0) % len(topology.faces)
        uv = _blend(weight, corner_uv[local])
        out.append(Layer(face[:, None] >= 0, local, weight, seen.zbuf[:, None, ..., k], uv))
    return out


def _blend(weight: Tensor, corners: Tensor) -> Tensor:
    """Mean (..., C) of corners (..., 3, C), weighted by `weight` (..., 3).

    It is several times faster than `sum` over so short an axis, and exact where a matrix product would run in reduced
    precision.
    """
    w0, w1, w2 = weight[..., None].unbind(-2)
    return w0 * corners[..., 0, :] + w1 * corners[..., 1, :] + w2 * corners[..., 2, :]


def smooth_normals(scene: Scene, layer: Layer, points: Tensor) -> Tensor:
    """Unit normals (B, 3, S, S) of the smooth surface through points (B, V, 3), averaged by area over welded faces."""
    t = scene.topology
    p0, p1, p2 = (points.index_select(1, t.faces[:, k]) for k in range(3))
    flat = torch.linalg.cross(p1 - p0, p2 - p0)
    smooth = points.new_zeros(scene.batch, int(t.weld.max()) + 1, 3)
    for k in range(3):
        smooth = smooth.index_add(1, t.weld[t.faces[:, k]], flat)
    smooth = F.normalize(smooth, dim=-1, eps=1e-18)  # a mesh a thousandth of a unit in size has such small faces
    image = torch.arange(scene.batch, device=points.device)[:, None, None, None]
    at_corners = smooth[image, t.weld[t.faces[layer.face]]]
    return F.normalize(_blend(layer.weight, at_corners), dim=-1).permute(0, 3, 1, 2)
