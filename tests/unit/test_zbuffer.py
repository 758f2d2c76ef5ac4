"""The numba rasteriser against a plain one, and the promises that rendering leans on."""

import threading

import numpy as np
import pytest

from zoo.geometry import Camera
from zoo.renderers.zbuffer import in_threads, pixel_slopes, rasterize_batch

SLOPES = pixel_slopes(24, 40.0)


def slow_rasterize(verts, faces, xs, ys, near=1e-3):
    """One image, by intersecting each ray with each triangle's plane: slow, short and independent of the fast one."""
    depth = np.full((len(ys), len(xs)), np.inf)
    face = np.full(depth.shape, -1)
    bary = np.zeros((*depth.shape, 3))
    for f, corners in enumerate(verts[faces]):
        for row, y in enumerate(ys[::-1]):
            for col, x in enumerate(xs):
                # Solve sum_i u_i corner_i = (x, y, -1): u are the weights divided by the depth.
                try:
                    u = np.linalg.solve(corners.T, np.array([x, y, -1.0]))
                except np.linalg.LinAlgError:
                    continue
                if u.min() >= 0 and u.sum() > 0 and near <= 1 / u.sum() < depth[row, col]:
                    depth[row, col], face[row, col], bary[row, col] = 1 / u.sum(), f, u / u.sum()
    return face, np.where(face < 0, 0, depth), bary


def random_triangles(seed, count, front=-0.5):
    rng = np.random.default_rng(seed)
    verts = rng.uniform([-0.6, -0.6, -2.0], [0.6, 0.6, front], (3 * count, 3))
    return verts, np.arange(3 * count).reshape(-1, 3)


@pytest.mark.parametrize("front", [-0.5, 0.8], ids=["in front", "across the camera plane"])
def test_agrees_with_the_plain_rasteriser(front):
    verts, faces = random_triangles(3, 12, front)
    fast = rasterize_batch(verts[None], faces, SLOPES, SLOPES)
    face, depth, bary = slow_rasterize(verts, faces, SLOPES, SLOPES)
    assert (face >= 0).mean() > 0.2
    np.testing.assert_array_equal(fast.face[0], face)
    np.testing.assert_allclose(fast.depth[0], depth, rtol=1e-5)
    np.testing.assert_allclose(fast.bary[0], bary, atol=1e-5)


def test_barycentrics_rebuild_the_point_on_the_ray():
    verts, faces = random_triangles(5, 20)
    seen = rasterize_batch(verts[None], faces, SLOPES, SLOPES)
    row, col = np.nonzero(seen.face[0] >= 0)
    points = (verts[faces[seen.face[0, row, col]]] * seen.bary[0, row, col, :, None]).sum(1)
    depth = seen.depth[0, row, col]
    expected = np.stack([SLOPES[col] * depth, SLOPES[::-1][row] * depth, -depth], -1)
    np.testing.assert_allclose(points, expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_every_pixel_of_a_closed_sheet_belongs_to_one_triangle(seed):
    """A jittered grid whose edges run exactly through pixel centres: no gap and no pixel counted twice."""
    n = 9
    xs = np.linspace(-0.24, 0.24, n)
    rng = np.random.default_rng(seed)
    grid = np.stack([*np.meshgrid(xs, xs, indexing="ij"), np.full((n, n), -1.0)], -1)
    grid[1:-1, 1:-1, :2] += 0.01 * rng.integers(-1, 2, (n - 2, n - 2, 2))  # too little to fold a quad over
    verts = grid.reshape(-1, 3)
    at = np.arange(n * n).reshape(n, n)
    a, b, c, d = (x.ravel() for x in (at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    slopes = np.linspace(-0.23, 0.23, 47)  # steps of 0.01: many centres lie on vertices and edges
    count = sum((rasterize_batch(verts[None], f[None], slopes, slopes).face >= 0).astype(int) for f in faces)
    np.testing.assert_array_equal(count, np.ones_like(count))


def test_culling_keeps_the_front_side_only():
    verts = np.array([[-0.1, -0.1, -1], [0.1, -0.1, -1], [0, 0.1, -1.0]])[None]
    front, back = np.array([[0, 1, 2]]), np.array([[0, 2, 1]])
    assert (rasterize_batch(verts, front, SLOPES, SLOPES, cull_backfaces=True).face >= 0).any()
    assert (rasterize_batch(verts, back, SLOPES, SLOPES, cull_backfaces=True).face < 0).all()
    assert (rasterize_batch(verts, back, SLOPES, SLOPES).face >= 0).any()


def test_near_plane_hides_what_is_closer():
    verts = np.array([[-0.4, -0.4, -0.2], [0.4, -0.4, -0.2], [0, 0.4, -2.0]])[None]
    seen = rasterize_batch(verts, np.array([[0, 1, 2]]), SLOPES, SLOPES, near=0.6)
    assert seen.depth[seen.face >= 0].min() >= 0.6


def test_a_batch_equals_its_images_one_by_one():
    verts = np.stack([random_triangles(seed, 6)[0] for seed in (1, 2, 3)])
    faces = random_triangles(1, 6)[1]
    batch = rasterize_batch(verts, faces, SLOPES, SLOPES)
    for i in range(3):
        for whole, single in zip(batch, rasterize_batch(verts[i : i + 1], faces, SLOPES, SLOPES), strict=True):
            np.testing.assert_array_equal(whole[i : i + 1], single)


def test_threads_hand_on_an_exception():
    def work(i):
        if i == 2:
            raise ValueError("third")

    with pytest.raises(ValueError, match="third"):
        in_threads(work, 4)


def test_one_thread_is_the_calling_thread():
    seen = []
    in_threads(lambda i: seen.append((i, threading.get_ident())), 3, threads=1)
    in_threads(lambda i: seen.append((i, 0)), 0)
    assert seen == [(i, threading.get_ident()) for i in range(3)]


@pytest.mark.parametrize("rule", ["corner", "half"])
def test_slopes_are_those_of_the_camera(rule):
    directions = Camera.orbit(size=8, fov=30.0, pixel_centres=rule).pixel_grid().reshape(8, 8, 3).numpy()
    np.testing.assert_allclose(directions[0, :, 0] / -directions[0, :, 2], pixel_slopes(8, 30.0, rule), atol=1e-6)


def test_samples_of_a_pixel_average_to_its_centre():
    np.testing.assert_allclose(
        pixel_slopes(16, 12.0, "corner", 2).reshape(16, 2).mean(1), pixel_slopes(16, 12.0), atol=1e-12
    )


@pytest.mark.parametrize(
    ("verts", "faces", "word"),
    [
        (np.zeros((3, 3)), np.zeros((1, 3), int), "shape"),
        (np.zeros((1, 3, 3)), np.zeros((1, 4), int), "shape"),
        (np.zeros((1, 3, 3)), np.array([[0, 1, 3]]), "outside"),
    ],
)
def test_wrong_input_is_refused_in_one_line(verts, faces, word):
    with pytest.raises(ValueError, match=word) as error:
        rasterize_batch(verts, faces, SLOPES, SLOPES)
    assert "\n" not in str(error.value)
