"""The instrument works: it tells pose from shape, knows the truth, and gives the mean head nothing."""

import json
from dataclasses import replace
from math import radians
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

import zoo
from zoo.errors import ConfigError
from zoo.evaluation.benchmark import Options
from zoo.evaluation.benchmarks.heads_v2 import MEAN, HeadsV2
from zoo.evaluation.comparison import measure
from zoo.evaluation.shape import generated
from zoo.evaluation.shape.predicted import EYES, Reading, errors, reader_of
from zoo.evaluation.shape.protocol import ShapeProtocol
from zoo.evaluation.shape.reals import Reals, fit_space, load_space
from zoo.evaluation.shape.truth import CONDITIONS, Surface, Truth, heads_at
from zoo.evaluation.statistics import difference, figure, interval, ranks
from zoo.geometry import continued
from zoo.heads.dataset import render_heads
from zoo.heads.model import HeadModel
from zoo.heads.sampling import sample_heads
from zoo.metrics.shape import person_r2
from zoo.probes.supervised import as_plain, load_supervised
from zoo.runtime.progress import Steps

N = 16


@pytest.fixture(scope="module", params=CONDITIONS)
def truth(request: pytest.FixtureRequest) -> Truth:
    return Truth.open("val", request.param, N, 64, seed=3)


def r2(truth: Truth, surface: Surface) -> tuple[float, float, float]:
    """R2 of the person, mean pose in degrees, and mean shape over that of the mean head."""
    found = truth.compare(surface)[0]
    share = found.shape.mean() / truth.mean_errors.mean()
    return float(person_r2(found.shape, truth.mean_errors)), float(found.pose.mean()), float(share)


def test_the_truth_is_known_whole(truth: Truth) -> None:
    known, pose, shape = r2(truth, truth.surface)
    assert known > 1 - 1e-6
    assert pose < 1e-3
    assert shape < 1e-3


def test_the_mean_head_knows_nobody(truth: Truth) -> None:
    assert r2(truth, truth.mean)[0] == 0
    heads = sample_heads(np.roll(np.arange(N), 1), 3, "val", HeadModel.load())
    assert r2(truth, heads_at(heads, truth.pose, truth.view, 64))[0] < -0.2


def test_a_turned_head_has_an_error_of_pose_and_hardly_one_of_shape(truth: Truth) -> None:
    angle = 2 * torch.pi * torch.arange(N) / N
    noise = radians(5) * torch.stack([angle.sin(), angle.cos()], 1)
    heads = sample_heads(np.arange(N), 3, "val", HeadModel.load())
    known, pose, shape = r2(truth, heads_at(heads, truth.pose + noise, truth.view, 64))
    assert pose == pytest.approx(5, abs=0.5)
    assert shape < 0.55
    assert known > 0.6


def test_depth_of_any_scale_is_read(truth: Truth) -> None:
    """True depth under the true camera has no errors; 3 times it neither, as depth has no scale."""
    depth = continued(truth.depth, truth.depth > 0)
    for scale in (1.0, 3.0):
        reading = Reading(scale * depth, truth.albedo * torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1), truth.view)
        found = errors(replace_valid(reading, truth), truth)
        for key in ("SIDE", "MAD", "pose", "shape", "normals", "albedo"):
            assert found[key].max() < 0.02, key
        assert found["relit"].max() < 0.01


def replace_valid(reading: Reading, truth: Truth) -> Reading:
    return reading._replace(valid=truth.surface.mask)


def test_a_method_is_not_told_the_camera() -> None:
    """In the condition wild depth is read as that of the plain camera: what that would see has hardly an error."""
    wild = Truth.open("val", "wild", 8, 64, seed=3)
    seen = continued(as_plain(wild.depth, wild.view), wild.depth > 0)
    found = errors(Reading(seen, valid=wild.surface.mask), wild)
    assert found["pose"].max() < 1
    assert found["shape"].max() < 2
    raw = errors(reader_of(lambda images: continued(wild.depth, wild.depth > 0))(wild.image), wild)
    assert raw["shape"].mean() > 2 * found["shape"].mean()


def test_the_supervised_baseline_knows_people() -> None:
    plain = Truth.open("val", "plain", 24, 64, seed=3)
    found = errors(reader_of(load_supervised().predict)(plain.image), plain)["shape"]
    assert person_r2(found, 100 / EYES * plain.mean_errors) > 0.15


@pytest.fixture
def opened() -> HeadsV2:
    rules = replace(
        ShapeProtocol(), split="val", n_test=6, n_pairs=10, n_shapes=12, n_pictures=10, n_real=64, n_turned=2
    )
    return HeadsV2(replace(rules, probes=1, steps=2, n_turned=2), {}, Options())


def test_rows_of_baselines_and_functions(opened: HeadsV2) -> None:
    with Steps("test", enabled=False) as steps:
        mean, pictures = opened.row(MEAN, MEAN, steps)
        flat, _ = opened.row("flat", lambda images: torch.ones_like(images[:, :1]), steps)
    assert mean.figures["R2"] == mean.figures["R2_wild"] == 0
    assert mean.figures["shape_FD"] is None
    assert isinstance(flat.figures["R2"], float)
    assert flat.figures["R2"] < -1
    assert flat.kind == "model"
    assert mean.kind == "baseline"
    low, high = flat.intervals["pose"]
    assert low < flat.figures["pose"] < high  # type: ignore[operator]
    assert flat.samples["R2"].shape == (6, 2)
    assert [sheet.title for sheet in pictures()] == ["Test images"]
    assert "Know no more" in opened.lead([mean, flat])
    assert opened.ranked([mean, flat])[1].figures["rank"] == "1"


def test_functions_may_leave_a_head_out_or_have_gradients(opened: HeadsV2) -> None:
    def along_a_line(images: torch.Tensor) -> torch.Tensor:
        depth = torch.ones_like(images[:, :1], dtype=torch.float64, requires_grad=True)
        return depth + 0.01 * torch.linspace(-1, 1, 64)

    with Steps("test", enabled=False) as steps:
        row, pictures = opened.row("x", along_a_line, steps)
    assert pictures()
    json.dumps(row.as_dict(), allow_nan=False)


def test_people_who_are_left_out_keep_their_places(opened: HeadsV2, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"pose": np.array([[1.0, np.nan, 2.0, 3.0, 4.0, 5.0]] * 2), "R2": np.ones((2, 6, 2))}
    monkeypatch.setattr(HeadsV2, "_errors", lambda *_: (found, Reading(torch.ones(6, 1, 64, 64))))
    with Steps("test", enabled=False) as steps:
        row, _ = opened.row("x", lambda images: images[:, :1], steps)
    assert row.figures["pose"] == 3
    assert row.samples["pose"].shape == (6,)
    assert np.isnan(row.samples["R2"][1]).all()
    assert row.probes["pose"].tolist() == [3, 3]
    assert row.notes[0] == "1 plain head without a place skipped"
    found["pose"][:, 1:] = np.nan
    with Steps("test", enabled=False) as steps:
        row, _ = opened.row("x", lambda images: images[:, :1], steps)
    assert row.figures["pose"] is None
    assert "pose" not in row.intervals
    json.dumps(row.as_dict(), allow_nan=False)


def test_real_heads_are_compared_with_others() -> None:
    """As many pictures as the protocol says, and none of them on both sides."""
    rules = replace(ShapeProtocol(), split="val", n_shapes=12, n_pictures=20, n_real=64)
    reals = Reals(rules)
    assert len(reals.images) == 20
    others = reals._images(rules.n_pictures)
    assert len(others) == 20
    assert (others[:, None] - reals.images).abs().amax((2, 3, 4)).min() > 0.1


def test_intervals_stay_where_figures_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shapes of real heads themselves: a distance of 0 and a coverage of 1, beyond which there is nothing."""
    monkeypatch.setattr(generated, "available", lambda: False)
    shapes = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reals = SimpleNamespace(shapes=shapes)
    figures, intervals = generated._compared(shapes, torch.zeros(0, 3, 8, 8), reals)  # type: ignore[arg-type]
    assert figures["coverage"] == 1
    assert intervals["coverage"][0] < intervals["coverage"][1] == 1
    assert intervals["shape_FD"][0] == 0 < intervals["shape_FD"][1]


def test_the_message_names_the_row() -> None:
    def fails(images: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(images[:, :1])

    with pytest.raises(ConfigError, match=r"^broken: prediction depth must be > 0"):
        measure("broken", fails, "heads_v2", quick=True, progress=False, n_test=2, split="val")


def test_the_protocol_says_every_departure() -> None:
    rules = ShapeProtocol().quick().but(split="val", n_test=5)
    assert rules.name == "heads-v2/quick/split=val/n_test=5"
    assert ShapeProtocol().quick().but(n_test=np.int64(5), split="val") == rules  # or rows were measured twice
    for value in (5.0, "5", True):
        with pytest.raises(ConfigError, match="n_test must be a whole number, got"):
            ShapeProtocol().but(n_test=value)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="use sealed or val"):
        ShapeProtocol().but(split="test")
    with pytest.raises(ConfigError, match="at least 10"):
        ShapeProtocol().but(n_shapes=3)
    with pytest.raises(ConfigError, match="at least 20"):  # KID needs two pictures in each of ten blocks
        ShapeProtocol().but(n_pictures=19)


def test_intervals_cover_and_ranks_are_resolved_in_pairs() -> None:
    source = np.random.default_rng(0)
    people = source.normal(size=200)
    first = people + source.normal(size=200) * 0.05
    second = people + 0.1 + source.normal(size=200) * 0.05
    low, high = interval(first)
    assert low < figure(first) < high
    assert low < figure(second) < high  # alone they cannot be told apart
    assert difference(first, second)[1] < 0  # person by person they can
    same = first[::-1].copy()
    assert ranks({"a": first, "b": second, "c": same}, "lower")["a"][0] == 1
    assert ranks({"a": first, "b": second}, "lower") == {"a": (1, 1), "b": (2, 2)}
    assert ranks({"a": first, "b": second}, "higher") == {"a": (2, 2), "b": (1, 1)}
    apart = first.copy(), second.copy()
    apart[0][3], apart[1][7] = np.nan, np.nan  # the others are still compared person by person
    assert ranks({"a": apart[0], "b": apart[1]}, "lower") == {"a": (1, 1), "b": (2, 2)}
    assert figure(apart[0]) == pytest.approx(np.delete(first, 3).mean())
    assert ranks({"a": first, "b": second[:100]}, "lower") == {"a": (1, 2), "b": (1, 2)}
    ratio = np.stack([np.full(50, 1.0), np.full(50, 4.0)], 1)
    assert figure(ratio) == 0.75
    assert interval(ratio) == (0.75, 0.75)


def test_intervals_hold_what_they_promise() -> None:
    """Of 200 experiments on 60 people, about 95 in a hundred have the truth inside."""
    source = np.random.default_rng(1)
    hits = sum(low < 0 < high for low, high in (interval(source.normal(size=60)) for _ in range(200)))
    assert 180 <= hits <= 198


def test_intervals_hold_what_they_promise_where_networks_differ() -> None:
    """A figure over 60 people and 3 networks, which differ more than the mean over people does."""
    source = np.random.default_rng(2)
    hits, alone = 0, 0
    for _ in range(300):
        probes = source.normal(size=3) * 0.3
        people = source.normal(size=60)
        samples = people + probes.mean()
        low, high = interval(samples, people.mean() + probes)
        hits += low < 0 < high
        low, high = interval(samples)
        alone += low < 0 < high
    assert 278 <= hits <= 296
    assert alone < 260


def test_words_say_what_intervals_are_over() -> None:
    said = " ".join(HeadsV2(replace(ShapeProtocol(), n_turned=9), {}, Options()).words())
    assert "Intervals of predictions, of R2 to relit," in said
    assert f"{generated.DRAWS} draws of the samples" in said
    assert "own normals over the 9 samples" in said


def test_networks_that_differ_leave_ranks_open() -> None:
    source = np.random.default_rng(3)
    people = source.normal(size=200)
    rows = {"a": people, "b": people + 0.1}
    alike = {"a": np.array([0.0, 0.01, -0.01]), "b": np.array([0.1, 0.11, 0.09])}
    apart = {"a": np.array([0.0, 0.2, -0.2]), "b": np.array([0.1, 0.0, 0.2])}
    assert ranks(rows, "lower", alike) == {"a": (1, 1), "b": (2, 2)}
    assert ranks(rows, "lower", apart) == {"a": (1, 2), "b": (1, 2)}
    assert ranks(rows, "lower", {"a": apart["a"]}) == {"a": (1, 2), "b": (1, 2)}


def test_the_shipped_space_knows_a_head_that_nods() -> None:
    """Heads that look up or down by 6 degrees move by far less than what tells people apart."""
    space, heads = load_space(), sample_heads(np.arange(20), 0, "val", HeadModel.load())
    assert 0.2 < (space.mean > 0).double().mean() < 0.6  # the head has an outline to be registered by

    def shapes(pitch: float) -> Tensor:
        seen = render_heads(heads, np.tile([pitch, 0.0], (20, 1)), np.zeros((20, 4)), ShapeProtocol.size)
        return space.project(torch.from_numpy(seen.depth), torch.from_numpy(seen.mask), space.camera)

    ahead = shapes(0.0)
    for pitch in (0.1, -0.1):
        assert (shapes(pitch) - ahead).norm(dim=1).mean() < 0.6


@pytest.mark.slow
def test_the_shipped_space_is_that_of_the_protocol() -> None:
    """`python -m zoo.evaluation.shape.reals` writes it anew after a change that is meant."""
    kept, spanned = load_space(), fit_space(ShapeProtocol.size, ShapeProtocol.n_real)
    for key in ("mean", "region", "centre"):
        torch.testing.assert_close(getattr(kept, key), getattr(spanned, key))
    assert kept.unit == pytest.approx(spanned.unit, rel=1e-6)
    overlap = kept.components @ spanned.components.T  # the same space, whatever the signs of its axes
    torch.testing.assert_close(overlap.square().sum(1), torch.ones(30, dtype=torch.float64), rtol=1e-4, atol=0)


@pytest.mark.slow
def test_shapes_of_generators_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collapsed ShadeGAN is worse than ShadeGAN, GOF is worse than it too, and real heads are best of all."""
    monkeypatch.setattr(generated, "available", lambda: False)  # pictures are not what this is about
    rules = replace(ShapeProtocol(), split="val", n_shapes=48, n_pictures=10, n_turned=2)
    reals = Reals(rules)
    pictures = torch.zeros(10, 3, 64, 64)

    def shape(name: str, psi: float = 1.0) -> tuple[float, float]:
        generator = zoo.load(name)
        own = generator.latents
        monkeypatch.setattr(generator, "latents", lambda n, seed=0: own(n, seed, psi))
        with Steps(name, enabled=False) as steps:
            found, _ = generated.generated_figures(generator, reals, steps, 0, pictures)
        return found["shape_FD"], found["coverage"]  # type: ignore[return-value]

    with Steps("real", enabled=False) as steps:
        real, _ = generated.generated_figures(None, reals, steps)
    shadegan, collapsed = shape("shadegan.heads32"), shape("shadegan.heads32", psi=0.0)
    gof = shape("gof_shaded.heads32")
    assert shadegan[0] < collapsed[0]
    assert shadegan[1] > collapsed[1]
    assert shadegan[0] < gof[0]
    assert real["shape_FD"] < min(shadegan[0], gof[0]) / 2  # type: ignore[operator]
