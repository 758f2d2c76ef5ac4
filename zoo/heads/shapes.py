"""Random heads from MakeHuman targets: a macro person (gender, age, origin, build) plus a few small details."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

HEIGHT = 0.185  # crown to the cut below the chin, world units

DETAILS = ("head", "nose", "mouth", "eyes", "cheek", "chin", "forehead", "eyebrows", "ears")
# Targets that leave the range of ordinary faces, move the whole head, or shift one side only.
LEFT_OUT = re.compile(
    r"head-(age|trans|angle|back)|(nose|mouth)-trans-(in|out)|nose-compression|ear-(shape|rot|flap)|eye-trans|"
    r"chin-(cleft|triangle|jaw)|head-(square|triangular|invertedtriangular|diamond|rectangular)|eye-push|mouth-dimples"
)
EXPRESSIONS = {
    "mouth-corner-puller": 0.45,
    "mouth-elevation": 0.3,
    "mouth-depression": 0.25,
    "mouth-protusion": 0.25,
    "eyebrows-*-up": 0.4,
    "eyebrows-*-down": 0.4,
    "eyebrows-*-inner-up": 0.3,
    "eye-*-slit": 0.25,
    "eye-*-opened-up": 0.25,
}
ORIGINS = ("african", "asian", "caucasian")


def random_heads(
    read: Callable[[str], np.ndarray], names: Sequence[str], root: str, base: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """Make random heads (count, V, 3), float32.

    Args:
        read: Gives the offsets (V, 3) of the target at a path.
        names: Every path in the package.
        root: Folder in the package in which the targets lie.
        base: (V, 3) vertices without any target.
        count: Number of heads.
        seed: Makes the heads.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    details = _detail_targets(names, root)
    columns: dict[str, int] = {}
    rows = [_one_head(rng, details, root) for _ in range(count)]
    for row in rows:
        for name in row:
            columns.setdefault(name, len(columns))
    weights = np.zeros((count, len(columns)), np.float32)
    for i, row in enumerate(rows):
        for name, value in row.items():
            weights[i, columns[name]] += value
    offsets = np.stack([read(name) for name in columns])
    return base.astype(np.float32) + np.tensordot(weights, offsets, 1)


def align(heads: np.ndarray, skin: int) -> tuple[np.ndarray, float]:
    """Move heads to the origin and to world size; returns them and the mean scale.

    Each head keeps a fifth of its own size on a log scale, so size varies a little but every head fills the frame. The
    first `skin` vertices belong to the skin.
    """
    outer = heads[:, :skin]
    low, high = outer.min(1), outer.max(1)
    height = (high - low)[:, 1]
    centre = (low + high) / 2
    centre[:, 0] = 0
    scale = HEIGHT / (height.mean() * (height / height.mean()) ** 0.8)
    return (heads - centre[:, None]) * scale[:, None, None], float(scale.mean())


def _detail_targets(names: Sequence[str], root: str) -> dict[str, list[list[str]]]:
    """Category -> choices; a choice is one target, or the left and right target of a pair."""
    found: dict[str, dict[str, list[str]]] = {name: {} for name in DETAILS}
    for path in sorted(names):
        category, _, file = path.removeprefix(root).partition("/")
        if path.startswith(root) and category in found and file.endswith(".gz") and not LEFT_OUT.search(file):
            found[category].setdefault(re.sub(r"^[lr]-", "", file), []).append(path)
    return {category: list(choices.values()) for category, choices in found.items()}


def _one_head(rng: np.random.Generator, details: dict[str, list[list[str]]], root: str) -> dict[str, float]:
    """Target path -> weight for one random person."""
    head = _macro(rng, root)
    categories = list(details)
    for _ in range(rng.integers(5, 9)):
        choices = details[categories[rng.integers(len(categories))]]
        weight = float(rng.uniform(0.15, 0.6))
        for path in choices[rng.integers(len(choices))]:
            head[path] = head.get(path, 0.0) + weight
    for pattern in rng.choice(list(EXPRESSIONS), 2, replace=False):
        weight = float(rng.uniform(0, EXPRESSIONS[pattern]))
        for side in ("left", "right") if "*" in pattern else ("",):
            head[f"{root}expression/units/caucasian/{pattern.replace('*', side)}.target.gz"] = weight
    return head


def _macro(rng: np.random.Generator, root: str) -> dict[str, float]:
    """Weights of the macro targets: products of gender, age and origin, and of gender, age, muscle and weight."""
    male, old = rng.beta(0.6, 0.6), rng.beta(0.8, 1.4)
    muscle, weight = rng.normal(0, 0.35, 2).clip(-1, 1)
    origins = rng.dirichlet(np.full(3, 0.7))
    genders, ages = {"female": 1 - male, "male": male}, {"young": 1 - old, "old": old}
    result = {}
    for gender, g in genders.items():
        for age, a in ages.items():
            for origin, o in zip(ORIGINS, origins, strict=True):
                result[f"{root}macrodetails/{origin}-{gender}-{age}.target.gz"] = g * a * o
            for m, mw in _three_way("muscle", muscle).items():
                for w, ww in _three_way("weight", weight).items():
                    result[f"{root}macrodetails/universal-{gender}-{age}-{m}-{w}.target.gz"] = g * a * mw * ww
    return {name: float(value) for name, value in result.items() if value > 0}


def _three_way(name: str, value: float) -> dict[str, float]:
    """A value in -1..1 as weights of the targets min, average and max."""
    return {f"min{name}": max(-value, 0.0), f"average{name}": 1 - abs(value), f"max{name}": max(value, 0.0)}
