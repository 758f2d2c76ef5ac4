"""How speed and memory grow: with the side of images, batch, samples, width, size of the mesh, and threads."""

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ..errors import ZooError
from ..geometry import Light
from ..renderers.fields.volume import Sampling
from ..weights.build import build
from .harness import Say, Spread, interleaved
from .peak import alone, growth

PASSES = 3
FIELD = {"hidden_dim": 64, "layers": 3, "z_dim": 64, "mapping_dim": 128, "inference_steps": 0}


@dataclass(frozen=True)
class Point:
    """A setting of a sweep, and what was found.

    Attributes:
        axis: What changes, in words.
        method: "shadegan" (pictures with normals) or "meshgan".
        value: What it is set to.
        size: Side of the images in pixels.
        batch: Images at once.
        samples: On each ray, half of them where the first half found density.
        width: Of the field.
        mesh: Vertices along a side of the folded mesh.
        threads: Of the CPU.
        seconds: Of one batch without gradients; None until it is measured.
        memory_mb: Peak memory above that before, MiB.
    """

    axis: str
    method: str
    value: int
    size: int = 64
    batch: int = 1
    samples: int = 24
    width: int = 64
    mesh: int = 32
    threads: int = 1
    seconds: float | None = None
    memory_mb: float | None = None

    @property
    def images_per_s(self) -> float | None:
        """Pictures in a second; None until it is measured."""
        return self.batch / self.seconds if self.seconds else None


def sweep() -> list[Point]:
    """All points: each axis alone, the others at 64 px, 1 image, 24 samples, width 64, 32 vertices, all threads."""
    n = torch.get_num_threads()
    threads = sorted({1, *(2**k for k in range(1, 8) if 2**k < n), n})
    points = [Point("image side, px", "shadegan", v, size=v, threads=n) for v in (32, 64, 128, 256)]
    points += [Point("image side, px", "meshgan", v, size=v, threads=n) for v in (32, 64, 128, 256)]
    points += [Point("batch", "shadegan", v, batch=v, threads=n) for v in (1, 2, 4, 8)]
    points += [Point("batch", "meshgan", v, batch=v, threads=n) for v in (1, 4, 16)]
    points += [Point("samples on a ray", "shadegan", v, samples=v, threads=n) for v in (6, 12, 24, 48)]
    points += [Point("width of the field", "shadegan", v, width=v, threads=n) for v in (32, 64, 128, 256)]
    points += [Point("vertices along the mesh", "meshgan", v, mesh=v, threads=n) for v in (16, 32, 64, 128)]
    return points + [Point("threads", method, v, threads=v) for method in ("shadegan", "meshgan") for v in threads]


def measure(
    points: Sequence[Point], device: str = "cpu", seconds: float = 900.0, say: Say = lambda _: None
) -> list[Point]:
    """Measure points in processes of their own, pass after pass, until the seconds are over.

    A setting that several axes share is measured once in a pass. Times are medians and memory the most of all passes,
    so that a machine that is slower for a minute bends no curve. A point that failed, or that no time was left for,
    stays empty; why is said.
    """
    end = time.monotonic() + seconds
    found: dict[Point, list[Point]] = {_setting(point): [] for point in points}
    for number in range(PASSES):
        for begun, (setting, measured) in enumerate(found.items()):
            if time.monotonic() >= end:
                if number == 0:
                    say(f"left out, as {seconds:g} seconds are over: {len(found) - begun} of {len(found)} settings")
                break
            say(f"pass {number + 1} of {PASSES}: {setting.method}, {_words(setting)}")
            try:
                measured.append(_apart(setting, device))
            except (MemoryError, ZooError) as error:
                say(f"left out: {error}")
    return [_together(point, found[_setting(point)]) for point in points]


def _setting(point: Point) -> Point:
    return replace(point, axis="", value=0)


def _words(point: Point) -> str:
    own = f"{point.samples} samples, width {point.width}" if point.method == "shadegan" else f"mesh {point.mesh}"
    return f"{point.size} px, batch {point.batch}, {own}, {point.threads} threads"


def _apart(setting: Point, device: str) -> Point:
    return Point(**alone("scaling", json.dumps(asdict(setting)), device, threads=setting.threads))


def _together(point: Point, found: Sequence[Point]) -> Point:
    memory = [each.memory_mb for each in found if each.memory_mb is not None]
    seconds = [each.seconds for each in found if each.seconds is not None]
    return replace(point, seconds=statistics.median(seconds) if seconds else None, memory_mb=max(memory, default=None))


def once(point: Point, device: str) -> Point:
    """Measure a point in this process."""
    call = _call(point, device)
    memory = growth(call, device)
    spread: Spread = interleaved({"zoo": call}, 5, 10.0)["zoo"]
    return replace(point, seconds=spread.median, memory_mb=memory)


def _call(point: Point, device: str) -> Any:
    options: dict[str, int] = FIELD | {"hidden_dim": point.width}
    sampling: Sampling | None = Sampling(point.samples // 2, point.samples - point.samples // 2)
    if point.method == "meshgan":
        sampling, options = None, {"mesh_n": point.mesh, "channel_base": 1024, "channel_max": 64, "map_size": 64}
    g: Any = build(point.method, **options).to(device).eval().requires_grad_(False)
    latents, camera = g.latents(point.batch, seed=0), g.cameras(point.batch, seed=0, size=point.size)
    light: Light | None = g.lights(point.batch, seed=0) if g.uses_light else None

    def call() -> object:
        with torch.no_grad():
            return g(latents, camera, light, sampling)

    return call


if __name__ == "__main__":
    print(json.dumps(asdict(once(Point(**json.loads(sys.argv[1])), sys.argv[2]))))
