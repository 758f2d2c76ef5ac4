"""Fitting to photographs: a latent by a field, a depth map seen from elsewhere, and GAN2Shape's joint step."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import recipes
from ..config.fill import without_name
from ..generators.base import Latents
from ..hub import load
from ..renderers import p3d
from ..renderers.depthmaps.depthmap import SAMPLES, MapCamera, warp_depth
from ..weights.build import build
from .fields import COARSE, FINE, cost
from .harness import Call, Work
from .published.generator import Reference

_GUESSES, _SIDE, _BATCH = 3, 32, 4
NEAR, FAR = 0.9, 1.1


def works(device: str) -> list[Work]:
    """What `zoo bench fit` measures; PyTorch3D's kernel only where it loads."""
    flops, sine_count = cost(64, 3, True)
    points = _GUESSES * _SIDE**2 * (COARSE + FINE)
    ways = ("zoo", "PyTorch3D") if p3d.native()[0] else ("zoo",)
    return [
        Work(
            f"shadegan.heads32: gradient of {_GUESSES} latents, {_SIDE} px",
            lambda: _inversion(device), 2 * flops * points, sine_count * points, 64, _GUESSES,
        ),
        Work(
            f"depth map of 64 px from elsewhere, forward and backward, batch {_BATCH}",
            lambda: {way: call for way, call in _warps(device).items() if way in ways}, images=_BATCH, ways=ways,
        ),
        Work("gan2shape_heads64: joint step's loss and gradient", lambda: _joint(device), images=1, ways=("zoo",)),
    ]  # fmt: skip


def _inversion(device: str) -> dict[str, Call]:
    g: Any = load("shadegan.heads32", device=device)
    reference = Reference(g).requires_grad_(False)
    camera, light = g.cameras(_GUESSES, seed=0, size=_SIDE), g.lights(_GUESSES, seed=0)
    target = torch.zeros(_GUESSES, 3, _SIDE, _SIDE, device=device)
    z = g.latents(_GUESSES, seed=0).z.requires_grad_()
    sampling = replace(g.inference(), steps=COARSE, fine_steps=FINE)

    def gradient(rgb: Tensor) -> Tensor:
        return torch.autograd.grad(F.mse_loss(rgb, target), z)[0]

    return {
        "zoo": lambda: gradient(g(Latents(z), camera, light, sampling).rgb),
        "reference": lambda: gradient(reference(z, camera, light, COARSE, FINE).rgb),
    }


def _warps(device: str) -> dict[str, Call]:
    camera = MapCamera(64)
    axis = torch.linspace(-1, 1, 64, device=device)
    dome = 1.05 - 0.08 * torch.exp(-2 * (axis[:, None] ** 2 + axis**2))
    depth = dome.expand(_BATCH, 1, 64, 64).clone().requires_grad_()
    view = torch.linspace(-0.3, 0.3, _BATCH * 3, device=device).view(_BATCH, 3)

    def gradient(warped: Tensor) -> Tensor:
        return torch.autograd.grad(warped.sum(), depth)[0]

    return {
        "zoo": lambda: gradient(warp_depth(depth, view, camera, NEAR, FAR)[0]),
        "PyTorch3D": lambda: gradient(pytorch3d_warp(depth, view, camera)),
    }


def pytorch3d_warp(depth: Tensor, view: Tensor, camera: MapCamera) -> Tensor:
    """`warp_depth`'s depth (B, 1, S, S) by PyTorch3D's meshes and rasterizer, as most code would write it."""
    p3 = p3d.pytorch3d()
    points, s = camera.to_view(camera.lift(depth), view), camera.size
    pixels = camera.pixels(points) - (0.0 if camera.aligned else 0.5)
    verts = torch.cat([1 - (2 * pixels + 1) / s, points[..., 2:]], -1).flatten(1, 2)
    at = torch.arange(s * s, device=depth.device).view(s, s)
    a, b, c, d = (corner.reshape(-1) for corner in (at[:-1, :-1], at[1:, :-1], at[:-1, 1:], at[1:, 1:]))
    faces = torch.cat([torch.stack([a, b, c], -1), torch.stack([c, b, d], -1)]).expand(len(depth), -1, -1)
    found = p3.renderer.mesh.rasterize_meshes(
        p3.structures.Meshes(verts, faces), SAMPLES * s, faces_per_pixel=1, perspective_correct=True
    )
    face, z = found[0][..., 0][:, None], found[1][..., 0][:, None]
    covered = F.avg_pool2d((face >= 0).float(), SAMPLES) == 1
    mean = F.avg_pool2d(torch.where(face >= 0, z, FAR), SAMPLES)
    return torch.where(covered, mean.clamp(NEAR, FAR), FAR)


def _joint(device: str) -> dict[str, Call]:
    run = recipes.load_run("gan2shape_heads64")
    g: Any = build("gan2shape", **without_name(run.generator)).to(device)
    size, n = g.config.size, getattr(run.system, "batch", 16)
    source = torch.Generator().manual_seed(0)
    image = (torch.rand(1, 3, size, size, generator=source) * 2 - 1).to(device)
    drawings = (torch.rand(n, 3, size, size, generator=source) * 2 - 1).to(device)
    masks = torch.ones(n, 1, size, size, device=device)

    def call() -> None:
        g.zero_grad()
        g.joint_loss(image, drawings, masks, True, None).backward()

    return {"zoo": call}
