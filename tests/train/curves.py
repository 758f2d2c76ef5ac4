"""Trainings in float64, one after the other in one process group: `python -m tests.train.curves FILE`.

FILE holds a list of [recipe, overrides] as JSON. Two copies under torchrun's variables are two processes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from zoo.config.recipes import load_run
from zoo.data import stream
from zoo.networks import siren
from zoo.systems import callbacks
from zoo.systems.adversarial import AdversarialSystem
from zoo.systems.run import train

Run = tuple[str, list[str]]

COMMON = ["trainer.accelerator=cpu", "trainer.compile=never", "trainer.threads=1", "trainer.log_every=1",
          "trainer.checkpoint_kimg=0.04", "trainer.sample_kimg=9", "data=folder", "data.size=32"]  # fmt: skip

# R1 and path length at every second step, augmentation that moves, mixing, D with statistics over groups of 4 images.
STYLE = [
    "system.ada_target=0.6", "system.ada_kimg=0.5", "system.mixing=0.5", "system.path_length=2",
    "system.path_length_every=2", "system.r1_every=2", "system.share_fakes=true", "system.ema_kimg=0.05",
    "generator.z_dim=8", "generator.size=32", "generator.mapping_layers=2", "generator.channel_base=64",
    "generator.channel_max=4", "system.discriminator={name: style, channels: [4, 4, 4, 4]}",
]  # fmt: skip

# As published, where no term compares images with each other. All views cover the same pixels, over which means go.
PHOTO = [
    "generator.size=32", "generator.nf=4", "generator.zdim=4", "generator.groups=2", "generator.encoder_nf=2",
    "generator.rotation_range=0.001", "system.ema_kimg=0.05",
]  # fmt: skip
# With all terms of our own: spread of poses, running covariances, a second look under a neighbour's light.
TERMS = [
    "generator.pose_weight=0.02",
    "generator.rigid_weight=50",
    "generator.cycle_weight=0.5",
    "generator.rigid_kimg=0",
]
WITHOUT = ["generator.pose_weight=0", "generator.rigid_weight=0", "generator.cycle_weight=0"]


def main(runs: list[Run]) -> None:
    """Train them all."""
    # Rounding to float32 would hide mistakes: what says float32 means float64, and fields go without their kernels.
    torch.set_default_dtype(torch.float64)
    torch.float32 = torch.float64  # type: ignore[misc]
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    siren.has_kernels = lambda device: False  # type: ignore[attr-defined]
    callbacks.Samples._look = lambda *_: None  # type: ignore[method-assign]  # colours are float32, and no part of a curve
    whole = stream.to_float
    stream.to_float = lambda images: whole(images).double()  # type: ignore[attr-defined]
    build = AdversarialSystem.build

    def augmenting(system: AdversarialSystem) -> None:
        """From the first step on; in so few, no probability would rise to what shows."""
        build(system)
        if system.cfg.ada_target > 0:
            system.augment_p.fill_(0.5)

    AdversarialSystem.build = augmenting  # type: ignore[method-assign]
    for recipe, overrides in runs:
        train(load_run(recipe, overrides))


def together(
    folder: Path, runs: list[Run], processes: int, port: int, variables: dict[str, str]
) -> list[subprocess.CompletedProcess[str]]:
    """Train them in processes that torchrun might have started, and return these when all have ended."""
    file = folder / f"runs{port}.json"
    file.write_text(json.dumps(runs))
    started = []
    for rank in range(processes):
        of_torchrun = {
            "TORCHELASTIC_RUN_ID": "test", "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.train.curves", str(file)]
        environment = os.environ | (of_torchrun if processes > 1 else {}) | variables
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    out = []
    for process in started:
        said = process.communicate(timeout=1200)
        out.append(subprocess.CompletedProcess(process.args, process.returncode, *said))
    return out


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text("utf-8")))
