"""GAN2Shape on tiny networks: who learns in which step, stopping and going on, priors, masks, switches, files."""

import copy
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import zoo
from tests.tiny import TINY_GAN2SHAPE
from zoo.config.recipes import load_run
from zoo.config.schemas import Card, NormalConfig, RunConfig
from zoo.errors import ConfigError, DataError, Interrupted, WeightsError, ZooError
from zoo.fitting import job as instances
from zoo.fitting.fit import fit
from zoo.fitting.steps import Drawings, InstanceSystem, Step
from zoo.fitting.subject import Subject
from zoo.fitting.subjects import foreground, gan_for, initial_shape, photographs, prepare
from zoo.fitting.views import Fitted
from zoo.generators.base import Generator
from zoo.generators.gan2shape import GAN2Shape, GAN2ShapeConfig, mapped, slant
from zoo.generators.unsup3d_terms import pose_loss
from zoo.networks.stylegan2 import StyleDiscriminator
from zoo.priors import ViewPrior
from zoo.resources import example_photo
from zoo.systems.run import train

SIZE = 32
TINY = [
    *TINY_GAN2SHAPE,
    "system.stages=[{albedo: 2, projection: 2, joint: 2}, {albedo: 1, projection: 1, joint: 1, mirror_joint: false}]",
    "system.collect=2", "system.shape_steps=2", "system.inversion_steps=2", "system.feature_blocks=2",
]  # fmt: skip


def tiny_run(*more: str) -> RunConfig:
    return load_run("gan2shape", [*TINY, *more])


@pytest.fixture(scope="module")
def gan() -> Generator:
    sizes: dict[str, Any] = {"z_dim": 8, "size": SIZE, "mapping_layers": 2, "mapping_lr": 0.1}
    sizes |= {"channel_base": 128, "channel_max": 8}
    return zoo.build("stylegan2", **sizes).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def discriminator() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return StyleDiscriminator(max_size=SIZE, channels=[4, 4, 4, 4]).state_dict()


@pytest.fixture(scope="module")
def subjects(gan: Generator) -> list[Subject]:
    model, run = GAN2Shape(GAN2ShapeConfig(size=SIZE, nf=4, groups=2, zdim=4)), tiny_run()
    return [prepare(photo, model, gan, run.system, None) for photo in photographs("heads:0-1", gan, SIZE)]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def stored(gan: Generator, discriminator: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"file:{zoo.save(gan, tmp_path_factory.mktemp('gan') / 'weights', discriminator=discriminator)}"


def values(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


# ---------------------------------------------------------------- the steps


def test_each_step_changes_its_own_networks(
    gan: Generator, discriminator: dict[str, Tensor], subjects: list[Subject], tmp_path: Path
) -> None:
    system = InstanceSystem(tiny_run(), gan, discriminator)
    names = ("netD", "netA", "netV", "netL", "netEnc")
    seen: dict[str, set[str]] = {}
    before = {name: values(system.generator.get_submodule(name)) for name in names}
    frozen = values(gan)

    def look(step: Step) -> None:
        nonlocal before
        if step.kind == "joint":
            assert system.drawings[0].image.shape == (4, 3, SIZE, SIZE)
        now = {name: values(system.generator.get_submodule(name)) for name in names}
        seen.setdefault(step.kind, set()).update(n for n in names if not torch.equal(now[n], before[n]))
        before = now

    progress = fit(system, subjects[:1], tmp_path / "state.pt", look)
    expected = {"shape": {"netD"}, "albedo": {"netA"}, "projection": {"netEnc"}}
    assert seen == expected | {"joint": {"netD", "netA", "netV", "netL"}}
    assert torch.equal(values(gan), frozen)
    assert [r["iterations"] for r in progress.records] == [2, 2, 2, 2, 1, 1, 1]
    assert [r["stage"] for r in progress.scores()] == [0, 1, 2]
    assert system.drawings == []
    assert torch.load(tmp_path / "state.pt", weights_only=True)["drawings"] == []


def test_depth_waits_in_the_joint_step(
    gan: Generator, discriminator: dict[str, Tensor], subjects: list[Subject], tmp_path: Path
) -> None:
    run = tiny_run("system.stages=[{albedo: 1, projection: 1, joint: 3, hold: 2}]")
    system, changed = InstanceSystem(run, gan, discriminator), []
    depth, pose = system.generator.netD, system.generator.netV
    before = values(depth), values(pose)

    def look(step: Step) -> None:
        nonlocal before
        now = values(depth), values(pose)
        if step.kind == "joint":
            changed.append([not torch.equal(a, b) for a, b in zip(before, now, strict=True)])
        before = now

    fit(system, subjects[:1], tmp_path / "state.pt", look)
    assert changed == [[False, True], [False, True], [True, True]]


def test_many_photographs_have_the_spread_of_the_scene(
    gan: Generator, discriminator: dict[str, Tensor], subjects: list[Subject]
) -> None:
    def joint(weight: float, who: list[Subject]) -> tuple[InstanceSystem, Tensor]:
        system = InstanceSystem(tiny_run(f"generator.pose_weight={weight}"), gan, discriminator)
        system.subjects, system.source = who, torch.Generator().manual_seed(0)
        system.drawings = [Drawings(s.image.repeat(2, 1, 1, 1), s.mask.repeat(2, 1, 1, 1)) for s in who]
        return system, system._joint(0, who[0].image)

    (_, without), (system, told) = joint(0.0, subjects), joint(0.5, subjects)
    g = system.generator
    spread = pose_loss(g, g.viewpoint(g.netV(torch.cat([s.image for s in subjects]))))
    assert spread > 0.1
    torch.testing.assert_close(told - without, 0.5 * spread)
    assert torch.equal(joint(0.0, subjects[:1])[1], joint(0.5, subjects[:1])[1])  # fewer than a batch: no spread


def test_stopping_and_going_on_changes_nothing(
    gan: Generator, discriminator: dict[str, Tensor], subjects: list[Subject], tmp_path: Path
) -> None:
    whole, parts = (InstanceSystem(tiny_run(), gan, discriminator) for _ in range(2))
    records = fit(whole, subjects, tmp_path / "whole.pt").records

    def stop(step: Step) -> None:
        if (step.stage, step.kind) == (2, "projection"):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="the same command goes on"):
        fit(parts, subjects, tmp_path / "parts.pt", stop)
    parts = InstanceSystem(tiny_run(), gan, discriminator)
    resumed = fit(parts, subjects, tmp_path / "parts.pt").records
    assert torch.equal(values(whole.generator), values(parts.generator))
    assert [{k: v for k, v in r.items() if k != "seconds"} for r in records] == [
        {k: v for k, v in r.items() if k != "seconds"} for r in resumed
    ]
    (tmp_path / "parts.pt").write_bytes(b"no state")
    with pytest.raises(WeightsError, match=r"parts\.pt: cannot go on from it"):
        fit(parts, subjects, tmp_path / "parts.pt")


def test_a_fit_goes_on_with_its_own_pictures_alone(
    gan: Generator, discriminator: dict[str, Tensor], subjects: list[Subject], tmp_path: Path
) -> None:
    def stop(step: Step) -> None:
        if step.kind == "albedo":
            raise KeyboardInterrupt

    def system() -> InstanceSystem:
        return InstanceSystem(tiny_run(), gan, discriminator)

    state = tmp_path / "state.pt"
    with pytest.raises(Interrupted):
        fit(system(), subjects[:1], state, stop)
    for others in (subjects[1:], subjects):
        with pytest.raises(WeightsError, match=r"state\.pt: cannot go on .* \(it belongs to other pictures\); use"):
            fit(system(), others, state)
    old = torch.load(state, weights_only=True)
    del old["pictures"]  # as earlier versions wrote it
    torch.save(old, state)
    assert len(fit(system(), subjects[:1], state).records) == 7


def test_the_initial_shape_is_learnt(
    gan: Generator, subjects: list[Subject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")  # a script without srun, which is one process
    monkeypatch.setenv("SLURM_JOB_NAME", "batch")
    only = ["system.stages=[{albedo: 1, projection: 1, joint: 1}]", "system.feature_blocks=0", "system.perceptual=none"]
    run = tiny_run("system.shape_steps=60", "system.lr_shape=0.005", *only)
    system, subject = InstanceSystem(run, gan), subjects[0]
    before = system.generator.shape_loss(subject.image, subject.shape)
    assert fit(system, [subject], tmp_path / "s.pt").records[0]["loss"] < 0.2 * before.item()


def test_a_discriminator_is_asked_for_where_it_is_needed(gan: Generator) -> None:
    with pytest.raises(WeightsError, match=r"system\.feature_blocks=0 system\.perceptual=none"):
        InstanceSystem(tiny_run(), gan)
    with pytest.raises(WeightsError, match=r"is not StyleGAN2's; .* system\.discriminator\.name=style"):
        InstanceSystem(tiny_run(), gan, {"layer.weight": torch.zeros(1)})
    InstanceSystem(tiny_run("system.feature_blocks=0", "system.perceptual=none"), gan)


def test_broken_numbers_stop_the_fit(
    gan: Generator, discriminator: dict[str, Tensor], subjects: list[Subject], tmp_path: Path
) -> None:
    broken = replace(subjects[0], shape=torch.full_like(subjects[0].shape, torch.nan))
    with pytest.raises(ZooError, match=r"head0000: the gradient is not finite \(stage 0, shape step, iteration 0\)"):
        fit(InstanceSystem(tiny_run(), gan, discriminator), [broken], tmp_path / "s.pt")


# ---------------------------------------------------------------- parts


def test_offsets_inside_the_mapping_network(gan: Generator) -> None:
    """Behind its end they are added to w as they are; before its start, the network sees them as a latent."""
    offset, zero = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 8)
    torch.testing.assert_close(mapped(gan.mapping, offset, GAN2ShapeConfig(mapping_tail=-1).mapping_tail), offset)
    torch.testing.assert_close(mapped(gan.mapping, offset, 2), gan.mapping(offset) - gan.mapping(zero))
    half = gan.mapping[2:](offset + gan.mapping[:2](zero)) - gan.mapping(zero)  # type: ignore[index]
    torch.testing.assert_close(mapped(gan.mapping, offset, 0), half)


def test_slant_is_the_slope_of_the_middle_and_costs(subjects: list[Subject]) -> None:
    y = torch.linspace(-1, 1, SIZE)[:, None]
    plane = (1 + 0.03 * y + 0.02 * y.T).expand(2, 1, SIZE, SIZE).clone()
    plane[1, :, : SIZE // 4] = 9.0  # what lies around the middle does not count
    assert torch.allclose(slant(plane), torch.tensor(0.03 * (SIZE / 2 - 1) / (SIZE - 1)), rtol=1e-3)
    image, losses = subjects[0].image, []
    for weight in (0.0, 100.0):
        torch.manual_seed(0)
        model = GAN2Shape(GAN2ShapeConfig(size=SIZE, nf=4, groups=2, zdim=4, slant_weight=weight))
        model.prior = 0.5 * y.expand(1, 1, SIZE, SIZE)  # leans back; a fresh network would not
        losses.append(model.joint_loss(image, image, torch.ones_like(image[:, :1]), False, None).item())
        expected = weight * slant(model.canonical_depth(image)).square().item()
    assert expected > 1e-3
    assert losses[1] - losses[0] == pytest.approx(expected, rel=0.01)


def test_viewpoints_come_from_the_scene_or_from_a_prior(tmp_path: Path) -> None:
    model = GAN2Shape(GAN2ShapeConfig(size=SIZE, nf=4, groups=2))
    pose, source = model.scene.pose, torch.Generator().manual_seed(0)
    drawn = model.draw_views(4000, source)
    std = torch.tensor([pose.pitch_std, pose.yaw_std * model.config.view_scale])
    torch.testing.assert_close(drawn[:, :2].std(0), std, rtol=0.05, atol=0)
    assert not drawn[:, 2:].any()

    file = ViewPrior(torch.tensor([0.0, 0.5, 0, 0, 0, 0]), torch.eye(6) * 0.01).save(tmp_path / "views.json")
    run = tiny_run(f"generator.view={file}", "generator.view_scale=1.0")
    model = InstanceSystem(run).generator
    turn = torch.deg2rad(torch.tensor(0.5 * model.config.rotation_range))
    torch.testing.assert_close(model.draw_views(4000, source)[:, 1].mean(), turn, rtol=0.05, atol=0)
    torch.testing.assert_close(model.viewpoint(torch.zeros(1, 6))[0, 1], turn)
    with pytest.raises(ConfigError, match=r"view: mean and cov must be \(6,\)"):
        ViewPrior(torch.zeros(4), torch.eye(4))


@pytest.mark.parametrize(
    ("mean", "cov", "line"),
    [
        ([0.0] * 4, torch.eye(4), r"^generator\.view: mean and cov must be \(6,\) and \(6, 6\), got"),
        ([0.0] * 6, torch.eye(5), r"^generator\.view: mean and cov must be"),
        ([0.0] * 6, -torch.eye(6), r"^generator\.view\.cov must be symmetric"),
    ],
)
def test_viewpoints_that_are_no_distribution_are_refused_at_once(mean: list[float], cov: Tensor, line: str) -> None:
    view = NormalConfig(mean, cov.tolist())
    for device in ("cpu", "meta"):
        with torch.device(device), pytest.raises(ConfigError, match=line):
            GAN2ShapeConfig(view=view)
        with torch.device(device):
            GAN2ShapeConfig(view=NormalConfig([0.0] * 6, [[0.0] * 6] * 6))


def test_lights_move_strength_between_ambient_and_directional() -> None:
    model = GAN2Shape(GAN2ShapeConfig(size=SIZE, nf=4, groups=2, light_gain=[0.2, 0.2], ambient_share=-0.5))
    light = zoo.Light.of(0.4, 0.5)
    drawn = model.draw_lights(light, 50, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.ambient, torch.full((50,), 0.3))
    torch.testing.assert_close(drawn.diffuse, torch.full((50,), 0.7))
    assert drawn.params[:, 2].min() < -0.8
    assert drawn.params[:, 2].max() > 0.8


def test_the_gan_image_is_cropped_like_the_photographs() -> None:
    model = GAN2Shape(GAN2ShapeConfig(size=SIZE, nf=4, groups=2, gan_crop=[64, 32]))
    whole = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.as_seen(whole), whole[..., 16:48, 16:48])
    with pytest.raises(ConfigError, match=r"generator\.gan_crop"):
        GAN2ShapeConfig(gan_crop=[64])


def test_terms_of_unsup3d_that_would_do_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"generator\.cycle_weight=0\.5: a term of unsup3d"):
        GAN2ShapeConfig(cycle_weight=0.5)


def test_initial_shapes_and_masks(gan: Generator, tmp_path: Path) -> None:
    model = GAN2Shape(GAN2ShapeConfig(size=SIZE, nf=4, groups=2))
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[10:30, 8:32] = 255
    Image.fromarray(pixels).save(tmp_path / "p.png")
    (photo,) = photographs(str(tmp_path / "p.png"), gan, SIZE)
    (masked,) = photographs(str(tmp_path / "p.png"), gan, SIZE, mask=str(tmp_path))
    masks = {kind: foreground(photo, model, kind) for kind in ("alpha", "ellipse", "all")}
    assert masks["all"].min() == 1
    assert masks["alpha"].mean() == pytest.approx(20 * 24 / 1600, abs=0.03)
    own = foreground(masked, model, str(tmp_path))
    torch.testing.assert_close(own, masks["alpha"], atol=0.02, rtol=0)  # white where it is opaque
    (head,) = photographs("heads:3", gan, SIZE, mask=str(tmp_path / "p.png"))
    torch.testing.assert_close(foreground(head, model, "p.png"), own)

    shape = {kind: initial_shape(kind, masks["ellipse"], "cat", model) for kind in instances.SHAPES}
    middle = SIZE // 2
    assert shape["ellipsoid"][0, 0, middle, middle] < 0.92
    assert shape["flat"].std() == 0
    left, right = shape["asymmetric"][..., :middle], shape["asymmetric"][..., middle:]
    assert torch.equal(left, shape["ellipsoid"][..., :middle])
    assert (right.max() - right.min()) < 0.6 * (left.max() - left.min())

    with pytest.raises(DataError, match="no transparency"):
        foreground(photographs("heads:0", gan, SIZE)[0], model, "alpha")
    with pytest.raises(ConfigError, match=r"system\.mask=nowhere: no such file"):
        photographs("heads:0", gan, SIZE, mask="nowhere")
    with pytest.raises(DataError, match=r"no mask head0000\.png"):
        photographs("heads:0", gan, SIZE, mask=str(tmp_path))
    with pytest.raises(DataError, match="foreground"):
        initial_shape("ellipsoid", torch.zeros(1, 1, SIZE, SIZE), "cat", model)
    with pytest.raises(ConfigError, match=r"system\.shape=cube"):
        initial_shape("cube", masks["ellipse"], "cat", model)


def test_a_mask_file_is_cut_as_its_photograph_is(gan: Generator, tmp_path: Path) -> None:
    """The face of the example is far from the middle of a wide picture; its mask is found by the face, too."""
    face = Image.open(example_photo()).convert("RGB").resize((256, 256))
    wide, mask = Image.new("RGB", (640, 256), "gray"), Image.new("L", (640, 256))
    wide.paste(face, (384, 0))
    mask.paste(255, (0, 0, 490, 256))  # what is left of the nose
    for folder, picture in (("photo", wide), ("mask", mask)):
        (tmp_path / folder).mkdir()
        picture.save(tmp_path / folder / "p.png")
    (photo,) = photographs(str(tmp_path / "photo/p.png"), gan, SIZE, align=True, mask=str(tmp_path / "mask/p.png"))
    assert photo.alpha is not None
    left, right = photo.alpha.tensor_split(2, -1)
    assert left.mean() > 0.8
    assert right.mean() < 0.4
    assert photo.image[..., -8:].mean() > -0.9  # the picture keeps what the mask leaves out


def test_folders_and_zips_are_listed_as_in_training(gan: Generator, tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (40, 40), (200, 100, 50)).save(picture, "PNG")
    names = ["b.PNG", "a.jpe", "._a.png", "__MACOSX/b.png", ".DS_Store", "Thumbs.db", "masks/a.png"]
    for name in names:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(picture.getvalue())
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in names:
            archive.writestr(f"set/{name}".replace("/", "\\"), picture.getvalue())
    for source in ("set", "set.zip"):
        assert [photo.name for photo in photographs(str(tmp_path / source), gan, SIZE)] == ["a", "b"]


def test_views_turn_as_yaw_says(gan: Generator, subjects: list[Subject]) -> None:
    model = GAN2Shape(GAN2ShapeConfig(size=SIZE, nf=4, groups=2, zdim=4, offset_nf=2, offset_dim=8)).eval()
    fitted = Fitted(model, gan, subjects[0])
    _, view = fitted.turned(torch.tensor([0.3]), torch.tensor([0.1]))
    torch.testing.assert_close(model.map_camera.world_camera(view).pose, torch.tensor([[0.1, 0.3]]), atol=0.02, rtol=0)
    for light, views in fitted.paths("face", 3).values():
        for images in (fitted.rendered(light, views), fitted.drawn(light, views)):
            assert images.shape == (3, 3, SIZE, SIZE)
            assert images.abs().max() <= 1


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("nowhere.jpg", "nowhere.jpg: no such picture or folder"),
        ("heads:5-2", "heads:5-2: write one number or a range"),
        ("heads:99999", "heads:99999 does not exist"),
        ("seed:x", "seed:x: write one number"),
    ],
)
def test_unknown_sources(gan: Generator, source: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        photographs(source, gan, SIZE)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("system.batch=0", r"system\.batch=0"),
        ("system.lr_joint=.nan", r"system\.lr_joint=nan"),
        ("system.stages=[]", r"system\.stages"),
        ("system.stages=[{albedo: 0}]", r"system\.stages\[0\]\.albedo=0"),
        ("system.perceptual=lpips", r"system\.vgg=FILE"),
        ("generator.light_x=[1.0]", r"generator\.light_x"),
    ],
)
def test_settings_that_cannot_work(override: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        tiny_run(override)


def test_it_is_run_and_not_trained() -> None:
    with pytest.raises(ConfigError, match="zoo run gan2shape"):
        train(tiny_run())


def test_a_gan_of_drawn_heads_is_told_of_where_photographs_come_in(
    gan: Generator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "photo.png")
    network: Any = copy.copy(gan)
    for data, told in (("the embedded heads, split train", 1), ("photographs, framed like celeba", 0)):
        caplog.clear()
        network.card = Card(data=data)
        photographs(str(tmp_path / "photo.png"), network, SIZE, align=False)
        photographs("seed:0", network, SIZE)
        assert len(caplog.messages) == told
    caplog.clear()
    network.card, network.name = Card(data="the embedded heads"), "stylegan2.heads64"
    photographs(str(tmp_path / "photo.png"), network, SIZE, align=False)
    assert "stylegan2.heads64 draws the embedded heads" in caplog.text
    assert "--gan ffhq" in caplog.text


def test_each_source_has_a_gan_that_draws_the_like() -> None:
    for source in ("heads:0-3", "sealed:0", "val:1", "seed:0", "bfm:0-2"):
        assert gan_for(source) == "stylegan2.heads64"
    for source in ("photo.jpg", "my/heads", "C:/photo.jpg", "seeds"):
        assert gan_for(source) == "stylegan2.photos64"


# ---------------------------------------------------------------- the whole


def test_a_run_writes_everything_and_goes_on(stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "FRAMES", 2)
    job = instances.open_job("gan2shape", TINY, stored, tmp_path / "out", {"command": "zoo run"})
    shares: list[float] = []
    results = instances.run_all(job, "heads:0-1", advance=lambda what, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert [len(r["records"]) for r in results] == [7, 7]
    folder = tmp_path / "out" / "head0001"
    files = {"index.html", "latent.pt", "mesh.glb", "mesh.mtl", "mesh.obj", "mesh.png", "overview.png", "result.json"}
    files.add("depths.npy")
    films = {f"{what}_{how}.mp4" for what in ("rotate", "relight") for how in ("render", "gan")}
    assert {p.name for p in folder.iterdir()} == files | films | {"weights"}
    assert "head0001/index.html" in (tmp_path / "out" / "index.html").read_text()
    assert isinstance(zoo.load(f"file:{folder / 'weights'}"), GAN2Shape)

    (folder / "result.json").unlink()
    (folder / "mesh.obj").unlink()
    again = instances.run_all(job, "heads:0-1")
    assert again[0] == results[0]
    assert (folder / "mesh.obj").is_file()
    assert [r["loss"] for r in again[1]["records"]] == [r["loss"] for r in results[1]["records"]]

    with pytest.raises(ConfigError, match="holds a run with other settings"):
        instances.open_job("gan2shape", [*TINY, "seed=1"], stored, tmp_path / "out", {})
    stale = torch.load(folder / "latent.pt", weights_only=True) | {"picture": "another"}
    torch.save(stale, folder / "latent.pt")
    with pytest.raises(ConfigError, match="belongs to another picture"):
        instances.run_all(job, "heads:0-1")


def test_joint_mode_shares_its_networks(stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "FRAMES", 2)
    job = instances.open_job("gan2shape", TINY, stored, tmp_path, {}, joint=True)
    results = instances.run_all(job, "seed:0-1")
    assert [r["name"] for r in results] == ["seed0000", "seed0001"]
    first, second = (zoo.load(f"file:{tmp_path / r['name'] / 'weights'}") for r in results)
    assert torch.equal(values(first), values(second))
    assert "SIDE" not in json.dumps(results)


def test_a_run_starts_from_fitted_networks(stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "FRAMES", 2)
    model = zoo.build("gan2shape", **{k: v for k, v in tiny_run().generator.items() if k != "name"})
    zoo.save(model, tmp_path / "weights")
    init = f"init=file:{tmp_path / 'weights'}"
    job = instances.open_job("gan2shape", [*TINY, init], stored, tmp_path / "out", {})
    (photo,) = photographs("heads:0", job.gan, SIZE)
    (result,) = instances.run_all(job, "heads:0")
    assert result["records"][0]["iterations"] == 0
    depths = np.load(tmp_path / "out" / "head0000" / "depths.npy")
    np.testing.assert_allclose(depths[0], model.predict_depth(photo.image)[0, 0].numpy(), atol=1e-6)
    with pytest.raises(WeightsError, match="use the same generator settings as the weights"):
        instances.open_job("gan2shape", [*TINY, "generator.nf=8", init], stored, tmp_path / "other", {})
    with pytest.raises(ConfigError, match=r"system\.shape=flat: init=file:.* has a shape already; add init=null"):
        instances.open_job("gan2shape", [*TINY, "system.shape=flat", init], stored, tmp_path / "other", {})


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"^trainer\.accelerator=gpu: not on this machine; leave it out"):
        instances.open_job("gan2shape", [*TINY, "trainer.accelerator=gpu"], stored, tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_a_2d_gan_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a 2D GAN is needed"):
        instances.open_job("gan2shape", [], "pigan.heads32", tmp_path, {})


def test_other_regimes_are_refused(stored: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not fitted to single pictures"):
        instances.open_job("pigan", [], stored, tmp_path, {})


def test_every_parameter_learns_in_some_step() -> None:
    model = GAN2Shape(GAN2Shape.tiny()).train()
    photos = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    loss = model.joint_loss(photos[:1], photos, torch.ones_like(photos[:, :1]), True, None)
    (loss + model.netEnc(photos).square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
