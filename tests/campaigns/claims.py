"""What papers claim of their methods, tested on ours: `python -m tests.campaigns.claims [--seeds 3] [--runs DIR]`.

Each claim is a difference of one figure between two subjects, with several seeds: those of latents and probes where
weights are shipped, else those of trainings and fits of one's own, which lie in `--runs`. What is missing there is not
made: the command that makes it is printed. Rows are read from disk where they have been measured, and kept.

A claim holds if all seeds agree with it, and the interval over seeds (Student's, 95 %) leaves 0 out.
"""

import argparse
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import zoo
from zoo.evaluation.comparison import measure
from zoo.fitting.runs import is_run, read_run

_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % points, by number of seeds
_FITS = "zoo run gan2shape sealed:0-5 --gan stylegan2.heads64 init=null"
_MESHES = "zoo train meshgan_heads64 trainer.max_kimg=12 generator.size=none generator.pyramid=false"


@dataclass(frozen=True)
class Side:
    """One of the two subjects of a claim: shipped weights, or what a command makes for each seed."""

    name: str
    command: str = ""


@dataclass(frozen=True)
class Claim:
    """That `first` is better than `second` in one figure of a benchmark."""

    text: str
    benchmark: str
    figure: str
    better: Literal["lower", "higher"]
    first: Side
    second: Side
    settings: Mapping[str, Any] = field(default_factory=dict)


CLAIMS = (
    Claim(
        "ShadeGAN's normals are better than pi-GAN's (Pan et al. 2021)",
        "heads_v2", "normals", "lower", Side("shadegan.heads32"), Side("pigan.heads32"),
    ),
    Claim(
        "ShadeGAN's shapes are nearer to real ones than pi-GAN's (Pan et al. 2021)",
        "heads_v2", "shape_FD", "lower", Side("shadegan.heads32"), Side("pigan.heads32"),
    ),
    Claim(
        "GOF's weights along rays vary less than pi-GAN's (Xu et al. 2021)",
        "heads", "variance", "lower", Side("gof.heads64"), Side("pigan.heads64"),
    ),
    Claim(
        "fits that start from an ellipsoid end better than those from a plane (Pan et al. 2021)",
        "inversions", "shape", "lower",
        Side("ellipsoid", _FITS), Side("flat", f"{_FITS} system.shape=flat"), {"n_test": 6},
    ),
    Claim(
        "fits are better with the regularisation of offsets than without (Pan et al. 2021)",
        "inversions", "shape", "lower",
        Side("ellipsoid", _FITS), Side("unregularised", f"{_FITS} generator.mapping_tail=-1 generator.offset_weight=0"),
        {"n_test": 6},
    ),
    Claim(
        "meshes with a soft outline are nearer to real shapes than with a crisp one (Fig. 3 of the mesh GAN's paper)",
        "heads_v2", "shape_FD", "lower",
        Side("soft", _MESHES), Side("crisp", f"{_MESHES} generator.renderer.mode=crisp"),
    ),
)  # fmt: skip


def command_of(side: Side, seed: int, runs: Path) -> str:
    """The command that makes a subject for one seed."""
    name = f"{side.name}-{seed}"
    fit = side.command.startswith("zoo run")
    where = f"--out {shlex.quote(str(runs / name))}" if fit else f"name={name} out={shlex.quote(str(runs))}"
    return f"{side.command} seed={seed} {where}"


def value_of(claim: Claim, side: Side, seed: int, runs: Path) -> float | None:
    """The figure of a subject; None where it must be made first."""
    places = sorted(runs.glob(f"{side.name}-{seed}*"))  # folders of trainings end in a digest
    if side.command and not places:
        return None
    name = str(places[0]) if side.command else side.name
    subject: Any = read_run(name) if is_run(name) else zoo.load(name)
    _, row = measure(side.name, subject, claim.benchmark, seed=0 if side.command else seed, **claim.settings)
    value = row.figures[claim.figure]
    assert isinstance(value, int | float)
    return float(value)


def verdict(claim: Claim, differences: Sequence[float]) -> str:
    """What the differences (first less second, one for each seed) say of a claim."""
    n, mean = len(differences), statistics.fmean(differences)
    half = _STUDENT[n] * statistics.stdev(differences) / math.sqrt(n)
    sign = -1 if claim.better == "lower" else 1
    agree = sum(sign * each > 0 for each in differences)
    word = "does not hold"
    if agree == n:
        word = "holds" if sign * mean > half else "holds for each seed, within the spread"
    return f"{word}: {claim.figure} {mean:+.4g} ± {half:.2g} ({agree} of {n} seeds agree)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, choices=sorted(_STUDENT))
    parser.add_argument("--runs", type=Path, default=Path("runs/claims"))
    given = parser.parse_args()
    for claim in CLAIMS:
        differences, missing = [], []
        for seed in range(given.seeds):
            pair = [value_of(claim, side, seed, given.runs) for side in (claim.first, claim.second)]
            missing += [
                command_of(side, seed, given.runs)
                for side, value in zip((claim.first, claim.second), pair, strict=True)
                if value is None
            ]
            if pair[0] is not None and pair[1] is not None:
                differences.append(pair[0] - pair[1])
        print(f"{claim.text}\n  {'to be made first:' if missing else verdict(claim, differences)}", flush=True)
        for command in missing:
            print(f"    {command}")


if __name__ == "__main__":
    main()
