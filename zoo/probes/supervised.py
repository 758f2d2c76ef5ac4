"""The supervised baseline: the depth probe trained on true depth of the embedded heads, plain and wild, to the end.

Its weights are shipped. `python -m zoo.probes.supervised` trains them again, in half an hour on one core.
"""

import argparse
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..heads.dataset import WILD, HeadDataset
from ..heads.views import view_distances
from ..runtime.files import atomic_write
from ..runtime.progress import Steps
from .depth import DepthProbe, Pairs, augment_pairs, average_depth

ASSET = Path(__file__).parent / "assets" / "supervised.safetensors"
SIZE, _WIDTH, _CODE = 64, 16, 64
_BATCH, _HELD, _EVERY = 32, 500, 500
_CONDITIONS: tuple[dict[str, Any], ...] = ({}, WILD)


@cache
def load_supervised() -> DepthProbe:
    """The trained probe, on the CPU and in eval mode, for images of 64 px."""
    with safe_open(ASSET, "pt") as file:
        tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  # it is no mapping
        about = json.loads(file.metadata()["about"])
    probe = DepthProbe(tensors["average"], about["near"], about["far"], nf=_WIDTH, zdim=_CODE)
    probe.load_state_dict(tensors)
    return probe.eval()


def train_supervised(out: Path, steps: int, heads: int) -> list[float]:
    """Train on heads of the train split, every other batch wild, and write the state that does best on val.

    Args:
        out: The .safetensors file, in half precision; it is written anew whenever the state is better than before.
        steps: Number of optimiser steps of 32 pairs.
        heads: Number of heads, each in both conditions; they are all in memory.

    Returns:
        The error on val after every 500 steps: masked L1 over both conditions, in units of half the depth range.
    """
    torch.manual_seed(0)
    pairs = [_rendered("train", heads, options) for options in _CONDITIONS]
    held = Pairs.cat([_rendered("val", _HELD, options) for options in _CONDITIONS])
    average, depths = average_depth(pairs[0]), held.depth[held.mask]
    near, far = depths.min().item(), depths.max().item()
    probe = DepthProbe((average + average.flip(-1)) / 2, near, far, nf=_WIDTH, zdim=_CODE)
    optimiser = torch.optim.Adam(probe.parameters(), 1e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps + 1, pct_start=0.1)
    curve = list[float]()
    with Steps("supervised") as shown, shown.task("training on true depth", steps) as advance:
        for step, chosen in zip(range(1, steps + 1), _batches(heads), strict=False):
            optimiser.zero_grad()
            probe.error(augment_pairs(pairs[step % 2][chosen])).backward()
            optimiser.step()
            schedule.step()
            advance(1)
            if step % _EVERY == 0 or step == steps:
                curve.append(_error(probe, held))
                print(f"step {step}: {curve[-1]:.5f}", flush=True)
                if curve[-1] == min(curve):
                    about = {"near": near, "far": far, "steps": step, "heads": heads, "error": curve[-1]}
                    state = {key: value.half().contiguous() for key, value in probe.state_dict().items()}
                    atomic_write(out, save(state, {"about": json.dumps(about)}))
    return curve


@torch.no_grad()
def _error(probe: DepthProbe, held: Pairs) -> float:
    probe.eval()
    parts = [probe.error(held[i : i + 100]).item() for i in range(0, len(held), 100)]
    probe.train()
    return sum(parts) / len(parts)


def _rendered(split: str, count: int, options: dict[str, Any]) -> Pairs:
    heads = HeadDataset(split, SIZE, count, **options)
    parts = []
    for start in range(0, count, 500):
        items = heads.batch(list(range(start, min(start + 500, count))))
        parts.append(Pairs(items["image"], as_plain(items["depth"], items["view"]), items["mask"] > 0.5))
    return Pairs.cat(parts)


def as_plain(depth: Tensor, view: Tensor) -> Tensor:
    """The depth (B, 1, S, S) that the plain camera would see for what a view (B, 4) shows, to first order.

    A picture tells neither how far away the camera stood nor how it was cut out. A head that was enlarged is taken for
    a larger one, whose relief is larger, too.
    """
    distance = torch.from_numpy(view_distances(view.double().numpy())).to(depth)
    scale = view[:, 1].to(depth)
    return 1 + scale.view(-1, 1, 1, 1) * (depth - distance.view(-1, 1, 1, 1))


def _batches(count: int) -> Iterator[Tensor]:
    """Indices without end; none comes twice before all came once."""
    while True:
        yield from torch.randperm(count).split(_BATCH)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ASSET)
    parser.add_argument("--steps", type=int, default=4_000)
    parser.add_argument("--heads", type=int, default=8_000)
    given = parser.parse_args()
    train_supervised(given.out, given.steps, given.heads)
