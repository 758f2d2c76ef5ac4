"""Three other treatments of outlines, to be compared with the margin of `zoo.renderers.meshes.boundary`."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ZooError
from ..p3d import native, pytorch3d
from .boundary import Closest, Contour, Scene, closest, nearest, pairs, uv_of

_LAYERS = 16  # faces that may overlap in a pixel of the soft rasteriser
_CUT = 1e-4  # the soft rasteriser leaves out what covers less than this


def half_plane(scene: Scene, crisp_depth: Tensor, second_depth: Tensor, push: Tensor) -> Contour:
    """Find the pixels that an outline cuts, and the fraction of each that lies on the mesh's side of the outline.

    The fraction is exact if one straight outline crosses the pixel. The side on which the pixel's centre lies decides
    whose colour is continued: the mesh's if the centre is outside, that of whatever is behind the mesh if it is inside.

    Args:
        scene: The projected meshes.
        crisp_depth, second_depth: (scene.pixels,) depth of the first and second surface that each pixel centre sees,
            infinite where there is none.
        push: (B,) depth in world units by which surfaces of one object may differ, as in `margin`.
    """
    reach = math.sqrt(0.5)
    image, ends, pixel = pairs(scene, reach)
    with torch.no_grad():
        near = closest(scene, image, ends, pixel)
        slack = push[image]
        behind = near.depth + slack * near.distance / reach
        first, second = crisp_depth[pixel], second_depth[pixel]
        # A sliver of back faces within a surface, or the end of a fold, has outlines too; beyond them is more surface,
        # and the background that comes second at this pixel must not show.
        beyond = crisp_depth[_beyond(scene, image, near, pixel)]
        opened = (beyond > behind) & (second.isfinite() | beyond.isinf())
        inside = near.inside & opened & (first <= near.depth + slack) & (second > behind)
        outside = ~near.inside & (first > behind)
        won = nearest(scene.pixels, pixel, near.distance, (inside | outside) & (near.distance < reach))
    image, ends, pixel = image[won], ends[won], pixel[won]
    near = closest(scene, image, ends, pixel)
    share = _covered(torch.where(near.inside, near.distance, -near.distance), near.run)
    return Contour(pixel, share, near.inside, uv_of(scene, ends, near))


def _beyond(scene: Scene, image: Tensor, near: Closest, pixel: Tensor) -> Tensor:
    """(L,) numbers of the pixels that lie a pixel's width outside the nearest point of the edge."""
    out = torch.stack([-near.run[:, 1], near.run[:, 0]], 1)
    at = scene.centres(pixel) - near.gap + F.normalize(out, dim=1)
    column, row = at.floor().long().clamp(0, scene.size - 1).unbind(1)
    return (image * scene.size + row) * scene.size + column


def _covered(distance: Tensor, run: Tensor) -> Tensor:
    """(L,) fraction of a unit square on the inner side of a line, which lies `distance` (L,) inwards of its centre."""
    n = run.abs() / run.square().sum(-1, keepdim=True).clamp_min(1e-12).sqrt()
    a, b = n.amax(-1), n.amin(-1)
    d = distance.abs()
    corner = 0.5 - ((a + b) / 2 - d).clamp_min(0).square() / (2 * a * b).clamp_min(1e-9)
    half = torch.where(d <= (a - b) / 2, d / a.clamp_min(1e-9), corner)
    return 0.5 + torch.where(distance < 0, -half, half)


def antialias(scene: Scene, face: Tensor, depth: Tensor, image: Tensor) -> Tensor:
    """Blend neighbouring pixels across the outline between them (Laine et al. 2020, section 3.3).

    If two neighbours see different faces, the nearer face's outline is looked for on the segment between their centres.
    If the outline crosses it at the fraction x from the nearer one, that pixel takes 1/2 - x of the other's colour, or
    the other takes x - 1/2 of its colour. The method is linear, exact for outlines along the axes, and enlarges
    nothing. It finds an outline only where the very face that ends there covers a pixel centre, so it misses most
    outlines of faces smaller than a pixel.

    Args:
        scene: The projected meshes.
        face, depth: (scene.pixels,) face that each pixel centre sees, -1 for none, and its depth, infinite for none.
        image: (B, C, S, S) pictures over their backgrounds.
    """
    colour = image.permute(0, 2, 3, 1).reshape(scene.pixels, -1)
    total = colour
    number = torch.arange(scene.pixels, device=image.device).view(scene.batch, scene.size, scene.size)
    for axis, one, two in ((0, number[..., :-1], number[..., 1:]), (1, number[:, :-1], number[:, 1:])):
        pair = torch.stack([one.reshape(-1), two.reshape(-1)])
        pair = pair[:, face[pair[0]] != face[pair[1]]]
        near, far = torch.where(depth[pair[0]] <= depth[pair[1]], pair, pair.flip(0))
        for corner in range(3):
            crossed, x = _crossings(scene, face, near, far, axis, corner)
            n, f = near[crossed], far[crossed]
            step = (0.5 - x)[:, None] * (colour[f] - colour[n])
            total = total.index_add(0, torch.where(x < 0.5, n, f), step)
    return total.view(scene.batch, scene.size, scene.size, -1).permute(0, 3, 1, 2)


def _crossings(
    scene: Scene, face: Tensor, near: Tensor, far: Tensor, axis: int, corner: int
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Which pixel pairs near, far (L,) along `axis` an outline divides, and at which fraction of the way to far.

    Only the edge of the near face that starts at `corner` is looked at.
    """
    t, other = scene.topology, 1 - axis
    f, image = face[near], near // scene.size**2
    beyond = t.edge_faces[t.face_edges[f, corner]].sum(1) - f
    outline = ~F.pad(scene.facing, (0, 1))[image, beyond]
    ends = t.faces[f][:, [corner, (corner + 1) % 3]] + (image * (len(scene.corners) // scene.batch))[:, None]
    a, b = scene.corners[ends[:, 0]], scene.corners[ends[:, 1]]
    centre, run = scene.centres(near), b - a
    spans = (a[:, other] <= centre[:, other]) != (b[:, other] <= centre[:, other])
    steep = (run[:, other].abs() >= run[:, axis].abs()) & (torch.minimum(a[:, 2], b[:, 2]) > scene.near)
    kept = (outline & spans & steep).nonzero()[:, 0]
    a, run, centre = a[kept], run[kept], centre[kept]
    at = a[:, axis] + (centre[:, other] - a[:, other]) * run[:, axis] / run[:, other]
    x = (at - centre[:, axis]) * (scene.centres(far[kept]) - centre)[:, axis]
    between = ((x >= 0) & (x <= 1)).nonzero()[:, 0]
    return kept[between], x[between]


def soft_raster(scene: Scene, texture: Tensor, background: Tensor, sigma: float, gamma: Tensor) -> Tensor:
    """Render colour and opacity (B, 4, S, S) with PyTorch3D's rasteriser, after SoftRas (Liu et al. 2019, eq. 1 to 4).

    Each face covers a pixel by D = sigmoid(+-d^2 / sigma^2), where d is the distance from its outline, + inside and -
    outside. Opacity is 1 - prod(1 - D), and colours mix in proportion to D exp(-depth / gamma). Dense meshes get
    pinholes at their edges (opacity 1 - 1/2 * 1/2), and only the 16 nearest faces count. It runs in float32.

    Args:
        scene: The projected meshes.
        texture: (B, 3, T, T) textures.
        background: (B, 4, S, S) colour and opacity behind the meshes.
        sigma: Width of an edge in pixels.
        gamma: (B,) depth in world units over which surfaces mix.

    Raises:
        ZooError: PyTorch3D's native part does not load.
    """
    works, reason = native()
    if not works:
        raise ZooError(f"mode 'sigmoid' needs PyTorch3D's native part, which did not load ({reason}); use mode 'soft'")
    p3d, (b, s), faces = pytorch3d(), (scene.batch, scene.size), scene.topology.faces
    ndc = torch.cat([1 - scene.corners[:, :2] * (2 / s), scene.corners[:, 2:]], 1).float().view(b, -1, 3)
    spread = (2 * sigma / s) ** 2
    seen, depth, weight, distance = p3d.renderer.mesh.rasterize_meshes(
        p3d.structures.Meshes(ndc, faces.expand(b, -1, -1)),
        image_size=s,
        blur_radius=math.log(1 / _CUT - 1) * spread,
        faces_per_pixel=_LAYERS,
        max_faces_per_bin=len(faces),
        perspective_correct=True,
        clip_barycentric_coords=True,
        cull_backfaces=True,
    )
    hit = seen >= 0
    cover = torch.sigmoid(-distance / spread) * hit
    uv = (weight[..., None] * scene.topology.uv[faces[seen.clamp_min(0) % len(faces)]]).sum(-2)
    colour = F.grid_sample(
        texture.float(), uv.view(b, s, s * _LAYERS, 2), padding_mode="border", align_corners=True
    ).view(b, 3, s, s, _LAYERS)
    first = torch.where(hit, depth, 1e9).detach().amin(-1, keepdim=True)
    lag = torch.where(hit, depth - first, 0) / gamma.float().view(-1, 1, 1, 1)
    share = cover * torch.exp(-lag)
    share = share / share.sum(-1, keepdim=True).clamp_min(1e-12)
    opacity = 1 - (1 - cover).prod(-1)[:, None]
    front = F.pad((colour * share[:, None]).sum(-1), (0, 0, 0, 0, 0, 1), value=1.0)
    out: Tensor = (opacity * front).to(background.dtype) + (1 - opacity).to(background.dtype) * background
    return out
