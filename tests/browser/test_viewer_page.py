"""`zoo view` in a real browser: sliders move, pictures change, a photograph goes in, files come out."""

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.browser.driven import Tab, browsing, needs_chromium, until
from zoo.viewer.server import serve

STAGE = (slice(160, 560), slice(240, 640))  # rows and columns around the middle of the picture, beside the panel


def stage(tab: Tab) -> np.ndarray:
    """What stands in the middle of the page."""
    return tab.picture()[STAGE].astype(float)


def settled(tab: Tab) -> np.ndarray:
    """The picture when it no longer changes."""
    seen = [stage(tab)]
    until(lambda: seen.append(stage(tab)) or (len(seen) > 6 and not np.ptp(seen[-6:], axis=0).any()))
    return seen[-1]


def changed(tab: Tab, old: np.ndarray) -> np.ndarray:
    until(lambda: np.abs(stage(tab) - old).mean() > 1)
    return settled(tab)


def slide(tab: Tab, label: str, share: float) -> None:
    """Press the mouse on the slider of this label, at a share of its length."""
    place = tab.run(
        "(() => { let at = [...document.querySelectorAll('label')].find(l => l.innerText.trim() === "
        f"'{label}'); while (!at.querySelector('[role=slider]')) at = at.parentElement; "
        "const box = at.querySelector('.mantine-Slider-track').getBoundingClientRect(); "
        f"return [box.x + {share} * box.width, box.y + box.height / 2]; }})()"
    )
    tab.drag(place, place)


@needs_chromium
@pytest.mark.slow
def test_the_page_does_what_its_controls_say(tmp_path: Path) -> None:
    pytest.importorskip("viser", reason="pip install 'zoo3d[view]'")
    with serve(zoo.load("unsup3d", device="cpu"), port=18080) as serving:
        with browsing(serving.url, tmp_path) as tab:
            until(lambda: "drawn in" in tab.text())
            assert "unsup3d.heads64" in tab.text()
            assert "Truncation" not in tab.text()  # photographs have no average
            until(lambda: stage(tab).mean() < 200)  # no longer the empty, white page
            first = settled(tab)
            assert first.std() > 10
            (page,) = serving.pages.values()

            slide(tab, "From the right", 0.9)
            lit = changed(tab, first)
            half = lit.shape[1] // 2
            assert page.controls.state().lamp.right > 1.4
            assert lit[:, half:].mean() - lit[:, :half].mean() > first[:, half:].mean() - first[:, :half].mean() + 1

            tab.drag((400, 300), (460, 300))
            turned = changed(tab, lit)
            assert page.controls.view.yaw > 0.1  # the face has followed the mouse
            assert abs(page.controls.view.pitch) < 0.1

            (tmp_path / "bad.png").write_bytes(b"no picture")
            tab.give(tmp_path / "bad.png")
            until(lambda: "bad.png: not an image" in tab.text())
            tab.give(zoo.example_photo())
            until(lambda: "Show its object" in tab.text())
            assert "bad.png: not an image" not in tab.text()
            changed(tab, turned)

            with browsing(serving.url, tmp_path / "other") as other:  # a second visitor has a view of their own
                until(lambda: "drawn in" in other.text())
                assert "Show its object" not in other.text()
                assert len(serving.pages) == 2
            until(lambda: len(serving.pages) == 1)

            tab.click("Mesh (.glb)")
            until(lambda: list(tmp_path.glob("*.glb")))
            assert next(tmp_path.glob("*.glb")).name == "unsup3d-heads64-photo.glb"
            until(lambda: next(tmp_path.glob("*.glb")).read_bytes()[:4] == b"glTF")
            tab.click("Picture (.png)")
            until(lambda: list(tmp_path.glob("unsup3d*.png")))
        until(lambda: not serving.pages)
    with (
        serve(zoo.load("hologan", device="cpu"), port=18080) as serving,
        browsing(serving.url, tmp_path / "flat") as tab,
    ):
        until(lambda: "drawn in" in tab.text())
        for absent in ("Light", "Photograph", "Mesh"):
            assert absent not in tab.text()


@pytest.mark.slow
def test_the_command_says_where_the_page_is_and_ends_at_ctrl_c(tmp_path: Path) -> None:
    pytest.importorskip("viser", reason="pip install 'zoo3d[view]'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "zoo", "view", "hologan", "--no-open", "--port", str(port), "--threads", "1"]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "ZOO_CACHE": str(tmp_path)},
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a test in the background ignores it
        )
        assert process.stdout is not None
        said, _, free = process.stdout.readline().rpartition(" ")
        assert said == f"port {port} is taken; using"
        assert int(free) > port
        assert process.stdout.readline().startswith(f"http://127.0.0.1:{int(free)} ")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.strip() == "the page is closed"
