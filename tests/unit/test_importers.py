"""Published weights: files made to look like the authors', imported without their packages."""

import argparse
import copy
import hashlib
import json
import math
import re
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from zoo import resources
from zoo.cli import main as cli
from zoo.config.fill import generator_config
from zoo.errors import ConfigError, WeightsError, ZooError
from zoo.generators.base import Generator
from zoo.official import pickles
from zoo.official.importing import import_official
from zoo.official.methods import METHODS
from zoo.official.methods.base import SCENES
from zoo.weights import cards

TINY = {"z_dim": 8, "hidden_dim": 16, "layers": 2, "mapping_dim": 24}
SMALL = {
    "pigan": TINY,
    "gof": TINY,
    "shadegan": {**TINY, "surface_tracking": True, "surface_size": 16, "surface_features": 4},
    "graf": {"hidden_dim": 8, "layers": 3, "skip": 1, "shape_dim": 5, "appearance_dim": 3},
    "stylegan2": {"z_dim": 8, "size": 16, "mapping_layers": 2, "channel_base": 64, "channel_max": 8},
    "gan2shape": {"size": 32, "nf": 16, "zdim": 8, "encoder_nf": 4, "offset_nf": 4, "offset_dim": 6},
    "unsup3d": {"size": 32, "nf": 16, "zdim": 8, "encoder_nf": 4, "conf_zdim": 6},
}
# What the official classes are called; each stands for one of ours with the same children.
OFFICIAL = {
    "FiLMSiren": "siren.siren.SPATIALSIRENBASELINE",
    "FiLMLayer": "siren.siren.FiLMLayer",
    "MappingNetwork": "siren.siren.CustomMappingNetwork",
}
FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


@contextmanager
def foreign(*paths: str, base: type = object) -> Iterator[list[type]]:
    """Classes in modules that exist only inside the block."""
    made, classes = [], []
    for path in paths:
        module, _, name = path.rpartition(".")
        for part in (module.partition(".")[0], module):
            if part not in sys.modules:
                sys.modules[part] = types.ModuleType(part)
                made.append(part)
        cls = type(name, (base,), {"__module__": module})
        setattr(sys.modules[module], name, cls)
        classes.append(cls)
    try:
        yield classes
    finally:
        for part in made:
            del sys.modules[part]


def save(content: Any, path: Path, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def save_whole(model: Generator, path: Path, zipped: bool = True, field: str = "") -> Path:
    """A pi-GAN generator.pth: the network itself, as an object."""
    names = {**OFFICIAL, "FiLMSiren": field or OFFICIAL["FiLMSiren"]}
    with foreign("generators.generators.ImplicitGenerator3d", *names.values(), base=nn.Module) as (outer, *inner):
        classes = dict(zip(names, inner, strict=True))
        whole: Any = outer()
        whole.siren = copy.deepcopy(model.siren)
        for module in whole.modules():
            module.__class__ = classes.get(type(module).__name__, type(module))
        whole.step, whole.device, whole.avg_frequencies = 200_000, torch.device("cpu"), torch.ones(1, 3)
        return save(whole, path, zipped)


def save_ema(values: list[torch.Tensor], path: Path, zipped: bool = True) -> Path:
    with foreign("torch_ema.ema.ExponentialMovingAverage") as (cls,):
        ema: Any = cls()
        ema.decay, ema.num_updates, ema.shadow_params, ema.collected_params = 0.999, 7, values, []
        return save(ema, path, zipped)


def save_published(method: str, model: Generator, path: Path, zipped: bool = True) -> Path:
    """A file as the authors of the method lay it out."""
    state = model.state_dict()
    if method == "graf":
        net = {k.removeprefix("nerf."): v for k, v in state.items()}
        raw = {k: torch.zeros_like(v) for k, v in net.items()}
        return save({"generator": raw, "generator_test": net, "it": 5, "g_optimizer": {"state": {}}}, path, zipped)
    if method == "stylegan2":
        net = {k.removeprefix("network."): v for k, v in state.items()}
        raw = {k: torch.zeros_like(v) for k, v in net.items()}
        return save({"g_ema": net, "g": raw, "d": {}, "args": argparse.Namespace(size=16)}, path, zipped)
    if method in ("unsup3d", "gan2shape"):
        with foreign("unsup3d.meters.MetricsTrace") as (cls,):
            trace: Any = cls()
            trace.data = {"train": [{"loss": 0.5}]}
            return save(
                {**nets_of(model), "optimizerD": {"state": {}}, "metrics_trace": trace, "epoch": 30}, path, zipped
            )
    return save_whole(model, path, zipped) if method == "pigan" else save(state, path, zipped)


def nets_of(model: Generator) -> dict[str, Any]:
    nets: dict[str, Any] = {}
    for key, value in model.state_dict().items():
        name, _, rest = key.partition(".")
        nets.setdefault(name, {})[rest] = value
    return nets


def same(a: Generator, b: Generator) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return list(left) == list(right) and all(torch.equal(v, right[k]) for k, v in left.items())


@pytest.fixture
def small() -> Callable[[str], Generator]:
    return lambda method: zoo.build(method, seed=1, **SMALL[method])


# ---------------------------------------------------------------- what works


@FORMATS
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("method", SMALL)
def test_published_files_become_folders_that_load(
    small: Callable[[str], Generator], method: str, zipped: bool, tmp_path: Path
) -> None:
    model = small(method)
    file = save_published(method, model, tmp_path / "generator.pth", zipped)
    imported = import_official(method, file, out=tmp_path / "out")
    allowed = [known[0] for known in torch.serialization.get_safe_globals() if isinstance(known, tuple)]
    assert not any(issubclass(cls, pickles.Inert) for cls in allowed)
    assert not {"siren", "generators", "torch_ema", "unsup3d"} & sys.modules.keys()
    assert same(imported, model)
    again = zoo.load(f"file:{tmp_path / 'out'}", device="cpu")
    assert same(again, model)
    assert again.config == imported.config
    card = zoo.card(f"file:{tmp_path / 'out'}")
    assert card.sources == {"generator.pth": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert "authors" in card.licence["weights"]
    assert "SHA-256" in (tmp_path / "out" / "README.md").read_text("utf-8").partition("## Converted from")[2]
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())


@FORMATS
def test_averages_are_named_by_their_order(small: Callable[[str], Generator], zipped: bool, tmp_path: Path) -> None:
    model, average = small("shadegan"), zoo.build("shadegan", seed=2, **SMALL["shadegan"])
    file = save(dict(reversed(model.state_dict().items())), tmp_path / "generator.pth", zipped)
    ema = save_ema([p.detach() for p in average.parameters()], tmp_path / "ema.pth", zipped)
    imported = import_official("shadegan", file, ema=ema)
    assert same(imported, average)
    assert imported.card is not None
    assert list(imported.card.sources) == ["generator.pth", "ema.pth"]
    assert "averaged" in imported.card.summary
    as_tensors = import_official("shadegan", model.state_dict(), ema={"shadow_params": [*average.parameters()]})
    assert same(as_tensors, average)


def test_an_imported_model_renders(small: Callable[[str], Generator]) -> None:
    for method in ("pigan", "shadegan", "gof", "graf"):
        model = import_official(method, save_free(method, small(method)))
        out = model(model.latents(1), model.camera(size=8))
        assert out.rgb.shape == (1, 3, 8, 8)
        assert out.rgb.isfinite().all(), method


def save_free(method: str, model: Generator) -> dict[str, Any]:
    """The content of a published file, never written."""
    state = model.state_dict()
    return {"generator": {k.removeprefix("nerf."): v for k, v in state.items()}} if method == "graf" else state


@pytest.fixture(scope="module")
def shapes() -> dict[str, Any]:
    folder = Path(__file__).parents[1] / "parity" / "fixtures"
    nerf = json.loads((folder / "nerf_state_dict_shapes.json").read_text("utf-8"))
    out = {k: dict(v["state_dict"]) for k, v in nerf.items() if "/generator/" in k}
    for key, entry in json.loads((folder / "g2s_state_dict_shapes.json").read_text("utf-8")).items():
        family, _, net = key.partition("/")
        if family in ("unsup3d", "gan2shape64", "gan2shape128"):
            out.setdefault(family, {}).update({f"{net}.{k}": v for k, v in entry.items()})
        if key.startswith("stylegan2/G_"):
            out[key] = {f"network.{k}": v for k, v in entry.items()}
    return out


def test_sizes_of_the_official_models_are_read_from_their_shapes(shapes: dict[str, Any]) -> None:
    expected: dict[str, dict[str, Any]] = {
        "shadegan/generator/shading_noview_nosurftrack": {"view_condition": False, "surface_tracking": False},
        "shadegan/generator/shading_noview_surftrack": {"view_condition": False, "surface_tracking": True},
        "shadegan/generator/shading_view_nosurftrack": {"view_condition": True, "surface_tracking": False},
        "shadegan/generator/shading_view_surftrack": {"view_condition": True, "surface_tracking": True},
        "gan2shape128": {"size": 128, "nf": 32, "groups": 8, "encoder_nf": 32},
        "stylegan2/G_128_m1": {"size": 128},
        "stylegan2/G_256_m2": {"channel_base": 32768},
        "stylegan2/G_512_m2": {"size": 512, "channel_base": 32768},
    }
    seen = 0
    for name, entry in shapes.items():
        if "Embedding" in name:
            continue
        method = "pigan" if name.endswith("pigan_baseline") else re.split(r"/|64|128", name)[0]
        tensors = {key: torch.empty(shape, device="meta") for key, shape in entry.items()}
        sizes = METHODS[method].sizes(tensors, name)
        with torch.device("meta"):
            model = zoo.build({"name": method, **sizes})
        assert {k: list(v.shape) for k, v in model.state_dict().items()} == entry, name
        assert model.config == generator_config(method, expected.get(name, {})), name
        seen += 1
    assert seen == 15


def test_embedding_variants_are_refused_by_name(shapes: dict[str, Any]) -> None:
    tensors = {k: torch.empty(s, device="meta") for k, s in shapes["pigan/generator/EmbeddingPiGAN128"].items()}
    with pytest.raises(WeightsError, match="EmbeddingPiGAN"):
        METHODS["pigan"].sizes(tensors, "x")


# ---------------------------------------------------------------- scenes and sampling


def test_data_sets_bring_camera_and_samples(small: Callable[[str], Generator]) -> None:
    state = small("pigan").state_dict()
    celeba, cats, carla = (import_official("pigan", state, dataset=d) for d in ("celeba", "cats", "carla"))
    assert (celeba.scene.fov, celeba.scene.near, celeba.scene.far) == (12, 0.88, 1.12)
    assert (celeba.config.steps, celeba.config.fine_steps, celeba.config.last_back) == (12, 12, True)
    assert (cats.scene.near, cats.scene.far, cats.scene.pose.distribution) == (0.8, 1.2, "uniform")
    assert (cats.scene.pose.yaw_std, cats.scene.pose.pitch_std, cats.config.steps) == (0.5, 0.4, 24)
    assert (carla.scene.fov, carla.scene.near, carla.scene.far, carla.scene.white_back) == (30, 0.7, 1.3, True)
    assert (carla.config.box, carla.config.steps, carla.config.last_back) == (0, 48, False)
    pitch = torch.stack([carla.cameras(512).pose[:, 0]]) + math.pi / 2  # from straight above
    assert 0 <= pitch.min() < 0.1
    assert math.radians(80) < pitch.max() < math.radians(87)
    graf = import_official("graf", save_free("graf", small("graf"))).cameras(512).pose
    polar, yaw = (graf + torch.tensor([math.pi / 2, 0.0])).rad2deg().unbind(1)
    assert 70 <= polar.min().round() <= 71
    assert 84 <= polar.max().round() <= 85  # the published v of 0.329 to 0.4564
    assert 43 < yaw.abs().max() <= 45
    gof = import_official("gof", state, dataset="bfm").config
    assert (gof.steps, gof.surface_steps, gof.fine_steps) == (9, 12, 3)
    assert (gof.interval_min, gof.interval_max) == (0.02, 0.12)


def test_every_data_set_of_every_method_makes_a_valid_generator() -> None:
    for method, known in METHODS.items():
        for dataset, settings in known.settings.items():
            values = {**SMALL[method], **settings, "scene": SCENES[dataset]}
            generator_config(method, values)


def test_the_window_of_surface_tracking(small: Callable[[str], Generator]) -> None:
    state = small("shadegan").state_dict()
    assert import_official("shadegan", state).config.window == 0.06491
    assert import_official("shadegan", state, delta=0.1).config.window == 0.1
    assert import_official("shadegan", state, step=125_000).config.window == pytest.approx(0.0649, abs=5e-5)
    cats = import_official("shadegan", state, dataset="cats", step=30_000)
    assert cats.config.window == pytest.approx(0.06 + 0.18 * math.exp(-2.5))
    viewed = zoo.build("shadegan", **SMALL["shadegan"], view_condition=True).state_dict()
    assert import_official("shadegan", viewed).config.window == 0.06423


def test_a_light_prior_travels_with_the_weights(small: Callable[[str], Generator], tmp_path: Path) -> None:
    prior = {"mean": torch.tensor([0.1, 0.2, 0.3, 0.4]), "cov": torch.eye(4) / 8}
    light = save(prior, tmp_path / "light_mvn.pth")
    model = import_official("shadegan", small("shadegan").state_dict(), light=light, out=tmp_path / "out")
    assert model.scene.light.mean == prior["mean"].tolist()
    assert model.scene.light.cov == prior["cov"].tolist()
    assert model.card is not None
    assert list(model.card.sources) == ["light_mvn.pth"]
    with pytest.raises(ConfigError, match="pigan has no light"):
        import_official("pigan", small("pigan").state_dict(), light=light)


def test_two_files_of_one_name_are_both_on_the_card(small: Callable[[str], Generator], tmp_path: Path) -> None:
    model = small("pigan")
    (tmp_path / "ema").mkdir()
    file = save(model.state_dict(), tmp_path / "a.pth")
    ema = save_ema([p.detach() for p in model.parameters()], tmp_path / "ema" / "a.pth")
    card = import_official("pigan", file, ema=ema).card
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (file, ema)]
    assert card is not None
    assert card.sources == dict(zip(("a.pth", "a.pth (average)"), hashes, strict=True))


def test_gan2shapes_priors_come_from_files(small: Callable[[str], Generator], tmp_path: Path) -> None:
    spread = torch.tensor([0.5, 0.5, 0.25, 0.5])
    prior = {"mean": torch.tensor([0.1, 0.2, 0.3, 0.4]), "cov": spread.outer(spread) + torch.eye(4)}
    light = save(prior, tmp_path / "light_mvn.pth")
    view = save({"mean": torch.arange(6.0), "cov": torch.eye(6)}, tmp_path / "view_mvn.pth")
    model: Any = import_official("gan2shape", nets_of(small("gan2shape")), light=light, view=view)
    assert model.view_mean.tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(model.light_mean, prior["mean"])  # as the network puts it out: x to the left
    assert torch.tensor(model.scene.light.cov)[2, 0] == -0.125
    assert torch.equal(torch.tensor(model.scene.light.cov).abs(), prior["cov"])
    refused("only gan2shape", "unsup3d", {}, view=view, kind=ConfigError)


def test_stylegan2_files_may_lack_constants(small: Callable[[str], Generator]) -> None:
    model = small("stylegan2")
    state = {k.removeprefix("network."): v for k, v in model.state_dict().items()}
    lean = {k: v for k, v in state.items() if not (k.endswith("kernel") or k.startswith("noises"))}
    imported = import_official("stylegan2", {"g_ema": lean})
    assert len(lean) < len(state)
    assert all(torch.equal(v, imported.state_dict()[f"network.{k}"]) for k, v in state.items() if "noises" not in k)
    refused("missing: network.conv1.noise.weight", "stylegan2", {k: v for k, v in lean.items() if "1.noise" not in k})


# ---------------------------------------------------------------- what is refused


def refused(match: str, method: str, *args: Any, kind: type[ZooError] = WeightsError, **options: Any) -> None:
    with pytest.raises(kind, match=match) as caught:
        import_official(method, *args, **options)
    assert "\n" not in str(caught.value)


def test_keys_and_shapes_must_be_exactly_right(small: Callable[[str], Generator]) -> None:
    state = dict(small("pigan").state_dict())
    missing = {k: v for k, v in state.items() if k != "siren.network.1.layer.bias"}
    refused(r"missing: siren\.network\.1\.layer\.bias", "pigan", missing)
    refused(r"unexpected: siren\.more", "pigan", {**state, "siren.more": torch.zeros(1)})
    refused(r"wrong shape: siren\.final_layer\.bias", "pigan", {**state, "siren.final_layer.bias": torch.zeros(2)})
    refused(r"siren\.final_layer\.weight is missing; it holds a", "pigan", {"a": torch.zeros(1)})
    empty = torch.zeros(1, 0)
    refused(r"siren\.final_layer\.weight is \(1, 0\)", "pigan", {**state, "siren.final_layer.weight": empty})
    bias = torch.tensor([math.nan])
    refused(r"not finite: siren\.final_layer\.bias", "pigan", {**state, "siren.final_layer.bias": bias})
    refused("not numbers with a point", "pigan", {k: v.long() for k, v in state.items()})
    refused("not the weights of one network", "pigan", {**state, "epoch": 3})
    refused("not the weights of one network", "pigan", {})


def test_confused_methods_are_told_apart(small: Callable[[str], Generator]) -> None:
    refused("use the method shadegan", "pigan", small("shadegan").state_dict())
    refused("use the method pigan", "shadegan", small("pigan").state_dict())
    refused("not the networks netD", "unsup3d", small("pigan").state_dict())
    refused("not the networks", "graf", small("pigan").state_dict())
    refused("unknown official method 'shadegn'. Did you mean 'shadegan'", "shadegn", {}, kind=ConfigError)


def test_a_field_without_a_box_needs_its_data_set(small: Callable[[str], Generator], tmp_path: Path) -> None:
    file = save_whole(small("pigan"), tmp_path / "generator.pth", field="siren.siren.TALLSIREN")
    refused("TALLSIREN.*carla", "pigan", file, kind=ConfigError)
    assert import_official("pigan", file, dataset="carla").config.box == 0
    other = save_whole(small("pigan"), tmp_path / "other.pth")
    refused("SPATIALSIRENBASELINE.*not carla", "pigan", other, dataset="carla", kind=ConfigError)


def test_averages_that_do_not_fit_are_refused(small: Callable[[str], Generator], tmp_path: Path) -> None:
    model = small("pigan")
    state, values = model.state_dict(), [p.detach() for p in model.parameters()]
    refused("13 averaged tensors for 14 parameters|averaged tensors for", "pigan", state, ema=values[:-1])
    swapped = [values[1], values[0], *values[2:]]
    refused("ema.pth: .*wrong shape", "pigan", state, ema=save_ema(swapped, tmp_path / "ema.pth"))
    refused("not a moving average", "pigan", state, ema=save({"a": 1}, tmp_path / "a.pth"))
    refused("not finite", "pigan", state, ema=[torch.full_like(v, math.inf) for v in values])
    refused("an average without names; give the generator's own file", "pigan", tmp_path / "ema.pth")
    refused("leave ema out", "graf", {}, ema=values, kind=ConfigError)


def test_options_that_say_nothing_are_refused(small: Callable[[str], Generator], tmp_path: Path) -> None:
    state, tracked = small("pigan").state_dict(), small("shadegan").state_dict()
    refused("unknown data set .*'celebs'", "pigan", state, dataset="celebs", kind=ConfigError)
    refused("delta and step", "pigan", state, delta=0.1, kind=ConfigError)
    refused("give one of them", "shadegan", tracked, delta=0.1, step=3, kind=ConfigError)
    refused("delta=nan: use 0", "shadegan", tracked, delta=math.nan, kind=ConfigError)
    refused("no window is published for cats", "shadegan", tracked, dataset="cats", kind=ConfigError)
    refused("no schedule is published for bfm", "shadegan", tracked, dataset="bfm", step=9, kind=ConfigError)
    refused("is not a file", "pigan", tmp_path)
    import_official("pigan", state, out=tmp_path / "out")
    refused("exists: choose another folder", "pigan", state, out=tmp_path / "out")
    import_official("pigan", state, out=tmp_path / "out", overwrite=True)


def test_tensors_of_other_kinds_are_refused(small: Callable[[str], Generator]) -> None:
    state, key = small("pigan").state_dict(), "siren.final_layer.weight"
    for kind, value in {
        "sparse": state[key].to_sparse(),
        "meta": state[key].to("meta"),
        "quantised": torch.quantize_per_tensor(state[key], 0.1, 0, torch.qint8),
    }.items():
        refused(f"a {kind} tensor", "pigan", {**state, key: value})
        refused(f"a {kind} tensor", "pigan", state, ema=[value])


def test_paths_that_cannot_be_are_refused(
    small: Callable[[str], Generator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state, tracked = small("pigan").state_dict(), small("shadegan").state_dict()
    (tmp_path / "file").write_text("x")
    for bad in ("x" * 5000, "a\0b", "~nobody-of-that-name/x", "file/below"):
        refused("no usable path", "pigan", bad)
        refused("no usable path", "pigan", state, ema=bad)
        refused("no usable path", "pigan", state, out=bad)
        refused("no usable path", "shadegan", tracked, light=bad)
    for bad in ("", ".", "/", "/.."):
        refused("names no folder of its own", "pigan", state, out=bad)
        refused("names no folder of its own", "pigan", state, out=bad, overwrite=True)
    refused("file is a file; name a new folder", "pigan", state, out="file", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_written(small: Callable[[str], Generator]) -> None:
    refused("cannot be written", "pigan", small("pigan").state_dict(), out="/proc/pigan.x")


def test_the_card_of_an_imported_folder_names_a_load_that_works(
    small: Callable[[str], Generator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small("pigan")
    file = save(model.state_dict(), tmp_path / "generator.pth")
    monkeypatch.chdir(tmp_path)
    for name in ("pigan.x", "mine", 'a "b'):
        import_official("pigan", file, out=name)
        code = (tmp_path / name / "README.md").read_text("utf-8").partition("```python\n")[2].partition("```")[0]
        scope: dict[str, Any] = {}
        exec(code, scope)
        assert same(scope["gen"].cpu(), model)


def test_shipped_cards_are_as_they_would_be_written() -> None:
    paths = sorted(resources.checkpoints().glob("*/README.md"))
    assert paths
    for path in paths:  # older ones lack the empty list
        written, found = cards.write(cards.read(path)), path.read_text("utf-8")
        assert written.replace("\nsources: {}\n", "\n") == found.replace("\nsources: {}\n", "\n"), path


# ---------------------------------------------------------------- the legacy reader against torch's own


def test_the_legacy_reader_agrees_with_torch(tmp_path: Path) -> None:
    base = torch.arange(24, dtype=torch.float64).reshape(4, 6)
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.int64, torch.int32, torch.int16, torch.int8)
    content: dict[str, Any] = {str(k): torch.arange(3).to(k) for k in (*kinds, torch.uint8, torch.bool)}
    content |= {"view": base[1:, ::2], "turned": base.T, "whole": base, "empty": torch.zeros(0, 3), "one": base[0, 0]}
    content |= {"parameter": nn.Parameter(torch.randn(3)), "nested": {"epoch": 3, "names": ["a", None, (1, 2.5)]}}
    path = save(content, tmp_path / "old.pth", zipped=False)
    ours, theirs = pickles.read(path).tree, torch.load(path, weights_only=True)
    assert ours.keys() == theirs.keys()
    assert ours["nested"] == theirs["nested"]
    for key in ours.keys() - {"nested"}:
        assert ours[key].dtype == theirs[key].dtype, key
        assert torch.equal(ours[key], theirs[key]), key
    assert ours["view"].data_ptr() == ours["whole"].data_ptr() + 6 * 8  # memory stays shared


# ---------------------------------------------------------------- the command


def test_the_command(small: Callable[[str], Generator], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small("shadegan")
    file = save(model.state_dict(), tmp_path / "generator.pth")
    ema = save_ema([p.detach() for p in model.parameters()], tmp_path / "ema.pth")
    words = ["import", "shadegan", str(file), "--ema", str(ema), "--delta", "0.07", "--out", str(tmp_path / "out")]
    assert cli._run([*words, "--json"], debug=False) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["config"]["window"] == 0.07
    assert facts["card"]["sources"].keys() == {"generator.pth", "ema.pth"}
    assert facts["card"]["sha256"] == zoo.card(f"file:{tmp_path / 'out'}").sha256
    assert cli._run(words, debug=False) == 1
    assert "replace it with --overwrite" in capsys.readouterr().err
    assert cli._run([*words, "--overwrite"], debug=False) == 0
    assert f"zoo sample file:{tmp_path / 'out'}" in capsys.readouterr().out
    grid = tmp_path / "grid.png"
    sample = ["sample", f"file:{tmp_path / 'out'}", "--seeds", "0", "--size", "8", "--out", str(grid)]
    assert cli._run(sample, debug=False) == 0
    assert grid.is_file()
