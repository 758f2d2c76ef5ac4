"""The README.md of weights on a model hub: the hub's own front matter, with the card inside."""

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from ..config.schemas import Card, Metric
from ..errors import WeightsError
from . import cards

LIBRARY = "zoo3d"
# Identifiers of the hub, which writes those of SPDX in lower case. Other terms are called "other", with a name.
_LICENCES = {
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "cc-by-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "openrail",
}  # fmt: skip


def hub_readme(card: Card, text: str, repo: str, pipeline: str, datasets: Iterable[str] = ()) -> str:
    """The README.md for a hub, with the words of the folder's own.

    Args:
        card: The card in that file.
        text: All of the file.
        repo: Where it goes, `org/name`.
        pipeline: The hub's word for what the weights do, such as "image-to-3d".
        datasets: Names of data sets on the hub, `org/name`.

    Raises:
        WeightsError: The card names no licence of the weights.
    """
    front = _front(card, repo, pipeline, list(datasets)) | {cards.INSIDE: card.as_dict()}
    words = re.sub(r'zoo\.load\("[^"]*"\).*', lambda _: f'zoo.load("hf:{repo}")', cards.body(text), count=1)
    return cards.front_matter(front) + words


def _front(card: Card, repo: str, pipeline: str, datasets: list[str]) -> dict[str, Any]:
    terms = card.licence.get("weights", "").strip()
    if not terms:
        raise WeightsError(f"{card.name}: its README.md names no licence; write licence: {{weights: ..., data: ...}}")
    known = terms.lower() in _LICENCES
    front: dict[str, Any] = {"license": terms.lower() if known else "other"}
    if not known:
        front["license_name"] = _slug(terms)[:60].strip("-") or "see-card"
    method = card.name.partition(".")[0]
    front |= {"library_name": LIBRARY, "tags": ["3d", "3d-shape-from-2d-images", method], "pipeline_tag": pipeline}
    if datasets:
        front["datasets"] = datasets
    if card.metrics:
        front["model-index"] = [{"name": repo.partition("/")[2], "results": list(_results(card.metrics, pipeline))}]
    return front


def _results(metrics: Iterable[Metric], pipeline: str) -> Iterable[dict[str, Any]]:
    """One result for each protocol: the hub groups figures by what they were measured on."""
    ordered = sorted(metrics, key=lambda m: (m.protocol, m.n))
    for (protocol, n), group in groupby(ordered, key=lambda m: (m.protocol, m.n)):
        yield {
            "task": {"type": pipeline},
            "dataset": {"type": _slug(protocol) or "unknown", "name": f"{protocol}, {n} images"},
            "metrics": [{"type": _slug(m.name), "name": m.name, "value": m.value} for m in group],
        }


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
