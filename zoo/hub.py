"""From a name to a network and back: list, build, load, save, card. Functions that need torch import it themselves.

Weights travel as a folder of `model.safetensors` (its header carries the config), `config.json` (a copy, for people)
and `README.md` (the card). Nothing here unpickles, and no file is parsed before its hash has been compared with its
card.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import cards, config, registry, resources
from .cards import CARD, CONFIG, WEIGHTS, Card
from .errors import ConfigError, WeightsError
from .schemas import RunConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .editing.reconstruction import Reconstruction
    from .evaluation.protocols import Predictor, Row
    from .generators.base import Generator

_FFHQ = {  # weights that are made from a package that the user installed
    "ffhq": "mobilestylegan.ffhq",
    "mobilestylegan": "mobilestylegan.ffhq",
    "mobilestylegan.ffhq": "mobilestylegan.ffhq",
    "ffhq256": "mobilestylegan.ffhq256",
    "mobilestylegan.ffhq256": "mobilestylegan.ffhq256",
}


def card(name: str) -> Card:
    """The card of weights, by any name that `load` takes.

    Raises:
        ConfigError: unknown name.
        WeightsError: no card there, or it cannot be read.
    """
    place = _locate(name)
    folder = place if place.is_dir() else place.parent
    if not (folder / CARD).is_file():
        raise WeightsError(f"{folder}: no {CARD}, so nothing is known of these weights")
    return cards.read(folder / CARD)


def build(name_or_config: "str | Mapping[str, Any]", *, seed: int = 0, **overrides: Any) -> "Generator":
    """A new network with random weights, in training mode on the CPU. The same seed gives the same weights.

    Args:
        name_or_config: method, recipe, path of a recipe's YAML file, or a mapping with `name` and fields of its Config.
        seed: of the weights; the global random state is left as it was.
        overrides: fields of the method's Config, e.g. `hidden_dim=64`; mappings are merged.

    Raises:
        ConfigError: unknown name or field, or a wrong type.
    """
    import torch

    values = _values(name_or_config) if isinstance(name_or_config, str) else name_or_config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _construct(values, overrides)
        model.initialise()
    return model


def _construct(values: "Mapping[str, Any]", overrides: "Mapping[str, Any]") -> "Generator":
    own = {k: v for k, v in values.items() if k != "name"}
    name = str(values.get("name", ""))
    model: Generator = registry.resolve(name)(config.generator_config(name, config.merge(own, overrides)))
    model.name = name
    return model


def _values(name: str) -> dict[str, Any]:
    if name in registry.names() and name not in config.group("generator"):
        return {"name": name}  # a plug-in brings a class only
    return config.load_run(name).generator


def load(name: str, *, device: str = "auto", pretrained: bool = True, **overrides: Any) -> "Generator":
    """A trained network: averaged weights, verified, in evaluation mode, frozen, with `.name` and `.card`.

    Args:
        name: a method (`shadegan`, its default weights), `method.tag`, `file:PATH` of a folder, a .safetensors file, a
            run of `zoo train` or one of its checkpoints, or `hf:org/repo@revision`. A path that exists needs no prefix.
        device: "auto" (GPU if there is one), or what torch calls a device.
        pretrained: False gives the same architecture with random weights, as `build` does.
        overrides: fields of the Config that leave the weights' shapes alone, e.g. `steps=24`.

    Raises:
        ConfigError: unknown name or field, the nearest are offered; a device that is not there.
        WeightsError: missing or damaged file, wrong hash, weights that do not fit or are not finite.
    """
    import torch

    from . import weights

    if not pretrained:
        if name in registry.names() and not any(n.startswith(f"{name}.") for n in registry.weights()):
            return build(name, **overrides)
        return build(weights.read_weights(_locate(name)).config, **overrides)
    place, chosen = _locate(name), _device(device)
    stored = weights.read_weights(place)
    if stored.card is None and place.parent == resources.checkpoints():
        raise WeightsError(f"{place}: shipped weights without a card cannot be verified; install zoo again")
    with torch.random.fork_rng(devices=[]):
        model = _construct(stored.config, overrides)
    weights.fit(model, stored.tensors, str(place))
    model.card = stored.card
    if stored.card is not None and stored.card.name:
        model.name = stored.card.name
    return model.eval().requires_grad_(False).to(chosen)


def _device(name: str) -> "torch.device":
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):  # unknown to torch; known, but not here; torch built without it
        raise ConfigError(f"device {name!r} is not on this machine; use cpu, or auto to take what there is") from None


def load_reconstruction(path: "str | Path", generator: "Generator | None" = None) -> "Reconstruction":
    """What `Reconstruction.save` wrote, with its generator.

    Args:
        path: the .safetensors file.
        generator: the one that made it; by default the file's own, if it is among those that are shipped.

    Raises:
        WeightsError: missing or damaged, made with other weights, or with weights that are not shipped.
    """
    from .editing import reconstruction

    if generator is None:
        name = reconstruction.model_of(path)
        if name not in registry.weights():  # a file must not choose what else is opened
            raise WeightsError(f"{path}: made with {name!r}, no shipped weights; pass its generator")
        generator = load(name)
    return reconstruction.read(path, generator)


def save(
    model: "Generator",
    folder: "str | Path",
    *,
    card: Card | None = None,
    discriminator: "Mapping[str, Tensor] | None" = None,
    overwrite: bool = False,
) -> Path:
    """Write weights, config and card to a folder that `load("file:folder")` reads back bit for bit.

    Args:
        model: from `build` or `load`, or any instance of a registered class.
        folder: made if missing.
        card: what is known of the weights; hash, size and number of parameters are filled in.
        discriminator: state to travel along, so that fine-tuning goes on from it; see `discriminator`.
        overwrite: replace weights that lie there already.

    Returns:
        The folder.

    Raises:
        WeightsError: weights lie there already, or tensors share memory.
        ConfigError: the class of the model is not registered.
    """
    from . import weights

    folder = Path(folder)
    if not overwrite and (taken := [n for n in (WEIGHTS, CONFIG, CARD) if (folder / n).exists()]):
        raise WeightsError(f"{folder / taken[0]} exists: choose another folder, or pass overwrite=True")
    method = _method(model)
    known = card or model.card or Card(name=method)
    weights.write_weights(model, {"name": method, **config.to_dict(model.config)}, known, folder, discriminator)
    return folder


def _method(model: "Generator") -> str:
    method, place = model.name.partition(".")[0], f"{type(model).__module__}:{type(model).__name__}"
    for name in sorted(registry.names(), key=lambda name: name != method):  # of two names of one class, the model's own
        if registry.resolve(name) is type(model):
            return name
    raise ConfigError(f"{place} is not registered: add configs/generator/<name>.yaml with 'class: {place}'")


def evaluate(model: "str | Generator | Predictor", benchmark: str = "heads", **options: Any) -> dict[str, Any]:
    """Score one method under a named protocol.

    Args:
        model: any name that `load` takes, a baseline (`constant`, `average`, `supervised`), a generator, or a function
            from images (N, 3, S, S) in [-1, 1] to depth (N, 1, S, S).
        benchmark: "heads" or "bfm".
        options: see `zoo.evaluation.protocols.evaluate`.

    Returns:
        The row of the table: `SIDE` in units of 1e-2, `MAD` in degrees, `n`, `protocol` and the rest.
    """
    return score(model, benchmark, **options).figures()


def score(model: "str | Generator | Predictor", benchmark: str = "heads", **options: Any) -> "Row":
    """As `evaluate`, with the row itself."""
    from .evaluation.protocols import BASELINES
    from .evaluation.protocols import evaluate as run

    named = isinstance(model, str) and model not in BASELINES
    subject = load(model) if named else model  # type: ignore[arg-type]
    if isinstance(model, str):
        options.setdefault("name", model)
    return run(subject, benchmark, **options)


def discriminator(name: str) -> "dict[str, Tensor] | None":
    """The discriminator that was trained beside a generator; None for weights that travel without one."""
    from . import weights

    return weights.discriminator_state(_locate(name))


def pair(name: str) -> "tuple[Generator, dict[str, Tensor] | None]":
    """A generator and the discriminator trained beside it, on the CPU; of a run, both from the same checkpoint."""
    from . import weights

    place = f"file:{weights.newest(_locate(name))}"
    return load(place, device="cpu"), discriminator(place)


def initial(run: RunConfig) -> "tuple[Generator | None, dict[str, Tensor] | None]":
    """What a run starts from, as `pair` gives it; nothing without `init`, or if it goes on from its own checkpoint.

    Raises:
        WeightsError: the run's generator is not of the architecture of the weights.
    """
    from .systems.checkpoint_io import latest
    from .systems.train import run_folder

    goes_on = run.resume != "never" and (run.resume != "auto" or latest(run_folder(run) / "checkpoints") is not None)
    return (None, None) if run.init is None or goes_on else matching(run)


def matching(run: RunConfig) -> "tuple[Generator, dict[str, Tensor] | None]":
    """What `init` names, as `pair` gives it.

    Raises:
        WeightsError: the run's generator is not of the architecture of the weights.
    """
    assert run.init is not None
    model, beside = pair(run.init)
    own, given = _construct(run.generator, {}).state_dict(), model.state_dict()
    for key in [*own, *given]:
        ours, theirs = (tuple(s[key].shape) if key in s else "nothing" for s in (own, given))
        if ours != theirs:
            fix = "use the same generator settings as the weights"
            raise WeightsError(f"init={run.init}: {key} is {theirs} there and {ours} in this run; {fix}")
    return model, beside


def finetune(name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The run that trains weights further: their recipe and architecture, its last stage, a third of its rates.

    Raises:
        ConfigError: unknown names or keys.
        WeightsError: the card does not say which recipe trained the weights.
    """
    from . import weights

    stored = weights.read_weights(_locate(name))
    known = stored.card or Card()
    if not known.recipe:
        raise WeightsError(f"{name}: its card names no recipe; use: zoo train RECIPE init={name}")
    architecture = {k: v for k, v in stored.config.items() if k not in ("name", "scene")}
    run = config.load_run(known.recipe, overrides)
    given = config.parse_overrides(overrides)
    generator, system = given.get("generator", {}), given.get("system", {})
    run.generator = config.merge(run.generator, {k: v for k, v in architecture.items() if k not in generator})
    run.init = name
    if "name" not in given:
        run.name = f"{Path(name).name}-finetune"
    if "start_kimg" not in system:
        run.system.start_kimg = known.kimg
    if "stages" not in system:
        last = run.system.stages[-1]
        run.system.stages = [dataclasses.replace(last, kimg=0.0, fade_kimg=0.0, lr_g=last.lr_g / 3, lr_d=last.lr_d / 3)]
    return run


def _locate(name: str) -> Path:
    """The folder or file behind a name."""
    prefix, _, rest = name.partition(":")
    if prefix == "hf" and rest:
        from .weights import download

        return download(rest)
    if prefix == "file" and rest:
        place = Path(rest).expanduser()
        if not place.exists():
            raise WeightsError(f"{name}: {place} does not exist")
        return place
    shipped = registry.weights()
    if name in shipped:
        return resources.checkpoints() / name
    if tags := [n for n in shipped if n.partition(".")[0] == name]:
        defaults = [n for n in tags if cards.read(resources.checkpoints() / n / CARD).default]
        return resources.checkpoints() / (defaults or tags)[-1]
    if name in _FFHQ:
        from .importers.ffhq import folder

        return folder(_FFHQ[name])
    if name in registry.names():
        known = ", ".join(shipped) or "none"
        raise WeightsError(f"{name} has no trained weights here: train it, or pass pretrained=False. Known: {known}")
    if Path(name).expanduser().exists():
        return Path(name).expanduser()
    if "/" in name or "\\" in name or name.endswith((".safetensors", ".ckpt")):
        raise ConfigError(f"{name!r} does not exist: write file:{name} for a path on this disk, hf:{name} for the hub")
    raise ConfigError(registry.unknown("model", name, [*registry.names(), *shipped]))
