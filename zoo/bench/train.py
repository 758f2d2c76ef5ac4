"""Training: forward and backward through a field, and whole steps of recipes, against the published algorithm."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..config import recipes
from ..config.schemas import RunConfig
from ..geometry import Light
from ..renderers.fields.volume import Sampling
from ..systems.adversarial import AdversarialSystem
from ..systems.base import TrainingSystem
from ..weights.build import build
from .fields import COARSE, FINE, PUBLISHED, cost
from .harness import LEAST, ROUNDS, Call, Row, Say, Spread, Work, ready
from .published.generator import Reference
from .published.step import ReferenceStep
from .steps import fit

RECIPES = ("pigan_heads32", "shadegan_heads32")
_WARM = 2  # steps before the clock counts; the first may compile


def works(device: str) -> list[Work]:
    """Forward and backward of a batch, without a discriminator."""
    small = {"hidden_dim": 64, "layers": 3, "z_dim": 64, "mapping_dim": 128}
    return [
        learning("shadegan, normals, width 64, 3 layers, 32 px, batch 4", "shadegan", small, 32, 4, device),
        learning("pigan, width 256, 8 layers, 32 px, batch 4", "pigan", PUBLISHED, 32, 4, device),
        learning("shadegan, normals, width 256, 8 layers, 32 px, batch 4", "shadegan", PUBLISHED, 32, 4, device),
    ]


def learning(name: str, method: str, options: dict[str, int], size: int, batch: int, device: str) -> Work:
    """Gradients of all weights for a fixed weighting of the pixels, with 12 + 12 random samples."""
    flops, sine_count = cost(options["hidden_dim"], options["layers"], method == "shadegan")
    points = size**2 * batch * (COARSE + FINE)

    def calls() -> dict[str, Call]:
        g: Any = build(method, **options).to(device).train()
        reference = Reference(g)
        latents, camera = g.latents(batch, seed=0), g.cameras(batch, seed=0, size=size)
        light: Light | None = g.lights(batch, seed=0) if g.uses_light else None
        weights = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
        sampling = Sampling(COARSE, FINE, random=True)
        return {
            "zoo": _descent(g, weights, lambda: g(latents, camera, light, sampling)),
            "reference": _descent(reference, weights, lambda: reference(latents.z, camera, light, COARSE, FINE, True)),
        }

    return Work(name, calls, 3 * flops * points, sine_count * points, options["hidden_dim"], batch)


def _descent(network: torch.nn.Module, weights: torch.Tensor, render: Callable[[], Any]) -> Call:
    def call() -> None:
        network.zero_grad()
        (render().rgb * weights).mean().backward()

    return call


def steps(device: str, seconds: float, say: Say = lambda _: None) -> list[Row]:
    """Whole training steps of recipes, data and records included, with the reference's step before each of ours."""
    rows, end = [], time.monotonic() + seconds
    for number, name in enumerate(RECIPES):
        if time.monotonic() >= end:
            say(f"left out, as time is over: steps of {', '.join(RECIPES[number:])}")
            break
        say(f"{name}: whole steps")
        run = recipes.load_run(name, [f"trainer.accelerator={'gpu' if device == 'cuda' else 'cpu'}", "data.length=256"])
        rows.append(step_row(run, f"{name}: step, batch {run.system.stages[0].batch}", seconds / (2 * len(RECIPES))))
    return rows


def step_row(run: RunConfig, name: str, seconds: float, rounds: int = 4 * ROUNDS) -> Row:
    """Time steps of a recipe in turn with those of the reference.

    Args:
        run: An adversarial recipe of pigan or shadegan.
        name: Of the row.
        seconds: The time after which no further step is taken, once there are three.
        rounds: Steps of each that are counted.
    """
    ours: list[float] = []
    theirs: list[float] = []
    twin: list[ReferenceStep] = []
    spent = [0.0]

    def before(system: TrainingSystem, images: torch.Tensor) -> None:
        assert isinstance(system, AdversarialSystem)
        if not twin:
            twin.append(ReferenceStep(system))
        taken = _seconds(lambda: twin[0](images))
        theirs.append(taken)
        spent[0] += taken

    def after(taken: float) -> bool:
        ours.append(taken)
        spent[0] += taken
        return len(ours) >= _WARM + LEAST and spent[0] > seconds

    with tempfile.TemporaryDirectory(prefix="zoo-bench-") as folder:
        system = fit(run, Path(folder), _WARM + rounds, before, after)
    shares = system.shares or system.parts.shares()
    batch = run.system.stages[0].batch
    # R1 comes with some steps only, so that the mean is what counts, and quartiles say how steps differ.
    return Row(name, _mean(ours[_WARM:]), "reference", _mean(theirs[_WARM:]), None, batch, parts=shares)


def _mean(seconds: list[float]) -> Spread:
    spread = Spread.of(seconds)
    return Spread(statistics.fmean(seconds), spread.low, spread.high, spread.turns)


def _seconds(call: Call) -> float:
    ready()
    start = time.perf_counter()
    call()
    ready()
    return time.perf_counter() - start
