"""Several methods under one protocol, with the pictures that go with the figures."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from ..generators.base import Generator
from ..output.strips import Sheet, model_sheets, test_sheet
from ..runtime.progress import keeping
from .depth import BASELINES, Benchmark, Predictor, Protocol, Row, Subject, protocol


@dataclass(frozen=True)
class Comparison:
    """What a report shows.

    Attributes:
        protocol: the rules that all rows share.
        rows: baselines first, then models, in the order given.
        sheets: pictures of every row, by its name.
        command: how to repeat it.
        complete: False after Ctrl-C, which keeps the rows that were finished.
    """

    protocol: Protocol
    rows: list[Row]
    sheets: dict[str, list[Sheet]]
    command: str
    complete: bool = True


def compare(
    models: Mapping[str, Generator | Predictor],
    benchmark: str = "heads",
    *,
    baselines: Sequence[str] = BASELINES,
    data_root: str | Path | None = None,
    quick: bool = False,
    n_test: int | None = None,
    n_pairs: int | None = None,
    seed: int = 0,
    progress: bool = True,
    command: str | None = None,
) -> Comparison:
    """Score baselines and models on the same test images, and picture them. Ctrl-C keeps the rows that are finished.

    Args:
        models: row name -> generator or predictor.
        benchmark, data_root, quick, n_test, n_pairs, seed, progress: see `evaluate`.
        baselines: which of "constant", "average", "supervised" to add.
        command: what the report calls the way to repeat it; by default this process's command line.

    Raises:
        ConfigError: unknown benchmark or baseline, a model named like a baseline or without depth, `bfm` without a
            `data_root`.
    """
    if taken := set(models) & set(BASELINES):
        raise ConfigError(f"{', '.join(sorted(taken))}: the name of a baseline; give the model another")
    for model in models.values():
        if isinstance(model, Generator):
            model.need_3d("depth to score")
    rules = protocol(benchmark, quick=quick, n_test=n_test, n_pairs=n_pairs)
    opened = Benchmark.open(rules, data_root=data_root, seed=seed)
    subjects: dict[str, Subject] = {name: name for name in baselines} | dict(models)
    rows: list[Row] = []
    sheets = {}
    shown = opened.test[:8]
    true_normals = opened.normals(shown.depth)
    with keeping(rows, len(subjects)):
        for name, subject in subjects.items():
            row, depth = opened.row(name, subject, progress=progress)
            pictures = [test_sheet(shown, depth[:8], true_normals, opened.normals(depth[:8]))]
            if isinstance(subject, Generator):
                pictures = model_sheets(subject, size=rules.size) + pictures
            sheets[name] = pictures
            rows.append(row)
    command = command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return Comparison(rules, rows, sheets, command, complete=len(rows) == len(subjects))
