"""One step of Catmull-Clark subdivision for closed quad meshes, with vertex data of any kind and texture corners."""

from __future__ import annotations

import numpy as np


def catmull_clark(data: np.ndarray, quads: np.ndarray, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Refine a closed quad mesh. The result is linear in the vertex data, so a basis can be refined like a mesh.

    Args:
        data: (N, V, D) sets of vertex data.
        quads: (Q, 4) integers.
        uv: (Q, 4, 2) texture coordinates, which are split evenly and not smoothed.

    Returns:
        Data (N, V + E + Q, D), quads (4Q, 4) and texture coordinates (4Q, 4, 2).

    Raises:
        ValueError: The mesh has an open border.
    """
    count = data.shape[1]
    start, end = quads.ravel(), np.roll(quads, -1, 1).ravel()
    edges, edge_of, uses = np.unique(
        np.sort(np.stack([start, end], 1), 1), axis=0, return_inverse=True, return_counts=True
    )
    if (uses != 2).any():
        raise ValueError(f"catmull_clark: {(uses != 2).sum()} edges do not have two faces; close the mesh first")
    edge_of = edge_of.reshape(-1, 4)
    centres = data[:, quads].mean(2)
    ends = data[:, edges]
    middles = ends.mean(2)
    sides = np.argsort(edge_of.ravel(), kind="stable").reshape(-1, 2) // 4
    edge_points = (middles + centres[:, sides].mean(2)) / 2

    valence = np.bincount(edges.ravel(), minlength=count)[:, None]
    ring, faces_around = np.zeros_like(data), np.zeros_like(data)
    for n in range(len(data)):  # np.add.at over all sets at once would need a very large temporary
        for k in range(2):
            np.add.at(ring[n], edges[:, k], middles[n])
        for k in range(4):
            np.add.at(faces_around[n], quads[:, k], centres[n])
    old = (faces_around / valence + 2 * ring / valence + (valence - 3) * data) / valence

    edge_id, centre_id = count + edge_of, count + len(edges) + np.arange(len(quads))
    before = np.roll(edge_id, 1, 1)
    refined = np.stack([quads, edge_id, np.repeat(centre_id[:, None], 4, 1), before], -1).reshape(-1, 4)
    half = (uv + np.roll(uv, -1, 1)) / 2
    middle = np.repeat(uv.mean(1, keepdims=True), 4, 1)
    refined_uv = np.stack([uv, half, middle, np.roll(half, 1, 1)], 2).reshape(-1, 4, 2)
    return np.concatenate([old, edge_points, centres], 1), refined, refined_uv
