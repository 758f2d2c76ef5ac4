"""Heads that are inverted, and runs over them, against their true shape."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import zoo
from tests.tiny import TINY
from zoo.errors import ConfigError
from zoo.evaluation.benchmark import Options
from zoo.evaluation.benchmarks import inversions
from zoo.evaluation.benchmarks.inversions import MEAN, InversionProtocol, Inversions
from zoo.fitting.runs import FinishedRun
from zoo.geometry import continued
from zoo.runtime.progress import Steps

RULES = InversionProtocol("inversions-tiny", "val", n_test=3, steps=1)


@pytest.fixture(scope="module")
def opened() -> Inversions:
    return Inversions(RULES, {}, Options(seed=3))


def run_over(opened: Inversions, names: list[str], depth: torch.Tensor, light: float = 0.0) -> FinishedRun:
    """A run that has found this depth."""
    pictures = [
        SimpleNamespace(
            name=name,
            subject=lambda i=i: SimpleNamespace(image=opened.truth.image[i : i + 1] + light),
            depths=lambda size, i=i: depth[i : i + 1],
        )
        for i, name in enumerate(names)
    ]
    return FinishedRun(Path("fits"), {}, pictures)  # type: ignore[arg-type]


def test_a_generator_is_inverted_and_baselines_stand_beside_it(
    opened: Inversions, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def inverts(generator: object, image: torch.Tensor, **options: object) -> object:
        i = len(made)
        made.append(options)
        truth = opened.truth
        depth = truth.depth[i : i + 1]
        render = SimpleNamespace(depth=depth, mask=(depth > 0).float(), rgb=image, cpu=lambda: render)
        return SimpleNamespace(render=lambda size: render, fit=SimpleNamespace(psnr=30.0, stopped=""))

    monkeypatch.setattr(inversions, "invert", inverts)
    with Steps("test", enabled=False) as steps:
        row, pictures = opened.row("knows all", zoo.build("pigan", **TINY), steps)
        mean, _ = opened.row(MEAN, MEAN, steps)
    assert made == [{"steps": 1, "size": 64, "align": False, "free": False, "seed": 3}] * 3
    assert row.figures["R2"] == pytest.approx(1, abs=1e-3)
    assert row.figures["PSNR"] == 30
    assert row.samples["R2"].shape == (3, 2)
    assert row.n == 3
    assert mean.figures["R2"] == 0
    assert mean.figures["PSNR"] is None
    assert [label for label, _ in pictures()[0].rows] == ["image", "true depth", "reconstruction", "recovered depth"]
    assert "knows all</strong> with 1.00" in opened.lead([mean, row])


def test_runs_must_be_over_the_heads_of_the_test(opened: Inversions) -> None:
    depth = continued(opened.truth.depth, opened.truth.depth > 0)
    names = [f"val{i:04d}" for i in range(3)]
    with Steps("test", enabled=False) as steps:
        row, _ = opened.row("fits", run_over(opened, names, depth), steps)
        assert row.figures["SIDE"] == pytest.approx(0, abs=1e-6)
        with pytest.raises(ConfigError, match=r"fit it to val:0-2$"):
            opened.row("fits", run_over(opened, ["head0000", *names[1:]], depth), steps)
        with pytest.raises(ConfigError, match="its pictures are others"):
            opened.row("fits", run_over(opened, names, depth, light=0.1), steps)


def test_what_cannot_be_inverted_is_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match="a function cannot be inverted"):
        Inversions.open({"f": lambda images: images}, Options())
    with pytest.raises(ConfigError, match="use sealed or val"):
        Inversions.open({}, Options(settings={"split": "test"}))
    rules = Inversions.open({}, Options(quick=True, settings={"steps": 5})).rules
    assert (rules.name, rules.n_test) == ("inversions-v1/quick/steps=5", 4)
