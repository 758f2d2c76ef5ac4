"""The kernels for a GPU: the same as those for a CPU, and asked for by tensors on a GPU alone."""

import importlib.util
import logging
import os
import subprocess
import sys

import pytest
import torch

from zoo.networks.sines import devices
from zoo.networks.siren import FiLMSiren

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")

# Run by Triton's interpreter, which must be asked for before Triton is imported.
INTERPRETED = """
import copy
import sys
import torch
from zoo.networks.siren import FiLMSiren

siren = FiLMSiren(8, 4, 1, 8)
film = torch.zeros(1, 2 * siren.width, requires_grad=True)
siren(torch.zeros(1, 4, 3), film, torch.zeros(1, 4, 3), None).rgb.sum().backward()
assert not [name for name in sys.modules if "triton_kernels" in name or name == "triton"], "a CPU needs no Triton"

from zoo.networks.sines import kernels, passes, tiles, triton_kernels

source = torch.Generator().manual_seed(0)
draw = lambda *shape: torch.randn(*shape, generator=source)
for rows, width in ((1, 1), (7, 13), (90, 12)):  # the last one is more than a block
    tile, f, p, c = draw(rows, width) * 3, draw(width) * 15 + 30, draw(width), draw(width)
    for name, args in {
        "sine": (tile, f, p, draw(rows, width)),
        "sine_cosine": (tile, f, p, c, draw(rows, width), draw(rows, width)),
        "through_sine": (draw(rows, width), draw(rows, width), draw(width)),
        "through_sine_and_slope": (draw(rows, width), draw(rows, width), draw(rows, width), draw(width)),
        "through_slope": (draw(rows, width), draw(rows, width), draw(rows, width), draw(rows, width)),
    }.items():
        mine, theirs = [x.clone() for x in args], [x.clone() for x in args]
        getattr(kernels, name)(*(x.numpy() for x in mine))
        getattr(triton_kernels, name)(*theirs)
        assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(mine, theirs)), name

ran = set()
def run(kernel, *tensors):
    ran.add(kernel.__name__)
    getattr(triton_kernels, kernel.__name__)(*tensors)
tiles.run, tiles._TILE_ELEMENTS, passes.fits = run, 16 * 8, lambda *_: False
torch.manual_seed(0)
siren = FiLMSiren(8, 16, 2, 8, extra=4)
inputs = [draw(2, 10, 3) * 0.05, draw(2, 2 * siren.width) * 0.3, draw(2, 10, 3), draw(2, 4)]
def results(network, field, kind, with_gradient):
    x = [v.to(kind).requires_grad_() for v in inputs]
    out = [v for v in field(*x, with_gradient) if v is not None]
    own = [p for n, p in network.named_parameters() if "mapping" not in n]
    return [*out, *torch.autograd.grad(sum(v.square().sum() for v in out), [*x, *own])]
exact = copy.deepcopy(siren).double()
for with_gradient in (False, True):
    truth = results(exact, exact.plain, torch.float64, with_gradient)
    for a, b in zip(truth, results(siren, siren.forward, torch.float32, with_gradient), strict=True):
        assert (a - b).norm() <= 1e-4 * a.norm(), (a - b).norm() / a.norm()
assert ran == {"sine", "sine_cosine", "through_sine", "through_sine_and_slope", "through_slope"}, ran
print("the same")
"""


@needs_triton
def test_fields_and_gradients_are_those_of_the_definition() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout == "the same\n", done.stderr


def test_a_gpu_without_triton_gets_the_plain_field_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "zoo.networks.sines.triton_kernels", None)  # an import of it fails
    devices._triton_works.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert not devices.has_kernels(torch.device("cuda", 7))
            assert not devices.has_kernels(torch.device("cuda", 7))
    finally:
        devices._triton_works.cache_clear()
    (record,) = caplog.records
    assert "fields on cuda:7 are computed layer by layer" in record.message
    assert not devices.has_kernels(torch.device("meta"))


@pytest.mark.gpu
@needs_triton
def test_a_gpu_has_kernels_and_takes_a_compiled_field_instead(device: str) -> None:
    siren = FiLMSiren(8, 16, 2, 8).to(device)
    assert siren.fuses
    siren.plain = siren.plain  # type: ignore[method-assign]  # as `compile_field` leaves it
    assert siren.fuses == (device == "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("with_gradient", [False, True])
def test_a_gpu_computes_the_same_fields(device: str, with_gradient: bool) -> None:
    source = torch.Generator().manual_seed(0)
    siren = FiLMSiren(8, 64, 3, 8).double()
    points, film = torch.randn(2, 3000, 3, generator=source) * 0.05, torch.randn(2, 2 * siren.width, generator=source)

    def results(where: str, kind: torch.dtype) -> list[torch.Tensor]:
        siren.to(where, kind)
        x = [v.to(where, kind).requires_grad_() for v in (points, film * 0.3)]
        out = [v for v in siren(*x, x[0], None, with_gradient) if v is not None]
        own = [p for name, p in siren.named_parameters() if "mapping" not in name]
        total = torch.stack([v.square().sum() for v in out]).sum()
        return [v.detach().cpu().double() for v in (*out, *torch.autograd.grad(total, [*x, *own]))]

    for exact, found in zip(results("cpu", torch.float64), results(device, torch.float32), strict=True):
        assert (exact - found).norm() <= 1e-4 * exact.norm()
