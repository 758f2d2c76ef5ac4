"""Which of several processes this one is, whoever started them: torchrun, srun, or `zoo train` itself."""

import os
from typing import NamedTuple


class Launch(NamedTuple):
    """What started this process together with others.

    Attributes:
        who: "torchrun", "srun", or "zoo" for processes that `zoo train` starts.
        rank: The number of this process, from 0.
        world: How many there are; 1 where `zoo train` has yet to start the others.
        local: How many of them are on each machine; 0 if that is not known.
    """

    who: str
    rank: int
    world: int
    local: int


def launch() -> Launch:
    """Read it off the environment. A SLURM script that runs without srun is one process, as is an interactive shell."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return Launch("torchrun", _number("RANK"), _number("WORLD_SIZE", 1), _number("LOCAL_WORLD_SIZE"))
    shell = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if "SLURM_NTASKS" in os.environ and "SLURM_STEP_ID" in os.environ and not shell:
        return Launch("srun", _number("SLURM_PROCID"), _number("SLURM_NTASKS", 1), _number("SLURM_NTASKS_PER_NODE"))
    return Launch("zoo", _number("LOCAL_RANK"), 1, 0)


def restarted() -> bool:
    """Whether torchrun or SLURM has started this job again."""
    return _number("TORCHELASTIC_RESTART_COUNT") > 0 or _number("SLURM_RESTART_COUNT") > 0


def _number(name: str, default: int = 0) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default
