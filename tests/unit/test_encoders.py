"""The photometric methods' networks at the sizes that no official weights have, and what they refuse."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo.config.recipes import load_run
from zoo.errors import WeightsError
from zoo.images import centre_crop
from zoo.losses import masked_mean, photometric_loss, step_loss
from zoo.networks import perceptual
from zoo.networks.confnet import ConfNet
from zoo.networks.encoders import EDDeconv, Encoder
from zoo.networks.perceptual import LPIPS, PerceptualLoss
from zoo.systems.folder import run_folder

WIDTHS = (4, 5, 6, 7, 8)


def networks(size: int) -> list[nn.Module]:
    options = {"nf": 8, "groups": 4, "zdim": 6, "size": size}
    return [EDDeconv(cout=3, tanh=True, **options), ConfNet(**options), Encoder(cout=6, nf=4, size=size)]


@pytest.mark.parametrize("size", [32, 64, 128])
def test_shapes_and_ranges(size: int) -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, size, size) * 2 - 1
    albedo, (pixels, features), view = (net(image) for net in networks(size))
    assert albedo.shape == (2, 3, size, size)
    assert albedo.abs().max() <= 1
    assert pixels.shape == (2, 2, size, size)
    assert features.shape == (2, 2, size // 4, size // 4)
    assert min(pixels.min(), features.min()) > 0
    assert view.shape == (2, 6)
    assert view.abs().max() <= 1


def test_every_weight_learns_at_32_px() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    for net in networks(32):
        out = net(image)
        sum(part.square().sum() for part in (out if isinstance(out, tuple) else (out,))).backward()
        for name, weight in net.named_parameters():
            assert weight.grad is not None, name
            assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("size", [16, 48, 0, -64])
def test_other_sizes_are_refused(size: int) -> None:
    for net in (EDDeconv, Encoder, ConfNet):
        with pytest.raises(ValueError, match=f"power of two and at least 32, got {size}"):
            net(size=size)


def test_wrong_widths_and_images_are_refused() -> None:
    for net in (EDDeconv, ConfNet):
        with pytest.raises(ValueError, match="multiple of groups, got nf=20"):
            net(nf=20)
    for net in networks(32):
        with pytest.raises(ValueError, match=r"image must be \(B,3,32,32\)"):
            net(torch.zeros(1, 3, 64, 64))


def torchvision_state(widths: tuple[int, ...]) -> dict[str, Tensor]:
    """A VGG16 as torchvision would save it, narrow."""
    torch.manual_seed(0)
    net = perceptual.VGGSlices(widths)
    state = {f"features.{key.partition('.')[2]}": value.detach() for key, value in net.named_parameters()}
    return state | {"classifier.6.bias": torch.zeros(10)}


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_come_from_the_users_files(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual.PerceptualLoss.__init__, "__defaults__", (WIDTHS[:3],))
    monkeypatch.setattr(perceptual.LPIPS.__init__, "__defaults__", (WIDTHS,))
    state = torchvision_state(WIDTHS)
    lin = {f"lin{k}.model.1.weight": torch.rand(1, width, 1, 1) for k, width in enumerate(WIDTHS)}
    write = torch.save if suffix == "pth" else save_file
    files = tmp_path / f"vgg.{suffix}", tmp_path / f"lin.{suffix}"
    for tensors, path in zip((state, lin), files, strict=True):
        write(tensors, path)
    loss, distance = PerceptualLoss.from_file(files[0]), LPIPS.from_files(*files)
    assert torch.equal(loss.get_parameter("slice3.14.weight"), state["features.14.weight"])
    assert torch.equal(distance.get_parameter("net.slice5.28.bias"), state["features.28.bias"])
    assert torch.equal(distance.get_parameter("lin4.model.1.weight"), lin["lin4.model.1.weight"])
    first, second = torch.rand(2, 2, 3, 32, 32)
    first.requires_grad_()
    (loss(first, second) + distance(first, second).sum()).backward()
    assert first.grad is not None
    assert first.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in [*loss.parameters(), *distance.parameters()])
    assert loss(second, second) == distance(second, second).sum() == 0


def test_weight_files_and_runs_lie_below_home_where_users_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save({"w": torch.ones(1)}, tmp_path / "vgg.pth")
    assert perceptual.read_tensors("~/vgg.pth")["w"] == 1
    assert run_folder(load_run("pigan", ["out=~/runs"])).parent == tmp_path / "runs"


def test_wrong_weight_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        PerceptualLoss.from_file(tmp_path / "none.pth")
    path = tmp_path / "vgg.pth"
    torch.save(torchvision_state(WIDTHS), path)
    with pytest.raises(WeightsError, match=r"features\.0\.weight is \(4, 3, 3, 3\), must be \(64, 3, 3, 3\)"):
        PerceptualLoss.from_file(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(WeightsError, match="save only the state_dict"):
        PerceptualLoss.from_file(path)
    torch.save(nn.Linear(2, 2), path)  # a pickled object, which could run code
    with pytest.raises(WeightsError, match="not a readable weight file"):
        PerceptualLoss.from_file(path)
    for suffix in ("pth", "safetensors"):
        path = tmp_path / f"broken.{suffix}"
        path.write_bytes(b"nothing of the kind")
        with pytest.raises(WeightsError, match=f"broken.{suffix}"):
            PerceptualLoss.from_file(path)


def test_losses_of_an_empty_mask_are_zero_and_finite() -> None:
    first = torch.rand(2, 3, 8, 8, requires_grad=True)
    loss = photometric_loss(first, torch.rand(2, 3, 8, 8), torch.zeros(2, 1, 8, 8))
    loss.backward()
    assert loss == 0
    assert first.grad is not None
    assert first.grad.isfinite().all()


def test_masked_means_and_steps() -> None:
    values, mask = torch.arange(8.0).view(1, 2, 2, 2), torch.tensor([[1.0, 0], [0, 1]])[None, None]
    assert masked_mean(values) == 3.5
    assert masked_mean(values, mask) == (0 + 3 + 4 + 7) / 4
    ramp = torch.arange(5.0).expand(1, 1, 4, 5)
    assert step_loss(ramp) == 1
    with pytest.raises(ValueError, match="crop 6 px out of images of 5 px"):
        centre_crop(ramp, 6)
