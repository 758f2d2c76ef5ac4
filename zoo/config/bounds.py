"""What a field may hold, said where the field is: `batch: int = number(16, 1, 65536)`.

`check` reads it. A number without bounds of its own is finite and no larger than any setting could mean. What concerns
several fields stands in the method `check(at)` of their class, where `at` is what comes before a field's name.
"""

import dataclasses
import math
from typing import Any

from ..errors import ConfigError
from ..runtime.files import printable

MOST = 1e12  # of numbers without bounds; counts of bytes are the largest there are
_LONGEST_NAME = 150  # eight hex digits follow, and file systems end at 255 bytes
_SHOWN = 200  # letters of a value in a message


def number(default: float | None, low: float = -MOST, high: float = MOST, *, above: bool = False) -> Any:
    """A field that takes numbers from `low` to `high`, without `low` itself if `above`."""
    return dataclasses.field(default=default, metadata={"bounds": (low, high, above)})


def choice(default: str, *known: str) -> Any:
    """A field that takes one of some words."""
    return dataclasses.field(default=default, metadata={"choice": known})


def need_name(value: str, key: str) -> None:
    """Refuse what cannot be the name of one folder. Raises ConfigError."""
    plain = value == printable(value) and not set(value) & set("/\\") and value.strip(". ") != ""
    fix = f"use a name of at most {_LONGEST_NAME} letters, without slashes and control characters"
    need(plain and len(value.encode()) <= _LONGEST_NAME, key, printable(value), fix)


def need(ok: bool, key: str, value: Any, fix: str) -> None:
    """Refuse a value.

    Raises:
        ConfigError: It is not `ok`; the message names the key, its value and what to write.
    """
    if not ok:
        text = str(value)
        raise ConfigError(f"{key}={text if len(text) <= _SHOWN else text[:_SHOWN] + '...'}: {fix}")


def check(config: Any, at: str = "") -> None:
    """Refuse what a dataclass of settings cannot hold, NaN among it: relations between fields, then each field.

    Args:
        config: The dataclass, filled; those inside it are checked, too.
        at: What comes before the names of its fields in a message: "", or as `data.scene.`.

    Raises:
        ConfigError: Names the key, its value and what to write.
    """
    if hasattr(config, "check"):
        config.check(at)
    for field in dataclasses.fields(config):
        _check_value(getattr(config, field.name), f"{at}{field.name}", field.metadata)


def _check_value(value: Any, key: str, rule: Any) -> None:
    if dataclasses.is_dataclass(value):
        check(value, f"{key}.")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check_value(item, f"{key}[{i}]", rule)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        low, high, above = rule.get("bounds", (-MOST, MOST, False))
        need(low < value if above else low <= value, key, value, _least(low, above))
        most = f"{high:,}" if isinstance(high, int) else f"{high:g}"
        need(value <= high, key, value, "use a finite number" if value == math.inf else f"use {most} or less")
    elif isinstance(value, str) and "choice" in rule:
        need(value in rule["choice"], key, value, f"use one of {', '.join(rule['choice'])}")


def _least(low: float, above: bool) -> str:
    if low == -MOST:
        return "use a finite number"
    return f"use a finite number above {low:g}" if above else f"use {low:g} or more"
