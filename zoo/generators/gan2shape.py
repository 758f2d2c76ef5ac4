"""GAN2Shape: do 2D GANs know 3D shape? (Pan, Dai, Liu, Loy, Luo; ICLR 2021).

The method takes one photograph, or a few, and a frozen 2D GAN that can draw such photographs. Unsup3D's four networks
take the photograph apart, starting from an ellipsoid, and three steps take turns:

1. albedo (`input_loss`): shape, light and viewpoint are kept, and the albedo is fitted to the photograph;
2. projection (`pseudo_images`, `projection_loss`): the crude object is rendered under random lights and viewpoints, and
   an encoder learns to move the GAN's latent until the GAN draws something like it: the same object, but natural;
3. joint (`joint_loss`): the GAN's drawings serve as photographs of one object under many lights and viewpoints, and all
   four networks are fitted to them.

The better shape makes better drawings, so the steps are repeated in stages. `zoo.fitting.steps` runs them.

In shapes, photographs have S x S pixels, n counts lights and viewpoints, and m is 1, or 2 with the mirrored object,
whose rows come behind the others.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.schemas import NormalConfig
from ..errors import ConfigError
from ..geometry import Light
from ..images import centre_crop, resize
from ..losses import latent_norm, photometric_loss, smoothness_loss
from ..networks.encoders import ResEncoder
from ..networks.feature_loss import DiscriminatorLoss
from ..priors import ViewPrior, pose_prior, view_prior
from ..renderers.depthmaps import depthmap as dm
from .base import PictureGAN
from .unsup3d import MARGIN, Unsup3D, Unsup3DConfig
from .unsup3d_terms import OVER_VIEWS

Perceptual = Callable[[Tensor, Tensor], Tensor]  # from two batches of images to their distance


@dataclass
class GAN2ShapeConfig(Unsup3DConfig):
    """The published numbers for faces at 64 px (synface). Viewpoints are in units of the network: 1 is its range."""

    encoder_nf: int = 64
    confidence: bool = False
    flip_weight: float = 1.0
    perceptual_weight: float = 0.5
    smooth_weight: float = 0.01  # weight of curvature in depth and diffuse light
    slant_weight: float = 0.0  # weight of the square of `slant`, in the joint step; not in the paper
    border_weight: float = 1.02  # weight of `border_depth`; a mistake of the published code for 1, worth up to 0.003
    offset_nf: int = 32  # width of the offset encoder
    offset_dim: int = 512  # width of the GAN's mapping network
    mapping_tail: int = 2  # how far before the mapping network's end offsets enter; its depth: at the start; -1: in w
    relative: bool = True  # offsets are relative to that of the inverted photograph
    offset_weight: float = 0.01  # weight of the square of offsets in w
    gan_crop: list[int] = field(default_factory=list)  # [256, 170]: the middle 170 px of GAN images resized to 256 px
    view: NormalConfig | None = None  # normal distribution of viewpoints; None: that of the scene's poses
    view_scale: float = 1.2  # factor by which turns of pseudo images are exaggerated
    light_x: list[float] = field(default_factory=lambda: [-1.0, 1.0])  # range of their lights' direction
    light_y: list[float] = field(default_factory=lambda: [-0.2, 0.8])
    light_gain: list[float] = field(default_factory=lambda: [-0.1, 0.6])  # what is added to the directional light ...
    ambient_share: float = -0.6  # ... and, times this, to the ambient one

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("light_x", "light_y", "light_gain"):
            ends = getattr(self, name)
            if len(ends) != 2 or not ends[0] <= ends[1]:
                raise ConfigError(f"generator.{name}={ends}: give two numbers, the smaller first, e.g. [-1.0, 1.0]")
        for name in (*OVER_VIEWS, "flip_kimg"):
            if (weight := getattr(self, name)) != 0:
                raise ConfigError(f"generator.{name}={weight}: a term of unsup3d alone; use 0")
        if self.gan_crop and (len(self.gan_crop) != 2 or not 0 < self.gan_crop[1] <= self.gan_crop[0]):
            raise ConfigError(f"generator.gan_crop={self.gan_crop}: give the size of the whole and of its middle")
        if min(self.offset_nf, self.offset_dim) < 1 or self.mapping_tail < -1:
            raise ConfigError("generator.offset_nf and offset_dim: use 1 or more; generator.mapping_tail: -1 or more")
        if self.view is not None:
            try:
                with torch.device("cpu"):  # also where networks are made without memory
                    view_prior(self.view)
            except ConfigError as error:
                raise ConfigError(f"generator.{error}") from None


@dataclass
class Geometry:
    """A surface under n lights, seen from n viewpoints; of m n rows, those of the mirrored surface come last.

    Attributes:
        depth: (m,1,S,S) is canonical depth.
        normal: (m,3,S,S) holds the normals of canonical depth.
        light: Holds n lights.
        view: (n,6) holds viewpoints.
        shading: (m n,1,S,S) is 0 or more.
        seen: (m n,1,S,S) is depth in the viewpoints, the far limit where nothing is seen.
        valid: (m n,1,S,S) bool is true where something is seen.
        grid: (m n,S,S,2) says where the pixels lie in the canonical view.
    """

    depth: Tensor
    normal: Tensor
    light: Light
    view: Tensor
    shading: Tensor
    seen: Tensor
    valid: Tensor
    grid: Tensor

    @property
    def mask(self) -> Tensor:
        """1 where the surface and its mirror image are both seen, else 0; (n,1,S,S)."""
        out: Tensor = self.valid.unflatten(0, (len(self.depth), -1)).all(0).to(self.seen.dtype)
        return out

    def diffuse(self) -> Tensor:
        """The diffuse light max(0, normal . light), (m n,1,S,S)."""
        n = len(self.view)
        params = torch.cat([self.light.params.new_tensor([[-1.0, 1.0]]).expand(n, 2), self.light.params[:, 2:]], 1)
        return dm.map_shading(self.normal.repeat_interleave(n, 0), Light(params.repeat(len(self.depth), 1)))


class GAN2Shape(Unsup3D):
    """The networks of GAN2Shape, named as in its checkpoints. Renders, meshes and depth are Unsup3D's."""

    Config = GAN2ShapeConfig
    config: GAN2ShapeConfig
    view_mean: Tensor
    light_mean: Tensor
    system = "instance"

    def __init__(self, config: GAN2ShapeConfig) -> None:
        super().__init__(config)
        self.netEnc = ResEncoder(3, config.offset_dim, nf=config.offset_nf, size=config.size)
        pose, reach = config.scene.pose, math.radians(config.rotation_range)
        mean = config.view.mean if config.view else [-pose.pitch_mean / reach, -pose.yaw_mean / reach, 0, 0, 0, 0]
        self.register_buffer("view_mean", torch.tensor(mean), persistent=False)
        a, d, dx, dy = torch.tensor(config.scene.light.mean)
        self.register_buffer("light_mean", torch.stack([a, d, -dx, dy]), persistent=False)  # as the network's output

    @classmethod
    def tiny(cls) -> GAN2ShapeConfig:
        return GAN2ShapeConfig(size=32, nf=8, zdim=8, groups=4, encoder_nf=4, offset_nf=4, offset_dim=16)

    @cached_property
    def views(self) -> ViewPrior:
        """Where pseudo images are seen from: the prior `view`, else one fitted to the scene's poses."""
        if self.config.view is not None:
            return view_prior(self.config.view)
        poses = pose_prior(self.scene.pose).sample(10_000, torch.Generator().manual_seed(0))
        # Turns about x and y are zoo's pitch and yaw the other way round.
        return ViewPrior.fit(F.pad(-poses / math.radians(self.config.rotation_range), (0, 4)))

    def light(self, raw: Tensor) -> Light:
        """The light of the network's (B,4) output, which is a difference from the mean of the prior."""
        return super().light(raw + self.light_mean)

    def viewpoint(self, raw: Tensor) -> Tensor:
        """The viewpoint (B,6) of the network's output, which is a difference from the mean of the prior."""
        return super().viewpoint(raw + self.view_mean)

    def set_border(self, depth: Tensor) -> Tensor:
        """Move the outermost columns to `border_depth`, as far as `border_weight` says."""
        return depth + self.config.border_weight * (super().set_border(depth) - depth)

    # ---------------------------------------------------------------- the object, lit and seen

    def place(self, depth: Tensor, light: Light, view: Tensor) -> Geometry:
        """Show surfaces (m,1,S,S), each under n lights and from n viewpoints (n,6)."""
        c, m, n = self.config, len(depth), len(view)
        normal = dm.map_normals(depth, self.map_camera)
        shading = dm.map_shading(normal.repeat_interleave(n, 0), Light(light.params.repeat(m, 1)))
        views = view.repeat(m, 1)
        surfaces = depth.repeat_interleave(n, 0)
        seen, valid = dm.warp_depth(surfaces, views, self.map_camera, c.min_depth - MARGIN, c.max_depth + MARGIN)
        grid = dm.lookup_grid(seen, views, self.map_camera)
        return Geometry(depth, normal, light, view, shading, seen, valid, grid)

    def geometry(self, image: Tensor, mirrored: bool) -> Geometry:
        """Take one photograph (1,3,S,S) apart."""
        depth = with_mirror(self.canonical_depth(image), mirrored)
        return self.place(depth, self.light(self.netL(image)), self.viewpoint(self.netV(image)))

    def compose(self, albedo: Tensor, g: Geometry) -> Tensor:
        """Put together photographs (m n,3,S,S) of surfaces with albedo (m,3,S,S)."""
        canonical = dm.shaded(albedo.repeat_interleave(len(g.view), 0), g.shading)
        return dm.sample(canonical, g.grid).clamp(-1, 1)

    def canonical_mask(self, mask: Tensor, g: Geometry) -> Tensor:
        """Bring the foreground (1,1,S,S) of a photograph to the canonical view."""
        points = self.map_camera.to_view(self.map_camera.lift(g.depth[:1]), g.view[:1])
        return dm.sample(mask, self.map_camera.pixels(points) / self.map_camera.middle - 1)

    # ---------------------------------------------------------------- step 0 and 1: start, albedo

    def shape_loss(self, image: Tensor, target: Tensor) -> Tensor:
        """Squared distance of depth from an initial shape (1,1,S,S), both without a border."""
        return F.mse_loss(self.free_depth(image), target)

    def input_loss(self, image: Tensor, albedo: Tensor, g: Geometry, perceptual: Perceptual | None) -> Tensor:
        """How far the object is from the photograph (1,3,S,S) it was taken from, and how rough it is."""
        rough = smoothness_loss(g.depth) + smoothness_loss(g.diffuse())
        return self.distance(self.compose(albedo, g), image, g.mask, perceptual) + self.config.smooth_weight * rough

    def distance(self, recon: Tensor, target: Tensor, mask: Tensor, perceptual: Perceptual | None) -> Tensor:
        """L1 and perceptual distance of m reconstructions (m n,3,S,S) from photographs (n,3,S,S) inside a mask.

        The mirrored reconstruction is weighted by `flip_weight`.
        """
        total = torch.zeros((), device=recon.device)
        for weight, half in zip((1.0, self.config.flip_weight), recon.split(len(target)), strict=False):
            loss = photometric_loss(half, target, mask)
            if perceptual is not None:
                loss = loss + self.config.perceptual_weight * perceptual(half * mask, target * mask).mean()
            total = total + weight * loss
        return total

    # ---------------------------------------------------------------- step 2: what the GAN would draw

    def draw_lights(self, light: Light, n: int, source: torch.Generator) -> Light:
        """Draw `n` lights around one: in other directions, and with strength moved between ambient and directional."""
        c = self.config

        def uniform(ends: Sequence[float]) -> Tensor:
            low, high = ends
            return (torch.rand(n, generator=source) * (high - low) + low).to(light.params)

        return relit(light, uniform(c.light_x), uniform(c.light_y), uniform(c.light_gain), c.ambient_share)

    def draw_views(self, n: int, source: torch.Generator) -> Tensor:
        """Draw `n` viewpoints (n,6) from the prior, with exaggerated turns to the side."""
        raw = self.views.sample(n, source).to(self.device)
        raw[:, 1] *= self.config.view_scale
        return super().viewpoint(raw)

    @torch.no_grad()
    def pseudo_images(
        self, g: Geometry, albedo: Tensor, light: Light, view: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Render the object under n other lights and viewpoints: images (n,3,S,S) and masks (n,1,S,S).

        Args:
            g: Is the object's surface, whose first row counts.
            albedo: Is its colour, whose first row counts.
            light: Holds n lights.
            view: (n,6) holds the viewpoints.
            mask: (1,1,S,S) is the foreground in the canonical view; None stands for all of it.
        """
        there = self.place(g.depth[:1], light, view)
        inside = torch.ones_like(g.depth[:1]) if mask is None else mask
        masks = dm.sample(inside.expand(len(view), -1, -1, -1), there.grid, "nearest")
        return self.compose(albedo[:1], there), masks

    def project(self, gan: PictureGAN, image: Tensor, w: Tensor, gan_image: Tensor) -> tuple[Tensor, Tensor]:
        """Let a GAN imitate images (n,3,S,S): its drawings (n,3,S,S), and the changes (n,D) of w that they took.

        Args:
            gan: Has a `mapping` network that is a sequence of modules, the first of them a norm.
            image: Holds the images to imitate.
            w: (1,D) or (1,L,D) is the latent of the photograph.
            gan_image: (1,3,S,S) is what the GAN draws for it.
        """
        offset = self.netEnc(image)
        if self.config.relative:
            offset = offset - self.netEnc(gan_image)
        change = mapped(gan.mapping, offset, self.config.mapping_tail)
        return self.gan_image(gan, w + (change if w.ndim == 2 else change[:, None])), change

    def gan_image(self, gan: PictureGAN, w: Tensor) -> Tensor:
        """Let a GAN draw w, and show the drawings (n,3,S,S) in [-1,1] as these networks see them."""
        return self.as_seen(gan.synthesise(w).clamp(-1, 1))

    def as_seen(self, image: Tensor) -> Tensor:
        """Crop and resize images (n,C,H,H), framed as the GAN's are, to what these networks see: (n,C,S,S)."""
        if self.config.gan_crop:
            image = centre_crop(resize(image, self.config.gan_crop[0]), self.config.gan_crop[1])
        return resize(image, self.config.size)

    def projection_loss(
        self, projected: Tensor, change: Tensor, image: Tensor, mask: Tensor, features: DiscriminatorLoss | None
    ) -> Tensor:
        """How far drawings are from pseudo images, and how far w was moved for them."""
        loss = photometric_loss(projected, image, mask) + self.config.offset_weight * latent_norm(change)
        return loss if features is None else loss + features(projected, image, mask)

    # ---------------------------------------------------------------- step 3: joint

    def joint_loss(
        self,
        image: Tensor,
        drawings: Tensor,
        masks: Tensor,
        mirrored: bool,
        perceptual: Perceptual | None,
    ) -> Tensor:
        """How far the object of one photograph (1,3,S,S) is from it and from drawings (n,3,S,S) of it."""
        g, albedo = self.geometry(image, mirrored), with_mirror(self.netA(image), mirrored)
        loss = self.input_loss(image, albedo, g, perceptual) + self.config.slant_weight * slant(g.depth).square().mean()
        there = self.place(g.depth, self.light(self.netL(drawings)), self.viewpoint(self.netV(drawings)))
        return loss + self.distance(self.compose(albedo, there), drawings, there.mask * masks, perceptual)


def slant(depth: Tensor) -> Tensor:
    """How much farther depth maps (B,1,S,S) get from the middle to the lower edge of their middle half; (B,).

    A line is fitted by least squares. A picture cannot tell slant from pitch, so it leaves slant open.
    """
    quarter = depth.shape[-1] // 4
    middle = depth[..., quarter:-quarter, quarter:-quarter]
    y = torch.linspace(-1, 1, middle.shape[-2], device=depth.device)[:, None]
    return (middle * y).mean((1, 2, 3)) / y.square().mean()


def with_mirror(maps: Tensor, mirrored: bool) -> Tensor:
    """Maps (1,C,S,S), followed by their mirror image if `mirrored`."""
    return torch.cat([maps, maps.flip(-1)]) if mirrored else maps


def relit(light: Light, x: Tensor, y: Tensor, gain: Tensor, ambient_share: float) -> Light:
    """Turn one light to n directions (x, y), make it `gain` stronger, and its ambient part `ambient_share * gain`."""
    a, d = light.params[0, :2]
    return Light(torch.stack([a + 2 * ambient_share * gain, d + 2 * gain, x, y], 1))


def mapped(mapping: nn.Module, offset: Tensor, tail: int) -> Tensor:
    """How w changes (n,D) when an offset is added to the zero latent inside a mapping network.

    Args:
        mapping: Is a sequence of modules, the first of them a norm.
        offset: (n,D) is added.
        tail: Says where: before the last `tail` + 1 layers, as published; at the network's depth, before the norm; at
            -1, behind all layers, so that the change is the offset.
    """
    assert isinstance(mapping, nn.Sequential)
    cut = max(len(mapping) - 1 - tail, 0)
    zero = torch.zeros(1, offset.shape[1], device=offset.device)
    out: Tensor = mapping[cut:](offset + mapping[:cut](zero)) - mapping(zero)
    return out
