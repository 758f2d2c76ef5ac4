"""What training watches in depth maps: whether surfaces bulge towards the viewer, and whether they differ.

Hollow faces, and one face for all, are the classic failures of learning shape from images.
"""

import torch
from torch import Tensor


def depth_curvature(depth: Tensor, mask: Tensor) -> Tensor:
    """Curvature (B,) of the best-fitting paraboloid: > 0 if the object bulges towards the viewer, < 0 if it is hollow.

    Least squares fit depth = c0 + c1 x + c2 y + c3 (x^2 + y^2) over the mask, with pixel coordinates x, y in [-1, 1];
    the curvature is c3 in world units. One paraboloid per image ignores noise and small features, which an average of
    second differences would amplify.

    Args:
        depth: (B, 1, H, W) along the optical axis.
        mask: (B, 1, H, W) opacity in [0, 1]; pixels above 0.5 count. An image with 8 of them or fewer returns NaN.
    """
    b, _, h, w = depth.shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    x, y = x.to(depth.device), y.to(depth.device)
    basis = torch.stack([torch.ones_like(x), x, y, x * x + y * y]).reshape(4, -1).double()
    weight = (mask.reshape(b, 1, -1) > 0.5).double()
    normal = (basis * weight) @ basis.T + 1e-9 * torch.eye(4, dtype=torch.float64, device=depth.device)
    moment = (basis * weight) @ depth.reshape(b, -1, 1).double()
    curvature = torch.linalg.solve(normal, moment)[:, 3, 0]
    return torch.where(weight.sum((1, 2)) > 8, curvature, torch.full_like(curvature, torch.nan)).float()


def depth_variety(depth: Tensor, mask: Tensor) -> Tensor:
    """How much the shapes of objects differ, as a scalar; 0 if all have one shape.

    It is the spread of depth from object to object over its spread from pixel to pixel, where all objects overlap. It
    is NaN with fewer than two objects, or if they overlap in fewer than two pixels.

    Args:
        depth: (B, 1, H, W) along the optical axis, of objects seen from the same side.
        mask: (B, 1, H, W) opacity in [0, 1]; pixels above 0.5 count.
    """
    inside = (mask > 0.5).all(0)[0]
    if len(depth) < 2 or inside.sum() < 2:
        return depth.new_tensor(torch.nan)
    seen = depth[:, 0, inside]
    return seen.std(0).mean() / seen.mean(0).std()
