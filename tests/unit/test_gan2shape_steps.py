"""Each step of a fit teaches its own networks; a fit that stops goes on as if it had not, and bad numbers end it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.unit.tiny_gan2shape import SIZE, prepared, tiny_discriminator, tiny_gan, tiny_run, values
from zoo.errors import Interrupted, WeightsError, ZooError
from zoo.fitting.fit import fit
from zoo.fitting.steps import Drawings, InstanceSystem, Step
from zoo.fitting.subject import Subject
from zoo.generators.base import Generator
from zoo.generators.gan2shape import GAN2Shape
from zoo.generators.unsup3d_terms import pose_loss


@pytest.fixture(scope="module")
def gan() -> Generator:
    return tiny_gan()


@pytest.fixture(scope="module")
def discriminator() -> dict[str, Tensor]:
    return tiny_discriminator()


@pytest.fixture(scope="module")
def subjects(gan: Generator) -> list[Subject]:
    return prepared(gan)


def test_each_step_changes_its_own_networks(
    gan: Generator, discriminator: dict[str, Tensor], subjects: list[Subject], tmp_path: Path
) -> None:
    system = InstanceSystem(tiny_run(), gan, discriminator)
    names = ("netD", "netA", "netV", "netL", "netEnc")
    seen: dict[str, set[str]] = {}
    before = {name: values(system.generator.get_submodule(name)) for name in names}
    frozen = values(gan)

    def look(step: Step) -> None:
        nonlocal before
        if step.kind == "joint":
            assert system.drawings[0].image.shape == (4, 3, SIZE, SIZE)
        now = {name: values(system.generator.get_submodule(name)) for name in names}
        seen.setdefault(step.kind, set()).update(n for n in names if not torch.equal(now[n], before[n]))
        before = now

    progress = fit(system, subjects[:1], tmp_path / "state.pt", look)
    expected = {"shape": {"netD"}, "albedo": {"netA"}, "projection": {"netEnc"}}
    assert seen == expected | {"joint": {"netD", "netA", "netV", "netL"}}
    assert torch.equal(values(gan), frozen)
    assert [r["iterations"] for r in progress.records] == [2, 2, 2, 2, 1, 1, 1]
    assert [r["stage"] for r in progress.scores()] == [0, 1, 2]
    assert system.drawings == []
    assert torch.load(tmp_path / "state.pt", weights_only=True)["drawings"] == []


def test_depth_waits_in_the_joint_step(
    gan: Generator, discriminator: dict[str, Tensor], subjects: list[Subject], tmp_path: Path
) -> None:
    run = tiny_run("system.stages=[{albedo: 1, projection: 1, joint: 3, hold: 2}]")
    system, changed = InstanceSystem(run, gan, discriminator), []
    depth, pose = system.generator.netD, system.generator.netV
    before = values(depth), values(pose)

    def look(step: Step) -> None:
        nonlocal before
        now = values(depth), values(pose)
        if step.kind == "joint":
            changed.append([not torch.equal(a, b) for a, b in zip(before, now, strict=True)])
        before = now

    fit(system, subjects[:1], tmp_path / "state.pt", look)
    assert changed == [[False, True], [False, True], [True, True]]


def test_many_photographs_have_the_spread_of_the_scene(
    gan: Generator, discriminator: dict[str, Tensor], subjects: list[Subject]
) -> None:
    def joint(weight: float, who: list[Subject]) -> tuple[InstanceSystem, Tensor]:
        system = InstanceSystem(tiny_run(f"generator.pose_weight={weight}"), gan, discriminator)
        system.subjects, system.source = who, torch.Generator().manual_seed(0)
        system.drawings = [Drawings(s.image.repeat(2, 1, 1, 1), s.mask.repeat(2, 1, 1, 1)) for s in who]
        return system, system._joint(0, who[0].image)

    (_, without), (system, told) = joint(0.0, subjects), joint(0.5, subjects)
    g = system.generator
    spread = pose_loss(g, g.viewpoint(g.netV(torch.cat([s.image for s in subjects]))))
    assert spread > 0.1
    torch.testing.assert_close(told - without, 0.5 * spread)
    assert torch.equal(joint(0.0, subjects[:1])[1], joint(0.5, subjects[:1])[1])  # fewer than a batch: no spread


def test_stopping_and_going_on_changes_nothing(
    gan: Generator, discriminator: dict[str, Tensor], subjects: list[Subject], tmp_path: Path
) -> None:
    whole, parts = (InstanceSystem(tiny_run(), gan, discriminator) for _ in range(2))
    records = fit(whole, subjects, tmp_path / "whole.pt").records

    def stop(step: Step) -> None:
        if (step.stage, step.kind) == (2, "projection"):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="the same command goes on"):
        fit(parts, subjects, tmp_path / "parts.pt", stop)
    parts = InstanceSystem(tiny_run(), gan, discriminator)
    resumed = fit(parts, subjects, tmp_path / "parts.pt").records
    assert torch.equal(values(whole.generator), values(parts.generator))
    assert [{k: v for k, v in r.items() if k != "seconds"} for r in records] == [
        {k: v for k, v in r.items() if k != "seconds"} for r in resumed
    ]
    (tmp_path / "parts.pt").write_bytes(b"no state")
    with pytest.raises(WeightsError, match=r"parts\.pt: cannot go on from it"):
        fit(parts, subjects, tmp_path / "parts.pt")


def test_a_fit_goes_on_with_its_own_pictures_alone(
    gan: Generator, discriminator: dict[str, Tensor], subjects: list[Subject], tmp_path: Path
) -> None:
    def stop(step: Step) -> None:
        if step.kind == "albedo":
            raise KeyboardInterrupt

    def system() -> InstanceSystem:
        return InstanceSystem(tiny_run(), gan, discriminator)

    state = tmp_path / "state.pt"
    with pytest.raises(Interrupted):
        fit(system(), subjects[:1], state, stop)
    for others in (subjects[1:], subjects):
        with pytest.raises(WeightsError, match=r"state\.pt: cannot go on .* \(it belongs to other pictures\); use"):
            fit(system(), others, state)
    old = torch.load(state, weights_only=True)
    del old["pictures"]  # as earlier versions wrote it
    torch.save(old, state)
    assert len(fit(system(), subjects[:1], state).records) == 7


def test_the_initial_shape_is_learnt(
    gan: Generator, subjects: list[Subject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")  # a script without srun, which is one process
    monkeypatch.setenv("SLURM_JOB_NAME", "batch")
    only = ["system.stages=[{albedo: 1, projection: 1, joint: 1}]", "system.feature_blocks=0", "system.perceptual=none"]
    run = tiny_run("system.shape_steps=60", "system.lr_shape=0.005", *only)
    system, subject = InstanceSystem(run, gan), subjects[0]
    before = system.generator.shape_loss(subject.image, subject.shape)
    assert fit(system, [subject], tmp_path / "s.pt").records[0]["loss"] < 0.2 * before.item()


def test_a_discriminator_is_asked_for_where_it_is_needed(gan: Generator) -> None:
    with pytest.raises(WeightsError, match=r"system\.feature_blocks=0 system\.perceptual=none"):
        InstanceSystem(tiny_run(), gan)
    with pytest.raises(WeightsError, match=r"is not StyleGAN2's; .* system\.discriminator\.name=style"):
        InstanceSystem(tiny_run(), gan, {"layer.weight": torch.zeros(1)})
    InstanceSystem(tiny_run("system.feature_blocks=0", "system.perceptual=none"), gan)


def test_broken_numbers_stop_the_fit(
    gan: Generator, discriminator: dict[str, Tensor], subjects: list[Subject], tmp_path: Path
) -> None:
    broken = replace(subjects[0], shape=torch.full_like(subjects[0].shape, torch.nan))
    with pytest.raises(ZooError, match=r"head0000: the gradient is not finite \(stage 0, shape step, iteration 0\)"):
        fit(InstanceSystem(tiny_run(), gan, discriminator), [broken], tmp_path / "s.pt")


def test_every_parameter_learns_in_some_step() -> None:
    model = GAN2Shape(GAN2Shape.tiny()).train()
    photos = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    loss = model.joint_loss(photos[:1], photos, torch.ones_like(photos[:, :1]), True, None)
    (loss + model.netEnc(photos).square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
