"""What several processes cost: bytes that a step sends against speeds of links, and images a second of two processes.

    python -m tests.campaigns.scaling bytes
    python -m tests.campaigns.scaling processes [--recipe NAME] [--steps N] [--rounds N]

The first counts the parameters of each published recipe and prints a model; the second measures, and needs two idle
cores.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from zoo.config import recipes
from zoo.config.schemas import AdversarialConfig, InstanceConfig, RunConfig
from zoo.systems.run import make_system, run_folder

BYTES = 4  # gradients are float32, under bf16-mixed too
LINKS = {"8 GPUs": (8, 300e9), "64, InfiniBand": (64, 40e9), "64, Ethernet": (64, 2.5e9)}  # processes, bytes/s of each
SHARE = 0.1  # of a step that may go to communication
WARM = 5  # steps before the clock starts


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
        """What a ring takes, in which each process sends all but a share of it twice, at `speed` bytes a second."""
        return 2 * (processes - 1) / processes * self.megabytes * 1e6 / speed


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


def rate(recipe: str, processes: int, steps: int) -> float:
    """Images a second of `zoo train`, one thread for each process, after the first steps."""
    with tempfile.TemporaryDirectory() as out:
        batch = recipes.load_run(recipe).system.stages[0].batch * processes
        given = [
            f"out={out}", f"trainer.devices={processes}", "trainer.accelerator=cpu", "trainer.threads=1",
            "trainer.log_every=1", "trainer.checkpoint_kimg=1000", "trainer.sample_kimg=1000",
            f"trainer.max_kimg={(steps + WARM) * batch / 1000}",
        ]  # fmt: skip
        records = run_folder(recipes.load_run(recipe, given)) / "metrics.jsonl"
        process = subprocess.Popen(
            [sys.executable, "-m", "zoo", "train", recipe, *given], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
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


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["bytes", "processes"])
    parser.add_argument("--recipe", default="shadegan_heads32")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if asked.what == "bytes":
        print_bytes()
    else:
        print_processes(asked.recipe, asked.steps, asked.rounds)


if __name__ == "__main__":
    main()
