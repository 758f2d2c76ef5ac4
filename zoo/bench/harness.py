"""How all benches measure: ways to do the same work take turns; medians with quartiles; what a row has to say."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

Say = Callable[[str], None]
Call = Callable[[], object]
ROUNDS, LEAST = 9, 3  # turns of each way; the fewest when they take long


@dataclass(frozen=True)
class Spread:
    """Seconds of some turns: the median and the quartiles."""

    median: float
    low: float
    high: float
    turns: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Spread":
        """Raises ValueError where there is nothing to summarise."""
        if not seconds:
            raise ValueError("no turn was measured; allow more seconds")
        low, middle, high = (
            statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 3
        )
        return cls(middle, low, high, len(seconds))


@dataclass(frozen=True)
class Work:
    """Something that is done in several ways, and what it takes at least.

    Attributes:
        name: What is done, in words.
        make: Makes the calls, by name: "zoo" first, then those it is compared with. It runs before the clock does, and
            each call has the same result whichever way it is done.
        flops: Floating-point operations of its matrix products; 0: not counted.
        sines: Of its sines and cosines.
        width: Of its matrix products, which the machine's limit is measured for.
        images: Pictures that one call makes, or learns from.
        ways: The names of the calls, for those who do not make them.
    """

    name: str
    make: Callable[[], Mapping[str, Call]]
    flops: float = 0.0
    sines: float = 0.0
    width: int = 256
    images: int = 0
    ways: tuple[str, ...] = ("zoo", "reference")


@dataclass(frozen=True)
class Row:
    """A measurement.

    Attributes:
        case: What was done.
        zoo: Our seconds; None where only memory was measured.
        other: Whose are compared; "" if nobody's.
        theirs: Their seconds, from turns between ours.
        limit_s: Seconds of the matrix products or of the sines alone at this machine's speed, whichever is more.
        images: Pictures in one turn.
        memory_mb: Peak memory of our process above what it had before the first call, in MiB.
        their_memory_mb: The other's; infinite where it did not fit.
        parts: Share of our time by part, if it was noted.
    """

    case: str
    zoo: Spread | None = None
    other: str = ""
    theirs: Spread | None = None
    limit_s: float | None = None
    images: int = 0
    memory_mb: float | None = None
    their_memory_mb: float | None = None
    parts: Mapping[str, float] | None = None

    @property
    def ratio(self) -> float | None:
        """How many times faster ours is."""
        return self.theirs.median / self.zoo.median if self.theirs and self.zoo else None

    @property
    def share(self) -> float | None:
        """Our speed as a share of the limit."""
        return self.limit_s / self.zoo.median if self.limit_s and self.zoo else None

    @property
    def images_per_s(self) -> float | None:
        """Pictures made, or learnt from, in a second."""
        return self.images / self.zoo.median if self.images and self.zoo else None

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; absent figures are None."""
        whole = {key: "does not fit" if value == math.inf else value for key, value in asdict(self).items()}
        return whole | {"ratio": self.ratio, "share": self.share, "images_per_s": self.images_per_s}


def ready() -> None:
    """Wait until a GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def interleaved(calls: Mapping[str, Call], rounds: int = ROUNDS, seconds: float = 60.0) -> dict[str, Spread]:
    """Time calls in turn, so that what else the machine does meets all of them alike. The first turn is not counted.

    Args:
        calls: What to time, by name.
        rounds: Turns of each.
        seconds: No further round starts after so long, once there are three; a single one if even that is too long.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for number in range(rounds + 1):
        used = time.perf_counter() - start
        if number > 1 and used > seconds * (1 if number > LEAST else 3):
            break
        for name, call in calls.items():
            ready()
            began = time.perf_counter()
            call()
            ready()
            if number:
                taken[name].append(time.perf_counter() - began)
    return {name: Spread.of(values) for name, values in taken.items()}
