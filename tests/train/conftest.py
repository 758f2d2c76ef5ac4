"""A training run small enough for tests: a tiny generator on 16 px heads, four images a step."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny import TINY as FIELD
from tests.tiny import overrides

TINY = [
    *overrides("generator", FIELD),
    "generator.density_scale=30",
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
