"""Distributions from which cameras and lights are drawn during training."""

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from .config.fill import to_dict
from .config.prior_files import read_prior
from .config.schemas import DISTRIBUTIONS, LightConfig, NormalConfig, PoseConfig
from .errors import ConfigError, DataError, unknown
from .runtime import draws
from .runtime.files import atomic_write
from .runtime.pickles import read_plain
from .runtime.workers import outside_autocast


@dataclass(frozen=True)
class PosePrior:
    """Viewing angles, in radians from frontal (pi-GAN's own angles minus pi/2).

    Attributes:
        distribution: "gaussian"; "truncated_gaussian" (redrawn outside two standard deviations); "uniform" (mean +-
            std); "hybrid" (one coin toss for the whole call: gaussian, or uniform of twice the width);
            "spherical_uniform" (yaw uniform, pitch uniform in the cosine of the polar angle); or "fixed" (always the
            means). All are drawn as pi-GAN's `sample_camera_positions` draws them.
        yaw_mean, yaw_std: Mean and spread of the yaw; positive yaw turns the head to its left.
        pitch_mean, pitch_std: Mean and spread of the pitch; positive pitch raises the chin.

    Raises:
        ConfigError: The distribution is unknown, or a standard deviation is negative.
    """

    distribution: str = "gaussian"
    yaw_mean: float = 0.0
    yaw_std: float = 0.3
    pitch_mean: float = 0.0
    pitch_std: float = 0.155

    def __post_init__(self) -> None:
        if self.distribution not in DISTRIBUTIONS:
            raise ConfigError(unknown("pose.distribution", self.distribution, DISTRIBUTIONS))
        for name in ("yaw_std", "pitch_std"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"pose.{name}={value}: a standard deviation must be 0 or more")

    @property
    def yaw_reach(self) -> float:
        """How far from its mean the yaw is drawn, in radians; two standard deviations where nothing bounds it."""
        widths = {"uniform": 1, "spherical_uniform": 1, "fixed": 0}
        return min(widths.get(self.distribution, 2) * self.yaw_std, math.pi)

    @classmethod
    def fit(cls, poses: Tensor) -> "PosePrior":
        """Fit a Gaussian to (N, 2) pitch and yaw in radians.

        Raises:
            ConfigError: The poses have another shape, or N is below 2.
        """
        if poses.ndim != 2 or poses.shape[1] != 2 or len(poses) < 2:
            raise ConfigError(f"poses must be (N, 2) with N >= 2, got {tuple(poses.shape)}")
        (pitch_mean, yaw_mean), (pitch_std, yaw_std) = poses.double().mean(0).tolist(), poses.double().std(0).tolist()
        return cls("gaussian", yaw_mean, yaw_std, pitch_mean, pitch_std)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw (n, 2) float32 pitch and yaw in radians on the generator's device."""
        device = generator.device
        mean = torch.tensor([self.pitch_mean, self.yaw_mean], device=device)
        std = torch.tensor([self.pitch_std, self.yaw_std], device=device)

        def normal(*tries: int) -> Tensor:
            return draws.randn(n, 2, *tries, generator=generator, device=device)

        def uniform() -> Tensor:
            return draws.rand(n, 2, generator=generator, device=device) * 2 - 1

        match self.distribution:
            case "gaussian":
                return mean + normal() * std
            case "truncated_gaussian":
                tries = normal(4)
                first = (tries.abs() < 2).int().argmax(-1, keepdim=True)
                return mean + tries.gather(-1, first)[..., 0] * std
            case "uniform":
                return mean + uniform() * std
            case "hybrid":
                coin = torch.rand((), generator=generator, device=device) < 0.5
                return mean + (uniform() * 2 if coin else normal()) * std
            case "spherical_uniform":
                draw = uniform()
                share = (draw[:, 0] * self.pitch_std + self.pitch_mean + math.pi / 2) / math.pi
                polar = torch.arccos(1 - 2 * share.clamp(1e-5, 1 - 1e-5))
                return torch.stack([polar - math.pi / 2, self.yaw_mean + draw[:, 1] * self.yaw_std], -1)
            case _:
                return mean.expand(n, 2).clone()


def pose_prior(config: PoseConfig) -> PosePrior:
    """The distribution that a configuration describes.

    Raises:
        ConfigError: See `PosePrior`.
    """
    return PosePrior(**to_dict(config))


class NormalPrior:
    """A multivariate normal distribution of `SIZE` numbers.

    Args:
        mean: The mean, (SIZE,).
        cov: The covariance, (SIZE, SIZE): symmetric, without negative eigenvalues.

    Raises:
        ConfigError: A shape is wrong, a number is not finite, or `cov` is not a covariance.
    """

    KIND: ClassVar[str]  # for messages: what is distributed
    SIZE: ClassVar[int]

    def __init__(self, mean: Tensor, cov: Tensor) -> None:
        kind, size = self.KIND, self.SIZE
        if mean.shape != (size,) or cov.shape != (size, size):
            shapes = f"{tuple(mean.shape)} and {tuple(cov.shape)}"
            raise ConfigError(f"{kind}: mean and cov must be ({size},) and ({size}, {size}), got {shapes}")
        self.mean, self.cov = mean.detach().cpu().float(), cov.detach().cpu().float()
        if not (self.mean.isfinite().all() and self.cov.isfinite().all()):
            raise ConfigError(f"{kind}: mean and cov must be finite")
        values, vectors = torch.linalg.eigh(self.cov.double())
        if not torch.allclose(self.cov, self.cov.T, atol=1e-6) or values.min() < -1e-6:
            raise ConfigError(f"{kind}.cov must be symmetric and without negative eigenvalues")
        # Unlike a Cholesky factor, this one also exists for flat distributions (a light that never changes).
        self._factor = (vectors * values.clamp(min=0).sqrt()).float()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw (n, SIZE) float32 numbers on the generator's device."""
        device = generator.device
        noise = draws.randn(n, self.SIZE, generator=generator, device=device)
        with outside_autocast(device):
            out: Tensor = self.mean.to(device) + noise @ self._factor.to(device).T
        return out

    @classmethod
    def fit(cls, samples: Tensor) -> Self:
        """Fit the mean and the covariance of (N, SIZE) samples.

        Raises:
            ConfigError: The samples have another shape, or N is below 2.
        """
        if samples.ndim != 2 or samples.shape[1] != cls.SIZE or len(samples) < 2:
            shape = tuple(samples.shape)
            raise ConfigError(f"{cls.KIND}s must be (N, {cls.SIZE}) with N >= 2, got {shape}")
        return cls(samples.float().mean(0), torch.cov(samples.double().T))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read `mean` and `cov` from a .json, a .npz or a .pth of the official releases (tensors only, no code).

        Raises:
            DataError: The file is missing or damaged, or lacks one of the two entries.
            ConfigError: The entries are not a mean and a covariance.
        """
        path = Path(path)
        if path.suffix not in (".json", ".npz", ".pth", ".pt"):
            raise DataError(f"{path}: a {cls.KIND} prior is a .json, .npz or .pth file")
        values = _official(path, cls.KIND) if path.suffix in (".pth", ".pt") else read_prior(cls.KIND, path)
        try:
            mean, cov = (torch.as_tensor(values[key], dtype=torch.float32) for key in ("mean", "cov"))
        except (TypeError, ValueError) as error:  # not numbers, or rows of different lengths
            raise DataError(f"{path}: not a {cls.KIND} prior ({error})") from error
        return cls(mean, cov)

    def save(self, path: str | Path) -> Path:
        """Write `mean` and `cov` as .json or .npz, and return the path.

        Raises:
            DataError: The path has another ending.
        """
        path = Path(path)
        if path.suffix == ".json":
            content = {"mean": self.mean.tolist(), "cov": self.cov.tolist()}
            return atomic_write(path, json.dumps(content, indent=2) + "\n")
        if path.suffix == ".npz":
            buffer = io.BytesIO()
            np.savez(buffer, mean=self.mean.numpy(), cov=self.cov.numpy())
            return atomic_write(path, buffer.getvalue())
        raise DataError(f"{path}: save a {self.KIND} prior as .json or .npz")


class LightPrior(NormalPrior):
    """The distribution of lights (a, d, dx, dy), the parameters of `zoo.Light` (ShadeGAN, GAN2Shape)."""

    KIND, SIZE = "light", 4


class ViewPrior(NormalPrior):
    """The distribution of GAN2Shape's viewpoints: turns about x, y and z, then shifts.

    Both are in units of its network, where 1 is the whole range.
    """

    KIND, SIZE = "view", 6


def _official(path: Path, kind: str) -> dict[str, Tensor]:
    try:
        values = read_plain(path)
        return {key: values[key] for key in ("mean", "cov")}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except KeyError as error:
        raise DataError(f"{path}: no entry {error}; a {kind} prior has 'mean' and 'cov'") from error
    except Exception as error:  # unpickling raises many kinds of errors
        reason = str(error).split("\n")[0]
        raise DataError(f"{path}: not a {kind} prior ({reason})") from error


def light_prior(config: LightConfig) -> LightPrior:
    """The distribution that a configuration describes.

    Raises:
        ConfigError: See `NormalPrior`.
    """
    return LightPrior(*_moments("light", config))


def view_prior(config: NormalConfig) -> ViewPrior:
    """The distribution that a configuration describes.

    Raises:
        ConfigError: See `NormalPrior`.
    """
    return ViewPrior(*_moments("view", config))


def _moments(kind: str, config: LightConfig | NormalConfig) -> tuple[Tensor, Tensor]:
    try:
        return torch.tensor(config.mean), torch.tensor(config.cov)
    except ValueError as error:  # rows of different lengths
        raise ConfigError(f"{kind}: mean and cov must be a list and a list of lists: {error}") from error
