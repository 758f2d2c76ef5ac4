"""White backgrounds stay white, whatever light falls on the object before them."""

from dataclasses import replace

import pytest
import torch

from zoo.config.schemas import SceneConfig
from zoo.generators.base import Latents
from zoo.generators.gof import GOF
from zoo.generators.shadegan import ShadeGAN
from zoo.geometry import Camera, Light
from zoo.renderers.fields.volume import Sampling

CAMERA, LATENTS = Camera.orbit(torch.tensor([0.2, -0.3]), size=6), Latents(torch.ones(2, 8))
LIGHTS = (Light.of(-0.1, 0.0), Light.of(0.0, 0.5, x=1.0), Light.of(0.5, 2.0))  # less than none, from the side, glaring


def build(cls: type[ShadeGAN], white: bool, level: float | None = None) -> ShadeGAN:
    """`level`: the raw density everywhere."""
    torch.manual_seed(0)
    generator = cls(replace(cls.tiny(), shading=True, light_condition=False, scene=SceneConfig(white_back=white)))
    if level is not None:
        torch.nn.init.zeros_(generator.siren.final_layer.weight)
        torch.nn.init.constant_(generator.siren.final_layer.bias, level)
    return generator.eval().requires_grad_(False)


@pytest.mark.parametrize("cls", [ShadeGAN, GOF])
@pytest.mark.parametrize("light", LIGHTS, ids=lambda light: str(light.params.tolist()))
def test_nothing_before_white_is_white(cls: type[ShadeGAN], light: Light) -> None:
    empty = build(cls, white=True, level=-10.0)
    for sampling in (empty.inference(), replace(empty.inference(), light_ratio=0.5)):
        render = empty(LATENTS, CAMERA, light, sampling)
        assert render.mask is not None
        assert render.mask.max() < 1e-5
        assert render.rgb.min() > 1 - 1e-4


@pytest.mark.parametrize("light", LIGHTS, ids=lambda light: str(light.params.tolist()))
def test_white_shines_through_what_is_half_transparent(light: Light) -> None:
    """As much of it as the rays leave over, beside what the same object is before black."""
    black, white = (build(ShadeGAN, white=w)(LATENTS, CAMERA, light, Sampling(6)) for w in (False, True))
    assert black.mask is not None
    assert black.mask.min() < 0.9
    assert black.mask.max() > 0.1
    expected = ((black.rgb + 1) / 2 + 1 - black.mask).clamp(0, 1) * 2 - 1
    torch.testing.assert_close(white.rgb, expected, atol=1e-6, rtol=0)
