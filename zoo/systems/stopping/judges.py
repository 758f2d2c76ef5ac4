"""How good a generator is, read from images that training never sees. All readings are better when they are smaller."""

import copy
import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...geometry import Camera, Light
from ...images import resize
from ...metrics.distributions import squared_mmd
from ...networks.disc_blocks import OneSize, traced
from ..adversarial import AdversarialSystem
from ..base import TrainingSystem
from ..photometric import rebuilt

SAMPLES, _TOGETHER = 64, 16


class Judge(Protocol):
    """Reads the average of a system's generator.

    Attributes:
        name: Stands in logs and cards.
    """

    name: str

    def __call__(self, system: TrainingSystem, images: Tensor) -> float:
        """Compare it with the images held back (N, 3, S, S) in [-1, 1], of the size that is trained at."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that a resumed run reads as before."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class KernelJudge:
    """The kernel distance (KID) of 64 fixed samples, in features of the discriminator as the run found it.

    Inception's features need a file that not everybody has, and those of the face mesh know no colours and nothing but
    faces. The discriminator that came with the weights is always there, knows the kind of pictures and their size, and
    is kept as it was: the one that learns would know the training images by heart, and move from reading to reading.
    Without weights it is untrained, which serves, too (Naeem et al. 2020). The features are means and deviations of
    the maps of all its layers: ten pictures tell these, while they are too few for features that know places. The same
    images, latents, poses and lights stand behind each reading, so that only the generator differs between two.
    """

    name = "KID in features of the first discriminator"

    def __init__(self, system: AdversarialSystem) -> None:
        self.critic = copy.deepcopy(system.discriminator).eval().requires_grad_(False)

    def __call__(self, system: TrainingSystem, images: Tensor) -> float:
        assert isinstance(system, AdversarialSystem)
        if len(images) < 2:
            fix = "give more pictures, hold a larger share back (data.holdout), or use trainer.patience=0"
            raise ConfigError(f"trainer.patience={system.run.trainer.patience}: 1 image is held back; {fix}")
        size = system.seen_size or images.shape[-1]  # a discriminator of patches takes whole images of a patch's size
        real, fake = (self._features(resize(x, size), system) for x in (images, samples(system, images.shape[-1])))
        scale = real.square().mean().sqrt().clamp_min(1e-8)
        return squared_mmd(real / scale, fake / scale)

    def _features(self, images: Tensor, system: AdversarialSystem) -> Tensor:
        """Means and deviations of all maps, (N, D)."""
        self.critic.to(images.device)
        together = self.critic.group if isinstance(self.critic, OneSize) and self.critic.group > 1 else _TOGETHER
        return torch.cat([_statistics(self.critic, part) for part in images.split(together)])

    def state_dict(self) -> dict[str, Any]:
        return dict(self.critic.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.critic.load_state_dict(state)


class RebuildJudge:
    """How far photographs are from what the method makes of them: the mean L1 where it shows an object."""

    name = "L1 of reconstructions"

    @torch.no_grad()
    def __call__(self, system: TrainingSystem, images: Tensor) -> float:
        off, seen = 0.0, 0.0
        for part in images.split(_TOGETHER):
            rgb, mask = rebuilt(system.ema.average, part)
            off += float(((rgb - part).abs() * mask).mean(1).sum())
            seen += float(mask.sum())
        return off / seen if seen else math.inf  # where nothing is shown, nothing is wrong

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def judge_of(system: TrainingSystem) -> Judge:
    """The judge that suits a training regime."""
    return KernelJudge(system) if isinstance(system, AdversarialSystem) else RebuildJudge()


@torch.no_grad()
def samples(system: AdversarialSystem, size: int) -> Tensor:
    """Fixed objects from fixed cameras under fixed lights, as the average of the generator shows them now."""
    g, source = system.averaged(), torch.Generator().manual_seed(system.run.seed)
    latents = g.latents(SAMPLES, seed=system.run.seed)
    scene = system.run.data.scene
    camera = Camera.at(system.poses.sample(SAMPLES, source), fov=scene.fov, size=size, radius=scene.radius)
    camera, light = camera.to(g.device), Light(system.lights.sample(SAMPLES, source)).to(g.device)
    sampling = g.search_sampling()
    rows = torch.arange(SAMPLES).split(_TOGETHER)
    return torch.cat([g(latents[r], camera[r], light[r] if g.uses_light else None, sampling).rgb for r in rows])


def _statistics(critic: nn.Module, images: Tensor) -> Tensor:
    maps = [out.flatten(2) for _, _, out in traced(critic, images) if out.shape[-1] > 1]
    return torch.cat([torch.cat([x.mean(2), x.std(2)], 1) for x in maps], 1)
