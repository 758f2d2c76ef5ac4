"""GOF: generative occupancy fields for 3D surface-aware image synthesis (Xu, Pan, Lin, Dai; NeurIPS 2021).

A radiance field may smear a surface over any depth that renders well. GOF reads the field as occupancy instead: the
opacity at a point is the probability that the point lies inside. The surface is where it is one half, and root finding
meets it there without a guess at a density. Only an interval around that point is rendered, and the interval shrinks
during training until the volume rendering is nearly that of a surface. Two priors help: one pushes opacities away from
one half, the other makes neighbouring normals agree.

Shading and surface tracking are ShadeGAN's and independent of all this: `shading` makes the field's colour albedo.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.bounds import number
from ..errors import ConfigError
from ..geometry import Camera, Light, Render
from ..renderers.fields.surface import Crossing
from ..renderers.fields.volume import RayMaps, Sampling
from ..renderers.shading import lambert
from ..runtime import draws
from .base import Generator, Latents
from .field import FieldGenerator, SurfaceView, camera_normals, to_image
from .shadegan import ShadeGAN, ShadeGANConfig, ShadeSampling

_POINTS = 2**15  # surface points in one query


@dataclass(frozen=True)
class GOFSampling(ShadeSampling):
    """ShadeGAN's sampling, and how much the opacity prior weighs: `opacity_weight`."""

    opacity_weight: float = 0.0


@dataclass
class GOFConfig(ShadeGANConfig):
    """pi-GAN's field with GOF's numbers for CelebA. Times are in thousands of images, lengths in world units."""

    shading: bool = False
    light_condition: bool = False
    view_condition: bool = True
    steps: int = number(9, 0, 4096)  # these only find the surface
    surface_steps: int = number(9, 0, 4096)
    fine_steps: int = number(6, 0, 4096)
    refine_steps: int = number(4, 0, 64)  # steps of the secant rule
    interval_max: float = 0.12  # half width of the rendered interval at first ...
    interval_min: float = 0.03  # ... and in the end; also at inference
    interval_decay: float = 1.6e-4  # it falls by a factor of e every 1 / decay
    opacity_weight: float = 0.05
    opacity_growth: float = 8e-5  # the weight grows by a factor of e every 1 / growth, up to tenfold
    normal_weight: float = 0.05
    normal_step: float = 0.01  # how far away the other normal is
    official_compat: bool = False  # compute both priors as the published code does, not as the paper says
    mesh_level: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.surface_steps < 2 or self.refine_steps < 0:
            steps = f"generator.surface_steps={self.surface_steps}, refine_steps={self.refine_steps}"
            raise ConfigError(f"{steps}: use surface_steps of 2 or more, refine_steps of 0 or more")
        if not 0 < self.interval_min <= self.interval_max:
            ends = f"generator.interval_min={self.interval_min}, interval_max={self.interval_max}"
            raise ConfigError(f"{ends}: use 0 < interval_min <= interval_max")
        weights = ("opacity_weight", "opacity_growth", "normal_weight", "normal_step")
        for key in ("interval_max", "interval_decay", *weights):
            if not 0 <= getattr(self, key) < math.inf:
                raise ConfigError(f"generator.{key}={getattr(self, key)}: use a finite number, 0 or more")


class GOF(ShadeGAN):
    """GOF's generator. Normals and depth are those of the surface that root finding meets."""

    Config = GOFConfig
    config: GOFConfig
    hollow_advice = "init=WEIGHTS of a field whose faces stand out, e.g. pigan"
    clamp = "occupancy"
    solid = 6.0  # a logit

    @classmethod
    def tiny(cls) -> GOFConfig:
        tiny = GOFConfig(z_dim=8, hidden_dim=16, layers=2, mapping_dim=16, density_scale=100, steps=6, fine_steps=2)
        return replace(tiny, surface_steps=4, refine_steps=2)

    def taken_from(self, other: Generator) -> dict[str, Tensor]:
        """The weights of `other`; of a field of density so that the surface is where a mesh of it would be.

        Read as they are, the thinnest haze would be solid, and hang before faces as a shell.
        """
        state = super().taken_from(other)
        if isinstance(other, FieldGenerator) and other.clamp == "relu":
            bias = "siren.final_layer.bias"
            state |= {bias: state[bias] - other.config.mesh_level / other.config.density_scale}
        return state

    def activated(self, sigma: Tensor) -> Tensor:
        """Occupancy, 0 to 1."""
        return torch.sigmoid(self.config.density_scale * sigma)

    def forward(
        self, latents: Latents, camera: Camera, light: Light | None = None, sampling: Sampling | None = None
    ) -> Render:
        """Volume-render the interval around the surface.

        `aux` describes the surface alone: `surface_distance` along the ray, `found` where rays meet it and, at
        inference, its colour `surface_rgb`.
        """
        camera, light = self.set_scene(len(latents), camera, light)
        sampling = GOFSampling.of(sampling or self.inference())
        code = self.code(latents)
        maps, tracked = self.trace(code, camera, light, sampling, with_gradient=self.config.shading)
        behind = self.behind(code, camera)
        render = self.paint(maps, camera, light, sampling, behind)
        size = camera.size
        surface, found = crossing(maps)
        aux = {"surface_distance": to_image(surface, size), "found": to_image(found.to(surface.dtype), size)}
        if tracked is not None:
            aux["surface"] = tracked
        if self.training:
            return replace(render, aux=render.aux | aux | self.priors(code, camera, maps, sampling))
        rgb, normal = self.paint_surface(code, camera, light, maps, sampling, behind)
        aux |= {"surface_rgb": to_image(rgb * 2 - 1, size), "world_normal": to_image(normal, size)}
        return replace(render, normal=camera_normals(normal, camera, maps.opacity), aux=render.aux | aux)

    def surface_view(self, render: Render) -> SurfaceView | None:
        """The surface alone, which comes with renders at inference."""
        aux = render.aux
        return SurfaceView(aux["surface_rgb"], aux["found"] > 0) if "surface_rgb" in aux else None

    def depth_image(self, maps: RayMaps, camera: Camera) -> Tensor:
        """Depth (B, 1, H, W) of the surface along the optical axis; that of the weights where a ray meets none."""
        surface, found = crossing(maps)
        depth = torch.where(found & (maps.opacity > 0.5), surface, maps.depth)
        return super().depth_image(maps._replace(depth=depth), camera)

    # ---------------------------------------------------------------- the surface alone

    def paint_surface(
        self,
        code: Tensor,
        camera: Camera,
        light: Light,
        maps: RayMaps,
        sampling: GOFSampling,
        behind: Tensor | float,
    ) -> tuple[Tensor, Tensor]:
        """Colour (B, N, 3) in [0, 1] and unit normal (B, N, 3) of the first surface point on each ray.

        Where a ray meets no surface, it sees what is `behind`, and the normal is taken at the depth that its weights
        give.
        """
        surface, found = crossing(maps)
        distance = torch.where(found, surface, maps.depth)
        origins, directions, _ = camera.rays()
        points = origins + distance * directions
        query = self.field(code, self.seen_light(light, sampling), with_gradient=True)
        n = max(1, _POINTS // max(1, len(points)))
        parts = [query(p, d) for p, d in zip(points.split(n, 1), directions.split(n, 1), strict=True)]
        rgb = torch.cat([part.rgb for part in parts], 1)
        normal = unit(torch.cat([part.gradient for part in parts if part.gradient is not None], 1))
        if self.config.shading:
            rgb = (rgb * lambert(normal, light, sampling.light_ratio)).clamp(0, 1)
        return torch.where(found, rgb, behind), normal

    # ---------------------------------------------------------------- training

    def inference(self) -> GOFSampling:
        c = self.config
        sampling = GOFSampling.of(super().inference())
        return replace(sampling, surface_steps=c.surface_steps, refine=c.refine_steps, interval=c.interval_min)

    def schedule(self, kimg: float) -> GOFSampling:
        c = self.config
        return replace(
            GOFSampling.of(super().schedule(kimg)),
            surface_steps=c.surface_steps,
            refine=c.refine_steps,
            interval=shrinking_interval(kimg, c.interval_max, c.interval_min, c.interval_decay),
            opacity_weight=growing_weight(kimg, c.opacity_weight, c.opacity_growth),
        )

    def priors(self, code: Tensor, camera: Camera, maps: RayMaps, sampling: GOFSampling) -> dict[str, Tensor]:
        """The weighted losses of a training batch: the opacity prior and the smoothness of normals.

        Without gradients, in pictures for D alone, there are none; only their random numbers are drawn.
        """
        if not torch.is_grad_enabled():
            if self.config.normal_weight > 0:
                random_directions(maps.rgb)
            return {}
        assert maps.samples is not None
        compat = self.config.official_compat
        # The published code reads the first channel, red, where it means the fourth, opacity.
        opacity = torch.sigmoid(maps.samples[..., :1]) if compat else self.activated(maps.samples[..., 3:])
        losses = {"opacity_prior": sampling.opacity_weight * opacity_prior(opacity)}
        if self.config.normal_weight > 0:
            surface, found = crossing(maps)
            normals = self.normal_pairs(code, camera, surface)[found[..., 0]]
            losses["normal_prior"] = self.config.normal_weight * normal_prior(normals, compat)
        return losses

    def normal_pairs(self, code: Tensor, camera: Camera, surface: Tensor) -> Tensor:
        """Unit normals (B, N, 2, 3) at distances (B, N, 1), and `normal_step` from there in a random direction."""
        origins, directions, _ = camera.rays()
        point = origins + surface * directions
        beside = point + self.config.normal_step * random_directions(point)
        points = torch.stack([point, beside], 2).flatten(1, 2)
        along = directions.repeat_interleave(2, 1)
        condition = self.colour_condition(len(points))  # colours are not used
        gradient = self.field(code, condition, with_gradient=True)(points, along).gradient
        assert gradient is not None
        out: Tensor = unit(gradient).unflatten(1, (-1, 2))
        return out

    def regularisers(self, render: Render) -> dict[str, Tensor]:
        own = {name: render.aux[name] for name in ("opacity_prior", "normal_prior") if name in render.aux}
        return super().regularisers(render) | own


def crossing(maps: RayMaps) -> Crossing:
    """Where rays meet the surface.

    Raises:
        ValueError: The rays were marched without `surface_steps`.
    """
    if maps.surface is None or maps.found is None:
        raise ValueError("GOF renders around a surface: give a sampling with surface_steps of 2 or more")
    return Crossing(maps.surface, maps.found)


def unit(gradient: Tensor) -> Tensor:
    """Outward unit normals of single points, from the gradient of the field (..., 3)."""
    out: Tensor = (-gradient / (gradient.norm(dim=-1, keepdim=True) + 1e-7)).clamp(-1, 1)
    return out


def random_directions(like: Tensor) -> Tensor:
    """Unit vectors from the middle of a cube to uniform points in it, as the published code draws them."""
    return F.normalize(draws.rand_like(like) - 0.5, dim=-1)


def opacity_prior(opacity: Tensor) -> Tensor:
    """Mean of log(0.1 + o) + log(1.1 - o) + 2.20727 over opacities o in [0, 1], of any shape (Xu et al. 2021).

    It is about 0 at opacities 0 and 1, and 1.19 at one half.
    """
    return (torch.log(0.1 + opacity) + torch.log(1.1 - opacity) + 2.20727).mean()


def normal_prior(normals: Tensor, official_compat: bool = False) -> Tensor:
    """Mean squared difference between the two normals of each pair (M, 2, 3); 0 if there are no pairs.

    With `official_compat` the x component of each normal is compared with its y component, as in the published code.
    """
    first, second = (normals[:, :, 0], normals[:, :, 1]) if official_compat else (normals[:, 0], normals[:, 1])
    return (first - second).square().mean() if len(normals) else normals.sum()


def shrinking_interval(time: float, largest: float, smallest: float, decay: float) -> float:
    """Half width of the rendered interval: max(smallest, largest * exp(-decay * time))."""
    return max(smallest, largest * math.exp(-decay * time))


def growing_weight(time: float, first: float, growth: float) -> float:
    """Weight of the opacity prior: it grows exponentially from `first` to ten times that at most."""
    return min(10 * first, first * math.exp(min(growth * time, 3.0)))
