"""Distance of images in the features of a GAN's own discriminator: GAN2Shape's loss (Pan et al. 2021, section 3.3)."""

import re
from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError
from ..losses import photometric_loss
from .stylegan2 import StyleDiscriminator


class DiscriminatorLoss(nn.Module):
    """Distance of two batches in the first residual blocks of a GAN's discriminator; gradients reach the first batch.

    Args:
        discriminator: A `StyleDiscriminator`; it sees images of any side from 16 pixels.
        blocks: Number of residual blocks that count.
    """

    def __init__(self, discriminator: StyleDiscriminator, blocks: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(list(discriminator.convs)[: blocks + 1])
        self.eval().requires_grad_(False)

    @classmethod
    def of(cls, state: Mapping[str, Tensor], blocks: int = 4) -> Self:
        """Make the loss from the weights of a discriminator, whose widths are read from them.

        Raises:
            WeightsError: The weights are not those of a `StyleDiscriminator`.
        """
        names = [name for name in state if re.fullmatch(r"convs\.\d+\.conv2\.1\.weight", name)]
        if not names or "convs.0.0.weight" not in state:
            fix = "train one with system.discriminator.name=style"
            raise WeightsError(f"the GAN's discriminator is not StyleGAN2's; {fix}")
        names.sort(key=lambda name: int(name.split(".")[1]))  # files have an order of their own
        widths = [len(state[name]) for name in ("convs.0.0.weight", *names)]
        network = StyleDiscriminator(max_size=4 << len(names), channels=widths)
        try:
            missing, unexpected = network.load_state_dict(dict(state), strict=False)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise WeightsError(f"the GAN's discriminator does not fit ({reason})") from None
        learnt = {name for name, _ in network.named_parameters() if not name.startswith("pose_head.")}
        missing = [name for name in missing if name in learnt]  # official files lack that head, and may lack constants
        if missing or unexpected:
            raise WeightsError(f"the GAN's discriminator does not fit: {[*missing, *unexpected][0]}")
        return cls(network, blocks)

    def forward(self, first: Tensor, second: Tensor, mask: Tensor | None = None) -> Tensor:
        """The distance of two batches of images as a scalar.

        Args:
            first, second: (B,3,S,S) in [-1,1]; no gradient reaches `second`.
            mask: (B,1,S,S) in [0,1], averaged over the pixels of each feature.
        """
        total, second = torch.zeros((), device=first.device), second.detach()
        first, second = self.layers[0](first), self.layers[0](second)
        for layer in self.layers[1:]:
            first, second = layer(first), layer(second)
            small = None if mask is None else F.adaptive_avg_pool2d(mask, first.shape[-1])
            total = total + photometric_loss(first, second, small)
        return total
