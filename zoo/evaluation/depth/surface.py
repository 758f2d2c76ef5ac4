"""How surface-like a generator's fields are: spread along rays, surface against volume rendering (Xu et al. 2021)."""

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from ...generators.base import Latents
from ...generators.field import VolumeGenerator
from ...geometry import Camera
from ...renderers.fields.surface import find_surface
from ...renderers.fields.volume import Sampling, composite_weights, ray_distances
from ..benchmark import Column, Figure
from .protocol import DepthProtocol, Scored


class Surfaces:
    """How surface-like fields are, see `surface_figures`; nothing for what is not a field."""

    keys: ClassVar = ("variance", "psnr")
    columns: ClassVar = (
        Column("variance", "Variance", "×10⁻⁴", better="lower", form=".3g", scale=1e4),
        Column("psnr", "Surface PSNR", "dB", better="higher", form=".1f"),
    )

    def words(self, rules: DepthProtocol) -> list[str]:
        """What is examined, and how."""
        return [
            f"Fields are examined further on {rules.n_surface} objects (psi 0.7, {rules.size} px): variance is the "
            "mean squared distance, in squared world units, of rendering weights from their mean along opaque rays "
            "(288 even samples); PSNR compares the volume rendering with a rendering of the surface alone, where a "
            "method makes both and rays meet a surface."
        ]

    def measure(self, scored: Scored) -> dict[str, Figure]:
        """Variance in squared world units, PSNR in dB."""
        if not isinstance(scored.subject, VolumeGenerator):
            return {}
        n = scored.rules.n_surface
        with scored.steps.task("examining surfaces", n) as advance:
            return {**surface_figures(scored.subject, n, scored.rules.size, scored.seed, advance)}


@torch.no_grad()
def weighted_variance(
    generator: VolumeGenerator, latents: Latents, camera: Camera, steps: int = 288, clear: float = 0.0
) -> Tensor:
    """Variance of the rendering weights along rays, averaged over those that are opaque: 0 for a perfect surface.

    Args:
        generator: The fields to march through.
        latents: B objects.
        camera: Their cameras, or one for all.
        steps: Number of even samples over the whole ray. The published figure takes 36, but a sharp surface is finer
            than that grid.
        clear: What lies further than this before the surface that root finding meets is left out, in world units; 0
            keeps all. The published figure clears half its widest interval.

    Returns:
        A scalar in squared world units; NaN if no ray is opaque.
    """
    scene, code = generator.scene, generator.code(latents)
    camera = camera.to(generator.device).expand(len(latents))
    origins, directions = generator.rays(camera, Sampling(steps))
    z = ray_distances(scene.near, scene.far, steps, like=origins)

    def raw(distances: Tensor) -> Tensor:
        points = origins[:, :, None] + distances[..., None] * directions[:, :, None]
        parts = points.flatten(1, 2).split(2**15, 1)
        sigma = torch.cat([generator.raw_density(part, code) for part in parts], 1).view(*distances.shape, 1)
        out: Tensor = sigma * directions.norm(dim=-1)[..., None, None]  # density counts along directions of any length
        return out

    sigma = raw(z)
    if clear > 0:
        crossing = find_surface(sigma, z, lambda d: raw(d)[..., 0], steps=4, otherwise=(scene.near + scene.far) / 2)
        sigma = sigma.masked_fill((z <= crossing.distance - clear)[..., None], -math.inf)
    weights = composite_weights(sigma, z, density_scale=generator.config.density_scale, clamp=generator.clamp)[..., 0]
    opacity = weights.sum(-1)
    mean = (weights * z).sum(-1) / (opacity + 1e-5)
    variance = (weights * (z - mean[..., None]).square()).sum(-1) / ((opacity + 1e-5) * (steps - 1) / steps)
    return variance[opacity > 0.99].mean()


@torch.no_grad()
def surface_figures(
    generator: VolumeGenerator, n: int, size: int, seed: int = 0, advance: Callable[[int], None] = lambda _: None
) -> dict[str, float]:
    """How surface-like the fields of a generator are, as means over objects at psi 0.7 seen from the scene's poses.

    Args:
        generator: The fields to examine.
        n: Number of objects.
        size: Side of their images in pixels.
        seed: Seed of latents and poses.
        advance: Is called with the number of objects done.

    Returns:
        `variance`, see `weighted_variance`, and `psnr` in dB of the volume rendering against a rendering of the surface
        alone, where a method makes both and rays meet it.
    """
    latents, cameras = generator.latents(n, seed, psi=0.7), generator.cameras(n, seed + 1, size)
    found: dict[str, list[float]] = {"variance": [], "psnr": []}
    for i in range(n):
        one, camera = latents[i : i + 1], cameras[i : i + 1]
        variance = weighted_variance(generator, one, camera).item()
        if not math.isnan(variance):
            found["variance"].append(variance)
        render = generator(one, camera)
        surface = generator.surface_view(render)
        if surface is not None and surface.met.any():
            met = surface.met.expand_as(render.rgb)
            error = (render.rgb - surface.rgb)[met].square().mean() / 4  # of a range of 2
            found["psnr"].append(-10 * math.log10(max(error.item(), 1e-10)))
        advance(1)
    return {name: sum(values) / len(values) for name, values in found.items() if values}
