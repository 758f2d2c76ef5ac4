"""What large trainings cost: bytes that a step sends against speeds of links, hours of a GPU, rates of two processes.

    python -m tests.campaigns.scaling bytes
    python -m tests.campaigns.scaling hours
    python -m tests.campaigns.scaling processes [--recipe NAME] [--steps N] [--rounds N]
    python -m tests.campaigns.scaling links [--recipe NAME] [--steps N] [--rounds N]

The first counts the parameters of each published recipe and prints a model; the second counts the operations of its
steps, most of them without computing anything; the third measures, and needs two idle cores; so does the fourth, which
compares the model with two processes between which gradients are held up.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from zoo.config import recipes
from zoo.config.schemas import AdversarialConfig, InstanceConfig, RunConfig, StageConfig
from zoo.systems.adversarial import AdversarialSystem
from zoo.systems.base import TrainingSystem
from zoo.systems.run import make_system, run_folder

BYTES = 4  # gradients are float32, under bf16-mixed too
LINKS = {"8 GPUs": (8, 300e9), "64, InfiniBand": (64, 40e9), "64, Ethernet": (64, 2.5e9)}  # processes, bytes/s of each
SHARE = 0.1  # of a step that may go to communication
WARM = 5  # steps before the clock starts
PEAK, USED, PRICE = 60e12, 0.35, 2.5  # FLOP/s of a GPU in float32, the share that steps reach, dollars for an hour
RASTERIZED = {"meshgan", "unsup3d"}  # methods whose renderer looks at values


@dataclass(frozen=True)
class Traffic:
    """What a step has to send.

    Attributes:
        generator: Millions of trained parameters of G.
        discriminator: Those of D; 0 without one.
        backward: Backward passes of a step whose gradients are shared.
    """

    generator: float
    discriminator: float
    backward: int

    @property
    def megabytes(self) -> float:
        """Gradients of a step. DDP sends those of all networks after each backward pass, zeros for the one at rest."""
        return BYTES * self.backward * (self.generator + self.discriminator)

    def seconds(self, processes: int, speed: float) -> float:
        """What a ring takes at `speed` bytes a second."""
        return ring_seconds(1e6 * self.megabytes, processes, speed)


def ring_seconds(size: float, processes: int, speed: float) -> float:
    """What a ring takes for `size` bytes: each process sends all but a share of them twice, at `speed` bytes/s."""
    return 2 * (processes - 1) / processes * size / speed


def traffic(run: RunConfig) -> Traffic:
    """Count the networks of a run."""
    system = make_system(run, fresh=False)  # as large, and made without its first training

    def millions(name: str) -> float:
        network = getattr(system, name, None)
        return 0.0 if network is None else sum(p.numel() for p in network.parameters()) / 1e6

    return Traffic(millions("generator"), millions("discriminator"), 1 + isinstance(run.system, AdversarialConfig))


def published() -> dict[str, RunConfig]:
    """The recipes of published size, and StyleGAN2 at 1024 px."""
    out = {}
    for name in recipes.names():
        run = recipes.load_run(name, ["trainer.compile=never"])
        if run.data.name != "heads" and "photos" not in name and not isinstance(run.system, InstanceConfig):
            out[name] = run
    stage = "system.stages=[{size: 1024, batch: 4}]"
    large = ["data.size=1024", "generator.size=1024", stage]
    return out | {"stylegan2_ffhq, 1024 px": recipes.load_run("stylegan2_ffhq", large)}


def print_bytes() -> None:
    """The model, as a table."""
    print("| recipe | G, M | D, M | MB a step | " + " | ".join(f"{link}, ms" for link in LINKS) + " |")
    print("|---|---|---|---|" + "---|" * len(LINKS))
    for name, run in published().items():
        sent = traffic(run)
        times = " | ".join(f"{1e3 * sent.seconds(*link):.1f}" for link in LINKS.values())
        print(
            f"| {name} | {sent.generator:.2f} | {sent.discriminator:.2f} | {sent.megabytes:.0f} | {times} |", flush=True
        )
    speeds = ", ".join(f"{name}: {speed / 1e9:g} GB/s" for name, (_, speed) in LINKS.items())
    print(f"\nAssumed for each process: {speeds}; float32; a ring; nothing hidden behind the backward pass.")
    print(f"A step of {1 / SHARE - 1:.0f} times the milliseconds loses {100 * SHARE:.0f} % to them.")


class Operations(TorchDispatchMode):
    """Counts multiplications and additions of matrix products and convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def counted(work: Callable[[], Tensor]) -> float:
    """Operations of a loss and of its gradient."""
    with Operations() as found:
        work().backward()
    return found.total


def operations(system: TrainingSystem, stage: StageConfig) -> float:
    """Operations that training takes for each real image, R1 and path lengths included as often as they come."""
    real = torch.zeros(stage.batch, 3, stage.size, stage.size, device=system.device)
    if not isinstance(system, AdversarialSystem):
        taught: Any = system.generator
        memory = {name: value.clone() for name, value in taught.training_state().items()}
        return counted(lambda: taught.training_loss(real, system.kimg, memory, None)[0]) / stage.batch
    cfg = system.cfg
    with Operations() as found:
        made = system.generate(stage.batch, stage.size)
    rendered, seen = found.total, system.generator.real_view(real, system.sampling())

    def step_d(lazy: bool) -> float:
        return counted(lambda: system._loss_d(seen, made, None, 1.0, lazy)[0])

    total = step_d(False) + rendered * (1 if cfg.share_fakes else 2)
    if cfg.r1 > 0:
        total += (step_d(True) - step_d(False)) / cfg.r1_every
    learned = counted(lambda: system._loss_g(made, 1.0, False)[0])
    if cfg.path_length > 0:
        made = system.generate(stage.batch, stage.size)
        total += (counted(lambda: system._loss_g(made, 1.0, True)[0]) - learned) / cfg.path_length_every
    return (total + learned) / stage.batch


def training_operations(run: RunConfig) -> float:
    """Operations of a whole training, on tensors without values where the renderer allows it."""
    total, stages = 0.0, run.system.stages
    for stage, later in zip(stages, [*stages[1:], None], strict=True):
        end = run.trainer.max_kimg if later is None else min(later.kimg, run.trainer.max_kimg)
        if end <= stage.kimg:
            continue
        small = run.generator["name"] in RASTERIZED
        one = replace(
            run,
            system=replace(run.system, stages=[replace(stage, batch=2 if small else stage.batch)]),
            trainer=replace(run.trainer, accumulate=2),  # or the mean of path lengths would look for other processes
        )
        system = make_system(one, fresh=False)
        # Without values there is no reduced precision to switch off.
        with nullcontext() if small else mock.patch("torch.autocast", return_value=nullcontext()):
            system = system if small else system.to("meta")
            total += 1000 * (end - stage.kimg) * operations(system, one.system.stages[0])
    return total


def print_hours() -> None:
    """The table of operations, hours and dollars."""
    print("| recipe | kimg | PFLOP | GPU hours | $ |\n|---|---|---|---|---|")
    for name, run in published().items():
        # The prior of gof's normals takes as many as there are surfaces; without it about a tenth is missing.
        less = {"normal_weight": 0} if run.generator["name"] == "gof" else {}
        total = training_operations(replace(run, generator={**run.generator, **less}))
        hours = total / (PEAK * USED) / 3600
        print(
            f"| {name} | {run.trainer.max_kimg:g} | {total / 1e15:.0f} | {hours:.0f} | {PRICE * hours:.0f} |",
            flush=True,
        )
    print(
        f"\nAssumed: {PEAK / 1e12:g} TFLOP/s in float32, of which steps reach {100 * USED:.0f} %; ${PRICE:g} an hour."
    )


def rate(recipe: str, processes: int, steps: int, link: float = math.inf) -> float:
    """Images a second of `zoo train`, one thread for each process, after the first steps, over a `link` of bytes/s."""
    with tempfile.TemporaryDirectory() as out:
        batch = recipes.load_run(recipe).system.stages[0].batch * processes
        given = [
            f"out={out}", f"trainer.devices={processes}", "trainer.accelerator=cpu", "trainer.threads=1",
            "trainer.log_every=1", "trainer.checkpoint_kimg=1000", "trainer.sample_kimg=1000",
            f"trainer.max_kimg={(steps + WARM) * batch / 1000}",
        ]  # fmt: skip
        records = run_folder(recipes.load_run(recipe, given)) / "metrics.jsonl"
        program = ["zoo"] if math.isinf(link) else ["tests.campaigns.slow_link", str(link)]
        command = [sys.executable, "-m", *program, "train", recipe, *given]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen, times = 0, list[float]()
        while process.poll() is None:
            now = len(records.read_bytes().splitlines()) if records.is_file() else 0
            times += [time.monotonic()] * (now - seen)
            seen = now
            time.sleep(0.01)
        if process.returncode or len(times) < steps:
            raise SystemExit(f"zoo train {recipe} {' '.join(given)} ended with code {process.returncode}")
        return (len(times) - WARM) * batch / (times[-1] - times[WARM - 1])


def print_processes(recipe: str, steps: int, rounds: int) -> None:
    """Both in turns, and the median of each."""
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for processes, rates in found.items():
            rates.append(rate(recipe, processes, steps))
    one, two = (statistics.median(rates) for rates in found.values())
    print(json.dumps({str(n): [round(r, 2) for r in rates] for n, rates in found.items()}))
    print(f"| {recipe} | {one:.1f} | {two:.1f} | {two / one:.2f} |")


def print_links(recipe: str, steps: int, rounds: int) -> None:
    """Seconds of a step of two processes over links of several speeds, measured and by the model."""
    run = recipes.load_run(recipe)
    sent, images = traffic(run), 2 * run.system.stages[0].batch
    links = [math.inf, *(sent.megabytes * 1e6 / seconds for seconds in (0.1, 0.3, 1.0))]
    found: dict[float, list[float]] = {link: [] for link in links}
    for _ in range(rounds):
        for link, seconds in found.items():
            seconds.append(images / rate(recipe, 2, steps, link))
    free = statistics.median(found[math.inf])
    print("| link, MB/s | s a step | by the model |\n|---|---|---|")
    for link, seconds in found.items():
        print(f"| {link / 1e6:.1f} | {statistics.median(seconds):.2f} | {free + sent.seconds(2, link):.2f} |")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["bytes", "hours", "processes", "links"])
    parser.add_argument("--recipe", default="shadegan_heads32")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if asked.what == "bytes":
        print_bytes()
    elif asked.what == "hours":
        print_hours()
    else:
        measured = print_processes if asked.what == "processes" else print_links
        measured(asked.recipe, asked.steps, asked.rounds)


if __name__ == "__main__":
    main()
