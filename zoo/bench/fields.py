"""Pictures of radiance fields: how fast our generators render them, against the published algorithm in plain torch."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..generators.field import FieldGenerator
from ..geometry import Light, Render
from ..hub import load
from ..output.films import film, turntable
from ..output.sheets import grid
from ..weights.build import build
from .harness import Call, Work
from .published.generator import Reference

PUBLISHED = {"hidden_dim": 256, "layers": 8, "z_dim": 256, "mapping_dim": 256, "inference_steps": 0}
COARSE, FINE = 12, 12
FRAMES, FILM_SIDE = 30, 96


def works(device: str) -> list[Work]:
    """What `zoo bench fields` measures, the quick ones first."""
    small = ", width 64, 3 layers, 64 px, 12 + 12"
    large = ", width 256, 8 layers, 64 px, 12 + 12"
    return [
        rendering("pigan" + small, lambda: load("pigan.heads32", device=device), 64),
        rendering("shadegan, normals" + small, lambda: load("shadegan.heads32", device=device), 64),
        rendering("pigan" + large, lambda: build("pigan", **PUBLISHED).to(device), 64),
        rendering("shadegan, normals" + large, lambda: build("shadegan", **PUBLISHED).to(device), 64),
        _film(device),
    ]


def rendering(name: str, make: Callable[[], Any], size: int) -> Work:
    """One render of one object without gradients; the name says which method it is, and whether the field is small."""
    width, layers = (64, 3) if "width 64" in name else (256, 8)
    flops, sine_count = cost(width, layers, name.startswith("shadegan"))
    points = size**2 * (COARSE + FINE)

    def calls() -> dict[str, Call]:
        g: FieldGenerator = make().eval().requires_grad_(False)
        latents, camera = g.latents(1, seed=0), g.cameras(1, seed=0, size=size)
        light = g.lights(1, seed=0) if g.uses_light else None
        return {"zoo": _ours(g, latents, camera, light), "reference": _theirs(g, latents.z, camera, light)}

    return Work(name, calls, flops * points, sine_count * points, width, 1)


def _ours(g: FieldGenerator, latents: Any, camera: Any, light: Light | None) -> Call:
    sampling = replace(g.inference(), steps=COARSE, fine_steps=FINE)

    def call() -> object:
        with torch.no_grad():
            if g.uses_light:
                return g(latents, camera, light, sampling)
            # A render of pi-GAN has normals here and none in the paper; rays are marched without them.
            return g.march(g.code(latents), camera, sampling, with_gradient=False)

    return call


def _theirs(g: FieldGenerator, z: torch.Tensor, camera: Any, light: Light | None) -> Call:
    reference = Reference(g).requires_grad_(False)

    def call() -> object:
        with torch.no_grad():
            return reference(z, camera, light, COARSE, FINE)

    return call


def _film(device: str) -> Work:
    """A turntable; frames are written by the same code, so that only their pictures differ."""

    def calls() -> dict[str, Call]:
        g: Any = load("shadegan.heads32", device=device)
        reference, latents = Reference(g).requires_grad_(False), g.latents(1, seed=0)
        light = g.mean_light
        folder = tempfile.TemporaryDirectory(prefix="zoo-bench-")  # there as long as the two calls are
        steps = g.inference()

        def frame(index: int) -> Any:
            yaw = 2 * g.scene.pose.yaw_std * torch.tensor(2 * torch.pi * index / FRAMES).sin().item()
            with torch.no_grad():
                picture = reference(latents.z, g.camera(yaw, size=FILM_SIDE), light, steps.steps, steps.fine_steps)
                return grid(Render(rgb=picture.rgb, depth=picture.distance), maps="rgb")

        def ours() -> object:
            return turntable(g, latents, Path(folder.name) / "zoo.mp4", FRAMES, size=FILM_SIDE)

        def theirs() -> object:
            return film(map(frame, range(FRAMES)), Path(folder.name) / "reference.mp4", size=(FILM_SIDE, FILM_SIDE))

        return {"zoo": ours, "reference": theirs}

    flops, sine_count = cost(64, 3, True)
    points = FRAMES * FILM_SIDE**2 * 24
    return Work(
        f"turntable of {FRAMES} frames, {FILM_SIDE} px, shadegan.heads32",
        calls, flops * points, sine_count * points, 64, FRAMES,
    )  # fmt: skip


def cost(width: int, layers: int, normals: bool) -> tuple[float, float]:
    """Floating-point operations of the matrix products, and sines and cosines, of one point of a FiLM-SIREN.

    With normals it is ShadeGAN's, without them pi-GAN's; the gradient costs a product for each layer.
    """
    beside = 4 if normals else 3  # what the colour layer sees besides features: a light, or the direction
    products = 2.0 * width * (3 + (layers - 1) * width + 1 + (width + beside) + 3)
    count = float(width * (layers + 1))
    if normals:
        products += 2.0 * width * ((layers - 1) * width + 3)
        count += width * layers
    return products, count
