"""How exact are the mesh renderer's gradients at outlines? They are compared with those of area-averaged pictures.

The reference pictures are box-filtered: each pixel is the mean of what lies in it. For one triangle this is computed
exactly, by clipping; for a textured mesh that hides parts of itself, a crisp picture 8 times as large is averaged. A
fixed smooth weighting of the pixels turns a picture into a number, and a renderer's gradient should be the derivative
of that number by finite differences. That of a crisp picture never is: it misses the outlines at any resolution.
"""

import math
from collections.abc import Callable, Sequence
from statistics import mean, median

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Camera
from ..renderers.meshes.render import MeshRenderConfig, render_mesh
from ..renderers.meshes.topology import Topology, octa_sphere
from ..renderers.p3d import native

Row = dict[str, str | float]
Progress = Callable[[str], None]

_FOV = 10.0
_UNIT = math.tan(math.radians(_FOV) / 2)  # world units in an object unit, at a camera distance of 1
_SIDE = 32  # pixels of the triangle's image
_TRIANGLES = 10
_STEP = 1e-4  # pixels; the clipped area is piecewise quadratic in the corners
_FIELDS = 36
_MESH_SIDE = 64
_CELLS = 48
VIEWS = ((-0.8, 0.1), (-0.3, 0.1), (0.1, 0.1), (0.5, 0.1), (1.0, 0.1))  # yaw and pitch, radians
_OVERSAMPLE = 8  # per pixel and direction; 16 took ten times as long and moved no figure of a view by 0.004
_MOVE = 0.01  # object units, a third of a pixel: many steps of the oversampled reference, and still linear


def triangle_table(progress: Progress = lambda _: None) -> list[Row]:
    """Compare gradients for one white triangle on black, over ten random triangles.

    The gradient with respect to its six coordinates stands against finite differences of the exact area coverage.

    Args:
        progress: Is called with a line for each triangle.

    Returns:
        For each renderer "cosine", of the angle between the two gradients, and "norm ratio", the renderer's over the
        exact one, both as means; a gradient that is identically zero has cosine 0.
    """
    configs = [("crisp", MeshRenderConfig("crisp"))]
    configs += [(f"soft, margin {m:g} px", MeshRenderConfig("soft", margin_px=m)) for m in (0.5, 1.0, 2.0)]
    configs += [("centred", MeshRenderConfig("centred"))]
    if native()[0]:
        sigmas = (0.05, 0.25, 1.0)
        configs += [(f"sigmoid, {s:g} px^2", MeshRenderConfig("sigmoid", margin_px=2 * s**0.5)) for s in sigmas]
    generator = torch.Generator().manual_seed(0)
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in configs}
    for k in range(_TRIANGLES):
        progress(f"triangle {k + 1} of {_TRIANGLES}")
        corners = _random_triangle(generator)
        weights = _smooth(generator, 1, 5, _SIDE)[0, 0]
        exact = _triangle_reference(corners, weights)
        for name, config in configs:
            gradient = _triangle_gradient(corners, weights, config)
            ratio = (gradient.norm() / exact.norm()).item()
            cosine = F.cosine_similarity(gradient.flatten(), exact.flatten(), dim=0).item()
            figures[name].append((cosine, ratio))
    return [
        {"renderer": name, "cosine": mean(c for c, _ in pairs), "norm ratio": mean(r for _, r in pairs)}
        for name, pairs in figures.items()
    ]


def mesh_table(
    progress: Progress = lambda _: None,
    settings: Sequence[tuple[str, int]] = (
        ("crisp", 1), ("crisp", 2), ("crisp", 3), ("soft", 1), ("soft", 2), ("soft", 3), ("centred", 1),
        ("centred", 2), ("aa", 1),
    ),
    views: Sequence[tuple[float, float]] = VIEWS,
) -> list[Row]:  # fmt: skip
    """Compare gradients for a textured blob like a head, whose nose hides part of its cheek.

    It is moved along 36 random smooth deformations.

    Args:
        progress: Is called with a line for each view.
        settings: Holds mode and supersampling of the renderers to compare.
        views: Holds yaw and pitch in radians.

    Returns:
        For each renderer, how its derivatives along the deformations agree with finite differences of the reference:
        "correlation", "relative error" (norm of the difference over the reference's) and "sign agreement". Each is
        the median over the views: where a pixel centre happens to see a face from its edge, that one vertex has a huge
        gradient, which is correct for the sampled picture and far from the area's.
    """
    scene = _MeshScene()
    found: list[list[tuple[float, float, float]]] = [[] for _ in settings]
    for k, (yaw, pitch) in enumerate(views):
        progress(f"mesh: view {k + 1} of {len(views)}")
        scene.camera = Camera.orbit(yaw, pitch, fov=_FOV, size=_MESH_SIDE)
        expected = scene.reference()
        for figures, (mode, times) in zip(found, settings, strict=True):
            figures.append(_agreement(scene.derivatives(MeshRenderConfig(mode, supersample=times)), expected))
    rows: list[Row] = []
    for figures, (mode, times) in zip(found, settings, strict=True):
        correlation, error, sign = (median(column) for column in zip(*figures, strict=True))
        row = {"correlation": correlation, "relative error": error, "sign agreement": sign}
        rows.append({"renderer": mode, "supersample": times, **row})
    return rows


def _agreement(found: Tensor, expected: Tensor) -> tuple[float, float, float]:
    return (
        torch.corrcoef(torch.stack([found, expected]))[0, 1].item(),
        ((found - expected).norm() / expected.norm()).item(),
        (found.sign() == expected.sign()).double().mean().item(),
    )


class _MeshScene:
    """The mesh, its 36 deformation fields, and the weighted sum of its picture; all float64."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.topology = octa_sphere(_CELLS)
        sphere = self.topology.sphere.double()
        nose = torch.exp(-(sphere - sphere.new_tensor([0.0, -0.1, 1.0])).square().sum(-1, keepdim=True) / 0.06)
        self.verts = 0.6 * _UNIT * sphere * (1 + 0.5 * nose) * sphere.new_tensor([0.85, 1.1, 0.9])
        self.texture = _smooth(generator, 3, 9, 128).clamp(-1, 1)
        self.background = _smooth(generator, 3, 4, _MESH_SIDE).clamp(-1, 1)
        self.weights = _smooth(generator, 3, 8, _MESH_SIDE)
        self.camera = Camera.orbit(fov=_FOV, size=_MESH_SIDE)
        self.fields = [self._field(sphere, generator) for _ in range(_FIELDS)]

    @staticmethod
    def _field(sphere: Tensor, generator: torch.Generator) -> Tensor:
        """Displacements (V, 3) in world units, the largest one object unit: four waves over the rest positions."""
        total = torch.zeros_like(sphere)
        for _ in range(4):
            waves = 1.5 * torch.randn(3, 3, generator=generator).double()
            phase = 2 * math.pi * torch.rand(3, generator=generator).double()
            total = total + torch.randn(3, generator=generator).double() * torch.sin(sphere @ waves + phase)
        return total / total.abs().max() * _UNIT

    def measure(self, verts: Tensor, config: MeshRenderConfig) -> Tensor:
        """Weighted sums (B,) of the pictures of verts (B, V, 3)."""
        b = len(verts)
        texture, background = self.texture.expand(b, -1, -1, -1), self.background.expand(b, -1, -1, -1)
        out = render_mesh(verts, self.topology, texture, background, self.camera, config, normals=False)
        return (out.rgb * self.weights).sum((1, 2, 3))

    @torch.no_grad()
    def reference(self) -> Tensor:
        """Derivatives (36,) along the fields, by finite differences of the oversampled crisp picture."""
        config = MeshRenderConfig("crisp", supersample=_OVERSAMPLE)
        out = []
        for field in self.fields:
            plus, minus = self.measure(torch.stack([self.verts + _MOVE * field, self.verts - _MOVE * field]), config)
            out.append((plus - minus) / (2 * _MOVE))
        return torch.stack(out)

    def derivatives(self, config: MeshRenderConfig) -> Tensor:
        """Derivatives (36,) along the fields, by autograd."""
        verts = self.verts[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.measure(verts, config).sum(), verts)
        return torch.stack([(gradient * field).sum() for field in self.fields])


def _smooth(generator: torch.Generator, channels: int, knots: int, side: int) -> Tensor:
    """Smooth noise (1, channels, side, side), float64 and of about unit size, with `knots` x `knots` free values."""
    noise = torch.randn(1, channels, knots, knots, generator=generator, dtype=torch.float64)
    return F.interpolate(noise, size=(side, side), mode="bicubic", align_corners=True)


# -------------------------------------------------------------------------------------------------------- one triangle


def _random_triangle(generator: torch.Generator) -> Tensor:
    """Corners (3, 2) in pixels, float64, counter-clockwise as seen, 11 to 13 px from the middle of the image."""
    random = torch.rand(7, generator=generator)
    turn = torch.tensor([0.0, 1.0, 2.0]) + 0.5 * random[:3] + 3 * random[3]
    reach = 11 + 2 * random[4:]
    angle = -2 * math.pi / 3 * turn
    return (_SIDE / 2 + reach[:, None] * torch.stack([angle.cos(), angle.sin()], 1)).double()


def _triangle_gradient(corners: Tensor, weights: Tensor, config: MeshRenderConfig) -> Tensor:
    """The gradient (3, 2) of the weighted sum of the renderer's opacity, with respect to the corners in pixels."""
    pixels = corners.clone().requires_grad_()
    plane = (pixels * (2 / _SIDE) - 1) * pixels.new_tensor([_UNIT, -_UNIT])
    verts = F.pad(plane, (0, 1))[None]
    topology = Topology.of(torch.zeros(3, 2), torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))
    camera = Camera.orbit(fov=_FOV, size=_SIDE, pixel_centres="half")
    mask = render_mesh(verts, topology, verts.new_ones(1, 3, 2, 2), None, camera, config, normals=False).mask
    loss = (mask[0, 0] * weights).sum()
    return torch.autograd.grad(loss, pixels, materialize_grads=True)[0]


def _triangle_reference(corners: Tensor, weights: Tensor) -> Tensor:
    gradient = torch.zeros_like(corners)
    for i in range(3):
        for j in range(2):
            moved = [corners.clone(), corners.clone()]
            moved[0][i, j] += _STEP
            moved[1][i, j] -= _STEP
            plus, minus = ((exact_coverage(c, _SIDE) * weights).sum() for c in moved)
            gradient[i, j] = (plus - minus) / (2 * _STEP)
    return gradient


def exact_coverage(corners: Tensor, side: int) -> Tensor:
    """The area (side, side), float64, of each pixel that a convex polygon covers: (N, 2) in pixels, x right, y down.

    The polygon is clipped to each row, and what remains to each pixel (Sutherland, Hodgman 1974).
    """
    out = torch.zeros(side, side, dtype=torch.float64)
    polygon = [(float(x), float(y)) for x, y in corners]
    for row in range(side):
        strip = _clip(_clip(polygon, 1, row, 1), 1, row + 1, -1)
        for column in range(side if strip else 0):
            out[row, column] = _area(_clip(_clip(strip, 0, column, 1), 0, column + 1, -1))
    return out


def _clip(polygon: list[tuple[float, float]], axis: int, limit: float, side: int) -> list[tuple[float, float]]:
    """The part of the polygon that lies above the limit on the axis (side 1), or below it (side -1)."""
    out = []
    for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        dp, dq = side * (p[axis] - limit), side * (q[axis] - limit)
        if dp >= 0:
            out.append(p)
        if (dp >= 0) != (dq >= 0):
            t = dp / (dp - dq)
            out.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])))
    return out


def _area(polygon: list[tuple[float, float]]) -> float:
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return abs(sum(p[0] * q[1] - p[1] * q[0] for p, q in pairs)) / 2
