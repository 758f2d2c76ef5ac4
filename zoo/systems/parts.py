"""Which share of the time each part of a training step takes: waiting for data, D, G, and what stands beside them."""

import time
from typing import TypeAlias

import torch

_Mark: TypeAlias = "float | torch.cuda.Event"


class Parts:
    """A clock with laps. On a GPU it notes events in the device's own queue, so that no lap waits for the device."""

    def __init__(self) -> None:
        self._laps: list[tuple[str, _Mark, _Mark]] = []
        self._last: _Mark | None = None

    def resume(self, device: torch.device) -> None:
        """Start the clock here; the time since the last lap belongs to no part."""
        self._last = _mark(device)

    def lap(self, part: str, device: torch.device) -> None:
        """Count the time since the last lap as that of `part`; the first lap of all starts the clock."""
        now = _mark(device)
        if self._last is not None:
            self._laps.append((part, self._last, now))
        self._last = now

    def shares(self) -> dict[str, float]:
        """The share of each part since the last call, from 0 to 1. It waits for the device."""
        seconds: dict[str, float] = {}
        for part, start, end in self._laps:
            seconds[part] = seconds.get(part, 0.0) + _between(start, end)
        self._laps.clear()
        total = sum(seconds.values())
        return {part: value / total for part, value in seconds.items()} if total > 0 else {}


def shown(shares: dict[str, float]) -> str:
    """Shares as a progress line has them: "data 2 %, G 60 %, D 30 %, rest 8 %"."""
    return ", ".join(f"{part} {100 * share:.0f} %" for part, share in shares.items())


def _mark(device: torch.device) -> _Mark:
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def _between(start: _Mark, end: _Mark) -> float:
    """Seconds."""
    if isinstance(start, float) or isinstance(end, float):
        assert isinstance(start, float)
        assert isinstance(end, float)
        return end - start
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000
