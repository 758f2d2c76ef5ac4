"""A picture of its own behind fields: composited by what the field lets through, and absent unless asked for."""

import pytest
import torch

import zoo
from tests.tiny import TINY
from zoo.errors import ConfigError
from zoo.generators.base import Generator
from zoo.networks.background import SIDE
from zoo.registry import weights

METHODS = ["pigan", "shadegan", "gof"]
GOF = {"gof": {"surface_steps": 4, "refine_steps": 2, "fine_steps": 2, "steps": 6, "density_scale": 100}}


def pair(method: str) -> tuple[Generator, Generator]:
    """One field with and without a background, the same elsewhere."""
    options = {**TINY, "density_scale": 30, **GOF.get(method, {})}
    plain = zoo.build(method, **options).eval()
    rich = zoo.build(method, **options, background="map").eval()
    for p in rich.background.to_map.parameters():  # type: ignore[union-attr]
        torch.nn.init.normal_(p, generator=torch.Generator().manual_seed(1))
    return plain, rich


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_the_picture_is_seen_where_the_field_lets_it_through(method: str) -> None:
    plain, rich = pair(method)
    assert [k for k in rich.state_dict() if not k.startswith("background.")] == list(plain.state_dict())
    latents, camera = plain.latents(2), plain.camera(0.3, size=16)
    on_black, render = plain(latents, camera), rich(latents, camera)
    behind = rich.background(rich.code(latents), 16)  # type: ignore[union-attr, operator]
    wanted = ((on_black.rgb + 1) / 2 + (1 - on_black.mask) * behind).clamp(0, 1) * 2 - 1
    assert behind.std() > 0.05
    torch.testing.assert_close(render.rgb, wanted)
    torch.testing.assert_close(render.depth, on_black.depth)
    torch.testing.assert_close(render.mask, on_black.mask)


@torch.no_grad()
def test_the_picture_belongs_to_the_object_and_not_to_the_camera() -> None:
    _, rich = pair("pigan")
    latents = rich.latents(2)
    code, own = rich.code(latents), rich.own_maps(latents)["background"]
    assert own.shape == (2, 3, SIDE, SIDE)
    assert own.abs().max() <= 1
    front, side = (rich.behind(code, rich.camera(yaw, size=SIDE)) for yaw in (0.0, 0.5))  # type: ignore[operator]
    torch.testing.assert_close(front, (own / 2 + 0.5).flatten(2).transpose(1, 2))
    assert torch.equal(front, side)
    assert not torch.equal(front[0], front[1])


@torch.no_grad()
def test_it_starts_grey_and_learns() -> None:
    fresh = zoo.build("pigan", **TINY, background="map")
    code = fresh.code(fresh.latents(1))
    assert (fresh.background(code, 8) == 0.5).all()  # type: ignore[union-attr, operator]
    with torch.enable_grad():
        fresh.background(code, 8)[0, 0].mean().backward()  # type: ignore[union-attr, operator]
    assert fresh.background.to_map.conv.weight.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_shipped_weights_are_without_unless_their_recipe_says_so() -> None:
    for name in weights():
        if name.endswith(("heads32", "heads64")) and name.partition(".")[0] in METHODS:
            assert zoo.load(name).background is None


def test_what_hides_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="last_back=true hides it"):
        zoo.build("pigan", **TINY, background="map", last_back=True)
    with pytest.raises(ConfigError, match="background"):
        zoo.build("pigan", **TINY, background="picture")
