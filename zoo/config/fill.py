"""Dataclasses filled with values by OmegaConf, and back to plain values: the only place that sees a DictConfig."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from .. import registry
from ..errors import ConfigError
from .bounds import check
from .untrusted import refuse_hostile

T = TypeVar("T")


def structured(schema: type[T], values: Mapping[str, Any], where: str, defaults: T | None = None) -> T:
    """`values` checked against a dataclass, over its defaults or those of a given instance.

    Unknown keys, wrong types, missing values and those that a field cannot hold are errors that name the key.

    Raises:
        ConfigError: With OmegaConf's suggestion for a near miss.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    refuse_hostile(values, where)
    try:
        kind: Any = schema  # for mypy, a class that is not known may have no hash
        base = _empty(kind) if defaults is None else OmegaConf.structured(defaults)
        merged = OmegaConf.merge(base, OmegaConf.create(dict(values)))  # leaves both as they are
        filled: T = OmegaConf.to_object(merged)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        text = " ".join(str(error).split("\n")[0].split())
        key = getattr(error, "full_key", None)
        place = ".".join(str(part) for part in (where, key) if part not in (None, "")) or "configuration"
        raise ConfigError(f"{place}: {text}") from None
    except (TypeError, ValueError) as error:  # of values that do not even have the shape of the schema
        text = " ".join(str(error).split())
        hint = "" if where else "; a list is given whole, e.g. system.stages=[{size: 32, batch: 8}]"
        raise ConfigError(f"{where or 'configuration'}: {text}{hint}") from None
    check(filled, f"{where}." if where else "")
    return filled


@functools.cache
def _empty(schema: type) -> Any:
    """The schema with its defaults, as OmegaConf sees it, which takes longer to make than to copy."""
    from omegaconf import OmegaConf

    return OmegaConf.structured(schema)


def generator_config(name: str, values: Mapping[str, Any]) -> Any:
    """The `Config` of a registered method filled with `values`."""
    return structured(registry.resolve(name).Config, values, "generator")


def without_name(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a method's Config from a mapping that also says which method it is."""
    return {key: value for key, value in values.items() if key != "name"}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, mappings inside mappings alike; neither is changed."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merge(out[key], value) if both else value
    return out


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested plain values, ready for JSON."""
    return dataclasses.asdict(config)


def departures(values: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the defaults, both as `to_dict` gives them.

    A setting that a later version adds is not among it, so names that are made of it stay. A list is taken whole, so
    they change with a setting that is added to its items, such as the stages of a curriculum.
    """
    out = {}
    for key, value in values.items():
        default = plain.get(key)
        if isinstance(value, dict) and isinstance(default, dict):
            value, default = departures(value, default), {}
        if value != default:
            out[key] = value
    return out


def fingerprint(config: Any) -> str:
    """Eight hex digits that change when any value of the configuration does."""
    import hashlib  # here, as it takes a seventh of the time of `import zoo`

    values = config if isinstance(config, Mapping) else to_dict(config)
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]
