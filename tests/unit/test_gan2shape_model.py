"""GAN2Shape's model does what its settings say: offsets, slant, viewpoints, lights, crops. Others are refused."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import zoo
from tests.unit.tiny_gan2shape import SIZE, prepared, tiny_gan, tiny_run
from zoo.config.schemas import NormalConfig
from zoo.errors import ConfigError
from zoo.fitting.steps import InstanceSystem
from zoo.fitting.subject import Subject
from zoo.fitting.views import Fitted
from zoo.generators.base import Generator
from zoo.generators.gan2shape import GAN2Shape, GAN2ShapeConfig, mapped, slant
from zoo.priors import ViewPrior


@pytest.fixture(scope="module")
def gan() -> Generator:
    return tiny_gan()


@pytest.fixture(scope="module")
def subjects(gan: Generator) -> list[Subject]:
    return prepared(gan)


def test_offsets_inside_the_mapping_network(gan: Generator) -> None:
    """Behind its end they are added to w as they are; before its start, the network sees them as a latent."""
    offset, zero = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 8)
    torch.testing.assert_close(mapped(gan.mapping, offset, GAN2ShapeConfig(mapping_tail=-1).mapping_tail), offset)
    torch.testing.assert_close(mapped(gan.mapping, offset, 2), gan.mapping(offset) - gan.mapping(zero))
    half = gan.mapping[2:](offset + gan.mapping[:2](zero)) - gan.mapping(zero)  # type: ignore[index]
    torch.testing.assert_close(mapped(gan.mapping, offset, 0), half)


def test_slant_is_the_slope_of_the_middle_and_costs(subjects: list[Subject]) -> None:
    y = torch.linspace(-1, 1, SIZE)[:, None]
    plane = (1 + 0.03 * y + 0.02 * y.T).expand(2, 1, SIZE, SIZE).clone()
    plane[1, :, : SIZE // 4] = 9.0  # what lies around the middle does not count
    assert torch.allclose(slant(plane), torch.tensor(0.03 * (SIZE / 2 - 1) / (SIZE - 1)), rtol=1e-3)
    image, losses = subjects[0].image, []
    for weight in (0.0, 100.0):
        torch.manual_seed(0)
        model = GAN2Shape(GAN2ShapeConfig(size=SIZE, nf=4, groups=2, zdim=4, slant_weight=weight))
        model.prior = 0.5 * y.expand(1, 1, SIZE, SIZE)  # leans back; a fresh network would not
        losses.append(model.joint_loss(image, image, torch.ones_like(image[:, :1]), False, None).item())
        expected = weight * slant(model.canonical_depth(image)).square().item()
    assert expected > 1e-3
    assert losses[1] - losses[0] == pytest.approx(expected, rel=0.01)


def test_viewpoints_come_from_the_scene_or_from_a_prior(tmp_path: Path) -> None:
    model = GAN2Shape(GAN2ShapeConfig(size=SIZE, nf=4, groups=2))
    pose, source = model.scene.pose, torch.Generator().manual_seed(0)
    drawn = model.draw_views(4000, source)
    std = torch.tensor([pose.pitch_std, pose.yaw_std * model.config.view_scale])
    torch.testing.assert_close(drawn[:, :2].std(0), std, rtol=0.05, atol=0)
    assert not drawn[:, 2:].any()

    file = ViewPrior(torch.tensor([0.0, 0.5, 0, 0, 0, 0]), torch.eye(6) * 0.01).save(tmp_path / "views.json")
    run = tiny_run(f"generator.view={file}", "generator.view_scale=1.0")
    model = InstanceSystem(run).generator
    turn = torch.deg2rad(torch.tensor(0.5 * model.config.rotation_range))
    torch.testing.assert_close(model.draw_views(4000, source)[:, 1].mean(), turn, rtol=0.05, atol=0)
    torch.testing.assert_close(model.viewpoint(torch.zeros(1, 6))[0, 1], turn)
    with pytest.raises(ConfigError, match=r"view: mean and cov must be \(6,\)"):
        ViewPrior(torch.zeros(4), torch.eye(4))


@pytest.mark.parametrize(
    ("mean", "cov", "line"),
    [
        ([0.0] * 4, torch.eye(4), r"^generator\.view: mean and cov must be \(6,\) and \(6, 6\), got"),
        ([0.0] * 6, torch.eye(5), r"^generator\.view: mean and cov must be"),
        ([0.0] * 6, -torch.eye(6), r"^generator\.view\.cov must be symmetric"),
    ],
)
def test_viewpoints_that_are_no_distribution_are_refused_at_once(mean: list[float], cov: Tensor, line: str) -> None:
    view = NormalConfig(mean, cov.tolist())
    for device in ("cpu", "meta"):
        with torch.device(device), pytest.raises(ConfigError, match=line):
            GAN2ShapeConfig(view=view)
        with torch.device(device):
            GAN2ShapeConfig(view=NormalConfig([0.0] * 6, [[0.0] * 6] * 6))


def test_lights_move_strength_between_ambient_and_directional() -> None:
    model = GAN2Shape(GAN2ShapeConfig(size=SIZE, nf=4, groups=2, light_gain=[0.2, 0.2], ambient_share=-0.5))
    light = zoo.Light.of(0.4, 0.5)
    drawn = model.draw_lights(light, 50, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.ambient, torch.full((50,), 0.3))
    torch.testing.assert_close(drawn.diffuse, torch.full((50,), 0.7))
    assert drawn.params[:, 2].min() < -0.8
    assert drawn.params[:, 2].max() > 0.8


def test_the_gan_image_is_cropped_like_the_photographs() -> None:
    model = GAN2Shape(GAN2ShapeConfig(size=SIZE, nf=4, groups=2, gan_crop=[64, 32]))
    whole = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.as_seen(whole), whole[..., 16:48, 16:48])
    with pytest.raises(ConfigError, match=r"generator\.gan_crop"):
        GAN2ShapeConfig(gan_crop=[64])


def test_terms_of_unsup3d_that_would_do_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"generator\.cycle_weight=0\.5: a term of unsup3d"):
        GAN2ShapeConfig(cycle_weight=0.5)


def test_views_turn_as_yaw_says(gan: Generator, subjects: list[Subject]) -> None:
    model = GAN2Shape(GAN2ShapeConfig(size=SIZE, nf=4, groups=2, zdim=4, offset_nf=2, offset_dim=8)).eval()
    fitted = Fitted(model, gan, subjects[0])
    _, view = fitted.turned(torch.tensor([0.3]), torch.tensor([0.1]))
    torch.testing.assert_close(model.map_camera.world_camera(view).pose, torch.tensor([[0.1, 0.3]]), atol=0.02, rtol=0)
    for light, views in fitted.paths("face", 3).values():
        for images in (fitted.rendered(light, views), fitted.drawn(light, views)):
            assert images.shape == (3, 3, SIZE, SIZE)
            assert images.abs().max() <= 1


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("system.batch=0", r"system\.batch=0"),
        ("system.lr_joint=.nan", r"system\.lr_joint=nan"),
        ("system.stages=[]", r"system\.stages"),
        ("system.stages=[{albedo: 0}]", r"system\.stages\[0\]\.albedo=0"),
        ("system.perceptual=lpips", r"system\.vgg=FILE"),
        ("generator.light_x=[1.0]", r"generator\.light_x"),
    ],
)
def test_settings_that_cannot_work(override: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        tiny_run(override)
