"""Pages as people see them: headless Chromium draws them into a picture."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")
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
    assert BROWSER is not None
    picture, profile = page.with_suffix(".png"), page.with_suffix(".profile")
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
    command += [f"--virtual-time-budget={milliseconds}", f"--screenshot={picture}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert picture.is_file(), done.stderr
    return np.asarray(Image.open(picture).convert("RGB"))
