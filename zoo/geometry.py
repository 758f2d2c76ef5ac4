"""The frame everything shares: cameras, lights, what a render holds, and depth <-> points <-> normals.

World: right-handed, Y up, object at the origin, its face towards +Z. A camera sits on a sphere around the origin and
looks at it. Camera axes: x right, y up, looking along -z (OpenGL). Angles in radians, `fov` in degrees. Depth is the
distance along the optical axis, not along the ray. Normals are unit vectors in the camera frame, towards the viewer
(positive z).
docs/conventions.md has the same on one page.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Literal

import torch
from torch import Tensor

PixelCentres = Literal["corner", "half"]


def _angles(value: float | Tensor, device: torch.device | str | None) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float32, device=device).reshape(-1)


@dataclass(frozen=True)
class Camera:
    """A batch of B pinhole cameras with one field of view and one square image size.

    Attributes:
        cam2world: (B, 4, 4) rigid transform from camera to world coordinates.
        fov: full angle of view in degrees, the same across and down.
        size: image side in pixels.
        pixel_centres: "corner" puts the centres of the first and last pixel on the edge of the frustum (pi-GAN and
            Unsup3d families); "half" puts their outer edges there (PyTorch3D).
    """

    cam2world: Tensor
    fov: float = 12.0
    size: int = 64
    pixel_centres: PixelCentres = "corner"

    def __post_init__(self) -> None:
        if self.cam2world.ndim != 3 or self.cam2world.shape[1:] != (4, 4):
            raise ValueError(f"cam2world must be (B, 4, 4), got {tuple(self.cam2world.shape)}")
        if not 0 < self.fov < 180:
            raise ValueError(f"fov must lie between 0 and 180 degrees, got {self.fov}")
        if self.size < 2:
            raise ValueError(f"size must be at least 2 pixels, got {self.size}")
        if self.pixel_centres not in ("corner", "half"):
            raise ValueError(f"pixel_centres must be 'corner' or 'half', got {self.pixel_centres!r}")

    @classmethod
    def orbit(
        cls,
        yaw: float | Tensor = 0.0,
        pitch: float | Tensor = 0.0,
        *,
        fov: float = 12.0,
        size: int = 64,
        radius: float = 1.0,
        pixel_centres: PixelCentres = "corner",
        device: torch.device | str | None = None,
    ) -> "Camera":
        """Cameras on a sphere of `radius`, looking at the origin; yaw = pitch = 0 is straight in front, on +Z.

        `yaw` and `pitch` are scalars or (B,) in radians. Positive yaw turns the head to its left (the camera moves
        towards -X); positive pitch raises its chin (the camera moves down). pi-GAN's own angles are these plus pi/2.
        """
        if device is None:
            device = next((a.device for a in (yaw, pitch) if isinstance(a, Tensor)), None)
        theta, phi = torch.broadcast_tensors(_angles(yaw, device), _angles(pitch, device))
        theta, phi = theta + math.pi / 2, (phi + math.pi / 2).clamp(1e-5, math.pi - 1e-5)
        back = torch.stack([phi.sin() * theta.cos(), phi.cos(), phi.sin() * theta.sin()], -1)
        up = torch.tensor([0.0, 1.0, 0.0], device=back.device).expand_as(back)
        right = torch.nn.functional.normalize(torch.linalg.cross(up, back), dim=-1)
        up = torch.nn.functional.normalize(torch.linalg.cross(back, right), dim=-1)
        matrix = torch.eye(4, device=back.device).repeat(len(back), 1, 1)
        matrix[:, :3, :] = torch.stack([right, up, back, radius * back], -1)
        return cls(matrix, fov, size, pixel_centres)

    def __len__(self) -> int:
        return len(self.cam2world)

    def __getitem__(self, index: slice | Tensor) -> "Camera":
        return Camera(self.cam2world[index], self.fov, self.size, self.pixel_centres)

    def to(self, device: torch.device | str) -> "Camera":
        """The same cameras on another device."""
        return Camera(self.cam2world.to(device), self.fov, self.size, self.pixel_centres)

    def resized(self, size: int) -> "Camera":
        """The same cameras with another image size."""
        return Camera(self.cam2world, self.fov, size, self.pixel_centres)

    def expand(self, n: int) -> "Camera":
        """One camera for each of `n` objects; a batch of n stays as it is."""
        if len(self) == n:
            return self
        if len(self) != 1:
            raise ValueError(f"{len(self)} cameras for {n} objects: give one camera or one for each")
        return Camera(self.cam2world.expand(n, 4, 4), self.fov, self.size, self.pixel_centres)

    @property
    def pose(self) -> Tensor:
        """(B, 2) pitch and yaw in radians, both 0 in front."""
        origin = torch.nn.functional.normalize(self.cam2world[:, :3, 3], dim=-1)
        yaw = torch.atan2(-origin[:, 0], origin[:, 2])
        return torch.stack([torch.asin((-origin[:, 1]).clamp(-1, 1)), yaw], -1)

    def pixel_grid(self, at: Tensor | None = None) -> Tensor:
        """Unit ray directions in the camera frame: (H*W, 3), row-major from the top left pixel; or (B, N, 3) through
        the places `at` (B, N, 2) of the image, x right and y down, -1 and 1 at the centres of the outermost pixels."""
        s, device = self.size, self.cam2world.device
        edge = 1.0 if self.pixel_centres == "corner" else 1.0 - 1.0 / s
        if at is None:
            axis = torch.linspace(-edge, edge, s, device=device)
            y, x = torch.meshgrid(torch.linspace(edge, -edge, s, device=device), axis, indexing="ij")
            x, y = x.reshape(-1), y.reshape(-1)
        else:
            x, y = edge * at[..., 0], -edge * at[..., 1]
        z = torch.full_like(x, -1.0 / math.tan(math.radians(self.fov) / 2))
        return torch.nn.functional.normalize(torch.stack([x, y, z], -1), dim=-1)

    def rays(self, at: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Origins (B, N, 3) and unit directions (B, N, 3) in the world, and (N,) the cosine that turns a distance along
        the ray into depth along the optical axis; N = H * W. Through the places `at` (B, N, 2), see `pixel_grid`, the
        cosine is (B, N)."""
        grid = self.pixel_grid(at)
        directions = grid @ self.cam2world[:, :3, :3].transpose(1, 2)
        origins = self.cam2world[:, None, :3, 3].expand_as(directions)
        return origins, directions, -grid[..., 2]

    def to_camera(self, points: Tensor) -> Tensor:
        """World points (B, M, 3) in camera coordinates (looking along -z)."""
        rotation, origin = self.cam2world[:, :3, :3], self.cam2world[:, None, :3, 3]
        return (points - origin) @ rotation

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """World points (B, M, 3) as pixel coordinates (B, M, 2), x right and y down with 0 at the centre of the top
        left pixel, and depth (B, M) along the optical axis. Points behind the camera get a negative depth."""
        local = self.to_camera(points)
        depth = -local[..., 2]
        focal = 1.0 / math.tan(math.radians(self.fov) / 2)
        ndc = torch.stack([local[..., 0], -local[..., 1]], -1) * focal / depth[..., None]
        s = self.size
        pixels = (ndc + 1) / 2 * (s - 1) if self.pixel_centres == "corner" else ((ndc + 1) * s - 1) / 2
        return pixels, depth


@dataclass(frozen=True)
class Light:
    """A batch of B ambient-plus-directional lights, fixed to the object (they stay when the camera moves).

    Attributes:
        params: (B, 4) = (a, d, dx, dy), Unsup3d's parametrisation, each about -1..1: ambient strength a/2 + 1/2,
            diffuse strength d/2 + 1/2, direction towards the light (dx, dy, 1) in the world frame, before
            normalisation.
    """

    params: Tensor

    def __post_init__(self) -> None:
        if self.params.ndim != 2 or self.params.shape[1] != 4:
            raise ValueError(f"light parameters must be (B, 4) = (a, d, dx, dy), got {tuple(self.params.shape)}")

    @classmethod
    def of(cls, ambient: float = 0.45, diffuse: float = 0.55, x: float = 0.0, y: float = 0.0) -> "Light":
        """One light from its strengths (0..1) and the slope of its direction to the right (x) and upwards (y)."""
        return cls(torch.tensor([[2 * ambient - 1, 2 * diffuse - 1, x, y]]))

    @classmethod
    def frontal(cls) -> "Light":
        """One light from where the frontal camera stands."""
        return cls.of()

    def __len__(self) -> int:
        return len(self.params)

    def __getitem__(self, index: slice | Tensor) -> "Light":
        return Light(self.params[index])

    def to(self, device: torch.device | str) -> "Light":
        """The same lights on another device."""
        return Light(self.params.to(device))

    def expand(self, n: int) -> "Light":
        """One light for each of `n` objects; a batch of n stays as it is."""
        if len(self) not in (1, n):
            raise ValueError(f"{len(self)} lights for {n} objects: give one light or one for each")
        return Light(self.params.expand(n, 4))

    @property
    def ambient(self) -> Tensor:
        """(B,) strength of the light from everywhere, 0..1."""
        return self.params[:, 0] / 2 + 0.5

    @property
    def diffuse(self) -> Tensor:
        """(B,) strength of the directional light, 0..1."""
        return self.params[:, 1] / 2 + 0.5

    @property
    def direction(self) -> Tensor:
        """(B, 3) unit vector towards the light, world frame."""
        ones = torch.ones_like(self.params[:, :1])
        return torch.nn.functional.normalize(torch.cat([self.params[:, 2:], ones], -1), dim=-1)


@dataclass
class Render:
    """What a generator shows. A method leaves what it does not model at None.

    Attributes:
        rgb: (B, 3, H, W) in [-1, 1].
        depth: (B, 1, H, W) along the optical axis, world units.
        normal: (B, 3, H, W) unit, camera frame, towards the viewer; 0 where there is no surface.
        mask: (B, 1, H, W) opacity in [0, 1].
        albedo: (B, 3, H, W) colour without light, in [-1, 1].
        shading: (B, 1, H, W) light factor, >= 0.
        aux: other named maps and scalars of the method.
    """

    rgb: Tensor
    depth: Tensor | None = None
    normal: Tensor | None = None
    mask: Tensor | None = None
    albedo: Tensor | None = None
    shading: Tensor | None = None
    aux: dict[str, Tensor] = field(default_factory=dict)

    def cpu(self) -> "Render":
        """A detached copy on the CPU."""

        def move(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.detach().cpu()

        maps = {f.name: move(getattr(self, f.name)) for f in fields(self) if f.name != "aux"}
        return Render(**maps, aux={k: v.detach().cpu() for k, v in self.aux.items()})  # type: ignore[arg-type]

    @staticmethod
    def cat(parts: "list[Render]") -> "Render":
        """Several renders as one batch; a map or an aux entry is kept if every part has it."""
        out: dict[str, Tensor | None] = {}
        for f in fields(Render):
            if f.name != "aux":
                values = [getattr(p, f.name) for p in parts]
                out[f.name] = None if any(v is None for v in values) else torch.cat(values)
        shared = set.intersection(*(set(p.aux) for p in parts))
        aux = {k: torch.cat([p.aux[k] for p in parts]) for k in sorted(shared) if parts[0].aux[k].ndim}
        return Render(**out, aux=aux)  # type: ignore[arg-type]


def depth_to_points(depth: Tensor, camera: Camera) -> Tensor:
    """Back-project (B, 1, H, W) depth along the optical axis to camera-frame points (B, 3, H, W), looking along -z."""
    _b, _, h, w = depth.shape
    if (h, w) != (camera.size, camera.size):
        raise ValueError(f"depth is {h} x {w} px, the camera {camera.size} px")
    grid = camera.pixel_grid().T.reshape(1, 3, h, w)
    return grid / -grid[:, 2:] * depth


def depth_to_normal(depth: Tensor, camera: Camera) -> Tensor:
    """(B, 3, H, W) unit normals, camera frame, towards the viewer, from (B, 1, H, W) depth along the optical axis.

    Tangents are central differences of the back-projected points, so the outermost pixels repeat their neighbours.
    """
    points = depth_to_points(depth, camera)
    right = points[:, :, 1:-1, 2:] - points[:, :, 1:-1, :-2]
    up = points[:, :, :-2, 1:-1] - points[:, :, 2:, 1:-1]
    normal = torch.nn.functional.normalize(torch.linalg.cross(right, up, dim=1), dim=1)
    return torch.nn.functional.pad(normal, (1, 1, 1, 1), mode="replicate")
