"""How long a new process takes from nothing to its first picture, against the import of torch alone."""

import os
import subprocess
import sys
import tempfile

from .harness import Call, Work

_PICTURE = (
    "import zoo; g = zoo.load({name!r}, device={device!r}); g(g.latents(1, seed=0), g.camera(size=64)).rgb.sum().item()"
)
NAMES = ("shadegan", "meshgan")


def works(device: str) -> list[Work]:
    """A process that has compiled before, and one that has not; files are in the system's cache in both."""
    works = []
    for name in NAMES:
        script = _PICTURE.format(name=name, device=device)
        for state in ("", ", nothing compiled yet"):
            works.append(_process(f"zoo.load({name!r}) to the first picture, 64 px{state}", script, fresh=bool(state)))
    return works


def _process(name: str, script: str, fresh: bool) -> Work:
    def call(code: str) -> Call:
        def run() -> None:
            with tempfile.TemporaryDirectory(prefix="zoo-bench-") as folder:
                own = {"NUMBA_CACHE_DIR": folder, "TORCHINDUCTOR_CACHE_DIR": folder} if fresh else {}
                subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=os.environ | own)

        return run

    return Work(name, lambda: {"zoo": call(script), "import torch": call("import torch")}, images=1)
