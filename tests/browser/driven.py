"""A page in headless Chromium that a test uses as a person would, over Chromium's DevTools protocol.

Pages run in real time, and tests wait for what they look for. Chromium's own screenshots after some virtual time came
before slow frames on a busy machine, or never.
"""

import base64
import io
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")
PATIENCE = 240.0  # seconds; the machine may be busy
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


class Tab:
    """One tab of the browser.

    Args:
        socket: A connection to the tab's own address.
    """

    def __init__(self, socket: Any) -> None:
        self._socket, self._numbers = socket, itertools.count(1)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:  # events come in between
            answer = json.loads(self._socket.recv(timeout=PATIENCE))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def run(self, script: str) -> Any:
        """What JavaScript gives."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self) -> str:
        """All that is to be read on the page."""
        return str(self.run("document.body?.innerText ?? ''"))

    def click(self, label: str) -> None:
        """Press the button with this label."""
        found = f"[...document.querySelectorAll('button')].find(b => b.innerText.trim() === {json.dumps(label)})"
        self.run(f"{found}.click()")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at one place, move it to another, and let go."""
        places = [(start[0] + (end[0] - start[0]) * i / 8, start[1] + (end[1] - start[1]) * i / 8) for i in range(9)]
        kinds = ["mousePressed", *["mouseMoved"] * 7, "mouseReleased"]
        for kind, (x, y) in zip(kinds, places, strict=True):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
            time.sleep(0.03)

    def give(self, file: Path) -> None:
        """Choose a file in the page's only place for files."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def picture(self) -> np.ndarray:
        """(H, W, 3) uint8, the page as it looks now."""
        png = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@contextmanager
def browsing(url: str, folder: Path, size: tuple[int, int] = (1200, 760)) -> Iterator[Tab]:
    """A tab that shows a page; what it downloads goes to the folder."""
    client = pytest.importorskip("websockets.sync.client", reason="pip install 'zoo3d[view]'")
    assert BROWSER is not None
    profile = folder / "profile"
    folder.mkdir(exist_ok=True)
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
    command += ["--remote-debugging-port=0", "--remote-allow-origins=*", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        told = profile / "DevToolsActivePort"
        until(told.is_file)
        until(lambda: "\n" in told.read_text())
        port = told.read_text().split()[0]
        pages = json.loads(urlopen(f"http://127.0.0.1:{port}/json/list").read())
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        with client.connect(address, max_size=None) as socket:
            tab = Tab(socket)
            tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
            tab.call("Page.navigate", url=url)
            until(lambda: tab.run("location.href !== 'about:blank' && document.readyState") == "complete")
            yield tab
    finally:
        browser.terminate()
        try:
            browser.wait(30)
        except subprocess.TimeoutExpired:  # on a busy machine; the test has seen what it came for
            browser.kill()
            browser.wait()


def until(happened: Callable[[], object]) -> None:
    """Wait until something is true; fail after much time."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
