"""Protocols with other numbers than their own, each of which shows in the name: `heads-v1/n_test=50`."""

from collections.abc import Mapping
from dataclasses import fields, replace
from numbers import Integral
from typing import Any, TypeVar

from ..errors import ConfigError

Rules = TypeVar("Rules")  # a dataclass with a `name`


def with_departures(rules: Rules, values: Mapping[str, Any], least: Mapping[str, int], otherwise: int = 1) -> Rules:
    """A protocol with other values of some of its fields; the order in which they are given changes nothing.

    Args:
        rules: The protocol.
        values: Whole numbers and words by field.
        least: The smallest number of some fields.
        otherwise: The smallest number of the others.

    Raises:
        ConfigError: A number is too small, or not whole.
    """
    chosen: Any = rules
    order = [field.name for field in fields(chosen)]
    for key in sorted(values, key=order.index):
        value = values[key]
        if isinstance(getattr(chosen, key), int):
            if not isinstance(value, Integral) or isinstance(value, bool):
                raise ConfigError(f"{key} must be a whole number, got {value!r}")
            value = int(value)
            if value < (low := least.get(key, otherwise)):
                raise ConfigError(f"{key} must be at least {low}, got {value}")
        if value != getattr(chosen, key):
            chosen = replace(chosen, **{"name": f"{chosen.name}/{key}={value}", key: value})
    given: Rules = chosen
    return given
