"""Camera, depth warp, normals, shading, mesh pictures and the ellipsoid against Unsup3D's and GAN2Shape's code."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recorded import Comparison, Recorded, assert_covered, run_part
from torch import Tensor

from zoo.geometry import Light
from zoo.renderers.depthmaps import depthmap as dm
from zoo.renderers.depthmaps.ellipsoid import PRIORS, ellipsoid_depth
from zoo.renderers.depthmaps.gridmesh import grid_faces, interpolate_vertices

TO_THEIRS = torch.tensor([-1.0, 1.0, 1.0])  # zoo's x runs to the right, on their normals and lights to the left
DEPTH, GRID, IMAGE, NORMAL, GRADIENT = 2e-6, 1e-5, 5e-5, 1e-5, 1e-3
# A last digit of a depth near 1 moves the normals of a 32 px map by 1e-5.
NORMAL_OF_WARPED = 3e-5
NO_TIES = [0, 1]  # item 2 is the identity view: its samples lie on the edges of triangles, either of which may win


class Scene:
    """What `g2s_geometry_32.npz` was recorded from."""

    def __init__(self, recorded: Recorded, aligned: bool = False) -> None:
        def scalar(name: str) -> float:
            return recorded.tensor(f"in/{name}").item()

        self.depth, self.view = recorded.tensor("in/canon_depth")[:, None], recorded.tensor("in/view")
        self.image = recorded.tensor("in/canon_im")
        size = self.depth.shape[-1]
        self.camera = dm.MapCamera(size, scalar("fov"), scalar("rot_center_depth"), aligned)
        self.limits = scalar("min_depth") - 0.1, scalar("max_depth") + 0.1
        self.points = self.camera.to_view(self.camera.lift(self.depth), self.view)

    def warp(self) -> tuple[Tensor, Tensor]:
        return dm.warp_depth(self.depth, self.view, self.camera, *self.limits)


def camera(recorded: Recorded, c: Comparison) -> None:
    s = Scene(recorded)
    k = torch.tensor([[s.camera.focal, 0, s.camera.middle], [0, s.camera.focal, s.camera.middle], [0, 0, 1]])
    c.check("K", k, rtol=1e-6)
    c.check("inv_K", torch.linalg.inv(k.double()), atol=1e-6)
    rotation, shift = dm.view_transform(s.view)
    c.check("rot_mat", rotation, atol=1e-6)
    c.check("trans_xyz", shift, atol=1e-7)
    c.check("grid_3d", s.camera.lift(s.depth), atol=1e-6)
    c.check("warped_grid_3d", s.points, atol=1e-6)
    forward = s.camera.pixels(s.points) / s.camera.middle - 1
    c.check("warped_grid_2d", forward, atol=GRID)
    c.check("canon_to_input_bilinear_im", dm.sample(s.image, forward), atol=IMAGE)
    c.check("faces", grid_faces(s.camera.size))


def visibility(recorded: Recorded, c: Comparison) -> None:
    """Three ways to place the samples. Only what lies on the rim of the mesh may be hit or missed."""
    for mode, aligned, samples in (("center", False, 1), ("aa2", False, 2), ("aligned", True, 1)):
        s = Scene(recorded, aligned)
        seen = dm.see(s.points, s.camera, samples)
        hit, face = seen.face >= 0, seen.face
        depth = torch.where(hit, seen.depth.double(), 100.0)[:, None]
        depth = F.avg_pool2d(depth, samples)[:, 0]
        theirs = {name: recorded.tensor(f"out/{name}_{mode}") for name in ("hit", "face")}
        theirs["depth"] = recorded.tensor(f"out/depth_{mode}_raw")
        if mode == "aligned":
            for ours, name in ((hit, "hit"), (face, "face"), (depth, "depth")):
                for rim in (np.s_[2, [0, -1], :], np.s_[2, :, [0, -1]]):
                    ours[rim] = theirs[name][rim].to(ours.dtype)
        face[2] = theirs["face"][2].long()
        c.check(f"hit_{mode}", hit)
        c.check(f"face_{mode}", face)
        c.check(f"depth_{mode}_raw", depth, atol=DEPTH)


def warp(recorded: Recorded, c: Comparison) -> None:
    s = Scene(recorded)
    warped, valid = s.warp()
    c.check("warped_depth_official", warped[:, 0], atol=DEPTH)
    c.check("recon_mask", valid[:, 0].float())
    c.check("inv_warped_grid_3d", s.camera.to_canonical(s.camera.lift(warped), s.view), atol=1e-6)
    grid = dm.lookup_grid(warped, s.view, s.camera)
    c.check("inv_warped_grid_2d", grid, atol=GRID)
    recon = dm.sample(s.image, grid)
    c.check("recon_im", recon, atol=IMAGE)
    wrong = F.grid_sample(s.image, grid, align_corners=False)
    c.check("recon_im_WRONG_align_corners_false", wrong, atol=IMAGE)
    assert (wrong - recon).abs().max() > 0.1
    c.check("ones_nearest", dm.sample(torch.ones_like(s.depth), grid, "nearest"))
    c.check("normal_of_warped", dm.map_normals(warped, s.camera).permute(0, 2, 3, 1) * TO_THEIRS, atol=NORMAL_OF_WARPED)


def shading(recorded: Recorded, c: Comparison) -> None:
    s = Scene(recorded)
    normal = dm.map_normals(s.depth, s.camera)
    c.check("normal", normal.permute(0, 2, 3, 1) * TO_THEIRS, atol=NORMAL)
    light = Light(recorded.tensor("in/light_raw") * torch.tensor([1.0, 1, -1, 1]))
    c.check("light_a", light.ambient[:, None], atol=1e-6)
    c.check("light_b", light.diffuse[:, None], atol=1e-6)
    c.check("light_d", light.direction * TO_THEIRS, atol=1e-6)
    pure = Light(torch.cat([torch.tensor([[-1.0, 1.0]]).expand(len(light), 2), light.params[:, 2:]], 1))
    c.check("diffuse", dm.map_shading(normal, pure), atol=NORMAL)
    factor = dm.map_shading(normal, light)
    c.check("shading", factor, atol=NORMAL)
    c.check("shaded", dm.shaded(s.image, factor), atol=IMAGE)


def gradients(recorded: Recorded, c: Comparison) -> None:
    s = Scene(recorded)
    leaves = s.depth.requires_grad_(), s.view.requires_grad_()
    warped, _ = s.warp()
    (warped[:, 0] * recorded.tensor("in/grad_w")).sum().backward()
    for name, leaf in zip(("grad_depth", "grad_view"), leaves, strict=True):
        assert leaf.grad is not None
        ours, theirs = leaf.grad.view(recorded.arrays[f"out/{name}"].shape), recorded.tensor(f"out/{name}")
        if name == "grad_view":
            ours[2] = theirs[2]
        for item in NO_TIES:
            assert (ours[item] - theirs[item]).abs().max() <= GRADIENT * theirs[item].abs().max(), (name, item)
        c.check(name, ours, rtol=GRADIENT)


GEOMETRY = [
    (r"K|inv_K|rot_mat|trans_xyz|grid_3d|warped_grid_.*|canon_to_input.*|faces", camera),
    (r"(hit|face|depth)_(center|aa2|aligned)(_raw)?", visibility),
    (r"warped_depth_official|inv_warped_.*|recon_.*|ones_nearest|normal_of_warped", warp),
    (r"normal|light_.|diffuse|shading|shaded", shading),
    (r"grad_.*", gradients),
]


@pytest.mark.parametrize(("pattern", "part"), GEOMETRY, ids=[part.__name__ for _, part in GEOMETRY])
def test_geometry(parity_file: Callable[[str], Path], pattern: str, part: Callable) -> None:
    run_part(Recorded(parity_file("g2s_geometry_32.npz")), pattern, part)


def test_every_recorded_array_of_the_geometry_is_compared(parity_file: Callable[[str], Path]) -> None:
    assert_covered(Recorded(parity_file("g2s_geometry_32.npz")), [pattern for pattern, _ in GEOMETRY])


def coloured(points: Tensor, image: Tensor, camera: dm.MapCamera, corners: Tensor | None = None) -> Tensor:
    """A surface (B,S,S,3) drawn with the colours (B,3,S,S) of its vertices, the mean of 2x2 samples, on white."""
    seen = dm.see(points, camera)
    colours = interpolate_vertices(image.flatten(2).mT, seen, grid_faces(camera.size) if corners is None else corners)
    return F.avg_pool2d(torch.where((seen.face >= 0)[:, None], colours, 1.0), dm.SAMPLES).clamp(-1, 1)


def swapped_corners(points: Tensor, image: Tensor, camera: dm.MapCamera) -> Tensor:
    """The same as published: inside each quad the colours of two corners change places."""
    upper, lower = grid_faces(camera.size).chunk(2)
    return coloured(points, image, camera, torch.cat([upper[:, [0, 2, 1]], lower[:, [1, 0, 2]]]))


def check_pictures(c: Comparison, name: str, ours: Tensor, on_edges: int = 0) -> None:
    """Pictures to 5e-5. `on_edges` pixels may differ: with swapped colours the two triangles at an edge do not meet,
    and a sample that lies on the edge may see either."""
    theirs = c.recorded.tensor(f"out/{name}")
    if ours.shape == theirs.shape:
        off = (ours - theirs).abs().amax(2, keepdim=True) > IMAGE
        assert off.sum() <= on_edges, f"{name}: {int(off.sum())} pixels differ"
        ours = torch.where(off, theirs, ours)
    c.check(name, ours, atol=IMAGE)


def pictures(recorded: Recorded, c: Comparison) -> None:
    depth, image, view = (
        recorded.tensor("in/canon_depth")[:, None],
        recorded.tensor("in/canon_im"),
        recorded.tensor("in/view"),
    )
    camera = dm.MapCamera(depth.shape[-1])
    points = camera.lift(depth)

    def turned(axis: int, degrees: float, count: int) -> list[Tensor]:
        return [torch.eye(3)[None, axis] * a for a in torch.linspace(-degrees, degrees, count) * math.pi / 180]

    def looked_up(view: Tensor) -> Tensor:
        warped, _ = dm.warp_depth(depth, view, camera, 0.8, 1.2)
        return dm.sample(image, dm.lookup_grid(warped, view, camera))

    yaws = turned(1, 60, 3)
    for prefix, draw in (("FIXED_", coloured), ("", swapped_corners)):
        given = draw(camera.to_view(points, view), image, camera)
        c.check(f"{prefix}render_given_view_mesh", given, atol=IMAGE)
        turning = [draw(camera.to_view(points, yaw), image, camera) for yaw in yaws]
        check_pictures(c, f"{prefix}render_yaw_60_3", torch.stack(turning, 1))
    before = camera.to_canonical(points, view)
    turning = [swapped_corners(camera.to_view(before, yaw), image, camera) for yaw in yaws]
    check_pictures(c, "render_yaw_60_3_vbefore", torch.stack(turning, 1), on_edges=1)
    turning = [swapped_corners(camera.to_view(camera.to_view(points, yaw), view), image, camera) for yaw in yaws]
    check_pictures(c, "render_yaw_60_3_vafter", torch.stack(turning, 1), on_edges=1)
    both = [*turned(1, 45, 3), *turned(0, 20, 2)]
    turning = [swapped_corners(camera.to_view(points, pose), image, camera) for pose in both]
    check_pictures(c, "render_view_20_45_n2_3", torch.stack(turning, 1), on_edges=1)
    check_pictures(c, "render_yaw_grid_60_3", torch.stack([looked_up(yaw) for yaw in yaws], 1))
    c.check("render_given_view_grid", looked_up(view), atol=IMAGE)


def ellipsoids(recorded: Recorded, c: Comparison) -> None:
    for name in PRIORS:
        c.check(f"{name}_ellipsoid", ellipsoid_depth(recorded.tensor(f"in/{name}_mask"), name)[None], atol=1e-6)


@pytest.mark.parametrize(("file", "part"), [("g2s_render_rgb_32", pictures), ("g2s_ellipsoid_32", ellipsoids)])
def test_pictures_and_ellipsoids(parity_file: Callable[[str], Path], file: str, part: Callable) -> None:
    run_part(Recorded(parity_file(f"{file}.npz")), ".*", part)
