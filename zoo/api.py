"""What the commands train, finetune, compare and sample do, for scripts: `zoo.train` and so on.

Nothing heavy is imported until a function runs.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import recipes
from .config.schemas import RunConfig
from .errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

    from .evaluation.comparison import Comparison
    from .generators.base import Generator, Latents
    from .geometry import Light, Render


MAX_SEED, _MAX_OBJECTS = 2**63 - 1, 256


def train(recipe: str, overrides: Sequence[str] = (), /, **settings: Any) -> Path:
    """Train from scratch, go on with `resume="auto"`, or start from weights with `init=NAME`.

    Args:
        recipe: a recipe or method name, or the path of a YAML file.
        overrides: as on the command line, e.g. `["data=folder", "trainer.max_kimg=1"]`.
        settings: the same as keywords, e.g. `trainer={"max_kimg": 1}`; they win.

    Returns:
        The run's folder, which `zoo.load` takes.

    Raises:
        ConfigError: unknown names or keys, values that cannot work, a run that is there already, a missing device.
        Interrupted: a signal ended it; what was learned is saved.
    """
    given = [*overrides, *_overrides(settings)]
    return _start(recipes.load_run(recipe, given), ["train", recipe, *given])


def finetune(name: str, overrides: Sequence[str] = (), /, **settings: Any) -> Path:
    """Train weights further: their recipe and architecture, its last stage, a third of its learning rates.

    Args:
        name: weights to start from, any name that `zoo.load` takes.
        overrides: as on the command line, e.g. `["data=folder", "data.root=my_faces"]`.
        settings: the same as keywords; they win.

    Returns:
        The run's folder, which `zoo.load` takes.

    Raises:
        ConfigError: as `train`.
        WeightsError: the card does not say which recipe trained the weights.
        Interrupted: a signal ended it; what was learned is saved.
    """
    from .systems.start import finetune as configure

    given = [*overrides, *_overrides(settings)]
    return _start(configure(name, given), ["finetune", name, *given])


def compare(names: Sequence[str] = (), benchmark: str = "heads", **options: Any) -> "Comparison":
    """Score methods and baselines under one protocol, with pictures; Ctrl-C keeps the rows that are finished.

    Args:
        names: what `zoo.load` takes, and folders of `zoo run`; by default all trained weights that suit the benchmark.
        benchmark: for example "heads", or "bfm" with a `data_root`; `zoo compare --help` lists them all.
        options: see `zoo.evaluation.comparison.compare`.

    Raises:
        ConfigError: unknown names or benchmark, a method that makes pictures only, `bfm` without a `data_root`.
    """
    from .evaluation.comparison import compare as run
    from .evaluation.scores import named

    return run(named(names, benchmark), benchmark, **options)


def sample(
    model: "str | Generator",
    seeds: str | Sequence[int] = "0-7",
    *,
    size: int = 128,
    psi: float = 0.7,
    yaw: float = 0.0,
    pitch: float = 0.0,
    maps: Sequence[str] = (),
    relight: bool = False,
) -> "Image":
    """Draw objects as a contact sheet, one column for each seed.

    Args:
        model: any name that `zoo.load` takes, or a generator.
        seeds: numbers, or text such as "0-7" or "3,5,8"; a seed is the same object alone and in company.
        size: side of each picture in pixels.
        psi: truncation, 1 = none, 0 = the average object.
        yaw, pitch: where the camera stands, radians; see `Camera.orbit`.
        maps: rows, out of rgb, albedo, normal, depth and shading; by default all that the method has.
        relight: add a row for each of five lights.

    Raises:
        ConfigError: wrong seeds, an unknown map, a method without light to change or without a camera to turn.
    """
    import torch

    from .geometry import Render
    from .hub import load
    from .output.lights import preset_lights
    from .output.sheets import MAPS, grid, stack

    chosen = seeds_of(seeds) if isinstance(seeds, str) else seeds
    generator = load(model) if isinstance(model, str) else model
    name = generator.name or type(generator).__name__
    if relight and not generator.uses_light:
        raise ConfigError(f"{name} has no light to change; leave relight out")
    if yaw or pitch:
        generator.need_camera("yaw and pitch")
    latents, camera = draw(generator, chosen, psi), generator.camera(yaw, pitch, size)

    def render(light: "Light | None") -> "Render":
        with torch.no_grad():  # one object at a time keeps 256 px within 2 GB
            return Render.cat([generator(one, camera, light) for one in latents])

    sheets = [grid(render(None), maps=maps or MAPS, labels=[str(seed) for seed in chosen])]
    if relight:
        lights = preset_lights(generator.device).values()
        sheets += [grid(render(light), maps=["rgb"]) for light in lights]
    return stack(sheets)


def seeds_of(text: str) -> list[int]:
    """Numbers and ranges as a list: `"0-3,8"` -> [0, 1, 2, 3, 8]. Raises ConfigError."""
    out: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        ends = (first, last) if dash else (first, first)
        if not all(end.isdecimal() and len(end) < 20 for end in ends):
            raise ConfigError(f"seeds {text!r}: write numbers and ranges, e.g. 0-7 or 3,5,8")
        low, high = map(int, ends)
        if high > MAX_SEED:
            raise ConfigError(f"seeds {text!r}: {high} is too large; the largest seed is {MAX_SEED}")
        if low > high or len(out) + high - low >= _MAX_OBJECTS:  # before the range is written out
            raise ConfigError(f"seeds {text!r}: ask for 1 to {_MAX_OBJECTS} objects, ranges from low to high")
        out += range(low, high + 1)
    return out


def draw(generator: "Generator", seeds: Sequence[int], psi: float) -> "Latents":
    """One object for each seed; a seed is the same object alone and in company. Raises ConfigError if there is none."""
    if not seeds:
        raise ConfigError("no seeds: give one or more, e.g. range(8)")
    parts = [generator.latents(1, seed=seed, psi=psi) for seed in seeds]
    return type(parts[0]).cat(parts)


def _start(run: RunConfig, command: list[str]) -> Path:
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from .systems.run import train as start
    from .systems.start import initial

    try:
        return start(run, *initial(run), command=shlex.join(["zoo", *command]))
    except MisconfigurationException as error:
        asked = f"trainer.accelerator={run.trainer.accelerator} trainer.devices={run.trainer.devices}"
        raise ConfigError(f"{asked} cannot be had here; leave them out, or see zoo doctor ({error})") from error


def _overrides(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """`{"trainer": {"max_kimg": 1}}` -> "trainer.max_kimg=1", so that a run notes the command that repeats it."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _overrides(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={value if isinstance(value, str) else json.dumps(value, default=str)}"
