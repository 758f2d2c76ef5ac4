"""The mesh renderer's gradients: of the picture it draws, and of the picture that sums over each pixel's area."""

import pytest
import torch
from torch import Tensor

from zoo.bench.gradients import VIEWS, exact_coverage, mesh_table, triangle_table
from zoo.geometry import Camera
from zoo.renderers.meshes.render import MeshRenderConfig, render_mesh
from zoo.renderers.meshes.topology import octa_sphere

SIZE = 32
UNIT = 0.105104235  # tan(6 degrees): world units in an object unit


def face_like(n: int = 24) -> Tensor:
    """(1, V, 3) float64 world units: an egg with a nose that hides part of it when seen from the side."""
    sphere = octa_sphere(n).sphere.double()
    nose = torch.exp(-(sphere - sphere.new_tensor([0, -0.1, 1])).square().sum(-1, keepdim=True) / 0.06)
    return (0.6 * UNIT * sphere * (1 + 0.5 * nose) * sphere.new_tensor([0.85, 1.1, 0.9]))[None]


def smooth(seed: int, channels: int, side: int, knots: int = 6) -> Tensor:
    noise = torch.randn(1, channels, knots, knots, generator=torch.Generator().manual_seed(seed)).double()
    return torch.nn.functional.interpolate(noise, size=(side, side), mode="bicubic", align_corners=True)


def test_exact_coverage_of_a_square() -> None:
    covered = exact_coverage(torch.tensor([[0.5, 1.0], [2.25, 1.0], [2.25, 3.0], [0.5, 3.0]]), 4)
    expected = torch.zeros(4, 4, dtype=torch.float64)
    expected[1:3] = torch.tensor([0.5, 1, 0.25, 0], dtype=torch.float64)
    torch.testing.assert_close(covered, expected)


def test_one_triangle_against_its_exact_area() -> None:
    rows = {row["renderer"]: row for row in triangle_table()}
    assert rows["crisp"]["norm ratio"] == 0.0  # no gradient at all
    assert rows["soft, margin 1 px"]["cosine"] > 0.97
    assert 0.95 < rows["soft, margin 1 px"]["norm ratio"] < 1.2
    assert rows["centred"]["cosine"] > 0.985
    assert 0.97 < rows["centred"]["norm ratio"] < 1.03


def test_a_textured_mesh_that_hides_itself_against_area_sampling() -> None:
    settings = (("crisp", 1), ("crisp", 3), ("soft", 1), ("soft", 2), ("soft", 3), ("centred", 1))
    rows = mesh_table(settings=settings, views=VIEWS[:3])
    corr = {(row["renderer"], row["supersample"]): row["correlation"] for row in rows}
    assert corr["crisp", 1] < 0.9
    assert corr["crisp", 3] < 0.9  # resolution does not help: the outlines are missing
    assert corr["soft", 1] >= 0.94
    assert corr["soft", 2] >= 0.98
    assert corr["soft", 3] >= 0.99
    assert corr["centred", 1] >= 0.99


@pytest.mark.parametrize("mode", ["crisp", "soft", "centred", "aa"])
def test_autograd_is_the_derivative_of_the_picture(mode: str) -> None:
    """Central differences in float64 along smooth motions; steps of 1e-5 pixels, which cross no kink."""
    topology, verts = octa_sphere(24), face_like().requires_grad_()
    texture, background, weight = smooth(0, 3, 48), smooth(1, 3, SIZE), smooth(2, 6, SIZE)
    camera, config = Camera.orbit(0.5, 0.1, size=SIZE), MeshRenderConfig(mode)

    def measure(v: Tensor) -> Tensor:
        out = render_mesh(v, topology, texture, background, camera, config)
        maps = torch.cat([out.rgb, out.mask, out.depth / UNIT, out.normal[:, :1]], 1)
        return (maps * weight).sum()

    (gradient,) = torch.autograd.grad(measure(verts), verts)
    step = 1e-5 * 2 * UNIT / SIZE
    found, expected = [], []
    for seed in range(6):
        waves, shift = smooth(10 + seed, 1, 3, 3)[0, 0], smooth(20 + seed, 1, 3, 3)[0, 0]
        field = torch.sin(octa_sphere(24).sphere.double() @ waves + shift[0]) * shift[1]
        with torch.no_grad():
            expected.append(((measure(verts + step * field) - measure(verts - step * field)) / (2 * step)).item())
        found.append((gradient * field).sum().item())
    scale = max(map(abs, expected))
    assert max(abs(f - e) for f, e in zip(found, expected, strict=True)) < 5e-8 * scale


def test_texture_and_background_gradients() -> None:
    """The picture is linear in both, so one large step is exact."""
    topology, verts = octa_sphere(24), face_like()
    camera, weight = Camera.orbit(0.5, 0.1, size=SIZE), smooth(2, 3, SIZE)
    maps = [smooth(0, 3, 48), smooth(1, 3, SIZE)]
    moves = [smooth(3, 3, 48), smooth(4, 3, SIZE)]

    def measure(texture: Tensor, background: Tensor) -> Tensor:
        return (render_mesh(verts, topology, texture, background, camera).rgb * weight).sum()

    gradients = torch.autograd.grad(measure(*[m.requires_grad_() for m in maps]), maps)
    with torch.no_grad():
        base = measure(*maps)
        torch.testing.assert_close(measure(maps[0] + moves[0], maps[1]) - base, (gradients[0] * moves[0]).sum())
        torch.testing.assert_close(measure(maps[0], maps[1] + moves[1]) - base, (gradients[1] * moves[1]).sum())


def test_single_precision_has_the_gradient_of_double() -> None:
    topology, texture, weight = octa_sphere(24), smooth(0, 3, 48), smooth(2, 3, SIZE)
    camera = Camera.orbit(0.5, 0.1, size=SIZE)
    gradients = []
    for dtype in (torch.float64, torch.float32):
        verts = face_like().to(dtype).requires_grad_()
        out = render_mesh(verts, topology, texture.to(dtype), None, camera)
        assert out.rgb.dtype == dtype
        gradients.append(torch.autograd.grad((out.rgb * weight).sum(), verts)[0].double())
    assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[0].norm()


def test_an_outline_can_be_learnt_only_with_the_margin() -> None:
    """A white ball must move one pixel to the right to match; only the soft picture tells it so."""
    topology = octa_sphere(16)
    camera, white = Camera.orbit(size=SIZE), torch.ones(1, 3, 4, 4)
    ball = 0.5 * UNIT * topology.sphere[None]
    pixel = torch.tensor([2 * UNIT / SIZE, 0.0, 0.0])
    black = -torch.ones(1, 3, SIZE, SIZE)
    for mode in ("crisp", "soft"):
        config = MeshRenderConfig(mode)
        target = render_mesh(ball + pixel, topology, white, black, camera, config).rgb
        verts = ball.clone().requires_grad_()
        loss = (render_mesh(verts, topology, white, black, camera, config).rgb - target).square().mean()
        (gradient,) = torch.autograd.grad(loss, verts, materialize_grads=True)
        if mode == "crisp":
            assert gradient.abs().max() < 1e-6
        else:
            total = -gradient.sum((0, 1))
            assert total[0] > 10 * total[1:].abs().max()
