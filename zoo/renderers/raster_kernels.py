"""Compiled kernels of `zoo.renderers.rasterize`: one image of triangles, forward and backward.

All coordinates are pixels: u = column from the left, v = row from the top, with centres at whole numbers.

Which pixels a triangle covers is decided on corners snapped to 1/16384 of a pixel, from edge functions that come out
exactly opposite for the two triangles at an edge, however far away its ends are: the triangles around an edge or a
vertex share its pixels without gap or overlap. Depth and weights come from the unsnapped corners.

Camera space here is (u z, v z, z). In it a triangle that reaches behind the camera is an ordinary triangle; only its
corners in front of the near plane have a projection to snap.

All kernels are in one file because numba's cache looks for changes only in the file of the function that is called.
"""

import numpy as np

from ..runtime.compiled import njit

_SNAP = 16384.0


@njit(nogil=True, error_model="numpy")
def draw(verts, faces, first_vertex, first_face, near, cull, pix_to_face, zbuf, bary, dists):  # pragma: no cover
    """Draw one image into the four arrays at the end.

    Args:
        verts: (V, 3) x and y in PyTorch3D's NDC, and view-space z.
        faces: (F, 3) int64, the mesh's rows of the packed faces, whose vertices count from `first_vertex`.
        first_vertex, first_face: Where the mesh begins among the packed vertices and faces.
        near: Depth from which surface is drawn.
        cull: Skip faces that are seen from behind.
        pix_to_face: (H, W, K) int64, filled with `first_face` + row of `faces`, or -1.
        zbuf, dists: (H, W, K) depth, and distance to the boundary.
        bary: (H, W, K, 3) weights.

    Returns:
        0; or 1 + the index of the first vertex that is not finite; or -1 - the index of the first face that points
        outside the vertices.
    """
    height, width, layers = pix_to_face.shape
    points = np.empty((len(verts), 5))  # u, v, z, snapped u, snapped v
    bad = _to_pixels(verts, height, width, points)
    if bad >= 0:
        return 1 + bad
    pix_to_face[:] = -1
    nearest = np.full((height, width, layers), np.inf)
    for f in range(len(faces)):
        a, b, c = faces[f, 0] - first_vertex, faces[f, 1] - first_vertex, faces[f, 2] - first_vertex
        if min(a, b, c) < 0 or max(a, b, c) >= len(verts):
            return -1 - f
        _draw_face(_at(points, a), _at(points, b), _at(points, c), first_face + f, near, cull, nearest, pix_to_face)
    _fill(points, faces, first_vertex, first_face, pix_to_face, zbuf, bary, dists)
    return 0


@njit(error_model="numpy")
def _to_pixels(verts, height, width, points):  # pragma: no cover
    """Fill `points`, and return the index of the first vertex that is not finite, or -1 if there is none."""
    short = min(height, width)
    for i in range(len(verts)):
        x, y, z = float(verts[i, 0]), float(verts[i, 1]), float(verts[i, 2])
        if not (np.isfinite(x) and np.isfinite(y) and np.isfinite(z)):
            return i
        u, v = 0.5 * (width - 1 - x * short), 0.5 * (height - 1 - y * short)
        points[i, 0], points[i, 1], points[i, 2] = u, v, z
        points[i, 3], points[i, 4] = np.floor(u * _SNAP + 0.5) / _SNAP, np.floor(v * _SNAP + 0.5) / _SNAP
    return -1


@njit()
def _at(points, i):  # pragma: no cover
    """A row as a tuple, because numba counts references to views of arrays, which costs more than the triangle."""
    return points[i, 0], points[i, 1], points[i, 2], points[i, 3], points[i, 4]


@njit(error_model="numpy")
def _draw_face(a, b, c, label, near, cull, nearest, pix_to_face):  # pragma: no cover
    """Enter one face into the sorted list of every pixel that it covers."""
    height, width, layers = pix_to_face.shape
    if max(a[2], b[2], c[2]) < near:
        return
    whole = min(a[2], b[2], c[2]) >= near
    if whole:
        left, right = min(a[3], b[3], c[3]), max(a[3], b[3], c[3])
        low, high = min(a[4], b[4], c[4]), max(a[4], b[4], c[4])
    else:
        left, right, low, high = _clipped_box(a, b, c, near)
    left, right = np.ceil(max(left, 0.0)), np.floor(min(right, width - 1.0))
    low, high = np.ceil(max(low, 0.0)), np.floor(min(high, height - 1.0))
    if not (left <= right and low <= high):  # corners too far away for float64 are NaN by now
        return
    volume = (b[3] - a[3]) * (c[4] - a[4]) - (b[4] - a[4]) * (c[3] - a[3]) if whole else _volume(a, b, c, near)
    # u and v grow to the right and down, so the front side is negative, as it is in PyTorch3D's NDC.
    if volume == 0.0 or (cull and volume > 0.0):
        return
    side = 1.0 if volume > 0.0 else -1.0
    x0, y0, u0, v0, own0 = _edge(b, c, side, near)
    x1, y1, u1, v1, own1 = _edge(c, a, side, near)
    x2, y2, u2, v2, own2 = _edge(a, b, side, near)
    for row in range(int(low), int(high) + 1):
        for col in range(int(left), int(right) + 1):
            inside0 = x0 * (col - u0) + y0 * (row - v0)
            inside1 = x1 * (col - u1) + y1 * (row - v1)
            inside2 = x2 * (col - u2) + y2 * (row - v2)
            if not (inside0 >= 0.0 and inside1 >= 0.0 and inside2 >= 0.0):
                continue
            if (inside0 == 0.0 and not own0) or (inside1 == 0.0 and not own1) or (inside2 == 0.0 and not own2):
                continue
            _, w0, w1, w2, _, plane_z = _weigh(a, b, c, col, row)
            z = w0 * a[2] + w1 * b[2] + w2 * c[2]
            # Rounding must not cut a face that just touches the near plane. Without any weight, z is NaN.
            if not z < nearest[row, col, layers - 1] or not (whole or plane_z >= near):
                continue
            k = layers - 1
            while k > 0 and z < nearest[row, col, k - 1]:
                nearest[row, col, k] = nearest[row, col, k - 1]
                pix_to_face[row, col, k] = pix_to_face[row, col, k - 1]
                k -= 1
            nearest[row, col, k] = z
            pix_to_face[row, col, k] = label


@njit(error_model="numpy")
def _edge(p, q, side, near):  # pragma: no cover
    """The edge from p to q as x, y, u, v, own: x * (col - u) + y * (row - v) is positive inside the triangle.

    `own` says whether pixels exactly on the edge belong to the triangle; they belong to one of the two triangles at an
    edge. (u, v) is the same end for both, and the sum is exactly 0 at both ends.
    """
    if p[2] >= near and q[2] >= near:
        if p[3] > q[3] or (p[3] == q[3] and p[4] > q[4]):
            p, q, side = q, p, -side
        across, down = q[3] - p[3], q[4] - p[4]
    elif p[2] >= near or q[2] >= near:
        if q[2] >= near:
            p, q, side = q, p, -side
        # In the image the edge leaves p towards q, or away from it if q lies behind the camera.
        across, down = q[0] * q[2] - p[3] * q[2], q[1] * q[2] - p[4] * q[2]
    else:
        return 0.0, 0.0, 0.0, 0.0, True  # the whole edge lies before the near plane, which cuts first
    x, y = -down * side, across * side
    return x, y, p[3], p[4], x > 0.0 or (x == 0.0 and y > 0.0)


@njit(error_model="numpy")
def _corner(p, near):  # pragma: no cover
    """A corner in camera space, on its snapped ray if it has one."""
    if p[2] >= near:
        return p[3] * p[2], p[4] * p[2], p[2]
    return p[0] * p[2], p[1] * p[2], p[2]


@njit(error_model="numpy")
def _volume(a, b, c, near):  # pragma: no cover
    """Six times the signed volume between camera and triangle: the sign of the winding, also across the near plane."""
    ax, ay, az = _corner(a, near)
    bx, by, bz = _corner(b, near)
    cx, cy, cz = _corner(c, near)
    return ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)


@njit(error_model="numpy")
def _clipped_box(a, b, c, near):  # pragma: no cover
    """Bounds left, right, low, high of the part of a triangle beyond the near plane, widened by a pixel."""
    left, right, low, high = np.inf, -np.inf, np.inf, -np.inf
    for p, q in ((a, b), (b, c), (c, a)):
        if p[2] >= near:
            left, right, low, high = min(left, p[0]), max(right, p[0]), min(low, p[1]), max(high, p[1])
        if (p[2] >= near) != (q[2] >= near):
            t = (near - p[2]) / (q[2] - p[2])
            u = (p[0] * p[2] * (1.0 - t) + q[0] * q[2] * t) / near
            v = (p[1] * p[2] * (1.0 - t) + q[1] * q[2] * t) / near
            left, right, low, high = min(left, u), max(right, u), min(low, v), max(high, v)
    return left - 1.0, right + 1.0, low - 1.0, high + 1.0


@njit(error_model="numpy")
def _weigh(a, b, c, col, row):  # pragma: no cover
    """Perspective-correct barycentric coordinates of a pixel: sign of the winding, three weights, their scale, and z.

    Snapping may admit a pixel that misses the triangle by a hair. Its weights are those of a point on the triangle,
    whereas z is that of the triangle's plane.
    """
    au, av, bu, bv, cu, cv = a[0] - col, a[1] - row, b[0] - col, b[1] - row, c[0] - col, c[1] - row
    area_a, area_b, area_c = bu * cv - bv * cu, cu * av - cv * au, au * bv - av * bu
    volume = (area_a + area_b + area_c) * a[2] * b[2] * c[2]
    sign = 1.0 if volume >= 0.0 else -1.0
    m0, m1, m2 = sign * b[2] * c[2] * area_a, sign * c[2] * a[2] * area_b, sign * a[2] * b[2] * area_c
    plane_z = abs(volume) / (m0 + m1 + m2)
    m0, m1, m2 = max(m0, 0.0), max(m1, 0.0), max(m2, 0.0)
    total = m0 + m1 + m2
    return sign, m0 / total, m1 / total, m2 / total, total, plane_z


@njit(error_model="numpy")
def _nearest_on_edge(p, q, col, row):  # pragma: no cover
    """The point of the edge p-q that is nearest to a pixel: squared distance, offset in u and v, share of q."""
    pu, pv, du, dv = p[0] - col, p[1] - row, q[0] - p[0], q[1] - p[1]
    length = du * du + dv * dv
    t = min(max(-(pu * du + pv * dv) / length, 0.0), 1.0) if length > 0.0 else 0.0
    u, v = pu + t * du, pv + t * dv
    return u * u + v * v, u, v, t


@njit(error_model="numpy")
def _fill(points, faces, first_vertex, first_face, pix_to_face, zbuf, bary, dists):  # pragma: no cover
    """Depth, weights and distance to the boundary for every entry of `pix_to_face`."""
    height, width, layers = pix_to_face.shape
    unit = 2.0 / min(height, width)
    for row in range(height):
        for col in range(width):
            for k in range(layers):
                label = pix_to_face[row, col, k]
                if label < 0:
                    zbuf[row, col, k] = dists[row, col, k] = -1.0
                    bary[row, col, k, 0] = bary[row, col, k, 1] = bary[row, col, k, 2] = -1.0
                    continue
                f = label - first_face
                a = _at(points, faces[f, 0] - first_vertex)
                b = _at(points, faces[f, 1] - first_vertex)
                c = _at(points, faces[f, 2] - first_vertex)
                _, w0, w1, w2, _, _ = _weigh(a, b, c, col, row)
                zbuf[row, col, k] = w0 * a[2] + w1 * b[2] + w2 * c[2]
                bary[row, col, k, 0], bary[row, col, k, 1], bary[row, col, k, 2] = w0, w1, w2
                squared = min(
                    _nearest_on_edge(a, b, col, row)[0],
                    _nearest_on_edge(b, c, col, row)[0],
                    _nearest_on_edge(c, a, col, row)[0],
                )
                dists[row, col, k] = -squared * unit * unit


@njit(nogil=True, error_model="numpy")
def draw_backward(
    verts, faces, first_vertex, first_face, grad, pix_to_face, grad_zbuf, grad_bary, grad_dists
):  # pragma: no cover
    """Fill `grad` (V, 3) with the gradient of `draw`, with the face that each pixel shows held fixed."""
    height, width, layers = pix_to_face.shape
    total = np.zeros((len(verts), 3))  # float64: a large triangle sums up thousands of pixels
    points = np.empty((len(verts), 5))
    _to_pixels(verts, height, width, points)
    unit = 2.0 / min(height, width)
    for row in range(height):
        for col in range(width):
            for n in range(layers):
                label = pix_to_face[row, col, n]
                if label < 0:
                    continue
                f = label - first_face
                i, j, k = faces[f, 0] - first_vertex, faces[f, 1] - first_vertex, faces[f, 2] - first_vertex
                a, b, c = _at(points, i), _at(points, j), _at(points, k)
                sign, w0, w1, w2, scale, _ = _weigh(a, b, c, col, row)
                by_z = float(grad_zbuf[row, col, n])
                g0 = grad_bary[row, col, n, 0] + by_z * a[2]
                g1 = grad_bary[row, col, n, 1] + by_z * b[2]
                g2 = grad_bary[row, col, n, 2] + by_z * c[2]
                mean = w0 * g0 + w1 * g1 + w2 * g2
                # A weight that was raised to 0 still passes its gradient on: a pixel on an edge is an inner one.
                g0, g1, g2 = sign * (g0 - mean) / scale, sign * (g1 - mean) / scale, sign * (g2 - mean) / scale
                au, av, bu, bv, cu, cv = a[0] - col, a[1] - row, b[0] - col, b[1] - row, c[0] - col, c[1] - row
                area_a, area_b, area_c = bu * cv - bv * cu, cu * av - cv * au, au * bv - av * bu
                total[i, 2] += by_z * w0 + g1 * c[2] * area_b + g2 * b[2] * area_c
                total[j, 2] += by_z * w1 + g2 * a[2] * area_c + g0 * c[2] * area_a
                total[k, 2] += by_z * w2 + g0 * b[2] * area_a + g1 * a[2] * area_b
                g0, g1, g2 = g0 * b[2] * c[2], g1 * c[2] * a[2], g2 * a[2] * b[2]
                # Back to NDC, where a pixel is `unit` wide and x and y run the other way.
                g0, g1, g2 = -g0 / unit, -g1 / unit, -g2 / unit
                total[i, 0] += g2 * bv - g1 * cv
                total[i, 1] += g1 * cu - g2 * bu
                total[j, 0] += g0 * cv - g2 * av
                total[j, 1] += g2 * au - g0 * cu
                total[k, 0] += g1 * av - g0 * bv
                total[k, 1] += g0 * bu - g1 * au
                by_distance = float(grad_dists[row, col, n])
                if by_distance != 0.0:
                    _distance_backward(a, b, c, i, j, k, col, row, 2.0 * unit * by_distance, total)
    grad[:] = total


@njit(error_model="numpy")
def _distance_backward(a, b, c, i, j, k, col, row, scale, total):  # pragma: no cover
    """Add `scale` times the offset of the boundary's nearest point to the two corners that it lies between."""
    squared, u, v, t = _nearest_on_edge(a, b, col, row)
    p, q = i, j
    other = _nearest_on_edge(b, c, col, row)
    if other[0] < squared:
        squared, u, v, t = other
        p, q = j, k
    other = _nearest_on_edge(c, a, col, row)
    if other[0] < squared:
        squared, u, v, t = other
        p, q = k, i
    total[p, 0] += scale * u * (1.0 - t)
    total[p, 1] += scale * v * (1.0 - t)
    total[q, 0] += scale * u * t
    total[q, 1] += scale * v * t
