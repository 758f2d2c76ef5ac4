"""Depth maps as surfaces: lift, turn, see from another viewpoint, look up colours (Wu et al. 2020, Unsup3D).

The object is a depth map in a canonical view. Every pixel is a vertex, every quad of pixels two triangles, and the
surface is seen from another viewpoint by rasterising it there. Colours are not drawn: each pixel of the other view
looks up where its point lies in the canonical image.

Points live in the frame of the published code: camera at the origin, x right, y DOWN, z forward. A viewpoint turns the
object about a point that lies `centre` in front of the camera and is the origin of zoo's world: world X = x, Y = -y,
Z = centre - z (`MapCamera.to_world`). Normals and lights are zoo's (x right, y up, z towards the viewer).

Maps are (B,C,S,S), points (B,S,S,3), and look-up coordinates (B,S,S,2), as `grid_sample` wants them.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...geometry import Camera, Light
from ..shading import lambert
from .gridmesh import Visible, rasterize_grid

SAMPLES = 2  # per pixel and direction, as in the published renderer
_EPS = 1e-7


@dataclass(frozen=True)
class MapCamera:
    """The camera of a square depth map; the first and last pixel centre lie on the edge of the frustum ("corner").

    Attributes:
        size: Image side S in pixels.
        fov: Full angle of view in degrees, the same across and down.
        centre: Distance along the optical axis of the point about which viewpoints turn.
        aligned: Whether a rendered pixel is sampled around its own centre. The published renderer samples half a pixel
            further right and down, so that the identity view misses the last row and column; published weights expect
            that.
    """

    size: int
    fov: float = 10.0
    centre: float = 1.0
    aligned: bool = False

    def __post_init__(self) -> None:
        if self.size < 3:
            raise ValueError(f"size must be at least 3 pixels, got {self.size}")
        if not 0 < self.fov < 180:
            raise ValueError(f"fov must lie between 0 and 180 degrees, got {self.fov}")

    @property
    def focal(self) -> float:
        """The focal length in pixels."""
        return self.middle / math.tan(math.radians(self.fov) / 2)

    @property
    def middle(self) -> float:
        """The principal point in pixels, the same across and down; 0 is the centre of the first pixel."""
        return (self.size - 1) / 2

    def lift(self, depth: Tensor) -> Tensor:
        """Lift a depth map (B,1,S,S) to points (B,S,S,3).

        Raises:
            ValueError: The map has another shape.
        """
        if depth.shape[1:] != (1, self.size, self.size):
            raise ValueError(f"depth must be (B,1,{self.size},{self.size}) for this camera, got {tuple(depth.shape)}")
        axis = (torch.arange(self.size, device=depth.device, dtype=depth.dtype) - self.middle) / self.focal
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        return depth[:, 0, :, :, None] * torch.stack([x, y, torch.ones_like(x)], -1)

    def pixels(self, points: Tensor) -> Tensor:
        """Project points (...,3) to pixel coordinates (...,2), x right and y down, 0 at the first pixel's centre."""
        return points[..., :2] / points[..., 2:] * self.focal + self.middle

    def to_view(self, points: Tensor, view: Tensor) -> Tensor:
        """Points (B,S,S,3) of the canonical view as a viewpoint (B,3|5|6) sees them; see `view_transform`."""
        rotation, shift = view_transform(view)
        flat, centre = points.flatten(1, 2), self._centre(points)
        return ((flat - centre) @ rotation.mT + centre + shift).view_as(points)

    def to_canonical(self, points: Tensor, view: Tensor) -> Tensor:
        """Undo `to_view`: points (B,S,S,3) of a viewpoint, in the canonical view."""
        rotation, shift = view_transform(view)
        flat, centre = points.flatten(1, 2), self._centre(points)
        return ((flat - shift - centre) @ rotation + centre).view_as(points)

    def to_world(self, points: Tensor) -> Tensor:
        """Canonical points (...,3) in zoo's world: Y up, the face towards +Z, the centre of rotation at the origin."""
        return (points - self._centre(points)) * points.new_tensor([1.0, -1.0, -1.0])

    def world_camera(self, view: Tensor, size: int | None = None) -> Camera:
        """The zoo cameras that see the canonical object as the viewpoints (B,3|5|6) do, `size` pixels wide."""
        rotation, shift = view_transform(view)
        flip = view.new_tensor([1.0, -1.0, -1.0])
        matrix = torch.eye(4, device=view.device, dtype=view.dtype).repeat(len(view), 1, 1)
        matrix[:, :3, :3] = (flip[:, None] * rotation * flip).mT
        origin = (self._centre(view) + shift) * flip
        matrix[:, :3, 3] = -(origin @ matrix[:, :3, :3].mT)[:, 0]
        return Camera(matrix, self.fov, size or self.size)

    def _centre(self, like: Tensor) -> Tensor:
        return like.new_tensor([0.0, 0.0, self.centre])


def view_transform(view: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation (B,3,3) = Rz Ry Rx and translation (B,1,3) of viewpoints.

    Args:
        view: (B,3|5|6) angles about x, y and z in radians, then translation in x, y and z; missing values are 0.

    Raises:
        ValueError: A viewpoint has another number of values.
    """
    if view.ndim != 2 or view.shape[1] not in (3, 5, 6):
        raise ValueError(f"a viewpoint has 3, 5 or 6 numbers, got a tensor {tuple(view.shape)}")
    view = F.pad(view, (0, 6 - view.shape[1]))
    (cx, cy, cz), (sx, sy, sz) = view[:, :3].cos().unbind(1), view[:, :3].sin().unbind(1)
    rows = [
        *(cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        *(sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        *(-sy, cy * sx, cy * cx),
    ]
    return torch.stack(rows, -1).view(-1, 3, 3), view[:, None, 3:]


def see(points: Tensor, camera: MapCamera, samples: int = SAMPLES) -> Visible:
    """Call `rasterize_grid` on points (B,S,S,3) in the frame of a camera, with its rule of where pixels are sampled."""
    pixels = camera.pixels(points) - (0.0 if camera.aligned else 0.5)
    return rasterize_grid(pixels, points[..., 2], camera.size, samples)


def warp_depth(depth: Tensor, view: Tensor, camera: MapCamera, near: float, far: float) -> tuple[Tensor, Tensor]:
    """Depth of the canonical surface as seen from other viewpoints.

    Args:
        depth: (B,1,S,S) canonical depth.
        view: (B,3|5|6) viewpoints.
        camera: The camera of both views.
        near, far: Range to which the result is clamped.

    Returns:
        Depth (B,1,S,S), the mean of 2x2 samples, and a map (B,1,S,S) bool that is true where it is valid: there, every
        sample of the pixel shows the surface, nearer than `far`. Elsewhere the depth is `far`. Clamped pixels pass no
        gradient.

    Raises:
        ValueError: A shape is wrong, or a value is not finite.
    """
    visible = see(camera.to_view(camera.lift(depth), view), camera)
    hit = (visible.face >= 0)[:, None]
    covered = F.avg_pool2d(hit.float(), SAMPLES) == 1
    mean = F.avg_pool2d(torch.where(hit, visible.depth[:, None], far), SAMPLES)
    warped = torch.where(covered, mean.clamp(near, far), far)
    return warped, covered & (warped < far)


def lookup_grid(warped: Tensor, view: Tensor, camera: MapCamera) -> Tensor:
    """Where each pixel of a view lies in the canonical image: (B,S,S,2) for `sample`.

    Args:
        warped: (B,1,S,S) depth in the other view, from `warp_depth`.
        view: (B,3|5|6) viewpoints of the other view.
        camera: The camera of both views.
    """
    return camera.pixels(camera.to_canonical(camera.lift(warped), view)) / camera.middle - 1


def sample(image: Tensor, grid: Tensor, mode: str = "bilinear") -> Tensor:
    """Look up an image (B,C,S,S) at places (B,S,S,2).

    -1 and 1 are the outermost pixel centres; outside the image everything is 0.
    """
    return F.grid_sample(image, grid, mode=mode, padding_mode="zeros", align_corners=True)


def map_normals(depth: Tensor, camera: MapCamera) -> Tensor:
    """Normals (B,3,S,S) of depth (B,1,S,S): x right, y up, z towards the viewer.

    As in the published code, they are a little shorter than 1 (0.3 % at 64 px), and the outermost pixels face the
    camera. `zoo.geometry.depth_to_normal` gives unit normals.
    """
    points = camera.lift(depth)
    right = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    normal = torch.linalg.cross(right, down)
    normal = normal / (normal.norm(dim=-1, keepdim=True) + _EPS) * normal.new_tensor([-1.0, 1.0, 1.0])
    out = torch.zeros_like(points)
    out[..., 2] = 1
    out[:, 1:-1, 1:-1] = normal
    return out.permute(0, 3, 1, 2)


def map_shading(normal: Tensor, light: Light) -> Tensor:
    """The light factor (B,1,S,S) of normals (B,3,S,S): ambient + diffuse * max(0, normal . light)."""
    return lambert(normal.flatten(2).mT, light).mT.view_as(normal[:, :1])


def shaded(albedo: Tensor, shading: Tensor) -> Tensor:
    """The image (B,3,S,S) of an albedo (B,3,S,S) in [-1,1] under a light factor (B,1,S,S); bright spots exceed 1."""
    return (albedo / 2 + 0.5) * shading * 2 - 1
