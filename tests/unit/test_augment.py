"""Adaptive discriminator augmentation: nothing at p = 0, the right changes at p = 1, and a target that is followed."""

import math

import pytest
import torch
from torch import Tensor

from zoo.data import augment as module
from zoo.data.augment import MOST, adapted, augment

N = 20_000


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


def test_poses_survive_moves_without_turns() -> None:
    torch.manual_seed(0)
    upright = module._moves(N, 64, 1.0, turns=False)
    off = upright[:, [0, 1], [1, 0]].abs().max(), (upright[:, 0, 0] - upright[:, 1, 1]).abs().max()
    assert max(off) == 0  # neither rotated nor stretched
    assert upright[:, 0, 0].min() > 0  # nor mirrored
    assert upright[:, 0, 0].log2().std() == pytest.approx(0.2, abs=0.005)
    assert upright[:, :2, 2].std() > 0.2  # but shifted


def test_half_precision_of_the_trainer_does_not_reach_the_changes(images: Tensor) -> None:
    torch.manual_seed(3)
    plain = augment(images, 0.7)
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):
        half = augment(images, 0.7)
    assert torch.equal(half, plain)


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
    monkeypatch.setattr(module, "_colours", lambda batch, p, device: torch.eye(4).repeat(batch, 1, 1))
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


def normal(std: float) -> float:
    """E[x^2] of x = 2^(std n), n standard normal."""
    return math.exp(2 * (std * math.log(2)) ** 2)


def test_moves_have_the_spread_of_the_paper() -> None:
    """Scale and ratio 2^N(0, 0.2), both rotations, U(-1/8, 1/8) in whole pixels and N(0, 1/8) of the side."""
    torch.manual_seed(0)
    size = 64
    moves = module._moves(N, size, 1.0)
    assert torch.equal(moves[:, 2], torch.tensor([0.0, 0.0, 1.0]).expand(N, 3))
    linear = moves[:, :2, :2]
    assert (linear.det() < 0).double().mean().item() == pytest.approx(0.5, abs=0.02)  # mirrored
    sides = torch.linalg.svdvals(linear).log2()
    assert sides.mean(1).std().item() == pytest.approx(0.2, rel=0.03)  # scale
    ratio = (sides[:, 0] - sides[:, 1]) / 2  # |N(0, 0.2)|, as the singular values are sorted
    assert ratio.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.03)
    of_entries = normal(0.2) ** 2 / 2
    expected = torch.full((2, 2), of_entries).sqrt()  # all alike, as angles are uniform
    torch.testing.assert_close(linear.std(0), expected, atol=0, rtol=0.03)
    torch.testing.assert_close(linear.mean(0), torch.zeros(2, 2), atol=0.03, rtol=0)
    steps = torch.arange(-size // 8, size // 8 + 1).double() * 2 / size
    chance = torch.ones_like(steps)
    chance[[0, -1]] = 0.5  # what is rounded there comes from one side only
    whole = (steps.square() * chance).sum() / chance.sum()
    offset = (whole + 2 * of_entries * 0.25**2).sqrt().float().expand(2)
    torch.testing.assert_close(moves[:, :2, 2].std(0), offset, atol=0, rtol=0.03)


def test_colours_have_the_spread_of_the_paper() -> None:
    """Brightness N(0, 0.2), contrast 2^N(0, 0.5), lightness flipped half the time, hue U(-pi, pi), saturation
    2^N(0, 1)."""
    torch.manual_seed(0)
    colours = module._colours(N, 1.0)
    assert torch.equal(colours[:, 3], torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(N, 4))
    offset = torch.tensor(0.2 * math.sqrt(normal(0.5))).expand(3)  # after the contrast
    torch.testing.assert_close(colours[:, :3, 3].std(0), offset, atol=0, rtol=0.03)
    grey = torch.ones(3) / math.sqrt(3)
    lightness = grey @ colours[:, :3, :3] @ grey
    assert (lightness < 0).double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert lightness.abs().log2().std().item() == pytest.approx(0.5, rel=0.03)
    chroma = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])
    chroma = chroma / chroma.norm(dim=1, keepdim=True)
    plane = chroma @ colours[:, :3, :3] @ chroma.T
    strength = plane.square().sum((1, 2)).log2() / 2
    assert strength.std().item() == pytest.approx(math.hypot(1.0, 0.5), rel=0.03)
    assert (strength - lightness.abs().log2()).std().item() == pytest.approx(1.0, rel=0.03)  # saturation alone


def test_hue_is_a_rotation_about_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    exact = module._Chain.then
    calls = iter(range(10**6))

    def second(self: module._Chain, rows: list, p: float | None = None) -> None:
        exact(self, rows, 1.0 if next(calls) == 1 else 0.0)

    monkeypatch.setattr(module._Chain, "then", second)
    hue = module._colours(N, 1.0)[:, :3, :3]
    torch.testing.assert_close(hue @ hue.mT, torch.eye(3).expand(N, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(hue.det(), torch.ones(N), atol=1e-5, rtol=0)
    torch.testing.assert_close(hue @ torch.ones(3), torch.ones(N, 3), atol=1e-5, rtol=0)
    angle = torch.atan2(hue[:, 1, 0] - hue[:, 0, 1], (hue.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2 * math.sqrt(3))
    assert angle.std().item() == pytest.approx(math.pi / math.sqrt(3), rel=0.03)


def test_probability_goes_both_ways_and_stays_safe() -> None:
    def after(p: float, certainty: float) -> float:
        return adapted(torch.tensor(p, dtype=torch.float64), torch.tensor(certainty), 0.6, 0.01).item()

    assert after(0.2, 0.9) == pytest.approx(0.21)
    assert after(0.2, 0.1) == pytest.approx(0.19)
    assert after(0.0, -1.0) == 0.0
    assert after(MOST, 1.0) == MOST


def test_a_probability_on_the_device_gives_the_same_pictures() -> None:
    images = torch.rand(6, 3, 8, 8)
    torch.manual_seed(0)
    known = augment(images, 0.4)
    torch.manual_seed(0)
    assert torch.equal(augment(images, torch.tensor(0.4, dtype=torch.float64)), known)
