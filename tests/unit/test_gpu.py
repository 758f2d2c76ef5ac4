"""What only a GPU runs, against the CPU: rasterizer, outlines, fields, compiled fields, steps, precision, processes.

`ZOO_TEST_DEVICE=cpu python -m pytest -m gpu` goes through the same lines without a GPU; CPU stands against CPU then.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import zoo
from tests.tiny import TINY
from tests.train.conftest import TINY as RUN
from zoo.bench.steps import fit
from zoo.config import recipes
from zoo.geometry import Camera
from zoo.renderers.depthmaps.depthmap import MapCamera, warp_depth
from zoo.renderers.meshes.render import MODES, MeshRenderConfig, render_mesh
from zoo.renderers.meshes.topology import octa_sphere
from zoo.renderers.p3d import native, pytorch3d
from zoo.renderers.rasterize import rasterize
from zoo.systems.base import TrainingSystem

pytestmark = pytest.mark.gpu
needs_kernel = pytest.mark.skipif(not native()[0], reason="PyTorch3D's native part does not load here")
FIELDS = ("pigan", "shadegan", "gof")


def both(device: str, work: Callable[[str], tuple[torch.Tensor, ...]]) -> None:
    """The same numbers on the device as on the CPU, but for pixels that an edge touches, at most one in a hundred."""
    for here, there in zip(work("cpu"), work(device), strict=True):
        far = (here.double() - there.cpu().double()).abs() > 2e-3 * max(1.0, float(here.detach().abs().max()))
        assert far.double().mean() < 0.01


def accelerator(device: str) -> str:
    return "trainer.accelerator=gpu" if device == "cuda" else "trainer.accelerator=cpu"


@needs_kernel
@pytest.mark.parametrize("near", [1e-3, 0.9])
def test_the_rasterizer(device: str, near: float) -> None:
    """Faces, depth and their gradient; with near = 0.9 faces are cut, which the CPU does for the GPU."""
    sphere = octa_sphere(8)

    def work(where: str) -> tuple[torch.Tensor, ...]:
        verts = (sphere.sphere * 0.7 + torch.tensor([0.0, 0.0, 1.5])).to(where).requires_grad_()
        mesh = pytorch3d().structures.Meshes([verts], [sphere.faces.to(where)])
        seen = rasterize(mesh, (24, 20), faces_per_pixel=2, z_near=near)
        (slope,) = torch.autograd.grad(seen.zbuf[seen.pix_to_face >= 0].sum(), verts)
        return seen.zbuf, seen.bary_coords, slope

    both(device, work)


@needs_kernel
@pytest.mark.parametrize("mode", MODES)
def test_outlines(device: str, mode: str) -> None:
    sphere = octa_sphere(8)

    def work(where: str) -> tuple[torch.Tensor, ...]:
        verts = (sphere.sphere * 0.07)[None].to(where).requires_grad_()
        texture = torch.linspace(-1, 1, 16 * 16, device=where).view(1, 1, 16, 16).expand(1, 3, 16, 16)
        camera = Camera.orbit(0.3, size=24).to(where)
        behind = -torch.ones(1, 3, 24, 24, device=where)
        out = render_mesh(verts, sphere.to(where), texture, behind, camera, MeshRenderConfig(mode))
        (slope,) = torch.autograd.grad(out.rgb.mean(), verts)
        return out.rgb, out.depth, slope

    both(device, work)


@needs_kernel
def test_depth_maps_seen_from_elsewhere(device: str) -> None:
    def work(where: str) -> tuple[torch.Tensor, ...]:
        depth = torch.full((2, 1, 16, 16), 1.0, device=where).requires_grad_()
        warped, _ = warp_depth(
            depth, torch.tensor([[0.1, 0.2, 0.0], [0.0, -0.3, 0.1]]).to(where), MapCamera(16), 0.9, 1.1
        )
        return warped, torch.autograd.grad(warped.sum(), depth)[0]

    both(device, work)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("method", FIELDS)
def test_fields(device: str, method: str, compiled: bool) -> None:
    """Pictures, normals and gradients; compiled ones on a GPU alone, as they take a minute on a CPU."""
    if compiled and device == "cpu":
        pytest.skip("compiling takes long on a CPU")
    options: dict[str, Any] = {k: v for k, v in TINY.items() if method != "gof" or "steps" not in k}

    def work(where: str) -> tuple[torch.Tensor, ...]:
        g = zoo.build(method, **options).to(where).eval()
        if compiled and where != "cpu":
            g.compile_field()
        latents, camera = g.latents(2, seed=0), g.cameras(2, seed=1, size=12)
        out = g(latents, camera, g.lights(2, seed=2))
        slope = torch.autograd.grad(out.rgb.mean(), [p for p in g.parameters() if p.requires_grad], allow_unused=True)
        return out.rgb, out.depth, torch.cat([s.flatten() for s in slope if s is not None])

    both(device, work)


@contextmanager
def refusing_to_wait(device: str) -> Iterator[None]:
    """Anything inside that makes Python wait for the GPU is an error."""
    if device != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


OWN = [setting for setting in RUN if not setting.startswith("generator.")]
STEPS = [
    ("pigan_heads32", RUN),
    ("pigan_heads32", [*RUN, "generator.lock_view=true"]),
    ("shadegan_heads32", RUN),
    ("hologan_heads64", [*OWN, "generator.size=32", "generator.z_dim=8", "generator.channels=4"]),
    ("hologan_heads64", [*OWN, "generator.size=32", "generator.channels=4", "generator.reverse=true"]),
]


@pytest.mark.parametrize(("recipe", "settings"), STEPS)
def test_a_step_never_waits(
    device: str, recipe: str, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TrainingSystem.training_step

    def watched(self: TrainingSystem, batch: Any, batch_idx: int) -> None:
        with refusing_to_wait(device) if batch_idx else nullcontext():  # the first one makes plans and workspaces
            step(self, batch, batch_idx)

    monkeypatch.setattr(TrainingSystem, "training_step", watched)
    run = recipes.load_run(recipe, [*settings, accelerator(device), "trainer.log_every=8"])
    assert fit(run, tmp_path, steps=6).images == 24
    assert "g" in json.loads((tmp_path / "metrics.jsonl").read_text("utf-8"))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("method", ["pigan", "shadegan"])
def test_both_precisions_train(device: str, method: str, precision: str, tmp_path: Path) -> None:
    run = recipes.load_run(f"{method}_heads32", [*RUN, accelerator(device), f"trainer.precision={precision}"])
    system = fit(run, tmp_path, steps=3)
    assert all(bool(p.isfinite().all()) for p in system.parameters())


def test_a_run_goes_on_elsewhere(device: str, tmp_path: Path) -> None:
    """Trained on the device, gone on with on the CPU, loaded there."""
    common = [*RUN, f"out={tmp_path}", "name=moved"]
    zoo.train("pigan_heads32", [*common, accelerator(device), "trainer.max_kimg=0.016"])
    folder = zoo.train("pigan_heads32", [*common, "trainer.accelerator=cpu", "trainer.max_kimg=0.024", "resume=auto"])
    g = zoo.load(f"file:{folder}", device="cpu")
    assert g(g.latents(1, seed=0), g.camera(size=8)).rgb.isfinite().all()
    images = [json.loads(line)["kimg"] for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert images[-1] == 0.024


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL needs two GPUs")
def test_two_processes_train_over_nccl(tmp_path: Path) -> None:
    overrides = [*RUN, f"out={tmp_path}", "trainer.accelerator=gpu", "trainer.devices=2", "trainer.max_kimg=0.032"]
    done = subprocess.run([sys.executable, "-m", "zoo", "train", "pigan_heads32", *overrides], check=False)
    assert done.returncode == 0


def test_pictures_arrive_whole_from_pinned_memory(device: str) -> None:
    images = torch.arange(48.0).view(1, 3, 4, 4)
    there = (images.pin_memory() if device == "cuda" else images).to(device, non_blocking=True)
    assert F.mse_loss(there.cpu(), images).item() == 0
