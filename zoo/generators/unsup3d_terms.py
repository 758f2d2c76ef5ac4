"""What `unsup3d` can do beyond the paper: a shape to start from, and terms of its loss. All of it is off by default.

Reconstruction alone leaves three questions open: how deep the relief is; how much of what a photograph shows belongs to
the object and how much to the viewpoint; and on which side of the surface the viewer stands. The scene's prior of
poses, comparisons over many photographs, a second look at each object and an ellipsoid to start from settle them.
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
from ..runtime.workers import outside_autocast

if TYPE_CHECKING:
    from .unsup3d import Prediction, Unsup3D

_WIDTH, _HEIGHT = 0.65, 0.9  # half the axes of the ellipsoid, in halves of the map
OVER_VIEWS = ("rigid_weight", "cycle_weight")  # weights of the terms that compare views


@dataclass
class TermsConfig:
    """Weights of the terms, and the shape that training starts from."""

    depth_prior: str = "none"  # none | ellipsoid: the depth network's output is added to it, so that faces stand out
    pose_weight: float = 0.0  # weighs the distance from the poses that the scene's prior expects
    rigid_weight: float = 0.0  # weighs canonical depth and albedo that change with the viewpoint
    cycle_weight: float = 0.0  # weighs errors in taking apart its own renders, whose parts are known
    rigid_kimg: float = 0.0  # these two count after so many thousand images

    def check_terms(self, pose: PoseConfig) -> None:
        """Refuse values that have no meaning, alone or for this distribution of poses.

        Raises:
            ConfigError: A value is unknown or negative, or needs poses that vary.
        """
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
        model: Has the weights in its Config.
        p: Is a prediction, whose first `n` rows are the photographs as they are.
        n: Is the number of photographs.
        kimg: Says how many thousand images have been seen so far.
        average: Keeps the running covariances of `rigid_loss`.
    """
    c = model.config
    if c.pose_weight > 0:
        yield "pose", c.pose_weight, pose_loss(model, p.view[:n])
    if kimg < c.rigid_kimg:
        return
    with outside_autocast(p.view.device):  # half precision has steps of 0.4 % in depth
        rigid = (
            rigid_loss(model, p.canonical_depth[:n], p.albedo[:n], p.view[:n], average) if c.rigid_weight > 0 else None
        )
        cycle = cycle_loss(model, p, n) if c.cycle_weight > 0 else None
    if rigid is not None:
        yield "rigid", c.rigid_weight, rigid
    if cycle is not None:
        yield "cycle", c.cycle_weight, cycle


def pose_moments(pose: PoseConfig) -> Tensor:
    """Mean and deviation of pitch and yaw under a prior, (2, 2)."""
    poses = pose_prior(pose).sample(10_000, torch.Generator().manual_seed(0))
    return torch.stack([poses.mean(0), poses.std(0)])


def pose_loss(model: "Unsup3D", view: Tensor) -> Tensor:
    """How far the spread of pitch and yaw in a batch of viewpoints (B,6) is from the scene's prior, which has no roll.

    A flatter object that turns further looks nearly the same (the bas-relief ambiguity), so reconstruction alone
    leaves the scale of the relief open. The term is not in the paper; the adversarial methods know the same prior.
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
    """How much canonical depth (B,1,S,S) and albedo (B,3,S,S) vary with the pitch and yaw of viewpoints (B,6).

    This is the squared covariance over many photographs: depth in units of its range, the mean of albedo's channels,
    angles in deviations of the scene's prior. One photograph leaves open how much of what it shows belongs to the
    object and how much to the viewpoint; over many photographs, objects do not depend on the camera. Depth gives way
    where it follows the viewpoint, and the viewpoint where it follows the albedo: a head with a low chin is not one
    that nods.

    Args:
        model: Has the range of depth and the prior of poses.
        depth: Is that of a batch, as are `albedo` and `view`.
        albedo: Counts by the mean of its channels.
        view: Counts by its pitch and yaw.
        average: Takes in the batch's covariances (2,2,S,S) and returns those over many batches. By default the batch
            stands alone; its covariances are then far from 0 by chance.

    Raises:
        ConfigError: The batch has fewer than 2 photographs.
    """
    model.need_batch(len(depth))
    c = model.config
    depth, bright = depth / (c.max_depth - c.min_depth), albedo.mean(1, keepdim=True)
    turns = view[:, :2] / model.pose_moments[1]
    batch = torch.stack([covariance(turns.detach(), depth), covariance(turns, bright.detach())])
    known = average(batch.detach())
    # The second part is 0. Its gradient is that of a square at `known`, as if all batches changed with this one.
    return (known.square() + 2 * known * (batch - batch.detach())).mean((2, 3)).sum()


def cycle_loss(model: "Unsup3D", p: "Prediction", n: int) -> Tensor:
    """How badly the first `n` objects of a prediction are recognised in a second look.

    Each is shown under the light and from the viewpoint of its neighbour in the batch, and taken apart again. The loss
    sums mean absolute differences of depth, albedo, light and turns, in units of their ranges; translations are not
    compared. Gradients reach the second look alone, whose answers are known.

    Reconstruction never sees one object twice, so it does not notice when relief is flatter, or leans the other way, in
    another view. The term is not in the paper; GAN2Shape's joint step does the same with a GAN's drawings.
    """
    c = model.config
    depth, albedo = p.canonical_depth[:n].detach(), p.albedo[:n].detach()
    light, view = p.light.params[:n].detach().roll(1, 0), p.view[:n].detach().roll(1, 0)
    with torch.no_grad():
        canonical = dm.shaded(albedo, dm.map_shading(p.normal[:n], Light(light)))
        _, valid, grid = model.seen(depth, view)
        shown = torch.where(valid, dm.sample(canonical, grid).clamp(-1, 1), -1.0)
    again = model.light(model.netL(shown)).params, model.viewpoint(model.netV(shown))
    out: Tensor = (
        (model.canonical_depth(shown) - depth).abs().mean() / (c.max_depth - c.min_depth)
        + (model.netA(shown) - albedo).abs().mean() / 2
        + (again[0] - light).abs().mean() / 2
        + (again[1] - view)[:, :3].abs().mean() / math.radians(c.rotation_range)
    )
    return out


def covariance(numbers: Tensor, maps: Tensor) -> Tensor:
    """Covariance (K,S,S) of K numbers (B,K) with each pixel of maps (B,1,S,S), over a batch of 2 or more."""
    return torch.einsum("bk,byx->kyx", numbers - numbers.mean(0), maps[:, 0]) / (len(maps) - 1)


def ellipsoid_prior(size: int, bulge: float = 1.1) -> Tensor:
    """The shift (1, 1, size, size) by which a depth network's output of 0 shows half an ellipsoid before a plane.

    From a flat start faces are pressed inwards as easily as they stand out, and a flat surface looks the same from both
    sides, so viewpoints cannot be told apart either. GAN2Shape starts from an ellipsoid for the same reason.

    Args:
        size: Is the side in pixels.
        bulge: Says how far it stands out, in halves of the depth range.
    """
    unit = 0.4 - bulge * _within(size).clamp_min(0).sqrt()
    return unit.atanh()[None, None]


def ellipsoid_outline(size: int) -> Tensor:
    """The pixels (size, size), bool, that `ellipsoid_prior` covers."""
    return _within(size) > 0


def _within(size: int) -> Tensor:
    """The squared height (size, size) of a unit sphere that is pressed into the outline; below 0 around it."""
    axis = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(axis / _HEIGHT, axis / _WIDTH, indexing="ij")
    return 1 - x.square() - y.square()
