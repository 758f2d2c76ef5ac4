"""A training run small enough for tests: a tiny generator on 16 px heads, four images a step."""

from collections.abc import Callable
from pathlib import Path

import pytest

TINY = [
    "generator.z_dim=8",
    "generator.hidden_dim=16",
    "generator.layers=2",
    "generator.mapping_dim=16",
    "generator.density_scale=30",
    "generator.steps=6",
    "generator.fine_steps=0",
    "system.stages=[{size: 16, batch: 4}]",
    "data.size=32",
    "data.length=40",
    "trainer.accelerator=cpu",
    "trainer.compile=never",
    "trainer.threads=1",
    "trainer.log_every=1",
    "trainer.checkpoint_kimg=0.016",
    "trainer.sample_kimg=1",
]


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., list[str]]:
    """Overrides of a tiny run whose folder is below tmp_path, plus those given."""

    def overrides(*more: str, out: str = "runs") -> list[str]:
        return [*TINY, f"out={tmp_path / out}", *more]

    return overrides
