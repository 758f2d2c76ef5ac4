"""The command that fits a method to given pictures: `run`."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Overrides, RunSeed, seeded


def run(
    recipe: Annotated[str, typer.Argument(help="gan2shape, one of its recipes, or a YAML file.")],
    source: Annotated[
        str, typer.Argument(help="A picture, a folder, seed:0-3; with true depth heads:0-3, and bfm:0-3 of data.root.")
    ],
    overrides: Overrides = None,
    gan: Annotated[
        str | None,
        typer.Option(
            help="The 2D GAN to learn from: what zoo.load takes. Default: stylegan2.photos64 for photographs, "
            "stylegan2.heads64 for heads and seeds."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder; the same command continues where it stopped.")] = Path("gan2shape"),
    joint: Annotated[bool, typer.Option("--joint", help="One set of networks for all pictures.")] = False,
    align: Annotated[
        bool | None,
        typer.Option(help="Find the face first, or not. Default: find it if the GAN shows heads, FFHQ or CelebA."),
    ] = None,
    psi: Annotated[float, typer.Option(help="Truncation of the pictures of seed:0-3.", min=0, max=2)] = 0.7,
    jobs: Annotated[
        int, typer.Option(help="Processes that fit to pictures side by side; they share CPU threads and GPUs.", min=1)
    ] = 1,
    shard: Annotated[
        str,
        typer.Option(metavar="I/N", help="Fit to every N-th picture, from the I-th on; the first shard is 1/N."),
    ] = "1/1",
    seed: RunSeed = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Recover shape, albedo, light and viewpoint from pictures, with the help of a 2D GAN (GAN2Shape).

    The shards of a job array share one folder: sbatch --array=1-10 and --shard $SLURM_ARRAY_TASK_ID/10.

    \b
    Examples:
      zoo run gan2shape photo.jpg --out photo
      zoo run gan2shape heads:0-19 --out heads
      zoo run gan2shape my_photos --out all --jobs 4
      zoo run gan2shape my_photos --out all --shard 3/10
      zoo run gan2shape_synface bfm:0-19 --gan file:my_gan --out bfm data.root=my_bfm
    """
    from ..fitting.job import open_job, run_all
    from ..fitting.subjects import gan_for
    from ..runtime.progress import LogLines, make_bar
    from .options import speak

    part = _part(shard)
    speak()
    command = shlex.join(["zoo", *sys.argv[1:]])
    notes = {"model": "gan2shape", "command": command}
    job = open_job(recipe, seeded(overrides, seed), gan or gan_for(source), out, notes, joint=joint)
    with make_bar(enabled=not as_json and jobs == 1) as bar:
        task, say = bar.add_task(source, total=1.0, whole=source), LogLines(bar)

        def advance(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share)
            say(task)

        results = run_all(
            job, source, align=align, psi=psi, part=part, jobs=jobs, advance=advance, progress=not as_json
        )
    lines = [*map(_line, results), *_means(results), f"gallery: {out / 'index.html'}"]
    typer.echo(json.dumps(results) if as_json else "\n".join(lines))


def _part(shard: str) -> slice:
    """The places of the pictures of a shard; those of all shards together are all places, each once."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise typer.BadParameter(f"--shard {shard}: write I/N with I from 1 to N, e.g. 1/10 to 10/10.")
    return slice(number - 1, None, count) if count > 1 else slice(None)


def _line(result: dict[str, Any]) -> str:
    """A line with name, time by kind of step, and SIDE stage by stage."""
    seconds: dict[str, float] = {"inversion": result["inversion_seconds"]}
    for record in result["records"]:
        seconds[record["step"]] = seconds.get(record["step"], 0.0) + record["seconds"]
    sides = [f"{record['SIDE']:.3f}" for record in result["records"] if "SIDE" in record]
    spent = ", ".join(f"{kind} {value:.0f}" for kind, value in seconds.items())
    return f"{result['name']}: {result['seconds']:.0f} s ({spent})" + (f"; SIDE {' > '.join(sides)}" if sides else "")


def _means(results: list[dict[str, Any]]) -> list[str]:
    """A line with mean SIDE and MAD stage by stage, if the true depth of the pictures is known."""
    from ..fitting.runs import stage_means

    def means(key: str) -> list[float]:
        return stage_means([r[key] for r in result["records"] if key in r] for result in results)

    side, mad = (" > ".join(f"{v:.{n}f}" for v in means(key)) for key, n in (("SIDE", 3), ("MAD", 2)))
    return [f"mean of {len(results)}: SIDE {side}, MAD {mad}"] if side else []
