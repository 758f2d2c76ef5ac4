"""What the tests of the radiance-field generators share: sizes from weights, given random draws, ray maps."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from recorded import Comparison, Recorded, load_strict
from torch import Tensor

from zoo.generators.field import FieldGenerator
from zoo.geometry import Camera
from zoo.renderers.fields import volume
from zoo.renderers.fields.volume import FieldOut, RayMaps, composite, composite_weights, fill_last

POINT_ATOL, RENDER_ATOL, NORMAL_ATOL, EXACT_ATOL, GRAD_RTOL = 1e-4, 2e-3, 5e-3, 1e-5, 1e-2
# Of the largest value at a point, 20 to 900 for densities and their gradients: matrix products round differently on
# other processors. Exact arithmetic is 1e-5 of it away from what was recorded, too.
POINT_RTOL = 2e-5
NEAR, FAR, FOV = 0.88, 1.12, 12.0


def sizes(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Architecture arguments of a field generator, read from its official weights."""
    mapping_dim, z_dim = weights["siren.mapping_network.network.0.weight"].shape
    layers = sum(key.startswith("siren.network.") and key.endswith(".weight") for key in weights)
    hidden_dim = len(weights["siren.network.0.layer.weight"])
    return {"z_dim": z_dim, "hidden_dim": hidden_dim, "layers": layers, "mapping_dim": mapping_dim}


def ready(generator: FieldGenerator, weights: Mapping[str, Tensor], recorded: Recorded) -> FieldGenerator:
    """Load the weights and give the generator the recorded average code, if there is one."""
    load_strict(generator, weights)
    if "in/avg_frequencies" in recorded.arrays:
        average = torch.cat([recorded.tensor("in/avg_frequencies"), recorded.tensor("in/avg_phase_shifts")], -1)
        generator.average_code = lambda: average  # type: ignore[method-assign]
    return generator


def orbit(pose: Tensor, size: int, fov: float = FOV) -> Camera:
    """Cameras at official poses (B, 2): pitch and yaw, pi/2 when frontal."""
    return Camera.at(pose - math.pi / 2, fov=fov, size=size)


def draws(recorded: Recorded, case: str) -> dict[str, Tensor | None]:
    """Recorded random numbers of a render as arguments of `render_rays`; empty (deterministic) where none are."""
    if f"in/{case}_u_perturb" not in recorded.arrays:
        return {}
    u_jitter = recorded.tensor(f"in/{case}_u_perturb")[..., 0]
    u_fine = recorded.tensor(f"in/{case}_u_pdf")
    return {"u_jitter": u_jitter, "u_fine": u_fine.reshape(*u_jitter.shape[:2], -1)}


@contextmanager
def given(module: str, numbers: Mapping[str, Any]) -> Iterator[list[RayMaps]]:
    """Let `module` render with the given random numbers, and collect the ray maps it gets."""
    kept: list[RayMaps] = []

    def render(*args: Any, **kwargs: Any) -> RayMaps:
        kept.append(volume.render_rays(*args, **kwargs, **numbers))
        return kept[-1]

    with mock.patch(f"{module}.render_rays", render):
        yield kept


def shaped(rays: Tensor, like: tuple[int, ...]) -> Tensor:
    """Per-ray values (B, N, C) in a recorded layout: (B, N, C), (B, C, S, S) or (B, S, S)."""
    if len(like) == 3 and like[1] == rays.shape[1]:
        return rays
    return rays.transpose(1, 2).reshape(like)


def composited(
    sigma: Tensor, rgb: Tensor, z: Tensor, case: str, gradient: Tensor | None = None
) -> tuple[RayMaps, Tensor]:
    """Ray maps (on black) and weights of a case such as "relu_lastback"; depths are recorded unclamped."""
    clamp, _, option = case.partition("_")
    weights = composite_weights(sigma, z, clamp=clamp)
    maps = composite(FieldOut(rgb, sigma, gradient), z, weights, -math.inf, math.inf, last_back=option == "lastback")
    return maps, fill_last(weights) if option == "lastback" else weights


def check_gradients(c: Comparison, recorded: Recorded, generator: FieldGenerator, image: Tensor) -> None:
    """Loss mean(image * recorded weights) and the recorded parameter gradients."""
    loss = (image * recorded.tensor("in/grad_image_weights")).mean()
    c.check("grad_loss", loss, rtol=GRAD_RTOL)
    parameters = dict(generator.named_parameters())
    names = [name.removeprefix("grad/") for name in recorded.outputs("grad/.*")]
    for name, gradient in zip(names, torch.autograd.grad(loss, [parameters[n] for n in names]), strict=True):
        c.check(f"grad/{name}", gradient, rtol=GRAD_RTOL)
