"""Errors of what a method reads off pictures of heads: depth, and if it has them albedo and its own normals."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ...generators.base import DepthPredictor, Explainer, Generator
from ...geometry import Light, depth_to_normal
from ...metrics import angle_per_image, side_per_image
from ...metrics.shape import albedo_error, relighting_error
from .truth import Truth, plain_view, surface_of

EYES = 0.0440  # distance between the eyes of the mean head, in world units
# The three lights (a, d, dx, dy) of relighting: from the left, from the right, from above.
LIGHTS = ((-0.3, 0.3, -0.8, 0.1), (-0.3, 0.3, 0.8, 0.1), (-0.3, 0.3, 0.0, 0.8))
_CHUNK = 50


class Reading(NamedTuple):
    """What a method says about N pictures, in their own view.

    Attributes:
        depth: (N, 1, S, S) along the optical axis, above 0, in any unit.
        albedo: (N, 3, S, S) in [0, 1], up to a factor; None if the method does not tell it from light.
        view: (N, 4) what the camera was (see `zoo.heads.views`), if it is known; None stands for the plain view.
        valid: (N, 1, S, S) bool, the part of the depth whose shape counts; None stands for all of it.
    """

    depth: Tensor
    albedo: Tensor | None = None
    view: Tensor | None = None
    valid: Tensor | None = None


Reader = Callable[[Tensor], Reading]  # takes images (N, 3, S, S) in [-1, 1]


def reader_of(method: DepthPredictor | Callable[[Tensor], Tensor]) -> Reader:
    """A method with a depth network of its own, or a function from images to depth, as a `Reader`."""
    if not isinstance(method, DepthPredictor):
        return lambda images: Reading(method(images).detach().float())

    def read(images: Tensor) -> Reading:
        albedo = _albedo(method, images) if isinstance(method, Explainer) and isinstance(method, Generator) else None
        return Reading(method.predict_depth(images), albedo)

    return read


@torch.no_grad()
def _albedo(method: Generator, images: Tensor) -> Tensor | None:
    assert isinstance(method, Explainer)
    parts = []
    for chunk in images.split(_CHUNK):
        found = method.explain(chunk, images.shape[-1])
        albedo = method(found.latents, found.camera, found.light).albedo
        if albedo is None:
            return None
        parts.append(albedo.cpu() / 2 + 0.5)
    return torch.cat(parts)


def errors(reading: Reading, truth: Truth) -> dict[str, Tensor]:
    """Errors of each of N pictures, float64.

    SIDE (times 100) and MAD by the letter of `heads-v1`: nothing is aligned, the plain field of view for both. `pose`
    in degrees, `shape` in per cent of the distance between the eyes, and `normals` in degrees, after the similarity
    that takes the predicted surface to the true one. `albedo` and `relit`, where albedo is given.

    Raises:
        ValueError: Depth has another shape, or is not finite or not positive where the true head is.
    """
    camera = truth.camera
    found = {
        "SIDE": 100 * side_per_image(reading.depth, truth.depth, truth.mask),
        "MAD": angle_per_image(
            depth_to_normal(reading.depth, camera), depth_to_normal(truth.depth, camera), truth.mask
        ),
    }
    plain = plain_view(len(reading.depth))
    view = plain if reading.view is None else reading.view
    valid = torch.ones_like(reading.depth) > 0 if reading.valid is None else reading.valid
    surface = surface_of(reading.depth, valid, view)
    shape, place = truth.compare(surface)
    found |= {"pose": shape.pose, "shape": 100 / EYES * shape.shape, "normals": shape.normals}
    if reading.albedo is not None:
        to_world = truth.to_world.double()
        turned = to_world @ place.similarity.turn(surface.normals).flatten(2)
        true = to_world @ truth.surface.normals.double().flatten(2)
        own, real = (maps.view_as(surface.normals) for maps in (turned, true))
        found["albedo"] = albedo_error(reading.albedo, truth.albedo, truth.mask)
        lights = Light(torch.tensor(LIGHTS))
        found["relit"] = relighting_error(reading.albedo, own, truth.albedo, real, truth.mask, lights)
    return found
