"""Cards: what a set of weights is, where it comes from, how good it is. The README.md beside the weights."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from ..config.fill import structured
from ..config.schemas import Card, Metric
from ..config.untrusted import MOST_BYTES, not_yaml, refuse_hostile_yaml
from ..errors import ConfigError, WeightsError
from ..registry import WEIGHTS as WEIGHTS

CONFIG, CARD = "config.json", "README.md"  # the other files of a folder of weights
DISCRIMINATOR = "discriminator.safetensors"  # and, where fine-tuning should go on from it, this one
MOST_WEIGHTS = 4 * 2**30  # bytes of a file of weights
Half = Literal["none", "discriminator", "all"]  # which files hold numbers of 16 bits
INSIDE = "zoo"  # the key under which a card lies in the front matter of a hub, see `hubcard`
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)


def read(path: Path) -> Card:
    """The card in the front matter of a README.md: all of it, or what stands below `zoo` where a hub has its own.

    Raises:
        WeightsError: No front matter, not YAML, unknown fields or wrong types; the message names the file.
    """
    import yaml

    if path.stat().st_size > MOST_BYTES:
        raise WeightsError(f"{path}: {path.stat().st_size:,} bytes is no card; a card has at most {MOST_BYTES:,}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise WeightsError(f"{path}: not a text file; get the card again") from None
    match = _FRONT_MATTER.match(text)
    if match is None:
        raise WeightsError(f"{path}: no card; it must start with YAML between two lines '---'")
    refuse_hostile_yaml(match.group(1), str(path), WeightsError)
    try:
        values = yaml.safe_load(match.group(1))
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:  # dates and numbers that are none, too
        raise not_yaml(error, str(path), WeightsError) from None
    if not isinstance(values, dict):
        raise WeightsError(f"{path}: a card is a mapping of fields to values")
    if isinstance(values.get(INSIDE), dict):
        values = values[INSIDE]
    try:
        return structured(Card, {str(k): v for k, v in values.items()}, "card")
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from None


def write(card: Card, named: bool = True) -> str:
    """The README.md of a card: front matter, then the same for people.

    Args:
        card: Says what is known.
        named: False if `zoo.load` does not find the weights by the card's name, only by their path.
    """
    head = front_matter(card.as_dict())
    method = card.name.partition(".")[0]
    parts = [f"# {card.name}", card.summary or f"Weights of `{method}`."]
    if card.sources or (not named and "." in card.name):
        call = f"zoo.load({json.dumps(f'file:{card.name}', ensure_ascii=False)})  # the path of this folder"
    else:
        call = f'zoo.load("{card.name}")' if "." in card.name else ""
    parts.append(f"```python\nimport zoo\n\ngen = {call}\n```" if call else "")
    if card.command:
        parts.append(f"Made by `{card.command}`" + (f" from {card.data}." if card.data else "."))
    if card.metrics:
        parts.append(_metrics_table(card.metrics))
    if card.sources:
        rows = "\n".join(f"- `{name}`, SHA-256 `{sha256}`" for name, sha256 in card.sources.items())
        parts.append(f"## Converted from\n\n{rows}")
    if card.limits:
        parts.append("## Limits\n\n" + "\n".join(f"- {limit}" for limit in card.limits))
    if card.licence:
        parts.append("## Licence\n\n" + "\n".join(f"- {what}: {terms}" for what, terms in card.licence.items()))
    if card.citation:
        parts.append(f"## Citation\n\n{card.citation}")
    return head + "\n" + "\n\n".join(part for part in parts if part) + "\n"


def front_matter(values: Mapping[str, Any]) -> str:
    """YAML between two lines of three dashes."""
    import yaml

    return f"---\n{yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=110)}---\n"


def front(text: str) -> str:
    """The front matter of a README.md, as it stands there; nothing if there is none."""
    match = _FRONT_MATTER.match(text)
    return match.group() if match else ""


def body(text: str) -> str:
    """What follows the front matter of a README.md."""
    return text[len(front(text)) :]


def _metrics_table(metrics: Iterable[Metric]) -> str:
    rows = [f"| {m.name} | {m.value:g} | {m.protocol} | {m.n} | `{m.command}` |" for m in metrics]
    return "\n".join(["| metric | value | protocol | images | command |", "|---|---|---|---|---|", *rows])


def markdown_table(cards: Iterable[Card]) -> str:
    """The table of models for the project's README, one row for each card."""
    rows = ["| name | what | parameters | size | figures |", "|---|---|---|---|---|"]
    for card in cards:
        figures = "; ".join(f"{m.name} {m.value:g} ({m.protocol}, n = {m.n})" for m in card.metrics) or "none measured"
        size = f"{card.bytes / 1e6:.1f} MB"
        rows.append(f"| `{card.name}` | {card.summary} | {card.parameters:,} | {size} | {figures} |")
    return "\n".join(rows) + "\n"
