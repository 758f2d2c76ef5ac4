"""The short form of the campaign: see `tests/campaigns/hostile.py`."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_damaged_files_end_in_one_line_or_are_read() -> None:
    command = [sys.executable, "-m", "tests.campaigns.hostile", "--cases", "600", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "| all | " in done.stdout
