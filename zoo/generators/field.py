"""What the radiance-field generators share: rendering, marching cubes, FiLM codes. Each method has its own file."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..config.bounds import choice, number
from ..config.schemas import SceneConfig
from ..errors import ConfigError
from ..geometry import Camera, Render
from ..networks.background import SIDE, Background
from ..networks.siren import FiLMSiren
from ..renderers.fields.volume import Field, FieldOut, RayMaps, Sampling, least_steps, render_rays
from ..renderers.p3d import pytorch3d
from .base import Generator, Latents

if TYPE_CHECKING:
    from pytorch3d.structures import Meshes


@dataclass
class FieldConfig:
    """Architecture and sampling of a FiLM-SIREN generator; the defaults are the published ones."""

    z_dim: int = number(256, 1, 2**16)
    hidden_dim: int = number(256, 1, 2**16)
    layers: int = number(8, 1, 64)
    mapping_dim: int = number(256, 1, 2**16)
    box: float = number(0.24, 0)  # side of the cube that the field sees as [-1, 1]; 0: no scaling (pi-GAN's CARLA)
    view_condition: bool = True  # colour depends on the viewing direction
    lock_view: bool = False  # feed the frontal direction instead of the true one
    density_scale: float = 1.0  # factor on the activated density; thin fields start opaque enough to be seen
    steps: int = number(12, 0, 4096)
    fine_steps: int = number(12, 0, 4096)
    # Replaces `steps` when not training; 0: the same. Too few show as terraces in depth.
    inference_steps: int = number(0, 0, 4096)
    last_back: bool = False
    noise_kimg: float = 0.0  # density noise falls from 1 to 0 over this many thousand images
    outward_init: bool = False  # start as a rounded blob instead of noise, see `outward_init_`
    mesh_level: float = 35.0  # density at the surface, per world unit
    background: str = choice("none", "none", "map")  # behind the object: black (or white), or a picture of its own
    scene: SceneConfig = field(default_factory=SceneConfig)

    def __post_init__(self) -> None:
        if self.background != "none" and self.last_back:
            raise ConfigError(f"generator.background={self.background}: last_back=true hides it; use false")
        if self.fine_steps < 0:
            raise ConfigError(f"generator.fine_steps={self.fine_steps}: use 0 or more")
        check_density(self)
        self._need_steps("steps")
        if self.inference_steps != 0:
            self._need_steps("inference_steps")

    def _need_steps(self, key: str) -> None:
        value, least = getattr(self, key), least_steps(self.fine_steps)
        if value < least:
            raise ConfigError(f"generator.{key}={value} with fine_steps={self.fine_steps}: use {least} or more")


def check_density(config: Any) -> None:
    """Refuse numbers of a volume generator's Config that would render nothing or NaN.

    Raises:
        ConfigError: A number is not finite or out of range.
    """
    if not 0 < config.density_scale < math.inf:
        raise ConfigError(f"generator.density_scale={config.density_scale}: use a finite number above 0")
    if not 0 <= config.noise_kimg < math.inf:
        raise ConfigError(f"generator.noise_kimg={config.noise_kimg}: use a finite number of 0 or more")
    if not math.isfinite(config.mesh_level):
        raise ConfigError(f"generator.mesh_level={config.mesh_level}: use a finite number")


_LEAST_WEIGHT = 1e-4  # samples that weigh less are not coloured at inference: at most 0.0024 of 24 samples' colour


class SurfaceView(NamedTuple):
    """The surface alone: its colours (B, 3, H, W) in [-1, 1], and whether a ray meets it, (B, 1, H, W) bool."""

    rgb: Tensor
    met: Tensor


class VolumeGenerator(Generator):
    """A generator whose object is a field in space: it renders along rays, and meshes by marching cubes.

    A sub-class implements `field`; its Config has `hidden_dim`, `density_scale`, `mesh_level` and `outward_init`.
    """

    config: Any
    hollow_advice = "generator.outward_init=true"
    solid: ClassVar[float] = 100.0  # activated density inside the shape that `outward_init` starts from
    clamp: ClassVar[str] = "relu"  # how raw density becomes opacity, see `composite_weights`
    _query: Callable[..., FieldOut]  # the network
    _sigma: Callable[[Tensor, Tensor], Tensor]  # maps points and code to raw density (B, M, 1) alone

    def initialise(self) -> None:
        if self.config.outward_init:
            outward_init_(self)

    def field(self, code: Tensor, extra: Tensor | None, with_gradient: bool) -> Field:
        """The field of B objects as a function of points and directions."""
        raise NotImplementedError

    def raw_density(self, points: Tensor, code: Tensor) -> Tensor:
        """The field's raw density (B, M, 1) at points (B, M, 3), without its colour."""
        return self._sigma(points, code)

    def point_width(self) -> int:
        """The numbers that the network holds in memory for a point."""
        return int(self.config.hidden_dim)

    def rays(self, camera: Camera, sampling: Sampling) -> tuple[Tensor, Tensor]:
        """Origins and directions (B, N, 3) of the rays to march. A direction's length is the unit of distance."""
        origins, directions, _ = camera.rays()
        return origins, directions

    def colour_condition(self, n: int) -> Tensor | None:
        """What the colour layer takes besides features when a mesh is coloured; None if it takes nothing."""
        return None

    def surface_view(self, render: Render) -> SurfaceView | None:
        """The picture of the surface alone that came with a render; None if the method makes none."""
        return None

    def activated(self, sigma: Tensor) -> Tensor:
        """Turn raw density into the quantity whose level set is the surface: density per world unit."""
        out: Tensor = torch.relu(sigma) * self.config.density_scale
        return out

    @property
    def cube(self) -> float:
        """Side in world units of the cube around the origin in which meshes lie: a quarter more than cameras see."""
        return max(0.3, 2.5 * self.scene.radius * math.tan(math.radians(self.scene.fov) / 2))

    @torch.no_grad()
    def density(self, latents: Latents, resolution: int = 128, side: float | None = None) -> Tensor:
        """Activated density (B, R, R, R) on a cube of `side` around the origin, axes x, y, z; None is `cube`."""
        side = self.cube if side is None else side
        axis = torch.linspace(-side / 2, side / 2, resolution, device=self.device)
        points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(1, -1, 3)
        code = self.code(latents)
        volume = []
        for part in points.split(max(1, 2**19 // (self.point_width() * len(latents))), 1):
            volume.append(self.activated(self.raw_density(part.expand(len(latents), -1, -1), code)[..., 0]))
        return torch.cat(volume, 1).reshape(len(latents), resolution, resolution, resolution)

    @torch.no_grad()
    def mesh(
        self, latents: Latents, resolution: int = 128, level: float | None = None, side: float | None = None
    ) -> "Meshes":
        """Closed meshes of the density at `level` by marching cubes, coloured by the field at their vertices.

        Only the largest piece of each object is kept.

        Args:
            latents: Are the B objects.
            resolution: Is the number of cells along the cube.
            level: Is the density at the surface; None is the Config's `mesh_level`.
            side: Is the length of the cube in world units; None is `cube`.

        Raises:
            ValueError: The density never reaches `level`, and the message gives the largest value found; or the cube
                has fewer than 2 cells along a side.
        """
        if resolution < 2:
            raise ValueError(f"resolution={resolution}: a mesh needs at least 2 cells along the cube")
        level, side = self.config.mesh_level if level is None else level, self.cube if side is None else side
        verts, faces, colours = [], [], []
        for i, volume in enumerate(self.density(latents, resolution, side)):
            v, f = _isosurface(volume.cpu().numpy(), level, side)
            points = torch.from_numpy(v).to(self.device)
            one = latents[i : i + 1]
            query = self.field(self.code(one), self.colour_condition(1), False)
            towards = frontal(points)
            rgb = [
                query(p[None], d[None]).rgb[0] for p, d in zip(points.split(32768), towards.split(32768), strict=True)
            ]
            verts.append(points)
            faces.append(torch.from_numpy(f).to(self.device))
            colours.append(torch.cat(rgb).clamp(0, 1))
        p3d = pytorch3d()
        return p3d.structures.Meshes(verts, faces, p3d.renderer.TexturesVertex(colours))

    def march(
        self,
        code: Tensor,
        camera: Camera,
        sampling: Sampling,
        *,
        extra: Tensor | None = None,
        with_gradient: bool = True,
        centre: Tensor | None = None,
    ) -> RayMaps:
        """Volume-render the fields of B codes, each from its camera; see `render_rays`.

        Gradients are recorded only if something needs them, so that frozen weights render in small chunks.
        """
        inputs = [code, camera.cam2world, *self.parameters(), *([] if extra is None else [extra])]
        with torch.set_grad_enabled(torch.is_grad_enabled() and any(t.requires_grad for t in inputs)):
            return render_rays(
                self.field(code, extra, with_gradient),
                *self.rays(camera, sampling),
                self.scene.near,
                self.scene.far,
                sampling,
                density_scale=self.config.density_scale,
                clamp=self.clamp,
                centre=centre,
                density=lambda points: self.raw_density(points, code),
                width=self.point_width(),
            )


class FieldGenerator(VolumeGenerator):
    """A generator whose object is a `FiLMSiren` field. The code is raw frequencies and phases, (B, 2 * width).

    Each layer has one frequency and one phase for each of its units; the last layer is that of colour.
    """

    Config = FieldConfig

    def __init__(self, config: Any, extra: int = 0) -> None:
        super().__init__(config)
        self.siren = FiLMSiren(
            config.z_dim, config.hidden_dim, config.layers, config.mapping_dim, config.box, extra, config.view_condition
        )
        self.background = None if config.background == "none" else Background(2 * self.siren.width)
        self.code_layers, self.shape_layers = config.layers + 1, config.layers
        self._query = self.siren.forward
        self._sigma = self.siren.sigma

    def taken_from(self, other: Generator) -> dict[str, Tensor]:
        """The weights of `other`; of a field under lights, if this one knows none, as they are under the mean light.

        The light's numbers are then constants beside the features of the colour layer, and become part of its bias.
        What tracks the surface there stays behind if nothing does here.
        """
        state = super().taken_from(other)
        if getattr(self, "surfacenet", None) is None:
            state = {key: value for key, value in state.items() if not key.startswith("surfacenet.")}
        if not isinstance(other, FieldGenerator) or self.siren.extra > 0 or other.siren.extra == 0:
            return state
        if (light := other.colour_condition(1)) is not None:
            layer = "siren.color_layer_sine.layer."
            features, seen = state[f"{layer}weight"].tensor_split([-other.siren.extra], 1)
            state |= {f"{layer}weight": features, f"{layer}bias": state[f"{layer}bias"] + seen @ light[0].to(seen)}
        return state

    @property
    def mapping(self) -> nn.Module:  # type: ignore[override]  # the siren owns it, under the published keys
        return self.siren.mapping_network

    def field(self, code: Tensor, extra: Tensor | None, with_gradient: bool) -> Field:
        """The field of B objects as a function of points and directions."""

        def query(points: Tensor, directions: Tensor, counts: Sequence[int] | None = None) -> FieldOut:
            if self.config.lock_view:
                directions = frontal(directions)
            towards = directions if self.config.view_condition else None
            return self._query(points, code, towards, extra, with_gradient, counts)

        return query

    def compile_field(self) -> None:
        """Compute the field through `torch.compile`, but not on a CPU. Each new shape compiles once."""
        torch._dynamo.config.recompile_limit = 64
        # A method, not a function, so that copies of the generator are compiled with weights of their own.
        plain = MethodType(torch.compile(FiLMSiren.plain, dynamic=False), self.siren)
        self.siren.plain = plain  # type: ignore[method-assign]

    def point_width(self) -> int:
        return 8 if self.siren.fuses else super().point_width()

    def behind(self, code: Tensor, camera: Camera) -> Tensor | float:
        """What rays see that pass the objects, in [0, 1]: one grey for all, or colours (B, H*W, 3)."""
        if self.background is None:
            return float(self.scene.white_back)
        picture: Tensor = self.background(code, camera.size)
        return picture.flatten(2).transpose(1, 2)

    @torch.no_grad()
    def own_maps(self, latents: Latents) -> dict[str, Tensor]:
        """The picture behind the object, if it has one."""
        return {} if self.background is None else {"background": self.background(self.code(latents), SIDE) * 2 - 1}

    def split_code(self, code: Tensor) -> Tensor:
        out: Tensor = code.unflatten(-1, (2, self.code_layers, self.config.hidden_dim)).transpose(1, 2)
        return out

    def join_code(self, parts: Tensor) -> Tensor:
        return parts.transpose(1, 2).flatten(1)

    def search_sampling(self) -> Sampling:
        """Deterministic sampling with as many samples as in training, and no more than at inference."""
        sampling = self.inference()
        return replace(sampling, steps=min(sampling.steps, self.config.steps))

    def inference(self) -> Sampling:
        """The deterministic sampling of a `forward` that is given none."""
        c = self.config
        steps = c.inference_steps or c.steps
        return Sampling(steps, c.fine_steps, last_back=c.last_back, least_weight=_LEAST_WEIGHT)

    def schedule(self, kimg: float) -> Sampling:
        c = self.config
        noise = max(0.0, 1 - kimg / c.noise_kimg) if c.noise_kimg > 0 else 0.0
        return Sampling(
            c.steps, c.fine_steps, random=True, noise_std=noise, last_back=c.last_back, least_weight=_LEAST_WEIGHT
        )

    def depth_image(self, maps: RayMaps, camera: Camera) -> Tensor:
        """Depth along the optical axis (B, 1, H, W); the far end of the scene where half a ray or more passes."""
        distance = torch.where(maps.opacity > 0.5, maps.depth, torch.full_like(maps.depth, self.scene.far))
        return to_image(distance * camera.rays()[2][:, None], camera.size)


def frontal(like: Tensor) -> Tensor:
    """The viewing direction from the front for each of `like` (..., 3). To copy numbers to a GPU is to wait for it."""
    out = torch.zeros_like(like)
    out[..., 2].fill_(-1.0)
    return out


def to_image(rays: Tensor, size: int) -> Tensor:
    """Values of rays (B, H*W, C) as an image (B, C, H, W)."""
    image: Tensor = rays.mT.unflatten(-1, (size, size))
    return image


def camera_normals(world: Tensor, camera: Camera, opacity: Tensor) -> Tensor:
    """World normals (B, N, 3) in the camera frame as an image, 0 where less than half the ray is absorbed."""
    local = world @ camera.cam2world[:, :3, :3]
    return to_image(local * (opacity > 0.5), camera.size)


def outward_init_(generator: VolumeGenerator, steps: int = 200, radius: float = 0.085) -> None:
    """Fit a fresh field to a soft ellipsoid, so that training starts from a shape that bulges towards the camera.

    Runs that turn hollow do so in their first steps, when shape is still undecided and a face pressed inwards explains
    shading as well as one that stands out. The authors of ShadeGAN and GOF restart from a good early model instead;
    this makes such a restart unnecessary.
    """
    scale = generator.config.density_scale
    optimiser = torch.optim.Adam(generator.parameters(), lr=1e-3)
    source = torch.Generator().manual_seed(0)
    axes = torch.tensor([0.8, 1.0, 0.85]) * radius
    with torch.enable_grad():
        for _ in range(steps):
            z = torch.randn(4, generator.config.z_dim, generator=source)
            points = (torch.rand(4, 512, 3, generator=source) - 0.5) * 0.25
            with torch.no_grad():
                code = generator.code(Latents(z))
            distance = (1 - (points / axes).norm(dim=-1, keepdim=True)) * radius
            target = (distance / 0.01).clamp(-1, 1) * generator.solid / scale
            loss = ((generator._sigma(points, code) - target) * scale / generator.solid).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    generator.zero_grad()


def _isosurface(volume: np.ndarray, level: float, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float32 and outward counter-clockwise faces (F, 3) int64 of the largest piece above `level`."""
    from skimage.measure import label, marching_cubes

    if not level > 0:
        raise ValueError(f"level={level:g}: the density outside is 0, so a surface has a level above 0")
    inside = volume > level
    if not inside.any():
        raise ValueError(
            f"no surface: the density reaches {volume.max():.3g}, the level is {level:.3g}; lower the level"
        )
    pieces = label(inside)
    largest = np.bincount(pieces[inside]).argmax()
    volume = np.where(inside & (pieces != largest), 0.0, volume)
    volume = np.pad(volume, 1)  # a surface that leaves the cube is closed at its wall
    spacing = side / (len(inside) - 1)
    v, f, _, _ = marching_cubes(volume, level, gradient_direction="descent")
    return ((v - 1) * spacing - side / 2).astype(np.float32), f[:, ::-1].astype(np.int64).copy()
