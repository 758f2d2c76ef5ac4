"""Protocols with other numbers than their own, each of which shows in the name: `heads-v1/n_test=50`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ..errors import ConfigError

Rules = TypeVar("Rules")  # a dataclass with a `name`


def with_departures(rules: Rules, values: Mapping[str, Any], least: Mapping[str, int], otherwise: int = 1) -> Rules:
    """A protocol with other values of some of its fields.

    Args:
        rules: The protocol.
        values: Whole numbers and words by field.
        least: The smallest number of some fields.
        otherwise: The smallest number of the others.

    Raises:
        ConfigError: A number is too small.
    """
    chosen: Any = rules
    for key, value in values.items():
        if isinstance(value, int) and value < (low := least.get(key, otherwise)):
            raise ConfigError(f"{key} must be at least {low}, got {value}")
        if value != getattr(chosen, key):
            chosen = replace(chosen, **{"name": f"{chosen.name}/{key}={value}", key: value})
    given: Rules = chosen
    return given
