"""Image discriminators of pi-GAN (Chan et al. 2021), ShadeGAN (Pan et al. 2021) and GOF (Xu et al. 2021).

Every network works on any power-of-two image side up to its `max_size`: the side of the batch picks the level
at which the image enters, so one network serves a whole progressive-growing schedule. Names of modules and
parameters, and at the default sizes their shapes, are those of the official checkpoints.
"""

import inspect
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import ConfigError, unknown
from .disc_blocks import (
    POSE_DIM,
    CoordStridedBlock,
    DiscOut,
    FromRGB,
    ProgressiveBlock,
    StridedBlock,
    check_images,
    check_max_size,
)
from .patch_discriminator import PatchDiscriminator
from .plain_discriminator import PlainDiscriminator
from .stylegan2 import StyleDiscriminator

LIGHT_DIM = 4


class GrowingDiscriminator(nn.Module):
    """Levels of max_size, max_size / 2, ..., 2 px, with a block between each two, and heads on the last 2x2 map.

    The defaults give the official network.

    Args:
        max_size: Largest image side; finer levels are not built.
        channels: Widths of the levels from 2**len(channels) px down to 2 px.
        width: Factor on every width.
        latent_dim: Length of z; with it, z and pose are also estimated.

    Raises:
        ConfigError: `max_size` is not a power of two within the table of channels.
    """

    block: ClassVar[type[nn.Module]]  # (channels in, channels out)
    official_channels: ClassVar[tuple[int, ...]]

    def __init__(
        self,
        *,
        max_size: int | None = None,
        channels: Sequence[int] | None = None,
        width: float = 1.0,
        latent_dim: int | None = None,
    ) -> None:
        super().__init__()
        table = tuple(channels or self.official_channels)
        self.max_size = check_max_size(max_size or 1 << len(table), 4, 1 << len(table))
        levels = self.max_size.bit_length() - 1
        widths = [max(1, round(c * width)) for c in table[-levels:]]
        self.latent_dim = latent_dim
        self.layers = nn.ModuleList(type(self).block(i, o) for i, o in pairwise(widths))
        self.fromRGB = nn.ModuleList(FromRGB(c) for c in widths)
        self.final_layer = nn.Conv2d(widths[-1], 1 if latent_dim is None else 1 + latent_dim + POSE_DIM, 2)

    def features(self, images: Tensor, alpha: float = 1.0) -> Tensor:
        """The (B, C, 2, 2) map under the heads; arguments and errors as in `forward`."""
        start = (self.max_size // check_images(images, 2, self.max_size)).bit_length() - 1
        x: Tensor = self.fromRGB[start](images)
        for index, layer in enumerate(self.layers[start:]):
            if index == 1 and alpha < 1.0:  # the official fade: before the second block, against the older entrance
                x = torch.lerp(self.fromRGB[start + 1](images[..., ::2, ::2]), x, alpha)
            x = layer(x)
        return x

    def forward(self, images: Tensor, alpha: float = 1.0) -> DiscOut:
        """Judge images.

        Args:
            images: (B, 3, S, S) in [-1, 1], S a power of two from 2 to `max_size`.
            alpha: Weight in [0, 1] of the newest level while it fades in, and 1 otherwise.

        Raises:
            ValueError: The images have another shape.
        """
        return self.read_out(self.features(images, alpha))

    def read_out(self, features: Tensor) -> DiscOut:
        """Apply the heads to the last map (B, C, 2, 2)."""
        out = self.final_layer(features).flatten(1)
        if self.latent_dim is None:
            return DiscOut(out[:, 0])
        score, latent, pose = out.split([1, self.latent_dim, POSE_DIM], dim=1)
        return DiscOut(score[:, 0], latent, pose)

    def own_part(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The part of the state of a discriminator with another `max_size` that this one can take over.

        Layers are numbered from the finest. Layers finer than this network's are left out, and so are heads for codes
        that it lacks.
        """
        own, out = self.state_dict(), {}
        shift = len(self.fromRGB) - sum(key.startswith("fromRGB.") and key.endswith(".weight") for key in state)
        for key, value in state.items():
            kind, _, rest = key.partition(".")
            if kind in ("layers", "fromRGB"):
                number, _, rest = rest.partition(".")
                if int(number) + shift >= 0:
                    out[f"{kind}.{int(number) + shift}.{rest}"] = value
            elif key in own or kind not in ("encode_layer", "freq_phase_layer"):
                out[key] = value
        return out


class ProgressiveDiscriminator(GrowingDiscriminator):
    """Pooled CoordConv blocks with a score only; officially from 512 px. See `GrowingDiscriminator` for arguments."""

    block = ProgressiveBlock
    official_channels = (16, 32, 64, 128, 256, 400, 400, 400, 400)


class ProgressiveEncoderDiscriminator(ProgressiveDiscriminator):
    """A `ProgressiveDiscriminator` that estimates z and pose: CelebA, BFM and CARLA in pi-GAN, ShadeGAN and GOF.

    Args:
        max_size, channels, width, latent_dim: See `GrowingDiscriminator`.
        inversion: Whether to add ShadeGAN's encoder head (light, freq, phase).
        freq_phase: Whether to add GOF's head (freq, phase).
        code_dim: Length of freq and of phase, 9 * the hidden width of the generator.

    Raises:
        ConfigError: `max_size` does not fit the table of channels, or both extra heads are asked for.
    """

    def __init__(
        self,
        *,
        max_size: int | None = None,
        channels: Sequence[int] | None = None,
        width: float = 1.0,
        latent_dim: int = 256,
        inversion: bool = False,
        freq_phase: bool = False,
        code_dim: int = 2304,
    ) -> None:
        if inversion and freq_phase:
            raise ConfigError("inversion=True and freq_phase=True both predict freq and phase; choose one")
        super().__init__(max_size=max_size, channels=channels, width=width, latent_dim=latent_dim)
        self.code_dim = code_dim
        last = self.final_layer.in_channels
        self.encode_layer = nn.Conv2d(last, LIGHT_DIM + 2 * code_dim, 2) if inversion else None
        self.freq_phase_layer = nn.Conv2d(last, 2 * code_dim, 2) if freq_phase else None

    def read_out(self, features: Tensor) -> DiscOut:
        """Apply the heads to the last map (B, C, 2, 2), the extra one included."""
        out = super().read_out(features)
        if self.encode_layer is not None:
            codes = self.encode_layer(features).flatten(1)
            light, freq, phase = codes.split([LIGHT_DIM, self.code_dim, self.code_dim], dim=1)
            return out._replace(light=light, freq=freq, phase=phase)
        if self.freq_phase_layer is not None:
            freq, phase = self.freq_phase_layer(features).flatten(1).chunk(2, dim=1)
            return out._replace(freq=freq, phase=phase)
        return out


class CCSEncoderDiscriminator(GrowingDiscriminator):
    """Stride-2 CoordConv blocks that also estimate z and pose; officially from 256 px (pi-GAN on CelebA)."""

    block = CoordStridedBlock
    official_channels = (32, 64, 128, 256, 400, 400, 400, 400)

    def __init__(
        self,
        *,
        max_size: int | None = None,
        channels: Sequence[int] | None = None,
        width: float = 1.0,
        latent_dim: int = 256,
    ) -> None:
        super().__init__(max_size=max_size, channels=channels, width=width, latent_dim=latent_dim)


class StridedDiscriminator(GrowingDiscriminator):
    """Stride-2 blocks with a score only; officially from 256 px (Cats in pi-GAN and ShadeGAN)."""

    block = StridedBlock
    official_channels = CCSEncoderDiscriminator.official_channels

    def __init__(
        self, *, max_size: int | None = None, channels: Sequence[int] | None = None, width: float = 1.0
    ) -> None:
        super().__init__(max_size=max_size, channels=channels, width=width)
        # Nothing uses this layer, but official checkpoints carry it and strict loading expects it.
        self.pose_layer = nn.Linear(POSE_DIM, self.final_layer.in_channels)


class CCSDiscriminator(StridedDiscriminator):
    """A `StridedDiscriminator` with CoordConvs (pi-GAN)."""

    block = CoordStridedBlock


DISCRIMINATORS: dict[str, type[nn.Module]] = {
    "progressive": ProgressiveDiscriminator,
    "progressive_encoder": ProgressiveEncoderDiscriminator,
    "strided": StridedDiscriminator,
    "ccs": CCSDiscriminator,
    "ccs_encoder": CCSEncoderDiscriminator,
    "plain": PlainDiscriminator,
    "style": StyleDiscriminator,
    "patch": PatchDiscriminator,
}


def build_discriminator(name: str, **kwargs: Any) -> nn.Module:
    """Build a discriminator by its short name (a key of `DISCRIMINATORS`) or class name, with its arguments.

    Raises:
        ConfigError: The name is unknown, the size is not supported, or the discriminator does not take an argument.
    """
    known = DISCRIMINATORS | {cls.__name__: cls for cls in DISCRIMINATORS.values()}
    if name not in known:
        raise ConfigError(unknown("discriminator", name, known))
    taken = inspect.signature(known[name]).parameters
    if surplus := [key for key in kwargs if key not in taken]:
        hint = "; it does not estimate latents, so use system.latent_weight=0" if "latent_dim" in surplus else ""
        raise ConfigError(f"discriminator {name} takes no {', '.join(surplus)}{hint}")
    return known[name](**kwargs)
