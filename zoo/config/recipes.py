"""From recipes to a run: the dataclasses of `zoo.config.schemas`, filled from YAML and `key=value`, and checked.

A recipe is one YAML file in `configs/`: `use:` names the group files it starts from (`generator/shadegan`,
`data/heads`, ...), the other keys override them, and the command line overrides both.
"""

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import registry
from ..errors import ConfigError, unknown
from ..resources import config_files
from .bounds import need
from .checks import validate
from .fill import generator_config, merge, structured, to_dict, without_name
from .overrides import GROUPS, split, typed
from .prior_files import read_prior
from .regimes import regime
from .schemas import RunConfig, SceneConfig
from .untrusted import MOST_BYTES, not_yaml, refuse_hostile, refuse_hostile_yaml


def names() -> list[str]:
    """Recipe names: the YAML files directly in `configs/`, and those of plug-ins."""
    return sorted(config_files())


def group(kind: str) -> list[str]:
    """Names of the files of one group, e.g. `group("data")`."""
    return sorted(config_files(kind))


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path}: {path.stat().st_size:,} bytes is no recipe, which has {MOST_BYTES:,} at most")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise not_yaml(error, str(path)) from None
    return copy.deepcopy(_parsed(text, str(path)))


@functools.lru_cache(maxsize=256)
def _parsed(text: str, where: str) -> dict[str, Any]:
    """The mapping in a YAML text. A run takes five or six files, most of them those of the run before."""
    from omegaconf import OmegaConf

    refuse_hostile_yaml(text, where)
    try:
        loaded = OmegaConf.to_container(OmegaConf.create(text))
    except Exception as error:  # of two libraries, and of Python for dates and numbers that are none
        raise not_yaml(error, where) from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{where}: a configuration is a mapping of keys to values")
    refuse_hostile(loaded, where)
    return {str(k): v for k, v in loaded.items()}


def group_file(kind: str, name: str) -> dict[str, Any]:
    """The values of a group's file, with its `name`.

    Raises:
        ConfigError: Unknown; the message offers the nearest name.
    """
    files = config_files(kind)
    if kind == "generator" and name not in files:
        registry.target(name)  # a plug-in need not bring defaults
        return {"name": name}
    if name not in files:
        raise ConfigError(unknown(kind, name, files))
    values = _read(files[name])
    values.pop("class", None)
    if kind in ("generator", "data"):
        values["name"] = name
    return values


def load_run(recipe: str, overrides: Sequence[str] = ()) -> RunConfig:
    """A run from a recipe name, a method name or the path of a YAML file, plus `key=value` overrides.

    Raises:
        ConfigError: Unknown names or keys, wrong types, values that cannot work; always with the full key.
    """
    selected, settings = split(overrides)
    values = _recipe(recipe)
    if odd := [kind for kind in GROUPS if not isinstance(values.get(kind) or {}, dict)]:
        raise ConfigError(f"{recipe}: {odd[0]}: give a mapping of keys to values")
    uses = _uses(values.pop("use", []), recipe) | selected
    if "data" in selected:  # another data set: what the recipe said about the old one does not hold
        values.pop("data", None)
    _read_priors(values)
    groups = {kind: group_file(kind, name) for kind, name in uses.items()}

    def named(kind: str, default: str) -> str:
        inside = values.get(kind)
        own = inside.get("name") if isinstance(inside, dict) else None
        return str(settings.get(f"{kind}.name") or own or groups.get(kind, {}).get("name") or default)

    method = named("generator", "")
    if not method:
        raise ConfigError("generator.name is missing: start from a method, e.g. use: [generator/shadegan, ...]")
    schema = registry.resolve(method).Config
    system_schema = regime(named("system", "adversarial")).schema
    merged: dict[str, Any] = {"name": Path(recipe).stem, "recipe": recipe, **groups}
    if named("data", "heads") != "heads":  # those are drawn by a camera that is known
        merged["data"] = merge(groups.get("data", {}), {"scene": _own_scene(schema)})
    merged = merge(merged, values)
    if "data.name" in settings and named("data", "heads") != "heads" and merged.get("data"):
        merged["data"].pop("length", None)  # said of the recipe's own heads, and of no use to pictures

    for over in typed(settings, {"generator": schema, "system": system_schema}):
        _read_priors(over)
        merged = merge(merged, over)
    run = structured(RunConfig, merged, "", RunConfig(system=system_schema()))
    own, scene = without_name(run.generator), to_dict(run.data.scene)
    given = own.setdefault("scene", scene)
    need(given == scene, "generator.scene", given, "the scene is that of the data; set data.scene instead")
    run.generator = {"name": method, **to_dict(generator_config(method, own))}
    validate(run, structured(SceneConfig, group_file("data", "heads")["scene"], "data.scene"))
    return run


def _own_scene(schema: type) -> dict[str, Any]:
    """What a method's own Config says of the scene: the camera that its paper takes photographs for."""
    own, plain = to_dict(schema().scene), to_dict(SceneConfig())
    return {key: value for key, value in own.items() if value != plain[key]}


def _recipe(recipe: str) -> dict[str, Any]:
    """The values of a recipe's file; for a method alone, the groups that a first training of it takes."""
    if recipe in (files := config_files()):
        return _read(files[recipe])
    if recipe.endswith((".yaml", ".yml")):
        return _read(Path(recipe))
    if recipe in registry.names():
        system = registry.resolve(recipe).system
        return {"use": [f"generator/{recipe}", "data/heads", f"system/{system}", "trainer/auto"]}
    raise ConfigError(unknown("recipe", recipe, [*files, *registry.names()]))


def _uses(uses: Any, recipe: str) -> dict[str, str]:
    """Names of group files by group, from a recipe's list `use`."""
    if not isinstance(uses, list) or not all(isinstance(use, str) for use in uses):
        raise ConfigError(f"{recipe}: use={uses}: give a list of group files, e.g. [generator/shadegan, data/heads]")
    parts = [use.partition("/") for use in uses]
    if strange := sorted({kind for kind, _, _ in parts} - set(GROUPS)):
        raise ConfigError(f"use: unknown group {strange[0]!r}; groups are {', '.join(GROUPS)}")
    return {kind: name for kind, _, name in parts}


def _read_priors(values: dict[str, Any]) -> None:
    """Put the numbers of a file in place of `data.scene.light=FILE` and the like: they go with a run."""
    data, system = values.get("data"), values.get("system")
    scene = data.get("scene") if isinstance(data, dict) else None
    for holder, kind in ((scene, "light"), (scene, "pose"), (system, "pose"), (values.get("generator"), "view")):
        if isinstance(holder, dict) and isinstance(holder.get(kind), str):
            holder[kind] = read_prior(kind, holder[kind])
