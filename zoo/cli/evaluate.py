"""Commands that score: eval, compare."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import hub, registry
from ..errors import ConfigError
from .options import Json, watched

Benchmark = Annotated[str, typer.Option(help="heads (embedded) or bfm (needs data.root=DIR).")]
Comparison = Annotated[
    str,
    typer.Option(
        help="heads (embedded), bfm (needs data.root=DIR), identity (needs zoo3d[identity]), or instances (of zoo run)."
    ),
]
_OF_RUNS = ("identity", "instances")
_Compared = tuple[Any, Callable[[Any], Any], Callable[[Any, Path], Path]]  # result, its table, its report
Quick = Annotated[bool, typer.Option("--quick", help="Fewer images and steps: a look in seconds, under its own name.")]


def evaluate(
    name: Annotated[str, typer.Argument(help="What zoo.load takes, or constant, average, supervised.")],
    settings: Annotated[list[str] | None, typer.Argument(help="data.root=DIR, n_test=N, n_pairs=N")] = None,
    benchmark: Benchmark = "heads",
    quick: Quick = False,
    seed: Annotated[int, typer.Option(help="Order and weights of the probe.")] = 0,
    as_json: Json = False,
) -> None:
    """Score one method: SIDE (depth, x 1e-2) and MAD (normals, degrees).

    Example: zoo eval shadegan --benchmark heads
    """
    from ..evaluation.report import text_table
    from ..evaluation.scores import score

    row = score(name, benchmark, quick=quick, seed=seed, progress=watched(as_json), **_settings(settings or []))
    if as_json:
        typer.echo(json.dumps(row.figures()))
    else:
        _print(text_table([row]))


def compare(
    names: Annotated[
        list[str] | None, typer.Argument(help="What zoo.load takes, folders of zoo run; data.root=DIR. Default: all.")
    ] = None,
    benchmark: Comparison = "heads",
    quick: Quick = False,
    seed: Annotated[int, typer.Option(help="Order and weights of the probes.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="HTML report; compare-<benchmark>.html, or none with --json.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare methods and baselines under one protocol: a table and an HTML report.

    Ctrl-C ends it with the rows that are finished.

    \b
    Examples:
      zoo compare
      zoo compare shadegan pigan --benchmark bfm data.root=/data/synface --out bfm.html
      zoo compare shadegan stylegan2 runs/heads --benchmark identity --quick
      zoo compare runs/heads runs/flat unsup3d --benchmark instances
    """
    from ..fitting.runs import is_run

    given = names or []
    settings = _settings([g for g in given if "=" in g])
    chosen = [g for g in given if "=" not in g]
    runs, others = [g for g in chosen if is_run(g)], [g for g in chosen if not is_run(g)]
    if runs and benchmark not in _OF_RUNS:
        raise ConfigError(f"{runs[0]}: a folder of zoo run; add --benchmark instances, or identity")
    others = others if chosen else registry.list_models(pretrained=True)
    if benchmark == "instances":
        result, table, write = _instances(runs, others, settings, quick, watched(as_json))
    elif benchmark == "identity":
        result, table, write = _identity(runs, others, settings, quick, seed, watched(as_json))
    else:
        from ..evaluation.comparison import compare as run
        from ..evaluation.report import text_table, write_report

        models = {name: hub.load(name) for name in others}
        if not chosen:
            models = {name: model for name, model in models.items() if model.is_3d}  # a picture has no depth to score
        result = run(models, benchmark, quick=quick, seed=seed, progress=watched(as_json), **settings)
        table, write = text_table, write_report
    if as_json:
        typer.echo(json.dumps([row.figures() for row in result.rows]))
    else:
        _print(table(result.rows))
    if out or not as_json:
        path = write(result, out or Path(f"compare-{benchmark}.html"))
        typer.echo(f"report: {path}", err=True)
    if not result.complete:
        raise typer.Exit(130)  # as a shell expects of a program that Ctrl-C has ended


def _identity(
    runs: list[str], others: list[str], settings: dict[str, Any], quick: bool, seed: int, progress: bool
) -> _Compared:
    from ..evaluation.identity import IdentityProtocol, compare_identity
    from ..evaluation.identity_report import identity_table, write_identity_report
    from ..evaluation.turners import turners_of_run
    from ..fitting.runs import labels, read_run

    if settings:
        raise typer.BadParameter("the benchmark identity takes no settings; --quick is its short form")
    models: dict[str, Any] = {name: hub.load(name) for name in others}
    finished = [read_run(name) for name in runs]
    for label, run in zip(labels(finished), finished, strict=True):
        method = "GAN2Shape" if len(runs) == 1 else f"GAN2Shape {label}"
        for how, turner in turners_of_run(run, IdentityProtocol.of(quick).faces).items():
            models[f"{method} ({how})"] = turner
    return compare_identity(models, quick=quick, seed=seed, progress=progress), identity_table, write_identity_report


def _instances(runs: list[str], others: list[str], settings: dict[str, Any], quick: bool, progress: bool) -> _Compared:
    from ..evaluation.instance_report import instance_table, write_instance_report
    from ..evaluation.instances import compare_instances
    from ..fitting.runs import read_run

    if not runs:
        raise typer.BadParameter("the benchmark instances needs a folder that zoo run has written")
    if set(settings) - {"n_pairs"}:
        raise typer.BadParameter("the benchmark instances takes n_pairs=N alone")
    finished, models = [read_run(name) for name in runs], {name: hub.load(name) for name in others}
    result = compare_instances(finished, models, quick=quick, progress=progress, **settings)
    return result, instance_table, write_instance_report


def _settings(given: list[str]) -> dict[str, Any]:
    """`data.root=DIR n_test=50` as keyword arguments of the evaluation."""
    known = {"data.root": ("data_root", str), "n_test": ("n_test", int), "n_pairs": ("n_pairs", int)}
    out = {}
    for setting in given:
        key, _, value = setting.partition("=")
        if key not in known:
            raise typer.BadParameter(f"unknown setting {setting!r}; known: {', '.join(known)}")
        name, kind = known[key]
        try:
            out[name] = kind(value)
        except ValueError:
            raise typer.BadParameter(f"{setting!r}: {value!r} is not a whole number") from None
    return out


def _print(table: Any) -> None:
    from rich.console import Console

    # Piped output has no width; a table must not be cut to 80 columns there.
    Console(width=None if sys.stdout.isatty() else 160).print(table)
