"""The frame that everything shares: cameras, lights, what a render holds, and depth <-> points <-> normals.

World: right-handed, Y up, object at the origin, its face towards +Z. A camera sits on a sphere around the origin and
looks at it. Camera axes: x right, y up, looking along -z (OpenGL). Angles in radians, `fov` in degrees. Depth is the
distance along the optical axis, not along the ray. Normals are unit vectors in the camera frame, towards the viewer
(positive z).
docs/conventions.md has the same on one page.
"""

import base64
import importlib
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, SupportsIndex

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

PixelCentres = Literal["corner", "half"]
_SHOWN = 16  # objects of a render in a notebook
Index = SupportsIndex | slice | Sequence[int] | Tensor


class Batch:
    """What cameras, lights, latents and renders share: they are dataclasses whose tensors have the batch axis first.

    An index keeps the batch axis: `cameras[2]` is a batch of one, just as `cameras[2:3]` is, and a loop over `cameras`
    yields batches of one. An index outside the batch raises IndexError.
    """

    _one: ClassVar[str]  # what a batch of one is called in messages

    def __len__(self) -> int:
        return next(len(value) for value in vars(self).values() if isinstance(value, Tensor))

    def __getitem__(self, index: Index) -> Self:
        rows, n = list(index) if isinstance(index, tuple) else index, len(self)  # a tuple would be an index of axes
        if isinstance(index, SupportsIndex) and not getattr(index, "ndim", 0):  # an array of one is not a number
            i = operator.index(index)
            if not -n <= i < n:
                raise IndexError(f"index {i} is out of range for {self._count()}")
            rows = slice(i % n, i % n + 1)
        return self._rows(lambda tensor: tensor[rows])  # a sequence of numbers is an index, too

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(len(self)))

    def to(self, where: torch.device | str | torch.dtype) -> Self:
        """The same batch on another device, or of another type."""
        return self._each(lambda tensor: tensor.to(where))

    def expand(self, n: int) -> Self:
        """A batch of one repeated for `n` objects; a batch of `n` stays as it is.

        Raises:
            ValueError: The length of the batch is neither 1 nor `n`.
        """
        if len(self) == n:
            return self
        if len(self) != 1:
            raise ValueError(f"{self._count()} for {n} objects: give one {self._one} or one for each")
        return self._rows(lambda tensor: tensor.expand(n, *tensor.shape[1:]))

    def _rows(self, change: Callable[[Tensor], Tensor]) -> Self:
        n = len(self)
        return self._each(lambda tensor: change(tensor) if tensor.ndim and len(tensor) == n else tensor)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same batch with every tensor changed."""
        values = {k: change(v) if isinstance(v, Tensor) else v for k, v in vars(self).items()}
        return type(self)(**values)

    def _count(self) -> str:
        return f"{len(self)} {self._one}{'' if len(self) == 1 else 's'}"


def _span(values: Tensor) -> str:
    """The values as text: `0.3`, or `-0.3..0.3` if they differ."""
    low, high = (f"{round(v.item(), 2) + 0.0:g}" for v in values.detach().aminmax())
    return low if low == high else f"{low}..{high}"


def _angles(value: float | Tensor, device: torch.device | str | None) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float32, device=device).reshape(-1)


@dataclass(frozen=True, repr=False, eq=False)
class Camera(Batch):
    """A batch of B pinhole cameras with one field of view and one square image size.

    Attributes:
        cam2world: (B, 4, 4) rigid transform from camera to world coordinates.
        fov: Full angle of view in degrees, the same across and down.
        size: Image side in pixels.
        pixel_centres: "corner" puts the centres of the first and last pixel on the edge of the frustum (pi-GAN and
            Unsup3D families); "half" puts their outer edges there (PyTorch3D).
    """

    _one = "camera"
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

    @classmethod
    def at(cls, pose: Tensor, *, fov: float = 12.0, size: int = 64, radius: float = 1.0) -> "Camera":
        """Cameras at poses (B, 2) of pitch and yaw in radians, in the order of `Camera.pose`; else as in `orbit`.

        Raises:
            ValueError: The poses have another shape.
        """
        if pose.ndim != 2 or pose.shape[1] != 2:
            raise ValueError(f"poses must be (B, 2) = (pitch, yaw), got {tuple(pose.shape)}")
        return cls.orbit(pose[:, 1], pose[:, 0], fov=fov, size=size, radius=radius)

    def __repr__(self) -> str:
        angles = f"yaw {_span(self.pose[:, 1])}, pitch {_span(self.pose[:, 0])}, " if len(self) else ""
        return f"Camera({self._count()}, {self.size} px, fov {self.fov:g}, {angles}{self.cam2world.device})"

    def resized(self, size: int) -> "Camera":
        """The same cameras with another image size."""
        return Camera(self.cam2world, self.fov, size, self.pixel_centres)

    @property
    def pose(self) -> Tensor:
        """(B, 2) pitch and yaw in radians; both are 0 straight in front."""
        origin = torch.nn.functional.normalize(self.cam2world[:, :3, 3], dim=-1)
        yaw = torch.atan2(-origin[:, 0], origin[:, 2])
        return torch.stack([torch.asin((-origin[:, 1]).clamp(-1, 1)), yaw], -1)

    def pixel_grid(self, at: Tensor | None = None) -> Tensor:
        """Unit ray directions in the camera frame: (H*W, 3), row-major from the top left pixel.

        With `at` (B, N, 2) they are (B, N, 3), through those places of the image: x right and y down, with -1 and 1 at
        the centres of the outermost pixels.
        """
        s, device = self.size, self.cam2world.device
        edge = 1.0 if self.pixel_centres == "corner" else 1.0 - 1.0 / s
        if at is None:
            axis, down = (torch.linspace(a, -a, s, device=device, dtype=self.cam2world.dtype) for a in (-edge, edge))
            y, x = torch.meshgrid(down, axis, indexing="ij")
            x, y = x.reshape(-1), y.reshape(-1)
        else:
            x, y = edge * at[..., 0], -edge * at[..., 1]
        z = torch.full_like(x, -1.0 / math.tan(math.radians(self.fov) / 2))
        return torch.nn.functional.normalize(torch.stack([x, y, z], -1), dim=-1)

    def rays(self, at: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Origins (B, N, 3) and unit directions (B, N, 3) of rays in the world frame, and a cosine for each ray.

        The cosine turns a distance along the ray into depth along the optical axis. Without `at` there is one ray for
        each pixel, N = H * W, and the cosine is (N,). With places `at` (B, N, 2), see `pixel_grid`, it is (B, N).
        """
        grid = self.pixel_grid(at)
        directions = grid @ self.cam2world[:, :3, :3].transpose(1, 2)
        origins = self.cam2world[:, None, :3, 3].expand_as(directions)
        return origins, directions, -grid[..., 2]

    def to_camera(self, points: Tensor) -> Tensor:
        """World points (B, M, 3) in camera coordinates (looking along -z)."""
        rotation, origin = self.cam2world[:, :3, :3], self.cam2world[:, None, :3, 3]
        return (points - origin) @ rotation

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel coordinates (B, M, 2) of world points (B, M, 3), and their depth (B, M) along the optical axis.

        Pixel coordinates run right (x) and down (y), with 0 at the centre of the top left pixel. Points behind the
        camera get a negative depth.
        """
        local = self.to_camera(points)
        depth = -local[..., 2]
        focal = 1.0 / math.tan(math.radians(self.fov) / 2)
        ndc = torch.stack([local[..., 0], -local[..., 1]], -1) * focal / depth[..., None]
        s = self.size
        pixels = (ndc + 1) / 2 * (s - 1) if self.pixel_centres == "corner" else ((ndc + 1) * s - 1) / 2
        return pixels, depth


@dataclass(frozen=True, repr=False, eq=False)
class Light(Batch):
    """A batch of B ambient-plus-directional lights, fixed to the object (they stay when the camera moves).

    Attributes:
        params: (B, 4) = (a, d, dx, dy), Unsup3D's parametrisation, each about -1..1: ambient strength a/2 + 1/2,
            diffuse strength d/2 + 1/2, direction towards the light (dx, dy, 1) in the world frame, before
            normalisation.
    """

    _one = "light"
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
        """One light that shines from where the frontal camera stands."""
        return cls.of()

    def __repr__(self) -> str:
        shown = {"ambient": self.ambient, "diffuse": self.diffuse, "x": self.params[:, 2], "y": self.params[:, 3]}
        values = "".join(f"{name} {_span(value)}, " for name, value in shown.items()) if len(self) else ""
        return f"Light({self._count()}, {values}{self.params.device})"

    @property
    def ambient(self) -> Tensor:
        """(B,) strength of the ambient light, 0..1."""
        return self.params[:, 0] / 2 + 0.5

    @property
    def diffuse(self) -> Tensor:
        """(B,) strength of the directional light, 0..1."""
        return self.params[:, 1] / 2 + 0.5

    @property
    def direction(self) -> Tensor:
        """(B, 3) unit vector towards the light, in the world frame."""
        ones = torch.ones_like(self.params[:, :1])
        return torch.nn.functional.normalize(torch.cat([self.params[:, 2:], ones], -1), dim=-1)


@dataclass(repr=False, eq=False)
class Render(Batch):
    """What a generator renders. Maps that a method does not model are None. A notebook shows it as a contact sheet.

    Attributes:
        rgb: (B, 3, H, W) in [-1, 1].
        depth: (B, 1, H, W) along the optical axis, world units.
        normal: (B, 3, H, W) unit, camera frame, towards the viewer; 0 where there is no surface.
        mask: (B, 1, H, W) opacity in [0, 1].
        albedo: (B, 3, H, W) colour without light, in [-1, 1].
        shading: (B, 1, H, W) light factor, >= 0.
        aux: Other named maps and scalars of the method.
    """

    _one = "object"
    rgb: Tensor
    depth: Tensor | None = None
    normal: Tensor | None = None
    mask: Tensor | None = None
    albedo: Tensor | None = None
    shading: Tensor | None = None
    aux: dict[str, Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:
        maps = " ".join(k for k, v in vars(self).items() if isinstance(v, Tensor))
        aux = f"aux {' '.join(self.aux)}, " if self.aux else ""
        return f"Render({self._count()}, {self.rgb.shape[-1]} px, {maps}, {aux}{self.rgb.device})"

    def detach(self) -> "Render":
        """The same render, cut off from the graph, so that no gradient flows back through it."""
        return self._each(Tensor.detach)

    def cpu(self) -> "Render":
        """A detached copy on the CPU."""
        return self.detach().to("cpu")

    def pil(self, name: str = "rgb") -> "list[Image]":
        """One map as pictures, one for each object, coloured as in the contact sheets (see `zoo.output.sheets.grid`).

        Args:
            name: The map: rgb, albedo, normal, depth or shading.

        Raises:
            ConfigError: The map is unknown, or this render does not have it.
        """
        out: list[Image] = _sheets().pictures(name, self)
        return out

    def _repr_png_(self) -> bytes:
        out: bytes = _sheets().png(_sheets().grid(self[:_SHOWN]), {})
        return out

    def _repr_html_(self) -> str:
        data = base64.b64encode(self._repr_png_()).decode()
        shown = f"; the first {_SHOWN} are shown" if len(self) > _SHOWN else ""
        return f'<img alt="contact sheet" src="data:image/png;base64,{data}"><br><code>{self!r}</code>{shown}'

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Render":
        out = super()._each(change)
        return Render(**{**vars(out), "aux": {k: change(v) for k, v in self.aux.items()}})

    @staticmethod
    def cat(parts: "list[Render]") -> "Render":
        """Join several renders into one batch; a map or an aux entry is kept if every part has it."""
        out: dict[str, Tensor | None] = {}
        for f in fields(Render):
            if f.name != "aux":
                values = [getattr(p, f.name) for p in parts]
                out[f.name] = None if any(v is None for v in values) else torch.cat(values)
        shared = set.intersection(*(set(p.aux) for p in parts))
        aux = {k: torch.cat([p.aux[k] for p in parts]) for k in sorted(shared) if parts[0].aux[k].ndim}
        return Render(**out, aux=aux)  # type: ignore[arg-type]


def _sheets() -> Any:
    # Imported by name, and only when a picture is wanted, because `zoo.output` lies above this module.
    return importlib.import_module("zoo.output.sheets")


def depth_to_points(depth: Tensor, camera: Camera) -> Tensor:
    """Back-project depth (B, 1, H, W) along the optical axis to points (B, 3, H, W) in the camera frame.

    The camera looks along -z.

    Raises:
        ValueError: The depth map is not as large as the camera's image.
    """
    _b, _, h, w = depth.shape
    if (h, w) != (camera.size, camera.size):
        raise ValueError(f"depth is {h} x {w} px, but the camera's image is {camera.size} px: resize one of them")
    grid = camera.pixel_grid().T.reshape(1, 3, h, w)
    return grid / -grid[:, 2:] * depth


def depth_to_normal(depth: Tensor, camera: Camera) -> Tensor:
    """Unit normals (B, 3, H, W) in the camera frame, towards the viewer, from depth (B, 1, H, W).

    Depth is measured along the optical axis; else as `points_to_normal`.

    Raises:
        ValueError: The depth map is not as large as the camera's image.
    """
    return points_to_normal(depth_to_points(depth, camera))


def points_to_normal(points: Tensor) -> Tensor:
    """Unit normals (B, 3, H, W) towards the viewer, from back-projected points (B, 3, H, W), in their frame.

    Tangents are central differences of the points, so the outermost pixels repeat their neighbours.

    Raises:
        ValueError: The map is smaller than 3 x 3.
    """
    if min(points.shape[-2:]) < 3:
        raise ValueError(f"normals of a map of {tuple(points.shape[-2:])} pixels: give 3 x 3 or more")
    right = points[:, :, 1:-1, 2:] - points[:, :, 1:-1, :-2]
    up = points[:, :, :-2, 1:-1] - points[:, :, 2:, 1:-1]
    normal = torch.nn.functional.normalize(torch.linalg.cross(right, up, dim=1), dim=1)
    return torch.nn.functional.pad(normal, (1, 1, 1, 1), mode="replicate")


def continued(depth: Tensor, valid: Tensor) -> Tensor:
    """Fill the invalid pixels of depth (B, 1, S, S), ring after ring, by the mean of their valid neighbours.

    Maps without a valid pixel become 1.
    """
    weight = valid.to(depth.dtype)
    depth = torch.where(valid, depth, 0.0)
    for _ in range(depth.shape[-1]):
        if bool((weight > 0).all()) or not bool((weight > 0).any()):
            break
        total, near = (torch.nn.functional.avg_pool2d(x, 3, 1, 1) for x in (depth, weight))
        ring = (weight == 0) & (near > 0)
        depth = torch.where(ring, total / near.clamp_min(1e-9), depth)
        weight = torch.where(ring, 1.0, weight)
    return torch.where(weight > 0, depth, 1.0)
