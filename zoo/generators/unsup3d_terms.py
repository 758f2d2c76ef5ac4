"""What `unsup3d` can be asked for beyond the paper: where faces start, and terms of its loss. All is off by default.

Reconstruction alone leaves open how deep the relief is, how much of what a photograph shows is the object's and how
much the viewpoint's, and on which side of the surface the viewer stands. The scene's prior of poses, comparisons over
many photographs, a second look at each object and an ellipsoid to start from settle these.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config.schemas import PoseConfig
from ..errors import ConfigError
from ..geometry import Light
from ..priors import pose_prior
from ..renderers.depthmaps import depthmap as dm

if TYPE_CHECKING:
    from .unsup3d import Prediction, Unsup3D

OVER_VIEWS = ("rigid_weight", "cycle_weight")  # of terms that compare views


@dataclass
class TermsConfig:
    """Weights of the terms, and the shape that training starts from."""

    depth_prior: str = "none"  # none | ellipsoid: what the depth network's output is added to, so that faces stand out
    pose_weight: float = 0.0  # of the distance from the poses that the scene's prior expects
    rigid_weight: float = 0.0  # of canonical depth and albedo that change with the viewpoint
    cycle_weight: float = 0.0  # of taking apart its own renders, whose parts are known
    rigid_kimg: float = 0.0  # these two count from here on

    def check_terms(self, pose: PoseConfig) -> None:
        """Refuse values that mean nothing, or nothing where poses are spread like this. Raises ConfigError."""
        if self.depth_prior not in ("none", "ellipsoid"):
            raise ConfigError(f"generator.depth_prior={self.depth_prior}: use none or ellipsoid")
        for name in ("pose_weight", *OVER_VIEWS, "rigid_kimg"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"generator.{name}={getattr(self, name)}: use 0 or more")
        still = pose.distribution == "fixed" or min(pose.pitch_std, pose.yaw_std) <= 0
        for name in ("pose_weight", "rigid_weight"):
            if still and (weight := getattr(self, name)) > 0:
                raise ConfigError(f"generator.{name}={weight}: data.scene.pose does not spread; use 0")


def own_terms(
    model: "Unsup3D", p: "Prediction", n: int, kimg: float, average: Callable[[Tensor], Tensor]
) -> Iterator[tuple[str, float, Tensor]]:
    """Name, weight and value of each term that is on.

    Args:
        model: whose Config has the weights.
        p, n: a prediction, whose first `n` rows are the photographs as they are.
        kimg: thousands of images seen so far.
        average: of `rigid_loss`.
    """
    c = model.config
    if c.pose_weight > 0:
        yield "pose", c.pose_weight, pose_loss(model, p.view[:n])
    if kimg < c.rigid_kimg:
        return
    with torch.autocast(p.view.device.type, enabled=False):  # half precision has steps of 0.4 % in depth
        rigid = (
            rigid_loss(model, p.canonical_depth[:n], p.albedo[:n], p.view[:n], average) if c.rigid_weight > 0 else None
        )
        cycle = cycle_loss(model, p, n) if c.cycle_weight > 0 else None
    if rigid is not None:
        yield "rigid", c.rigid_weight, rigid
    if cycle is not None:
        yield "cycle", c.cycle_weight, cycle


def pose_moments(pose: PoseConfig) -> Tensor:
    """(2, 2) mean and deviation of pitch and yaw under a prior."""
    poses = pose_prior(pose).sample(10_000, torch.Generator().manual_seed(0))
    return torch.stack([poses.mean(0), poses.std(0)])


def pose_loss(model: "Unsup3D", view: Tensor) -> Tensor:
    """How far the spread of pitch and yaw in a batch of viewpoints (B,6) is from the scene's prior; roll is none.

    A flatter object that turns further looks nearly the same (the bas-relief ambiguity), so reconstruction alone
    leaves the scale of the relief open. Not in the paper; the adversarial methods know the same prior.
    """
    # Turns about x and y, right-handed in the paper's frame, are zoo's pitch and yaw the other way round.
    mean, std = -model.pose_moments[0], model.pose_moments[1]
    turns, roll = (view[:, :2] - mean) / std, view[:, 2] / std[0]
    spread = (turns.var(0, correction=0) - 1).square() + turns.mean(0).square()
    return spread.sum() + roll.square().mean()


def rigid_loss(
    model: "Unsup3D",
    depth: Tensor,
    albedo: Tensor,
    view: Tensor,
    average: Callable[[Tensor], Tensor] = lambda batch: batch,
) -> Tensor:
    """How much canonical depth (B,1,S,S) and albedo (B,3,S,S) go along with the pitch and yaw of viewpoints (B,6).

    The squared covariance over many photographs: depth in units of its range, the mean of albedo's channels, angles
    in deviations of the scene's prior. One photograph leaves open how much of what it shows is the object's and how
    much the viewpoint's; over many, objects know nothing of the camera. Depth gives way where it follows the
    viewpoint, and the viewpoint where it follows the albedo: a head with a low chin is not one that nods.

    Args:
        model: with the range of depth and the prior of poses.
        depth, albedo, view: of a batch.
        average: takes the batch's covariances (2,2,S,S) in, and gives those over many batches. By default the batch
            stands alone; by chance its covariances are far from 0.

    Raises:
        ConfigError: fewer than 2 photographs.
    """
    model.need_batch(len(depth))
    c = model.config
    depth, bright = depth / (c.max_depth - c.min_depth), albedo.mean(1, keepdim=True)
    turns = view[:, :2] / model.pose_moments[1]
    batch = torch.stack([covariance(turns.detach(), depth), covariance(turns, bright.detach())])
    known = average(batch.detach())
    # The second part is 0. Its slope is that of a square at `known`, as if all batches changed with this one.
    return (known.square() + 2 * known * (batch - batch.detach())).mean((2, 3)).sum()


def cycle_loss(model: "Unsup3D", p: "Prediction", n: int) -> Tensor:
    """How well the first `n` objects of a prediction are found again when each is shown under the light and from
    the viewpoint of its neighbour in the batch: mean absolute differences of depth, albedo, light and viewpoint,
    in units of their ranges, summed. Gradients reach the second look alone, whose answers are known.

    Reconstruction never sees one object twice, so it does not notice when relief is flatter, or leans the other
    way, in another view. Not in the paper; GAN2Shape's joint step does the same with a GAN's drawings.
    """
    c = model.config
    depth, albedo = p.canonical_depth[:n].detach(), p.albedo[:n].detach()
    light, view = p.light.params[:n].detach().roll(1, 0), p.view[:n].detach().roll(1, 0)
    with torch.no_grad():
        canonical = dm.shaded(albedo, dm.map_shading(p.normal[:n], Light(light)))
        _, valid, grid = model.seen(depth, view)
        shown = torch.where(valid, dm.sample(canonical, grid).clamp(-1, 1), -1.0)
    again = model.light(model.netL(shown)).params, model.viewpoint(model.netV(shown))
    return (
        (model.canonical_depth(shown) - depth).abs().mean() / (c.max_depth - c.min_depth)
        + (model.netA(shown) - albedo).abs().mean() / 2
        + (again[0] - light).abs().mean() / 2
        + (again[1] - view)[:, :3].abs().mean() / math.radians(c.rotation_range)
    )


def covariance(numbers: Tensor, maps: Tensor) -> Tensor:
    """(K,S,S) of K numbers (B,K) with each pixel of maps (B,1,S,S), over a batch of 2 or more."""
    return torch.einsum("bk,byx->kyx", numbers - numbers.mean(0), maps[:, 0]) / (len(maps) - 1)


def ellipsoid_prior(size: int, width: float = 0.65, height: float = 0.9, bulge: float = 1.1) -> Tensor:
    """(1, 1, size, size) what a depth network's output 0 is shifted by to show half an ellipsoid before a plane.

    A flat start lets faces be pressed inwards as easily as stand out, and a flat surface looks the same from both
    sides, so viewpoints cannot be told apart either. GAN2Shape starts from an ellipsoid for the same reason.

    Args:
        size: side in pixels.
        width, height: half axes, in halves of the map.
        bulge: how far it stands out, in halves of the depth range.
    """
    axis = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(axis / height, axis / width, indexing="ij")
    unit = 0.4 - bulge * (1 - x.square() - y.square()).clamp_min(0).sqrt()
    return unit.atanh()[None, None]
