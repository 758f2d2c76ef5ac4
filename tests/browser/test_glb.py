"""Exported .glb files in the viewer of our pages look as our own renders do, and turn."""

import base64
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from tests.browser.driven import Tab, browsing, needs_chromium, until
from zoo.output.sheets import grid
from zoo.output.turning import script, write_mesh_page

SIDE = 256
GREY = 128


def seen(glb: Path) -> np.ndarray:
    """(SIDE, SIDE, 3) the file from the front, as the viewer shows it by default, on grey."""
    data = base64.b64encode(glb.read_bytes()).decode()
    style = f"width:{SIDE}px;height:{SIDE}px;background:rgb({GREY},{GREY},{GREY})"
    page = glb.with_suffix(".html")
    page.write_text(
        f'<!doctype html><body style="margin:0"><script>{script()}</script>'
        f'<model-viewer src="data:model/gltf-binary;base64,{data}" style="{style}" camera-orbit="0deg 90deg 105%" '
        'interaction-prompt="none" shadow-intensity="0" environment-image="neutral" tone-mapping="none">'
        '<div slot="progress-bar"></div></model-viewer></body>',  # in place of the viewer's own bar
        "utf-8",
    )
    with browsing(page.as_uri(), page.with_suffix(""), (600, 600)) as tab:  # narrower windows do not exist
        return settled(tab)[:SIDE, :SIDE].astype(float)


def settled(tab: Tab) -> np.ndarray:
    """The page once its mesh is there and has faded in."""
    until(lambda: tab.run("document.querySelector('model-viewer').loaded"))
    seen = [tab.picture()]
    until(lambda: seen.append(tab.picture()) or (len(seen) > 6 and not np.ptp(seen[-6:], axis=0).any()))
    return seen[-1]


def framed(picture: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(V, 3) the pixels in the middle half of what a mask shows, where no outline is."""
    rows, columns = np.nonzero(inside.any(1))[0], np.nonzero(inside.any(0))[0]
    (top, bottom), (left, right) = (rows[0], rows[-1]), (columns[0], columns[-1])
    high, wide = (bottom - top) // 4, (right - left) // 4
    return picture[top + high : bottom - high, left + wide : right - wide].reshape(-1, 3)


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize("name", ["shadegan.heads64", "meshgan.heads64"])  # colours at vertices; a texture
def test_viewers_show_the_colours_of_our_own_render(name: str, tmp_path: Path) -> None:
    generator = zoo.load(name, device="cpu")
    latents = generator.latents(1, seed=3, psi=0.7)
    picture = seen(zoo.export(generator.mesh(latents), tmp_path / "face.glb"))
    inside = np.abs(picture - GREY).max(-1) > 12
    assert 0.1 < inside.mean() < 0.9
    with torch.no_grad():
        render = generator(latents, generator.camera(size=SIDE // 2))
    own = np.asarray(grid(render, maps=["albedo" if render.albedo is not None else "rgb"])).astype(float)
    assert render.mask is not None
    theirs = framed(picture, inside).mean(0)
    ours = framed(own, render.mask[0, 0].numpy() > 0.5).mean(0)
    print(name, "viewer", theirs.round(1), "ours", ours.round(1))
    # The viewer lights the head by a grey room, so brightness may differ somewhat, and hue may not.
    assert theirs.mean() == pytest.approx(ours.mean(), rel=0.15)
    np.testing.assert_allclose(theirs / theirs.mean(), ours / ours.mean(), atol=0.08)


@needs_chromium
@pytest.mark.slow
def test_the_mesh_of_a_page_turns_and_its_picture_stays_without_scripts(tmp_path: Path) -> None:
    generator = zoo.load("meshgan", device="cpu")
    latents = generator.latents(1, seed=3, psi=0.7)
    mesh, poster = generator.mesh(latents, resolution=32), torch.full((3, 8, 8), 0.5)
    page = write_mesh_page(tmp_path / "face.html", mesh, poster, "A head")
    text = page.read_text("utf-8")
    with browsing(page.as_uri(), tmp_path / "turning", (500, 600)) as tab:
        until(lambda: tab.run("document.querySelector('model-viewer').loaded"))
        time.sleep(2)  # until the picture in its place has faded away
        early = tab.picture().astype(int)
        until(lambda: (np.abs(early - tab.picture()).max(-1) > 12).mean() > 0.02)
    page.write_text(text.replace(f"<script>{script()}</script>", ""), "utf-8")
    with browsing(page.as_uri(), tmp_path / "still", (500, 600)) as tab:
        still = tab.picture().astype(int)
    assert (np.abs(still - [128, 128, 128]).max(-1) < 4).mean() > 0.3
