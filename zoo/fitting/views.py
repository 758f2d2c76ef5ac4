"""What a fitted object looks like: its maps, and new views and lights of it, rendered or drawn by the GAN."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..generators.base import Latents, PictureGAN
from ..generators.gan2shape import GAN2Shape, Geometry, relit
from ..geometry import Light
from ..output.colours import show_depth, show_image, show_normal
from ..output.strips import Sheet
from ..renderers.depthmaps.depthmap import MapCamera, map_normals
from .subject import Subject

CHUNK = 10  # images that are rendered or drawn at once
YAWS, PITCHES = 9, 5  # views in a sheet, as published
REACH = {"car": 45.0, "church": 45.0}  # degrees to each side; other categories turn further
FURTHEST, NOD = 70.0, 20.0
SLOPES, HEIGHTS, GAINS = (-1.5, -0.7, 0.0, 0.7, 1.5), (0.0, 0.6), (0.3, 0.6)  # lights in a sheet, as published


@dataclass(frozen=True)
class Fitted:
    """A subject with the networks that were fitted to it and the GAN they learnt from, on one device."""

    model: GAN2Shape
    gan: PictureGAN
    subject: Subject

    @cached_property
    @torch.no_grad()
    def geometry(self) -> Geometry:
        """The surface, in its own light and viewpoint."""
        return self.model.geometry(self.image, mirrored=False)

    @cached_property
    @torch.no_grad()
    def albedo(self) -> Tensor:
        """The object's own colour (1,3,S,S) in [-1,1]."""
        out: Tensor = self.model.netA(self.image)
        return out

    @property
    def image(self) -> Tensor:
        """The photograph (1,3,S,S)."""
        return self.subject.image.to(self.model.device)

    @torch.no_grad()
    def rendered(self, light: Light, view: Tensor) -> Tensor:
        """Render the mesh (n,3,S,S) under n lights from viewpoints (n,6), on the background of the scene."""
        camera = self.model.map_camera.world_camera(view)
        latents = Latents(self.image.flatten(1), code=torch.cat([self.geometry.depth, self.albedo], 1))
        parts = [self.model(latents, camera[i : i + 1], light[i : i + 1]).rgb for i in range(len(view))]
        return torch.cat(parts).cpu()

    @torch.no_grad()
    def drawn(self, light: Light, view: Tensor) -> Tensor:
        """Let the GAN draw the same (n,3,S,S)."""
        w, parts = self.subject.w.to(self.model.device), []
        own = self.model.gan_image(self.gan, w)
        for start in range(0, len(view), CHUNK):
            rows = slice(start, start + CHUNK)
            pseudo, _ = self.model.pseudo_images(self.geometry, self.albedo, light[rows], view[rows])
            parts.append(self.model.project(self.gan, pseudo, w, own)[0])
        return torch.cat(parts).cpu()

    def turned(self, yaw: Tensor, pitch: Tensor) -> tuple[Light, Tensor]:
        """Its own light, and viewpoints at zoo's yaw and pitch (n,) in radians from the canonical one."""
        zero = torch.zeros_like(yaw)
        view = torch.stack([-pitch, -yaw, zero, zero, zero, zero], 1).to(self.model.device)
        return self.geometry.light.expand(len(yaw)), view

    def lit(self, x: Tensor, y: Tensor, gain: Tensor) -> tuple[Light, Tensor]:
        """Lights from n directions (x, y), stronger by `gain`, and its own viewpoint."""
        device = self.model.device
        light = relit(self.geometry.light, x.to(device), y.to(device), gain.to(device), self.model.config.ambient_share)
        return light, self.geometry.view.expand(len(x), -1)

    def paths(self, category: str, frames: int) -> dict[str, tuple[Light, Tensor]]:
        """Lights and viewpoints of two closed films: the view swings in one, the light in the other."""
        swing = torch.sin(torch.arange(frames) * 2 * math.pi / frames)
        zero = torch.zeros(frames)
        reach = math.radians(REACH.get(category, FURTHEST))
        lights = self.lit(swing * SLOPES[-1], zero + sum(HEIGHTS) / 2, zero + sum(GAINS) / 2)
        return {"rotate": self.turned(swing * reach, zero), "relight": lights}

    def own_maps(self) -> dict[str, Tensor]:
        """Pictures (1,3,S,S) in [0,1]: photograph, the GAN's picture of it, reconstruction, and the parts."""
        g, everywhere = self.geometry, torch.ones_like(self.geometry.depth) > 0
        with torch.no_grad():
            drawn, composed = (
                self.model.gan_image(self.gan, self.subject.w.to(g.depth)),
                self.model.compose(self.albedo, g),
            )
        maps = {
            "photograph": show_image(self.image),
            "GAN": show_image(drawn),
            "reconstruction": show_image(composed),
            "depth": show_depth(g.depth, everywhere),
            "normals": show_normal(F.normalize(g.normal, dim=1), everywhere),
            "albedo": show_image(self.albedo),
            "shading": (g.shading / 1.5).clamp(0, 1).expand(-1, 3, -1, -1),
        }
        return {name: value.detach().cpu() for name, value in maps.items()}


def sheets(fitted: Fitted, depths: list[Tensor], category: str) -> list[Sheet]:
    """The pictures of one object: its maps, how its shape grew, and views and lights of it, rendered and drawn.

    Args:
        fitted: Is the object.
        depths: Holds depth (1,1,S,S) in the view of the photograph after each stage, the initial shape first.
        category: Says how far it turns, see `REACH`.
    """
    reach = math.radians(REACH.get(category, FURTHEST))
    yaw = torch.cat([torch.linspace(-reach, reach, YAWS), torch.zeros(PITCHES)])
    pitch = torch.cat([torch.zeros(YAWS), torch.linspace(-1, 1, PITCHES) * math.radians(NOD)])
    turns = fitted.turned(yaw, pitch)
    gain, y, x = (
        grid.flatten() for grid in torch.meshgrid(*map(torch.tensor, (GAINS, HEIGHTS, SLOPES)), indexing="ij")
    )
    lights = fitted.lit(x, y, gain)
    stages = torch.cat(depths)
    camera = fitted.model.map_camera
    normal = F.normalize(map_normals(stages, MapCamera(stages.shape[-1], camera.fov)), dim=1)
    everywhere = torch.ones_like(stages) > 0
    maps = fitted.own_maps()
    return [
        Sheet("Parts", ", ".join(maps) + ".", [("parts", torch.cat(list(maps.values())))]),
        Sheet(
            "Shape, stage by stage",
            "In the view of the photograph; the first is the shape that the fit started from.",
            [("depth", show_depth(stages, everywhere)), ("normals", show_normal(normal, everywhere))],
        ),
        Sheet(
            "New views",
            f"Turned by up to {math.degrees(reach):g} degrees to each side, then nodding by up to {NOD:g} degrees.",
            [("render", show_image(fitted.rendered(*turns))), ("GAN", show_image(fitted.drawn(*turns)))],
        ),
        Sheet(
            "New lights",
            "From left to right, first level and then from above; then the same, stronger.",
            [("render", show_image(fitted.rendered(*lights))), ("GAN", show_image(fitted.drawn(*lights)))],
        ),
    ]
