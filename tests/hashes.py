"""Writes the hashes of the packaged assets into zoo/assets.json: `make hashes`; a test compares.

Licence and origin of an asset stay as they are; those of a new one are empty, until somebody writes them.
"""

import hashlib
import json
from dataclasses import asdict, replace

from zoo.weights.shipped import LIST, PACKAGE, Asset, assets


def listed() -> str:
    """What the list must say of the files that are there."""
    known = assets()
    found = {}
    for path in sorted(PACKAGE.glob("**/assets/*")):
        if path.is_file() and path.suffix != ".md":
            asset = replace(known.get(path, Asset()), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
            found[path.relative_to(PACKAGE).as_posix()] = asdict(asset)
    return json.dumps(found, indent=1) + "\n"


if __name__ == "__main__":
    LIST.write_text(listed(), encoding="utf-8")
