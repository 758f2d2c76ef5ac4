"""The conditional radiance field of GRAF (Schwarz et al. 2020, section 3.1): NeRF's network with two latent codes.

Key names and shapes are those of the published weights, so they load without renaming.
"""

import math
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..renderers.fields.volume import FieldOut


def positional_encoding(x: Tensor, frequencies: int) -> Tensor:
    """Encode x (..., 3) as (..., 3 + 6 * frequencies): x, then sin(2^k x) and cos(2^k x) for each k.

    See Mildenhall et al. 2020.
    """
    angles = x[..., None, :] * 2.0 ** torch.arange(frequencies, device=x.device)[:, None]
    return torch.cat([x, torch.stack([angles.sin(), angles.cos()], -2).flatten(-3)], -1)


class NeRFMLP(nn.Module):
    """The field: from points (B, M, 3) and code (B, shape_dim + appearance_dim) to colour and density.

    Args:
        hidden_dim: Width of the trunk; the colour layer has half of it.
        layers: Number of ReLU layers in the trunk.
        skip: Index, from 0, of the layer after which the encoded point is given again; without such a layer it is not.
        frequencies, view_frequencies: Numbers of frequencies that encode points and viewing directions.
        shape_dim, appearance_dim: Lengths of the two parts of the code; the first goes to the trunk, the second to the
            colour layer.
        unit: Length of a world unit in the field's own coordinates.
        front: Azimuth in degrees of the world's +Z, the front, in the field's own coordinates, whose z points up.
    """

    frame: Tensor

    def __init__(
        self,
        hidden_dim: int = 256,
        layers: int = 8,
        skip: int = 4,
        frequencies: int = 10,
        view_frequencies: int = 4,
        shape_dim: int = 128,
        appearance_dim: int = 128,
        unit: float = 10.0,
        front: float = 45.0,
    ) -> None:
        super().__init__()
        self.skip, self.frequencies, self.view_frequencies = skip, frequencies, view_frequencies
        self.code_dims = [shape_dim, appearance_dim]
        self.unit = unit
        entry = 3 + 6 * frequencies + shape_dim
        widths = [entry, *[hidden_dim] * layers]
        self.pts_linears = nn.ModuleList(
            nn.Linear(i + (entry if k == skip + 1 else 0), o) for k, (i, o) in enumerate(pairwise(widths))
        )
        seen = hidden_dim + 3 + 6 * view_frequencies + appearance_dim
        self.views_linears = nn.ModuleList([nn.Linear(seen, hidden_dim // 2)])
        self.feature_linear = nn.Linear(hidden_dim, hidden_dim)
        self.alpha_linear = nn.Linear(hidden_dim, 1)
        self.rgb_linear = nn.Linear(hidden_dim // 2, 3)
        c, s = math.cos(math.radians(front)), math.sin(math.radians(front))
        frame = torch.tensor([[-s, c, 0.0], [0.0, 0.0, 1.0], [c, s, 0.0]])  # rows: where X, Y and Z of the world go
        self.register_buffer("frame", frame, persistent=False)

    def forward(self, points: Tensor, code: Tensor, directions: Tensor, with_gradient: bool = False) -> FieldOut:
        """Evaluate the field.

        Args:
            points: (B, M, 3) world coordinates.
            code: (B, shape_dim + appearance_dim) latent code.
            directions: (B, M, 3) unit ray directions in the world frame.
            with_gradient: Whether to return d sigma / d points, in closed form: the gradient goes backwards through the
                layers as g <- (g * (h > 0)) W, and through the encoding. Training does not need it.
        """
        appearance = code.split(self.code_dims, -1)[1]
        h, active = self._trunk(points, code)
        view = positional_encoding(directions @ self.frame, self.view_frequencies)
        colour = _affine(cast(nn.Linear, self.views_linears[0]), self.feature_linear(h), view, appearance).relu()
        gradient = self._gradient(points, active) if with_gradient else None
        return FieldOut(torch.sigmoid(self.rgb_linear(colour)), self.alpha_linear(h), gradient)

    def sigma(self, points: Tensor, code: Tensor) -> Tensor:
        """Raw density (B, M, 1) alone."""
        out: Tensor = self.alpha_linear(self._trunk(points, code)[0])
        return out

    def _trunk(self, points: Tensor, code: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features (B, M, H), and which units of each layer are on."""
        shape = code.split(self.code_dims, -1)[0]
        x = positional_encoding(points @ self.frame * self.unit, self.frequencies)
        layers: list[Any] = list(self.pts_linears)  # of Linear, which the type of a ModuleList cannot say
        h, active = x, []
        for k, layer in enumerate(layers):
            inputs = [x, shape] if k == 0 else [x, shape, h] if k == self.skip + 1 else [h]
            h = _affine(layer, *inputs).relu()
            active.append(h > 0)
        return h, active

    def _gradient(self, points: Tensor, active: list[Tensor]) -> Tensor:
        n = 3 + 6 * self.frequencies
        layers: list[Any] = list(self.pts_linears)
        g: Tensor = self.alpha_linear.weight
        at_entry = points.new_zeros(n)
        for k in reversed(range(len(layers))):
            g = (g * active[k]) @ layers[k].weight
            if k in (0, self.skip + 1):
                at_entry = at_entry + g[..., :n]
            if k == self.skip + 1:
                g = g[..., -active[k - 1].shape[-1] :]
        scales = 2.0 ** torch.arange(self.frequencies, device=points.device)[:, None]
        angles = (points @ self.frame * self.unit)[..., None, :] * scales
        slopes = torch.stack([angles.cos() * scales, -angles.sin() * scales], -2)  # of sines and cosines
        waves = at_entry[..., 3:].unflatten(-1, (self.frequencies, 2, 3))
        out: Tensor = (at_entry[..., :3] + (waves * slopes).sum((-3, -2))) @ self.frame.T * self.unit
        return out


def _affine(layer: nn.Linear, *inputs: Tensor) -> Tensor:
    """Apply the layer to the concatenated inputs.

    Inputs (B, C) hold for all points of an object, and are multiplied once instead of at every point.
    """
    weights = layer.weight.split([x.shape[-1] for x in inputs], 1)
    terms = [F.linear(x, w) for x, w in zip(inputs, weights, strict=True)]
    return sum((t if t.ndim == 3 else t[:, None] for t in terms), layer.bias)
