"""The pictures of a report: what a model generates, and what was recovered from the test images."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..generators.base import Generator
from ..geometry import Light, Render
from ..metrics import evaluation_mask
from ..probes.depth import Pairs
from .colours import ramp, show_depth, show_image, show_normal
from .lights import preset_lights

ERROR_LIMIT = 0.05
TEST, ROTATED = "Test images", "Rotated"  # titles of sheets that pages treat in their own way
ERROR = "depth error"


@dataclass(frozen=True)
class Sheet:
    """A titled block of picture strips.

    Attributes:
        title: A few words.
        caption: A sentence or two that say what to look at.
        rows: Labels with images (N,3,S,S) in [0,1], from top to bottom; the same objects stand below each other.
    """

    title: str
    caption: str
    rows: list[tuple[str, Tensor]]


def show_error(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """The error that SIDE sums up, |log-depth difference minus its mean|, from 0 (dark) to `ERROR_LIMIT` (light)."""
    difference = torch.where(mask, prediction.log() - truth.clamp_min(1e-6).log(), 0.0)
    mean = difference.sum((1, 2, 3), keepdim=True) / mask.sum((1, 2, 3), keepdim=True).clamp_min(1)
    return torch.where(mask, ramp((difference - mean).abs() / ERROR_LIMIT), 0.5)


def test_sheet(test: Pairs, depth: Tensor, true_normals: Tensor, normals: Tensor) -> Sheet:
    """Test images with their true and their recovered shape; all arguments hold the same N images."""
    # Both get one scale, after the common factor that SIDE leaves free is taken out.
    inside, counted = test.mask, evaluation_mask(test.mask)
    scale = torch.where(inside, test.depth / depth, 0.0).sum((1, 2, 3), keepdim=True)
    matched = depth * scale / inside.sum((1, 2, 3), keepdim=True).clamp_min(1)
    span = (test.depth[inside].min().item(), test.depth[inside].max().item()) if inside.any() else None
    return Sheet(
        TEST,
        "Depth is light where it is near. Errors run from 0 (dark) to "
        f"{100 * ERROR_LIMIT:g} % of the distance (light), after the common scale is taken out.",
        [
            ("image", show_image(test.image)),
            ("true depth", show_depth(test.depth, inside, span)),
            ("recovered depth", show_depth(matched, inside, span)),
            ("true normals", show_normal(true_normals, counted)),
            ("recovered normals", show_normal(normals, counted)),
            (ERROR, show_error(depth, test.depth, counted)),
        ],
    )


@torch.no_grad()
def model_sheets(generator: Generator, *, size: int = 64, n: int = 6, seed: int = 0, psi: float = 0.7) -> list[Sheet]:
    """Samples, relit and rotated views of one generator, `n` objects each; relit only if it models light."""
    latents = generator.latents(n, seed=seed, psi=psi)

    def view(yaw: float = 0.0, light: Light | None = None) -> Render:
        shining = (light or Light.frontal()).to(generator.device) if generator.uses_light else None
        return generator(latents, generator.camera(yaw, size=size), shining, generator.keeping_albedo()).cpu()

    front = view()
    inside = torch.ones_like(front.rgb[:, :1]) > 0 if front.mask is None else front.mask > 0.5
    rows = [("image", show_image(front.rgb))]
    if front.depth is not None:
        rows.append(("depth", show_depth(front.depth, inside)))
    if front.normal is not None:
        rows.append(("normals", show_normal(front.normal, inside)))
    if front.albedo is not None:
        rows.append(("albedo", show_image(front.albedo)))
    sheets = [Sheet("Samples", f"Seed {seed}, truncation {psi:g}, seen from the front.", rows)]
    if generator.uses_light:
        lights = preset_lights(generator.device)
        relit = [(f"light {side}", show_image(view(light=light).rgb)) for side, light in lights.items()]
        sheets.append(Sheet("Relit", "The same objects under other lights.", relit))
    turned = []
    for yaw in (-0.5, -0.25, 0.0, 0.25, 0.5):
        turned.append((f"yaw {math.degrees(yaw):+.0f}\N{DEGREE SIGN}", show_image(view(yaw).rgb)))
    sheets.append(Sheet(ROTATED, "The same objects, turned to their right and left.", turned))
    return sheets
