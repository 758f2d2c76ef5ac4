"""Every reader of files, each with a sound file to damage and a way to read it."""

import hashlib
import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save as to_safetensors

import zoo
from zoo.config import recipes
from zoo.config.prior_files import read_prior
from zoo.config.untrusted import from_json
from zoo.data.pictures import decode
from zoo.data.store import open_files
from zoo.editing.reconstruction import Fit, Reconstruction
from zoo.fitting.runs import Finished, read_run, read_subject
from zoo.generators.base import Latents
from zoo.networks.perceptual import read_tensors
from zoo.official.importing import import_official
from zoo.official.openvino import read as read_openvino
from zoo.priors import LightPrior

from .damage import mutated, retold, rewritten

TINY = {"z_dim": 8, "hidden_dim": 16, "layers": 2, "mapping_dim": 16, "steps": 6, "fine_steps": 0}


@dataclass(frozen=True)
class Reader:
    """How one kind of file is read.

    Attributes:
        write: puts a damaged file into a folder, which is empty or holds the last one.
        read: reads what lies there.
    """

    write: Callable[[Path, random.Random], None]
    read: Callable[[Path], Any]


class Canary:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _bytes(name: str, *sound: bytes) -> Callable[[Path, random.Random], None]:
    return lambda place, dice: _put(place / name, mutated(dice.choice(sound), dice))


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _saved(content: Any, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _picture(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


def readers(work: Path, canary: Path) -> Iterator[tuple[str, Reader]]:
    """Names and readers; `work` takes the sound files, `canary` is what hostile code would make."""
    model = zoo.build("pigan", **TINY)
    sound = zoo.save(model, work / "sound")
    state, data = model.state_dict(), (sound / "model.safetensors").read_bytes()
    card, config = (sound / "README.md").read_text(), json.loads((sound / "config.json").read_text())
    bombs = [_saved(Canary(canary), zipped) for zipped in (True, False)] + [pickle.dumps(Canary(canary))]

    def folder(place: Path, dice: random.Random) -> None:
        """One of the three files is damaged; without a card, or its hash would end all at once."""
        config_now = retold(config, dice) if dice.random() < 0.5 else config
        header = {"zoo.format": "1", "zoo.version": "0", "zoo.config": json.dumps(config_now)}
        whole = to_safetensors(state, header)
        _put(place / "model.safetensors", whole if config_now is not config else mutated(data, dice))
        _put(place / "config.json", json.dumps(retold(config_now, dice)).encode() if dice.random() < 0.2 else b"")
        if dice.random() < 0.8:
            (place / "config.json").unlink()

    yield "weights folder", Reader(folder, lambda place: zoo.load(f"file:{place}", device="cpu"))

    def carded(place: Path, dice: random.Random) -> None:
        _put(place / "model.safetensors", data)
        text = rewritten(card, dice) if dice.random() < 0.7 else mutated(card.encode(), dice).decode("utf-8", "replace")
        _put(place / "README.md", text.encode("utf-8", "replace"))

    yield "card", Reader(carded, lambda place: zoo.card(f"file:{place}"))

    run = {"generator": config, "data": {"name": "heads"}, "system": {"start_kimg": 0}, "recipe": "pigan", "seed": 0}
    checkpoint = {"state_dict": {f"ema.average.{k}": v for k, v in state.items()}, "zoo": {"config": run, "kimg": 1.0}}

    def checkpointed(place: Path, dice: random.Random) -> None:
        again = checkpoint | {"zoo": retold(checkpoint["zoo"], dice)}
        content = dice.choice([mutated(_saved(checkpoint), dice), _saved(again), mutated(dice.choice(bombs), dice)])
        _put(place / "images1.ckpt", content)
        _put(place / "images1.ckpt.sha256", hashlib.sha256(content).hexdigest().encode())

    yield "checkpoint", Reader(checkpointed, lambda place: zoo.load(f"file:{place / 'images1.ckpt'}", device="cpu"))

    official = [_saved(state, zipped) for zipped in (True, False)] + bombs + [to_safetensors(state)]
    yield (
        "official weights",
        Reader(_bytes("g.pth", *official), lambda place: import_official("pigan", place / "g.pth")),
    )
    averages = [_saved({"shadow": list(state.values())}), _saved(tuple(state.values()), False), *bombs]
    yield (
        "official average",
        Reader(_bytes("e.pth", *averages), lambda place: import_official("pigan", state, ema=place / "e.pth")),
    )
    moments = {"mean": torch.zeros(4), "cov": torch.eye(4)}
    yield (
        "official prior",
        Reader(_bytes("l.pth", _saved(moments), *bombs), lambda place: LightPrior.load(place / "l.pth")),
    )
    yield (
        "weights of losses",
        Reader(_bytes("v.pth", _saved(state), *bombs), lambda place: read_tensors(place / "v.pth")),
    )

    xml = (
        '<net><layers><layer id="0" name="a" type="Const"><data element_type="f32" shape="2, 3" offset="0" size="24"/>'
        '</layer><layer id="1" name="b" type="Add"/></layers>'
        '<edges><edge from-layer="0" to-layer="1" to-port="0"/></edges></net>'
    )

    def openvino(place: Path, dice: random.Random) -> None:
        text = xml.replace(
            dice.choice(("2, 3", "24", '"0"', "f32", "Const")), dice.choice(("-1", "1000000000", "", "9" * 5000)), 1
        )
        _put(place / "n.xml", text.encode() if dice.random() < 0.5 else mutated(xml.encode(), dice))
        _put(place / "n.bin", bytes(24))

    yield "OpenVINO", Reader(openvino, lambda place: read_openvino(place / "n.xml"))

    for kind, options in {"PNG": {}, "JPEG": {}, "WEBP": {}, "GIF": {}, "TIFF": {"compression": "tiff_lzw"}}.items():
        picture = _picture(kind, **options)
        yield f"picture {kind}", Reader(_bytes("p", picture), lambda place: decode((place / "p").read_bytes(), "p"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"a/{i}.png", _picture("PNG"))
    yield "zip of pictures", Reader(_bytes("p.zip", packed.getvalue()), _read_zip)

    recipe = (
        "use: [generator/pigan, data/heads, system/adversarial, trainer/auto]\ngenerator:\n  layers: 2\n"
        "system:\n  stages:\n    - {size: 32, batch: 8}\ntrainer:\n  max_kimg: 1.0\n"
    )
    yield (
        "recipe",
        Reader(
            lambda place, dice: _put(place / "r.yaml", rewritten(recipe, dice).encode("utf-8", "replace")),
            lambda place: recipes.load_run(str(place / "r.yaml")),
        ),
    )
    given = [
        "system.stages=[{size: 32}]",
        "seed=1",
        "data.scene.fov=12",
        "name=x",
        "generator.layers=2",
        "trainer.loggers=[wandb]",
    ]
    yield (
        "override",
        Reader(
            lambda place, dice: _put(
                place / "o", rewritten(dice.choice(given).replace("=", ": "), dice).encode("utf-8", "replace")
            ),
            lambda place: recipes.load_run("pigan", [(place / "o").read_text().replace(": ", "=", 1)]),
        ),
    )

    prior = {"mean": [0.0] * 4, "cov": np.eye(4).tolist()}
    yield (
        "prior JSON",
        Reader(
            lambda place, dice: _put(
                place / "p.json",
                json.dumps(retold(prior, dice)).encode()
                if dice.random() < 0.5
                else mutated(json.dumps(prior).encode(), dice),
            ),
            lambda place: LightPrior.load(place / "p.json"),
        ),
    )
    arrays = io.BytesIO()
    np.savez_compressed(arrays, mean=np.zeros(4), cov=np.eye(4))
    yield "prior npz", Reader(_bytes("p.npz", arrays.getvalue()), lambda place: read_prior("light", place / "p.npz"))

    code = Latents(torch.zeros(1, 8), 1.0, model.code(model.latents(1)))
    camera = zoo.Camera.orbit(size=16)
    found = Reconstruction(
        model, code, camera, None, torch.zeros(1, 3, 128, 128), torch.ones(1, 1, 16, 16), Fit(1.0, 0.1)
    )
    path = found.save(work / "r.safetensors")
    with safe_open(path, "pt") as file:
        header, tensors = dict(file.metadata()), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118

    def reconstruction(place: Path, dice: random.Random) -> None:
        key = dice.choice(("zoo.camera", "zoo.fit"))
        told = to_safetensors(tensors, header | {key: json.dumps(retold(json.loads(header[key]), dice))})
        _put(place / "r.safetensors", told if dice.random() < 0.5 else mutated(path.read_bytes(), dice))

    yield (
        "reconstruction",
        Reader(reconstruction, lambda place: zoo.load_reconstruction(place / "r.safetensors", model)),
    )

    result = {"name": "a", "seconds": 1.0, "records": [{"SIDE": 1.0, "MAD": 2.0, "seconds": 1}]}

    def finished(place: Path, dice: random.Random) -> None:
        for name, values in (("run.json", {"gan": "x", "seed": 0}), ("a/result.json", result)):
            _put(
                place / name,
                dice.choice(
                    [
                        json.dumps(values).encode(),
                        json.dumps(retold(values, dice)).encode(),
                        mutated(json.dumps(values).encode(), dice),
                    ]
                ),
            )

    yield "run.json, result.json", Reader(finished, read_run)
    maps = {name: torch.ones(1, n, 8, 8) for name, n in (("image", 3), ("mask", 1), ("shape", 1))}
    subject = _saved({"name": "a", "w": torch.zeros(1, 8), "depth": None, "inside": None, "picture": "0", **maps})
    yield "latent.pt", Reader(_bytes("latent.pt", subject, *bombs), lambda place: read_subject(place / "latent.pt"))
    array = io.BytesIO()
    np.save(array, np.ones((2, 8, 8), np.float32))
    yield (
        "depths.npy",
        Reader(_bytes("depths.npy", array.getvalue()), lambda place: Finished(place, 1.0, [], []).depths(8)),
    )
    yield (
        "JSON",
        Reader(_bytes("j", json.dumps(config).encode()), lambda place: from_json((place / "j").read_bytes(), "j")),
    )


def _read_zip(place: Path) -> None:
    files = open_files(place / "p.zip")
    for name in files.names:
        decode(files.read(name), name)
