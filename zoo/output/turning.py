"""Meshes that turn inside a page: Google's `<model-viewer>`, which travels with zoo, and each mesh as data.

A page stays one file that asks nobody for anything. The viewer takes arrow keys and tells screen readers from which
side the object is seen. Without scripts, people see the picture that stands in its place.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..generators.base import Generator, Latents
from ..runtime.files import atomic_write
from .colours import show_image
from .inline import picture
from .meshes import encode
from .pages import ONLY_DATA, shell, versions

if TYPE_CHECKING:
    from pytorch3d.structures import Meshes

LIMIT = 8_000_000  # bytes of all meshes in a page; as text they take a third more, and the viewer 1.1 MB
# The viewer reads its meshes inside the page, and textures that it unpacks from them; it has WebAssembly in its text.
POLICY = f"{ONLY_DATA} blob:; connect-src data: blob:; script-src 'wasm-unsafe-eval'"
_FILE = Path(__file__).with_name("assets") / "model-viewer-4.4.0.min.js"
# Objects swing by 35 degrees to each side, as far as training saw them, until somebody touches one. Those who wish for
# less motion turn them alone.
_SWING = """
for (const viewer of document.querySelectorAll("model-viewer")) {
  let still = matchMedia("(prefers-reduced-motion:reduce)").matches;
  const swing = time => {
    if (still) return;
    viewer.resetTurntableRotation(0.6 * Math.sin(time / 1200));
    requestAnimationFrame(swing);
  };
  viewer.addEventListener("load", () => requestAnimationFrame(swing));
  viewer.addEventListener("camera-change", event => { still ||= event.detail.source === "user-interaction"; });
}
"""


@once
def script() -> str:
    """The viewer, once for all meshes of a page."""
    return f"{_FILE.read_text('utf-8')}\n{_SWING}"


def glb(meshes: "Meshes", notes: Mapping[str, Any] | None = None) -> bytes:
    """One mesh as the bytes of a .glb, with notes as `export` takes them.

    Raises:
        ConfigError: There is not exactly one mesh.
        ZooError: The mesh is empty, not finite, or has colours of another kind.
    """
    data = encode(meshes, Path("mesh.glb"), notes)
    assert isinstance(data, bytes)
    return data


@torch.no_grad()
def front(generator: Generator, latents: Latents) -> Tensor:
    """The picture (3,128,128) in [0,1] of one object from the front: a poster of its mesh."""
    return show_image(generator(latents, generator.camera(size=128)).rgb.cpu())[0]


def turning(mesh: bytes, poster: Tensor, name: str) -> str:
    """A mesh as HTML for a page with `script` and `POLICY`, which can be folded away.

    Args:
        mesh: A .glb.
        poster: Picture (3,H,W) in [0,1] that is shown until the mesh is there, and without scripts.
        name: What it is, as text.
    """
    alt = html.escape(f"{name}, a mesh seen from the front", quote=True)
    return (
        '<details class="turning" open><summary>Mesh</summary><model-viewer '
        f'src="data:model/gltf-binary;base64,{base64.b64encode(mesh).decode()}" alt="{alt}" camera-controls '
        'camera-orbit="0deg 90deg 105%" interaction-prompt="none" touch-action="pan-y" environment-image="neutral" '
        'tone-mapping="none" shadow-intensity="0">'
        f"{_image(poster, alt, slot='poster')}"
        '<div slot="progress-bar"></div></model-viewer>'  # in place of the viewer's own bar
        "<p>Drag it, or use the arrow keys; plus and minus come nearer and go away.</p></details>"
    )


def gallery(meshes: Sequence[tuple[str, bytes, Tensor]]) -> str:
    """Names, meshes and posters as HTML, see `turning`. What would be over `LIMIT` is shown as its poster alone."""
    parts, used = [], 0
    for name, mesh, poster in meshes:
        if used + len(mesh) <= LIMIT:
            used += len(mesh)
            parts.append(f"<figure><figcaption>{html.escape(name)}</figcaption>{turning(mesh, poster, name)}</figure>")
            continue
        why = f"its mesh of {len(mesh) / 1e6:.1f} MB is left out: a page holds {LIMIT / 1e6:g} MB of them"
        image = _image(poster, html.escape(name, quote=True))
        parts.append(f"<figure><figcaption>{html.escape(name)}: {why}.</figcaption>{image}</figure>")
    return f'<div class="solids">{"".join(parts)}</div>'


def _image(poster: Tensor, alt: str, slot: str = "") -> str:
    """A picture (3,H,W) in [0,1] as HTML; `alt` is escaped already."""
    place = f'slot="{slot}" ' if slot else ""
    return f'<img {place}alt="{alt}" width="{poster.shape[2]}" height="{poster.shape[1]}" src="{picture(poster)}">'


def write_mesh_page(path: Path, meshes: "Meshes", poster: Tensor, name: str) -> Path:
    """Write one mesh as a page that needs nothing else.

    Args:
        path: The `.html` file; it is replaced whole or not at all.
        meshes: A batch of one, see `zoo.export`.
        poster: Picture (3,H,W) in [0,1], see `turning`.
        name: The heading.

    Returns:
        The path.

    Raises:
        ConfigError: The mesh has more than `LIMIT` bytes.
        ZooError: The mesh is empty, not finite, or has colours of another kind.
    """
    mesh = glb(meshes)
    if len(mesh) > LIMIT:
        size = f"{len(mesh) / 1e6:.1f} MB"
        raise ConfigError(f"{path}: the mesh has {size}, a page holds {LIMIT / 1e6:g} MB; lower the resolution")
    body = f"<header><h1>{html.escape(name)}</h1></header><main>{turning(mesh, poster, name)}</main>"
    footer = f"<footer><p>Written by {html.escape(versions())}</p></footer>"
    return atomic_write(path, shell(name, body + footer, [script()], POLICY))
