"""Commands that measure zoo itself: `raster`, `gradients`, `oracles`."""

import json
from typing import Annotated

import typer

app = typer.Typer(help="Measure zoo on this machine.", rich_markup_mode=None)
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


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
    table.add_column("what is known", no_wrap=True)
    for heading in ("SIDE ×10⁻²", "MAD °", "pose °", "shape %", "R2"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, figures in found.items():
        table.add_row(name, *(f"{figures[key]:.{3 if key == 'SIDE' else 2}f}" for key in FIGURES))
    Console().print(table)
