"""Kill trainings, fits and comparisons at bad moments, go on with the same command, and see what is left.

    python -m tests.campaigns.kill [--runs N] [--seed S] [--minutes M] [--short]

prints a table: per campaign its runs, kills, corrupt results, lost images (beyond one checkpoint interval), repairs by
hand, and whether the final state is that of the uninterrupted run bit for bit.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.campaigns.children import import_all, run
from tests.campaigns.commands import comparisons, fits
from tests.campaigns.table import Field, Row
from tests.campaigns.trainings import (
    GOAL,
    train_damaged,
    train_elsewhere,
    train_full,
    train_moments,
    train_nan,
    train_rank,
    train_two,
    train_writes,
    training,
)

CAMPAIGNS: list[Callable[[Field, Path], Row]] = [
    train_writes, train_moments, train_elsewhere, train_damaged, train_nan, train_full, train_two, train_rank, fits,
    comparisons,
]  # fmt: skip
SHORT = [train_writes, train_damaged, train_nan, train_two]


def campaign(rounds: int, seed: int, minutes: float, which: list[Callable[[Field, Path], Row]]) -> list[Row]:
    """Run campaigns with about `rounds` kills each, in at most `minutes` together, and print their table."""
    import_all()
    until = time.monotonic() + 60 * minutes
    rows = []
    with tempfile.TemporaryDirectory(prefix="kill") as place:
        reference = Path(place) / "reference"
        ended = run(training(reference))
        assert ended.code == 0, ended.said
        print(f"seed {seed}; a training of {GOAL} images writes {ended.writes} times", flush=True)
        for number, one in enumerate(which):
            share = (until - time.monotonic()) / (len(which) - number)
            field = Field(Path(place), random.Random(f"{seed} {one.__name__}"), rounds, time.monotonic() + share)
            row = one(field, reference)
            rows.append(row)
            print(" | ".join(row.cells()), *row.notes[:5], sep="\n    ", flush=True)
    total = Row("total", *(sum(getattr(r, k) for r in rows) for k in ("runs", "kills", "corrupt", "lost", "repairs")))
    total.exact = all(r.exact is not False for r in rows)
    print("\n| campaign | runs | kills | corrupt | lost | repairs | bit-exact |\n|---|---|---|---|---|---|---|")
    for row in [*rows, total]:
        print(f"| {' | '.join(row.cells())} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=16, help="kills in each campaign, about")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--short", action="store_true", help="the campaigns and the size that tests take")
    given = parser.parse_args()
    if given.short:
        rows = campaign(2, given.seed, 1, SHORT)
    else:
        rows = campaign(given.runs, given.seed, given.minutes, CAMPAIGNS)
    sys.exit(any(row.failed() for row in rows))


if __name__ == "__main__":
    main()
