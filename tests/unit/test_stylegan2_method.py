"""StyleGAN2 as a method: codes, noise, sizes, what a generator of pictures refuses, and its training switches."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from tests.tiny import in_float64
from zoo import losses
from zoo.config.recipes import load_run
from zoo.errors import ConfigError
from zoo.evaluation.comparison import compare
from zoo.evaluation.scores import evaluate
from zoo.generators.base import Generator, Latents
from zoo.generators.pigan import PiGAN
from zoo.generators.stylegan2 import StyleGAN2, StyleGAN2Config
from zoo.geometry import Render
from zoo.output.figures import canonical_views, interpolation
from zoo.output.films import turntable
from zoo.registry import resolve
from zoo.systems import adversarial
from zoo.systems.adversarial import AdversarialSystem
from zoo.systems.base import Logs, Part

TINY = ["generator.z_dim=8", "generator.size=16", "generator.mapping_layers=2", "generator.channel_max=8"]
TINY += [
    "system.stages=[{size: 16, batch: 4}]",
    "system.discriminator={name: style, channels: [8, 8, 8]}",
    "data.size=32",
]


@pytest.fixture
def gen() -> StyleGAN2:
    torch.manual_seed(0)
    g = StyleGAN2(StyleGAN2.tiny()).eval()
    for layer in (g.network.conv1, *g.network.convs):
        torch.nn.init.constant_(layer.noise.weight, 0.3)
    return g


def system(*more: str) -> AdversarialSystem:
    run = load_run("stylegan2", [*TINY, "system.pose_weight=0", *more])
    return AdversarialSystem(run)


def still(monkeypatch: pytest.MonkeyPatch, *more: str) -> AdversarialSystem:
    """A system in training whose networks stay as they are."""
    s = system(*more)
    s.trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    monkeypatch.setattr(s, "optimizers", s.configure_optimizers)

    def update(
        optimizer: Any, network: Any, lr: float, batch: Part, loss: Callable[[Part], tuple[Tensor, Logs]]
    ) -> Logs:
        return loss(batch)[1]

    monkeypatch.setattr(s, "update", update)
    return s


# ---------------------------------------------------------------- pictures


def test_code_and_picture(gen: StyleGAN2) -> None:
    latents = gen.latents(3, seed=1)
    w = gen.code(latents)
    assert w.shape == (3, 8)
    picture = gen.synthesise(w)
    assert picture.shape == (3, 3, 16, 16)
    assert picture.abs().max() <= 1
    layers = w[:, None].expand(-1, gen.code_layers, -1)
    assert torch.equal(gen.synthesise(layers), picture)
    shown = gen(Latents(latents.z, code=layers), gen.camera(size=16)).rgb
    assert torch.equal(shown, picture)
    assert gen.average_code().shape == (1, 8)


def test_training_starts_from_nearly_grey_pictures(gen: StyleGAN2) -> None:
    w = gen.code(gen.latents(2))
    before = gen.network(w)
    gen.initialise()
    torch.testing.assert_close(gen.network(w), before / 10)


def test_gradients_reach_w(gen: StyleGAN2) -> None:
    w = torch.zeros(1, gen.code_layers, 8, requires_grad=True)
    gen.requires_grad_(False).synthesise(w).sum().backward()
    assert w.grad is not None
    assert (w.grad[0].abs().sum(1) > 0).all()


def test_other_sizes_are_resized_and_training_pictures_are_not_clamped(gen: StyleGAN2) -> None:
    latents = gen.latents(2)
    for size in (8, 24):
        assert gen(latents, gen.camera(size=size)).rgb.shape == (2, 3, size, size)
    with torch.no_grad():
        gen.network.to_rgbs[-1].bias.add_(2)
    assert gen(latents, gen.camera(size=16)).rgb.max() <= 1
    assert gen.train()(latents, gen.camera(size=16)).rgb.max() > 1


def test_noise_is_stored_or_fresh(gen: StyleGAN2) -> None:
    latents, camera = gen.latents(2), gen.camera(size=16)
    fresh = [gen(latents, camera, sampling=gen.schedule(0.0)).rgb for _ in range(2)]
    assert not torch.equal(*fresh)
    assert torch.equal(gen(latents, camera).rgb, gen(latents, camera).rgb)
    with pytest.raises(ValueError, match="1 noise maps; give 5"):
        gen(latents, camera, sampling=[None])


@pytest.mark.parametrize("shape", [(2, 7), (2, 5, 8), (8,), (2, 6, 7), (1, 2, 6, 8)])
def test_codes_of_another_shape_are_refused(gen: StyleGAN2, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"give \(B, 8\) or \(B, 6, \.\.\.\)"):
        gen.synthesise(torch.zeros(shape))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 48}, "generator.size=48: use a power of two"),
        ({"size": 2048}, "generator.size=2048: use a power of two"),
        ({"z_dim": 0}, "generator.z_dim=0: use 1 or more"),
        ({"channel_base": 100}, "generator.channel_base=100: use at least size=256"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StyleGAN2Config(**wrong)


REFUSED: dict[str, Callable[[Generator, Path], object]] = {
    "mesh": lambda g, _: g.mesh(g.latents(1)),
    "turntable": lambda g, folder: turntable(g, g.latents(1), folder / "film.mp4", frames=2),
    "turned views": lambda g, _: canonical_views(g, g.latents(1)),
    "turned views ": lambda g, _: interpolation(g, g.latents(1), g.latents(1, seed=1)),
    "depth to score": lambda g, _: evaluate(g, "heads", quick=True, progress=False),
    "depth to score ": lambda g, _: compare({"pictures": g}, "heads", quick=True, progress=False),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_needs_3d_is_refused(gen: StyleGAN2, what: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^StyleGAN2 makes pictures, .* it has no {what.strip()}$"):
        REFUSED[what](gen, tmp_path)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- style mixing


def test_mixing_cuts_codes_in_two() -> None:
    torch.manual_seed(0)
    s = system("system.mixing=0.5")
    mapping = s.generator.mapping
    z = torch.randn(200, 8)
    code = s._coded(Latents(z)).code
    assert code is not None
    own = (code == mapping(z)[:, None]).all(-1)
    assert own[:, 0].all()
    assert (own[:, :-1].int() >= own[:, 1:].int()).all()  # first the own code, then another, never back
    mixed = ~own.all(1)
    assert 70 < mixed.sum() < 130
    assert set(own[mixed].sum(1).tolist()) == set(range(1, s.generator.code_layers))
    for row, first in zip(code[mixed], own[mixed].sum(1), strict=True):
        assert (row[first:] == row[-1]).all()


def test_fields_mix_layer_by_layer_and_methods_with_one_code_do_not() -> None:
    tiny = ["generator.z_dim=8", "system.stages=[{size: 16, batch: 4}]", "data.size=32", "system.latent_weight=0"]
    field = ["generator.hidden_dim=16", "generator.layers=2", "generator.mapping_dim=16"]
    torch.manual_seed(0)
    g = (s := AdversarialSystem(load_run("pigan", [*tiny, *field, "system.mixing=1"]))).generator
    z = torch.randn(50, 8)
    code = s._coded(Latents(z)).code
    assert code is not None
    own = (g.split_code(code) == g.split_code(g.mapping(z))).flatten(2).all(-1)
    assert set(own.sum(1).tolist()) == {1, 2}  # of three layers
    assert own[:, 0].all()
    with pytest.raises(ConfigError, match="one code for all its layers; use 0"):
        AdversarialSystem(load_run("meshgan", [*tiny, "system.mixing=1", "generator.channel_max=8"]))


def test_switches_that_are_off_draw_nothing() -> None:
    """The random numbers of recipes without them stay what they were."""
    s = system()
    latents = Latents(torch.randn(2, 8))
    before = torch.random.get_rng_state()
    assert s._coded(latents) is latents
    images = torch.zeros(2, 3, 16, 16)
    assert s._augmented(images) is images
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not {"path_mean", "augment_p"} & set(s.state_dict())


def test_poses_are_left_out_where_no_camera_turns_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, too: D learnt to read noise, and its images were not turned."""
    s = AdversarialSystem(load_run("stylegan2", [*TINY, "system.ada_target=0.6"]))
    assert (s.cfg.pose_weight, s.pose_weight) == (5, 0)
    turned: list[bool] = []
    monkeypatch.setattr(adversarial, "augment", lambda images, p, turns: turned.append(turns))
    s._augmented(torch.zeros(1, 3, 16, 16))
    assert turned == [True]
    made = s.generate(4, 16)
    assert "pose" not in s._recognition(s.discriminator(made[0].rgb), made[1])[1]


FIELD = ["generator.z_dim=8", "generator.hidden_dim=16", "generator.layers=2", "generator.mapping_dim=16"]
FIELD += ["system.stages=[{size: 16, batch: 4}]", "system.discriminator={name: strided, channels: [4, 4, 4, 4]}"]


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("stylegan2", [*TINY, "system.pose_weight=1"], r"pose_weight=1: no camera turns .* StyleGAN2; use 0$"),
        ("pigan", [*FIELD, "system.pose_weight=15"], r"pose_weight=15: .* strided reads no poses; use 0$"),
        (
            "pigan",
            [*FIELD, "data=folder", "data.root=x", "data.size=16", "data.align=celeba", "system.real_pose=measured"],
            r"real_pose=measured: the discriminator strided reads no poses; use none$",
        ),
    ],
)
def test_poses_that_cannot_be_read_are_refused(method: str, settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^system\.{message}"):
        AdversarialSystem(load_run(method, settings))


def test_poses_that_cannot_be_read_are_left_out_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    s = AdversarialSystem(load_run("pigan", FIELD))
    assert s.pose_weight == 0
    assert s.discriminator.training
    assert caplog.messages == ["system.pose_weight=5: the discriminator strided reads no poses, so poses are left out"]


# ---------------------------------------------------------------- what D is shown


def test_d_learns_from_augmented_images_and_so_does_g(monkeypatch: pytest.MonkeyPatch) -> None:
    s = still(monkeypatch, "system.ada_target=0.6", "system.share_fakes=false")
    s.augment_p.fill_(0.5)
    given: list[Tensor] = []
    shown: list[Tensor] = []
    made: list[Render] = []

    def augment(images: Tensor, p: float, turns: bool = True) -> Tensor:
        assert p == pytest.approx(0.5, abs=0.01)
        given.append(images)
        return images / 2 + len(given)

    monkeypatch.setattr(adversarial, "augment", augment)
    s.generator.register_forward_hook(lambda _, __, render: made.append(render))
    s.discriminator.register_forward_hook(lambda _, inputs, __: shown.append(inputs[0]))
    real = torch.rand(4, 3, 16, 16)
    s.step({"image": real}, s.cfg.stages[0])
    for_d, for_g = (render.rgb for render in made)
    for images, expected in zip(given, (real, for_d, for_g), strict=True):
        assert torch.equal(images, expected)
    for number, (seen, images) in enumerate(zip(shown, given, strict=True), 1):
        assert torch.equal(seen, images / 2 + number)
    assert shown[2].requires_grad


def test_d_alone_needs_no_graph_of_its_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the images are those that one would have made with it."""
    s = still(monkeypatch, "system.share_fakes=false")
    made: list[Tensor] = []
    s.generator.register_forward_hook(lambda _, __, render: made.append(render.rgb))
    torch.manual_seed(0)
    s.step({"image": torch.rand(4, 3, 16, 16)}, s.cfg.stages[0])
    assert [images.requires_grad for images in made] == [False, True]
    torch.manual_seed(0)
    torch.rand(4, 3, 16, 16)
    for images in made[:2]:
        again = s.generate(4, 16)[0].rgb
        assert again.requires_grad
        assert torch.equal(images, again)
    s.cfg.share_fakes = True
    s.step({"image": torch.rand(4, 3, 16, 16)}, s.cfg.stages[0])
    assert made[-1].requires_grad


STYLE, PATCH = "{name: style, channels: [8, 8, 8, 8]}", "{name: patch, channels: [8, 8, 8]}"
GROWING = "[{size: 16, batch: 8}, {kimg: 1, size: 32, batch: 4}]"


@pytest.mark.parametrize(
    ("discriminator", "stages", "message"),
    [
        (STYLE, "[{size: 32, batch: 6}]", r"stages\[0\]\.batch=6: this .* in groups of 4; use a multiple of 4$"),
        (STYLE, "[{size: 32, batch: 4}, {kimg: 1, size: 32, batch: 10}]", r"stages\[1\]\.batch=10: "),
        (STYLE, GROWING, r"stages\[0\]\.size=16: this .* 32 px; give all"),
        (PATCH, GROWING, r"stages\[0\]\.size=16: this .* 32 px; give all"),
    ],
)
def test_stages_that_a_discriminator_of_one_size_cannot_judge_are_refused(
    discriminator: str, stages: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=r"^system\." + message):
        system(f"system.stages={stages}", "generator.size=32", f"system.discriminator={discriminator}")


def test_sizes_that_a_discriminator_does_not_have_are_refused_by_the_settings_names() -> None:
    run = load_run("pigan", ["system.stages=[{}, {kimg: 1, size: 256}]", "data=folder", "data.size=256"])
    with pytest.raises(ConfigError, match=r"^system\.stages\[1\]\.size=256 with .*discriminator\.name=plain: max_size"):
        AdversarialSystem(run)


def test_only_those_that_compare_images_need_groups() -> None:
    system("system.stages=[{size: 32, batch: 6}]", "generator.size=32", f"system.discriminator={PATCH}")


def test_small_batches_are_one_group() -> None:
    for batch in (1, 3, 8):
        system(f"system.stages=[{{size: 16, batch: {batch}}}]")


def test_a_stage_larger_than_the_picture_is_refused() -> None:
    for recipe, size in (("stylegan2_heads64", 16), ("hologan_heads64", 32)):
        with pytest.raises(ConfigError, match=rf"^system\.stages\[0\]\.size=64: .* generator\.size={size}; make"):
            load_run(recipe, [f"generator.size={size}"])
    load_run("pigan", ["system.stages=[{size: 64, batch: 4}]"])  # fields render at any size
    load_run("meshgan_heads64")  # its `size` is no side


# ---------------------------------------------------------------- path lengths


@pytest.mark.parametrize("layered", [False, True])
def test_path_lengths_equal_finite_differences(gen: StyleGAN2, layered: bool) -> None:
    g = in_float64(gen)
    w = g.code(Latents(torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))).detach()
    w = w[:, None].repeat(1, g.code_layers, 1) if layered else w
    w.requires_grad_(True)
    torch.manual_seed(5)
    lengths = losses.path_lengths(g.network(w), w)
    torch.manual_seed(5)
    y = torch.randn(2, 3, 16, 16, dtype=torch.float64) / 16
    slopes = torch.zeros(w.shape, dtype=torch.float64)
    with torch.no_grad():
        for index in itertools.product(*map(range, w.shape[1:])):
            step = torch.zeros_like(w)
            step[(slice(None), *index)] = 1e-5
            change = g.network(w + step) - g.network(w - step)
            slopes[(slice(None), *index)] = (change * y).sum((1, 2, 3)) / 2e-5
    rows = slopes.reshape(2, -1, 8)  # one for each layer
    torch.testing.assert_close(lengths, rows.norm(dim=-1).square().mean(1).sqrt(), atol=0, rtol=1e-6)


def test_the_penalty_of_path_lengths_can_be_learnt(gen: StyleGAN2) -> None:
    """The derivative of the penalty, a second derivative of the picture, against finite differences."""
    g = in_float64(gen)
    w = g.code(Latents(torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))).detach()
    weight = g.network.convs[0].conv.weight

    def penalty() -> Tensor:
        torch.manual_seed(1)
        code = w.clone().requires_grad_(True)
        return (losses.path_lengths(g.network(code), code) - 0.5).square().mean()

    (gradient,) = torch.autograd.grad(penalty(), weight)
    direction = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ends = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            weight.add_(step * direction)
        ends.append(penalty().item())
        with torch.no_grad():
            weight.sub_(step * direction)
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx((gradient * direction).sum().item(), rel=1e-5)


def test_path_lengths_of_a_field() -> None:
    """The switch is not StyleGAN2's alone."""
    torch.manual_seed(0)
    g = PiGAN(PiGAN.tiny()).train()
    code = g.code(g.latents(2))
    lengths = losses.path_lengths(g(Latents(torch.zeros(2, 8), code=code), g.camera(size=8)).rgb, code)
    lengths.square().mean().backward()
    assert lengths.shape == (2,)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in g.siren.mapping_network.parameters())


@pytest.mark.parametrize(("method", "settings"), [
    ("stylegan2", [*TINY, "system.pose_weight=0", "system.freeze=[mapping]"]),
    ("graf", ["generator.shape_dim=4", "generator.appearance_dim=4", "generator.hidden_dim=8", "generator.layers=2",
              "generator.frequencies=2", "generator.steps=4", "generator.patch_size=0",
              "system.stages=[{size: 16, batch: 4}]"]),
    ("hologan", ["generator.z_dim=8", "generator.size=32", "generator.channels=4",
                 "system.stages=[{size: 16, batch: 4}]"]),
])  # fmt: skip
def test_codes_that_no_network_learns_have_path_lengths(method: str, settings: list[str]) -> None:
    if not resolve(method).second_derivatives:
        pytest.skip("not before torch 2.12")
    torch.manual_seed(0)
    s = AdversarialSystem(load_run(method, [*settings, "system.path_length=2"]))
    render = s.generate(2, 16)[0]
    lengths = losses.path_lengths(render.rgb, render.aux["code"])
    lengths.square().mean().backward()
    assert (lengths > 1e-5).all()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in s.generator.parameters())
    with torch.no_grad():
        assert not s.generate(2, 16)[0].aux["code"].requires_grad


def test_path_lengths_are_refused_where_there_are_no_second_derivatives() -> None:
    with pytest.raises(ConfigError, match=r"^system\.path_length=2\.0: .* meshgan have no second derivatives"):
        load_run("meshgan", ["system.path_length=2"])


def test_images_that_do_not_depend_on_their_codes_can_be_learnt_from() -> None:
    code = torch.ones(2, 8, requires_grad=True)
    weight = torch.zeros(8, 12, requires_grad=True)
    lengths = losses.path_lengths((code @ weight).reshape(2, 3, 2, 2), code)
    lengths.sum().backward()
    torch.testing.assert_close(lengths, torch.full((2,), 1e-6))
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


def test_path_lengths_are_pressed_to_their_running_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, on two processes, whose other has lengths of 5 in the mean."""
    s = still(monkeypatch, "system.path_length=2", "system.path_length_every=8")
    monkeypatch.setattr(s, "all_gather", lambda own: torch.stack([own, torch.tensor(5.0)]))
    fakes = s.generate(4, 16)

    def penalty(lengths: list[float]) -> float:
        monkeypatch.setattr(losses, "path_lengths", lambda images, code: torch.tensor(lengths))
        with_it, without = (s._loss_g(fakes, 1.0, lazy)[0] for lazy in (True, False))
        return (with_it - without).item()

    assert penalty([1.0, 1.0, 1.0, 9.0]) == pytest.approx(2 * 8 * (3 * 3**2 + 5**2) / 4)
    assert s.path_mean.item() == 4.0  # of (3, 5)
    # The next mean, of (7, 5), counts for a hundredth.
    assert penalty([7.0] * 4) == pytest.approx(2 * 8 * (7 - 4.02) ** 2, rel=1e-5)
    assert s.path_mean.item() == pytest.approx(4.02)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("system.mixing=1.5", "system.mixing=1.5: use a probability"),
        ("system.mixing=nan", "system.mixing=nan: use a probability"),
        ("system.path_length=-1", "system.path_length=-1.0: use 0 or more"),
        ("system.path_length_every=0", "system.path_length_every=0: use 1 or more"),
        ("system.ada_target=1", "system.ada_target=1.0: use 0"),
        ("system.ada_kimg=0", "system.ada_kimg=0.0: use a finite"),
    ],
)
def test_wrong_switches_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_run("stylegan2", [setting])


def test_switches_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"system\.latent_weight=1\.0: a mixed image"):
        load_run("stylegan2", ["system.mixing=0.5", "system.latent_weight=1"])
    with pytest.raises(ConfigError, match=r"trainer\.compile=always: compiled code has no second"):
        load_run("stylegan2", ["system.path_length=2", "trainer.compile=always"])
