"""`key=value` from the command line, read by the type of the field that it is for."""

import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import ConfigError
from .schemas import RunConfig
from .untrusted import not_yaml, refuse_hostile_yaml

GROUPS = ("generator", "data", "system", "trainer")


def split(arguments: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """`["data=celeba", "trainer.devices=4"]` as group files by group and settings by key; their order is free.

    Raises:
        ConfigError: An argument is not of the form key=value.
    """
    selected: dict[str, str] = {}
    settings: dict[str, str] = {}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if not key or not sign:
            raise ConfigError(f"{argument!r} is not an override; write key=value, e.g. trainer.max_kimg=10")
        (selected if key in GROUPS else settings)[key] = value
    return selected, settings


def given(arguments: Sequence[str], section: str) -> set[str]:
    """The fields of a section that overrides set: `given(["system.r1=1"], "system")` is {"r1"}."""
    keys = (key.split(".") for key in split(arguments)[1])
    return {parts[1] for parts in keys if parts[0] == section and len(parts) > 1}


def typed(settings: Mapping[str, str], sections: Mapping[str, type]) -> Iterator[dict[str, Any]]:
    """Each setting as a nested value for `fill.structured`; a single field comes after the section that holds it.

    A field that takes text or a number gets what was typed, so that `data.root=0123` is a folder and `seed=010` ten; so
    does a section that a file may stand for. All else is YAML.

    Args:
        settings: Text by key.
        sections: Classes of the sections whose fields the schema of a run leaves open.

    Raises:
        ConfigError: A value that is not YAML, or text for a group of settings that has a name.
    """
    for key in sorted(settings, key=lambda key: key.count(".")):
        parts = key.split(".")
        value = _value(key, settings[key], _field(parts, sections))
        for part in reversed(parts):
            value = {part: value}
        yield value


def _field(parts: list[str], sections: Mapping[str, type]) -> Any:
    """The type of a field; None if there is none of that name."""
    kind: Any = RunConfig
    for i, part in enumerate(parts):
        kind = typing.get_type_hints(kind).get(part) if dataclasses.is_dataclass(_plain(kind)) else None
        if i == 0 and part in sections:
            kind = sections[part]
        if i + 1 < len(parts):
            kind = _plain(kind)
    return kind


def _plain(kind: Any) -> Any:
    """`X` of `X | None`."""
    others = [k for k in typing.get_args(kind) if k is not type(None)]
    return others[0] if type(None) in typing.get_args(kind) and len(others) == 1 else kind


def _value(key: str, text: str, kind: Any) -> Any:
    if type(None) in typing.get_args(kind) and text in ("null", "~", ""):
        return None
    kind = _plain(kind)
    file = dataclasses.is_dataclass(kind) and not text.lstrip().startswith(("{", "["))
    if file and "name" in typing.get_type_hints(kind):
        raise ConfigError(f"{key}={text}: this is a group of settings; use {key}.name={text}")
    if kind is str or kind is int or file:
        return text
    if kind is float:
        return text.replace(".nan", "nan").replace(".inf", "inf")  # as YAML has them
    from omegaconf import OmegaConf

    refuse_hostile_yaml(text, f"override {key}")
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]  # type: ignore[call-overload, index]
    except Exception as error:  # OmegaConf raises the parser's own types
        raise not_yaml(error, f"override {key}={text[:100]!r}") from None
