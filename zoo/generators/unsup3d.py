"""Unsup3D: unsupervised learning of probably symmetric deformable objects (Wu, Rupprecht, Vedaldi; CVPR 2020).

An autoencoder without a latent code: four networks take a photograph apart into the object's depth and albedo in a
canonical view, a light and a viewpoint, and a renderer without parameters puts it together again. Training asks for the
reconstruction alone, with depth and albedo as they are and mirrored: the parts come apart because the object is roughly
symmetric. A fifth network says where it is not.

Here an object is a photograph: `Latents.z` holds its pixels, `Latents.code` the canonical depth and albedo.

Terms of the loss that go beyond the paper, all off by default, are in `unsup3d_terms.py`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.bounds import number
from ..config.schemas import SceneConfig
from ..errors import ConfigError
from ..geometry import Camera, Light, Render, continued
from ..images import resize
from ..losses import photometric_loss, step_loss
from ..networks.confnet import ConfNet
from ..networks.encoders import EDDeconv, Encoder
from ..networks.perceptual import PerceptualLoss
from ..renderers.depthmaps import depthmap as dm
from ..renderers.depthmaps.gridmesh import faces_within, grid_faces, interpolate_vertices, rasterize_grid
from ..renderers.p3d import pytorch3d
from ..runtime.workers import outside_autocast
from .base import Explanation, Generator, Latents
from .unsup3d_terms import TermsConfig, ellipsoid_outline, ellipsoid_prior, own_terms, pose_moments

if TYPE_CHECKING:
    from pytorch3d.structures import Meshes

MARGIN = 0.1  # depth in another view may exceed the range of canonical depth by this much
BORDER = 2  # number of columns on the left and on the right that lie in the background

Photographs = Callable[[int, int, torch.Generator], Tensor]  # from n, side S and source to (n,3,S,S) in [-1,1]


def head_photographs(n: int, size: int, source: torch.Generator) -> Tensor:
    """Draw `n` photographs (n,3,S,S), one after the other, from the test split of the embedded heads."""
    from ..heads.dataset import HeadDataset  # only here: the method needs no data set of its own

    heads = HeadDataset("test", size=size)
    drawn = [torch.randint(len(heads), (), generator=source, device=source.device) for _ in range(n)]
    images: Tensor = heads.batch(torch.stack(drawn).cpu())["image"]
    return images


@dataclass
class Unsup3DConfig(TermsConfig):
    """The published numbers for faces (CelebA, synface). Depths are world units from the camera."""

    size: int = 64  # side of photographs and maps, a power of two
    nf: int = 64  # width of the depth, albedo and confidence networks
    zdim: int = 256  # bottleneck of depth and albedo
    groups: int = 16  # groups in the group norms at width nf
    encoder_nf: int = 32  # width of the viewpoint and light networks
    confidence: bool = True  # the fifth network
    conf_zdim: int = 128  # its bottleneck
    min_depth: float = 0.9
    max_depth: float = 1.1
    centred: bool = True  # the mean of the depth network's output is subtracted
    border_depth: float = 1.04  # depth of the outermost columns; 0.7 * max_depth + 0.3 * min_depth
    rotation_range: float = 60.0  # degrees to each side, about each axis
    xy_range: float = 0.1
    z_range: float = 0.0
    ambient: list[float] = field(default_factory=lambda: [0.0, 1.0])  # least and greatest strength
    diffuse: list[float] = field(default_factory=lambda: [0.0, 1.0])
    aligned: bool = False  # sample rendered pixels at their centres; published weights expect the half-pixel shift
    flip_weight: float = 0.5  # weight of the mirrored reconstruction ...
    flip_kimg: float = number(0.0, 0)  # ... from so many thousand images on; before, 1
    perceptual_weight: float = 1.0  # weight of the perceptual loss, where one is given
    smooth_weight: float = 0.0  # weight of differences between neighbouring depths
    scene: SceneConfig = field(default_factory=lambda: SceneConfig(fov=10.0))

    def __post_init__(self) -> None:
        if not 0 < self.min_depth < self.max_depth:
            depths = f"min_depth={self.min_depth}, max_depth={self.max_depth}"
            raise ConfigError(f"generator.{depths}: use 0 < min_depth < max_depth")
        if self.size < 32 or self.size.bit_count() != 1:
            raise ConfigError(f"generator.size={self.size}: use a power of two, 32 or more")
        if min(self.nf, self.zdim, self.groups, self.encoder_nf) < 1 or self.nf % self.groups:
            raise ConfigError(f"generator.nf={self.nf}: use a multiple of generator.groups={self.groups}, above 0")
        for name in ("flip_weight", "perceptual_weight", "smooth_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"generator.{name}={getattr(self, name)}: use 0 or more")
        self.check_terms(self.scene.pose)
        for name in ("ambient", "diffuse"):
            ends = getattr(self, name)
            if len(ends) != 2 or not 0 <= ends[0] < ends[1]:
                raise ConfigError(f"generator.{name}={ends}: give two strengths, the smaller first, e.g. [0.0, 1.0]")

    @property
    def z_dim(self) -> int:
        """How many numbers a photograph has, which stands where other methods have a latent."""
        return 3 * self.size**2


@dataclass
class Prediction:
    """A batch of B photographs taken apart and put together. B' is 2B with the mirrored branch behind, else B.

    Attributes:
        canonical_depth: (B',1,S,S) is depth in the canonical view.
        free_depth: (B,1,S,S) is the same before its border was set.
        albedo: (B',3,S,S) is the object's own colour in [-1,1].
        light: Holds B' lights.
        view: (B',6) holds viewpoints: radians about x, y and z, then translation, in the frame of
            `zoo.renderers.depthmaps.depthmap`.
        normal: (B',3,S,S) holds the normals of canonical depth.
        shading: (B',1,S,S) is 0 or more.
        canonical: (B',3,S,S) is albedo under its light.
        depth: (B',1,S,S) is depth in the view of the photograph, `max_depth` + 0.1 where nothing is seen.
        valid: (B',1,S,S) bool is true where something is seen.
        grid: (B',S,S,2) says where the pixels of the photograph lie in the canonical view.
        mask: (B',1,S,S) bool is true where both branches are valid.
        recon: (B',3,S,S) is the photograph put together, 0 outside `mask`.
        sigma: Is the spread of the error of pixels (B,2,S,S) and of features (B,2,S/4,S/4); None without confidence.
    """

    canonical_depth: Tensor
    free_depth: Tensor
    albedo: Tensor
    light: Light
    view: Tensor
    normal: Tensor
    shading: Tensor
    canonical: Tensor
    depth: Tensor
    valid: Tensor
    grid: Tensor
    mask: Tensor
    recon: Tensor
    sigma: tuple[Tensor, Tensor] | None


class Unsup3D(Generator):
    """Unsup3D's networks, named as in the official checkpoints. If no light is given, the mean of the prior shines."""

    prior: Tensor
    pose_moments: Tensor  # (2, 2), the mean and deviation of pitch and yaw
    Config = Unsup3DConfig
    config: Unsup3DConfig
    system = "photometric"
    uses_light = True
    mesh_settings = ()  # it is as fine as the depth map
    interpolates = False  # half one photograph and half another is not a photograph
    hollow_advice = "generator.depth_prior=ellipsoid"

    def __init__(self, config: Unsup3DConfig) -> None:
        super().__init__(config)
        c = config
        self.netD = EDDeconv(3, 1, nf=c.nf, zdim=c.zdim, groups=c.groups, size=c.size)
        self.netA = EDDeconv(3, 3, nf=c.nf, zdim=c.zdim, groups=c.groups, size=c.size, tanh=True)
        self.netL = Encoder(3, 4, nf=c.encoder_nf, size=c.size)
        self.netV = Encoder(3, 6, nf=c.encoder_nf, size=c.size)
        self.netC = ConfNet(3, nf=c.nf, zdim=c.conf_zdim, groups=c.groups, size=c.size) if c.confidence else None
        self.map_camera = dm.MapCamera(c.size, c.scene.fov, c.scene.radius, c.aligned)
        prior = ellipsoid_prior(c.size) if c.depth_prior == "ellipsoid" else torch.zeros(1, 1, 1, 1)
        self.register_buffer("prior", prior, persistent=False)
        self.register_buffer("pose_moments", pose_moments(c.scene.pose), persistent=False)
        self.photographs: Photographs = head_photographs

    @classmethod
    def tiny(cls) -> Unsup3DConfig:
        return Unsup3DConfig(size=32, nf=8, zdim=8, groups=4, encoder_nf=4, conf_zdim=8)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of the networks of depth, albedo, light, viewpoint and, if there is one, confidence."""
        networks = {
            "depth": self.netD,
            "albedo": self.netA,
            "light": self.netL,
            "viewpoint": self.netV,
            "confidence": self.netC,
        }
        return {name: list(part.parameters()) for name, part in networks.items() if part is not None}

    # ---------------------------------------------------------------- photograph -> parts -> photograph

    def predict(self, image: Tensor, flip: bool = False) -> Prediction:
        """Take photographs (B,3,S,S) in [-1,1] apart and put them together; `flip` adds the mirrored branch.

        Raises:
            ValueError: Photographs have another number of channels or another size.
        """
        with outside_autocast(image.device):  # half precision has steps of 0.4 % in depth
            return self._predict(image, flip)

    def _predict(self, image: Tensor, flip: bool) -> Prediction:
        free = self.free_depth(image)
        depth, albedo = self.set_border(free), self.netA(image)
        lights, view = self.light(self.netL(image)).params, self.viewpoint(self.netV(image))
        if flip:
            depth, albedo = (torch.cat([maps, maps.flip(-1)]) for maps in (depth, albedo))
            lights, view = lights.repeat(2, 1), view.repeat(2, 1)
        light = Light(lights)
        normal = dm.map_normals(depth, self.map_camera)
        shading = dm.map_shading(normal, light)
        canonical = dm.shaded(albedo, shading)
        seen, valid, grid = self.seen(depth, view)
        mask = valid.unflatten(0, (-1, len(image))).all(0).repeat(len(valid) // len(image), 1, 1, 1)
        recon = dm.sample(canonical, grid) * mask
        sigma = self.netC(image) if self.netC is not None else None
        return Prediction(
            depth, free, albedo, light, view, normal, shading, canonical, seen, valid, grid, mask, recon, sigma
        )

    def seen(self, depth: Tensor, view: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Show canonical depth (B,1,S,S) from other views (B,6): `depth`, `valid` and `grid` of a `Prediction`."""
        c = self.config
        seen, valid = dm.warp_depth(depth, view, self.map_camera, c.min_depth - MARGIN, c.max_depth + MARGIN)
        return seen, valid, dm.lookup_grid(seen, view, self.map_camera)

    def losses(
        self,
        image: Tensor,
        perceptual: PerceptualLoss | None = None,
        kimg: float = math.inf,
        average: Callable[[Tensor], Tensor] = lambda batch: batch,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar that training minimises, and its terms before they are weighted.

        Args:
            image: Photographs (B,3,S,S) in [-1,1].
            perceptual: The published loss on VGG features; without one, its terms are left out.
            kimg: Thousands of images seen so far, by which `flip_weight` and `own_terms` change.
            average: Keeps the running covariances that `own_terms` needs.
        """
        c, n = self.config, len(image)
        flip_weight = c.flip_weight if kimg >= c.flip_kimg else 1.0
        p = self.predict(image, flip=True)
        mask = p.mask[:n].to(image.dtype)
        sigma = [None, None] if p.sigma is None else [p.sigma[0][:, :1], p.sigma[0][:, 1:]]
        terms = {
            "l1": photometric_loss(p.recon[:n], image, mask, sigma[0]),
            "l1_flip": photometric_loss(p.recon[n:], image, mask, sigma[1]),
            "smooth": step_loss(p.free_depth) / (c.max_depth - c.min_depth),
        }
        total = terms["l1"] + flip_weight * terms["l1_flip"] + c.smooth_weight * terms["smooth"]
        for name, weight, term in own_terms(self, p, n, kimg, average):
            terms[name] = term
            total = total + weight * term
        if perceptual is not None:
            sigma = [None, None] if p.sigma is None else [p.sigma[1][:, :1], p.sigma[1][:, 1:]]
            terms["perceptual"] = perceptual(p.recon[:n], image, mask, sigma[0])
            terms["perceptual_flip"] = perceptual(p.recon[n:], image, mask, sigma[1])
            both = terms["perceptual"] + flip_weight * terms["perceptual_flip"]
            total = total + c.perceptual_weight * both
        return total, terms

    def training_state(self) -> dict[str, Tensor]:
        """The running covariances (2,2,S,S) of `rigid_loss`."""
        return {"covariances": torch.zeros(2, 2, self.config.size, self.config.size)}

    def training_loss(
        self, images: Tensor, kimg: float, state: dict[str, Tensor], perceptual: PerceptualLoss | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        # An average over about a hundred batches. It starts at 0, so that the first ones, mostly noise, weigh little.
        return self.losses(images, perceptual, kimg, lambda batch: state["covariances"].lerp_(batch, 0.01))

    def need_batch(self, n: int) -> None:
        if self.config.rigid_weight > 0 and n < 2:
            fix = f"a batch of {n} has no covariance; use batches of 2 or more, or 0"
            raise ConfigError(f"generator.rigid_weight={self.config.rigid_weight}: {fix}")

    @torch.no_grad()
    def predict_depth(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Depth (N,1,H,H) on the CPU, in the view of the photographs (N,3,H,H) in [-1,1], as the papers score it.

        The networks see photographs of other sizes resized; the surface is then rendered at the photograph's own size,
        if that is larger. Where the surface does not reach, the depth of its nearest part is continued.
        """
        c, size = self.config, images.shape[-1]
        fine = max(size, c.size)
        camera = dm.MapCamera(fine, c.scene.fov, c.scene.radius, c.aligned)
        parts = []
        for chunk in images.split(batch_size):
            photo = resize(chunk.to(self.device), c.size)
            # The corner samples of all sizes coincide.
            canonical = F.interpolate(self.canonical_depth(photo), size=fine, mode="bilinear", align_corners=True)
            view = self.viewpoint(self.netV(photo))
            depth, valid = dm.warp_depth(canonical, view, camera, c.min_depth - MARGIN, c.max_depth + MARGIN)
            parts.append(resize(continued(depth, valid), size).cpu())
        return torch.cat(parts)

    def canonical_depth(self, image: Tensor) -> Tensor:
        """Predict canonical depth (B,1,S,S), with its border."""
        return self.set_border(self.free_depth(image))

    def free_depth(self, image: Tensor) -> Tensor:
        """Predict canonical depth (B,1,S,S) without its border.

        If `centred`, its mean lies near the middle of the range. Then an object can come nearer only if its background
        goes back, and short trainings push a part of it away.
        """
        c, raw = self.config, self.netD(image)
        if c.centred:
            raw = raw - raw.mean(dim=(2, 3), keepdim=True)
        unit = (raw + self.prior).tanh()
        out: Tensor = (1 + unit) / 2 * c.max_depth + (1 - unit) / 2 * c.min_depth
        return out

    def set_border(self, depth: Tensor) -> Tensor:
        """Set the outermost columns to `border_depth`, so that the object cannot bend around the sides."""
        inside = F.pad(torch.ones_like(depth[..., 2 * BORDER :]), (BORDER, BORDER))
        return depth * inside + self.config.border_depth * (1 - inside)

    def light(self, raw: Tensor) -> Light:
        """The light of the network's (B,4) output: its third number points to the left, zoo's to the right."""
        (a, d), (dx, dy) = (raw[:, :2] + 1).unbind(1), raw[:, 2:].unbind(1)
        # `Light.params` maps -1..1 to strengths of 0..1, so a range [low, high] is a linear map of them.
        a, d = (
            x * (high - low) + 2 * low - 1
            for x, (low, high) in zip((a, d), (self.config.ambient, self.config.diffuse), strict=True)
        )
        return Light(torch.stack([a, d, -dx, dy], 1))

    def viewpoint(self, raw: Tensor) -> Tensor:
        """The viewpoint (B,6) of the network's output in [-1,1]."""
        c = self.config
        return raw * raw.new_tensor([math.radians(c.rotation_range)] * 3 + [c.xy_range] * 2 + [c.z_range])

    # ---------------------------------------------------------------- the contract

    @property
    def picture_size(self) -> int:
        return self.config.size

    def latents(self, n: int, seed: int | torch.Generator = 0, psi: float = 1.0) -> Latents:
        """Draw `n` objects from the attribute `photographs`, by default the test split of the embedded heads.

        `psi` changes nothing: there is no average photograph to move towards.

        Raises:
            ValueError: `n` is below 1.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        source = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        return self.encode(self.photographs(n, self.config.size, source))

    def encode(self, image: Tensor) -> Latents:
        """Read the objects off square photographs (B,3,H,H) in [-1,1], resized to the network's size.

        The networks run when the object is rendered, so gradients reach the photograph.
        """
        return Latents(resize(image, self.config.size).flatten(1).to(self.device))

    def explain(self, images: Tensor, size: int) -> Explanation:
        latents = self.encode(images)
        photo = self._photographs(latents)
        camera = self.map_camera.world_camera(self.viewpoint(self.netV(photo)), size)
        return Explanation(latents, camera, self.light(self.netL(photo)))

    def _photographs(self, latents: Latents) -> Tensor:
        out: Tensor = latents.z.unflatten(1, (3, self.config.size, self.config.size))
        return out

    def code(self, latents: Latents) -> Tensor:
        """Canonical depth and albedo, (B,4,S,S)."""
        latents = latents.to(self.device)
        if latents.code is not None:
            return latents.code
        image = self._photographs(latents)
        return torch.cat([self.canonical_depth(image), self.netA(image)], 1)

    def forward(self, latents: Latents, camera: Camera, light: Light | None = None, sampling: None = None) -> Render:
        """Render the canonical surface as a mesh.

        The surface includes what the photograph shows around the object; the mask says where it is seen.
        """
        if light is None:
            light = self.mean_light
        n, scene = len(latents), self.scene
        camera, light = camera.to(self.device).expand(n), light.to(self.device).expand(n)
        depth, albedo = self.code(latents).split([1, 3], 1)
        points = self.map_camera.lift(depth)
        pixels, z = camera.project(self.map_camera.to_world(points).flatten(1, 2))
        visible = rasterize_grid(pixels.view_as(points[..., :2]), z.view_as(points[..., 2]), camera.size)
        values = torch.cat([albedo, dm.map_normals(depth, self.map_camera)], 1).flatten(2).mT
        albedo, normal = interpolate_vertices(values, visible, grid_faces(self.config.size)).split(3, 1)

        seen = (visible.face >= 0)[:, None]
        normal = F.normalize(normal, dim=1)
        shading = dm.map_shading(normal, light)
        rgb = dm.shaded(albedo, shading).clamp(-1, 1)
        background = 1.0 if scene.white_back else -1.0
        local = (camera.cam2world[:, :3, :3].mT @ normal.flatten(2)).view_as(normal)
        return Render(
            rgb=torch.where(seen, rgb, background),
            depth=torch.where(seen, visible.depth[:, None], scene.far),
            normal=local,
            mask=seen.to(rgb.dtype),
            albedo=torch.where(seen, albedo, background),
            shading=shading,
        )

    @torch.no_grad()
    def mesh(self, latents: Latents, resolution: int = 128, level: float | None = None) -> "Meshes":
        """Mesh the canonical depth map as an open surface, with albedo at its vertices.

        With `depth_prior: ellipsoid` it ends at the outline of the ellipsoid: around the object nothing asks for a
        shape, and a wavy sheet would hang behind it. It has the photograph's own resolution; `resolution` and `level`
        change nothing.
        """
        depth, albedo = self.code(latents).split([1, 3], 1)
        size = self.config.size
        whole = self.config.depth_prior != "ellipsoid"
        inside = torch.ones(size, size, dtype=torch.bool) if whole else ellipsoid_outline(size)
        pixels, faces = faces_within(inside.to(depth.device))
        verts = self.map_camera.to_world(self.map_camera.lift(depth)).flatten(1, 2)[:, pixels]
        p3d = pytorch3d()
        textures = p3d.renderer.TexturesVertex((albedo.flatten(2).mT[:, pixels] + 1) / 2)
        return p3d.structures.Meshes(verts, faces.expand(len(verts), -1, -1), textures)

    def schedule(self, kimg: float) -> None:
        """Sampling does not change during training."""
