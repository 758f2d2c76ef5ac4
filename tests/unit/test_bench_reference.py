"""The yardsticks of `zoo bench` do what our own code does: pictures, gradients, and whole training steps."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from tests.tiny import TINY
from zoo.bench.published.generator import Reference
from zoo.bench.published.step import ReferenceStep
from zoo.bench.steps import fit
from zoo.config import recipes
from zoo.renderers.fields.volume import Sampling

METHODS = {"pigan": {}, "shadegan": {}, "shadegan white": {"scene": {"white_back": True}, "light_condition": False}}


def made(case: str) -> Any:
    options: dict[str, Any] = {**TINY, "density_scale": 30, "layers": 3, **METHODS[case]}
    return zoo.build(case.split()[0], **options)


@pytest.mark.parametrize("fine", [0, 5])
@pytest.mark.parametrize("case", METHODS)
def test_the_reference_draws_our_pictures(case: str, fine: int) -> None:
    g = made(case).eval()
    reference = Reference(g)
    latents, camera, light = g.latents(2, seed=1), g.cameras(2, seed=2, size=8), g.lights(2, seed=3)
    with torch.no_grad():
        ours = g(latents, camera, light, Sampling(6, fine))
        theirs = reference(latents.z, camera, light if g.uses_light else None, 6, fine)
    torch.testing.assert_close(ours.rgb, theirs.rgb, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(ours.aux["ray_distance"], theirs.distance, atol=1e-5, rtol=1e-5)
    if g.uses_light:
        torch.testing.assert_close(ours.aux["world_normal"], theirs.normal, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("case", METHODS)
def test_the_reference_learns_what_we_learn(case: str) -> None:
    """Same random numbers, same loss, same gradient of every weight, though its normals are differentiated twice."""
    g = made(case).train()
    reference = Reference(g)
    latents, camera, light = g.latents(2, seed=1), g.cameras(2, seed=2, size=8), g.lights(2, seed=3)
    weights = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    torch.manual_seed(0)
    ours = (g(latents, camera, light, Sampling(6, 5, random=True, noise_std=0.5)).rgb * weights).mean()
    torch.manual_seed(0)
    theirs = (reference(latents.z, camera, light if g.uses_light else None, 6, 5, True, 0.5).rgb * weights).mean()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    ours.backward()
    theirs.backward()
    twins = dict(reference.named_parameters())
    for name, value in g.named_parameters():
        assert value.grad is not None
        scale = value.grad.abs().max()
        torch.testing.assert_close(value.grad, twins[name].grad, atol=1e-3 * float(scale) + 1e-9, rtol=1e-3, msg=name)


@pytest.mark.parametrize("recipe", ["pigan_heads32", "shadegan_heads32"])
def test_the_reference_takes_our_steps(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fakes drawn twice and R1 at every step, as published, both come to the same losses and weights.

    A SLURM script without srun is one process.
    """
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_JOB_NAME", "batch")
    run = recipes.load_run(recipe, [
        *(f"generator.{k}={v}" for k, v in TINY.items()), "generator.outward_init=false", "generator.inference_steps=0",
        "system.stages=[{size: 32, batch: 4}]", "data.length=16", "data.size=32", "trainer.accelerator=cpu",
        "trainer.compile=never", "system.share_fakes=false", "system.r1_every=1",
        "system.discriminator={channels: [4, 4, 8, 8]}",
    ])  # fmt: skip
    found: dict[str, float] = {}
    twin: list[ReferenceStep] = []

    def before(system: Any, images: torch.Tensor) -> None:
        if not twin:
            twin.append(ReferenceStep(system))
            state = torch.get_rng_state()
            torch.manual_seed(system.step_seed)
            found.update(twin[0](images))
            torch.set_rng_state(state)

    system = fit(run, tmp_path, steps=1, before=before)
    ours = dict(system.generator.named_parameters())
    for name, value in twin[0].generator.named_parameters():
        torch.testing.assert_close(ours[name], value, atol=2e-5, rtol=1e-3, msg=name)
    record = (tmp_path / "metrics.jsonl").read_text("utf-8")
    assert all(abs(json.loads(record)[key] - found[key]) < 1e-3 for key in ("d", "g", "r1")), found
