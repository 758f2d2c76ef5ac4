"""Mesh GAN: unsupervised generative 3D shape learning from natural images (Szabo, Meishvili, Favaro; 2019).

A latent becomes three maps: positions, texture and background. Positions are sampled at the vertices of a sphere that
is unfolded onto the square (its front in the centre, its back on the circle |uv| = 1), which gives a closed mesh. The
mesh, coloured by the texture, is rendered from a random viewpoint over a crop of the background, and a discriminator
compares the picture with photographs. Nothing else is known: the object is 3D because it must look right from every
viewpoint. The renderer has no parameters, and its picture changes continuously when an outline moves, so outlines can
be learnt (`zoo.renderers.meshes.render`). There is no light: shading ends up in the texture.

Only the abstract, captions and renderer of the paper are public; docs/models/meshgan.md says which numbers are ours.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.bounds import number
from ..config.schemas import SceneConfig
from ..errors import ConfigError
from ..geometry import Camera, Light, Render
from ..networks.stylegan2 import EqualConv2d, StyledConv, ToMap, mapping_network
from ..renderers.meshes.render import MeshRenderConfig, render_mesh
from ..renderers.meshes.topology import octa_sphere, rms_radius, signed_volume
from ..renderers.p3d import pytorch3d
from ..runtime import draws
from .base import Generator, Latents

if TYPE_CHECKING:
    from pytorch3d.structures import Meshes


@dataclass
class MeshGANConfig:
    """Lengths are in object units; one is half the width of the image at the distance of the object."""

    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    mapping_lr: float = 0.01  # learning rate of the mapping network, relative to the others
    channel_base: int = 16384  # width at an image side is channel_base / side, at most channel_max
    channel_max: int = 512
    map_size: int = 128  # side of the position and texture maps
    image_size: int = 128  # side of the images that the background map is made for
    mesh_n: int = 128  # cells across the unfolded sphere
    base_radius: float = 0.6  # radius of the sphere that training starts from
    pyramid: bool = True  # positions are a sum over all levels; off: the finest level alone
    amplitude: float = 0.25  # weight of the coarsest level, halved from level to level
    shape_blur: float = 2.0  # sigma of the low-pass over the positions, in texels of a 128 px map
    size: str = "hard"  # none | hard: clamp the root-mean-square radius | soft: penalise it
    radius_min: float = 0.45
    radius_max: float = 0.75
    size_weight: float = 10.0  # weight of the soft constraint
    volume_weight: float = 0.0  # weight of a hinge on the signed volume, against hollow masks
    departure_weight: float = number(0.0, 0)  # weight of squared departures from the sphere: for what no picture shows
    symmetric: bool = False  # the shape is its own mirror image; the texture is free
    background_scale: int = 2  # the background map covers this many image widths; 1: no crop
    background_crop: str = "uniform"  # none: the middle | uniform: anywhere | view: moves with yaw and pitch
    warmup_kimg: float = 0.0  # the shape departs from the sphere gradually, over this many thousand images
    shape_weight: float = number(1.0, 0, 1)  # how far it departs when not training; saved by training
    renderer: MeshRenderConfig = field(default_factory=MeshRenderConfig)
    scene: SceneConfig = field(default_factory=SceneConfig)

    def __post_init__(self) -> None:
        for key, known in (("size", ("none", "hard", "soft")), ("background_crop", ("none", "uniform", "view"))):
            if getattr(self, key) not in known:
                raise ConfigError(f"generator.{key}={getattr(self, key)}: use one of {', '.join(known)}")
        if not 0 < self.radius_min <= self.radius_max:
            radii = f"radius_min={self.radius_min}, radius_max={self.radius_max}"
            raise ConfigError(f"generator.{radii}: use 0 < radius_min <= radius_max")
        for key in ("z_dim", "w_dim", "mapping_layers", "channel_base", "channel_max"):
            if getattr(self, key) < 1:
                raise ConfigError(f"generator.{key}={getattr(self, key)}: use 1 or more")
        for key in ("map_size", "image_size"):
            side = getattr(self, key)
            if not 16 <= side <= 512 or side.bit_count() != 1:
                raise ConfigError(f"generator.{key}={side}: use a power of two from 16 to 512")
        if not 4 <= self.mesh_n <= 1024:
            raise ConfigError(f"generator.mesh_n={self.mesh_n}: use 4 to 1024 cells")
        wide = self.background_scale * self.image_size
        if self.background_scale not in (1, 2, 4) or wide > min(1024, 4 * self.map_size):
            fix = f"use 1, 2 or 4, and at most {min(1024, 4 * self.map_size)} pixels in all (1024, four times map_size)"
            raise ConfigError(f"generator.background_scale={self.background_scale}: {fix}")
        if self.channel_base < (largest := max(self.map_size, wide)):
            fix = f"use at least {largest}, the side of the largest map"
            raise ConfigError(f"generator.channel_base={self.channel_base}: {fix}")


@dataclass(frozen=True)
class MeshSampling:
    """How a batch is drawn: how far its shapes depart from the sphere, in [0, 1], and whether crops are random."""

    shape_weight: float = 1.0
    random_crop: bool = False


class MeshGAN(Generator):
    """The mesh GAN's generator. `light` is accepted and ignored, so that methods can be swapped."""

    Config = MeshGANConfig
    config: MeshGANConfig
    second_derivatives = False  # neither the rasterizer nor the look-ups in textures have any
    mesh_settings = ("resolution",)
    hollow_advice = "generator.volume_weight=1"
    sphere: Tensor

    def __init__(self, config: MeshGANConfig) -> None:
        super().__init__(config)
        c = config
        w, channels = c.w_dim, {2**k: min(c.channel_base >> k, c.channel_max) for k in range(2, 11)}
        sides = [s for s in channels if s <= c.map_size]
        self.mapping = mapping_network(c.z_dim, w, c.mapping_layers, c.mapping_lr)
        self.constant = nn.Parameter(torch.randn(1, channels[4], 4, 4))
        self.first = StyledConv(channels[4], channels[4], w)
        self.up = nn.ModuleList(StyledConv(channels[s // 2], channels[s], w, up=True) for s in sides[1:])
        self.plain = nn.ModuleList(StyledConv(channels[s], channels[s], w) for s in sides[1:])
        # Textures start grey: saturated colours would have to be unlearnt.
        self.to_texture = nn.ModuleList(_start_at(0.1, ToMap(channels[s], 3, w, upsample=s > 4)) for s in sides)
        shaped = sides if c.pyramid else sides[-1:]
        self.to_position = nn.ModuleList(_start_at(0.0, EqualConv2d(channels[s], 3, 1, bias=False)) for s in shaped)
        wide = c.background_scale * c.image_size
        self.background = nn.ModuleList(
            StyledConv(channels[s // 2], channels[s], w, up=True) for s in (wide // 2, wide)
        )
        self.to_background = _start_at(0.1, ToMap(channels[wide], 3, w, upsample=False))
        self.register_buffer("sphere", sphere_map(c.map_size), persistent=False)

    @classmethod
    def tiny(cls) -> MeshGANConfig:
        return MeshGANConfig(
            z_dim=8, w_dim=8, mapping_layers=2, channel_max=8, map_size=16, image_size=16, mesh_n=16, size="soft"
        )

    # ---------------------------------------------------------------- latent -> maps -> mesh

    def maps(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn styles (B, w_dim) into departure from the sphere, texture and background.

        Returns:
            Departure (B, 3, R, R) in object units; texture (B, 3, R, R) and background (B, 3, T, T) in [-1, 1], where
            R is `map_size` and T is `background_scale * image_size`.
        """
        features = [self.first(self.constant.expand(len(w), -1, -1, -1), w)]
        for up, plain in zip(self.up, self.plain, strict=True):
            features.append(plain(up(features[-1], w), w))
        texture: Tensor | None = None
        for layer, x in zip(self.to_texture, features, strict=True):
            texture = layer(x, w, texture)
        assert texture is not None
        side = self.config.background_scale * self.config.image_size
        x = features[int(math.log2(side)) - 4]  # a quarter of the background's side
        for layer in self.background:
            x = layer(x, w)
        return self._departure(features), texture.tanh(), self.to_background(x, w).tanh()

    def _departure(self, features: list[Tensor]) -> Tensor:
        """Sum the pyramid: coarse levels carry the form, fine ones cannot move a vertex so far that the mesh folds."""
        c = self.config
        total = torch.zeros_like(self.sphere)
        for level, layer in enumerate(self.to_position):
            x = layer(features[level - len(self.to_position)])
            x = F.interpolate(x, size=(c.map_size, c.map_size), mode="bilinear", align_corners=True)
            total = total + c.amplitude * 0.5**level * x
        return (total + mirrored(total)) / 2 if c.symmetric else total

    def vertices(self, departure: Tensor, shape_weight: float = 1.0, n: int | None = None) -> Tensor:
        """Vertices (B, V, 3) in object units of a mesh of `n` cells across, before the size constraint."""
        c = self.config
        positions = c.base_radius * self.sphere + shape_weight * departure
        positions = low_pass(positions, c.shape_blur * c.map_size / 128)
        uv = octa_sphere(c.mesh_n if n is None else n).uv.to(positions)
        at = F.grid_sample(positions, uv[None, None].expand(len(positions), 1, -1, 2), align_corners=True)
        return at[:, :, 0].transpose(1, 2)

    def sized(self, verts: Tensor) -> Tensor:
        """Apply the hard size constraint: clamp the root-mean-square radius and the centre.

        Beyond the limits no gradient is radial.
        """
        c = self.config
        centre = verts.mean(1, keepdim=True)
        limit = centre.new_tensor([0.15, 0.15, 0.6])
        radius = rms_radius(verts)[:, None, None]
        scale = radius.clamp(c.radius_min, c.radius_max) / radius.clamp_min(1e-8)
        return (verts - centre) * scale + centre.clamp(-limit, limit)

    def world_vertices(self, departure: Tensor, shape_weight: float = 1.0, n: int | None = None) -> Tensor:
        """Vertices (B, V, 3) in the world frame, after the size constraint."""
        verts = self.vertices(departure, shape_weight, n)
        return (self.sized(verts) if self.config.size == "hard" else verts) * self.unit

    @property
    def unit(self) -> float:
        """World units in an object unit."""
        return self.scene.radius * math.tan(math.radians(self.scene.fov) / 2)

    # ---------------------------------------------------------------- the contract

    @property
    def picture_size(self) -> int:
        return self.config.image_size

    def forward(
        self, latents: Latents, camera: Camera, light: Light | None = None, sampling: MeshSampling | None = None
    ) -> Render:
        camera = camera.to(self.device).expand(len(latents))
        sampling = sampling or MeshSampling(self.config.shape_weight)
        departure, texture, background = self.maps(self.code(latents))
        topology = octa_sphere(self.config.mesh_n).to(self.device)
        verts = self.world_vertices(departure, sampling.shape_weight)
        behind = self.crop(background, camera, sampling.random_crop)
        out = render_mesh(verts, topology, texture, behind, camera, self.config.renderer, normals=not self.training)
        inside = out.depth > 0
        return Render(
            rgb=out.rgb,
            depth=torch.where(inside, out.depth, torch.full_like(out.depth, self.scene.far)),
            normal=None if self.training else out.normal,
            mask=out.mask if self.training else out.mask * inside,  # the soft strip around it has no depth
            aux={
                "radius": rms_radius(verts) / self.unit,
                "centre": verts.mean(1) / self.unit,
                "volume": signed_volume(verts, topology.faces) / self.unit**3,
                "departure": departure.square().sum(1).mean((1, 2)),
            },
        )

    def crop(self, background: Tensor, camera: Camera, random: bool = False) -> Tensor:
        """Cut out the part (B, 3, S, S) of the background maps that a picture shows.

        Photographs of faces are aligned. A background that is shifted at random cannot hold a face that fools the
        discriminator, so the person has to be in the mesh.
        """
        b, scale = len(background), self.config.background_scale
        if self.config.background_crop == "uniform" and random:
            where = draws.rand(b, 2).to(background) * 2 - 1
        elif self.config.background_crop == "view":
            where = (camera.pose.flip(-1) * torch.tensor([1.0, -1.0], device=background.device)).clamp(-1, 1)
        else:
            where = background.new_zeros(b, 2)
        size = camera.size
        axis = torch.linspace(-1 + 1 / size, 1 - 1 / size, size, device=background.device) / scale
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        grid = torch.stack([x, y], -1) + (where * (1 - 1 / scale))[:, None, None]
        return F.grid_sample(background, grid, padding_mode="border", align_corners=False)

    @torch.no_grad()
    def mesh(self, latents: Latents, resolution: int = 128, level: float | None = None) -> "Meshes":
        """Closed, textured meshes in the world frame, `resolution` cells across the unfolded sphere.

        `level` has no meaning here.
        """
        topology = octa_sphere(resolution)
        departure, texture, _ = self.maps(self.code(latents))
        # One vertex for each point in space. Vertices that coincide on the seam share their uv, except at the back.
        weld = topology.weld
        first = torch.full_like(weld, len(weld))[: int(weld.max()) + 1].scatter_reduce(
            0, weld, torch.arange(len(weld)), "amin"
        )
        verts = self.world_vertices(departure, self.config.shape_weight, resolution)[:, first.to(departure.device)]
        faces = weld[topology.faces].to(verts.device).expand(len(verts), -1, -1)
        uv = (topology.uv[first].to(verts) * verts.new_tensor([1.0, -1.0]) + 1) / 2  # PyTorch3D's v runs upwards
        p3d = pytorch3d()
        textures = p3d.renderer.TexturesUV(
            (texture.permute(0, 2, 3, 1) + 1) / 2, faces, uv.expand(len(verts), -1, -1), align_corners=True
        )
        return p3d.structures.Meshes(list(verts), list(faces), textures)

    @torch.no_grad()
    def own_maps(self, latents: Latents) -> dict[str, Tensor]:
        _, texture, background = self.maps(self.code(latents))
        return {"texture": texture, "background": background}

    def schedule(self, kimg: float) -> MeshSampling:
        ramp = min(1.0, kimg / self.config.warmup_kimg) if self.config.warmup_kimg > 0 else 1.0
        return MeshSampling(ramp, random_crop=True)

    def at_rest(self, kimg: float) -> dict[str, Any]:
        """How far the shapes have departed from the sphere."""
        return {"shape_weight": self.schedule(kimg).shape_weight}

    def regularisers(self, render: Render) -> dict[str, Tensor]:
        c, aux = self.config, render.aux
        out = {}
        if c.size == "soft":
            outside = F.relu(c.radius_min - aux["radius"]) + F.relu(aux["radius"] - c.radius_max)
            off = F.relu(aux["centre"][:, :2].abs() - 0.15)
            out["size"] = c.size_weight * (outside.square().mean() + off.square().sum(1).mean())
        if c.volume_weight > 0:
            least = 2 * c.radius_min**3  # about half the volume of the smallest sphere allowed
            out["volume"] = c.volume_weight * F.relu(least - aux["volume"]).square().mean()
        if c.departure_weight > 0:
            out["departure"] = c.departure_weight * aux["departure"].mean()
        return out

    def monitors(self, render: Render) -> dict[str, float | Tensor]:
        return {name: render.aux[name].mean() for name in ("radius", "volume")}


Layer = TypeVar("Layer", EqualConv2d, ToMap)


def _start_at(std: float, layer: Layer) -> Layer:
    """Draw a layer's weights again, with another standard deviation than 1."""
    nn.init.normal_(layer.weight if isinstance(layer, EqualConv2d) else layer.conv.weight, std=std)
    return layer


def sphere_map(size: int) -> Tensor:
    """The unit sphere (1, 3, size, size) in the azimuthal equidistant projection, x to the right and y up.

    +Z is in the middle of the map, the equator at |uv| = 1/2, and -Z at |uv| = 1 and beyond.
    """
    axis = torch.linspace(-1, 1, size)
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    r = torch.stack([u, v]).norm(dim=0)
    angle = math.pi * r.clamp(max=1)
    ratio = angle.sin() / r.clamp_min(1e-9)
    return torch.stack([ratio * u, -ratio * v, angle.cos()])[None]


def mirrored(positions: Tensor) -> Tensor:
    """Position maps (B, 3, S, S) of the objects' mirror images, left and right exchanged."""
    return positions.flip(-1) * positions.new_tensor([-1.0, 1.0, 1.0])[:, None, None]


def low_pass(maps: Tensor, sigma: float) -> Tensor:
    """Blur maps (B, C, S, S) by a separable Gaussian of `sigma` texels; the border is mirrored."""
    if sigma <= 0:
        return maps
    reach = min(math.ceil(3 * sigma), maps.shape[-1] - 1)
    at = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
    taps = torch.exp(-0.5 * (at / sigma) ** 2)
    taps = (taps / taps.sum()).expand(maps.shape[1], 1, -1)
    maps = F.pad(maps, (reach, reach, reach, reach), mode="reflect")
    maps = F.conv2d(maps, taps[:, :, None], groups=maps.shape[1])
    return F.conv2d(maps, taps[:, :, :, None], groups=maps.shape[1])
