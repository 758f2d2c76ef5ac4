"""From names to what benchmarks measure, and the figures of one of them."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import registry
from ..errors import ConfigError
from ..hub import load
from ..weights.cards import CONFIG
from ..weights.places import locate

if TYPE_CHECKING:
    from ..generators.base import Generator
    from .benchmark import Benchmark, Row, Subject


def evaluate(
    model: "Subject", benchmark: str = "heads_v2", *, name: str | None = None, **options: Any
) -> dict[str, Any]:
    """Score one method under a named protocol.

    Args:
        model: Any name that `load` takes, a baseline of the benchmark (`constant`, `average`, `supervised`), a
            generator, or a function from images (N, 3, S, S) in [-1, 1] to depth (N, 1, S, S).
        benchmark: For example "heads_v2", or "bfm" with a `data_root`; `zoo compare --help` lists them all.
        name: What the row is called; by default the name of the model, its class or the function.
        options: `quick`, `seed`, `progress` and the settings of the benchmark, as `zoo.evaluation.comparison.compare`
            takes them.

    Returns:
        The row of the table: `SIDE` in units of 1e-2, `MAD` in degrees, `n`, `protocol` and the rest.

    Raises:
        ConfigError: The benchmark, a setting or the model is unknown, or the model cannot be measured by it.
    """
    return score(model, benchmark, name=name, **options)[1].as_dict()


def score(
    model: "Subject", benchmark: str = "heads_v2", *, name: str | None = None, **options: Any
) -> "tuple[Benchmark, Row]":
    """Score one method as `evaluate` does, but give the row itself, and the benchmark that knows how to show it."""
    from . import benchmarks
    from .comparison import measure

    if isinstance(model, str) and model not in benchmarks.find(benchmark).baselines:
        ((own, subject),) = named([model], benchmark).items()
    else:
        own, subject = model if isinstance(model, str) else getattr(model, "__name__", type(model).__name__), model
    return measure(name or own, subject, benchmark, **options)


def named(names: Sequence[str], benchmark: str) -> "dict[str, Subject]":
    """Load what names stand for; the result maps row names to subjects.

    Args:
        names: What `load` takes, and folders of `zoo run` where the benchmark takes them; none at all stands for all
            trained weights that suit the benchmark.
        benchmark: A name of `benchmarks.names`.

    Raises:
        ConfigError: A name is unknown, or two rows have the same name.
        WeightsError: Files are damaged.
    """
    from ..fitting.runs import is_run, labels, read_run
    from . import benchmarks

    kind = benchmarks.find(benchmark)
    folders = [name for name in names if is_run(name)]
    if folders and not kind.takes_runs:
        others = [other for other in benchmarks.names() if benchmarks.find(other).takes_runs]
        raise ConfigError(f"{folders[0]}: a folder of zoo run; add --benchmark {' or '.join(others)}")
    methods = [name for name in names if name not in folders]
    if not names:
        trained = registry.list_models(kind.weights, pretrained=True)
        methods = [name for name in trained if kind.suits(_method(name))]
    runs = [read_run(folder) for folder in folders]
    found: dict[str, Subject] = {name: load(name) for name in methods}
    for label, run in zip(labels(runs), runs, strict=True):
        if label in found:
            raise ConfigError(f"{label}: the name of two rows; rename the folder")
        found[label] = run
    return found


def _method(weights: str) -> "type[Generator]":
    """The class of weights, whose names may differ from the method's (`gof_shaded.heads32`)."""
    config = json.loads((locate(weights) / CONFIG).read_text("utf-8"))
    return registry.resolve(config["name"])
