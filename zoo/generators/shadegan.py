"""ShadeGAN: a shading-guided generative implicit model (Pan, Xu, Loy, Theobalt, Dai; NeurIPS 2021).

This is pi-GAN with one change that matters: the field's colour is albedo, and the image is albedo times Lambertian
shading by a light drawn from the data's prior. A shape must then look right under many lights, not only from many
views, which removes the ambiguity that lets a plain radiance field hide wrong geometry behind painted shadows. Normals
come from the gradient of the density. A small convolutional network can track the surface, so that few samples around
it are enough.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..config.bounds import number
from ..geometry import Camera, Light, Render
from ..images import resize
from ..networks.surfacenet import SurfaceNet, surface_inputs
from ..renderers.fields.volume import RayMaps, Sampling
from ..renderers.shading import lambert, unit_normals
from .base import Latents
from .field import FieldConfig, FieldGenerator, camera_normals, to_image


@dataclass(frozen=True)
class ShadeSampling(Sampling):
    """Sampling, and what becomes of the light.

    Attributes:
        light_ratio: How much of the shading is on, from 0 (none) to 1 (all).
        albedo_light: What the colour layer sees in place of the light, see `keeping_albedo`.
    """

    light_ratio: float = 1.0
    albedo_light: Light | None = None


@dataclass
class ShadeGANConfig(FieldConfig):
    """pi-GAN's numbers plus light and surface tracking. Times are in thousands of images."""

    shading: bool = True  # the field's colour is albedo; false: it is the image's colour, as in pi-GAN
    view_condition: bool = False
    light_condition: bool = True  # the albedo layer also sees the light
    fine_steps: int = number(12, 0, 4096)
    light_start: float = number(0.0, 0)  # shading fades in from here ...
    light_ramp: float = number(0.0, 0)  # ... over this long
    surface_tracking: bool = False
    tracking_start: float = number(100.0, 0)  # the window starts to shrink here
    tracking_decay: float = number(1.5e-3, 0)  # its excess over the minimum falls by a factor of e every 1 / decay
    window: float = number(0.0, 0)  # width of the sampled interval at inference, 0: the whole ray; saved by training
    window_max: float = number(0.24, 0)
    window_min: float = number(0.06, 0)
    steps_min: int = number(6, 0, 4096)
    surface_size: int = number(128, 8, 4096)
    surface_features: int = number(16, 1, 4096)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.surface_tracking:
            self._need_steps("steps_min")


class ShadeGAN(FieldGenerator):
    """ShadeGAN's generator. If no light is given, the mean of the prior shines."""

    Config = ShadeGANConfig
    config: ShadeGANConfig

    def __init__(self, config: ShadeGANConfig) -> None:
        super().__init__(config, extra=4 if config.light_condition else 0)
        self.uses_light = config.shading or config.light_condition
        self.surfacenet = None
        if config.surface_tracking:
            self.surfacenet = SurfaceNet(2 * self.siren.width, config.surface_features, config.surface_size)

    @classmethod
    def tiny(cls) -> ShadeGANConfig:
        return ShadeGANConfig(z_dim=8, hidden_dim=16, layers=2, mapping_dim=16, density_scale=30, steps=6, fine_steps=0)

    def forward(
        self, latents: Latents, camera: Camera, light: Light | None = None, sampling: Sampling | None = None
    ) -> Render:
        camera, light = self.set_scene(len(latents), camera, light)
        sampling = ShadeSampling.of(sampling or self.inference())
        code = self.code(latents)
        maps, surface = self.trace(code, camera, light, sampling, with_gradient=True)
        render = self.paint(maps, camera, light, sampling, self.behind(code, camera))
        return render if surface is None else replace(render, aux=render.aux | {"surface": surface})

    def set_scene(self, n: int, camera: Camera, light: Light | None) -> tuple[Camera, Light]:
        """A camera and a light for each of `n` objects, on the network's device."""
        light = self.mean_light if light is None else light
        return camera.to(self.device).expand(n), light.to(self.device).expand(n)

    def trace(
        self, code: Tensor, camera: Camera, light: Light, sampling: ShadeSampling, with_gradient: bool
    ) -> tuple[RayMaps, Tensor | None]:
        """March the rays, near the tracked surface (B, 1, S, S) if there is one."""
        surface = None if self.surfacenet is None else self.track_surface(code, camera)
        centre = None
        if surface is not None and sampling.window > 0:
            centre = resize(surface.detach(), camera.size).flatten(2).transpose(1, 2)
        condition = self.seen_light(light, sampling)
        maps = self.march(code, camera, sampling, extra=condition, with_gradient=with_gradient, centre=centre)
        return maps, surface

    def seen_light(self, light: Light, sampling: ShadeSampling) -> Tensor | None:
        """What the colour layer knows of the light, (B, 4)."""
        if not self.config.light_condition:
            return None
        own = sampling.albedo_light
        return light.params if own is None else own.to(self.device).expand(len(light)).params

    def paint(
        self, maps: RayMaps, camera: Camera, light: Light, sampling: ShadeSampling, behind: Tensor | float
    ) -> Render:
        """Shade what the rays have gathered: image = albedo * shading, both of whole rays, not of samples.

        No light reaches what is behind the objects, see `FieldGenerator.behind`.
        """
        size = camera.size
        behind = (1 - maps.opacity) * behind
        normal = shading = None
        rgb = albedo = (maps.rgb + behind).clamp(0, 1)
        if maps.gradient is not None:
            normal = unit_normals(maps.gradient)
            if self.config.shading:
                shading = lambert(normal, light, sampling.light_ratio)
                rgb = ((maps.rgb.clamp(0, 1) * shading).clamp(min=0) + behind).clamp(max=1)
        return Render(
            rgb=to_image(rgb * 2 - 1, size),
            depth=self.depth_image(maps, camera),
            normal=None if normal is None else camera_normals(normal, camera, maps.opacity),
            mask=to_image(maps.opacity, size),
            albedo=None if shading is None else to_image(albedo * 2 - 1, size),
            shading=None if shading is None else to_image(shading, size),
            aux={
                "ray_distance": to_image(maps.depth, size),
                **({} if normal is None else {"world_normal": to_image(normal, size)}),
            },
        )

    def track_surface(self, code: Tensor, camera: Camera) -> Tensor:
        """Predict the distance along the rays (B, 1, S, S) in [near, far], from the code and the pose alone."""
        assert self.surfacenet is not None
        near, far = self.scene.near, self.scene.far
        frequencies, phases = code.chunk(2, dim=-1)
        unit = self.surfacenet(*surface_inputs(frequencies, phases, camera.pose + math.pi / 2))[:, :1]
        out: Tensor = near + unit * (far - near)
        return out

    def inference(self) -> ShadeSampling:
        c, sampling = self.config, ShadeSampling.of(super().inference())
        fine = self.fine_beside(sampling.steps) if c.window > 0 and c.inference_steps > 0 else sampling.fine_steps
        return replace(sampling, fine_steps=fine, window=c.window)

    def keeping_albedo(self, own: Light | None = None, sampling: Any = None) -> ShadeSampling:
        """See `Generator.keeping_albedo`. Under lights unlike those of training, albedo would take on wrong colours."""
        own = self.mean_light if own is None else own
        return replace(ShadeSampling.of(sampling or self.inference()), albedo_light=own)

    def fine_beside(self, steps: int) -> int:
        """Importance samples beside fewer evenly spread ones than `steps` of the Config: as many fewer."""
        return min(self.config.fine_steps, round(self.config.fine_steps * steps / self.config.steps))

    def rate_scale(self, sampling: Sampling) -> float:
        """Fewer samples, smaller steps, as in the published code."""
        return sampling.steps / self.config.steps if self.config.surface_tracking else 1.0

    def at_rest(self, kimg: float) -> dict[str, Any]:
        """The window and the samples that training has come to: outside it the field was never looked at."""
        sampling = self.schedule(kimg)
        return {"window": sampling.window, "inference_steps": sampling.steps} if sampling.window > 0 else {}

    def schedule(self, kimg: float) -> ShadeSampling:
        c = self.config
        window, steps = 0.0, c.steps
        if c.surface_tracking:
            window, steps = tracking_window(
                kimg, c.tracking_start, c.tracking_decay, (c.window_max, c.window_min), (c.steps, c.steps_min)
            )
        ratio = light_ratio(kimg, c.light_start, c.light_ramp)
        sampling = replace(ShadeSampling.of(super().schedule(kimg)), steps=steps, fine_steps=self.fine_beside(steps))
        return replace(sampling, window=window, light_ratio=ratio)

    def regularisers(self, render: Render) -> dict[str, Tensor]:
        if "surface" not in render.aux:
            return {}
        return {
            "surface": surface_loss(render.aux["surface"], render.aux["ray_distance"], self.scene.near, self.scene.far)
        }

    def colour_condition(self, n: int) -> Tensor | None:
        if not self.config.light_condition:
            return None
        return self.mean_light.params.expand(n, 4)


def light_ratio(time: float, start: float, ramp: float) -> float:
    """How much of the shading is on: 0 before `start`, 1 from `start + ramp` on."""
    return min(1.0, max(0.0, (time - start) / ramp)) if ramp > 0 else float(time >= start)


def tracking_window(
    time: float, start: float, decay: float, widths: tuple[float, float], steps: tuple[int, int]
) -> tuple[float, int]:
    """Width of the sampled interval and number of samples; both shrink exponentially from (max, ...) to (..., min).

    Until `start` the whole ray is sampled, which is a width of 0, with the most samples.
    """
    if time <= start:
        return 0.0, steps[0]
    rest = math.exp(-decay * (time - start))
    width = (widths[0] - widths[1]) * rest + widths[1]
    return width, round((steps[0] - steps[1]) * rest + steps[1])


def surface_loss(surface: Tensor, ray_distance: Tensor, near: float, far: float) -> Tensor:
    """L1 between the tracked surface and the (detached) volume-rendered distance.

    Both have the tracker's size and are scaled to [-1, 1]. The published loss adds LPIPS on the same two maps; its VGG
    weights are not ours to ship.
    """
    target = resize(ray_distance.detach(), surface.shape[-1])
    return (surface - target).abs().mean() * 2 / (far - near)
