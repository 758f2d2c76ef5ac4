"""GRAF: generative radiance fields for 3D-aware image synthesis (Schwarz, Liao, Niemeyer, Geiger; NeurIPS 2020).

A latent has two parts, shape and appearance. Together with a position and a viewing direction, both encoded by sines,
they are the input of NeRF's network, which is volume-rendered. The discriminator never sees whole images: it compares
patches of few pixels, spread over a large or a small part of the image, so that a step costs the same at any
resolution.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.schemas import SceneConfig
from ..errors import ConfigError
from ..geometry import Camera, Light, Render
from ..networks.nerf_mlp import NeRFMLP
from ..renderers.fields.volume import Field, FieldOut, Sampling
from ..renderers.shading import unit_normals
from ..runtime import draws
from .base import Latents
from .field import VolumeGenerator, camera_normals, check_density, outward_init_, to_image


@dataclass(frozen=True)
class PatchSampling(Sampling):
    """Sampling that also says which part of an image is rendered for the discriminator (section 3.2).

    Attributes:
        patch: Is the side in pixels of a random patch, rendered in place of the image, see `Patch`; 0: the whole image.
        patch_scale: Is the least part of the image's side that a patch spans.
    """

    patch: int = 0
    patch_scale: float = 1.0


@dataclass(frozen=True)
class Patch:
    """A grid of `size` x `size` places on each of B images, close together or far apart.

    Attributes:
        size: Is the side of the grid.
        scale: (B,) says which part of the image's side it spans, above 0 and up to 1.
        shift: (B, 2) is its centre, x right and y down, where the image is [-1, 1].
    """

    size: int
    scale: Tensor
    shift: Tensor

    @classmethod
    def draw(cls, n: int, size: int, least: float, device: torch.device | str = "cpu") -> "Patch":
        """`n` patches of uniform scale in [least, 1], anywhere inside the image."""
        scale = least + (1 - least) * draws.rand(n, device=device)
        return cls(size, scale, (draws.rand(n, 2, device=device) * 2 - 1) * (1 - scale[:, None]))

    def places(self) -> Tensor:
        """The places (B, size * size, 2), x and y, row by row; -1 and 1 are the centres of the outermost pixels."""
        axis = torch.linspace(-1, 1, self.size, device=self.scale.device)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        return torch.stack([x, y], -1).reshape(1, -1, 2) * self.scale[:, None, None] + self.shift[:, None]

    def cut(self, images: Tensor) -> Tensor:
        """Cut patches (B, C, size, size) out of images (B, C, S, S), interpolated bilinearly."""
        grid = self.places().reshape(-1, self.size, self.size, 2)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)


@dataclass
class GRAFConfig:
    """Architecture, frame and sampling; the defaults are the published ones."""

    shape_dim: int = 128
    appearance_dim: int = 128
    hidden_dim: int = 256
    layers: int = 8
    skip: int = 4  # the layer after this one sees the encoded point again
    frequencies: int = 10
    view_frequencies: int = 4
    unit: float = 10.0  # world unit in the field's coordinates: the published camera stands 10 away, zoo's 1
    front: float = 45.0  # azimuth of the front in the field's coordinates, degrees: the middle of the published views
    density_scale: float = 10.0  # factor on the activated density; at `unit` it counts per length of the field's own
    steps: int = 64
    inference_steps: int = 0  # replaces `steps` when not training; 0: the same
    noise_kimg: float = 0.0  # density noise falls from 1 to 0 over this many thousand images
    patch_size: int = 32  # side of the patches in training; 0: whole images
    patch_least: float = 0.25  # least part of the image's side that a patch spans ...
    patch_decay: float = 9.4e-4  # ... reached gradually: it is exp(-decay * thousand images), at most 0.9
    outward_init: bool = False  # start as a rounded blob instead of noise, see `outward_init_`
    opacity_weight: float = 0.0  # weighs mean opacity in the loss, so that dark matter on black ground disappears
    mesh_level: float = 35.0  # density at the surface, per world unit
    scene: SceneConfig = field(default_factory=SceneConfig)

    @property
    def z_dim(self) -> int:
        """Length of a latent, which is shape, then appearance."""
        return self.shape_dim + self.appearance_dim

    def __post_init__(self) -> None:
        least = {"shape_dim": 1, "appearance_dim": 1, "hidden_dim": 2, "layers": 1, "skip": 0, "frequencies": 0}
        least |= {"view_frequencies": 0, "steps": 2, "patch_decay": 0, "opacity_weight": 0}
        for key, value in least.items():
            if not getattr(self, key) >= value:
                raise ConfigError(f"generator.{key}={getattr(self, key)}: use {value} or more")
        for key, low in (("inference_steps", 2), ("patch_size", 2)):
            if getattr(self, key) != 0 and getattr(self, key) < low:
                raise ConfigError(f"generator.{key}={getattr(self, key)}: use {low} or more, or 0")
        if not 0 < self.patch_least <= 1:
            raise ConfigError(f"generator.patch_least={self.patch_least}: use more than 0 and at most 1")
        if not 0 < self.unit < math.inf:
            raise ConfigError(f"generator.unit={self.unit}: use a finite number above 0")
        if not math.isfinite(self.front):
            raise ConfigError(f"generator.front={self.front}: use a finite number of degrees")
        if max(self.frequencies, self.view_frequencies) > 24:  # float32 has no finer digits
            count = f"generator.frequencies={self.frequencies}, view_frequencies={self.view_frequencies}"
            raise ConfigError(f"{count}: use 24 or fewer")
        check_density(self)


class GRAF(VolumeGenerator):
    """GRAF's generator. The code is z itself. `light` is accepted and ignored, so that methods can be swapped."""

    Config = GRAFConfig
    config: GRAFConfig

    def __init__(self, config: GRAFConfig) -> None:
        super().__init__(config)
        c = config
        self.nerf = NeRFMLP(
            c.hidden_dim, c.layers, c.skip, c.frequencies, c.view_frequencies, c.shape_dim, c.appearance_dim,
            c.unit, c.front,
        )  # fmt: skip
        self.mapping = nn.Identity()
        self._query, self._sigma = self.nerf.forward, self.nerf.sigma

    def initialise(self) -> None:
        if self.config.outward_init:
            outward_init_(self, steps=500)  # ReLUs take longer than sines

    @classmethod
    def tiny(cls) -> GRAFConfig:
        return GRAFConfig(
            shape_dim=4, appearance_dim=4, hidden_dim=16, layers=3, skip=1, frequencies=3, view_frequencies=2,
            density_scale=30, steps=6, patch_size=0,
        )  # fmt: skip

    def average_code(self) -> Tensor:
        """Zeros (1, z_dim), the mean of the latents, so psi scales them."""
        return torch.zeros(1, self.config.z_dim, device=self.device)

    def forward(
        self, latents: Latents, camera: Camera, light: Light | None = None, sampling: Sampling | None = None
    ) -> Render:
        camera = camera.to(self.device).expand(len(latents))
        sampling = PatchSampling.of(sampling or Sampling(self.config.inference_steps or self.config.steps))
        maps = self.march(self.code(latents), camera, sampling, with_gradient=not self.training)
        rgb = maps.rgb + (1 - maps.opacity) if self.scene.white_back else maps.rgb
        size = sampling.patch or camera.size
        normal = None
        if maps.gradient is not None and not sampling.patch:
            normal = camera_normals(unit_normals(maps.gradient), camera, maps.opacity)
        return Render(
            rgb=to_image(rgb * 2 - 1, size),
            depth=to_image(torch.where(maps.opacity > 0.5, maps.depth, self.scene.far), size),
            normal=normal,
            mask=to_image(maps.opacity, size),
        )

    def rays(self, camera: Camera, sampling: Sampling) -> tuple[Tensor, Tensor]:
        """Rays through all pixels, or through a random patch of each image.

        As in the published code, directions are one unit long along the optical axis, not in themselves: near and far
        are two planes, and distances are depths.
        """
        at, sampling = None, PatchSampling.of(sampling)
        if sampling.patch:
            at = Patch.draw(len(camera), sampling.patch, sampling.patch_scale, self.device).places()
        origins, directions, cosine = camera.rays(at)
        return origins, directions / cosine[..., None]

    def field(self, code: Tensor, extra: Tensor | None, with_gradient: bool) -> Field:
        """The field of B objects. Density counts per length of the direction, which need not be 1."""

        def query(points: Tensor, directions: Tensor) -> FieldOut:
            length = directions.norm(dim=-1, keepdim=True)
            out = self._query(points, code, directions / length, with_gradient)
            return out._replace(sigma=out.sigma * length)

        return query

    def schedule(self, kimg: float) -> PatchSampling:
        c = self.config
        noise = max(0.0, 1 - kimg / c.noise_kimg) if c.noise_kimg > 0 else 0.0
        least = max(c.patch_least, min(0.9, math.exp(-c.patch_decay * kimg)))
        return PatchSampling(c.steps, random=True, noise_std=noise, patch=c.patch_size, patch_scale=least)

    def regularisers(self, render: Render) -> dict[str, Tensor]:
        """The mean opacity, weighted."""
        if self.config.opacity_weight == 0 or render.mask is None:
            return {}
        return {"opacity": self.config.opacity_weight * render.mask.mean()}

    def real_view(self, images: Tensor, sampling: Sampling) -> Tensor:
        """A random patch of each image, drawn like those that are rendered."""
        sampling = PatchSampling.of(sampling)
        if not sampling.patch:
            return images
        return Patch.draw(len(images), sampling.patch, sampling.patch_scale, images.device).cut(images)
