"""Published discriminators: files made to look like the authors', brought along with their generators."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_importers import FORMATS, SMALL, foreign, refused, save, save_published
from torch import Tensor, nn

import zoo
from zoo.cli import main as cli
from zoo.config.recipes import load_run
from zoo.errors import ConfigError, WeightsError, ZooError
from zoo.networks.discriminators import build_discriminator
from zoo.networks.feature_loss import DiscriminatorLoss
from zoo.official import discriminators
from zoo.official.importing import import_official
from zoo.official.methods import METHODS
from zoo.systems.adversarial import AdversarialSystem
from zoo.systems.start import discriminator, pair

GROWING: dict[str, Any] = {"max_size": 16, "channels": [4, 5, 6, 6], "latent_dim": 8}
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "pigan": ("ccs_encoder", GROWING),
    "shadegan": ("progressive_encoder", GROWING),
    "gof": ("progressive_encoder", {**GROWING, "freq_phase": True, "code_dim": 9}),
    "graf": ("patch", {"max_size": 16, "channels": [4, 6]}),
    "stylegan2": ("style", {"max_size": 16, "channels": [4, 6, 8]}),
}


def state_of(method: str) -> dict[str, Tensor]:
    """A published one, which has no head for poses."""
    name, sizes = FILES[method]
    torch.manual_seed(3)
    return {k: v for k, v in build_discriminator(name, **sizes).state_dict().items() if not k.startswith("pose_head.")}


def same(state: dict[str, Tensor] | None, expected: dict[str, Tensor]) -> bool:
    return (
        state is not None
        and state.keys() == expected.keys()
        and all(torch.equal(v, expected[k]) for k, v in state.items())
    )


@FORMATS
@pytest.mark.parametrize("method", FILES)
def test_a_file_of_its_own(method: str, zipped: bool, tmp_path: Path) -> None:
    state = state_of(method)
    generator = save_published(method, zoo.build(method, **SMALL[method]), tmp_path / "generator.pth")
    file = save(state, tmp_path / "discriminator.pth", zipped)
    import_official(method, generator, discriminator=file, out=tmp_path / "out")
    assert same(discriminator(f"file:{tmp_path / 'out'}"), state)
    assert list(zoo.card(f"file:{tmp_path / 'out'}").sources) == ["generator.pth", "discriminator.pth"]
    import_official(method, generator, out=tmp_path / "out", overwrite=True)
    assert discriminator(f"file:{tmp_path / 'out'}") is None


@FORMATS
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_whole_network_as_pi_gan_pickles_it(zipped: bool, tmp_path: Path) -> None:
    names = {"CCSEncoderDiscriminator": "", "CoordStridedBlock": "", "CoordConv": "", "FromRGB": ""}
    paths = [f"discriminators.discriminators.Official{name}" for name in names]
    with foreign(*paths, base=nn.Module) as classes:
        whole: Any = build_discriminator("ccs_encoder", **GROWING)
        state = whole.state_dict()
        official = dict(zip(names, classes, strict=True))
        for module in whole.modules():
            module.__class__ = official.get(type(module).__name__, type(module))
        file = save(whole, tmp_path / "discriminator.pth", zipped)
    model = zoo.build("pigan", **SMALL["pigan"])
    import_official("pigan", model.state_dict(), discriminator=file, out=tmp_path / "out")
    assert same(discriminator(f"file:{tmp_path / 'out'}"), state)


@pytest.mark.parametrize(("method", "key"), [("stylegan2", "d"), ("graf", "discriminator")])
def test_that_in_the_file_of_the_generator_comes_by_itself(method: str, key: str, tmp_path: Path) -> None:
    state, other = state_of(method), {k: v + 1 for k, v in state_of(method).items()}
    file = save_published(method, zoo.build(method, **SMALL[method]), tmp_path / "all.pt")
    whole = {**torch.load(file, weights_only=False), key: state}
    import_official(method, save(whole, file), out=tmp_path / "out")
    assert same(discriminator(f"file:{tmp_path / 'out'}"), state)
    import_official(method, file, discriminator={key: other}, out=tmp_path / "other")
    assert same(discriminator(f"file:{tmp_path / 'other'}"), other)
    for nothing in ({}, None, torch.zeros(2)):
        import_official(method, {**whole, key: nothing}, out=tmp_path / "none", overwrite=True)
        assert discriminator(f"file:{tmp_path / 'none'}") is None
    refused("its discriminator: ", method, {**whole, key: dict(list(state.items())[1:])}, out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_gan2shape_takes_its_features(tmp_path: Path) -> None:
    whole = {"g_ema": zoo.build("stylegan2", **SMALL["stylegan2"]).network.state_dict(), "d": state_of("stylegan2")}
    lean = {k: v for k, v in whole["d"].items() if not k.endswith("kernel")}  # as some published files
    for number, d in enumerate((whole["d"], lean)):
        import_official("stylegan2", {**whole, "d": d}, out=tmp_path / str(number))
        network, state = pair(f"file:{tmp_path / str(number)}")
        assert hasattr(network, "synthesise")
        assert state is not None
        features = DiscriminatorLoss.of(state, blocks=2)
        pictures = torch.rand(2, 3, 16, 16)
        assert features(pictures, pictures) == 0
        expected = build_discriminator("style", **FILES["stylegan2"][1])
        expected.load_state_dict(whole["d"], strict=False)
        distance = DiscriminatorLoss(expected, blocks=2)(pictures, pictures.flip(-1))  # type: ignore[arg-type]
        assert features(pictures, pictures.flip(-1)) == distance > 0


def test_official_sizes_are_read_from_shapes() -> None:
    fixtures = Path(__file__).parents[1] / "parity" / "fixtures"
    seen = 0
    published = json.loads((fixtures / "nerf_state_dict_shapes.json").read_text("utf-8"))
    cases = {k: dict(v["state_dict"]) for k, v in published.items() if "/discriminator/" in k}
    published = json.loads((fixtures / "g2s_state_dict_shapes.json").read_text("utf-8"))
    cases |= {k: v for k, v in published.items() if k.startswith("stylegan2/D_")}
    for name, shapes in cases.items():
        tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
        network = discriminators.like(METHODS[name.partition("/")[0]].discriminators, tensors, name)
        own = {k: list(v.shape) for k, v in network.state_dict().items() if not k.startswith("pose_head.")}
        assert own == shapes, name
        seen += 1
    assert seen == 12


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    state, model = state_of("shadegan"), zoo.build("shadegan", **SMALL["shadegan"]).state_dict()
    out, key = tmp_path / "out", "layers.0.network.0.conv.weight"

    def bad(match: str, content: Any, kind: type[ZooError] = WeightsError, method: str = "shadegan") -> None:
        refused(match, method, model, discriminator=content, out=out, kind=kind)
        assert not out.exists()

    bad("not a discriminator of that method .progressive_encoder, strided", model)
    bad("not the weights of one network", {})
    bad("missing: layers.0.network.0.conv.weight", {k: v for k, v in state.items() if k != key})
    bad("unexpected: more", {**state, "more": torch.zeros(1)})
    bad(f"wrong shape: {key}", {**state, key: torch.zeros(1)})
    bad("wrong shape", {**state, key: torch.zeros(())})
    bad("not finite", {**state, key: state[key] / 0})
    bad("not the weights", {**state, "epoch": 3})
    bad("is not a file", tmp_path)
    refused("trained without one", "unsup3d", {}, discriminator=state, out=out, kind=ConfigError)
    refused("name one with out", "shadegan", model, discriminator=state, kind=ConfigError)


def test_doubles_are_read_as_float32(tmp_path: Path) -> None:
    state, model = state_of("shadegan"), zoo.build("shadegan", **SMALL["shadegan"]).state_dict()
    doubles = {key: value.double() for key, value in state.items()}
    zoo.import_official("shadegan", model, discriminator=doubles, out=tmp_path / "out")
    assert same(discriminator(f"file:{tmp_path / 'out'}"), state)


def test_a_training_takes_over_what_it_has_a_place_for(tmp_path: Path) -> None:
    """The published ones go up to 256 and 512 px, trainings rarely do; images enter at their own level."""
    settings = ["generator.z_dim=8", "generator.hidden_dim=16", "data.size=32", "system.stages=[{size: 16, batch: 2}]"]
    discriminator = "system.discriminator={name: progressive_encoder, channels: [4, 5, 6, 6]}"
    system = AdversarialSystem(load_run("gof", [*settings, discriminator, "system.latent_weight=1"]))
    images = torch.rand(2, 3, 8, 8)
    for channels in ([3, 3, 4, 5, 6, 6], [4, 5, 6, 6], [5, 6, 6]):
        sizes = {"channels": channels, "latent_dim": 8, "freq_phase": True, "code_dim": 9}
        theirs = build_discriminator("progressive_encoder", **sizes)
        system.start_discriminator(theirs.state_dict())
        for ours, expected in zip(system.discriminator(images), theirs(images), strict=True):
            if ours is not None:
                torch.testing.assert_close(ours, expected)
    before = system.discriminator(images).score
    other = build_discriminator("progressive_encoder", channels=[5, 7, 7], latent_dim=8)
    system.start_discriminator(other.state_dict())  # of another width: left out as a whole
    assert torch.equal(system.discriminator(images).score, before)


def test_from_the_command_line(tmp_path: Path) -> None:
    state = state_of("shadegan")
    generator = save(zoo.build("shadegan", **SMALL["shadegan"]).state_dict(), tmp_path / "generator.pth")
    file, out = save(state, tmp_path / "discriminator.pth"), tmp_path / "out"
    words = ["import", "shadegan", str(generator), "--out", str(out), "--discriminator"]
    assert cli._run([*words, str(generator)], debug=False) == 1
    assert not out.exists()
    assert cli._run([*words, str(file)], debug=False) == 0
    assert same(discriminator(f"file:{out}"), state)
