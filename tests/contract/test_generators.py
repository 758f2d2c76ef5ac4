"""What every registered generator promises, checked at tiny size."""

from dataclasses import replace

import pytest
import torch

import zoo
from zoo import registry
from zoo.config.fill import to_dict
from zoo.config.regimes import regime
from zoo.errors import ConfigError
from zoo.generators.base import DepthPredictor, Explainer, Generator, PictureGAN, SelfTaught
from zoo.generators.field import FieldGenerator, VolumeGenerator
from zoo.geometry import Light
from zoo.losses import path_lengths
from zoo.networks.perceptual import PerceptualLoss
from zoo.systems.base import TrainingSystem

SIZE = 16


@pytest.fixture(params=registry.names())
def generator(request) -> Generator:
    torch.manual_seed(0)
    cls = registry.resolve(request.param)
    return cls(cls.tiny())


def render(generator: Generator, n: int = 3, **kwargs):
    light = generator.lights(n, seed=2) if generator.uses_light else None
    return generator(generator.latents(n, seed=1), generator.cameras(n, seed=3, size=SIZE), light, **kwargs)


def test_shapes_ranges_and_types(generator: Generator) -> None:
    out = render(generator.eval())
    assert out.rgb.shape == (3, 3, SIZE, SIZE)
    assert out.rgb.min() >= -1
    assert out.rgb.max() <= 1
    for name, channels in (("depth", 1), ("normal", 3), ("mask", 1), ("albedo", 3), ("shading", 1)):
        value = getattr(out, name)
        if value is not None:
            assert value.shape == (3, channels, SIZE, SIZE), name
            assert value.dtype == torch.float32
            assert value.isfinite().all(), name
    if not generator.is_3d:
        assert all(value is None for value in (out.depth, out.normal, out.mask, out.albedo, out.shading))
        return
    assert out.depth is not None
    scene = generator.scene
    assert scene.near * 0.98 <= out.depth.min()
    assert out.depth.max() <= scene.far
    assert out.mask is not None
    assert out.mask.min() >= 0
    assert out.mask.max() <= 1 + 1e-5
    if out.normal is not None:
        length = out.normal.norm(dim=1)
        assert ((length - 1).abs() < 1e-3).logical_or(length == 0).all()


def test_neither_autocast_nor_inference_mode_changes_a_render(generator: Generator) -> None:
    def rendered() -> list[torch.Tensor]:
        light = generator.lights(2, seed=2) if generator.uses_light else None
        out = generator(generator.latents(2, seed=1, psi=0.7), generator.cameras(2, seed=3, size=SIZE), light)
        return [value for value in vars(out).values() if isinstance(value, torch.Tensor)]

    generator.eval()
    with torch.no_grad():
        plain = rendered()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = rendered()
    with torch.inference_mode():
        name = next(name for name in registry.names() if registry.resolve(name) is type(generator))
        fresh = zoo.build({**to_dict(generator.config), "name": name})
        if hasattr(fresh, "mapping"):
            fresh.average_code()
        inferred = rendered()
    assert not any(p.is_inference() for p in fresh.parameters())
    if hasattr(fresh, "mapping"):
        assert not fresh.average_code().is_inference()
    for one, two, three in zip(plain, half, inferred, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


@pytest.mark.parametrize("name", [n for n in registry.names() if issubclass(registry.resolve(n), VolumeGenerator)])
def test_no_objects_of_a_field_render_to_nothing(name: str) -> None:
    generator = registry.resolve(name)(registry.resolve(name).tiny())
    light = generator.lights(2, seed=2)[:0] if generator.uses_light else None
    out = generator.eval()(generator.latents(2)[:0], generator.cameras(2, seed=3, size=SIZE)[:0], light)
    assert out.rgb.shape == (0, 3, SIZE, SIZE)


def photographs(generator: Generator) -> torch.Tensor:
    """Three of the size that a method with an encoder takes."""
    assert generator.picture_size is not None
    source = torch.Generator().manual_seed(1)
    return torch.rand(3, 3, generator.picture_size, generator.picture_size, generator=source) * 2 - 1


def test_every_parameter_learns(generator: Generator) -> None:
    generator.train()
    if not issubclass(regime(generator.system).load(), TrainingSystem):
        pytest.skip("fitted to single pictures, not trained: its steps have tests of their own")
    if isinstance(generator, SelfTaught):
        photos, state = photographs(generator), generator.training_state()
        loss, terms = generator.training_loss(photos, 0.0, state, PerceptualLoss((4, 4, 4)))
        assert all(term.isfinite() for term in terms.values())
        assert not state.keys() & generator.state_dict().keys()  # what training remembers does not travel with weights
    else:
        out = render(generator, sampling=generator.schedule(0.0))
        loss = out.rgb.square().mean() + sum(generator.regularisers(out).values(), torch.zeros(()))
    loss.backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_pictures_have_second_derivatives_unless_the_method_says_otherwise(generator: Generator) -> None:
    if generator.system != "adversarial":
        return
    generator.train()
    code = generator.code(generator.latents(2, seed=1)).detach().requires_grad_(True)
    light = generator.lights(2, seed=2) if generator.uses_light else None
    latents, camera = replace(generator.latents(2, seed=1), code=code), generator.cameras(2, seed=3, size=SIZE)

    def learn() -> None:
        path_lengths(generator(latents, camera, light, generator.schedule(0.0)).rgb, code).square().mean().backward()

    if not generator.second_derivatives:
        with pytest.raises(RuntimeError):
            learn()
        return
    learn()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.parameters())


def test_objects_do_not_mix(generator: Generator) -> None:
    """The gradient of one image with respect to another object's latent is zero."""
    latents = generator.eval().latents(3, seed=1)
    latents.z.requires_grad_(True)
    out = generator(latents, generator.camera(size=SIZE))
    out.rgb[1].sum().backward()
    assert latents.z.grad is not None
    assert latents.z.grad[1].abs().sum() > 0
    assert latents.z.grad[[0, 2]].abs().sum() == 0


def test_same_seed_same_picture(generator: Generator) -> None:
    generator.eval()
    assert torch.equal(render(generator).rgb, render(generator).rgb)
    one = generator(generator.latents(1, seed=1), generator.cameras(1, seed=3, size=SIZE))
    assert one.rgb.shape[0] == 1
    assert torch.equal(generator.latents(5, seed=1).z[:3], generator.latents(3, seed=1).z)


def test_chunks_do_not_show(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.renderers.fields import volume

    generator.eval()
    with torch.no_grad():
        whole = render(generator)
        monkeypatch.setattr(volume, "_CHUNK_ELEMENTS", 16 * 6 * 3 * 7)  # seven rays at a time
        parts = render(generator)
    assert torch.allclose(whole.rgb, parts.rgb, atol=1e-5)


def test_inputs_are_left_alone(generator: Generator) -> None:
    latents, camera, light = generator.latents(2), generator.camera(0.2, size=SIZE), Light.frontal()
    before = latents.z.clone(), camera.cam2world.clone(), light.params.clone()
    generator.eval()(latents, camera, light)
    assert all(torch.equal(a, b) for a, b in zip(before, (latents.z, camera.cam2world, light.params), strict=True))


def test_truncation_brings_objects_together(generator: Generator) -> None:
    generator.eval()
    camera = generator.camera(size=SIZE)

    def spread(psi: float) -> float:
        return generator(generator.latents(6, seed=0, psi=psi), camera).rgb.std(0).mean().item()

    if not generator.interpolates:  # objects are photographs, which have no average to go to
        assert spread(0.0) == spread(1.0) > 1e-4
    else:
        assert spread(0.0) < 1e-4 < spread(0.5) < spread(1.0)


def test_wrong_numbers_of_cameras_are_refused(generator: Generator) -> None:
    with pytest.raises(ValueError, match="2 cameras for 3 objects"):
        generator(generator.latents(3), generator.cameras(2, size=SIZE))


def test_the_camera_matters_only_where_it_is_taken(generator: Generator) -> None:
    generator.eval()
    latents = generator.latents(2)
    front, side = (generator(latents, generator.camera(yaw, size=SIZE)).rgb for yaw in (0.0, 0.5))
    assert torch.equal(front, side) != generator.uses_camera
    if generator.uses_camera:
        generator.need_camera("turntable")
    else:
        with pytest.raises(ConfigError, match="it has no turntable"):
            generator.need_camera("turntable")


def test_light_matters_only_where_it_is_modelled(generator: Generator) -> None:
    generator.eval()
    latents, camera = generator.latents(2), generator.camera(size=SIZE)
    left = generator(latents, camera, Light.of(0.3, 0.7, x=-1.0)).rgb
    right = generator(latents, camera, Light.of(0.3, 0.7, x=1.0)).rgb
    assert torch.equal(left, right) != generator.uses_light


def test_one_object_is_shown_from_several_cameras(generator: Generator) -> None:
    generator.eval()
    one, cameras = generator.latents(3, seed=1)[1], generator.cameras(4, seed=3, size=SIZE)
    with torch.no_grad():
        views = generator(one, cameras)
        assert len(views) == 4
        for view, camera in zip(views, cameras, strict=True):
            assert torch.allclose(view.rgb, generator(one, camera).rgb, atol=1e-4)


def test_one_object_is_shown_under_several_lights(generator: Generator) -> None:
    generator.eval()
    one, lights = generator.latents(1, seed=1), generator.lights(3, seed=2)
    with torch.no_grad():
        shown = generator(one, generator.camera(size=SIZE), lights)
        assert len(shown) == 3
        for view, light in zip(shown, lights, strict=True):
            assert torch.allclose(view.rgb, generator(one, generator.camera(size=SIZE), light).rgb, atol=1e-4)
    with pytest.raises(ValueError, match="3 lights for 2 objects"):
        generator(one, generator.cameras(2, size=SIZE), lights)


def test_gradients_of_all_views_reach_the_one_object(generator: Generator) -> None:
    generator.eval()
    one = generator.latents(1, seed=1)
    one.z.requires_grad_(True)
    generator(one, generator.cameras(2, size=SIZE)).rgb.sum().backward()
    assert one.z.grad is not None
    assert one.z.grad.abs().sum() > 0


def test_numbers_stay_float32(generator: Generator) -> None:
    name = type(generator).__name__
    for change in (Generator.half, Generator.double, lambda g: g.to(torch.bfloat16)):
        with pytest.raises(ConfigError, match=f"^{name} cannot be torch.*float32; keep it so$"):
            change(generator)
    assert all(p.dtype == torch.float32 for p in generator.float().to("cpu").parameters())
    assert next(generator.to("meta").parameters()).is_meta


def test_a_generator_is_one_line(generator: Generator) -> None:
    text = repr(generator)
    assert text.startswith(f"{type(generator).__name__}(")
    assert text.endswith(" parameters, cpu)")
    assert "\n" not in text


def test_a_code_is_the_parts_of_its_layers(generator: Generator) -> None:
    """Split and joined it shows the same; a layer's part changes nothing but that layer's."""
    generator.eval()
    if not generator.code_layers:
        with pytest.raises(ConfigError, match="no code of its own for each layer"):
            generator.split_code(torch.zeros(1, 1))
        return
    latents, camera = generator.latents(2, seed=1), generator.camera(size=SIZE)
    parts = generator.split_code(generator.code(latents))
    assert parts.shape[:2] == (2, generator.code_layers)
    with torch.no_grad():
        whole = generator(latents, camera).rgb
        again = generator(replace(latents, code=generator.join_code(parts)), camera).rgb
        assert torch.equal(whole, again)
        assert torch.equal(generator.split_code(generator.join_code(parts)), parts)
        for layer in range(generator.code_layers):
            moved = parts.clone()
            moved[:, layer] += 1
            assert not torch.equal(generator(replace(latents, code=generator.join_code(moved)), camera).rgb, whole)


def test_searches_sample_without_chance(generator: Generator) -> None:
    generator.eval()
    cheap = generator.search_sampling()
    first, second = (render(generator, sampling=cheap).rgb for _ in range(2))
    assert torch.equal(first, second)


def test_searches_take_no_more_samples_than_final_pictures(generator: Generator) -> None:
    if isinstance(generator, FieldGenerator):
        for steps in (3, 0, 24):
            generator.config = replace(generator.config, inference_steps=steps)
            cheap, final = generator.search_sampling(), generator.inference()
            assert cheap.steps == min(final.steps, generator.config.steps)
            assert cheap.fine_steps <= final.fine_steps


def test_what_an_encoder_reads_is_what_it_was_asked_for(generator: Generator) -> None:
    """Objects, cameras of the size asked for, and light, one for each photograph; gradients reach the photographs."""
    if not isinstance(generator, Explainer):
        assert not isinstance(generator, SelfTaught)
        return
    photos = photographs(generator.eval()).requires_grad_(True)
    latents, camera, light = generator.explain(photos, SIZE)
    assert len(latents) == len(camera) == len(photos)
    assert camera.size == SIZE
    assert (light is not None) == generator.uses_light
    assert generator(latents, camera, light).rgb.shape == (3, 3, SIZE, SIZE)
    out = generator(latents, generator.camera(size=SIZE), light)
    (slope,) = torch.autograd.grad(out.rgb[1].sum(), photos)
    assert slope[1].abs().sum() > 0 == slope[[0, 2]].abs().sum()


def test_predicted_depth_is_in_view_and_in_range(generator: Generator) -> None:
    if isinstance(generator, DepthPredictor):
        depth = generator.eval().predict_depth(photographs(generator))
        assert depth.shape == (3, 1, generator.picture_size, generator.picture_size)
        assert generator.scene.near * 0.9 < depth.min() <= depth.max() < generator.scene.far * 1.1


def test_a_2d_gan_draws_what_it_renders(generator: Generator) -> None:
    if not isinstance(generator, PictureGAN):
        return
    generator.eval()
    latents, side = generator.latents(2, seed=1), generator.picture_size
    w = generator.code(latents)
    drawn = generator.synthesise(w)
    assert torch.equal(drawn, generator(latents, generator.camera(size=side)).rgb)
    assert torch.equal(drawn, generator.synthesise(generator.split_code(w)))
    assert generator.average_code().shape == (1, generator.config.z_dim)
    first, more = generator.style_weights(1), generator.style_weights(2)
    assert first.shape[1] == more.shape[1] == generator.config.z_dim
    assert torch.equal(more[: len(first)], first)
    assert len(more) > len(first)
