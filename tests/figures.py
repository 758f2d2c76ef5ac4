"""What the shipped weights do on a few images: `make figures` writes it, a slow test compares.

The figures of the cards take minutes each; these are theirs in small. Methods that read depth from photographs are
scored on twenty. The others' SIDE and MAD are those of a probe that learns from their renders: of a short lesson here,
and the renders themselves are held, too.
"""

import json
import time
from dataclasses import replace
from pathlib import Path

import torch

import zoo
from zoo.evaluation.benchmark import Options
from zoo.evaluation.benchmarks.heads import Heads
from zoo.runtime.progress import Steps

FILE = Path(__file__).parent / "unit" / "shipped_figures.json"
READ_PHOTOGRAPHS = ("gan2shape", "unsup3d")
MAPS = ("rgb", "depth", "normal", "albedo", "mask")
FIGURES = ("SIDE", "MAD", "variance", "psnr")
# heads-v1 cut short: twenty test images, a probe that has seen a few pairs a few times, and one surface.
SHORT = replace(Heads.standard, name="heads-v1/short", size=32, n_test=20, n_pairs=24, steps=16, n_surface=1)


def measured(name: str) -> dict[str, float]:
    """SIDE and MAD; of methods that make objects also mean and deviation of each map, and figures of fields."""
    if name.partition(".")[0] in READ_PHOTOGRAPHS:
        row = zoo.evaluate(name, "heads", n_test=20, progress=False)
        return {"SIDE": row["SIDE"], "MAD": row["MAD"]}
    generator = zoo.load(name, device="cpu")
    camera = generator.camera(yaw=0.3, size=32)
    with torch.no_grad():
        out = generator(generator.latents(2, seed=0, psi=0.7), camera)
    found = {}
    for key in MAPS:
        values = getattr(out, key)
        if values is not None:
            found |= {f"{key} mean": values.mean().item(), f"{key} deviation": values.std().item()}
    if generator.is_3d:
        with Steps(name, enabled=False) as steps:
            row = Heads(SHORT, {}, Options()).row(name, generator, steps)[0]
        found |= {key: value for key in FIGURES if (value := row.figures[key]) is not None}
    return found


def main() -> None:
    rows = {}
    for name in zoo.list(pretrained=True):
        start = time.monotonic()
        rows[name] = measured(name)
        print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
    FILE.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
