"""`python -m tests.campaigns.slow_link BYTES_PER_SECOND train RECIPE ...`: zoo, with a slow link between its processes.

Each sum of gradients waits as long as a ring over such a link would take to send them, in `tests.campaigns.scaling`.
"""

import sys
import time
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from tests.campaigns.scaling import ring_seconds
from zoo.cli.main import main
from zoo.systems import run


def waiting(speed: float, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """A hook of DDP: wait, then add up the gradients in a bucket over all processes."""
    buffer = bucket.buffer()
    time.sleep(ring_seconds(buffer.numel() * buffer.element_size(), dist.get_world_size(), speed))
    return allreduce_hook(None, bucket)  # type: ignore[arg-type]  # None is the default group


class SlowLink(DDPStrategy):
    """DDP whose link has the speed of the command line. Lightning itself has hooks on GPUs only."""

    def _register_ddp_hooks(self) -> None:
        model: Any = self.model
        model.register_comm_hook(float(sys.argv[1]), waiting)


if __name__ == "__main__":
    run.DDPStrategy = SlowLink  # type: ignore[misc]
    main(sys.argv[2:])
