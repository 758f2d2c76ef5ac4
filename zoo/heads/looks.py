"""Light beyond the formula of the plain heads: highlights, sky and shadows, pure functions of (seed, split, index).

The picture is albedo * (ambient * sky(n) + diffuse * lit * max(0, n . L)) + diffuse * lit * gloss * max(0, n . H)^k.
The sky is a function of the normal with spherical harmonics up to the second order and mean 1 for each colour. `lit`
is 0 where the head itself stands before the light (a shadow map), and H lies halfway between the directions to the
light and to the camera (Blinn 1977).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..renderers.zbuffer import rasterize_one
from ..runtime.compiled import njit
from .sampling import LOOK, Bits

_SLOPE, _CURVE = 0.25, 0.1  # standard deviations of the sky that come from its first and its second order
_COLOUR = 0.4  # the most of it that differs from colour to colour
_GLOSS = (0.03, 0.3)
_SHININESS = (6, 40)  # whole numbers, so that a power is products alone
_LAMP, _REACH = 4.0, 0.15  # distance of the lamp that casts the shadow, and half the width that it sees, in world units
_TEXELS = 128  # side of the shadow map
_LIFT = 0.003  # how far in front of the surface shadows are looked up, in world units, lest it shadows itself


class Looks(NamedTuple):
    """How B heads are lit beyond their lights.

    Attributes:
        sky: (B, 3, 9) float64, for each colour the factors of the harmonics (see `sky_light`), the first of them 1.
        gloss: (B,) float64 strength of the highlight.
        shininess: (B,) int64 exponent of the highlight.
    """

    sky: np.ndarray
    gloss: np.ndarray
    shininess: np.ndarray


def no_looks(count: int) -> Looks:
    """`count` heads under an even sky, without gloss."""
    sky = np.zeros((count, 3, 9))
    sky[..., 0] = 1
    return Looks(sky, np.zeros(count), np.zeros(count, np.int64))


def sample_looks(indices: np.ndarray, seed: int, split: str) -> Looks:
    """Draw the looks of the images with these indices (B,)."""
    looks = no_looks(len(indices))
    strength = np.repeat([_SLOPE / np.sqrt(3), _CURVE / np.sqrt(5)], (3, 5))
    for row, index in enumerate(indices):
        bits = Bits(seed, split, LOOK, int(index))
        gloss, shininess, colour = bits.uniform(3)
        grey, tint = bits.normal(8, 2.0), bits.normal(24, 2.0).reshape(3, 8)
        looks.sky[row, :, 1:] = strength * (grey + _COLOUR * colour * (tint - grey))
        looks.gloss[row] = _GLOSS[0] + (_GLOSS[1] - _GLOSS[0]) * gloss
        looks.shininess[row] = _SHININESS[0] + int((_SHININESS[1] + 1 - _SHININESS[0]) * shininess)
    return looks


@njit()
def sky_light(sky, n, out):  # pragma: no cover - compiled
    """The sky's light (3,) on a unit normal: the mean square of each harmonic over the sphere is 1."""
    x, y, z = n[0], n[1], n[2]
    for d in range(3):
        c = sky[d]
        first = 1.7320508075688772 * (c[1] * x + c[2] * y + c[3] * z)
        mixed = 3.872983346207417 * (c[4] * x * y + c[5] * y * z + c[6] * x * z)
        pure = 1.118033988749895 * c[7] * (3 * z * z - 1) + 1.9364916731037085 * c[8] * (x * x - y * y)
        out[d] = max(0.0, c[0] + first + mixed + pure)


@njit()
def highlight(n, lamp, camera, point, shininess):  # pragma: no cover - compiled
    """max(0, n . H)^shininess at a point (3,), for the unit vector to the lamp and the camera's position (3,)."""
    x, y, z = camera[0] - point[0], camera[1] - point[1], camera[2] - point[2]
    far = max(np.sqrt(x * x + y * y + z * z), 1e-30)
    hx, hy, hz = lamp[0] + x / far, lamp[1] + y / far, lamp[2] + z / far
    cosine = (n[0] * hx + n[1] * hy + n[2] * hz) / max(np.sqrt(hx * hx + hy * hy + hz * hz), 1e-30)
    power = 1.0
    for _ in range(shininess):
        power *= max(0.0, cosine)
    return power


@njit()
def lamp_axes(lamp):  # pragma: no cover - compiled
    """Right, up and back (3, 3) of a camera in the lamp, which is not straight above the head."""
    x, y, z = lamp[0], lamp[1], lamp[2]
    flat = np.sqrt(x * x + z * z)
    return np.array([[z / flat, 0.0, -x / flat], [-x * y / flat, flat, -y * z / flat], [x, y, z]])


@njit()
def shadow_map(verts, faces, axes):  # pragma: no cover - compiled
    """Distances (T, T) of what the lamp sees first, infinite where it sees nothing; row 0 is the lowest."""
    seen = np.empty_like(verts)
    for i in range(len(verts)):
        for d in range(3):
            seen[i, d] = axes[d, 0] * verts[i, 0] + axes[d, 1] * verts[i, 1] + axes[d, 2] * verts[i, 2]
        seen[i, 2] -= _LAMP
    slopes = np.empty(_TEXELS)
    for i in range(_TEXELS):
        slopes[i] = _REACH / _LAMP * (2.0 * i / (_TEXELS - 1) - 1.0)
    face, depth = np.full((_TEXELS, _TEXELS), -1, np.int32), np.full((_TEXELS, _TEXELS), np.inf, np.float32)
    rasterize_one(seen, faces, slopes, slopes, 1e-3, True, face, depth, np.empty((_TEXELS, _TEXELS, 3), np.float32))
    return depth[::-1]


@njit()
def lit(shadow, axes, point, normal):  # pragma: no cover - compiled
    """How much of the lamp a point (3,) of the surface sees: 0 to 1, bilinear between the four nearest texels."""
    at = np.empty(3)
    for d in range(3):
        at[d] = 0.0
        for k in range(3):
            at[d] += axes[d, k] * (point[k] + _LIFT * normal[k])
    depth = _LAMP - at[2]
    u = (at[0] / depth * _LAMP / _REACH + 1) / 2 * (_TEXELS - 1)
    v = (at[1] / depth * _LAMP / _REACH + 1) / 2 * (_TEXELS - 1)
    c, r = min(max(int(u), 0), _TEXELS - 2), min(max(int(v), 0), _TEXELS - 2)
    fu, fv = u - c, v - r
    low = (1 - fu) * (depth <= shadow[r, c]) + fu * (depth <= shadow[r, c + 1])
    high = (1 - fu) * (depth <= shadow[r + 1, c]) + fu * (depth <= shadow[r + 1, c + 1])
    return (1 - fv) * low + fv * high
