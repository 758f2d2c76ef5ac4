"""What a training starts from: other weights, with the discriminator that was trained beside them."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import registry
from ..config import recipes
from ..config.fill import merge, to_dict
from ..config.overrides import given, split
from ..config.schemas import AdversarialConfig, Card, InstanceConfig, RunConfig
from ..errors import ConfigError, WeightsError
from ..hub import load
from ..runtime import draws
from ..runtime.files import printable
from ..weights.build import construct
from ..weights.checkpoints import latest
from ..weights.files import discriminator_state, read_weights
from ..weights.places import locate, newest
from .folder import differences, run_folder

if TYPE_CHECKING:
    from torch import Tensor

    from ..generators.base import Generator


log = logging.getLogger(__name__)


def discriminator(name: str) -> "dict[str, Tensor] | None":
    """The discriminator that was trained beside a generator; None for weights that travel without one."""
    return discriminator_state(locate(name))


def pair(name: str) -> "tuple[Generator, dict[str, Tensor] | None]":
    """A generator and the discriminator trained beside it, on the CPU; of a run, both from the same checkpoint."""
    place = f"file:{newest(locate(name))}"
    return load(place, device="cpu"), discriminator(place)


def initial(run: RunConfig) -> "tuple[Generator | None, dict[str, Tensor] | None]":
    """What a run starts from: generator and discriminator, each of which may be new.

    Both are new if the run goes on from its own checkpoint.

    Raises:
        WeightsError: The run's generator is not of the architecture of the weights, or there is no discriminator beside
            those that `system.discriminator.init` names.
    """
    if run.resume != "never" and (run.resume != "auto" or latest(run_folder(run) / "checkpoints") is not None):
        return None, None
    model, beside = matching(run) if run.init is not None else (None, None)
    if isinstance(run.system, AdversarialConfig) and (other := run.system.discriminator.init) is not None:
        beside = discriminator(other)
        if beside is None:
            raise WeightsError(f"system.discriminator.init={other}: these weights come without a discriminator")
    return model, beside


def matching(run: RunConfig) -> "tuple[Generator, dict[str, Tensor] | None]":
    """What `init` names, as `pair` gives it.

    Parts that only the run's generator has are new, with a line that says so. So is one said of other settings, under
    which the same weights may show something else; but not of the scene, which is that of the data.

    Raises:
        WeightsError: The run's generator is not of the architecture of the weights.
    """
    assert run.init is not None
    given, beside = pair(run.init)
    with draws.seeded(run.seed):
        model = construct(run.generator, {})
    own, theirs = model.state_dict(), model.taken_from(given)
    for key, value in theirs.items():
        ours = tuple(own[key].shape) if key in own else "nothing"
        if ours != tuple(value.shape):
            fix = "use the same generator settings as the weights"
            raise WeightsError(f"init={run.init}: {key} is {tuple(value.shape)} there and {ours} in this run; {fix}")
    if new := sorted({key.partition(".")[0] for key in own.keys() - theirs.keys()}):
        log.warning("init=%s: the weights have no %s, which starts anew", run.init, ", ".join(new))
    there, here = to_dict(given.config) | {"scene": None}, to_dict(model.config) | {"scene": None}
    if what := list(differences(there, here, "generator")):
        log.warning("init=%s: settings differ from those of the weights: %s", run.init, _some(what))
    model.load_state_dict({**own, **theirs})
    return model, beside


def _some(what: Sequence[str], most: int = 5) -> str:
    return "; ".join(what[:most]) + (f"; and {len(what) - most} more" if len(what) > most else "")


_D = "system.discriminator"
_SOON = ("trainer.max_kimg=20", "trainer.sample_kimg=0.5", "trainer.patience=8")
_FEW = ("system.ada_target=0.6", "system.ada_kimg=20", "system.freeze_d=1")  # against learning few images by heart


def finetune(name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The run that trains weights further: their recipe and architecture, its last stage, a third of its rates.

    It is made for tens to hundreds of images: it ends after 20 thousand images, or when a fifth of the pictures, held
    back, shows no progress; it draws sheets often; a discriminator sees augmented images, and its first layers hold
    still. Overrides replace all that. A folder given to weights of the embedded heads has its faces cut like heads.

    Raises:
        ConfigError: Unknown names or keys; or a method that is fitted to single pictures.
        WeightsError: The card does not say which recipe trained the weights.
    """
    stored = read_weights(locate(name))
    known = stored.card or Card()
    if not known.recipe:
        raise WeightsError(f"{name}: its card names no recipe; use: zoo train RECIPE init={name}")
    if known.recipe not in (*recipes.names(), *registry.names()):  # a file must not choose what else is opened
        known_as = printable(known.recipe[:100])
        raise WeightsError(f"{name}: its card's recipe {known_as} is none of zoo's; use: zoo train RECIPE init={name}")
    architecture = {k: v for k, v in stored.config.items() if k not in ("name", "scene")}
    if isinstance(recipes.load_run(known.recipe).system, InstanceConfig):
        method = stored.config["name"]
        raise ConfigError(f"{name}: {method} is fitted to single pictures, not trained: zoo run {method} photo.jpg")
    run = recipes.load_run(known.recipe, [*_left_open(known.recipe, overrides), *overrides])
    own, system = given(overrides, "generator"), given(overrides, "system")
    run.generator = merge(run.generator, {k: v for k, v in architecture.items() if k not in own})
    run.init = name
    typed = split(overrides)[1]
    asked = typed.keys() & {_D, f"{_D}.init"}
    if isinstance(run.system, AdversarialConfig) and not asked and _of_a_kind(name, run.system.discriminator.init):
        run.system.discriminator.init = None  # the one that was trained beside the weights is the better start
    if "name" not in typed:
        run.name = f"{Path(name).name}-finetune"
    if "start_kimg" not in system:
        run.system.start_kimg = run.system.clock(1000 * known.kimg) / 1000
    if "stages" not in system:
        last = run.system.stages[-1]
        run.system.stages = [dataclasses.replace(last, kimg=0.0, fade_kimg=0.0, lr_g=last.lr_g / 3, lr_d=last.lr_d / 3)]
    return run


def _of_a_kind(name: str, other: str | None) -> bool:
    """Whether both weights come with a discriminator, and with the same one but for its numbers."""
    if other is None:
        return False
    one, two = discriminator(name), discriminator(other)
    return one is not None and two is not None and one.keys() == two.keys()


def _left_open(recipe: str, overrides: Sequence[str]) -> list[str]:
    """Overrides for a fine-tuning by a recipe, which those of the user replace."""
    plain, (selected, settings) = recipes.load_run(recipe), split(overrides)
    drawn = plain.data.name == "heads" and "data" not in selected and "data.name" not in settings
    out = [*_SOON, *(_FEW if isinstance(plain.system, AdversarialConfig) else ())]
    if drawn and "data.root" in settings:
        out += ["data=folder", "data.align=heads"]
    elif drawn or "heads" in (selected.get("data"), settings.get("data.name")):  # they have a split val
        return out
    return [*out, "data.holdout=0.2"]
