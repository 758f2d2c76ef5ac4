"""What the shipped weights do on a few images: `make figures` writes it, a slow test compares.

The figures of the cards take minutes each; these are theirs in small. Methods that read depth from photographs are
scored on twenty. The others' SIDE and MAD are those of a probe that learns from their renders, so the renders are held.
"""

import json
import time
from pathlib import Path

import torch

import zoo
from zoo.evaluation.depth.surface import surface_figures

FILE = Path(__file__).parent / "unit" / "shipped_figures.json"
READ_PHOTOGRAPHS = ("gan2shape", "unsup3d")
MAPS = ("rgb", "depth", "normal", "albedo", "mask")


def measured(name: str) -> dict[str, float]:
    """SIDE and MAD, or mean and deviation of each map of two objects and, where the card has them, surface figures."""
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
    if any(metric.name.startswith("variance") for metric in zoo.card(name).metrics):
        found |= surface_figures(generator, 1, 32, 0)
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
