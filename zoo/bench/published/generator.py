"""A yardstick: pi-GAN's and ShadeGAN's generator in plain torch, rendered as their papers say and nothing cleverer.

Every sample of every ray goes through every layer, nothing is compiled or fused, and parts of a picture are as large as
published code makes them. ShadeGAN's normals come from differentiating density by autograd, so that training on them
goes through the field a second time (Pan et al. 2021, section 3.2). Parameters have the names that weights have.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...geometry import Camera, Light

PART = 50_000  # points that published code evaluates at once when it records no gradients
_EPS = 1e-5


class Picture(NamedTuple):
    """A render: `rgb` (B, 3, S, S) in [-1, 1], mean `distance` (B, 1, S, S), world `normal` (B, 3, S, S) or None."""

    rgb: Tensor
    distance: Tensor
    normal: Tensor | None


class _Film(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, frequency: Tensor, phase: Tensor) -> Tensor:
        return torch.sin(frequency * self.layer(x) + phase)


class ReferenceField(nn.Module):
    """The FiLM-SIREN: points (B, M, 3) to colour (B, M, 3), density (B, M, 1) and, if asked, its slope (B, M, 3)."""

    def __init__(self, config: Any, extra: int) -> None:
        super().__init__()
        width, n = config.hidden_dim, config.layers
        self.scale = 2 / config.box if config.box > 0 else 1.0
        self.sees_direction: bool = config.view_condition
        self.network = nn.ModuleList(_Film(width if i else 3, width) for i in range(n))
        self.final_layer = nn.Linear(width, 1)
        self.color_layer_sine = _Film((3 if self.sees_direction else 0) + width + extra, width)
        self.color_layer_linear = nn.Sequential(nn.Linear(width, 3))
        sizes = [config.z_dim, *[config.mapping_dim] * 3, 2 * (n + 1) * width]
        mapping: list[nn.Module] = []
        for i in range(4):
            mapping += [nn.Linear(sizes[i], sizes[i + 1]), nn.LeakyReLU(0.2)]
        self.mapping_network = nn.ModuleDict({"network": nn.Sequential(*mapping[:-1])})

    def film(self, z: Tensor) -> Tensor:
        """Frequencies, then phases, of every layer: (B, 2 * (layers + 1), 1, width)."""
        raw = self.mapping_network["network"](z).unflatten(-1, (2, len(self.network) + 1, -1))
        return torch.cat([raw[:, 0] * 15 + 30, raw[:, 1]], 1)[:, :, None]

    def forward(
        self, points: Tensor, film: Tensor, directions: Tensor, extra: Tensor | None, slope: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Evaluate the field; `film` is what `film` gives, `extra` (B, E) goes to the colour layer."""
        frequency, phase = film.chunk(2, 1)
        recorded = torch.is_grad_enabled()
        with torch.set_grad_enabled(recorded or slope):
            start = points * self.scale
            if slope:
                start = start.requires_grad_() if start.is_leaf else start
            x = start
            for i, layer in enumerate(self.network):
                x = layer(x, frequency[:, i], phase[:, i])
            density = self.final_layer(x)
            gradient = None
            if slope:
                # The colour needs the same graph below, so it stays in any case.
                (gradient,) = torch.autograd.grad(density.sum(), start, create_graph=recorded, retain_graph=True)
        if not recorded:
            x, density = x.detach(), density.detach()
        seen = [directions, x] if self.sees_direction else [x]
        if extra is not None:
            seen.append(extra[:, None].expand(-1, x.shape[1], -1))
        colour = self.color_layer_sine(torch.cat(seen, -1), frequency[:, -1], phase[:, -1])
        return torch.sigmoid(self.color_layer_linear(colour)), density, gradient


class Reference(nn.Module):
    """The generator of pi-GAN, or of ShadeGAN with its light, with the weights and the scene of one of ours.

    Args:
        generator: A `PiGAN`, or a `ShadeGAN` without surface tracking; its weights are copied.
    """

    def __init__(self, generator: Any) -> None:
        super().__init__()
        self.config, self.scene = generator.config, generator.scene
        self.shaded: bool = getattr(self.config, "shading", False)
        self.lit: bool = getattr(self.config, "light_condition", False)
        self.siren = ReferenceField(self.config, 4 if self.lit else 0)
        self.load_state_dict(generator.state_dict())
        self.to(generator.device)

    def forward(
        self, z: Tensor, camera: Camera, light: Light | None, steps: int, fine_steps: int, random: bool = False,
        noise: float = 0.0, light_ratio: float = 1.0,
    ) -> Picture:  # fmt: skip
        """Render objects.

        Args:
            z: (B, z_dim) latents.
            camera: One for each object.
            light: One for each object; pi-GAN takes None.
            steps: Samples that are spread over the ray.
            fine_steps: Samples that are added where the first ones found density.
            random: Whether samples are drawn, as in training.
            noise: Standard deviation of noise on the density.
            light_ratio: How much of the shading is on, 0 to 1.
        """
        origins, directions, _ = camera.rays()
        film, extra = self.siren.film(z), light.params if light is not None and self.lit else None
        near, far = self.scene.near, self.scene.far
        b, n, _ = directions.shape
        t = torch.linspace(near, far, steps, device=z.device).expand(b, n, steps)
        if random:
            t = t + (torch.rand_like(t) - 0.5) * (t[..., 1:2] - t[..., :1])
        colour, density, slope = self._evaluate(origins, directions, t, film, extra)
        if fine_steps:
            with torch.no_grad():
                more = self._importance(density, t, fine_steps, random, noise)
            fine = self._evaluate(origins, directions, more, film, extra)
            t, order = torch.cat([more, t], -1).sort(-1)
            colour = _ordered(fine[0], colour, order)
            density = _ordered(fine[1], density, order)
            slope = None if slope is None or fine[2] is None else _ordered(fine[2], slope, order)
        weights = self._weights(density, t, noise)
        opacity = weights.sum(-2)
        rgb = (weights * colour).sum(-2)
        distance = ((weights * t[..., None]).sum(-2) / (opacity + _EPS)).clamp(near, far)
        behind = (1 - opacity) * float(self.scene.white_back)
        normal = None
        if slope is not None and light is not None:
            total = (weights * slope).sum(-2)
            normal = -total / (total.norm(dim=-1, keepdim=True) + 1e-7)
            facing = (normal * light.direction[:, None]).sum(-1, keepdim=True).clamp(0, 1)
            shading = light.ambient[:, None, None] + light.diffuse[:, None, None] * facing
            shading = light_ratio * shading + (1 - light_ratio)
            rgb = ((rgb.clamp(0, 1) * shading).clamp(min=0) + behind).clamp(max=1)
        else:
            rgb = rgb + behind
        side = camera.size
        flat = (rgb * 2 - 1, distance, normal)
        return Picture._make(None if v is None else v.mT.reshape(b, -1, side, side) for v in flat)

    def _evaluate(
        self, origins: Tensor, directions: Tensor, t: Tensor, film: Tensor, extra: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Colour, density and slope at distances `t` (B, N, K); each (B, N, K, C)."""
        points = (origins[:, :, None] + t[..., None] * directions[:, :, None]).flatten(1, 2)
        along = directions[:, :, None].expand(-1, -1, t.shape[-1], -1).flatten(1, 2)
        size = points.shape[1] if torch.is_grad_enabled() else max(1, PART // len(points))
        parts = [
            self.siren(p, film, d, extra, self.shaded)
            for p, d in zip(points.split(size, 1), along.split(size, 1), strict=True)
        ]
        colour, density, slope = zip(*parts, strict=True)
        whole = [torch.cat(v, 1).unflatten(1, t.shape[1:]) for v in (colour, density)]
        return whole[0], whole[1], torch.cat(slope, 1).unflatten(1, t.shape[1:]) if self.shaded else None

    def _weights(self, density: Tensor, t: Tensor, noise: float) -> Tensor:
        """How much each sample (B, N, K, 1) counts: what it absorbs of the light that reaches it."""
        if noise > 0:
            density = density + torch.randn_like(density) * noise
        width = torch.cat([t[..., 1:] - t[..., :-1], torch.full_like(t[..., :1], 1e10)], -1)[..., None]
        absorbed = 1 - torch.exp(-width * self.config.density_scale * torch.relu(density))
        passed = torch.cumprod(torch.cat([torch.ones_like(absorbed[..., :1, :]), 1 - absorbed + 1e-10], -2), -2)
        return absorbed * passed[..., :-1, :]

    def _importance(self, density: Tensor, t: Tensor, n: int, random: bool, noise: float) -> Tensor:
        """Distances (B, N, n), drawn from the weights of the first samples by the inverse of their distribution."""
        even = (torch.arange(n, device=t.device) + 0.5) / n
        u = torch.rand(*t.shape[:2], n, device=t.device) if random else even.expand(*t.shape[:2], n).contiguous()
        edges = (t[..., 1:] + t[..., :-1]) / 2
        mass = self._weights(density, t, noise)[..., 1:-1, 0] + 2 * _EPS
        mass = mass / mass.sum(-1, keepdim=True)
        reached = torch.cat([torch.zeros_like(mass[..., :1]), mass.cumsum(-1)], -1)
        right = torch.searchsorted(reached, u)
        left, right = (right - 1).clamp(min=0), right.clamp(max=mass.shape[-1])
        rise = reached.gather(-1, right) - reached.gather(-1, left)
        share = (u - reached.gather(-1, left)) / torch.where(rise < _EPS, 1.0, rise)
        return edges.gather(-1, left) + share * (edges.gather(-1, right) - edges.gather(-1, left))


def _ordered(first: Tensor, second: Tensor, order: Tensor) -> Tensor:
    both = torch.cat([first, second], -2)
    return both.gather(-2, order[..., None].expand_as(both))
