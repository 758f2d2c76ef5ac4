"""Where the parity fixtures come from.

`ZOO_PARITY_DIR` names another folder with files of the same kind: sizes, names and batch sizes come from the
files.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for `recorded`, whatever pytest's import mode


@pytest.fixture(scope="session")
def parity_file() -> Callable[[str], Path]:
    """Path of a fixture file. Fails the test, rather than skipping it, when the file is missing."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("ZOO_PARITY_DIR") or Path(__file__).parent / "fixtures")
        if not (folder / name).is_file():
            pytest.fail(f"parity fixture {name} is missing in {folder}: restore it or correct ZOO_PARITY_DIR")
        return folder / name

    return find


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """These tensors are small: more threads would only slow them down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
