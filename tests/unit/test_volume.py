"""Ray marching: how few samples it works with."""

import pytest
import torch
from torch import Tensor

import zoo
from zoo.errors import ConfigError
from zoo.renderers.fields.volume import FieldOut, Sampling, render_rays


def haze(points: Tensor, directions: Tensor) -> FieldOut:
    return FieldOut(torch.full_like(points, 0.5), torch.full_like(points[..., :1], 3.0), None)


@pytest.mark.parametrize(("steps", "fine_steps"), [(2, 0), (3, 1), (3, 12)])
@pytest.mark.parametrize("random", [False, True])
def test_the_fewest_samples_give_finite_maps(steps: int, fine_steps: int, random: bool) -> None:
    origins, directions = torch.zeros(1, 4, 3), torch.tensor([0.0, 0, 1]).expand(1, 4, 3)
    maps = render_rays(haze, origins, directions, 0.9, 1.1, Sampling(steps, fine_steps, random))
    assert all(values.isfinite().all() for values in maps if values is not None)


@pytest.mark.parametrize(
    ("steps", "fine_steps", "message"),
    [
        (2, 1, "steps=2 with fine_steps=1: use steps of 3 or more"),
        (1, 0, "steps=1 with fine_steps=0: use steps of 2 or more"),
        (12, -1, "fine_steps=-1: use 0 or more"),
    ],
)
def test_fewer_are_refused(steps: int, fine_steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(steps, fine_steps)


@pytest.mark.parametrize("method", ["pigan", "shadegan", "gof", "graf"])
@pytest.mark.parametrize("setting", ["density_scale=nan", "density_scale=0", "noise_kimg=-1", "mesh_level=inf"])
def test_settings_that_render_nothing_are_refused(method: str, setting: str) -> None:
    key, _, value = setting.partition("=")
    with pytest.raises(ConfigError, match=rf"{key}={float(value)}: use a finite number"):
        zoo.build(method, **{key: float(value)})
