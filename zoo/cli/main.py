"""The command line. Heavy imports stay inside the commands, so that `zoo --help` and `zoo list` answer at once."""

import io
import json
import os
import sys
from typing import Annotated, Any

import typer

from .. import hub, registry
from ..config.schemas import Card
from ..errors import ConfigError, Interrupted, WeightsError, ZooError
from ..runtime.files import printable
from ..runtime.memory import keep_memory
from ..runtime.packages import culprit, repair
from ..version import __version__
from ..weights.cards import markdown_table
from . import bench as cli_bench
from . import bring as cli_import
from . import data as cli_data
from . import edit as cli_edit
from . import evaluate as cli_eval
from . import fit as cli_run
from . import invert as cli_invert
from . import media as cli_media
from . import train as cli_train
from . import view as cli_view
from .options import Json, Name

# Of click, of which newer typers carry a copy of their own.
_UsageError = typer.BadParameter.__bases__[0]
_INTERRUPTED = 130

app = typer.Typer(
    name="zoo",
    help="Learn 3D shape from 2D images: sample, relight, film, export, train, compare.\n\n"
    "Start with:  zoo list  |  zoo sample shadegan --seeds 0-7 --out grid.png  |  zoo compare\n\n"
    "Any command takes --debug, which shows where an error came from.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"zoo {__version__}")
        raise typer.Exit


@app.callback()
def _zoo(
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """`main` takes --debug out of the arguments wherever it stands; here it is for the help text."""


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="Shell wildcards, e.g. 'shade*'.")] = "*",
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Only trained weights.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of docs/weights.md.")] = False,
    as_json: Json = False,
) -> None:
    """List methods and trained weights. Exit code 1 if nothing matches.

    Example: zoo list 'shade*' --pretrained
    """
    names = registry.list_models(pattern, pretrained=True if pretrained or markdown else None)
    if markdown:
        typer.echo(markdown_table(hub.card(name) for name in names), nl=False)
    elif as_json:
        typer.echo(json.dumps([_row(name) for name in names]))
    elif names:
        width = max(len(name) for name in names)
        for name in names:
            typer.echo(f"{name:{width}}  {_about(name)}".rstrip())
        if any("." in name for name in names):
            typer.echo("* answers to the bare name of its method", err=True)
        if pattern == "*" and not pretrained:
            typer.echo("not listed: ffhq (see zoo import), weights on a hub (hf:org/repo, with zoo3d[hub])", err=True)
    if not names:
        raise ConfigError(f"nothing matches {pattern!r}; zoo list shows all names")


def _row(name: str) -> dict[str, Any]:
    """What `zoo list --json` says of a name."""
    if "." not in name:
        return {"name": name, "kind": "method"}
    try:
        card = hub.card(name)
    except WeightsError as error:  # of the user's own folder, whose other weights are listed all the same
        return {"name": name, "kind": "weights", "error": str(error)}
    facts = {"summary": card.summary, "default": card.default, "bytes": card.bytes, "parameters": card.parameters}
    figures = [{"name": m.name, "value": m.value, "protocol": m.protocol, "n": m.n} for m in card.metrics]
    return {"name": name, "kind": "weights", **facts, "licence": card.licence, "figures": figures}


def _about(name: str) -> str:
    """The same for people, on one line."""
    if "." not in name:
        return "method; build or train it"
    try:
        card = hub.card(name)
    except WeightsError as error:
        return printable(f"cannot be used: {error}")
    parts = [
        f"{'* ' if card.default else ''}{card.summary}",
        f"{card.bytes / 1e6:.1f} MB",
        *(f"{m.name} {m.value:g}" for m in card.metrics),
        card.licence.get("weights", ""),
    ]
    return printable("; ".join(part for part in parts if part))


@app.command()
def info(name: Name, as_json: Json = False) -> None:
    """Show the card of trained weights: data, licence, figures, limits, hash.

    Example: zoo info shadegan
    """
    card = hub.card(name)
    typer.echo(json.dumps(card.as_dict()) if as_json else _card_text(card))


def _card_text(card: Card) -> str:
    lines = [
        f"{card.name}: {card.summary}",
        f"{card.parameters:,} parameters, {card.bytes:,} bytes, SHA-256 {card.sha256}",
    ]
    facts: dict[str, Any] = {
        "data": card.data,
        "recipe": card.recipe,
        "command": card.command,
        "citation": card.citation,
    }
    lines += [f"{key}: {value}" for key, value in facts.items() if value]
    lines += [f"licence of the {what}: {terms}" for what, terms in card.licence.items()]
    lines += [f"{m.name} {m.value:g} ({m.protocol}, n = {m.n}): {m.command}" for m in card.metrics]
    lines += [f"converted from: {name}, SHA-256 {sha256}" for name, sha256 in card.sources.items()]
    lines += [f"limit: {limit}" for limit in card.limits]
    return "\n".join(printable(line) for line in lines)


@app.command()
def doctor(
    verify: Annotated[bool, typer.Option("--verify", help="Hash each file of weights and assets, too.")] = False,
    as_json: Json = False,
) -> None:
    """Say what works on this machine, what does not, and the exact fix.

    Exit code 1 if something must be fixed. Example: zoo doctor --verify
    """
    from dataclasses import asdict

    from ..doctor import examine

    checks = examine(verify)
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks]))
    else:
        for check in checks:
            typer.echo(
                f"{check.state:8}{check.name:26} {check.found}" + (f"\n{'':35}fix: {check.fix}" if check.fix else "")
            )
    if any(check.state == "broken" for check in checks):
        raise typer.Exit(1)


app.command("eval", epilog=cli_eval.GUIDE)(cli_eval.evaluate)
app.command(epilog=cli_eval.GUIDE)(cli_eval.compare)
app.command()(cli_media.sample)
app.command()(cli_media.turntable)
app.command()(cli_media.figure)
app.command()(cli_media.export)
app.command()(cli_view.view)
app.command()(cli_invert.invert)
app.command()(cli_edit.relight)
app.command()(cli_edit.rotate)
app.command()(cli_edit.interpolate)
app.command()(cli_edit.mix)
app.command()(cli_run.run)
app.command()(cli_train.train)
app.command()(cli_train.finetune)
app.command()(cli_train.save)
app.command("import")(cli_import.import_)
app.command()(cli_import.pull)
app.command()(cli_import.push)
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_bench.app, name="bench")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # or a path that is not UTF-8 ends the work when it is printed
    keep_memory()
    sys.exit(_run([a for a in given if a != "--debug"] or ["--help"], debug))


def _run(arguments: list[str], debug: bool) -> int:
    try:
        code = app(arguments, standalone_mode=False, prog_name="zoo")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains when it flushes
        return 1
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:
        if debug:
            raise
        print(f"zoo: {_line(error)}", file=sys.stderr)
        if isinstance(error, Interrupted):
            return 128 + error.signal  # what a shell expects of a program that a signal has ended
        return 2 if isinstance(error, _UsageError) else 1
    if code == _INTERRUPTED:  # typer turns Ctrl-C into this exit code without a word
        print("zoo: interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _line(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, _UsageError):
        text = f"{error.format_message()} See: zoo --help"  # type: ignore[attr-defined]
    elif isinstance(error, ZooError):
        text = str(error)
    elif package := culprit(error):
        reason = f"{type(error).__name__}: {error}"[:200]
        text = f"the package {package} does not work here ({reason}); {repair(package)}. See: zoo doctor"
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or 'file'}: {error.strerror}"
    elif isinstance(error, ValueError):
        text = str(error)
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        text = "out of memory: ask for a smaller --size, fewer seeds or maps or a smaller batch, or take --device cpu"
    else:
        text = f"{type(error).__name__}: {error}. This is a bug; run again with --debug for the trace"
    return printable(" ".join(text.split()))
