"""One method under one named protocol, from its name."""

from typing import TYPE_CHECKING, Any

from ..hub import load

if TYPE_CHECKING:
    from ..generators.base import Generator
    from .depth import Predictor, Row


def evaluate(model: "str | Generator | Predictor", benchmark: str = "heads", **options: Any) -> dict[str, Any]:
    """Score one method under a named protocol.

    Args:
        model: any name that `load` takes, a baseline (`constant`, `average`, `supervised`), a generator, or a function
            from images (N, 3, S, S) in [-1, 1] to depth (N, 1, S, S).
        benchmark: "heads" or "bfm".
        options: see `zoo.evaluation.depth.evaluate`.

    Returns:
        The row of the table: `SIDE` in units of 1e-2, `MAD` in degrees, `n`, `protocol` and the rest.
    """
    return score(model, benchmark, **options).figures()


def score(model: "str | Generator | Predictor", benchmark: str = "heads", **options: Any) -> "Row":
    """As `evaluate`, with the row itself."""
    from .depth import BASELINES
    from .depth import evaluate as run

    named = isinstance(model, str) and model not in BASELINES
    subject = load(model) if named else model  # type: ignore[arg-type]
    if isinstance(model, str):
        options.setdefault("name", model)
    return run(subject, benchmark, **options)
