"""What campaigns share: where and how long they run, and the row that each of them fills."""

import random
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Row:
    """What a campaign found; `exact` is None where no bits are compared."""

    name: str
    runs: int = 0
    kills: int = 0
    corrupt: int = 0
    lost: int = 0
    repairs: int = 0
    exact: bool | None = None
    notes: list[str] = field(default_factory=list)

    def failed(self) -> bool:
        return bool(self.corrupt or self.lost or self.repairs) or self.exact is False

    def cells(self) -> list[str]:
        exact = {True: "yes", False: "NO", None: "-"}[self.exact]
        return [self.name, *map(str, (self.runs, self.kills, self.corrupt, self.lost, self.repairs)), exact]


@dataclass
class Field:
    """What all campaigns share."""

    place: Path
    source: random.Random
    rounds: int
    until: float

    def going(self) -> bool:
        return time.monotonic() < self.until
