"""`zoo run` and `zoo compare`, killed and given again."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.campaigns.children import Ended, Plan, chosen, command, run
from tests.campaigns.table import Field, Row
from tests.campaigns.trainings import leftovers

FIT = [
    "generator.size=32", "generator.nf=4", "generator.zdim=4", "generator.groups=2", "generator.encoder_nf=2",
    "generator.offset_nf=2", "generator.offset_dim=8", "generator.mapping_tail=1", "trainer.accelerator=cpu",
    "system.stages=[{albedo: 1, projection: 1, joint: 1}]", "system.batch=2", "system.collect=1", "trainer.threads=1",
    "system.shape_steps=4", "system.inversion_steps=1", "system.feature_blocks=0", "system.perceptual=none",
]  # fmt: skip


def _no_films() -> None:
    """They take most of the time of a fit."""
    from zoo.fitting import job, views

    job.FRAMES, views.YAWS, views.PITCHES, views.SLOPES = 1, 1, 1, (0.0, 1.0)  # type: ignore[misc, attr-defined]
    job.film = lambda *_, **__: None  # type: ignore[assignment]


def fits(field: Field, reference: Path) -> Row:
    """`zoo run`: files whole, depth as in the uninterrupted run."""
    row = Row("zoo run, any moment and write")
    gan = field.place / "gan"

    def make() -> int:
        import zoo

        network = zoo.build(
            "stylegan2", z_dim=8, size=32, mapping_layers=2, mapping_lr=0.1, channel_base=128, channel_max=8
        )
        zoo.save(network, gan)
        return 0

    run(make)

    def fit(out: Path) -> Callable[[], int]:
        return command("run", "gan2shape", "heads:0-1", *FIT, "--gan", f"file:{gan}", "--out", str(out))

    whole = field.place / "fit"
    first = run(fit(whole), Plan(before=_no_films))
    if first.code:
        return Row(row.name, repairs=1, notes=[first.said[-300:]])
    number = 0
    while row.kills < field.rounds and field.going():
        out = field.place / f"fit{number}"
        number += 1
        for _ in range(6):
            s = field.source
            plan = (
                Plan(chosen(s), write=s.randint(1, first.writes))
                if s.random() < 0.5
                else Plan(chosen(s), after=s.uniform(0.1, 6))
            )
            plan.before = _no_films
            ended = run(fit(out), plan)
            row.runs, row.kills = row.runs + 1, row.kills + (ended.code > 128)
            if ended.hung or ended.code in (1, 70):
                row.corrupt += 1
                row.notes.append(ended.said[-200:])
            if ended.code == 0 or row.kills >= field.rounds:
                break
        ended = run(fit(out), Plan(before=_no_films))
        row.runs += 1
        if ended.code:
            row.repairs += 1
            row.notes.append(ended.said[-200:])
            continue
        names = [f"head{i:04d}/{name}" for i in range(2) for name in ("depths.npy", "weights/model.safetensors")]
        same = all((out / n).read_bytes() == (whole / n).read_bytes() for n in names)
        row.exact = row.exact is not False and same
        row.corrupt += bool(leftovers(out))
        shutil.rmtree(out)
    return row


def _small_probes() -> None:
    """They take most of the time; what counts here is the files."""
    from zoo.evaluation import comparison
    from zoo.evaluation.depth import protocol

    comparison.protocol = lambda *given, **more: replace(protocol(*given, **more), steps=2, width=16, batch_size=4)  # type: ignore[attr-defined]


def comparisons(field: Field, reference: Path) -> Row:
    """`zoo compare`: the report is there whole or not at all, and says the same when the command is given again."""
    row, report = Row("zoo compare, any moment"), field.place / "report.html"
    work = command("compare", "pigan.heads32", "n_test=8", "n_pairs=8", "--quick", "--json", "--out", str(report))
    began = time.monotonic()
    first = run(work, Plan(before=_small_probes))
    took = time.monotonic() - began
    if first.code:
        return Row(row.name, repairs=1, notes=[f"code {first.code}: {first.said[-300:]}"])
    figures = _figures(first)
    while row.kills < field.rounds and field.going():
        report.unlink(missing_ok=True)
        plan = Plan(chosen(field.source), after=field.source.uniform(0.05, took), before=_small_probes)
        ended = run(work, plan)
        row.runs, row.kills = row.runs + 1, row.kills + (ended.code > 128)
        row.corrupt += ended.hung or (report.exists() and not report.read_text("utf-8").rstrip().endswith("</html>"))
        if row.kills % 5 == 0 or row.kills >= field.rounds:
            ended = run(work, Plan(before=_small_probes))
            row.runs, row.repairs = row.runs + 1, row.repairs + (ended.code != 0)
            row.exact = row.exact is not False and _figures(ended) == figures
    return row


def _figures(ended: Ended) -> list[dict[str, Any]]:
    """The rows that it printed, without their times."""
    line = next(line for line in ended.said.splitlines() if line.startswith("["))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in json.loads(line)]
