"""How many processes train together, and who started them."""

import os

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from ..config.schemas import TrainerConfig
from ..errors import ConfigError


def environment(trainer: TrainerConfig) -> ClusterEnvironment | None:
    """Who starts the processes; None: what Lightning finds out by itself.

    A SLURM job whose script runs without srun has one process, whatever number of tasks was reserved.

    Raises:
        ConfigError: torchrun or srun started another number of processes than the configuration has devices.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _need("torchrun", os.environ.get("WORLD_SIZE", ""), trainer.devices)
    elif SLURMEnvironment.detect():
        if "SLURM_STEP_ID" not in os.environ:
            return LightningEnvironment()
        _need("srun", os.environ.get("SLURM_NTASKS", ""), trainer.devices)
    return None


def _need(who: str, started: str, devices: int) -> None:
    if started != str(devices):
        fix = f"use trainer.devices={started}, or run without {who}"
        raise ConfigError(f"{who} started {started or '?'} processes, trainer.devices={devices}: {fix}")
