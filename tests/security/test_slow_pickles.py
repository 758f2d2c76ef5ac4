"""Files of `torch.save` from strangers that would take for ever: refused before they do."""

import hashlib
import io
import os
import pickletools
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from tests.security.pickled import in_zip, legacy, refused
from zoo.errors import ZooError
from zoo.networks.discriminators import build_discriminator
from zoo.networks.perceptual import read_tensors
from zoo.official import pickles
from zoo.priors import LightPrior
from zoo.runtime import pickles as scanner
from zoo.runtime.pickles import Limits
from zoo.weights.checkpoints import digest_file, read_checkpoint


def text(value: str) -> bytes:
    return b"X" + struct.pack("<i", len(value)) + value.encode()


def tower(levels: int, fan: int, shared: bool = False) -> bytes:
    """A network whose layers hold the layer below, `fan` times each."""
    out, new = b"\x80\x02}" + b"q\x00", b"csiren.siren\nFiLMLayer\n)\x81}(" + text("_parameters")
    for level in range(levels):
        names = b"".join(text(f"c{k}") + b"h" + bytes([level]) for k in range(fan)) if level else b""
        out += new + (b"h\x00" if shared else b"}") + text("_modules") + b"}(" + names + b"uubq" + bytes([level + 1])
    return out + b"."


def tuples(levels: int, end: bytes) -> bytes:
    """A pair of the same pair of the same pair ..."""
    pairs = b"".join(b"h" + bytes([k]) + b"h" + bytes([k]) + b"\x86q" + bytes([k + 1]) for k in range(levels))
    return b"\x80\x02}K\x01q\x00" + pairs + end


SLOW = {
    "layers": (tower(16, 10), "a layer is in it twice"),
    "shared table": (tower(3, 1, shared=True), "a layer is in it twice"),
    "key": (tuples(40, b"K\x01s."), "tuples of tuples"),
    "set": (tuples(12, b"0cbuiltins\nset\n]h\x0ca\x85R."), "tuples of tuples"),
    "small key": (tuples(2, b"K\x01s."), "a key that is no constant"),
    "keys": (tuples(1, b"(h\x01K\x01u."), "a key that is no constant"),
    "called": (b"\x80\x02]q\x00(h\x00h\x00e)R.", "a call of what is no name"),
    "storage": (b"\x80\x02]\x85Q.", "a storage that is no plain name"),
    "passed on": (b"\x80\x02}ctorch._utils\n_rebuild_parameter\nK\x01K\x02\x86\x85RK\x01s.", "no constant"),
    "duplicate": (b"\x80\x02}K\x01" + b"2\x86" * 12 + b"K\x01s.", "tuples of tuples"),
}


@pytest.mark.parametrize("name", SLOW)
def test_small_files_take_no_time(name: str, tmp_path: Path) -> None:
    program, match = SLOW[name]
    for wrap in (in_zip, legacy):
        path = tmp_path / "generator.pth"
        path.write_bytes(wrap(program))
        refused(path, match)


def test_what_would_hang_in_c_is_refused_before(tmp_path: Path) -> None:
    """In a process of its own with a limit of time: no signal gets through to C."""
    script = """
import resource; resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
import sys
from zoo.errors import WeightsError
from zoo.official.importing import import_official
for path in sys.argv[1:]:
    try:
        import_official("pigan", path)
    except WeightsError as error:
        print(error)
"""
    names = ("layers", "key")
    for name in names:
        (tmp_path / f"{name}.pth").write_bytes(in_zip(SLOW[name][0]))
    command = [sys.executable, "-c", script, *(str(tmp_path / f"{name}.pth") for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    said = done.stdout.splitlines()
    assert [match in line for (_, match), line in zip([SLOW[n] for n in names], said, strict=True)] == [True, True]


SIZE = 8 * 2**20
LONG = {
    "steps": b"\x80\x02" + b"N0" * (SIZE // 2) + b"N.",
    "list": b"\x80\x02](" + b"N" * SIZE + b"e.",
    "numbers": b"\x80\x02](" + b"K\x01" * (SIZE // 2) + b"e.",
    "memo": b"\x80\x02N" + b"q\x00" * (SIZE // 2) + b".",
    "marks": b"\x80\x02" + b"(" * SIZE + b".",
    "string": b"\x80\x02}X" + struct.pack("<i", SIZE) + b"x" * SIZE + b"K\x01s.",
    "below the size": b"\x80\x02](" + b"N" * 2**20 + b"e.",
}


@pytest.mark.parametrize("name", LONG)
def test_long_pickles_are_refused_at_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the last of the five pickles of an old file, behind ones that are almost too long."""
    followed = []
    step = scanner._Machine.step
    monkeypatch.setattr(scanner._Machine, "step", lambda *given: followed.append(1) or step(*given))
    almost = b"\x80\x02](" + b"N" * (Limits.steps // 4) + b"e."
    path = tmp_path / "generator.pth"
    for data in (in_zip(LONG[name]), legacy(LONG[name]), legacy(almost, LONG[name])):
        path.write_bytes(data)
        followed.clear()
        refused(path, "more memory or more steps than weights need")
        assert len(followed) <= Limits.steps


@pytest.mark.parametrize("name", ["key", "set", "small key", "called", "duplicate"])
@pytest.mark.parametrize("read", [read_checkpoint, read_tensors, LightPrior.load])
def test_no_reader_follows_what_grows_without_end(read: Callable[[Path], Any], name: str, tmp_path: Path) -> None:
    """Checkpoints, weights of VGG, official priors: `weights_only` alone would hash these for hours."""
    program, match = SLOW[name]
    for wrap in (in_zip, legacy):
        path = tmp_path / "light.pth"
        path.write_bytes(wrap(program))
        digest_file(path).write_text(hashlib.sha256(path.read_bytes()).hexdigest())
        with pytest.raises(ZooError, match=match):
            read(path)


@pytest.mark.parametrize("read", [read_checkpoint, read_tensors, LightPrior.load])
def test_no_reader_unpacks_or_waits(read: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "light.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("light/data.pkl", b"\x80\x02}.")
        archive.writestr("light/data/0", bytes(2**20))
    with pytest.raises(ZooError, match="compressed archive"):
        read(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ZooError):
        read(path)


def test_all_of_a_large_training_is_far_from_the_limits(tmp_path: Path) -> None:
    """StyleGAN2 for 1024 px with everything that its training saves, with fewer channels."""
    generator = zoo.build("stylegan2", size=1024, z_dim=8, channel_base=2048, channel_max=4)
    networks = [generator.network, build_discriminator("style", max_size=1024, channels=[2] * 9)]
    optimisers = []
    for network in networks:
        optimisers.append(torch.optim.Adam(network.parameters()))
        for p in network.parameters():
            optimisers[-1].state[p] = {key: torch.zeros(()) for key in ("step", "exp_avg", "exp_avg_sq")}
    content = {f"net{i}": net.state_dict() for i, net in enumerate([*networks, networks[0]])}
    content |= {f"optimiser{i}": optimiser.state_dict() for i, optimiser in enumerate(optimisers)}
    for zipped in (True, False):
        torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
        assert pickles.read(tmp_path / "x.pth").tree.keys() == content.keys()
    stream = io.BytesIO((tmp_path / "x.pth").read_bytes())
    steps = sum(1 for _ in range(5) for _ in pickletools.genops(stream))
    assert 30_000 < steps < Limits.steps / 3
    assert stream.tell() < Limits.size / 10
