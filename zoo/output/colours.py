"""Maps as colours: images, depth, normals, and sheets of them."""

import torch
from PIL import Image
from torch import Tensor

# From dark blue over teal to pale yellow. Lightness rises, so it can be read in grey print and by colour-blind people.
_RAMP = torch.tensor(
    [[0.07, 0.08, 0.25], [0.15, 0.33, 0.53], [0.18, 0.60, 0.55], [0.62, 0.80, 0.42], [0.99, 0.95, 0.70]]
)


def ramp(values: Tensor) -> Tensor:
    """Values (B,1,H,W) in [0,1] as colours (B,3,H,W) in [0,1], from dark (0) to light (1); others are clamped."""
    position = values.cpu().clamp(0, 1) * (len(_RAMP) - 1)
    lower = position.floor().long().clamp_max(len(_RAMP) - 2)
    colour = torch.lerp(_RAMP[lower], _RAMP[lower + 1], (position - lower)[..., None].expand(*lower.shape, 3))
    return colour.squeeze(1).permute(0, 3, 1, 2).to(values.device)


def show_image(rgb: Tensor) -> Tensor:
    """Images in [-1,1] as colours in [0,1]."""
    return (rgb / 2 + 0.5).clamp(0, 1)


def show_depth(depth: Tensor, mask: Tensor, span: tuple[float, float] | None = None) -> Tensor:
    """Depth (B,1,H,W) as colours (B,3,H,W) in [0,1]: light where near, dark where far.

    Args:
        depth: Depth along the optical axis, in world units.
        mask: (B,1,H,W) bool; pixels outside it are mid grey.
        span: Depths (near, far) of the lightest and darkest colours; by default the range inside the mask.
    """
    if not mask.any():
        return torch.full_like(depth, 0.5).expand(-1, 3, -1, -1)
    near, far = span or (depth[mask].min().item(), depth[mask].max().item())
    return torch.where(mask, ramp((far - depth) / max(far - near, 1e-6)), 0.5)


def show_normal(normal: Tensor, mask: Tensor) -> Tensor:
    """Unit normals (B,3,H,W) as colours in [0,1]: red to the right, green up, blue towards the viewer.

    Pixels outside the mask (B,1,H,W) bool are mid grey.
    """
    return torch.where(mask, normal / 2 + 0.5, 0.5)


def to_pil(image: Tensor) -> Image.Image:
    """Turn colours (3,H,W) in [0,1] into a picture."""
    return Image.fromarray((image.detach().cpu().permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy())


def tile(rows: list[Tensor], scale: int = 1) -> Image.Image:
    """Join rows of colours, each (N,3,S,S) in [0,1], into one sheet, enlarged by a whole factor without smoothing."""
    sheet = torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2)
    return to_pil(sheet.repeat_interleave(scale, -1).repeat_interleave(scale, -2))
