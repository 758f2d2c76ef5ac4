"""The short form of the kill campaigns; docs/reliability.md has the whole table."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_killed_trainings_go_on_to_the_same_bits() -> None:
    """In a process of its own, whose children are forked before torch has threads."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaigns.kill", "--short"],
        cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    total = next(line for line in done.stdout.splitlines() if line.startswith("| total"))
    runs, kills, corrupt, lost, repairs, exact = (cell.strip() for cell in total.split("|")[2:-1])
    assert int(runs) > int(kills) >= 2
    assert (corrupt, lost, repairs, exact) == ("0", "0", "0", "yes")
