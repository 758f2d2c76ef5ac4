"""Cases from the field: hostile values, broken packages, and weights in unusual wrappings."""

import importlib
import io
import json
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save as to_safetensors
from torch import nn

import zoo
from zoo.cli.main import main
from zoo.config import recipes
from zoo.config.prior_files import read_prior
from zoo.editing.reconstruction import Fit, Reconstruction
from zoo.errors import ConfigError, DataError, WeightsError, ZooError
from zoo.generators.base import Latents
from zoo.official.importing import import_official
from zoo.systems.start import finetune

TINY = {"z_dim": 8, "hidden_dim": 16, "layers": 2, "mapping_dim": 16}
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}' if i else '*a'] * 20)}]}}\n" for i in range(9)
)
HOSTILE_YAML = {
    "aliases": BOMB,
    "merges": MERGES,
    "itself": "a: &a [*a]\n",
    "brackets": "a: " + "[" * 5000,
    "indents": "".join("  " * i + "a:\n" for i in range(60)),
    "many": "a: [" + "1, " * 50_000 + "]",
    "long": "a: " + "x" * 200_000,
    "digits": "a: " + "9" * 20_000,
    "hex": "a: 0x" + "f" * 20_000,
    "date": "a: 2020-99-99",
    "base 60": "a: 1" + ":59" * 20_000,
}


@pytest.fixture(scope="module")
def model() -> Any:
    return zoo.build("pigan", **TINY, steps=6, fine_steps=0)


@pytest.fixture
def state(model: Any) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


def quickly_refused(kind: type[ZooError], call: Any, *arguments: Any, match: str = "") -> None:
    start = time.process_time()
    with pytest.raises(kind, match=match) as caught:
        call(*arguments)
    assert time.process_time() - start < 20  # what these cases cost unguarded has no end
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize("name", HOSTILE_YAML)
def test_small_yaml_stays_small_in_every_reader(name: str, tmp_path: Path, model: Any) -> None:
    text = HOSTILE_YAML[name]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("use: [generator/pigan, data/heads]\n" + text)
    quickly_refused(ConfigError, recipes.load_run, str(recipe))
    folder = zoo.save(model, tmp_path / "weights")
    (folder / "README.md").write_text(f"---\n{text}\n---\n")
    quickly_refused(WeightsError, zoo.card, f"file:{folder}")
    inner = text.partition(": ")[2] if "\n" not in text.strip() else "{" + text.replace("\n", ", ") + "}"
    quickly_refused(ZooError, recipes.load_run, "pigan", [f"system.stages={inner}"])


@pytest.mark.parametrize(
    "text", ["[" * 5000, "[" * 200_000, "[" + "1," * 50_000 + "1]", '"' + "x" * 200_000 + '"', "9" * 5000, "", "\x00"]
)
def test_small_json_stays_small_in_every_reader(text: str, tmp_path: Path) -> None:
    prior = tmp_path / "prior.json"
    prior.write_text(text)
    quickly_refused(DataError, read_prior, "light", prior)
    header = {"zoo.format": "1", "zoo.version": "0", "zoo.config": text}
    (tmp_path / "model.safetensors").write_bytes(to_safetensors({"a": torch.zeros(1)}, header))
    quickly_refused(WeightsError, zoo.load, f"file:{tmp_path}")


@pytest.mark.parametrize(
    "value",
    [r'["\u0024{oc.env:SECRET}"]', r'{"\u0024{oc.env:SECRET}": 1}', r'{"a": [[["\x24{oc.env:SECRET}"]]]}',
     r'{"a": &a "\U00000024{oc.env:SECRET}", "b": *a}', r'!!str "\x24{oc.env:SECRET}"', '"$\\\n  {oc.env:SECRET}"'],
)  # fmt: skip
def test_no_escape_hides_an_interpolation(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any
) -> None:
    monkeypatch.setenv("SECRET", "42")
    folder = zoo.save(model, tmp_path / "weights")
    (folder / "README.md").write_text(f"---\nlicence: {value}\n---\n")
    quickly_refused(WeightsError, zoo.card, f"file:{folder}", match="interpolation")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"use: [generator/pigan, data/heads]\nsystem: {{stages: {value}}}\n")
    quickly_refused(ConfigError, recipes.load_run, str(recipe), match="interpolation")
    quickly_refused(ConfigError, recipes.load_run, "pigan", [f"system.stages={value}"], match="interpolation")


@pytest.mark.parametrize(
    "claim",
    [{"layers": 22_000}, {"layers": 64, "hidden_dim": 65_536}, {"hidden_dim": 10**9}, {"mapping_dim": 65_536},
     {"z_dim": 65_536}, {"steps": 10**9, "inference_steps": 10**9}, {"scene": {"light": {"mean": [0.0] * 10**6}}}],
    ids=lambda claim: str(claim)[:30],
)  # fmt: skip
def test_claims_are_compared_with_the_tensors_before_anything_is_built(
    claim: dict[str, Any], tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"name": "pigan", **TINY, **claim}
    header = {"zoo.format": "1", "zoo.version": "0", "zoo.config": json.dumps(config)}
    (tmp_path / "model.safetensors").write_bytes(to_safetensors(state, header))
    for pretrained in (True, False):
        quickly_refused(ZooError, lambda p=pretrained: zoo.load(f"file:{tmp_path}", device="cpu", pretrained=p))


def reconstruction(model: Any, path: Path) -> Path:
    code = model.code(model.latents(1))
    latents = Latents(model.latents(1).z, 1.0, code)
    camera = zoo.Camera.orbit(size=16)
    found = Reconstruction(
        model, latents, camera, None, torch.zeros(1, 3, 128, 128), torch.ones(1, 1, 16, 16), Fit(1.0, 0.1)
    )
    return found.save(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("zoo.camera", [12, 10**9, "corner"]), ("zoo.camera", [12, 17, "corner"]), ("zoo.camera", [12, True, "corner"]),
     ("zoo.camera", "x"), ("zoo.camera", [10**400, 16, "corner"]), ("zoo.fit", [1]),
     ("zoo.fit", {"psnr": "x", "l1": 1}),
     ("zoo.fit", {"psnr": 1.0, "l1": [0] * 10**6})],
)  # fmt: skip
def test_a_reconstruction_says_nothing_that_its_tensors_do_not(
    model: Any, tmp_path: Path, key: str, value: Any
) -> None:
    path = reconstruction(model, tmp_path / "a.safetensors")
    assert zoo.load_reconstruction(path, model).fit == Fit(1.0, 0.1)
    with safe_open(path, "pt") as file:
        header, tensors = dict(file.metadata()), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    path.write_bytes(to_safetensors(tensors, header | {key: json.dumps(value)}))
    quickly_refused(WeightsError, zoo.load_reconstruction, path, model)


def test_priors_are_small(tmp_path: Path) -> None:
    big = tmp_path / "a.json"
    big.write_text(json.dumps({"mean": [0.0] * 10**6, "cov": []}))
    quickly_refused(DataError, read_prior, "light", big)
    np.savez_compressed(tmp_path / "b.npz", mean=np.zeros(10**7), cov=np.zeros(4))
    quickly_refused(DataError, read_prior, "light", tmp_path / "b.npz", match="too large")
    claim = io.BytesIO()
    np.lib.format.write_array_header_1_0(claim, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("mean.npy", claim.getvalue())
    quickly_refused(DataError, read_prior, "light", tmp_path / "c.npz", match="of shape")
    np.savez(tmp_path / "d.npz", mean=np.zeros(4), cov=np.eye(4), more=np.zeros(10**5))
    assert read_prior("light", tmp_path / "d.npz")["mean"] == [0.0] * 4


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a\\b", "a\x1b[31m", "..", "a\n", "x" * 300])
def test_the_name_of_a_run_stays_in_its_folder(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        recipes.load_run("pigan", [f"name={name}"])


def test_a_card_names_no_path_of_a_recipe(tmp_path: Path, model: Any) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("use: [generator/pigan, data/heads, system/adversarial, trainer/auto]\n")
    zoo.save(model, tmp_path / "w", card=zoo.card("pigan.heads32").__class__(name="pigan", recipe=str(recipe)))
    with pytest.raises(WeightsError, match="none of zoo's"):
        finetune(f"file:{tmp_path / 'w'}")


def prefixed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


def inside(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.replace(".network.", "._orig_mod.network.module."): value for key, value in state.items()}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.module."])
def test_wrappers_are_taken_off_the_names(prefix: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    for number, given in enumerate((prefixed(state, prefix), inside(prefixed(state, prefix)), inside(state))):
        torch.save(given, tmp_path / f"{number}.pth")
        found = import_official("pigan", tmp_path / f"{number}.pth")
        assert all(torch.equal(value, state[key]) for key, value in found.state_dict().items())
        assert any("taken off" in limit for limit in found.card.limits)
    with pytest.raises(WeightsError, match="with and without"):
        import_official("pigan", state | prefixed(state, prefix))


AVERAGES = {
    "named": lambda named: named,
    "wrapped": lambda named: prefixed(named, "module."),
    "shadow": lambda named: {"decay": 0.999, "shadow": named},
    "shadow list": lambda named: {"shadow": list(named.values())},
    "shadow_params tuple": lambda named: {"shadow_params": tuple(named.values()), "num_updates": 3},
    "list": lambda named: list(named.values()),
    "tuple": lambda named: tuple(named.values()),
    "parameters": lambda named: nn.ParameterList(nn.Parameter(value) for value in named.values()),
    "state of parameters": lambda named: {str(i): value for i, value in enumerate(named.values())},
    "averaged model": lambda named: {"n_averaged": torch.tensor(3), **prefixed(named, "module.")},
    "beside": lambda named: {
        "step": torch.tensor(3),
        **prefixed(named, "ema_model."),
        **prefixed(named, "online_model."),
    },
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("form", AVERAGES)
def test_averages_come_in_many_forms(form: str, zipped: bool, model: Any, state: Any, tmp_path: Path) -> None:
    wanted = OrderedDict((name, value.detach() + 1) for name, value in model.named_parameters())
    torch.save(AVERAGES[form](wanted), tmp_path / "ema.pth", _use_new_zipfile_serialization=zipped)
    found = import_official("pigan", state, ema=tmp_path / "ema.pth")
    assert all(torch.equal(value, wanted[name]) for name, value in found.named_parameters())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32_and_the_card_says_so(kind: torch.dtype, state: Any, tmp_path: Path) -> None:
    given = {key: value.to(kind) for key, value in state.items()}
    for zipped in (True, False):
        torch.save(given, tmp_path / "g.pth", _use_new_zipfile_serialization=zipped)
        found = import_official("pigan", tmp_path / "g.pth", ema=dict(given))
        assert all(torch.equal(value, given[key].float()) for key, value in found.state_dict().items())
        assert any("float32 inside" in limit for limit in found.card.limits)
        assert not any("bit for bit" in limit for limit in found.card.limits)


def test_safetensors_in_place_of_a_pth(state: Any, tmp_path: Path, model: Any) -> None:
    for name in ("generator.safetensors", "generator.pth"):
        (tmp_path / name).write_bytes(to_safetensors({key: value.contiguous() for key, value in state.items()}))
        found = import_official("pigan", tmp_path / name)
        assert all(torch.equal(value, state[key]) for key, value in found.state_dict().items())
    folder = zoo.save(model, tmp_path / "own")
    with pytest.raises(WeightsError, match="nothing to import"):
        import_official("pigan", folder / "model.safetensors")


def test_wrapped_models_are_saved_bare(model: Any, tmp_path: Path) -> None:
    for number, wrapped in enumerate(
        (nn.DataParallel(model), torch.compile(model), torch.compile(nn.DataParallel(torch.compile(model))))
    ):
        again = zoo.load(f"file:{zoo.save(wrapped, tmp_path / str(number))}", device="cpu")
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())


def test_a_level_below_the_density_is_one_line(model: Any) -> None:
    for level in (-5.0, 0.0, float("nan")):
        with pytest.raises(ValueError, match="level above 0"):
            model.mesh(model.latents(1), 16, level)


BROKEN = {
    "torchvision": ("import torch\ntorch.library.register_fake('torchvision::nms')(len)\n", "torchmetrics"),
    "lightning": ("raise RuntimeError('made for another torch')\n", "lightning"),
    "numba": ("raise ImportError('Numba needs NumPy 1.9 or less')\n", "numba"),
    "skimage": ("import nowhere_to_be_found\n", "scikit-image"),
    "trimesh": ("raise ValueError('dtype size changed, may indicate binary incompatibility')\n", "trimesh"),
}


def test_doctor_names_the_packages_that_do_not_work(tmp_path: Path) -> None:
    for package, (code, _) in BROKEN.items():
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(code)
    (tmp_path / "torchvision-0.1.dist-info").mkdir()
    (tmp_path / "torchvision-0.1.dist-info" / "METADATA").write_text("Name: torchvision\nVersion: 0.1\n")
    script = (
        f"import sys, json; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from zoo.doctor import examine\n"
        "print(json.dumps([[c.name, c.state, c.found, c.fix] for c in examine()]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    rows = {name: rest for name, *rest in json.loads(done.stdout.splitlines()[-1])}
    for package, (_, row) in BROKEN.items():
        state, found, fix = rows[row]
        assert state == "broken", row
        assert ("nowhere_to_be_found" if package == "skimage" else package) in found + fix
        assert fix.startswith("pip "), row


def test_commands_name_a_broken_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "brokenpackage.py").write_text("raise RuntimeError('made for another torch')\n")
    monkeypatch.syspath_prepend(tmp_path)

    def fails(*_: Any) -> Any:
        return importlib.import_module("brokenpackage")

    monkeypatch.setattr("zoo.hub.card", fails)
    with pytest.raises(SystemExit) as ended:
        main(["info", "pigan.heads32"])
    assert ended.value.code == 1
    text = capsys.readouterr().err
    assert "the package brokenpackage does not work here" in text
    assert "bug" not in text
    assert text.count("\n") == 1


@pytest.mark.parametrize("group", ["generator", "data", "system", "trainer"])
def test_groups_of_a_recipe_are_mappings(group: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(f"use: [generator/pigan, data/heads]\n{group}: word\n")
    quickly_refused(ConfigError, recipes.load_run, str(tmp_path / "r.yaml"), match=f"{group}: give a mapping")
