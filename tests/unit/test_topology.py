"""Connectivity: the folded octahedron, edges across seams and at borders, monitors, refusals."""

import math

import pytest
import torch
from torch import Tensor

from zoo.renderers.meshes.topology import Topology, edges_of, octa_sphere, rms_radius, signed_volume


def cylinder(columns: int = 6) -> Topology:
    """Two rings of vertices; the first and the last column stand on the same points and have u = -1 and 1."""
    angle = torch.linspace(-math.pi, math.pi, columns + 1)
    ring = torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()], -1)
    positions = torch.cat([ring + torch.tensor([0.0, 0.5, 0]), ring - torch.tensor([0.0, 0.5, 0])])
    u = torch.linspace(-1, 1, columns + 1)
    uv = torch.cat([torch.stack([u, -torch.ones_like(u)], -1), torch.stack([u, torch.ones_like(u)], -1)])
    top, low = torch.arange(columns), torch.arange(columns) + columns + 1
    faces = torch.cat([torch.stack([top, low, low + 1], -1), torch.stack([top, low + 1, top + 1], -1)])
    weld = torch.cat([torch.arange(columns + 1) % columns, columns + torch.arange(columns + 1) % columns])
    return Topology.of(uv, positions, faces, weld)


@pytest.mark.parametrize(("n", "vertices", "points"), [(2, 9, 6), (16, 289, 258), (32, 1089, 1026), (64, 4225, 4098)])
def test_the_octahedron_is_a_closed_sphere(n: int, vertices: int, points: int) -> None:
    t = octa_sphere(n)
    assert (len(t.uv), int(t.weld.max()) + 1, len(t.faces)) == (vertices, points, 2 * n * n)
    assert points - len(t.edges) + len(t.faces) == 2  # Euler
    assert (t.edge_faces >= 0).all()
    torch.testing.assert_close(t.sphere.norm(dim=-1), torch.ones(vertices))
    p0, p1, p2 = t.sphere[t.faces].unbind(1)
    normal = torch.linalg.cross(p1 - p0, p2 - p0)
    assert ((normal * (p0 + p1 + p2)).sum(-1) > 0).all()
    area = normal.norm(dim=-1)
    assert area.max() < 5.1 * area.min()


def test_odd_sizes_count_as_the_even_ones_below() -> None:
    assert torch.equal(octa_sphere(9).faces, octa_sphere(8).faces)
    assert octa_sphere(8) is octa_sphere(8)


def test_uv_is_the_angle_from_the_front_in_the_direction_of_the_image() -> None:
    t = octa_sphere(32)
    assert t.uv.abs().max() <= 1
    radius = t.uv.norm(dim=-1)
    torch.testing.assert_close(radius, torch.acos(t.sphere[:, 2].clamp(-1, 1)) / math.pi, atol=1e-4, rtol=0)
    equator = (t.sphere[:, 2].abs() < 1e-6).nonzero()[:, 0]
    flipped = t.sphere[equator, :2] * torch.tensor([1.0, -1.0])  # v runs down, y up
    torch.testing.assert_close(t.uv[equator], 0.5 * flipped, atol=1e-6, rtol=0)


def test_vertices_on_one_point_agree() -> None:
    t = octa_sphere(32)
    first = torch.zeros(int(t.weld.max()) + 1, dtype=torch.int64).scatter(0, t.weld, torch.arange(len(t.weld)))
    assert torch.equal(t.uv, t.uv[first[t.weld]])
    assert torch.equal(t.sphere, t.sphere[first[t.weld]])


def check_edges(t: Topology) -> None:
    """Each edge is named as its first face has it and, in `twins`, as its second face has it."""
    assert torch.equal(t.weld[t.edges], t.weld[t.twins])
    halves = torch.stack([t.faces, t.faces.roll(-1, 1)], -1)
    edges: dict[int, list[Tensor]] = {}
    for f in range(len(t.faces)):
        for k in range(3):
            e = int(t.face_edges[f, k])
            edges.setdefault(e, []).append(halves[f, k])
            first, second = t.edge_faces[e].tolist()
            assert f in (first, second)
            named = t.edges[e] if f == first else t.twins[e].flip(0)
            assert torch.equal(halves[f, k], named)
    assert sorted(edges) == list(range(len(t.edges)))
    assert [len(edges[e]) for e in range(len(t.edges))] == (t.edge_faces >= 0).sum(1).tolist()


def test_edges_of_a_closed_an_open_and_a_seamed_mesh() -> None:
    check_edges(octa_sphere(4))
    check_edges(cylinder())
    grid = torch.tensor([[0, 2, 1], [1, 2, 3]])
    check_edges(Topology.of(torch.zeros(4, 2), torch.zeros(4, 3), grid))


def test_a_seam_is_no_border() -> None:
    t = cylinder(6)
    assert (t.edge_faces < 0).any(1).sum() == 12  # the two rims
    seam = (t.edges != t.twins).any(1).nonzero()[:, 0]
    assert seam.tolist() != []
    assert sorted({round(x, 3) for e in seam.tolist() for x in t.uv[t.edges[e], 0].tolist()}) in ([-1.0], [1.0])
    assert (t.uv[t.edges[seam], 0] == -t.uv[t.twins[seam], 0]).all()
    unwelded = edges_of(t.faces, torch.arange(len(t.uv)))
    assert (unwelded.edge_faces < 0).any(1).sum() == 14


@pytest.mark.parametrize(
    ("faces", "weld", "message"),
    [
        ([[0, 1, 4]], [0, 1, 2, 3], "vertices 0..4; use 0..3"),
        ([[-1, 1, 2]], [0, 1, 2, 3], "vertices -1..2"),
        ([[0, 1, 2], [2, 3, 2]], [0, 1, 2, 3], "face 1 has two corners on one point"),
        ([[0, 1, 2]], [0, 1, 1], "face 0 has two corners"),
        ([[0, 1, 2], [1, 0, 3], [0, 1, 4]], [0, 1, 2, 3, 4], "belongs to 3 faces"),
        ([[0, 1, 2], [0, 1, 3]], [0, 1, 2, 3], "faces 0 and 1 face opposite ways"),
        ([[0, 1]], [0, 1], r"give int64 \(F, 3\)"),
    ],
)
def test_bad_faces_are_refused(faces: list[list[int]], weld: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        edges_of(torch.tensor(faces), torch.tensor(weld))
    assert "\n" not in str(error.value)


def test_too_coarse_a_sphere_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n=1 .* use 2 or more"):
        octa_sphere(1)


def test_volume_and_radius() -> None:
    t = octa_sphere(64)
    verts = torch.stack([t.sphere, 0.5 * t.sphere + 3])
    ball = 4 / 3 * math.pi
    torch.testing.assert_close(signed_volume(verts, t.faces), torch.tensor([ball, ball / 8]), rtol=2e-3, atol=0)
    torch.testing.assert_close(rms_radius(verts), torch.tensor([1, 0.5]), rtol=1e-3, atol=0)


def test_a_hinge_on_the_volume_turns_an_inverted_mesh_the_right_way() -> None:
    t = octa_sphere(16)
    verts = (0.6 * t.sphere * torch.tensor([1.0, 1, -1]))[None].requires_grad_()
    volume = signed_volume(verts, t.faces)
    assert volume < 0
    torch.relu(0.2 - volume).sum().backward()
    assert verts.grad is not None
    assert signed_volume(verts.detach() - 0.1 * verts.grad, t.faces) > volume


def test_the_radius_of_a_point_has_a_finite_gradient() -> None:
    verts = torch.zeros(1, 5, 3, requires_grad=True)
    rms_radius(verts).sum().backward()
    assert verts.grad is not None
    assert verts.grad.isfinite().all()
