"""pi-GAN: periodic implicit generative adversarial networks (Chan, Monteiro, Kellnhofer, Wu, Wetzstein; CVPR 2021).

A latent is mapped to the frequencies and phases of a SIREN; the SIREN is a radiance field, which is volume-rendered.
Colour comes straight from the field, so light is baked into it. This is the baseline to which ShadeGAN adds light.
"""

from ..geometry import Camera, Light, Render
from ..renderers.fields.volume import Sampling
from ..renderers.shading import unit_normals
from .base import Latents
from .field import FieldConfig, FieldGenerator, camera_normals, to_image


class PiGAN(FieldGenerator):
    """pi-GAN's generator. `light` is accepted and ignored, so that methods can be swapped."""

    Config = FieldConfig

    @classmethod
    def tiny(cls) -> FieldConfig:
        return FieldConfig(z_dim=8, hidden_dim=16, layers=2, mapping_dim=16, density_scale=30, steps=6, fine_steps=0)

    def forward(
        self, latents: Latents, camera: Camera, light: Light | None = None, sampling: Sampling | None = None
    ) -> Render:
        camera = camera.to(self.device).expand(len(latents))
        sampling = sampling or self.inference()
        code = self.code(latents)
        maps = self.march(code, camera, sampling, with_gradient=not self.training)
        if sampling.last_back:  # all weights together are 1, so the published sum is the mean
            maps = maps._replace(depth=maps.distance.clamp(self.scene.near, self.scene.far))
        rgb = maps.rgb + (1 - maps.opacity) * self.behind(code, camera)
        normal = None
        if maps.gradient is not None:
            normal = camera_normals(unit_normals(maps.gradient), camera, maps.opacity)
        return Render(
            rgb=to_image(rgb * 2 - 1, camera.size),
            depth=self.depth_image(maps, camera),
            normal=normal,
            mask=to_image(maps.opacity, camera.size),
            aux={"ray_distance": to_image(maps.depth, camera.size)},
        )
