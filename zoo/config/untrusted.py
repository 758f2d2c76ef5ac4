"""Values from files of strangers, kept small: how many there are, how deep they lie, how long their words are.

Every reader of YAML, JSON and headers passes here before anything walks through what it has read, so that a small file
cannot cost much. What a value may be is said where its field is, see `bounds`.
"""

import json
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, ZooError

# The largest configuration that travels with zoo has 200 values, 5 levels and words of some hundred letters.
MOST_VALUES, DEEPEST, LONGEST = 10_000, 32, 100_000
MOST_BITS = 512  # of a whole number
MOST_BYTES = 2**20


def refuse_hostile(values: Any, where: str, error: type[ZooError] = ConfigError) -> None:
    """Refuse what no configuration needs: too many values, too deep, and text that OmegaConf would replace.

    That is `${...}`, by an environment variable for example. Looks at parsed values, in which no escape hides it.

    Args:
        values: Mappings, lists and plain values; what YAML's aliases name several times counts several times.
        where: The place, for the message.
        error: What to raise.

    Raises:
        ZooError: What is refused was found; it is of the kind `error` and names the place.
    """
    refuse_excess(values, where, error)
    for value in _leaves(values):
        if isinstance(value, str) and "${" in value:
            raise _interpolation(where, error)


def refuse_excess(values: Any, where: str, error: type[ZooError] = ConfigError) -> None:
    """Refuse too many values, values that lie too deep, and words that are too long. Raises as `refuse_hostile`."""
    count, level = 0, [values]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                inner += [*value, *value.values()]
            elif isinstance(value, list | tuple):
                inner += value
            elif isinstance(value, str | bytes) and len(value) > LONGEST:
                raise _excess(f"a text of {len(value):,} letters, more than {LONGEST:,}", where, error)
            elif isinstance(value, int) and value.bit_length() > MOST_BITS:
                raise _excess(f"a number of {value.bit_length():,} bits, more than {MOST_BITS}", where, error)
            if count + len(inner) > MOST_VALUES:
                raise _excess(f"more than {MOST_VALUES:,} values", where, error)
        count, level = count + len(inner), inner
        if not level:
            return
    raise _excess(f"values more than {DEEPEST} levels deep", where, error)


def refuse_hostile_yaml(text: str, where: str, error: type[ZooError] = ConfigError) -> None:
    """What `refuse_hostile` refuses, found in YAML before it is built: aliases make a few lines large.

    Raises:
        ZooError: What is refused was found, or the text is not YAML; it is of the kind `error`.
    """
    import yaml

    if len(text) > MOST_BYTES:
        raise _excess(f"{len(text):,} letters, more than {MOST_BYTES:,}", where, error)
    parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it is there
    open_at: list[tuple[str | None, int]] = []  # anchor of each open collection, and the count where it began
    sizes: dict[str, int] = {}
    count = 0
    try:
        for event in yaml.parse(text, Loader=parser):
            if isinstance(event, yaml.AliasEvent):
                if event.anchor not in sizes:
                    raise _excess("a value that contains itself, or an alias of nothing", where, error)
                count += sizes[event.anchor]
            elif isinstance(event, yaml.ScalarEvent):
                count += 1
                sizes.update({event.anchor: 1} if event.anchor else {})
                if "${" in event.value:
                    raise _interpolation(where, error)
                if len(event.value) > LONGEST:
                    raise _excess(f"a text of {len(event.value):,} letters, more than {LONGEST:,}", where, error)
            elif isinstance(event, yaml.CollectionStartEvent):
                open_at.append((event.anchor, count))
                count += 1
                sizes.pop(event.anchor, None)
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, start = open_at.pop()
                sizes.update({anchor: count - start} if anchor else {})
            if count > MOST_VALUES:
                raise _excess(f"more than {MOST_VALUES:,} values", where, error)
            if len(open_at) > DEEPEST:
                raise _excess(f"values more than {DEEPEST} levels deep", where, error)
    except yaml.YAMLError as problem:
        raise not_yaml(problem, where, error) from None


def not_yaml(problem: Exception, where: str, error: type[ZooError] = ConfigError) -> ZooError:
    """The error for what a YAML parser refused, in one short line."""
    return error(f"{where}: not valid YAML: {' '.join(str(problem).split())[:300]}")


def from_json(text: str | bytes, where: str, error: type[ZooError] = ConfigError) -> Any:
    """Plain values from JSON, not too many, not too deep.

    Raises:
        ZooError: There is too much, or the text is not JSON; it is of the kind `error`.
    """
    if len(text) > MOST_BYTES:
        raise _excess(f"{len(text):,} bytes, more than {MOST_BYTES:,}", where, error)
    try:
        values = json.loads(text)
    except RecursionError:
        raise _excess(f"values more than {DEEPEST} levels deep", where, error) from None
    except ValueError as problem:  # also of bytes that are no text
        raise error(f"{where}: not valid JSON ({' '.join(str(problem).split())[:100]})") from None
    refuse_excess(values, where, error)
    return values


def _leaves(values: Any) -> list[Any]:
    rest, leaves = [values], []
    while rest:
        value = rest.pop()
        if isinstance(value, Mapping):
            rest += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            rest += value
        else:
            leaves.append(value)
    return leaves


def _excess(what: str, where: str, error: type[ZooError]) -> ZooError:
    return error(f"{where or 'configuration'}: {what}, which nothing here needs; do not trust this file")


def _interpolation(where: str, error: type[ZooError]) -> ZooError:
    return error(f"{where or 'configuration'}: interpolations '${{...}}' are not allowed; write the value out")
