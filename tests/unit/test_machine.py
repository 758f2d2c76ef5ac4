"""What the machine is called."""

from pathlib import Path

import pytest
import torch

from zoo.runtime import machine


def test_the_processor_is_named_with_its_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Some CPU 9000\nmodel name\t: Some CPU 9000\n", "utf-8")
    monkeypatch.setattr(machine, "_INFO", info)
    assert machine.processor() == f"Some CPU 9000, {torch.backends.cpu.get_cpu_capability()}"
    monkeypatch.setattr(machine, "_INFO", tmp_path / "nowhere")  # as on macOS and Windows
    name, _, vectors = machine.processor().partition(", ")
    assert name
    assert vectors
