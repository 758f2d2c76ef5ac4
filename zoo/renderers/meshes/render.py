"""Render textured meshes with gradients that are exact at outlines (Szabo, Meishvili, Favaro 2019, arXiv 1910.00287).

Each pixel centre sees a face, and on it a depth, a UV and the texture there, all of them differentiable. The mode says
what is done to this crisp picture at outlines:

    crisp     Nothing is done; no gradient moves an outline.
    soft      A strip of decreasing opacity lies outside the outline, as in the paper; it enlarges the object by about
              half a strip.
    centred   Each pixel takes the area that the outline cuts off; exact for one straight outline per pixel.
    aa        Neighbouring pixels blend across the outline (Laine et al. 2020); only for faces larger than a pixel.
    sigmoid   PyTorch3D's soft rasteriser renders everything (Liu et al. 2019), for comparison.

An object unit is half the width of the image at the distance of the origin, distance * tan(fov / 2) in world units.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...geometry import Camera
from ...runtime.workers import outside_autocast
from .antialias import antialias, half_plane, soft_raster
from .boundary import Contour, Scene, margin
from .layers import object_unit, project, smooth_normals, visible_layers
from .topology import Topology

MODES = ("crisp", "soft", "centred", "aa", "sigmoid")
_LEAST_GAMMA = 1e-3  # object units: "sigmoid" divides by it


@dataclass
class MeshRenderConfig:
    """What happens at outlines.

    Attributes:
        mode: One of `MODES`; the docstring of the module explains them.
        margin_px: Width of the soft strip in rendered pixels; for "sigmoid", twice the standard width of the edge.
        push: Object units by which the strip recedes towards its outer end; for "sigmoid", the depth over which
            surfaces mix. It must exceed the unevenness of an outline in depth, and stay below the distances between
            surfaces whose outlines are to be soft.
        supersample: Pictures are rendered this many times larger and averaged, for figures and gradient tests.
    """

    mode: str = "soft"
    margin_px: float = 1.0
    push: float = 0.05
    supersample: int = 1

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if not 0 < self.margin_px < math.inf:
            raise ValueError(f"margin_px must be positive, got {self.margin_px}; for no margin use mode 'crisp'")
        if not 0 <= self.push < math.inf:
            raise ValueError(f"push must be 0 or more object units, got {self.push}")
        if self.supersample < 1:
            raise ValueError(f"supersample must be at least 1, got {self.supersample}")


class MeshRender(NamedTuple):
    """Maps of B images of S x S pixels. All but `rgb` and `mask` belong to the crisp picture, without soft outlines."""

    rgb: Tensor  # (B, 3, S, S) in [-1, 1] over the background
    mask: Tensor  # (B, 1, S, S) opacity in [0, 1], outlines included
    depth: Tensor  # (B, 1, S, S) along the optical axis, world units, 0 where nothing is seen
    normal: Tensor  # (B, 3, S, S) unit, camera frame, towards the viewer, of the smooth surface; 0 where nothing is
    uv: Tensor  # (B, 2, S, S) in [-1, 1]; 0 where nothing is seen


def render_mesh(
    verts: Tensor,
    topology: Topology,
    texture: Tensor,
    background: Tensor | None,
    camera: Camera,
    config: MeshRenderConfig | None = None,
    *,
    normals: bool = True,
) -> MeshRender:
    """Render B meshes with one topology, each from its own camera. Differentiable, once, in all three tensors.

    Back faces, and surface nearer to the camera than 1e-3 object units, are not drawn. It runs outside autocast, in
    float32, or in float64 if the vertices are float64.

    Args:
        verts: (B, V, 3) vertices in the world frame.
        topology: The connectivity and UV that the meshes share.
        texture: (B, 3, T, T) in [-1, 1]; UV -1 and 1 are the centres of the outermost texels.
        background: (B, 3, S, S) in [-1, 1]; None stands for 0, so that `rgb` is premultiplied by `mask`.
        camera: B cameras, or one for all; S is its size.
        config: What happens at outlines.
        normals: Whether to compute `normal`; False leaves it 0 and saves the time.

    Raises:
        ValueError: A tensor has the wrong shape, a vertex is not finite, or a camera stands at the origin.
        ZooError: The mode is "sigmoid" and PyTorch3D's native part does not load.
    """
    config = config or MeshRenderConfig()
    _check(verts, topology, texture, background, camera)
    camera = camera.to(verts.device).expand(len(verts))
    with outside_autocast(verts.device):
        dtype = torch.float64 if verts.dtype == torch.float64 else torch.float32
        verts, texture = verts.to(dtype), texture.to(dtype)
        camera = Camera(camera.cam2world.to(dtype), camera.fov, camera.size, camera.pixel_centres)
        behind = verts.new_zeros(len(verts), 3, 1, 1) if background is None else background.to(dtype)
        return _render(verts, topology.to(verts.device), texture, behind, camera, config, normals)


def _check(verts: Tensor, topology: Topology, texture: Tensor, background: Tensor | None, camera: Camera) -> None:
    b, count = len(verts), len(topology.uv)
    if verts.ndim != 3 or verts.shape[1:] != (count, 3):
        raise ValueError(f"verts are {tuple(verts.shape)}; this topology needs (B, {count}, 3)")
    if not b:
        raise ValueError("verts hold 0 objects; give one or more")
    if not verts.isfinite().all():
        bad = (~verts.isfinite()).any(-1).sum().item()
        raise ValueError(f"{bad} of {b * count} vertices are not finite; look for a diverged network upstream")
    if texture.ndim != 4 or texture.shape[:2] != (b, 3):
        raise ValueError(f"texture is {tuple(texture.shape)}; give ({b}, 3, T, T)")
    if background is not None and background.shape != (b, 3, camera.size, camera.size):
        expected = (b, 3, camera.size, camera.size)
        raise ValueError(f"background is {tuple(background.shape)}; crop it to the camera's {expected}")
    if not (camera.cam2world[:, :3, 3].norm(dim=-1) > 0).all():
        raise ValueError("a camera stands at the origin, where an object unit has no size; move it or the object")


def _render(
    verts: Tensor, topology: Topology, texture: Tensor, behind: Tensor, camera: Camera, config: MeshRenderConfig,
    normals: bool,
) -> MeshRender:  # fmt: skip
    k = config.supersample
    scene, unit = project(verts, topology, camera, k), object_unit(camera)
    layers = visible_layers(scene, 2 if config.mode == "centred" else 1)
    push, first = config.push * unit, layers[0]
    empty = F.pad(F.interpolate(behind, size=(scene.size, scene.size)), (0, 0, 0, 0, 0, 1))
    image = _over(_sample(texture, first.uv), first.hit, empty)
    if config.mode == "soft":
        strip = margin(scene, first.depths(), config.margin_px, push)
        image = _over(*_dense(scene, texture, strip, strip.share), image)
    elif config.mode == "centred":
        second = _over(_sample(texture, layers[1].uv), layers[1].hit, empty)
        cut = half_plane(scene, first.depths(), layers[1].depths(), push)
        image = _over(*_dense(scene, texture, cut, cut.share * ~cut.inside), image)
        _, away = _dense(scene, texture, cut, (1 - cut.share) * cut.inside)
        image = _over(second, away, image)
    elif config.mode == "aa":
        image = antialias(scene, torch.where(first.hit[:, 0], first.face, -1).reshape(-1), first.depths(), image)
    elif config.mode == "sigmoid":
        image = soft_raster(scene, texture, empty, config.margin_px / 2, push.maximum(_LEAST_GAMMA * unit))

    maps = torch.cat([first.depth, first.uv.permute(0, 3, 1, 2)], 1)
    if normals:
        maps = torch.cat([maps, smooth_normals(scene, first, camera.to_camera(verts))], 1)
    maps = torch.where(first.hit, maps, 0)
    if k > 1:
        hit, maps, image = (F.avg_pool2d(x, k) for x in (first.hit.to(maps.dtype), maps, image))
        maps = maps / hit.clamp_min(0.5 / k**2)  # the mean over what is hit
        maps = torch.cat([maps[:, :3], F.normalize(maps[:, 3:], dim=1)], 1)
    normal = maps[:, 3:] if normals else torch.zeros_like(image[:, :3])
    return MeshRender(image[:, :3], image[:, 3:], maps[:, :1], normal, maps[:, 1:3])


def _sample(texture: Tensor, uv: Tensor) -> Tensor:
    """(B, 4, S, S) colour and opacity 1 of the texture at uv (B, S, S, 2)."""
    colour = F.grid_sample(texture, uv, padding_mode="border", align_corners=True)
    return F.pad(colour, (0, 0, 0, 0, 0, 1), value=1.0)


def _over(colour: Tensor, share: Tensor, below: Tensor) -> Tensor:
    return below + share * (colour - below)


def _dense(scene: Scene, texture: Tensor, contour: Contour, share: Tensor) -> tuple[Tensor, Tensor]:
    """The colour (B, 4, S, S) of outlines at the pixels beside them, and share (L,) as a map (B, 1, S, S)."""
    b, s = scene.batch, scene.size
    uv = share.new_zeros(scene.pixels, 2).index_put((contour.pixel,), contour.uv)
    opacity = share.new_zeros(scene.pixels).index_put((contour.pixel,), share)
    return _sample(texture, uv.view(b, s, s, 2)), opacity.view(b, 1, s, s)
