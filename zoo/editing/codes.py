"""Inner codes of generators: the space they fill, truncation, and mixing two of them layer by layer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError
from ..generators.base import Generator, Latents
from ..runtime import draws

_DIRECTIONS = 256
_DRAWS = 10_000
_SHAPE = 10.0  # stiffness of the layers that say the shape


@dataclass(frozen=True)
class CodeSpace:
    """Axes of a generator's codes, in which its own codes have about unit deviations.

    Attributes:
        mean: (1, ...) is the average code.
        axes: (K, D) has orthonormal rows; D is the number of numbers in a code. None: each number is an axis.
        deviations: (K,) is the standard deviation along each axis.
        stiffness: (K,) says how strongly a search holds each axis to the average, where 1 is as its deviation tells.
    """

    mean: Tensor
    axes: Tensor | None
    deviations: Tensor
    stiffness: Tensor

    @classmethod
    def of(cls, generator: Generator) -> "CodeSpace":
        """The generator's own objects: the 256 principal axes of 10,000 fixed codes (GANSpace, 2020)."""
        with torch.no_grad(), draws.seeded(0, generator.device):
            codes, mean = _drawn(generator), generator.average_code()
            _, values, axes = torch.pca_lowrank(codes - mean.flatten(1), min(_DIRECTIONS, codes.shape[1]), center=False)
        kept = values > 1e-6 * values[0]  # a code may have fewer directions than numbers
        deviations = values[kept] / _DRAWS**0.5
        return cls(mean, axes.T[kept], deviations, torch.ones_like(deviations))

    @classmethod
    def free(cls, generator: Generator) -> "CodeSpace":
        """All codes, also those that the generator never draws: each number moves in units of its own deviation.

        A mapping network fills few dimensions: two axes hold 85 % of the variance of the 512 numbers of
        `shadegan.photos32`. A person's features lie outside (Abdal et al. 2019: W+; Pan et al. 2021: FiLM codes).

        One photograph tells colours, but hardly any depth. So layers that say the shape are held harder than those
        that only colour it: else faces are bent until their shading looks like the photograph's.
        """
        with torch.no_grad(), draws.seeded(0, generator.device):
            deviations = _drawn(generator).std(0)
        average = generator.average_code()
        deviations = deviations.clamp_min(1e-3 * deviations.mean())
        return cls(average, None, deviations, _stiffness(generator, average).flatten())

    def code(self, weights: Tensor) -> Tensor:
        """Codes (B, ...) at positions (B, K), where 0 is the average and 1 is one deviation."""
        moves = weights * self.deviations
        moves = moves if self.axes is None else moves @ self.axes
        return self.mean + moves.view(-1, *self.mean.shape[1:])

    def weights(self, code: Tensor) -> Tensor:
        """Positions (B, K) of codes (B, ...)."""
        moves = (code - self.mean).flatten(1)
        return (moves if self.axes is None else moves @ self.axes.T) / self.deviations


def _stiffness(generator: Generator, code: Tensor) -> Tensor:
    """How hard each number of a code (1, ...) is held."""
    stiffness = torch.ones_like(code)
    if generator.shape_layers:
        layers = generator.split_code(stiffness).clone()
        layers[:, : generator.shape_layers] = _SHAPE
        stiffness = generator.join_code(layers)
    return stiffness


def _drawn(generator: Generator) -> Tensor:
    """Codes (10000, D) that the generator draws; the global random state decides which."""
    out: Tensor = generator.mapping(torch.randn(_DRAWS, generator.config.z_dim).to(generator.device))
    return out.flatten(1)


def at(generator: Generator, code: Tensor) -> Latents:
    """The objects that have the inner codes (B, ...)."""
    return Latents(torch.zeros(len(code), generator.config.z_dim, device=code.device), code=code)


def truncate(generator: Generator, latents: Latents, psi: float) -> Latents:
    """Move objects towards the average one: psi 1 leaves them as they are, 0 gives the average.

    Unlike `Latents.psi`, this also moves objects whose code was optimised.

    Raises:
        ConfigError: The method has no average object.
    """
    if psi == 1:
        return latents
    _need_codes(generator)
    average = generator.average_code()
    return at(generator, average + psi * (generator.code(latents) - average))


def layer_count(generator: Generator) -> int:
    """How many layers of a generator have a code of their own.

    Raises:
        ConfigError: None has.
    """
    generator.need_layers()
    return generator.code_layers


def mix(generator: Generator, first: Latents, second: Latents, layers: int) -> Latents:
    """Mix styles (Karras et al. 2019): the first `layers` layers are those of `first`, the rest those of `second`.

    Raises:
        ConfigError: The method feeds one code to all its layers, or has fewer than `layers`.
    """
    count = layer_count(generator)
    if not 0 <= layers <= count:
        raise ConfigError(f"layers={layers}: {generator.name} has {count}; use 0 to {count}")
    one, other = (generator.split_code(generator.code(latents)) for latents in (first, second))
    return at(generator, generator.join_code(torch.cat([one[:, :layers], other[:, layers:]], 1)))


def between(generator: Generator, objects: Latents, frames: int) -> Latents:
    """`frames` objects along straight lines in code space, from each of the objects to the next, ends included.

    Raises:
        ConfigError: There are fewer than two objects or fewer frames than objects, or the objects are photographs.
    """
    _need_codes(generator)
    legs = len(objects) - 1
    if legs < 1 or frames <= legs:
        raise ConfigError(f"{len(objects)} objects and frames={frames}: give 2 objects or more, and a frame for each")
    return at(generator, path(generator.code(objects), frames))


def path(stops: Tensor, frames: int) -> Tensor:
    """`frames` points on straight lines from each of two or more stops (N, ...) to the next, ends included."""
    legs = len(stops) - 1
    where = torch.linspace(0, legs, frames, device=stops.device)
    start = where.long().clamp_max(legs - 1)
    share = (where - start).view(-1, *[1] * (stops.ndim - 1))
    return torch.lerp(stops[start], stops[start + 1], share)


def _need_codes(generator: Generator) -> None:
    if not generator.interpolates:
        raise ConfigError(f"{generator.title} draws its objects from photographs; nothing lies between two of them")
