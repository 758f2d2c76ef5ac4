"""Published weights of the papers, in the form of this library: `import_official`."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import hub
from ..config.fill import merge
from ..config.schemas import Card
from ..errors import ConfigError, WeightsError, unknown
from ..generators.base import Generator
from ..priors import LightPrior, ViewPrior
from ..resources import user_path
from ..weights import files as weights
from ..weights.build import build
from ..weights.cards import CARD, CONFIG, WEIGHTS
from . import discriminators, layouts
from .layouts import Tensors, average, field_class
from .methods import method as known_method
from .methods.base import SCENES, Method
from .methods.shadegan import window
from .pickles import OfficialFile, read

DATASETS = {
    "celeba": "CelebA",
    "bfm": "BFM (synface)",
    "cats": "Cats",
    "carla": "CARLA",
    "syncar": "ShapeNet cars",
    "cars": "LSUN cars",
    "churches": "LSUN churches",
    "ffhq": "FFHQ",
}


def import_official(
    method: str,
    path_or_tensors: str | Path | Mapping[str, Any],
    *,
    ema: str | Path | Mapping[str, Any] | Sequence[Tensor] | None = None,
    out: str | Path | None = None,
    dataset: str = "celeba",
    light: str | Path | None = None,
    view: str | Path | None = None,
    discriminator: str | Path | Mapping[str, Any] | None = None,
    delta: float | None = None,
    step: int | None = None,
    overwrite: bool = False,
) -> Generator:
    """A generator with the weights of a published file, bit for bit; no code of the file is run.

    Sizes are read from the shapes of the tensors; camera, ray range and samples are those of the published curriculum.

    Args:
        method: A key of `methods.METHODS`, or one whose table a plug-in brings.
        path_or_tensors: The published file of the generator, or what it holds.
        ema: The file of the averaged weights that lies beside it, or what it holds; they replace the others.
        out: Folder to write, as `zoo.save` does, so that `zoo.load("file:OUT")` reads it.
        dataset: What the weights were trained on, a key of the method's `settings`.
        light: The light prior of the data, `{mean, cov}` in a .pth, .json or .npz.
        view: The viewpoint prior of GAN2Shape, in the same form.
        discriminator: The published file of the one that was trained beside it, or what it holds; `out` gets it, too.
            If the generator's own file has one, as StyleGAN2's and GRAF's do, that is taken.
        delta: For ShadeGAN with surface tracking, the width of the sampled interval when the weights were saved; 0 for
            the whole ray. Known for the released CelebA weights.
        step: In place of `delta`: the training step at which they were saved.
        overwrite: Replace weights that lie in `out` already.

    Returns:
        The network on the CPU, in evaluation mode, frozen, with a `card`.

    Raises:
        ConfigError: Unknown method or data set, an option that the method has no use for.
        WeightsError: Missing, damaged or hostile file, keys or shapes that do not fit, values that are not finite; a
            folder that cannot be written, or holds weights already.
        DataError: A light prior that cannot be read.
    """
    known = known_method(method)
    if dataset not in known.settings:
        raise ConfigError(unknown(f"data set of the published {method}", dataset, known.settings))
    if ema is not None and not known.averaged:
        raise ConfigError(f"ema: {method}'s own file has all there is; leave ema out")
    if view is not None and not known.takes_view:
        raise ConfigError(f"view={view}: only gan2shape has such a prior; leave it out")
    if discriminator is not None and not known.discriminators:
        raise ConfigError(f"discriminator: {method} is trained without one; leave it out")
    if discriminator is not None and out is None:
        raise ConfigError("discriminator: it goes to the folder that is written; name one with out")

    out = None if out is None else _folder(out, overwrite)
    file = _open(path_or_tensors)
    tensors, notes = known.tensors(file), file.notes
    values: dict[str, Any] = {"name": method, **known.settings[dataset], **known.sizes(tensors, file.where)}
    values["scene"] = merge(SCENES.get(dataset, {}), values.get("scene", {}))
    sources: dict[str, str] = {}
    _cite(sources, "generator", file.where, file.sha256)
    _read_priors(values, known, light, view, sources)
    if (field := field_class(file)) and (field == "TALLSIREN") != (dataset == "carla"):
        fix = "give dataset carla" if field == "TALLSIREN" else "its data set is not carla"
        raise ConfigError(f"{file.where}: its field is a {field}, and dataset is {dataset}; {fix}")
    if values.get("surface_tracking"):
        values["window"] = window(dataset, values["view_condition"], delta, step)
    elif delta is not None or step is not None:
        raise ConfigError("delta and step are for ShadeGAN with surface tracking, which this file has not; leave out")

    with torch.device("meta"):  # before memory is set aside for what the file claims to be
        empty = build(values)
    if light is not None and not empty.uses_light:
        raise ConfigError(f"light={light}: {method} has no light; leave it out")
    tensors = _checked(empty, tensors, file.where)
    if ema is not None:
        averaged = _open(ema)
        tensors = _checked(empty, tensors | _by_name(empty, average(averaged), averaged.where), averaged.where)
        _cite(sources, "average", averaged.where, averaged.sha256)
        notes |= averaged.notes
    opponent = file if discriminator is None else _open(discriminator)
    beside = _discriminator(known, opponent, own=discriminator is None) if out is not None else None
    _cite(sources, "discriminator", opponent.where, opponent.sha256)
    notes |= opponent.notes
    model = build(values)
    weights.fit(model, model.state_dict() | tensors, file.where)
    model.card = _card(model, known, dataset, sources, averaged=ema is not None or not known.averaged)
    if notes.keys() - {"names"}:
        model.card.limits[0] = model.card.limits[0].replace("bit for bit", "as 32-bit numbers")
    if light is None and model.uses_light:
        model.card.limits.append("Its light prior was set by hand: the published one lies in a file of its own.")
    model.card.limits += notes.values()
    if out is not None:
        try:
            card = replace(model.card, name=out.resolve().name)
            hub.save(model, out, card=card, discriminator=beside, overwrite=overwrite)
        except OSError as error:
            raise WeightsError(f"{out}: cannot be written ({error.strerror}); name another folder") from None
        return hub.load(f"file:{out}", device="cpu")
    return model.eval().requires_grad_(False)


def _folder(out: str | Path, overwrite: bool) -> Path:
    """The folder to write, looked at before the work."""
    folder = user_path(out, WeightsError)
    if folder == Path() or not folder.resolve().name:
        raise WeightsError(f"out={str(out)!r} names no folder of its own; name a new one, e.g. my/pigan.celeba")
    if folder.exists() and not folder.is_dir():
        raise WeightsError(f"{folder} is a file; name a new folder for the weights")
    if not overwrite and (taken := [n for n in (WEIGHTS, CONFIG, CARD) if (folder / n).exists()]):
        fix = "choose another folder, or replace it with --overwrite (from Python: overwrite=True)"
        raise WeightsError(f"{folder / taken[0]} exists: {fix}")
    return folder


def _read_priors(
    values: dict[str, Any], known: Method, light: str | Path | None, view: str | Path | None, sources: dict[str, str]
) -> None:
    """Put the numbers of prior files among the settings, and the files among the sources."""
    if light is not None:
        light = user_path(light, WeightsError)
        prior = LightPrior.load(light)
        flip = torch.tensor([1.0, 1.0, -1.0 if known.mirrored_light else 1.0, 1.0])
        mean, cov = prior.mean * flip, prior.cov * flip * flip[:, None]
        values["scene"] = {**values["scene"], "light": {"mean": mean.tolist(), "cov": cov.tolist()}}
        _cite(sources, "light", light, hashlib.sha256(light.read_bytes()).hexdigest())
    if view is not None:
        view = user_path(view, WeightsError)
        views = ViewPrior.load(view)
        values["view"] = {"mean": views.mean.tolist(), "cov": views.cov.tolist()}
        _cite(sources, "view", view, hashlib.sha256(view.read_bytes()).hexdigest())


def _discriminator(known: Method, file: OfficialFile, own: bool) -> Tensors | None:
    """That of a file; of the generator's own file, if it has one."""
    inside = layouts.by_network(file.tree).get(known.beside)
    if own and not (isinstance(inside, Mapping) and inside):
        return None
    tensors = layouts.discriminator(file, known.beside)
    where = f"{file.where}: its discriminator" if own else file.where
    network = discriminators.like(known.discriminators, tensors, where)
    return {key: value.clone() for key, value in _checked(network, tensors, where).items()}


def _checked(empty: nn.Module, tensors: Tensors, where: str) -> Tensors:
    """Tensors that are a network's own in name, shape and type.

    Constant buffers may be missing: some published StyleGAN2 files lack them; so may the head for poses, which only
    zoo's StyleGAN2 discriminator has.

    Raises:
        WeightsError: A name, a shape or a type differs.
    """
    own = empty.state_dict()
    needed = {key for key, _ in empty.named_parameters() if not key.startswith("pose_head.")}
    spare = own.keys() - needed - tensors.keys()
    weights.check_fit(empty, tensors | {key: torch.zeros(own[key].shape) for key in spare}, where)
    if other := [key for key, value in tensors.items() if value.dtype != torch.float32]:
        raise WeightsError(f"{where}: {other[0]} is {tensors[other[0]].dtype}, published weights are float32")
    return tensors


def _open(given: Any) -> OfficialFile:
    return read(given) if isinstance(given, str | Path) else OfficialFile("tensors", given)


def _cite(sources: dict[str, str], what: str, path: str | Path, sha256: str) -> None:
    """Add a file by its name; one of a name that another file has also says what it holds."""
    name = Path(path).name
    if sha256:  # else it never was a file
        sources[name if sources.get(name, sha256) == sha256 else f"{name} ({what})"] = sha256


def _by_name(model: Generator, values: Tensors | list[Tensor], where: str) -> Tensors:
    """Averaged parameters by name; those without names are in the order of `parameters()`."""
    names = [name for name, _ in model.named_parameters()]
    if isinstance(values, list):
        if len(names) != len(values):
            raise WeightsError(f"{where}: {len(values)} averaged tensors for {len(names)} parameters of the generator")
        return dict(zip(names, values, strict=True))
    if lacking := [name for name in names if name not in values]:
        raise WeightsError(f"{where}: an average without {lacking[0]}; is it one of this generator?")
    return values


def _card(model: Generator, known: Method, dataset: str, sources: dict[str, str], averaged: bool) -> Card:
    """What is known of the weights: all of it from the authors, apart from the conversion."""
    method, data = model.name, DATASETS.get(dataset, dataset)
    what = "averaged weights" if averaged else "weights of the last step, not averaged"
    limits = [
        "Not trained here, and no figure was measured: the tensors are the published ones, bit for bit.",
        f"Camera, ray range and samples are those of the published curriculum for {data}.",
    ]
    return Card(
        name=method,
        summary=f"published {method}, {data}, {what}",
        licence={
            "code": "Apache-2.0 (this library)",
            "weights": f"the authors' terms, which importing does not change (their repository: {known.code_licence})",
            "data": f"the terms of {data}",
        },
        data=data,
        limits=limits if averaged else [*limits, "The papers show averaged weights: give the file ema.pth, too."],
        citation=known.citation,
        sources=sources,
    )
