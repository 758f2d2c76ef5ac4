"""Commands that measure zoo itself: speed and memory, gradients, oracles."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

GUIDE = (
    "fields, train, fit, load and memory compare with the published algorithm in plain torch (zoo/bench/published), "
    "which takes turns with ours on the same inputs; raster, and a row of fit, with PyTorch3D. Times are medians; half "
    "of what lies between the quartiles stands behind the sign. 'of limit' is the least time that the matrix products "
    "or the sines take on this machine, measured in the same run; memory is what a process of its own takes above what "
    "it had before. Leave the machine idle, or the figures say nothing."
)
app = typer.Typer(help="Measure zoo on this machine.", rich_markup_mode=None, epilog=GUIDE)
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Seconds = Annotated[float, typer.Option(help="Begin no further row after so long; what is left out is said.", min=0)]
Where = Annotated[str, typer.Option(help="cpu or cuda.")]
Page = Annotated[
    Path | None,
    typer.Option(help="Also write the table, if it is whole, into this Markdown page, between its marks."),
]


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _show(where: str, headings: Sequence[str], body: Sequence[Sequence[str]], rows: Sequence[object] | None) -> None:
    """Print rows as JSON, or else the table."""
    from rich.console import Console
    from rich.table import Table

    if rows is not None:
        typer.echo(json.dumps({"machine": where, "rows": rows}))
        return
    table = Table(title=where, title_justify="left")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left")
    for cells in body:
        table.add_row(*cells)
    Console(width=None if Console().is_terminal else 200).print(table)


def _run(bench: str, device: str, seconds: float, as_json: bool, page: Path | None) -> None:
    from ..bench import report
    from ..bench.run import count, measure
    from ..weights.build import device_of

    device_of(device)
    if page is not None:
        report.section(page, bench)  # a wrong page is refused before minutes are spent
    rows = list(measure(bench, device, seconds, _say))
    headings, body = report.cells(rows)
    where = report.machine(device)
    _show(where, headings, body, [row.as_dict() for row in rows] if as_json else None)
    if page is not None:
        report.need_all(page, count(bench, device) - len(rows))
        table = report.markdown(headings, body)
        report.write(page, bench, f"\n`zoo bench {bench}` on {where}:\n\n{table}\n")


def _command(bench: str, words: str) -> Callable[..., None]:
    def command(device: Where = "cpu", seconds: Seconds = 600.0, page: Page = None, as_json: Json = False) -> None:
        _run(bench, device, seconds, as_json, page)

    command.__doc__ = f"{words}\n\nExample: zoo bench {bench}"
    return command


for _name, _words in {
    "fields": "Time pictures of radiance fields, large and small, and a turntable; takes about three minutes.",
    "train": "Time gradients of fields, and whole training steps of recipes; takes about five minutes.",
    "fit": "Time fitting to photographs: latents, depth maps, GAN2Shape's joint step; takes about two minutes.",
    "load": "Time a new process from nothing to its first picture; takes about two minutes.",
    "memory": "Measure the peak memory of 256 px pictures and of training steps at 128 px; takes about ten minutes.",
}.items():
    app.command(_name)(_command(_name, _words))


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


@app.command()
def scaling(device: Where = "cpu", seconds: Seconds = 900.0, page: Page = None, as_json: Json = False) -> None:
    """Measure images per second and memory against image side, batch, samples, width, mesh and threads.

    With --page the plots are written beside the page, in images/scaling-*.svg, and shown there.

    Example: zoo bench scaling --page docs/performance.md
    """
    from dataclasses import asdict

    from ..bench import report
    from ..bench import scaling as bench
    from ..bench.plots import plot
    from ..weights.build import device_of

    device_of(device)
    if page is not None:
        report.section(page, "scaling")
    points = bench.measure(bench.sweep(), device, seconds, _say)
    headings = ["axis", "method", "value", "images/s", "memory, MiB"]
    body = [
        [p.axis, p.method, str(p.value), _figure(p.images_per_s, ".3g"), _figure(p.memory_mb, ".0f")] for p in points
    ]
    where = report.machine(device)
    rows = [asdict(point) | {"images_per_s": point.images_per_s} for point in points]
    _show(where, headings, body, rows if as_json else None)
    if page is not None:
        report.need_all(page, sum(point.seconds is None for point in points))
        pictures = "\n".join(f"![{axis}]({file})" for axis, file in plot(points, page.parent / "images").items())
        text = f"\n`zoo bench scaling` on {where}:\n\n{pictures}\n\n{report.markdown(headings, body)}\n"
        report.write(page, "scaling", text)


@app.command()
def raster(as_json: Json = False) -> None:
    """Time our CPU rasterizer against PyTorch3D's on the same depth maps; takes about a minute.

    Example: zoo bench raster
    """
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from ..bench.raster import compare

    rows = compare(progress=lambda line: typer.echo(line, err=True))
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows]))
        return
    title = f"seconds with {rows[0].threads} threads; differ: pixels that show another face"
    table = Table(title=title, title_justify="left")
    for index, heading in enumerate(("case", "pass", "ours", "PyTorch3D", "ratio", "differ")):
        table.add_column(heading, justify="right" if index > 1 else "left", no_wrap=True)
    for row in rows:
        figures = (f"{row.ours_s:.4f}", f"{row.pytorch3d_s:.3f}", f"{row.ratio:.0f}", f"{row.differs:.2%}")
        table.add_row(row.case, row.passes, *figures)
    Console().print(table)


@app.command()
def gradients(as_json: Json = False) -> None:
    """Compare the mesh renderers' gradients at outlines with those of area-sampled pictures; takes about a minute.

    Example: zoo bench gradients
    """
    from rich.console import Console
    from rich.table import Table

    from ..bench.gradients import mesh_table, triangle_table

    def progress(line: str) -> None:
        typer.echo(line, err=True)

    results = {"triangle": triangle_table(progress), "mesh": mesh_table(progress)}
    if as_json:
        typer.echo(json.dumps(results))
        return
    titles = {"triangle": "one triangle, exact coverage", "mesh": "textured mesh, pictures 8 times as large"}
    for name, rows in results.items():
        table = Table(title=titles[name], title_justify="left")
        for index, heading in enumerate(rows[0]):
            table.add_column(heading, justify="right" if index else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
        Console().print(table)


@app.command()
def oracles(
    n: Annotated[int, typer.Option(help="Number of heads, from the val split.")] = 300, as_json: Json = False
) -> None:
    """Score predictions that know a part of the truth, to see what SIDE and MAD can say; takes about two minutes.

    Example: zoo bench oracles --n 100
    """
    from rich.console import Console
    from rich.table import Table

    from ..evaluation.shape.oracles import FIGURES, oracles

    if n < 2:
        raise typer.BadParameter(f"--n {n}: use 2 or more")
    found = oracles(n, said=lambda name: typer.echo(name, err=True))
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table(title=f"{n} plain heads of val", title_justify="left")
    table.add_column("what is known")
    for heading in ("SIDE ×10⁻²", "MAD °", "pose °", "shape %", "R2"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, figures in found.items():
        table.add_row(name, *(f"{figures[key]:.{3 if key == 'SIDE' else 2}f}" for key in FIGURES))
    Console().print(table)
