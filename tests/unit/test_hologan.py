"""HoloGAN: its normalisation and its turn against slow twins, its conventions."""

import itertools
import math

import pytest
import torch

import zoo
from zoo.editing.codes import at, layer_count, mix
from zoo.errors import ConfigError
from zoo.generators.hologan import AdaIN, HoloGAN, HoloGANConfig, turned
from zoo.geometry import Camera


def gan(**changes) -> HoloGAN:
    torch.manual_seed(0)
    return HoloGAN(HoloGANConfig(**{"z_dim": 8, "size": 32, "channels": 4, **changes})).eval()


def axes(yaw: float, pitch: float = 0.0) -> torch.Tensor:
    return Camera.orbit(yaw, pitch).cam2world[:, :3, :3]


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 3, 4, 5, 3)], ids=["2D", "3D"])
def test_adain_normalises_each_map_of_each_object(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer, x, z = AdaIN(3, 6), 2 + 3 * torch.randn(shape), torch.randn(2, 6)
    out = layer(x, z)
    for b, c in itertools.product(range(2), range(3)):
        scale = 1 + layer.style.weight[c] @ z[b] + layer.style.bias[c]
        shift = layer.style.weight[3 + c] @ z[b] + layer.style.bias[3 + c]
        values = x[b, c]
        expected = scale * (values - values.mean()) / (values.var(correction=0) + 1e-5).sqrt() + shift
        torch.testing.assert_close(out[b, c], expected, atol=1e-5, rtol=1e-5)


def test_a_quarter_turn_moves_every_voxel_to_another() -> None:
    """The camera goes to -X: what lay there comes to the front, what lay in front to the right."""
    volume = torch.randn(1, 2, 5, 5, 5)
    torch.testing.assert_close(turned(volume, axes(math.pi / 2)), volume.flip(4).transpose(2, 4), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(turned(volume, axes(0.0)), volume, atol=1e-6, rtol=0)


def test_any_turn_is_a_trilinear_look_up() -> None:
    n, rotation = 4, axes(0.4, -0.3)
    volume = torch.randn(1, 1, n, n, n)
    at_ = torch.linspace(-1, 1, n).tolist()

    def voxel(d: int, h: int, w: int) -> float:
        return volume[0, 0, d, h, w].item() if all(0 <= i < n for i in (d, h, w)) else 0.0

    expected = torch.zeros(n, n, n)
    for d, h, w in itertools.product(range(n), repeat=3):
        x, y, z = (rotation[0].double() @ torch.tensor([at_[w], -at_[h], at_[d]]).double()).tolist()
        where = [(z + 1) / 2 * (n - 1), (1 - y) / 2 * (n - 1), (x + 1) / 2 * (n - 1)]
        low = [math.floor(v) for v in where]
        for corner in itertools.product((0, 1), repeat=3):
            weight = math.prod(1 - abs(v - i - c) for v, i, c in zip(where, low, corner, strict=True))
            expected[d, h, w] += weight * voxel(*(i + c for i, c in zip(low, corner, strict=True)))
    torch.testing.assert_close(turned(volume, rotation)[0, 0], expected, atol=1e-5, rtol=0)


def test_two_turns_are_one() -> None:
    """Of a linear field, whose interpolation is exact, in the ball that no turn takes out of the volume."""
    axis = torch.linspace(-1, 1, 13)
    z, y, x = torch.meshgrid(axis, -axis, axis, indexing="ij")
    volume = (0.3 * x - 0.5 * y + 0.8 * z + 0.1)[None, None]
    first, second = axes(0.5, 0.2), axes(-0.8, 0.1)
    twice, once = turned(turned(volume, first), second), turned(volume, first @ second)
    ball = (x.square() + y.square() + z.square()).sqrt() < 0.8
    torch.testing.assert_close(twice[0, 0][ball], once[0, 0][ball], atol=1e-5, rtol=0)
    assert (turned(volume, first) - volume)[0, 0][ball].abs().max() > 0.1


def test_reverse_turns_a_volume_that_is_mirrored_in_depth() -> None:
    volume, camera = torch.randn(1, 2, 5, 5, 5), Camera.orbit(0.4, 0.2)
    plain, other = (gan(reverse=reverse).rotation(camera) for reverse in (False, True))
    torch.testing.assert_close(turned(volume.flip(2), other), turned(volume, plain).flip(2), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other, Camera.orbit(-0.4, -0.2).cam2world[:, :3, :3], atol=1e-6, rtol=0)


def test_latents_are_uniform() -> None:
    code = gan().code(gan().latents(4000, seed=0))
    assert code.abs().max() <= 1
    histogram = torch.histc(code, 10, -1, 1) / code.numel()
    torch.testing.assert_close(histogram, torch.full((10,), 0.1), atol=0.01, rtol=0)


def test_the_camera_turns_and_there_is_no_shape() -> None:
    model = gan()
    lat = model.latents(2, seed=0)
    with torch.no_grad():
        front, side = (model(lat, model.camera(yaw, size=32)) for yaw in (0.0, 0.5))
    assert (front.rgb - side.rgb).abs().mean() > 1e-3
    assert front.depth is front.mask is front.normal is None
    model.need_camera("--yaw")
    with pytest.raises(ConfigError, match="it has no mesh"):
        model.mesh(lat)
    with pytest.raises(ConfigError, match="has no --yaw"):
        zoo.build("stylegan2", size=16, z_dim=8, mapping_layers=1, channel_max=8).need_camera("--yaw")


def test_volume_and_picture_can_have_latents_of_their_own() -> None:
    model = gan(size=64)
    assert layer_count(model) == 5
    one, two = model.latents(1, seed=0), model.latents(1, seed=1)
    camera = model.camera(size=64)
    with torch.no_grad():
        same, mixed = model(mix(model, one, two, 5), camera).rgb, model(mix(model, one, two, 3), camera).rgb
        torch.testing.assert_close(same, model(one, camera).rgb)
        expected = torch.stack([*[model.code(one)] * 3, *[model.code(two)] * 2], 1)
        torch.testing.assert_close(mixed, model(at(model, expected), camera).rgb)
    assert (mixed - same).abs().mean() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 48}, "size=48"),
        ({"size": 16}, "size=16"),
        ({"channels": 0}, "channels=0: use 1 or more"),
        ({"size": 512, "channels": 7}, "channels=7: use 8 or more"),
        ({"z_dim": 0}, "z_dim=0: use 1 or more"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gan(**changes)
    assert gan(size=512, channels=8).to_rgb.in_channels == 1


def test_the_published_widths() -> None:
    with torch.device("meta"):
        model = HoloGAN(HoloGANConfig())
    assert model.constant.shape == (1, 512, 4, 4, 4)
    assert [layer.conv.out_channels for layer in [*model.shape, *model.picture]] == [128, 64, 256, 64]
    assert (model.projection.in_channels, model.projection.out_channels) == (1024, 1024)
