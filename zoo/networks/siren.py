"""FiLM-conditioned SIREN: the radiance field of pi-GAN, GOF and ShadeGAN (Chan et al. 2021, section 3.2).

Key names and shapes are those of the published weights, so they load without renaming.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..renderers.fields.volume import FieldOut
from .sines.devices import has_kernels
from .sines.fused import evaluate
from .sines.tiles import Film, SineNetwork, Weights


class MappingNetwork(nn.Module):
    """From a latent (B, z_dim) to raw frequencies and phases of every FiLM layer, (B, 2 * width)."""

    def __init__(self, z_dim: int, hidden_dim: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(3):
            layers += [nn.Linear(z_dim if i == 0 else hidden_dim, hidden_dim), nn.LeakyReLU(0.2)]
        last = nn.Linear(hidden_dim, 2 * width)
        self.network = nn.Sequential(*layers, last)
        for layer in self.network:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=0.2, mode="fan_in", nonlinearity="leaky_relu")
        with torch.no_grad():
            last.weight.mul_(0.25)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.network(z)
        return out


class FiLMLayer(nn.Module):
    """sin(frequency * (W x + b) + phase), with frequency and phase (B, 1, H) the same for all points of an object."""

    def __init__(self, in_dim: int, out_dim: int, bound: float) -> None:
        super().__init__()
        self.layer = nn.Linear(in_dim, out_dim)
        nn.init.uniform_(self.layer.weight, -bound, bound)

    def forward(self, x: Tensor, frequency: Tensor, phase: Tensor) -> Tensor:
        return torch.sin(frequency * self.layer(x) + phase)


class FiLMSiren(nn.Module):
    """The field: from points (B, M, 3) and a FiLM code (B, 2 * (layers + 1) * H) to colour and density.

    Args:
        z_dim: Length of the latent.
        hidden_dim: Width H of the layers.
        layers: FiLM layers of the density trunk; one more carries the colour.
        mapping_dim: Hidden width of the mapping network.
        box: Side of the cube that is mapped to [-1, 1]; 0 leaves points as they are.
        extra: Number of values per object that the colour layer also sees (4 for a light).
        use_direction: Whether the colour layer also sees the ray direction.
    """

    def __init__(
        self,
        z_dim: int = 256,
        hidden_dim: int = 256,
        layers: int = 8,
        mapping_dim: int = 256,
        box: float = 0.24,
        extra: int = 0,
        use_direction: bool = True,
    ) -> None:
        super().__init__()
        self.scale = 2.0 / box if box > 0 else 1.0
        self.use_direction, self.extra = use_direction, extra
        self.width = (layers + 1) * hidden_dim
        bound = math.sqrt(6.0 / hidden_dim) / 25.0
        colour_in = (3 if use_direction else 0) + hidden_dim + extra
        self.network = nn.ModuleList(
            FiLMLayer(3 if i == 0 else hidden_dim, hidden_dim, 1 / 3 if i == 0 else bound) for i in range(layers)
        )
        self.final_layer = nn.Linear(hidden_dim, 1)
        self.color_layer_sine = FiLMLayer(colour_in, hidden_dim, math.sqrt(6.0 / colour_in) / 25.0)
        colour = nn.Linear(hidden_dim, 3)
        self.color_layer_linear = nn.Sequential(colour)
        for head in (self.final_layer, colour):
            nn.init.uniform_(head.weight, -bound, bound)
        self.mapping_network = MappingNetwork(z_dim, mapping_dim, self.width)

    def forward(
        self,
        points: Tensor,
        film: Tensor,
        directions: Tensor | None,
        extra: Tensor | None,
        with_gradient: bool = False,
        counts: Sequence[int] | None = None,
    ) -> FieldOut:
        """Evaluate the field: by `sines.fused` where it can, which is in float32, or as `plain` defines it.

        Args:
            points: (B, M, 3) world coordinates.
            film: (B, 2 * width) raw frequencies, then raw phases.
            directions: (B, M, 3) unit ray directions, if the colour depends on them.
            extra: (B, E) values that the colour layer also sees, or None.
            with_gradient: Whether to return d sigma / d (scaled x), in closed form: for h' = sin(f (W h + b) + p), the
                gradient g goes backwards through the layers as g <- (g * f * cos(f (W h + b) + p)) W. There is no
                second autograd pass, so training on normals needs one backward pass and can be compiled.
            counts: Numbers of points, one per object, after which nothing is looked at; what is returned there is
                arbitrary. None looks at all.

        Raises:
            ValueError: The colour depends on the ray direction or on `extra`, which is None.
        """
        if self.use_direction and directions is None:
            raise ValueError("this field's colour depends on the ray direction: give `directions`")
        if extra is None and self.extra > 0:
            raise ValueError(f"this field's colour depends on {self.extra} more values: give `extra`")
        directions = directions if self.use_direction else None
        if not self.fuses:
            # With counts, hardly ever as many points come twice, and a compiled `plain` would be compiled each time.
            plain = self.plain if counts is None else partial(FiLMSiren.plain, self)
            return plain(points, film, directions, extra, with_gradient)
        x, film = _paired(points, film)
        towards = None if directions is None else directions.float().expand_as(x)
        network = self.fused(film, extra)
        sigma, logits, gradient = evaluate(
            *network, x * self.scale, towards, with_gradient=with_gradient, counts=counts
        )
        assert logits is not None
        return FieldOut(torch.sigmoid(logits + self._colour.bias), sigma + self.final_layer.bias, gradient)

    def plain(
        self, points: Tensor, film: Tensor, directions: Tensor | None, extra: Tensor | None, with_gradient: bool
    ) -> FieldOut:
        """The field layer by layer, for any device and type: the definition of `forward`."""
        frequency, phases = self._film(film)
        layers: list[Any] = list(self.network)  # of FiLMLayer, which the type of a ModuleList cannot say
        x = points * self.scale
        slopes: list[Tensor] = []
        for i, film_layer in enumerate(layers):
            angle = frequency[i] * film_layer.layer(x) + phases[i]
            x = torch.sin(angle)
            if with_gradient:
                slopes.append(torch.cos(angle) * frequency[i])
        sigma = self.final_layer(x)

        gradient = None
        if with_gradient:
            gradient = self.final_layer.weight * slopes[-1]
            for film_layer, slope in zip(layers[:0:-1], slopes[-2::-1], strict=True):
                gradient = (gradient @ film_layer.layer.weight) * slope
            gradient = gradient @ layers[0].layer.weight

        inputs = [x]
        if directions is not None:
            inputs.insert(0, directions)
        if extra is not None:
            inputs.append(extra[:, None].expand(-1, x.shape[1], -1))
        colour = self.color_layer_sine(torch.cat(inputs, -1), frequency[-1], phases[-1])
        return FieldOut(torch.sigmoid(self.color_layer_linear(colour)), sigma, gradient)

    def sigma(self, points: Tensor, film: Tensor) -> Tensor:
        """The raw density (B, M, 1) alone, at half the work of `forward`."""
        if self.fuses:
            x, film = _paired(points, film)
            return evaluate(*self.fused(film, None), x * self.scale, with_colour=False).sigma + self.final_layer.bias
        x = points * self.scale
        for layer, frequency, phase in zip(self.network, *self._film(film), strict=False):
            x = layer(x, frequency, phase)
        out: Tensor = self.final_layer(x)
        return out

    @property
    def fuses(self) -> bool:
        """Whether `sines.fused` computes this field: in float32, on a CPU, or on a GPU if Triton works there.

        It reads the layers' weights and does not call the layers, so `plain` computes what hooks, pruning, adapters or
        quantisation have changed, and what torch.compile, torch.jit.trace or torch.func look into. On a GPU a compiled
        `plain` is taken as asked for.
        """
        looked_into = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
        if looked_into or torch._C._are_functorch_transforms_active():
            return False
        parts = (self.network, self.final_layer, self.color_layer_sine, self.color_layer_linear)
        if not all(_is_as_built(module) for part in parts for module in part.modules()):
            return False
        weight = self.final_layer.weight
        compiled = "plain" in vars(self) and weight.device.type != "cpu"
        return not compiled and weight.dtype == torch.float32 and has_kernels(weight.device)

    def fused(self, film: Tensor, extra: Tensor | None) -> tuple[SineNetwork, Film]:
        """The fields of B codes (B, 2 * width), with `extra` (B, E), as `evaluate` takes them."""
        frequencies, phases = ([part[:, 0].float().contiguous() for part in parts] for parts in self._film(film))
        layers: list[nn.Linear] = [layer.layer for layer in cast(Any, [*self.network, self.color_layer_sine])]
        biases = [layer.bias.expand(len(film), -1) for layer in layers]
        towards, width = 3 if self.use_direction else 0, self.final_layer.in_features
        direction, features, condition = layers[-1].weight.tensor_split((towards, towards + width), 1)
        if extra is not None:
            biases[-1] = biases[-1] + extra.float() @ condition.mT
        plain = Weights(
            layers[0].weight.mT,
            direction.mT if towards else None,
            [*(layer.weight for layer in layers[1:-1]), features],
        )
        scaled = Weights(
            plain.points * frequencies[0][:, None],
            None if plain.directions is None else plain.directions * frequencies[-1][:, None],
            [weight * f[:, :, None] for weight, f in zip(plain.layers, frequencies[1:], strict=True)],
        )
        angles = [f * b + p for f, b, p in zip(frequencies, biases, phases, strict=True)]
        network = SineNetwork(self.final_layer.weight, self._colour.weight, scaled, angles)
        values = (
            [v.detach().clone(memory_format=torch.contiguous_format) for v in vectors]  # apart from codes and biases
            for vectors in (biases, frequencies, phases)
        )
        return network, Film(_detached(plain), *values)

    @property
    def _colour(self) -> nn.Linear:
        return cast(nn.Linear, self.color_layer_linear[0])

    def _film(self, film: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Frequencies and phases of each layer, (B, 1, H) each."""
        raw_frequency, phase = film[:, None].chunk(2, dim=-1)
        n = len(self.network) + 1
        return (raw_frequency * 15 + 30).chunk(n, dim=-1), phase.chunk(n, dim=-1)


def _is_as_built(module: nn.Module) -> bool:
    hooks = (
        module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks
    )  # fmt: skip
    return type(module) in (nn.ModuleList, nn.Sequential, FiLMLayer, nn.Linear) and not any(hooks)


def _paired(points: Tensor, film: Tensor) -> tuple[Tensor, Tensor]:
    """Points and codes in single precision, of B objects each where one of them is of one for all."""
    b = len(film) if len(points) == 1 else len(points)  # torch.broadcast_shapes would import sympy for a second
    return points.float().expand(b, -1, -1), film.float().expand(b, -1)


def _detached(weights: Weights) -> Weights:
    points, directions, layers = weights
    return Weights(
        points.detach().contiguous(),
        None if directions is None else directions.detach().contiguous(),
        [layer.detach().contiguous() for layer in layers],
    )
