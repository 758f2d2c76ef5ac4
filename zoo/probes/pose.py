"""Which way a head looks, read off its picture by a small network trained on the embedded heads, whose poses are known.

2D GANs have no camera, so something must measure how far an edit has turned a head. The viewpoint networks of Unsup3D
could, but they measure in units of their own, and true poses cost nothing here.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..heads.dataset import HeadDataset
from ..images import resize
from ..networks.encoders import Encoder
from ..runtime import draws

SIZE = 32  # side in px of the pictures that the network sees
_RANGE = 1.2  # radians; more than the heads turn


class PoseProbe(nn.Module):
    """Estimates (B, 2) pitch and yaw in radians of heads (B, 3, S, S) in [-1, 1], framed as the embedded ones are.

    A mirrored picture gives the opposite yaw, by construction.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.network = Encoder(3, 2, nf=width, size=SIZE)

    def forward(self, images: Tensor) -> Tensor:
        images = resize(images, SIZE)
        there, mirrored = self.network(torch.cat([images, images.flip(-1)])).chunk(2)
        out: Tensor = _RANGE * (there + mirrored * mirrored.new_tensor([1.0, -1.0])) / 2
        return out


@torch.enable_grad()  # benchmarks ask for it where they need no gradients themselves
def train_pose_probe(
    n: int = 3000, steps: int = 500, batch: int = 32, seed: int = 0, advance: Callable[[int], None] = lambda _: None
) -> PoseProbe:
    """Train a probe on `n` images of the train split; it is returned frozen and on the CPU.

    Args:
        n: Number of images.
        steps: Number of steps of Adam, whose learning rate falls to 0.
        batch: Number of images in each step.
        seed: Makes weights and order.
        advance: Called with 1 after each step.
    """
    heads = HeadDataset("train", size=SIZE, length=n).batch(list(range(n)))
    with draws.seeded(seed):
        probe = PoseProbe()
        optimizer = torch.optim.Adam(probe.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            chosen = torch.randint(n, (batch,))
            loss = F.smooth_l1_loss(probe(heads["image"][chosen]), heads["pose"][chosen], beta=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            advance(1)
    return probe.eval().requires_grad_(False)
