"""Distances between images in the feature space of VGG16: Unsup3D's relu3_3 loss and LPIPS.

Both need weights that are not part of this package: torchvision's VGG16 for ImageNet, and for LPIPS its five linear
layers (version 0.1, `vgg.pth`). They are read from the user's files; nothing is downloaded. The networks are frozen.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import WeightsError
from ..losses import EPS, masked_mean
from ..resources import user_path
from ..runtime.pickles import read_plain

WIDTHS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = (2, 2, 3, 3, 3)


class VGGSlices(nn.Module):
    """The convolutions of VGG16, in slices that end after relu1_2, 2_2, 3_3, 4_3 and 5_3.

    Layers keep torchvision's numbers: `slice2.5.weight` is its `features.5.weight`.

    Args:
        widths: Channels of each slice; their number is the number of slices.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        inner, index = 3, 0
        for number, (width, count) in enumerate(zip(widths, _CONVOLUTIONS, strict=False), 1):
            part = nn.Sequential()
            if number > 1:
                part.add_module(str(index), nn.MaxPool2d(2))
                index += 1
            for _ in range(count):
                part.add_module(str(index), nn.Conv2d(inner, width, 3, padding=1))
                part.add_module(str(index + 1), nn.ReLU(inplace=True))
                inner, index = width, index + 2
            self.add_module(f"slice{number}", part)
        self.depth = len(widths)

    def features(self, image: Tensor) -> Iterator[Tensor]:
        """Yield the output of each slice for a normalised image (B,3,H,W), finest first."""
        for number in range(1, self.depth + 1):
            image = self.get_submodule(f"slice{number}")(image)
            yield image

    def load_torchvision(self, tensors: Mapping[str, Tensor], where: str) -> None:
        """Copy `features.<i>.weight|bias` of torchvision's VGG16; its deeper layers are not used.

        Raises:
            WeightsError: A layer is missing or has another shape.
        """
        with torch.no_grad():
            for key, value in self.named_parameters():
                copy_tensor(tensors, f"features.{key.partition('.')[2]}", value, where)


class PerceptualLoss(VGGSlices):
    """Squared distance of relu3_3 features (Wu et al. 2020, section 3.3).

    Args:
        widths: Channels of the three slices.
    """

    mean_rgb: Tensor
    std_rgb: Tensor

    def __init__(self, widths: Sequence[int] = WIDTHS[:3]) -> None:
        super().__init__(widths)
        self.register_buffer("mean_rgb", torch.tensor([0.485, 0.456, 0.406]))
        self.register_buffer("std_rgb", torch.tensor([0.229, 0.224, 0.225]))
        self.eval().requires_grad_(False)

    @classmethod
    def from_file(cls, vgg: str | Path) -> Self:
        """Make the loss with torchvision's VGG16 weights from a .pth or .safetensors file.

        Raises:
            WeightsError: The file cannot be read, or a layer is missing or has another shape.
        """
        loss = cls()
        loss.load_torchvision(read_tensors(vgg), str(vgg))
        return loss

    def forward(self, first: Tensor, second: Tensor, mask: Tensor | None = None, sigma: Tensor | None = None) -> Tensor:
        """The distance as a scalar: the mean over features, or over those inside the mask.

        Args:
            first, second: Images (B,3,S,S) in [-1,1].
            mask: (B,1,S,S) in [0,1], averaged over the pixels of each feature.
            sigma: (B,1,S/4,S/4) > 0, the spread of the error. With it, d^2 / (2 sigma^2) + log sigma replaces d^2.
        """
        both = torch.cat([first, second]) / 2 + 0.5
        both = (both - self.mean_rgb.view(1, 3, 1, 1)) / self.std_rgb.view(1, 3, 1, 1)
        *_, features = self.features(both)
        one, other = features.chunk(2)
        error = (one - other).square()
        if sigma is not None:
            error = error / (2 * sigma.square() + EPS) + (sigma + EPS).log()
        if mask is None:
            return error.mean()
        return masked_mean(error, F.avg_pool2d(mask, mask.shape[-1] // error.shape[-1]))


class LPIPS(nn.Module):
    """Learned perceptual distance, version 0.1 with VGG16 (Zhang et al. 2018).

    Its keys are those of the `lpips` package.

    Args:
        widths: Channels of the five slices.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.net = VGGSlices(widths)
        self.scaling_layer = nn.Module()
        self.scaling_layer.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.scaling_layer.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        for k, width in enumerate(widths):
            # Number 0 was a dropout, which only the training of these layers used.
            layer = nn.Sequential(nn.Identity(), nn.Conv2d(width, 1, 1, bias=False))
            self.add_module(f"lin{k}", nn.ModuleDict({"model": layer}))
        self.eval().requires_grad_(False)

    @classmethod
    def from_files(cls, vgg: str | Path, lin: str | Path) -> Self:
        """Make the distance with torchvision's VGG16 weights and the linear layers of LPIPS 0.1.

        Raises:
            WeightsError: A file cannot be read, or a layer is missing or has another shape.
        """
        loss, tensors = cls(), read_tensors(lin)
        loss.net.load_torchvision(read_tensors(vgg), str(vgg))
        with torch.no_grad():
            for k in range(loss.net.depth):
                key = f"lin{k}.model.1.weight"
                copy_tensor(tensors, key, loss.get_parameter(key), str(lin))
        return loss

    def layers(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """What each slice adds to the distance: (B,1,1,1) each, for images (B,3,H,W) in [-1,1] with H and W >= 16."""
        both = torch.cat([first, second])
        both = (both - self.scaling_layer.get_buffer("shift")) / self.scaling_layer.get_buffer("scale")
        out = []
        for k, features in enumerate(self.net.features(both)):
            one, other = (features / (features.norm(dim=1, keepdim=True) + 1e-10)).chunk(2)
            weigh = self.get_submodule(f"lin{k}.model")
            out.append(weigh((one - other).square()).mean(dim=(2, 3), keepdim=True))
        return out

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The distance (B,1,1,1) >= 0 of images (B,3,H,W) in [-1,1] with H and W >= 16."""
        return torch.stack(self.layers(first, second)).sum(0)


def copy_tensor(tensors: Mapping[str, Tensor], key: str, target: Tensor, where: str) -> None:
    """Copy one tensor of a file to `target`; `where` is what the message calls the file.

    Raises:
        WeightsError: The tensor is missing or has another shape.
    """
    found = tuple(tensors[key].shape) if key in tensors else "missing"
    if found != tuple(target.shape):
        raise WeightsError(f"{where}: {key} is {found}, must be {tuple(target.shape)}; are these the right weights?")
    target.copy_(tensors[key])


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read tensors by key from a .safetensors file or a file of `torch.save`; code in the file is never run.

    Raises:
        WeightsError: The file is missing or damaged, or holds anything but tensors by name.
    """
    path = user_path(path, WeightsError)
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; give the file of the weights")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = read_plain(path)
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged ({error}); get the file again") from None
    except WeightsError:
        raise
    except Exception as error:  # torch raises pickle, zip and runtime errors alike
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path}: not a readable weight file ({reason})") from None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WeightsError(f"{path}: is not a plain mapping from names to tensors; save only the state_dict")
    return tensors
