"""Shipped weights have the figures that their cards and README promise."""

from pathlib import Path

import pytest

import zoo
from zoo.weights import cards

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_unsup3d_errs_half_as_much_as_the_average_head() -> None:
    card = cards.read(ROOT / "checkpoints" / "unsup3d.heads64" / "README.md")
    promised = {metric.name: metric.value for metric in card.metrics}
    average, found = (zoo.evaluate(name, "heads", progress=False) for name in ("average", zoo.load("unsup3d.heads64")))
    assert found["SIDE"] == pytest.approx(promised["SIDE x1e-2"], abs=6e-4)
    assert found["MAD"] == pytest.approx(promised["MAD deg"], abs=6e-3)
    assert found["SIDE"] <= average["SIDE"] / 2
