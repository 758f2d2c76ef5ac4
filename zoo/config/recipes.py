"""From recipes to a run: the dataclasses of `zoo.config.schemas`, filled from YAML and `key=value`, and checked.

A recipe is one YAML file in `configs/`: `use:` names the group files it starts from (`generator/shadegan`,
`data/heads`, ...), the other keys override them, and the command line overrides both.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import registry, resources
from ..errors import ConfigError, unknown
from .checks import validate
from .fill import generator_config, merge, structured, to_dict, without_name
from .prior_files import read_prior
from .schemas import SYSTEMS, RunConfig, SceneConfig

GROUPS = ("generator", "data", "system", "trainer")


def names() -> list[str]:
    """Recipe names: the YAML files directly in `configs/`."""
    return sorted(path.stem for path in resources.configs().glob("*.yaml"))


def group(kind: str) -> list[str]:
    """Names of the files of one group, e.g. `group("data")`."""
    return sorted(path.stem for path in (resources.configs() / kind).glob("*.yaml"))


def _read(path: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from yaml import YAMLError

    try:
        text = path.read_text(encoding="utf-8")
        if "${" in text:
            raise ConfigError(f"{path}: interpolations '${{...}}' are not allowed; write the value out")
        loaded = OmegaConf.to_container(OmegaConf.create(text))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of keys to values")
    return {str(k): v for k, v in loaded.items()}


def group_file(kind: str, name: str) -> dict[str, Any]:
    if kind == "generator" and name not in group(kind):
        registry.target(name)  # a plug-in brings a class only
        return {"name": name}
    if name not in group(kind):
        raise ConfigError(unknown(kind, name, group(kind)))
    values = _read(resources.configs() / kind / f"{name}.yaml")
    values.pop("class", None)
    if kind in ("generator", "data"):
        values["name"] = name
    return values


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """`["data=celeba", "trainer.devices=4"]` as nested values; `group=name` selects a group file.

    Raises:
        ConfigError: an argument is not of the form key=value.
    """
    from omegaconf import OmegaConf

    for argument in arguments:
        if "=" not in argument.lstrip("="):
            raise ConfigError(f"{argument!r} is not an override; write key=value, e.g. trainer.max_kimg=10")
        if "${" in argument:
            raise ConfigError(f"{argument!r}: interpolations '${{...}}' are not allowed; write the value out")
    try:
        container = OmegaConf.to_container(OmegaConf.from_dotlist(_selects_first(arguments)))
    except Exception as error:  # YAML inside a value: OmegaConf raises the parser's own types
        raise ConfigError(f"overrides {' '.join(arguments)!r}: {' '.join(str(error).split())}") from None
    assert isinstance(container, dict)
    return {str(k): v for k, v in container.items()}


def _selects_first(arguments: Sequence[str]) -> list[str]:
    """`data=celeba` before `data.root=/d`, as `data.select=celeba`, so that their order on the command line is free."""
    selects, rest = [], []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in GROUPS:
            selects.append(f"{key}.__select__={value}")
        else:
            rest.append(argument)
    return selects + rest


def load_run(recipe: str, overrides: Sequence[str] = ()) -> RunConfig:
    """A run from a recipe name, a method name or the path of a YAML file, plus `key=value` overrides.

    Raises:
        ConfigError: unknown names or keys, wrong types, values that cannot work; always with the full key.
    """
    if recipe in names():
        values = _read(resources.configs() / f"{recipe}.yaml")
    elif recipe.endswith((".yaml", ".yml")):
        values = _read(Path(recipe))
    elif recipe in registry.names():
        values = {
            "use": [f"generator/{recipe}", "data/heads", f"system/{registry.resolve(recipe).system}", "trainer/auto"]
        }
    else:
        raise ConfigError(unknown("recipe", recipe, [*names(), *registry.names()]))
    uses = {str(use).partition("/")[0]: str(use).partition("/")[2] for use in values.pop("use", [])}
    over = parse_overrides(overrides)
    for kind in GROUPS:
        if isinstance(over.get(kind), dict) and "__select__" in over[kind]:
            uses[kind] = str(over[kind].pop("__select__"))
            if kind == "data":  # another data set: what the recipe said about the old one does not hold
                values.pop("data", None)
    if strange := sorted(set(uses) - set(GROUPS)):
        raise ConfigError(f"use: unknown group {strange[0]!r}; groups are {', '.join(GROUPS)}")
    for part in (values, over):
        _read_priors(part)
    merged: dict[str, Any] = {"name": Path(recipe).stem, "recipe": recipe}
    for kind, name in uses.items():
        merged[kind] = group_file(kind, name)
    merged = merge(merge(merged, values), over)
    regime = str((merged.get("system") or {}).get("name") or "adversarial")
    if regime not in SYSTEMS:
        raise ConfigError(unknown("system", regime, list(SYSTEMS)))
    run = structured(RunConfig, merged, "", RunConfig(system=SYSTEMS[regime]()))
    if "name" not in run.generator:
        raise ConfigError("generator.name is missing: start from a method, e.g. use: [generator/shadegan, ...]")
    name, own = run.generator["name"], {"scene": to_dict(run.data.scene), **without_name(run.generator)}
    run.generator = {"name": name, **to_dict(generator_config(name, own))}
    validate(run, structured(SceneConfig, group_file("data", "heads")["scene"], "data.scene"))
    return run


def _read_priors(values: dict[str, Any]) -> None:
    """Put the numbers of a file in place of `data.scene.light=FILE` and the like: they go with a run."""
    data, system = values.get("data"), values.get("system")
    scene = data.get("scene") if isinstance(data, dict) else None
    for holder, kind in ((scene, "light"), (scene, "pose"), (system, "pose"), (values.get("generator"), "view")):
        if isinstance(holder, dict) and isinstance(holder.get(kind), str):
            holder[kind] = read_prior(kind, holder[kind])
