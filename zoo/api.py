"""What commands such as `train`, `compare` and `sample` do, for scripts: `zoo.train` and so on.

Nothing heavy is imported until a function runs.
"""

import json
import operator
import os
import reprlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

from .config import recipes
from .config.schemas import RunConfig
from .errors import ConfigError
from .registry import as_name

if TYPE_CHECKING:
    from PIL.Image import Image

    from .editing.photo import Source
    from .editing.reconstruction import Reconstruction
    from .evaluation.benchmark import Subject
    from .evaluation.comparison import Comparison
    from .generators.base import Generator, Latents
    from .geometry import Light, Render


MAX_SEED, _MAX_OBJECTS = 2**63 - 1, 256


def train(recipe: str | os.PathLike[str], overrides: Sequence[str] = (), /, **settings: Any) -> Path:
    """Train from scratch, continue a run with `resume="auto"`, or start from weights with `init=NAME`.

    Args:
        recipe: Names a recipe, a method, or a YAML file by its path.
        overrides: Set values as on the command line, e.g. `["data=folder", "trainer.max_kimg=1"]`.
        settings: Do the same as keywords, e.g. `trainer={"max_kimg": 1}`; where both speak, keywords win. Paths and
            the numbers of numpy are taken, too.

    Returns:
        The run's folder, which `zoo.load` takes.

    Raises:
        ConfigError: A name or key is unknown, a value cannot work, the run exists already, or a device is missing.
        Interrupted: A signal ended the training; what was learned is saved.
    """
    recipe, given = as_name(recipe), [*overrides, *_overrides(settings)]
    return _start(recipes.load_run(recipe, given), ["train", recipe, *given])


def finetune(name: str | os.PathLike[str], overrides: Sequence[str] = (), /, **settings: Any) -> Path:
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

    name, given = as_name(name), [*overrides, *_overrides(settings)]
    return _start(configure(name, given), ["finetune", name, *given])


def compare(
    names: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (), benchmark: str = "heads_v2", **options: Any
) -> "Comparison":
    """Score methods and baselines under one protocol, with pictures. Ctrl-C keeps the rows that are finished.

    Args:
        names: Say what to score: one or several names that `zoo.load` takes, and folders of `zoo run`. By default all
            trained weights that suit the benchmark are scored.
        benchmark: Is for example "heads_v2", or "bfm" with a `data_root`; `zoo compare --help` lists all of them.
        options: Are those of `zoo.evaluation.comparison.compare`.

    Raises:
        ConfigError: A name, the benchmark or a setting is unknown or missing, or a method cannot be scored.
        DataError: The benchmark's data is missing or unreadable.
        WeightsError: Files are damaged.
    """
    from .evaluation.comparison import compare as run
    from .evaluation.scores import named

    given: Iterable[object] = names if isinstance(names, Iterable) and not isinstance(names, str) else [names]
    return run(named([as_name(name) for name in given], benchmark), benchmark, **options)


def evaluate(
    model: "os.PathLike[str] | Subject", benchmark: str = "heads_v2", *, name: str | None = None, **options: Any
) -> dict[str, Any]:
    """Score one method under a named protocol.

    Args:
        model: Is any name that `zoo.load` takes, a baseline of the benchmark (`constant`, `average`, `supervised`), a
            generator, or a function from images (N, 3, S, S) in [-1, 1] to depth (N, 1, S, S).
        benchmark: Is for example "heads_v2", or "bfm" with a `data_root`; `zoo compare --help` lists all of them.
        name: Is what the row is called; by default the name of the model, its class or the function.
        options: Are `quick`, `seed`, `progress` and the settings of the benchmark, as
            `zoo.evaluation.comparison.compare` takes them.

    Returns:
        The row of the table: `SIDE` in units of 1e-2, `MAD` in degrees, `n`, `protocol` and the rest.

    Raises:
        ConfigError: The benchmark, a setting or the model is unknown, or the model cannot be measured by it.
    """
    from .evaluation.scores import evaluate as run
    from .fitting.runs import FinishedRun

    subject = model if callable(model) or isinstance(model, FinishedRun) else as_name(model)
    return run(subject, benchmark, name=name, **options)


def invert(model: "str | os.PathLike[str] | Generator", image: "Source", **options: Any) -> "Reconstruction":
    """Find the object, camera and light that explain a photograph. The generator is left exactly as it was.

    Args:
        model: Is a generator, or any name that `zoo.load` takes.
        image: Is the photograph: a path, a picture of PIL, an array of bytes, or a tensor in [-1, 1].
        options: Are those of `zoo.editing.inversion.invert`, such as `align`, `mask`, `steps`, `tune` and `seed`.

    Raises:
        ConfigError: A name or an option is wrong, or the method has no camera or no search.
        DataError: The photograph cannot be used.
        WeightsError: Weights are missing or damaged.
        ZooError: The generator renders nothing but NaN.
    """
    from .editing.inversion import invert as run

    return run(_opened(model), image, **options)


def sample(
    model: "str | os.PathLike[str] | Generator",
    seeds: str | Iterable[SupportsIndex] = "0-7",
    *,
    size: int = 128,
    psi: float = 0.7,
    yaw: float = 0.0,
    pitch: float = 0.0,
    maps: str | Sequence[str] = (),
    relight: bool = False,
) -> "Image":
    """Draw objects as a contact sheet, one column for each seed, one row for each map.

    Args:
        model: Is a generator, or any name that `zoo.load` takes.
        seeds: Are whole numbers, or text such as "0-7" or "3,5,8". A seed gives the same object alone and among others.
        size: Is the side of each picture in pixels.
        psi: Truncates: 1 leaves the objects as they are, 0 makes each the average object.
        yaw: Says in radians how far the head turns to its left, see `Camera.orbit`.
        pitch: Says in radians how far the chin is raised.
        maps: Names the rows, out of rgb, albedo, normal, depth and shading, as a list or as text such as "rgb,depth";
            by default all that the method has.
        relight: Adds a row for each of seven lights.

    Raises:
        ConfigError: Seeds are wrong, a map is unknown, or the method has no light to change or no camera to turn.
        WeightsError: Weights are missing or damaged.
    """
    import torch

    from .geometry import Render
    from .output.lights import preset_lights
    from .output.sheets import MAPS, grid, maps_of, stack

    rows = maps_of(maps or MAPS)
    chosen, generator = seeds_of(seeds), _opened(model)
    if relight and not generator.uses_light:
        raise ConfigError(f"{generator.title} has no light to change; leave relight out")
    if yaw or pitch:
        generator.need_camera("yaw and pitch")
    latents, camera = draw(generator, chosen, psi), generator.camera(yaw, pitch, size)

    def render(light: "Light | None") -> "Render":
        with torch.no_grad():  # one object at a time keeps 256 px within 2 GB
            sampling = None if light is None else generator.keeping_albedo()
            return Render.cat([generator(one, camera, light, sampling) for one in latents])

    columns, names = [f"seed {seed}" for seed in chosen], {name: name for name in MAPS}
    sheets = [grid(render(None), maps=rows, labels=columns, names=names)]
    if relight:
        for side, light in preset_lights(generator.device).items():
            sheets.append(grid(render(light), maps=["rgb"], names={"rgb": f"light {side}"}))
    return stack(sheets)


def seeds_of(seeds: str | Iterable[SupportsIndex]) -> list[int]:
    """Read seeds: `"0-3,8"` becomes `[0, 1, 2, 3, 8]`, and so does an array of these numbers.

    Raises:
        ConfigError: There are none, they are no whole numbers from 0 to `MAX_SEED`, or a text has another form or asks
            for too many objects.
    """
    if isinstance(seeds, str):
        return _read_seeds(seeds)
    try:
        out = [operator.index(seed) for seed in seeds]
    except TypeError:
        raise ConfigError(f"seeds {reprlib.repr(seeds)}: give whole numbers, e.g. range(8), or text") from None
    if not out:
        raise ConfigError("no seeds: give one or more, e.g. range(8)")
    if odd := [seed for seed in out if not 0 <= seed <= MAX_SEED]:
        raise ConfigError(f"seed {odd[0]}: the smallest is 0, the largest {MAX_SEED}")
    return out


def _read_seeds(text: str) -> list[int]:
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
    """Draw one object for each of `seeds_of`. A seed gives the same object alone and among others."""
    parts = [generator.latents(1, seed=seed, psi=psi) for seed in seeds]
    return type(parts[0]).cat(parts)


def _opened(model: "str | os.PathLike[str] | Generator") -> "Generator":
    from .hub import load

    return model if callable(model) else load(as_name(model))


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
            text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else json.dumps(value, default=_plain)
            yield f"{prefix}{key}={text}"


def _plain(value: Any) -> Any:
    """What stands in JSON for a path, and for numbers and arrays of numpy and torch."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)
