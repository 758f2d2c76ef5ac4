"""Files of `torch.save` from strangers: refused in one line, or read; never run."""

import builtins
import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from tests.security.pickled import PROTOCOL, Call, in_zip, legacy, refused
from tests.tiny import TINY
from zoo.errors import WeightsError, ZooError
from zoo.official import pickles
from zoo.official.importing import import_official


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return zoo.build("pigan", **TINY).state_dict()


def calls(marker: Path) -> dict[str, Call]:
    """Ways to make a file."""
    script = f"open({str(marker)!r}, 'w').close()"
    return {
        "system": Call(os.system, f"touch {marker}"),
        "eval": Call(eval, f"open({str(marker)!r}, 'w')"),
        "exec": Call(exec, script),
        "popen": Call(subprocess.Popen, ["touch", str(marker)]),
        "open": Call(open, str(marker), "w"),
        "import": Call(builtins.__import__, "antigravity"),
        "getattr": Call(getattr, "x", "upper"),
        "pickle": Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {marker}"))),
        "torch": Call(torch.load, str(marker)),
        "path": Call(Path.touch, marker),
    }


KINDS = tuple(calls(Path("x")))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", KINDS)
def test_calls_are_refused_and_never_made(
    kind: str, zipped: bool, tmp_path: Path, marker: Path, state: dict[str, torch.Tensor]
) -> None:
    call = calls(marker)[kind]
    for name, content in {"alone": call, "inside": {**state, "x": call}, "key": {"generator": [call]}}.items():
        path = tmp_path / f"{name}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        refused(path, "do not trust this file")
        for option in ("ema", "light"):
            with pytest.raises(ZooError):
                import_official("shadegan", state, **{option: path})
    assert not marker.exists()


def test_the_calls_do_run_where_nobody_looks(tmp_path: Path, marker: Path) -> None:
    for kind in ("system", "eval", "exec", "pickle", "path"):
        torch.save(calls(marker)[kind], tmp_path / "x.pth")
        torch.load(tmp_path / "x.pth", weights_only=False)
        assert marker.exists(), kind
        marker.unlink()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_newer_protocols_do_not_hide_names(tmp_path: Path, marker: Path, protocol: int) -> None:
    path = tmp_path / "x.pth"
    for zipped in (True, False):
        content = Call(os.system, f"touch {marker}")
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        refused(path, "STACK_GLOBAL|do not trust")
    assert not marker.exists()


def test_every_part_of_a_legacy_file_is_looked_at(tmp_path: Path, marker: Path) -> None:
    bad = pickle.dumps(Call(os.system, f"touch {marker}"), 2)
    good = pickle.dumps({}, 2)
    path = tmp_path / "x.pth"
    parts = [pickle.dumps(p, 2) for p in (pickles._LEGACY, PROTOCOL, {"little_endian": True}, {}, [])]
    for i in range(5):
        path.write_bytes(b"".join([*parts[:i], bad, *parts[i + 1 :]]))
        refused(path, "do not trust")
    path.write_bytes(bad)
    refused(path, "do not trust")
    path.write_bytes(legacy(good)[:-3])
    refused(path, "damaged")
    assert not marker.exists()


# Programs for the machine that a pickle is, by hand.
PROGRAMS = {
    "text": b"cposix\nsystem\n(Vtouch MARKER\ntR.",
    "instance": b"(Vtouch MARKER\niposix\nsystem\n.",
    "object": b"(cposix\nsystem\nVtouch MARKER\no.",
    "builtin": b"c__builtin__\neval\n(V1\ntR.",
    "attribute": b"cbuiltins\nset.__class__\n(tR.",
    "extension": b"\x80\x02\x82\x01.",
    "far memo": b"\x80\x02Nr\xff\xff\xff\x0f.",
    "deep key": b"\x80\x02}N" + b"\x85" * 400_000 + b"Ns.",
    "long line": b"\x80\x02I" + b"9" * 100_000 + b"\n.",
    "huge string": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "no end": b"\x80\x02}",
    "nothing": b"\x80\x02.",
    "text id": b"\x80\x02Pabc\n.",
    "odd id": b"\x80\x02]Q.",
    "class state": b"\x80\x02csiren.siren\nFiLMLayer\n}b.",
    "set a method": b"\x80\x02ccollections\nOrderedDict\nN}X\x03\x00\x00\x00keyK\x01s\x86b.",
    "own function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x03\x00\x00\x00keyK\x01sb.",
    "call a tensor": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(tR.",
    "unknown kind": b"\x80\x02(X\x07\x00\x00\x00storageNNNNNtQ.",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_hand_made_programs_are_refused(name: str, tmp_path: Path, marker: Path) -> None:
    program = PROGRAMS[name].replace(b"MARKER", str(marker).encode())
    for wrap in (legacy, in_zip, bytes):
        path = tmp_path / f"{wrap.__name__}.pth"
        path.write_bytes(wrap(program))
        refused(path)
    assert not marker.exists()
    assert not hasattr(OrderedDict, "key")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty"),
        (b"   <!DOCTYPE html><html>sign in</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS"),
        (b"hello", "not a file of torch.save"),
        (b"\x89PNG\r\n\x1a\n", "not a file of torch.save"),
        (b"PK\x03\x04", "damaged"),
        (b"PK\x03\x04" + b"\0" * 500, "damaged"),
        (b"\x80", "damaged"),
        (b"\x80\x02", "damaged"),
    ],
)
def test_other_files_are_named_for_what_they_are(content: bytes, match: str, tmp_path: Path) -> None:
    path = tmp_path / "generator.pth"
    path.write_bytes(content)
    refused(path, match)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_cut_and_flipped_files_end_in_a_line_or_load(
    zipped: bool, tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "generator.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for part in (0.01, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * part)])
        refused(path)
    damage = torch.Generator().manual_seed(0)
    for at in torch.randint(0, min(len(whole), 6000), (150,), generator=damage).tolist():
        data = bytearray(whole)
        data[at] ^= 1 << (at % 8)
        path.write_bytes(data)
        with contextlib.suppress(WeightsError):  # anything else is a failure
            pickles.read(path)


class Rebuilt:
    """Pickles as a tensor of our choice over one storage."""

    def __init__(self, numel: Any, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> None:
        self.numel, self.arguments = numel, (offset, size, stride)

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, (Storage(self.numel), *self.arguments, False, OrderedDict())


class Storage:
    """Stands for a storage that claims `numel` values."""

    def __init__(self, numel: Any) -> None:
        self.numel = numel


class Pickler(pickle.Pickler):
    """Writes storages as `torch.save` does; the old format has one entry more."""

    more: tuple[None, ...] = ()

    def persistent_id(self, value: Any) -> Any:
        return ("storage", torch.FloatStorage, "0", "cpu", value.numel, *self.more) if type(value) is Storage else None


def crafted(*tensor: Any) -> tuple[bytes, bytes]:
    """A state dict with one tensor over four real values, in both formats."""
    contents = []
    for more in ((None,), ()):
        pickler = Pickler(out := io.BytesIO(), 2)
        pickler.more = more
        pickler.dump({"siren.final_layer.weight": Rebuilt(*tensor)})
        contents.append(out.getvalue())
    values = struct.pack("<4f", 1, 2, 3, 4)
    old = legacy(contents[0], pickle.dumps(["0"], 2), struct.pack("<q", 4) + values)
    return old, in_zip(contents[1], **{"data/0": values, "byteorder": b"little"})


@pytest.mark.parametrize(
    "tensor",
    [
        (2**40, (2**40,), (1,)),
        (2**62, (2**62,), (1,)),
        (2**80, (4,), (1,)),
        (4, (2**40,), (1,)),
        (4, (2**40,), (0,)),  # legal: one value, shown a million million times
        (4, (1, 2**33), (0, 0)),
        (4, (4,), (1,), 2),
        (4, (4,), (1,), -2),
        (4, (-4,), (1,)),
        (4, (2, 2), (-1, 1)),
        (4, (2, 2), (1,)),
        ("4", (4,), (1,)),
    ],
    ids=str,
)
def test_claims_of_huge_or_odd_tensors_are_refused(tensor: Any, tmp_path: Path) -> None:
    for data in crafted(*tensor):
        path = tmp_path / "generator.pth"
        path.write_bytes(data)
        refused(path)


def test_crafted_files_are_files(tmp_path: Path) -> None:
    """The helpers above would prove nothing if they made files that nobody could read."""
    for data in crafted(4, (2, 2), (1, 2)):
        path = tmp_path / "generator.pth"
        path.write_bytes(data)
        assert pickles.read(path).tree["siren.final_layer.weight"].tolist() == [[1, 3], [2, 4]]
        refused(path, "is missing")


def test_sizes_cost_no_memory_before_they_are_checked(state: dict[str, torch.Tensor]) -> None:
    wide = {**state, "siren.final_layer.weight": torch.zeros(1, 60_000)}  # its network would have 10^10 weights
    with pytest.raises(WeightsError, match=r"sees|wrong shape"):
        import_official("pigan", wide)
    colour = torch.zeros(16, 60_003)
    with pytest.raises(WeightsError, match="wrong shape"):
        import_official("pigan", {**wide, "siren.color_layer_sine.layer.weight": colour})


def test_archives_that_unpack_to_more_are_refused(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    plain, packed = tmp_path / "plain.pth", tmp_path / "generator.pth"
    torch.save({**state, "siren.final_layer.bias": torch.zeros(2**22)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert packed.stat().st_size < plain.stat().st_size / 10
    refused(packed, "a compressed archive")
    with zipfile.ZipFile(packed, "w") as target:
        target.write(plain, "weights/generator.pth")
    refused(packed, "not one of torch.save; unpack it")


def test_machines_of_the_other_byte_order(tmp_path: Path) -> None:
    path = tmp_path / "generator.pth"
    path.write_bytes(legacy(pickle.dumps({}, 2), machine={"little_endian": False}))
    refused(path, "big-endian")
    content = crafted(4, (4,), (1,))[1]
    path.write_bytes(content.replace(b"little", b"middle"))
    refused(path)


def test_networks_that_contain_themselves_end(tmp_path: Path) -> None:
    loop = b"\x80\x02csiren.siren\nFiLMLayer\n)\x81q\x00}X\x08\x00\x00\x00_modules}X\x05\x00\x00\x00sirenh\x00ssb."
    path = tmp_path / "generator.pth"
    for wrap in (legacy, in_zip):
        path.write_bytes(wrap(loop))
        assert isinstance(pickles.read(path).tree, pickles.Inert)
        refused(path, "a layer is in it twice")


def test_words_of_a_file_do_not_reach_the_terminal(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    path, bad = tmp_path / "generator.pth", "a\nb\x1b[31mred\x9b\u202e" + "x" * 10_000
    for content in ({bad: torch.zeros(1)}, {**state, bad: torch.zeros(1)}, {bad: 3}):
        torch.save(content, path)
        refused(path, r"a\\nb\\x1b\[31mred\\x9b\\u202e")
        with pytest.raises(WeightsError) as caught:
            import_official("unsup3d", path)
        assert str(caught.value).isprintable()
    for wrap in (legacy, in_zip):
        path.write_bytes(wrap(b"\x80\x02csiren.siren\nA\x1b[31m\n)\x81."))
        with pytest.raises(WeightsError) as caught:
            import_official("pigan", path)
        assert str(caught.value).isprintable()
    torch.save({10**5000: torch.zeros(1)}, path, _use_new_zipfile_serialization=False)
    refused(path, "keys must be text")


def test_a_file_that_is_too_big_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "generator.pth"
    with path.open("wb") as file:
        file.truncate(pickles._MAX_FILE + 1)
    refused(path, "more than the")
    path.unlink()
    os.mkfifo(path)
    refused(path, "is not a file")


def test_nothing_official_was_imported() -> None:
    assert not {"siren", "generators", "torch_ema", "unsup3d", "antigravity"} & sys.modules.keys()
