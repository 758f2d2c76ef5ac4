"""Commands that score: `eval`, `compare`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..api import MAX_SEED
from ..errors import ConfigError
from ..evaluation import benchmarks
from ..resources import user_path
from .options import Json, watched

Benchmark = Annotated[str, typer.Option(help=f"{', '.join(benchmarks.names())}; see below.")]
GUIDE = f"\b\n{benchmarks.guide()}"  # below the help of both commands
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure again what is on disk from earlier.")]
Quick = Annotated[bool, typer.Option("--quick", help="Fewer images and steps: a look in seconds, under its own name.")]


def evaluate(
    name: Annotated[str, typer.Argument(help="What zoo.load takes, or a baseline, e.g. average, supervised.")],
    settings: Annotated[list[str] | None, typer.Argument(help="Settings of the benchmark, see below.")] = None,
    benchmark: Benchmark = "heads_v2",
    quick: Quick = False,
    seed: Annotated[
        int, typer.Option("--seed", "--seeds", help="Seed of latents, searches and probes.", max=MAX_SEED)
    ] = 0,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Score one method: by default its shapes and poses on the embedded heads.

    \b
    Examples:
      zoo eval shadegan
      zoo eval runs/mine --benchmark heads  # SIDE (depth, x 1e-2) and MAD (normals, degrees) alone, in minutes
    """
    from ..evaluation.report import text_table
    from ..evaluation.scores import score

    own = _settings(benchmark, settings or [])
    opened, row = score(name, benchmark, quick=quick, seed=seed, fresh=fresh, progress=watched(as_json), **own)
    if as_json:
        typer.echo(json.dumps(row.as_dict()))
    else:
        _print(text_table(opened, [row]))


def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="What zoo.load takes, folders of zoo run, and settings. Default: all weights that suit."),
    ] = None,
    benchmark: Benchmark = "heads_v2",
    quick: Quick = False,
    seed: Annotated[
        int, typer.Option("--seed", "--seeds", help="Seed of latents, searches and probes.", max=MAX_SEED)
    ] = 0,
    fresh: Fresh = False,
    jobs: Annotated[
        int, typer.Option(help="Processes that measure rows side by side; they share the CPU threads and GPUs.", min=1)
    ] = 1,
    out: Annotated[
        Path | None, typer.Option(help="HTML report. Default: compare-<benchmark>.html, or none with --json.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare methods and baselines under one protocol: a table and an HTML report.

    Rows are kept on disk as they are finished, and those of shipped weights come with zoo: what is there is not
    measured again, so a comparison that was ended or killed goes on where it was. A row that fails says why; the others
    go on, and the exit code is 1. With --jobs, each process needs the memory of one comparison.

    \b
    Examples:
      zoo compare
      zoo compare --jobs 2 --fresh
      zoo compare shadegan pigan --benchmark bfm data.root=/data/synface --out bfm.html
      zoo compare shadegan stylegan2 runs/heads --benchmark identity --quick
      zoo compare runs/heads runs/flat unsup3d --benchmark instances
    """
    from ..evaluation.comparison import compare as run
    from ..evaluation.report import text_table, write_report
    from ..evaluation.scores import named

    given = names or []
    own = _settings(benchmark, [g for g in given if _is_setting(g)])
    subjects = named([g for g in given if not _is_setting(g)], benchmark)
    result = run(subjects, benchmark, quick=quick, seed=seed, fresh=fresh, jobs=jobs, progress=watched(as_json), **own)
    if as_json:
        typer.echo(json.dumps([row.as_dict() for row in result.rows]))
    else:
        _print(text_table(result.benchmark, result.rows))
    if out or not as_json:
        path = write_report(result, out or Path(f"compare-{benchmark}.html"))
        typer.echo(f"report: {path}", err=True)
    if not result.complete:
        raise typer.Exit(130)  # as a shell expects of a program that Ctrl-C has ended
    if result.failed:
        typer.echo(f"zoo: {len(result.failed)} of {len(result.rows)} rows failed: {', '.join(result.failed)}", err=True)
        raise typer.Exit(1)


def _is_setting(given: str) -> bool:
    """Whether it sets a key, and is no place whose name has an equals sign."""
    try:
        return "=" in given and not user_path(given.removeprefix("file:"), ConfigError).exists()
    except ConfigError:  # a long value, for example
        return True


def _settings(benchmark: str, given: list[str]) -> dict[str, Any]:
    try:
        return benchmarks.parse(benchmark, given)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None


def _print(table: Any) -> None:
    from rich.console import Console

    # Piped output has no width; a table must not be cut to 80 columns there.
    Console(width=None if sys.stdout.isatty() else 160).print(table)
