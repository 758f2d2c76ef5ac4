"""Pages as people see them: headless Chromium draws them into a picture."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")
PATIENCE = 100.0  # seconds; it takes some five, and the machine may be busy
# Drawn by the processor, and no word to the network.
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--hide-scrollbars",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]


def photographed(page: Path, size: tuple[int, int], milliseconds: int = 5000) -> np.ndarray:
    """(H, W, 3) uint8 of a page after some time of its own, at this width and height."""
    picture = page.with_suffix(".png")
    picture.unlink(missing_ok=True)  # one of an earlier time must not stand for this one
    done = run(page, size, milliseconds, f"--screenshot={picture}")
    assert picture.is_file(), done.stderr
    return np.asarray(Image.open(picture).convert("RGB"))


def run(page: Path, size: tuple[int, int], milliseconds: int, wanted: str) -> subprocess.CompletedProcess[str]:
    """What becomes of the browser when it shows a page for some time of the page's own, and then does what is wanted.

    Chromium sometimes hangs or fails with such time and WebGL drawn by the processor, so it is begun anew, twice.
    """
    assert BROWSER is not None
    for attempt in range(3):
        profile = page.with_suffix(f".profile{attempt}")
        command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
        command += [f"--virtual-time-budget={milliseconds}", wanted, page.as_uri()]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as browser:
            try:
                out, errors = browser.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(browser.pid, signal.SIGKILL)  # its helpers hold the pipes
                continue
        if browser.returncode == 0 or attempt == 2:
            return subprocess.CompletedProcess(command, browser.returncode, out, errors)
    pytest.fail(f"{page.name}: Chromium hung three times for {PATIENCE:g} s")
