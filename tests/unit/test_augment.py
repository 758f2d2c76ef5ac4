"""Adaptive discriminator augmentation: nothing at p = 0, the right changes at p = 1, and a target that is followed."""

import math

import pytest
import torch
from torch import Tensor

from zoo.data import augment as module
from zoo.data.augment import MOST, adapted, augment


@pytest.fixture
def images() -> Tensor:
    return torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_nothing_happens_at_zero(images: Tensor) -> None:
    torch.testing.assert_close(augment(images, 0.0), images, atol=1e-5, rtol=0)


def test_the_share_of_changed_images_follows_p(images: Tensor) -> None:
    torch.manual_seed(0)
    many = images.repeat(50, 1, 1, 1)
    for p in (0.03, 0.1, 0.3):
        same = (augment(many, p) - many).abs().amax((1, 2, 3)) < 1e-4
        # Mirror and lightness do nothing half the time, a quarter turn 1/4 of it, a whole-pixel shift of up to two
        # pixels 1/16 of it; the two rotations share one p.
        idle = (1 - p / 2) ** 2 * (1 - 3 / 4 * p) * (1 - 15 / 16 * p) * (1 - p) ** 8
        assert abs(same.double().mean().item() - idle) < 3 * math.sqrt(idle * (1 - idle) / len(many))


def test_gradients_reach_the_images(images: Tensor) -> None:
    few = images[:2, :, :4, :4].double().requires_grad_(True)

    def seeded(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return augment(x, 0.7)

    assert torch.autograd.gradcheck(seeded, few)


def test_moves_keep_pixels_where_they_can(monkeypatch: pytest.MonkeyPatch, images: Tensor) -> None:
    """Mirror, quarter turns and whole-pixel shifts interpolate nothing: the pixels of the middle are all old ones."""
    torch.manual_seed(0)
    exact = module._Chain.then
    calls = iter(range(10**6))

    def first_three(self: module._Chain, rows: list, p: float | None = None) -> None:
        exact(self, rows, 1.0 if next(calls) % 8 < 3 else 0.0)

    monkeypatch.setattr(module._Chain, "then", first_three)
    monkeypatch.setattr(module, "_colours", lambda batch, p: torch.eye(4).repeat(batch, 1, 1))
    for image, moved in zip(images, augment(images, 1.0), strict=True):
        distances = (moved[:, 4:12, 4:12].reshape(3, -1, 1) - image.reshape(3, 1, -1)).abs().amax(0)
        assert distances.amin(1).max() < 1e-4


def test_colours_keep_grey_grey_and_mean_lightness() -> None:
    torch.manual_seed(0)
    matrices = module._colours(200, 1.0)
    greys = matrices[:, :3, :3] @ torch.ones(3) + matrices[:, :3, 3]
    torch.testing.assert_close(greys, greys[:, :1].expand(-1, 3), atol=1e-5, rtol=0)
    red = matrices[:, :3, :3] @ torch.tensor([1.0, -0.5, -0.5])  # no lightness: hue and saturation alone
    torch.testing.assert_close(red.sum(1), torch.zeros(200), atol=1e-4, rtol=0)
    assert red.std(0).min() > 0.3


def test_probability_goes_both_ways_and_stays_safe() -> None:
    assert adapted(0.2, 0.9, 0.6, 0.01) == pytest.approx(0.21)
    assert adapted(0.2, 0.1, 0.6, 0.01) == pytest.approx(0.19)
    assert adapted(0.0, -1.0, 0.6, 0.01) == 0.0
    assert adapted(MOST, 1.0, 0.6, 0.01) == MOST
