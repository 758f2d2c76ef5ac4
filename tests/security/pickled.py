"""Files of `torch.save`, made by hand, and what must become of them."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import ZooError
from zoo.official import pickles
from zoo.official.importing import import_official

PROTOCOL = 1001


class Call:
    """Unpickling this calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def refused(path: Path, match: str | None = None, **options: Any) -> None:
    with pytest.raises(ZooError, match=match) as caught:
        import_official("pigan", path, **options)
    assert "\n" not in str(caught.value)
    assert str(path.name) in str(caught.value)
    assert len(str(caught.value)) < 400


def legacy(content: bytes, storages: bytes = pickle.dumps([], 2), raw: bytes = b"", machine: Any = None) -> bytes:
    """A file before torch 1.6, from the pickle of its content."""
    machine = machine or {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {}}
    head = b"".join(pickle.dumps(part, 2) for part in (pickles._LEGACY, PROTOCOL, machine))
    return head + content + storages + raw


def in_zip(content: bytes, **records: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in {"data.pkl": content, "version": b"3\n", **records}.items():
            archive.writestr(f"archive/{name}", data)
    return buffer.getvalue()
