"""Networks in OpenVINO's format: an XML file with layers and edges, and a file with the numbers of its constants.

The graph is read, not run: who knows the network finds its weights by name, or next to what has a name.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import WeightsError
from ..weights.files import shown

_MAX_XML, _MAX_BIN = 8 * 2**20, 512 * 2**20  # bytes; MobileStyleGAN has 0.4 and 32 MB
_MAX_SHARED = 4  # constants may lie in the same bytes; float16 takes twice its bytes
_TYPES = {"f32": "<f4", "f16": "<f2"}


@dataclass(frozen=True)
class Layer:
    """One node of a graph.

    Attributes:
        kind: Kind of operation, such as "Const", "Add" or "Convolution".
        name: The name in the file; that of a weight is often what its author called it.
        inputs: Numbers of the layers whose results it takes, in order.
        value: The numbers of a constant of floats.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    value: Tensor | None = None


class Graph:
    """The layers of a network.

    Attributes:
        where: Path of the XML file, for messages.
        layers: Layers by number, in the order of the file.
    """

    def __init__(self, where: Path, layers: dict[str, Layer]) -> None:
        self.where, self.layers = where, layers

    def constants(self) -> Iterator[tuple[str, Tensor]]:
        """Names and values of all constants of floats, in the order of the file."""
        yield from ((layer.name, layer.value) for layer in self.layers.values() if layer.value is not None)

    def constant(self, name: str) -> Tensor:
        """The constant of floats of that name. Raises WeightsError."""
        found = [value for key, value in self.constants() if key == name]
        if len(found) != 1:
            raise WeightsError(f"{self.where}: has {len(found)} constants {name}, not one; is this that network?")
        return found[0]

    def users(self, number: str) -> list[str]:
        """Numbers of the layers that take a layer's result."""
        return [key for key, layer in self.layers.items() if number in layer.inputs]


def read(path: Path) -> Graph:
    """Read `path`, an .xml file, and the .bin beside it.

    Raises:
        WeightsError: Missing, too large, damaged, or not such a file; constants that lie outside the numbers' file.
    """
    text, numbers = _bytes(path, _MAX_XML), _bytes(path.with_suffix(".bin"), _MAX_BIN)
    try:
        decoded = text.decode("utf-8")
        if "<!" in decoded:  # a document type can define entities that grow without end
            raise ValueError("it defines a document type, which networks do not need")
        root = ET.fromstring(decoded)
        inputs: dict[str, list[tuple[int, str]]] = {}
        for edge in root.iterfind("edges/edge"):
            link = int(edge.attrib["to-port"]), edge.attrib["from-layer"]
            inputs.setdefault(edge.attrib["to-layer"], []).append(link)
        layers: dict[str, Layer] = {}
        held = 0
        for layer in root.iterfind("layers/layer"):
            a = layer.attrib
            sources = tuple(source for _, source in sorted(inputs.get(a["id"], [])))
            value = _value(layer.find("data"), numbers) if a["type"] == "Const" else None
            held += 0 if value is None else value.nbytes
            if held > _MAX_SHARED * len(numbers):
                raise ValueError("its constants claim more than the file of numbers holds")
            layers[a["id"]] = Layer(a["type"], a["name"], sources, value)
    except (ValueError, KeyError, ET.ParseError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        reason = shown(" ".join(str(error).split())) or type(error).__name__
        raise WeightsError(f"{path}: damaged, or not a network of OpenVINO ({reason}); get the file again") from None
    return Graph(path, layers)


def _bytes(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise WeightsError(f"{path}: {path.stat().st_size:,} bytes, more than the {limit:,} that are read")
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); get the file again") from None


def _value(data: ET.Element | None, numbers: bytes) -> Tensor | None:
    """A constant; None if it is not of floats. Raises ValueError, KeyError."""
    if data is None:
        raise ValueError("a constant without data")
    if data.attrib["element_type"] not in _TYPES:
        return None
    kind = np.dtype(_TYPES[data.attrib["element_type"]])
    shape = [int(side) for side in data.attrib["shape"].split(",") if side.strip()]
    start, size = int(data.attrib["offset"]), int(data.attrib["size"])
    if min(shape, default=1) < 1 or size != math.prod(shape) * kind.itemsize:
        raise ValueError(f"a constant of {size} bytes and shape {shape}")
    if start < 0 or start + size > len(numbers):
        raise ValueError(f"a constant at {start:,} to {start + size:,} of {len(numbers):,} bytes")
    return torch.from_numpy(np.frombuffer(numbers, kind, math.prod(shape), start).astype(np.float32)).reshape(shape)
