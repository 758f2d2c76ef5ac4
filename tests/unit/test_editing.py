"""Inversion and editing: gradients to the pose, known answers found again, codes, frames, files."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import zoo
from tests.smooth import SIZE, picture, tiny
from zoo import hub, registry
from zoo.config.schemas import PoseConfig
from zoo.editing import inversion
from zoo.editing.codes import CodeSpace, at, between, mix, truncate
from zoo.editing.frames import interpolate, light_path, relight, rotate
from zoo.editing.inversion import invert
from zoo.editing.photo import Photo, read_photo
from zoo.editing.problem import Guess, Problem
from zoo.editing.reconstruction import Reconstruction, fingerprint, read
from zoo.errors import ConfigError, WeightsError, ZooError
from zoo.generators.base import Generator
from zoo.geometry import Light
from zoo.heads.dataset import HeadDataset
from zoo.renderers.shading import lambert

SEARCHED = [n for n in registry.names() if registry.resolve(n).is_3d and registry.resolve(n).system == "adversarial"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few draws to start from: networks this small need no more."""
    monkeypatch.setattr(inversion, "DRAWS", 16)
    monkeypatch.setattr(inversion, "STARTS", 2)


def problem(generator: Generator) -> Problem:
    return Problem(generator, read_photo(picture(generator).clamp(-1, 1), generator, align=False), None, 1.0)


# ---------------------------------------------------------------- gradients and search


@pytest.mark.parametrize("name", SEARCHED)
def test_gradients_of_the_pose_are_those_of_finite_differences(name: str) -> None:
    """The published inversions build rays without gradients, so that their pose never moves."""
    generator = tiny(name)
    latents = generator.latents(1, seed=1)
    weight = torch.linspace(-1, 1, 3 * 24 * 24).view(1, 3, 24, 24)  # a smooth functional of the image

    def value(pose: Tensor) -> Tensor:
        return (generator(latents, generator.camera_at(pose[None], 24)).rgb * weight).mean()

    pose = torch.tensor([0.1, 0.2], requires_grad=True)
    (found,) = torch.autograd.grad(value(pose), pose)
    step = 5e-3
    with torch.no_grad():
        numeric = [(value(pose + step * e) - value(pose - step * e)) / (2 * step) for e in torch.eye(2)]
    expected = torch.stack(numeric)
    assert expected.abs().min() > 1e-6
    torch.testing.assert_close(found, expected, rtol=0.02, atol=1e-5)


@pytest.mark.parametrize("name", SEARCHED)
def test_inversion_finds_what_the_generator_made(name: str, quick: None) -> None:
    generator = tiny(name)
    task = problem(generator)
    average = Guess(*(p[:1] * 0 for p in task.draw(1, torch.Generator()).parts()))
    with torch.no_grad():
        before = (task.render(average, SIZE).rgb - task.target(average, SIZE)[0]).square().mean().item()
    rec = invert(generator, picture(generator), align=False, steps=40, size=SIZE, prior=0)
    with torch.no_grad():
        after = (rec.render().rgb - task.target(average, SIZE)[0]).square().mean().item()
    assert after < before / 5


def test_free_codes_explain_what_the_generator_does_not_draw(quick: None) -> None:
    generator = tiny("shadegan")
    strange = generator.code(generator.latents(1, seed=5))
    strange = strange + 0.1 * torch.randn(strange.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        image = generator(at(generator, strange), generator.camera(size=2 * SIZE)).rgb[0]
    tight, free = (
        invert(generator, image, align=False, steps=30, size=SIZE, free=free).fit.psnr for free in (False, True)
    )
    assert free > tight + 1


def test_free_codes_are_in_units_of_their_own_deviations() -> None:
    generator = tiny("pigan")
    space, code = CodeSpace.free(generator), generator.code(generator.latents(500, seed=1))
    weights = space.weights(code)
    torch.testing.assert_close(space.code(weights), code)
    torch.testing.assert_close(weights.std(0), torch.ones(code.shape[1]), rtol=0, atol=0.2)
    task = problem(generator)
    guess = task.draw(2, torch.Generator().manual_seed(0))
    before = task.space.code(guess.code)
    freed = task.free(guess)
    torch.testing.assert_close(task.space.code(freed.code), before)


def test_free_codes_hold_the_shape_harder_than_colour() -> None:
    generator = tiny("shadegan")
    task = problem(generator)
    freed = task.free(task.draw(1, torch.Generator().manual_seed(0)))
    layers = generator.split_code(task.space.stiffness[None])
    assert layers[:, :-1].min() > 5 * layers[:, -1].max()
    # The same move costs more in the shape. Without the logarithm of the distance, the prior alone is left of a loss.
    costs = []
    for layer in (0, -1):
        moved = torch.zeros_like(layers)
        moved[:, layer] = 1
        guess = replace(freed, code=generator.join_code(moved))
        with torch.no_grad():
            losses, distances = task.losses(guess, SIZE)
        costs.append((losses - (distances + 1e-3).log()).item())
    assert costs[0] > costs[1] + 0.1
    assert CodeSpace.of(generator).stiffness.eq(1).all()


def test_the_search_starts_from_the_pose_of_the_face_mesh() -> None:
    generator = tiny("shadegan")
    seen = torch.tensor([-0.2, 0.4])
    shot = replace(read_photo(picture(generator).clamp(-1, 1), generator, align=False), pose=seen)
    task = Problem(generator, shot, None, 1.0)
    poses = task.pose(task.draw(200, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(poses[0], seen)
    torch.testing.assert_close(poses.mean(0), seen, rtol=0, atol=0.02)


def test_the_pose_of_the_face_mesh_is_the_likeliest() -> None:
    generator = tiny("shadegan")
    blind = read_photo(picture(generator).clamp(-1, 1), generator, align=False)
    seen = torch.tensor([-0.2, 0.4])

    def nearest(photo: Photo) -> Tensor:
        """The pose at which the prior alone is least: what it adds to the loss, without the picture's own part."""
        task = Problem(generator, photo, None, 1.0)
        poses = torch.stack([task.pose_mean, seen])
        codes = torch.zeros(2, len(task.space.deviations))
        guess = Guess(codes, (poses - task.pose_mean) / task.pose_std, torch.zeros(2, 4))
        with torch.no_grad():
            losses, distances = task.losses(guess, SIZE)
        return poses[(losses - (distances + 1e-3).log()).argmin()]

    torch.testing.assert_close(nearest(replace(blind, pose=seen)), seen)
    assert not torch.equal(nearest(blind), seen)


def test_inversion_finds_the_pose(quick: None) -> None:
    """Of a mesh with a texture: the noise of a fresh radiance field looks alike from all sides."""
    generator = tiny("meshgan")
    for yaw in (-0.3, 0.3):
        rec = invert(generator, picture(generator, yaw, 0.1), align=False, steps=60, size=SIZE, prior=0.02)
        torch.testing.assert_close(rec.camera.pose[0], torch.tensor([0.1, yaw]), rtol=0, atol=0.12)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_generator_is_left_as_it_was(frozen: bool, quick: None) -> None:
    generator = tiny("shadegan").requires_grad_(not frozen).train()
    generator.siren.mapping_network.eval()
    modes = [m.training for m in generator.modules()]
    before = fingerprint(generator)
    state = torch.random.get_rng_state()
    with torch.no_grad():  # a caller's own mode does not stop the search
        first = invert(generator, picture(generator), align=False, steps=3, size=SIZE)
        second = invert(generator, picture(generator), align=False, steps=3, size=SIZE)
    assert fingerprint(generator) == before
    assert [m.training for m in generator.modules()] == modes
    assert all(p.grad is None and p.requires_grad is not frozen for p in generator.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.latents.code, second.latents.code)
    assert not first.latents.code.requires_grad


def test_a_search_on_a_plateau_ends(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inversion, "_PATIENCE", 3)
    monkeypatch.setattr(inversion, "_RATE", 0.0)
    rec = invert(tiny("pigan"), picture(tiny("pigan")), align=False, steps=100, size=SIZE)
    assert rec.fit.stopped == "plateau"
    assert rec.fit.steps < 12


@pytest.mark.parametrize(("broken", "word"), [(KeyboardInterrupt(), "interrupted"), (math.nan, "not finite")])
def test_the_best_so_far_survives(broken: object, word: str, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, calls, losses = tiny("pigan"), [], Problem.losses

    def sometimes(self: Problem, *args: object) -> tuple[Tensor, Tensor]:
        out = losses(self, *args)  # type: ignore[arg-type]
        calls.append(out)
        if len(calls) < 9:
            return out
        if isinstance(broken, BaseException):
            raise broken
        return out[0] * broken, out[1]

    monkeypatch.setattr(Problem, "losses", sometimes)
    rec = invert(generator, picture(generator), align=False, steps=50, size=SIZE)
    assert rec.fit.stopped == word
    assert rec.render().rgb.isfinite().all()
    assert rec.latents.code is not None
    assert (rec.latents.code != generator.average_code()).any()


def test_weights_that_render_nan_are_refused(quick: None) -> None:
    generator = tiny("pigan")
    generator.siren.final_layer.bias.fill_(math.nan)
    with pytest.raises(ZooError, match="NaN"):
        invert(generator, torch.zeros(3, 32, 32), align=False)


def test_a_pose_far_from_the_prior_is_told(quick: None) -> None:
    generator = tiny("meshgan")
    task, guess = problem(generator), Guess(torch.zeros(1, 8), torch.tensor([[0.0, 3.0]]), torch.zeros(1, 0))
    guess.code = torch.zeros(1, len(task.space.deviations))
    rec = inversion._reconstruction(task, guess, SIZE, "", 1)
    assert "3.0 deviations" in rec.fit.warning
    shot = replace(task.photo, pose=torch.tensor([0.1, 1.2]), notes=("it is night",))
    rec = inversion._reconstruction(Problem(generator, shot, None, 1.0), task.draw(1, torch.Generator()), SIZE, "", 1)
    assert rec.fit.warning.startswith("it is night; pose (yaw 1.20, pitch 0.10) lies")


def test_a_model_that_saw_one_pose_explains_photographs_from_there(quick: None) -> None:
    generator = tiny("meshgan")
    generator.scene.pose = PoseConfig("fixed", yaw_mean=0.2)
    rec = invert(generator, picture(generator, 0.2, 0.0), steps=2, align=False)
    assert rec.camera.pose.tolist() == [[pytest.approx(0.0, abs=0.02), pytest.approx(0.2, abs=0.02)]]


def test_the_encoder_reads_a_photograph_off() -> None:
    generator = tiny("unsup3d")
    image = generator.latents(1, seed=3).z.view(3, 32, 32)
    rec = invert(generator, image, align=False)
    expected = generator.encode(image[None])
    torch.testing.assert_close(rec.latents.code, generator.code(expected), rtol=0, atol=0.02)  # 8-bit colours
    assert rec.fit.steps == 0
    assert rec.light is not None
    assert rec.render(size=24).rgb.shape == (1, 3, 24, 24)


def test_pixels_behind_the_object_count_little() -> None:
    generator = tiny("pigan", density_scale=3000.0)
    noise = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    task = Problem(generator, read_photo(noise, generator, align=False), None, 1.0)
    guess = task.draw(1, torch.Generator())
    render = task.render(guess, 32)
    assert not task.plain
    weight = task.weigh(render, torch.ones(1, 1, 32, 32))
    assert weight.min() >= 0.05
    assert torch.equal(weight, render.mask.clamp(0.05, 1))
    dark = Problem(generator, read_photo(torch.full((3, 32, 32), -0.97), generator, align=False), None, 1.0)
    assert dark.plain
    assert dark.weigh(render, torch.ones(1, 1, 32, 32)).min() == 1
    head = HeadDataset("val", size=128).batch([0])["image"][0]
    for image, plain in ((head, True), (torch.where(head < -0.99, 0.5, head), False)):
        photo = read_photo(image, generator)  # a close portrait: what is cut reaches beyond it
        assert photo.known.min() == 0
        assert Problem(generator, photo, None, 1.0).plain == plain


# ---------------------------------------------------------------- codes


@pytest.mark.parametrize("name", SEARCHED)
def test_code_space_is_the_generators_own(name: str) -> None:
    generator = tiny(name)
    space, code = CodeSpace.of(generator), generator.code(generator.latents(500, seed=1))
    weights = space.weights(code)
    torch.testing.assert_close(space.code(weights), code, rtol=0, atol=2e-3)
    torch.testing.assert_close(weights.std(0), torch.ones(weights.shape[1]), rtol=0, atol=0.3)
    torch.testing.assert_close(space.code(0 * weights[:1]), generator.average_code())


def test_truncation_and_walks() -> None:
    generator = tiny("pigan")
    latents = generator.latents(3, seed=2)
    for psi in (0.0, 0.5, 1.0):
        expected = generator.code(generator.latents(3, seed=2, psi=psi))
        torch.testing.assert_close(generator.code(truncate(generator, latents, psi)), expected)
    path = generator.code(between(generator, latents, 5))
    torch.testing.assert_close(path[[0, 2, 4]], generator.code(latents))
    torch.testing.assert_close(path[1], path[[0, 2]].mean(0))
    with pytest.raises(ConfigError, match="2 objects"):
        between(generator, latents[:1], 5)
    with pytest.raises(ConfigError, match="photographs"):
        between(tiny("unsup3d"), at(generator, path), 5)


def test_mixing_exchanges_layers() -> None:
    generator = tiny("pigan")
    one, other = generator.latents(1, seed=1), generator.latents(1, seed=2)
    assert torch.equal(generator.code(mix(generator, one, other, 3)), generator.code(one))
    assert torch.equal(generator.code(mix(generator, one, other, 0)), generator.code(other))
    camera = generator.camera(size=SIZE)
    half = generator(mix(generator, one, other, 2), camera)  # two layers of density, one of colour
    shape, colour = generator(one, camera), generator(other, camera)
    torch.testing.assert_close(half.depth, shape.depth)
    assert not torch.equal(half.rgb, shape.rgb)
    assert not torch.equal(half.rgb, colour.rgb)
    for wrong, fix in ((4, "0 to 3"), (-1, "0 to 3")):
        with pytest.raises(ConfigError, match=fix):
            mix(generator, one, other, wrong)
    with pytest.raises(ConfigError, match="each layer"):
        mix(tiny("meshgan"), one, other, 1)


def test_mixing_styles_of_layered_codes() -> None:
    generator = tiny("stylegan2")
    one, other = generator.latents(1, seed=1), generator.latents(1, seed=2)
    mixed = generator.code(mix(generator, one, other, 2))
    assert torch.equal(mixed[0, :2], generator.code(one).expand(2, -1))
    assert torch.equal(mixed[0, 2:], generator.code(other).expand(generator.code_layers - 2, -1))


def test_frames() -> None:
    generator = tiny("shadegan")
    latents, camera = generator.latents(2, seed=1), generator.camera(0.2, 0.0, SIZE)
    lit = list(relight(generator, latents, camera, light_path(4)))
    assert len(lit) == 4
    plain = generator(latents, camera)
    assert lit[0].albedo is not None
    torch.testing.assert_close(lit[0].albedo, plain.albedo)
    assert (generator(latents, camera, Light.of(0.25, 0.75, 1.2, 0.0)).albedo - plain.albedo).abs().max() > 1e-4
    expected = lambert(plain.aux["world_normal"].flatten(2).mT, Light.of(0.25, 0.75, 1.2, 0.0))
    torch.testing.assert_close(lit[0].shading, expected.mT.unflatten(-1, (SIZE, SIZE)))
    turned = list(rotate(generator, latents, [-0.3, 0.2], size=SIZE))
    torch.testing.assert_close(turned[1].rgb, generator(latents, camera).rgb)
    own = Light.of(0.4, 0.6, -0.5, 0.3)
    kept = generator(latents, camera, Light.of(0.25, 0.75), generator.keeping_albedo(own))
    torch.testing.assert_close(kept.albedo, generator(latents, camera, own).albedo)
    moved = list(relight(generator, latents, camera, light_path(2), own))
    torch.testing.assert_close(moved[1].albedo, kept.albedo)
    walk = list(interpolate(generator, latents, 3, yaw=0.2, size=SIZE))
    torch.testing.assert_close(walk[2].rgb, generator(latents[1:], camera).rgb)
    lights = Light(torch.cat([own.params, Light.of(0.2, 0.8, 0.5, -0.1).params]))
    lit = list(interpolate(generator, latents, 3, yaw=0.2, size=SIZE, light=lights))
    middle = generator(between(generator, latents, 3)[1], camera, Light.of(0.3, 0.7, 0.0, 0.1))
    torch.testing.assert_close(lit[1].rgb, middle.rgb)
    torch.testing.assert_close(lit[2].rgb, generator(latents[1:], camera, lights[1]).rgb)
    with pytest.raises(ConfigError, match="no light"):
        relight(tiny("pigan"), latents, camera, light_path(4))


# ---------------------------------------------------------------- files


@pytest.fixture
def reconstruction(quick: None) -> Reconstruction:
    generator = tiny("shadegan")
    return invert(generator, picture(generator), align=False, steps=2, size=SIZE)


def test_a_file_gives_back_every_bit(reconstruction: Reconstruction, tmp_path: Path) -> None:
    path = reconstruction.save(tmp_path / "a.safetensors")
    again = read(path, reconstruction.generator)
    assert torch.equal(again.latents.code, reconstruction.latents.code)
    assert torch.equal(again.camera.cam2world, reconstruction.camera.cam2world)
    assert torch.equal(again.light.params, reconstruction.light.params)
    assert torch.equal(again.image, reconstruction.image)
    assert again.fit == reconstruction.fit
    assert torch.equal(again.render().rgb, reconstruction.render().rgb)
    assert again.camera.size == SIZE
    assert torch.equal(zoo.load_reconstruction(path, reconstruction.generator).weight, again.weight)


def test_bad_files_are_refused(reconstruction: Reconstruction, tmp_path: Path) -> None:
    path = reconstruction.save(tmp_path / "a.safetensors")
    other = tiny("shadegan")
    other.siren.final_layer.bias.add_(1)
    with pytest.raises(WeightsError, match="not with these weights"):
        read(path, other)
    with pytest.raises(WeightsError, match="no shipped weights"):
        hub.load_reconstruction(path)
    with pytest.raises(WeightsError, match="does not exist"):
        read(tmp_path / "b.safetensors", other)
    with pytest.raises(WeightsError, match=r"\.safetensors"):
        reconstruction.save(tmp_path / "a.pt")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-100])
    (tmp_path / "junk.safetensors").write_bytes(b"junk" * 100)
    weights = zoo.save(other, tmp_path / "weights") / "model.safetensors"
    for name in ("cut.safetensors", "junk.safetensors", weights):
        with pytest.raises(WeightsError):
            read(tmp_path / name, other)
    reconstruction.camera.cam2world[0, 0, 0] = math.nan
    with pytest.raises(WeightsError, match="cam2world is not finite"):
        read(reconstruction.save(path), reconstruction.generator)
