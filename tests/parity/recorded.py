"""Reading the numbers that were recorded from the published code, and comparing with them."""

import json
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn


class Recorded:
    """One .npz fixture: `weights/<key>`, `in/<name>`, `out/<name>`, `check/...`, `meta/<name>` (JSON)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.path) as file:
            return {key: file[key] for key in file.files}

    def meta(self, name: str) -> Any:
        return json.loads(self.arrays[f"meta/{name}"].tobytes().decode())

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(self.arrays[key].copy())

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """All arrays under `prefix`, the prefix removed, in the order of the file."""
        return {key.removeprefix(prefix): self.tensor(key) for key in self.arrays if key.startswith(prefix)}

    def outputs(self, pattern: str = ".*") -> list[str]:
        """Names of the `out/` arrays that match a regular expression from start to end."""
        names = [key.removeprefix("out/") for key in self.arrays if key.startswith("out/")]
        return [name for name in names if re.fullmatch(pattern, name)]

    def recipe_state(self, entries: list[list[Any]], check: str) -> dict[str, Tensor]:
        """Weights of a recipe `[[key, shape, fan, kind], ...]`, verified by the sums in `<check><key>`."""
        state = {key: recipe_values(shape, i, fan, kind) for i, (key, shape, fan, kind) in enumerate(entries)}
        for key, value in state.items():
            flat = value.double().flatten()
            sums = np.array([flat.sum(), flat.abs().sum(), flat[0], flat[-1]])
            np.testing.assert_allclose(sums, self.arrays[check + key], rtol=1e-4, atol=1e-3, err_msg=key)
        return state


def recipe_values(shape: list[int], index: int, fan: float, kind: str) -> Tensor:
    """Generated instead of stored: parameter number `index` of a network, float32.

    kind: "bias", "norm_w" (scale of a norm layer) or "w" (variance 2 / fan).
    """
    j = np.arange(int(np.prod(shape)), dtype=np.float64)
    t = np.sin(12.9898 * (j + 1) + 78.233 * (index + 1)) * 43758.5453
    v = (2 * (t - np.floor(t)) - 1) * np.sqrt(3)
    values = {"bias": 0.05 * v, "norm_w": 1 + 0.1 * v, "w": v * np.sqrt(2 / fan)}[kind]
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def load_strict(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load weights that must fit exactly: names, shapes and order (official EMA files are plain lists)."""
    ours = [(key, tuple(value.shape)) for key, value in module.state_dict().items()]
    assert ours == [(key, tuple(value.shape)) for key, value in state.items()]
    module.load_state_dict(state)
    module.eval()


class Comparison:
    """Compares results with the recorded outputs of one file; as a context, it reports all deviations."""

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self.worst: dict[str, float] = {}
        self.failures: list[str] = []

    def check(self, name: str, ours: Tensor | np.ndarray, *, atol: float = 0.0, rtol: float = 0.0) -> None:
        """`out/<name>` must be met to `atol` plus `rtol` times its largest magnitude; shapes must agree."""
        theirs = self.recorded.arrays[f"out/{name}"].astype(np.float64)
        got = np.asarray(ours.detach().cpu() if isinstance(ours, Tensor) else ours, dtype=np.float64)
        if got.shape != theirs.shape:
            self.failures.append(f"{name}: shape {got.shape}, recorded {theirs.shape}")
            self.worst[name] = float("nan")
            return
        self.worst[name] = float(np.abs(got - theirs).max(initial=0.0))
        limit = atol + rtol * float(np.abs(theirs).max(initial=0.0))
        if not self.worst[name] <= limit:  # NaN fails too
            self.failures.append(f"{name}: off by {self.worst[name]:.3g}, tolerance {limit:.3g}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name, value in self.worst.items():
            print(f"{name}: {value:.3g}")
        if kind is None:
            assert not self.failures, "\n".join(self.failures)


Part = Callable[[Recorded, Comparison], None]


def run_part(recorded: Recorded, pattern: str, part: Part) -> None:
    """Run one group of comparisons and insist that it met every `out/` array that matches `pattern`."""
    with Comparison(recorded) as comparison:
        part(recorded, comparison)
        assert set(comparison.worst) == set(recorded.outputs(pattern))


def assert_covered(recorded: Recorded, patterns: list[str]) -> None:
    """Every recorded output belongs to exactly one group."""
    counts = {name: sum(bool(re.fullmatch(p, name)) for p in patterns) for name in recorded.outputs()}
    assert not {name: n for name, n in counts.items() if n != 1}
