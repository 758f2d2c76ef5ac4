"""The binary files that travel with zoo: weights and assets, with the SHA-256 that each must have."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..config.fill import structured
from ..config.untrusted import from_json
from ..errors import WeightsError
from . import cards

PACKAGE = Path(__file__).parents[1]
LIST = PACKAGE / "assets.json"


@dataclass
class Asset:
    """What `zoo/assets.json` says of a file; `make hashes` writes the hashes there, people write the rest."""

    sha256: str = ""
    licence: str = ""  # an SPDX expression
    origin: str = ""  # what it was made from


def assets() -> dict[Path, Asset]:
    """The data in the `assets` folders of the package, apart from the licence texts beside them.

    Raises:
        WeightsError: The list is damaged.
    """
    listed = from_json(LIST.read_bytes(), str(LIST), WeightsError)
    return {PACKAGE / name: structured(Asset, values, f"{LIST}: {name}") for name, values in listed.items()}


def weight_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each file of tensors in a folder of weights, with its SHA-256 on the card there, "" if the card names none.

    Raises:
        WeightsError: The card is damaged.
    """
    card = cards.read(folder / cards.CARD)
    for name, known in ((cards.WEIGHTS, card.sha256), (cards.DISCRIMINATOR, card.discriminator_sha256)):
        if known or (folder / name).exists():
            yield folder / name, known
