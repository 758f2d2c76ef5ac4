"""How many processes train together, who started them, and what they tell each other beside gradients."""

import os
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from ..config.schemas import TrainerConfig
from ..errors import ConfigError
from ..runtime.launched import launch


@dataclass(frozen=True)
class Processes:
    """The processes of a training.

    Attributes:
        rank: The number of this one.
        devices: How many there are on each machine.
        nodes: How many machines there are.
        own: Whether `zoo train` starts them.
        environment: Tells Lightning who started them.
    """

    rank: int
    devices: int
    nodes: int
    own: bool
    environment: ClusterEnvironment

    @property
    def world(self) -> int:
        """The number of all processes."""
        return self.devices * self.nodes


def processes(trainer: TrainerConfig) -> Processes:
    """The processes that a configuration asks for, or those that a launcher started where it asks for no number.

    Raises:
        ConfigError: torchrun or srun started another number of processes than the configuration says; several machines
            have no launcher; or srun does not say how many tasks are on a machine.
    """
    found = launch()
    if found.who == "zoo":
        if trainer.nodes > 1:
            fix = "start the processes with torchrun or srun, see docs/scaling.md"
            raise ConfigError(f"trainer.nodes={trainer.nodes}: zoo train starts processes on one machine; {fix}")
        return Processes(found.rank, trainer.devices, 1, True, LightningEnvironment())
    if found.who == "srun" and found.world > 1 and not found.local:
        fix = "give srun or sbatch --ntasks-per-node=N in place of --ntasks"
        raise ConfigError(f"srun started {found.world} processes and does not say how many are on a machine: {fix}")
    devices = found.local or found.world
    if found.world % devices:
        fix = "use the same number on each"
        raise ConfigError(f"{found.who} started {found.world} processes, {devices} on this machine: {fix}")
    nodes = found.world // devices
    if (trainer.devices, trainer.nodes) not in ((1, 1), (devices, nodes)):
        asked = f"trainer.devices={trainer.devices}" + f" trainer.nodes={trainer.nodes}" * (trainer.nodes > 1)
        fix = f"leave them out, or use trainer.devices={devices} trainer.nodes={nodes}"
        raise ConfigError(f"{found.who} started {found.world} processes, {asked}: {fix}")
    if found.who == "torchrun":
        return Processes(found.rank, devices, nodes, False, TorchElasticEnvironment())
    os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(devices))  # of one task, which Lightning asks for, too
    return Processes(found.rank, devices, nodes, False, SLURMEnvironment(auto_requeue=False))  # zoo saves by itself


def gathered(mine: Any) -> list[Any]:
    """What every process has, by rank; all of them call it."""
    if not (dist.is_available() and dist.is_initialized()):
        return [mine]
    out = [None] * dist.get_world_size()
    dist.all_gather_object(out, mine)
    return out


def means(values: dict[str, list[float]]) -> dict[str, float]:
    """The mean of each quantity over all values of all processes; who has more values counts more, who has none not."""
    parts = gathered({key: (sum(own), len(own)) for key, own in values.items()})
    out = {}
    for key in dict.fromkeys(key for part in parts for key in part):
        sums, counts = zip(*(part[key] for part in parts if key in part), strict=True)
        if total := sum(counts):
            out[key] = sum(sums) / total
    return out
