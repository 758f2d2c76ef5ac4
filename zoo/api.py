"""What the commands `train`, `finetune`, `compare` and `sample` do, for scripts: `zoo.train` and so on.

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
    """Train from scratch, continue a run with `resume="auto"`, or start from weights with `init=NAME`.

    Args:
        recipe: Names a recipe, a method, or a YAML file by its path.
        overrides: Set values as on the command line, e.g. `["data=folder", "trainer.max_kimg=1"]`.
        settings: Do the same as keywords, e.g. `trainer={"max_kimg": 1}`; where both speak, keywords win.

    Returns:
        The run's folder, which `zoo.load` takes.

    Raises:
        ConfigError: A name or key is unknown, a value cannot work, the run exists already, or a device is missing.
        Interrupted: A signal ended the training; what was learned is saved.
    """
    given = [*overrides, *_overrides(settings)]
    return _start(recipes.load_run(recipe, given), ["train", recipe, *given])


def finetune(name: str, overrides: Sequence[str] = (), /, **settings: Any) -> Path:
    """Train weights further on images of your own, by the last stage of their recipe, at a third of its learning rates.

    A fifth of the images is held back: it says which weights were best, which are kept in the folder `best` of the run,
    and when to stop.

    Args:
        name: Names the weights to start from, as `zoo.load` takes them.
        overrides: Set values as on the command line, e.g. `["data=folder", "data.root=my_faces"]`.
        settings: Do the same as keywords; where both speak, keywords win.

    Returns:
        The run's folder, which `zoo.load` takes.

    Raises:
        ConfigError: A name or key is unknown, a value cannot work, the run exists already, or a device is missing.
        WeightsError: The card does not say which recipe trained the weights.
        Interrupted: A signal ended the training; what was learned is saved.
    """
    from .systems.start import finetune as configure

    given = [*overrides, *_overrides(settings)]
    return _start(configure(name, given), ["finetune", name, *given])


def compare(names: Sequence[str] = (), benchmark: str = "heads_v2", **options: Any) -> "Comparison":
    """Score methods and baselines under one protocol, with pictures. Ctrl-C keeps the rows that are finished.

    Args:
        names: Say what to score: names that `zoo.load` takes, and folders of `zoo run`. By default all trained weights
            that suit the benchmark are scored.
        benchmark: Is for example "heads_v2", or "bfm" with a `data_root`; `zoo compare --help` lists all of them.
        options: Are those of `zoo.evaluation.comparison.compare`.

    Raises:
        ConfigError: A name, the benchmark or a setting is unknown or missing, or a method cannot be scored.
        DataError: The benchmark's data is missing or unreadable.
        WeightsError: Files are damaged.
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
        model: Is a generator, or any name that `zoo.load` takes.
        seeds: Are numbers, or text such as "0-7" or "3,5,8". A seed gives the same object alone and among others.
        size: Is the side of each picture in pixels.
        psi: Truncates: 1 leaves the objects as they are, 0 makes each the average object.
        yaw: Says in radians how far the head turns to its left, see `Camera.orbit`.
        pitch: Says in radians how far the chin is raised.
        maps: Names the rows, out of rgb, albedo, normal, depth and shading; by default all that the method has.
        relight: Adds a row for each of five lights.

    Raises:
        ConfigError: Seeds are wrong, a map is unknown, or the method has no light to change or no camera to turn.
        WeightsError: Weights are missing or damaged.
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
    """Read numbers and ranges: `"0-3,8"` becomes `[0, 1, 2, 3, 8]`.

    Raises:
        ConfigError: The text has another form, or asks for too many objects.
    """
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
    """Draw one object for each seed. A seed gives the same object alone and among others.

    Raises:
        ConfigError: There are no seeds.
    """
    if not seeds:
        raise ConfigError("no seeds: give one or more, e.g. range(8)")
    parts = [generator.latents(1, seed=seed, psi=psi) for seed in seeds]
    return type(parts[0]).cat(parts)


def _start(run: RunConfig, command: list[str]) -> Path:
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from .systems.run import train as start
    from .systems.start import initial

    try:
        return start(run, *initial(run), command=shlex.join(["zoo", *command]))
    except MisconfigurationException as error:
        asked = f"trainer.accelerator={run.trainer.accelerator} trainer.devices={run.trainer.devices}"
        raise ConfigError(f"{asked}: not on this machine; leave them out, or see zoo doctor ({error})") from error


def _overrides(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """`{"trainer": {"max_kimg": 1}}` -> "trainer.max_kimg=1", so that a run notes the command that repeats it."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _overrides(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={value if isinstance(value, str) else json.dumps(value, default=str)}"
