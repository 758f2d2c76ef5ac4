"""Write the weights of the face detector and the face mesh from the npm package that Google published them in.

    python -m zoo.faces.build mediapipe-face_mesh-0.4.1657299874.tgz

`npm pack @mediapipe/face_mesh@0.4.1657299874` fetches the package. Both networks are TensorFlow Lite files inside one
of its files. They are FlatBuffers (https://flatbuffers.dev/internals), of which the few fields that hold layers and
weights are read here. Numbers of fields are those of TensorFlow's `schema.fbs`. The mean face beside them is a message
in Protocol Buffers (https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import hashlib
import struct
import sys
import tarfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import DataError
from ..runtime.files import atomic_write
from .blocks import ASSET
from .detector import BlazeFace
from .mesh import POINTS, FaceMesh

PACKAGE, MEMBER = "@mediapipe/face_mesh@0.4.1657299874", "package/face_mesh_solution_packed_assets.data"
# Where the file has them, and what they must be.
MESH = (2495952, 3737848, "c603fa6149219a3e9487dc9abd7a0c24474c77263273d24868378cdf40aa26d1")
MEAN = (3737848, 3757224, "bdbcda96dfcb7da883da124aaa2c55dee49770d934f0fcc71747f8c21bdc75b4")
DETECTOR = (3757224, 3986256, "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633")
_CONV, _DEPTHWISE, _DEQUANTIZE, _PRELU = 3, 4, 6, 54  # TensorFlow Lite's numbers of operators


class Table:
    """A table of a FlatBuffer: fields by number, each of which may be missing."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.fields = at - struct.unpack_from("<i", data, at)[0]

    def place(self, field: int) -> int:
        """Where the field is, or 0."""
        size, offset = struct.unpack_from("<H", self.data, self.fields)[0], 4 + 2 * field
        inside = struct.unpack_from("<H", self.data, self.fields + offset)[0] if offset < size else 0
        return self.at + inside if inside else 0

    def number(self, field: int, form: str = "<I") -> int:
        """A number, or 0."""
        place = self.place(field)
        return struct.unpack_from(form, self.data, place)[0] if place else 0

    def array(self, field: int, kind: str) -> np.ndarray:
        """A vector of numbers."""
        place = self.place(field)
        if not place:
            return np.zeros(0, kind)
        start = place + struct.unpack_from("<I", self.data, place)[0]
        return np.frombuffer(self.data, kind, struct.unpack_from("<I", self.data, start)[0], start + 4)

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        offsets = self.array(field, "<u4")
        start = self.place(field)
        start += struct.unpack_from("<I", self.data, start)[0] + 4
        return [Table(self.data, start + 4 * i + int(offset)) for i, offset in enumerate(offsets)]


def read_network(data: bytes) -> tuple[list[Tensor], list[Tensor]]:
    """Read a TensorFlow Lite network with weights of 16 bits.

    Returns:
        Weights and biases of its convolutions in the order in which they run, laid out as PyTorch's; and the slopes of
        its PReLUs. All float16.
    """
    model = Table(data, struct.unpack_from("<I", data)[0])
    codes = [max(code.number(0, "<b"), code.number(3, "<i")) for code in model.tables(1)]
    graph, buffers = model.tables(2)[0], model.tables(4)
    tensors, halves = graph.tables(0), dict[int, Tensor]()
    convolutions, slopes = list[Tensor](), list[Tensor]()
    for operator in graph.tables(3):
        code, inputs = codes[operator.number(0)], operator.array(1, "<i4").tolist()
        if code == _DEQUANTIZE:
            tensor = tensors[inputs[0]]
            values = buffers[tensor.number(2)].array(0, "<u1").view("<f2").reshape(tensor.array(0, "<i4"))
            halves[int(operator.array(2, "<i4")[0])] = torch.from_numpy(values.copy())
        elif code in (_CONV, _DEPTHWISE):
            weight = halves[inputs[1]].permute(*((3, 0, 1, 2) if code == _DEPTHWISE else (0, 1, 2, 3)))
            # (out, rows, columns, in) or, of depthwise ones, (channels, 1, rows, columns)
            weight = weight if code == _DEPTHWISE else weight.permute(0, 3, 1, 2)
            convolutions += [weight.contiguous(), halves[inputs[2]]]
        elif code == _PRELU:
            slopes.append(halves[inputs[1]].reshape(-1))
    return convolutions, slopes


def message(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Numbers and values of the fields of a message."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte, at = data[at], at + 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        field, kind = divmod(varint(), 8)
        value: int | float | bytes
        if kind == 0:
            value = varint()
        elif kind == 5:
            value, at = struct.unpack_from("<f", data, at)[0], at + 4
        else:  # 2, bytes or a message
            size = varint()
            value, at = data[at : at + size], at + size
        yield field, value


def read_mean(data: bytes) -> dict[str, Tensor]:
    """The mean face: points (468, 3) in cm, to the person's left, up and forwards; and weights (468,) for fits."""
    fields = [(field, value) for field, value in message(data) if isinstance(value, bytes)]
    numbers = [value for field, value in message(fields[0][1]) if field == 3]  # x, y, z and a place in the texture
    weights = torch.zeros(POINTS)
    for pair in (dict(message(value)) for field, value in fields if field == 2):
        weights[int(pair[1])] = float(pair[2])
    return {"points": torch.tensor(numbers).view(POINTS, 5)[:, :3].contiguous(), "weights": weights}


def layers(network: BlazeFace | FaceMesh) -> Iterator[nn.Module]:
    """Convolutions and PReLUs of a network in the order in which the published one runs them."""
    if isinstance(network, BlazeFace):
        return _flat(network)
    # The two tails run side by side; that of the points has two blocks more at its beginning.
    points, score = list(_flat(network.points)), list(_flat(network.score))
    ahead = len(points) - len(score)
    together = chain.from_iterable(zip(score, points[ahead:], strict=True))
    return chain(_flat(network.stem), _flat(network.act), _flat(network.trunk), points[:ahead], together)


def _flat(module: nn.Module) -> Iterator[nn.Module]:
    return (m for m in module.modules() if isinstance(m, nn.Conv2d | nn.PReLU))


def fill(network: BlazeFace | FaceMesh, data: bytes) -> dict[str, Tensor]:
    """The state of a network with the weights of its TensorFlow Lite file, float16.

    Raises:
        DataError: The file has other layers.
    """
    names = {parameter: name for name, parameter in network.named_parameters()}
    convolutions, slopes = map(iter, read_network(data))
    state: dict[str, Tensor] = {}
    for layer in layers(network):
        for parameter in layer.parameters():
            value = next(slopes if isinstance(layer, nn.PReLU) else convolutions, None)
            if value is None or value.shape != parameter.shape:
                found = "missing" if value is None else tuple(value.shape)
                raise DataError(f"{names[parameter]} is {found}, must be {tuple(parameter.shape)}; use {PACKAGE}")
            state[names[parameter]] = value
    if next(convolutions, None) is not None or next(slopes, None) is not None:
        raise DataError(f"the file has more layers than {type(network).__name__}; use {PACKAGE}")
    return state


def build(package: Path, out: Path = ASSET) -> Path:
    """Write the weights of both networks and return the path. The same package gives the same bytes.

    Args:
        package: The .tgz of the npm package `PACKAGE`.
        out: The .safetensors file.

    Raises:
        DataError: It is not that package.
    """
    try:
        with tarfile.open(package) as archive:
            file = archive.extractfile(MEMBER)
            data = file.read() if file else b""
    except (OSError, tarfile.TarError, KeyError) as error:
        raise DataError(f"{package}: cannot be read ({error}); use {PACKAGE}") from error
    parts = [data[start:end] for start, end, _ in (MESH, MEAN, DETECTOR)]
    for part, (start, _, digest) in zip(parts, (MESH, MEAN, DETECTOR), strict=True):
        if hashlib.sha256(part).hexdigest() != digest:
            raise DataError(f"{package}: {MEMBER} differs from byte {start} on; use {PACKAGE}")
    mesh, mean, detector = parts
    tensors = {f"mesh.{name}": value for name, value in fill(FaceMesh(), mesh).items()}
    tensors |= {f"detector.{name}": value for name, value in fill(BlazeFace(), detector).items()}
    tensors |= {f"mean.{name}": value for name, value in read_mean(mean).items()}
    source = f"npm {PACKAGE}, Copyright Google LLC, Apache-2.0"
    return atomic_write(out, save(tensors, {"source": source}))  # several entries would be written in random order


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
