"""The embedded 3D morphable head: coefficients in, vertices and a texture atlas out.

Shape is a mean plus principal components; skin is a convex blend of photographed skins; hair, brows, lips and irises
are painted as the parameters say. The head is 0.185 world units high and centred at the origin, with Y up and its face
towards +Z. All arithmetic that reaches a pixel runs in a fixed order without BLAS, so every machine gets the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..runtime.compiled import njit
from .subdivide import catmull_clark

ASSET = Path(__file__).parent / "assets" / "heads.npz"
EYE_TEXELS, IRIS_TEXELS = 64, 30.0  # side of the eyeball tile, and texels per eyeball radius inside it
FIELD_RANGE = 0.05  # world units that the hairline field spans to either side of its middle value, 128
FIELD_UNIT = FIELD_RANGE / 127
SCLERA = (0.70, 0.66, 0.64)
LIP_RED = (0.92, 0.52, 0.55)  # what full lip colour leaves of the skin's red, green and blue


class Heads(NamedTuple):
    """Parameters of B heads, all float64.

    Attributes:
        shape: (B, K) shape coefficients in standard deviations.
        skin: (B, N) weights >= 0 of the skins, which sum to 1.
        hair: (B, 3) colour of the hair in [0, 1].
        iris: (B, 3) colour of the irises in [0, 1].
        hairline: (B,) rise of the hairline in world units; a head above 0.06 is bald.
        volume: (B,) thickness of the hair in world units.
        brow: (B, 2) darkness of the brows in [0, 1], and their width, where 1 is average.
        lips: (B,) redness of the lips beyond the skin's own, in [0, 1].
    """

    shape: np.ndarray
    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    hairline: np.ndarray
    volume: np.ndarray
    brow: np.ndarray
    lips: np.ndarray


@dataclass(frozen=True)
class HeadModel:
    """A morphable head at one level of detail; make it with `HeadModel.load`.

    Attributes:
        mean: (V, 3) float64 vertices of the mean head.
        basis: (K, V, 3) float64 components, per standard deviation.
        scalp: (V,) float64 height above the hairline.
        faces: (F, 3) int32, counter-clockwise from outside: one closed surface and two closed eyeballs.
        uv: (F, 3, 2) float64 texel coordinates of the corners; columns wrap.
        skins: (N, T, T, 3) uint8 textures.
        fields: (5, T, T) uint8 maps: hairline, brow, lips, lash, strands.
    """

    mean: np.ndarray
    basis: np.ndarray
    scalp: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    skins: np.ndarray
    fields: np.ndarray

    @staticmethod
    @cache
    def load(level: int = 0) -> HeadModel:
        """Load the embedded head.

        Args:
            level: 0 has 7 thousand triangles; 1 is smoothed to 28 thousand, for 128 px and more.

        Raises:
            ValueError: `level` is neither 0 nor 1.
        """
        if level not in (0, 1):
            raise ValueError(f"HeadModel.load: level={level!r} does not exist; use 0 or 1")
        with np.load(ASSET) as asset:
            data = {name: asset[name] for name in asset.files}
        quads, uv = data["quads"].astype(np.int32), data["uv"].astype(np.float64)
        vertex_data = np.concatenate(
            [data["mean"][None], data["basis"], np.repeat(data["scalp"][None, :, None], 3, 2)]
        ).astype(np.float64)
        for _ in range(level):
            vertex_data, quads, uv = catmull_clark(vertex_data, quads, uv)
        split = [[0, 1, 2], [0, 2, 3]]
        return HeadModel(
            mean=np.ascontiguousarray(vertex_data[0]),
            basis=np.ascontiguousarray(vertex_data[1:-1]),
            scalp=np.ascontiguousarray(vertex_data[-1, :, 0]),
            faces=np.ascontiguousarray(quads[:, split].reshape(-1, 3)),
            uv=np.ascontiguousarray(uv[:, split].reshape(-1, 3, 2)),
            skins=data["skins"],
            fields=np.stack([data[n] for n in ("hairline", "brow", "lips", "lash", "strands")]),
        )

    @property
    def components(self) -> int:
        """The number of shape coefficients, K."""
        return len(self.basis)

    @property
    def texture_shape(self) -> tuple[int, int, int]:
        """The shape (rows, columns, 3) of the texture atlas."""
        side = self.skins.shape[1]
        return side + EYE_TEXELS, side, 3

    def vertices(self, heads: Heads) -> np.ndarray:
        """Vertices (B, V, 3), float64, in world units.

        Raises:
            ValueError: The heads have other numbers of coefficients than this model.
        """
        self._check(heads)
        out = np.empty((len(heads.shape), *self.mean.shape))
        for b in range(len(out)):
            shape_head(
                self.mean,
                self.basis,
                self.scalp,
                self.faces,
                heads.shape[b],
                heads.hairline[b],
                heads.volume[b],
                out[b],
            )
        return out

    def texture(self, heads: Heads) -> np.ndarray:
        """Albedo atlases (B, rows, columns, 3), float32, in [0, 1].

        Raises:
            ValueError: The heads have other numbers of coefficients than this model.
        """
        self._check(heads)
        out = np.empty((len(heads.shape), *self.texture_shape), np.float32)
        for b in range(len(out)):
            skin, hair, iris, hairline = (parameter[b] for parameter in heads[1:5])
            paint_head(self.skins, self.fields, skin, hair, iris, hairline, heads.brow[b], heads.lips[b], out[b])
        return out

    def _check(self, heads: Heads) -> None:
        if heads.shape.shape[-1] != self.components or heads.skin.shape[-1] != len(self.skins):
            raise ValueError(
                f"heads have {heads.shape.shape[-1]} shape and {heads.skin.shape[-1]} skin coefficients; "
                f"this model takes {self.components} and {len(self.skins)}"
            )


@njit()
def shape_head(mean, basis, scalp, faces, coefficients, hairline, volume, out):  # pragma: no cover - compiled
    """Vertices of one head: mean, components, then the scalp pushed outwards where hair grows."""
    out[:] = mean
    flat = out.reshape(-1)
    for k in range(len(basis)):
        weight, component = coefficients[k], basis[k].reshape(-1)
        for i in range(len(flat)):
            flat[i] += weight * component[i]
    if volume <= 0.0:
        return
    normals = np.empty_like(out)
    vertex_normals(out, faces, normals)
    for v in range(len(out)):
        lift = volume * smoothstep((scalp[v] - hairline) / 0.025)
        for d in range(3):
            out[v, d] += lift * normals[v, d]


@njit()
def vertex_normals(verts, faces, out):  # pragma: no cover - compiled
    """Unit vertex normals: the mean of the adjacent faces' normals, weighted by area."""
    out[:] = 0.0
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x1, y1, z1 = verts[b, 0] - verts[a, 0], verts[b, 1] - verts[a, 1], verts[b, 2] - verts[a, 2]
        x2, y2, z2 = verts[c, 0] - verts[a, 0], verts[c, 1] - verts[a, 1], verts[c, 2] - verts[a, 2]
        nx, ny, nz = y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2
        for i in (a, b, c):
            out[i, 0] += nx
            out[i, 1] += ny
            out[i, 2] += nz
    for v in range(len(out)):
        length = np.sqrt(out[v, 0] * out[v, 0] + out[v, 1] * out[v, 1] + out[v, 2] * out[v, 2])
        for d in range(3):
            out[v, d] /= max(length, 1e-30)


@njit()
def smoothstep(x):  # pragma: no cover - compiled
    """A step that is 0 below 0, 1 above 1, and smooth between."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3.0 - 2.0 * x)


@njit()
def paint_head(skins, fields, skin, hair, iris, hairline, brow, lips, out):  # pragma: no cover - compiled
    """The albedo atlas of one head: blended skin, lips, lashes, brows and hair, with the eyeball tile below."""
    side = skins.shape[1]
    _blend_skins(skins, skin, out[:side].reshape(-1))
    scratch = np.empty(3, np.float32)
    for r in range(side):
        for c in range(side):
            strand = (np.float32(fields[4, r, c]) - np.float32(128.0)) / np.float32(255.0)
            above = (np.float32(fields[0, r, c]) - 128.0) * FIELD_UNIT - hairline + 0.006 * strand
            cover = smoothstep(above / 0.014)
            if cover < 1.0:
                if fields[1, r, c] > 0:
                    edge = (fields[1, r, c] / 255.0 - 1.0 + 0.55 * brow[1] + 0.35 * strand) / 0.3
                    for d in range(3):
                        scratch[d] = 0.6 * hair[d] + 0.02
                    _mix(out[r, c], scratch, brow[0] * smoothstep(edge))
                if fields[2, r, c] > 0:
                    for d in range(3):
                        scratch[d] = LIP_RED[d] * out[r, c, d]
                    _mix(out[r, c], scratch, lips * fields[2, r, c] / 255.0)
                if fields[3, r, c] > 0:
                    scratch[:] = 0.07
                    _mix(out[r, c], scratch, 0.75 * fields[3, r, c] / 255.0)
            if cover > 0.0:
                for d in range(3):
                    scratch[d] = min(hair[d] * (1.0 + 0.7 * strand), 1.0)
                _mix(out[r, c], scratch, cover)
    _paint_eye(iris, out[side:])


@njit()
def _blend_skins(skins, weights, out):  # pragma: no cover - compiled
    out[:] = 0.0
    for n in range(len(skins)):
        if weights[n] > 0.0:
            share, skin = np.float32(weights[n] / 255.0), skins[n].reshape(-1)
            for i in range(len(out)):
                out[i] += share * np.float32(skin[i])


@njit()
def _mix(colour, other, share):  # pragma: no cover - compiled
    for d in range(3):
        colour[d] += share * (other[d] - colour[d])


@njit()
def _paint_eye(iris, out):  # pragma: no cover - compiled
    """The eyeball seen from the front: white, limbus, iris with a lighter ring, pupil."""
    for r in range(EYE_TEXELS):
        for c in range(out.shape[1]):
            x, y = (c + 0.5 - EYE_TEXELS / 2) / IRIS_TEXELS, (r + 0.5 - EYE_TEXELS / 2) / IRIS_TEXELS
            radius = np.sqrt(x * x + y * y)
            white = 1.0 - smoothstep((radius - 0.44) / -0.06)
            pupil = smoothstep((0.21 - radius) / 0.05)
            limbus = smoothstep((radius - 0.34) / 0.1)
            for d in range(3):
                ring = iris[d] * (1.15 - 0.65 * limbus)
                value = ring + white * (SCLERA[d] - 0.15 * smoothstep((radius - 0.5) / 0.5) - ring)
                out[r, c, d] = min(max(value * (1.0 - 0.95 * pupil), 0.0), 1.0)
