"""The pages of `zoo run`: one for each object, and one that lists them all."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from torch import Tensor

from ..output.inline import strips
from ..output.pages import ONLY_DATA, shell, versions
from ..output.strips import Sheet
from ..output.turning import POLICY, gallery, script
from ..runtime.files import atomic_write


def write_object(
    path: Path,
    name: str,
    sheets: Sequence[Sheet],
    records: Sequence[Mapping[str, Any]],
    mesh: bytes,
    poster: Tensor,
) -> Path:
    """The page of one object, self-contained: its mesh (a .glb), pictures, and what each step took and reached.

    `poster` is a picture (3,H,W) in [0,1] for those who cannot see the mesh.
    """
    pictures = "".join(strips(sheet, name) for sheet in sheets)
    body = f"{gallery([(name, mesh, poster)])}{_steps(records)}{pictures}"
    return atomic_write(path, _page(name, body, POLICY, [script()]))


def write_index(path: Path, results: Sequence[Mapping[str, Any]], command: str) -> Path:
    """The list of all objects, with links to pages and overviews in the folders beside it."""
    lines = []
    for result in results:
        name, folder = html.escape(result["name"]), quote(result["name"])
        scores = [r for r in result["records"] if "SIDE" in r]
        figures = " → ".join(f"{r['SIDE']:.2f}" for r in scores) or "unknown"
        lines.append(
            f'<figure><figcaption><strong><a href="{folder}/index.html">{name}</a></strong>, '
            f"{result['seconds']:.0f} s, SIDE ×10⁻² by stage: {figures}. "
            f'<a href="{folder}/mesh.glb">mesh</a>, <a href="{folder}/rotate_render.mp4">views</a>, '
            f'<a href="{folder}/rotate_gan.mp4">views by the GAN</a></figcaption>'
            f'<img alt="parts of {name}" src="{folder}/overview.png"></figure>'
        )
    body = f"{''.join(lines)}<footer><p>Made by <code>{html.escape(command)}</code></p><p>{versions()}</p></footer>"
    policy = ONLY_DATA.replace("data:", "'self'")
    return atomic_write(path, _page(f"{len(results)} object{'s' * (len(results) != 1)}", body, policy))


def _steps(records: Sequence[Mapping[str, Any]]) -> str:
    heads = "".join(
        f'<th scope="col">{h}</th>' for h in ("Stage, step", "Iterations", "Seconds", "SIDE ×10⁻²", "MAD °")
    )
    lines = []
    for r in records:
        scores = [f"{r['SIDE']:.3f}", f"{r['MAD']:.2f}"] if "SIDE" in r else ["", ""]
        cells = "".join(f"<td>{cell}</td>" for cell in (r["iterations"], f"{r['seconds']:.1f}", *scores))
        lines.append(f'<tr><th scope="row">{r["stage"]}, {r["step"]}</th>{cells}</tr>')
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _page(title: str, body: str, policy: str = ONLY_DATA, scripts: Sequence[str] = ()) -> str:
    head = f"<header><h1>GAN2Shape: <span>{html.escape(title)}</span></h1></header>"
    return shell(f"GAN2Shape: {title}", f"{head}<main>{body}</main>", scripts, policy)
