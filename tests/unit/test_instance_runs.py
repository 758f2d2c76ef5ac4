"""Folders of zoo run, read back: faces that turn, runs side by side, and what is said of folders that are none."""

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests.bfm_files import FORMATS, write_model
from tests.tiny import TINY_GAN2SHAPE
from zoo.cli import main as cli
from zoo.cli.fit import _part
from zoo.data.bfm.write import write_bfm
from zoo.data.synface import SynfaceDataset
from zoo.editing import frames
from zoo.errors import ConfigError, Interrupted, WeightsError, ZooError
from zoo.evaluation.benchmark import Row, Subject
from zoo.evaluation.benchmarks import identity
from zoo.evaluation.benchmarks.identity import Identity
from zoo.evaluation.benchmarks.instances import Instances, changes
from zoo.evaluation.comparison import Comparison, compare
from zoo.evaluation.report import write_report
from zoo.evaluation.turners import turners_of_run
from zoo.fitting import job as instances
from zoo.fitting import views as instance_views
from zoo.fitting.fit import score
from zoo.fitting.runs import FinishedRun, labels, read_run, stage_means
from zoo.fitting.subjects import photographs
from zoo.heads.dataset import HeadDataset
from zoo.probes.depth import Pairs, average_depth
from zoo.probes.pose import PoseProbe, train_pose_probe
from zoo.runtime.jobs import Died
from zoo.runtime.lock import locked

SIZE = 32
TINY = [
    *TINY_GAN2SHAPE, "system.stages=[{albedo: 1, projection: 1, joint: 1}]", "system.collect=1", "trainer.threads=1",
    "system.shape_steps=4", "system.inversion_steps=1", "system.feature_blocks=0", "system.perceptual=none",
    "system.lr_shape=0.003",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def no_films() -> Iterator[None]:
    """They take most of the time; test_gan2shape_runs.py looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instances, "FRAMES", 1)
        patch.setattr(instances, "film", lambda *_, **__: None)
        patch.setattr(instance_views, "YAWS", 1)
        patch.setattr(instance_views, "PITCHES", 1)
        patch.setattr(instance_views, "SLOPES", (0.0, 1.0))
        yield


@pytest.fixture(scope="module")
def probe() -> PoseProbe:
    return train_pose_probe(n=200, steps=40)


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> str:
    sizes: dict[str, Any] = {"z_dim": 8, "size": SIZE, "mapping_layers": 2, "mapping_lr": 0.1}
    network = zoo.build("stylegan2", **sizes, channel_base=128, channel_max=8)
    return f"file:{zoo.save(network, tmp_path_factory.mktemp('gan') / 'weights')}"


@pytest.fixture(scope="module")
def made(gan: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base`, `flat` (two stages, another shape) over the same heads, and `own`, over the GAN's pictures."""
    place = tmp_path_factory.mktemp("runs")
    more = ["system.shape=flat", f"system.stages=[{', '.join(2 * ['{albedo: 1, projection: 1, joint: 1}'])}]"]
    for name, settings, source in (("base", [], "heads:0-1"), ("flat", more, "heads:0-1"), ("own", [], "seed:0")):
        instances.run_all(instances.open_job("gan2shape", [*TINY, *settings], gan, place / name, {}), source)
    return place


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(made, tmp_path / "runs"))


def side_by_side(runs: list[FinishedRun], models: dict[str, Subject] | None = None, **settings: int) -> Comparison:
    subjects: dict[str, Subject] = {**dict(zip(labels(runs), runs, strict=True)), **(models or {})}
    return compare(subjects, "instances", progress=False, **settings)  # type: ignore[arg-type]


def plain(row: Row) -> Any:
    return SimpleNamespace(**row.as_dict())


def failed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    assert cli._run([*arguments], debug=False) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


# ---------------------------------------------------------------- reading back


def test_what_was_written_is_read(made: Path) -> None:
    run = read_run(made / "flat")
    assert [p.name for p in run.pictures] == ["head0000", "head0001"]
    assert (run.settings["system"]["shape"], run.settings["joint"]) == ("flat", False)
    assert [len(p.SIDE) for p in run.pictures] == [3, 3]
    for picture in run.pictures:
        subject, depths = picture.subject(), picture.depths(SIZE)
        for stage, depth in enumerate(depths):
            found = score([subject], depth[None], 12.0)
            assert found == pytest.approx({"SIDE": picture.SIDE[stage], "MAD": picture.MAD[stage]}, rel=1e-5)
        fitted = zoo.load(f"file:{picture.folder / 'weights'}").predict_depth(subject.image)  # type: ignore[operator]
        torch.testing.assert_close(fitted, depths[-1:])
    assert stage_means([[1.0, 2.0], [3.0, 6.0]]) == [2.0, 4.0]
    assert stage_means([[1.0], []]) == []


def test_stored_faces_turn_as_when_they_were_fitted(made: Path, gan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_run(made / "base")
    yaws = [0.0, -0.3, 0.3]
    sent = pickle.loads(pickle.dumps(turners_of_run(run, 2)))  # as to other processes
    shown = {how: turner(yaws) for how, turner in sent.items()}
    assert {how: tuple(x.shape) for how, x in shown.items()} == dict.fromkeys(("render", "GAN"), (2, 3, 3, SIZE, SIZE))
    picture, network = run.pictures[1], zoo.load(gan)
    model = zoo.load(f"file:{picture.folder / 'weights'}")
    fitted = instances.Fitted(model, network, picture.subject())  # type: ignore[arg-type]
    light, view = fitted.turned(torch.tensor(yaws), torch.zeros(3))
    assert torch.equal(shown["render"][1], fitted.rendered(light, view))
    assert torch.equal(shown["GAN"][1], fitted.drawn(light, view))
    assert not torch.equal(shown["render"][0], shown["render"][1])


def test_joint_runs_score_each_picture(gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = instances.open_job("gan2shape", TINY, gan, tmp_path, {}, joint=True)
    results = instances.run_all(job, "heads:0-1")
    first, second = read_run(tmp_path).pictures
    assert first.SIDE != second.SIDE
    for picture in (first, second):
        found = score([picture.subject()], picture.depths(SIZE)[-1:], 12.0)
        assert found["SIDE"] == pytest.approx(picture.SIDE[-1], rel=1e-5)
    assert all(a["seconds"] == b["seconds"] for a, b in zip(*(r["records"] for r in results), strict=True))
    with pytest.raises(ConfigError, match="other settings"):
        instances.open_job("gan2shape", TINY, gan, tmp_path, {})


def test_an_interrupted_run_must_be_finished_first(
    gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    job = instances.open_job("gan2shape", TINY, gan, out, {})

    def stop(what: str, share: float) -> None:
        if "head0001" in what and "albedo" in what:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        instances.run_all(job, "heads:0-1", advance=stop)
    for benchmark in ("instances", "identity"):
        err = failed(capsys, "compare", str(out), "--benchmark", benchmark, "--json")
        assert f"{out / 'head0001'}: not finished; repeat the zoo run command to continue" in err
    instances.run_all(job, "heads:0-1")
    assert len(read_run(out).pictures) == 2


def test_a_seed_that_is_truncated_otherwise_is_another_picture(gan: str, tmp_path: Path) -> None:
    job = instances.open_job("gan2shape", TINY, gan, tmp_path, {})

    def stop(what: str, share: float) -> None:
        if "albedo" in what:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        instances.run_all(job, "seed:0", psi=0.7, advance=stop)
    with pytest.raises(ConfigError, match="seed0000 belongs to another picture of that name; use another --out"):
        instances.run_all(job, "seed:0", psi=1.0)
    assert [r["name"] for r in instances.run_all(job, "seed:0", psi=0.7)] == ["seed0000"]


def losses(folder: Path) -> Any:
    return [record["loss"] for record in json.loads((folder / "result.json").read_text("utf-8"))["records"]]


def test_shards_and_processes_fill_one_folder_with_the_results_of_one_process(
    made: Path, gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(work: Any, tasks: dict[str, Any], jobs: int, threads: int, progress: bool) -> Iterator[tuple[str, Any]]:
        assert (list(tasks), jobs, threads) == (["head0000"], 2, 1)
        yield from [("head0000", pickle.loads(pickle.dumps(work))(tasks["head0000"], lambda what, share: None))]

    monkeypatch.setattr(instances, "side_by_side", here)  # processes take a while to start: test_jobs.py starts some
    job = instances.open_job("gan2shape", TINY, gan, tmp_path, {})
    assert [r["name"] for r in instances.run_all(job, "heads:0-1", part=_part("2/2"))] == ["head0001"]
    assert "head0000" not in (tmp_path / "index.html").read_text("utf-8")
    with locked(tmp_path / "head0000"), pytest.raises(ZooError, match="head0000 is in use"):
        instances.run_all(job, "heads:0-1")
    assert [r["name"] for r in instances.run_all(job, "heads:0-1", jobs=2)] == ["head0000", "head0001"]
    assert [losses(tmp_path / name) for name in ("head0000", "head0001")] == [
        losses(made / "base" / name) for name in ("head0000", "head0001")
    ]
    assert all(
        f"{name}/index.html" in (tmp_path / "index.html").read_text("utf-8") for name in ("head0000", "head0001")
    )
    assert instances.run_all(job, "heads:0-1", part=_part("3/3")) == []


def test_a_process_that_dies_over_a_picture_leaves_the_others_their_results(
    gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = [("head0000", Died("its process was ended by SIGKILL")), ("head0001", [])]
    monkeypatch.setattr(instances, "side_by_side", lambda *_, **__: (end for end in ends))
    job = instances.open_job("gan2shape", TINY, gan, tmp_path, {})
    with pytest.raises(ZooError, match="head0000: its process was ended by SIGKILL; the same command goes on"):
        instances.run_all(job, "heads:0-1", jobs=2)


def test_shards_are_all_pictures_once_each(capsys: pytest.CaptureFixture[str]) -> None:
    pictures = list(range(10))
    shares = [pictures[_part(f"{number}/3")] for number in (1, 2, 3)]
    assert sorted(place for share in shares for place in share) == pictures
    assert pictures[_part("1/1")] == pictures
    for wrong in ("0/3", "4/3", "1", "a/b", "1/0", "-1/3"):
        err = failed(capsys, "run", "gan2shape", "heads:0", f"--shard={wrong}", code=2)
        assert f"--shard {wrong}: write I/N with I from 1 to N" in err


# ---------------------------------------------------------------- side by side


def test_runs_side_by_side(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, flat = (read_run(made / name) for name in ("base", "flat"))
    flat_depth = lambda images: torch.ones_like(images[:, :1])  # noqa: E731
    result = side_by_side([base, flat], {"ones": flat_depth}, n_pairs=20)
    average, ones, first, second = map(plain, result.rows)
    assert {row.protocol for row in result.rows} == {"instances-v1/size=32/n_pairs=20"}
    assert [row.kind for row in result.rows] == ["baseline", "model", "model", "model"]
    assert [row.n for row in result.rows] == [2] * 4
    last = np.array([[p.SIDE[-1] for p in run.pictures] for run in (base, flat)])
    np.testing.assert_allclose(first.SIDE, np.mean([p.SIDE for p in base.pictures], 0))
    np.testing.assert_allclose(second.MAD, np.mean([p.MAD for p in flat.pictures], 0))
    assert [len(row.figures["SIDE"]) for row in result.rows] == [1, 1, 2, 3]
    assert second.SIDE_error == pytest.approx(last[1].std(ddof=1) / 2**0.5)
    assert second.SIDE_change == pytest.approx((last[1] - last[0]).mean())
    assert second.SIDE_change_error == pytest.approx((last[1] - last[0]).std(ddof=1) / 2**0.5)
    assert (first.SIDE_change, first.changed) == (None, [])
    assert second.changed == ["len(system.stages)=2", "system.shape=flat"]

    # The baseline follows the rules by which runs score themselves.
    heads = HeadDataset("train", size=SIZE, length=20).batch(list(range(20)))
    mean = average_depth(Pairs(heads["image"], heads["depth"], heads["mask"] > 0.5))
    subjects = [p.subject() for p in base.pictures]
    each = [score([s], mean, 12.0)["SIDE"] for s in subjects]
    assert pytest.approx([np.mean(each)], rel=1e-5) == average.SIDE
    assert average.SIDE_error == pytest.approx(np.std(each, ddof=1) / 2**0.5, rel=1e-4)
    assert pytest.approx([score(subjects, mean.expand(2, -1, -1, -1), 12.0)["MAD"]], rel=1e-5) == average.MAD
    assert ones.SIDE[0] > average.SIDE[0]
    monkeypatch.setattr(Instances, "depth", None)  # rows are kept, and belong to the first run
    assert [row.figures for row in side_by_side([base, flat], n_pairs=20).rows] == [
        row.figures for row in result.rows if row.name != "ones"
    ]
    assert side_by_side([flat, base], n_pairs=20).failed

    page = write_report(result, tmp_path / "page.html").read_text("utf-8")
    assert page.count("<img") == 1 + 3 + 3 + 3 + 4 + 4  # the scale of errors, what all share, and four rows
    assert "len(system.stages)=2, system.shape=flat" in page
    assert page.count("<script") == 1  # the one that sorts


def test_the_command_line_shows_and_writes_it(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    both = (str(made / "base"), str(made / "flat"), "n_pairs=20", "--benchmark", "instances")
    assert cli._run(["compare", *both], debug=False) == 0
    text = capsys.readouterr().out
    assert "system.shape=flat" in text
    assert text.count("→") == 2 * (1 + 2)
    assert (tmp_path / "compare-instances.html").is_file()
    assert cli._run(["compare", *both, "--json"], debug=False) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["average", "base", "flat"]
    assert rows[2]["changed"] == ["len(system.stages)=2", "system.shape=flat"]


def test_one_picture_has_no_error_bars(runs: Path) -> None:
    shutil.rmtree(runs / "base" / "head0001")
    (row,) = map(plain, side_by_side([read_run(runs / "base")], n_pairs=5).rows[1:])
    assert (row.n, row.SIDE_error, row.SIDE_change) == (1, None, None)
    with pytest.raises(ConfigError, match="one picture"):
        turners_of_run(read_run(runs / "base"), 8)


def test_what_has_changed_is_told_in_short() -> None:
    stages = [{"albedo": 10, "mirror": True}, {"albedo": 5, "mirror": True}]
    first = {"generator": {"view": None}, "system": {"stages": stages, "mask": "ellipse"}, "seed": 0}
    other = json.loads(json.dumps(first))
    assert changes(first, other) == []
    for stage in other["system"]["stages"]:
        stage["mirror"] = False
    other["generator"]["view"] = {"mean": [0.0] * 6}
    other["system"]["mask"] = "x" * 100
    assert changes(first, other) == [
        "generator.view.mean=0.0", "system.stages.mirror=false", f"system.mask={'x' * 60}..."
    ]  # fmt: skip
    other["system"]["stages"].pop()
    assert "len(system.stages)=1" in changes(first, other)


def test_runs_that_do_not_compare(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, own = read_run(runs / "base"), read_run(runs / "own")
    with pytest.raises(ConfigError, match="the true depth of seed0000 is not known"):
        side_by_side([own])
    _latent(lambda stored: stored["image"].mul_(0.9))(runs / "flat" / "head0001" / "latent.pt")
    with pytest.raises(ConfigError, match="head0001 is another picture there"):
        side_by_side([base, read_run(runs / "flat")])
    shutil.rmtree(runs / "flat" / "head0001")
    with pytest.raises(ConfigError, match="only one has head0001"):
        side_by_side([base, read_run(runs / "flat")])
    with pytest.raises(ConfigError, match="given twice"):
        side_by_side([base, base])
    average = FinishedRun(runs / "average", base.settings, base.pictures)
    with pytest.raises(ConfigError, match="average: the name of a baseline"):
        side_by_side([average])
    assert labels([base, FinishedRun(runs / "x" / "base", {}, [])]) == [str(runs / "base"), str(runs / "x" / "base")]
    folder = str(runs / "base")
    assert "add --benchmark identity or instances" in failed(capsys, "compare", folder)
    assert "needs a folder that zoo run has written" in failed(capsys, "compare", "--benchmark", "instances")
    assert "the benchmark instances takes n_pairs=N" in failed(
        capsys, "compare", folder, "n_test=5", "--benchmark", "instances", code=2
    )
    assert str(runs) in failed(capsys, "compare", str(runs), "--benchmark", "identity")


class Hostile:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (Path.touch, (Path("owned"),))


def _latent(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        stored = torch.load(path, weights_only=True)
        change(stored)
        torch.save(stored, path)

    return write


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        ("run.json", lambda p: p.write_text("{"), r"run\.json: cannot be read"),
        ("run.json", lambda p: p.write_text("[]"), r"run\.json: does not name the GAN"),
        ("run.json", lambda p: p.write_text('{"gan": "hf:a/b"}'), "its GAN is hf:a/b"),
        ("run.json", lambda p: p.write_text('{"gan": "file:gone"}'), "gone does not exist"),
        ("run.json", lambda p: p.write_text('{"gan": "pigan.heads32"}'), "pigan.heads32, which is no 2D GAN"),
        ("head0000/result.json", lambda p: p.write_text("[" * 100_000), r"result\.json: cannot be read"),
        ("head0000/result.json", lambda p: p.write_text('{"records": [{"SIDE": 1}]}'), "is no result of zoo run"),
        ("head0000/result.json", lambda p: p.write_text('{"records": [], "seconds": NaN}'), "not finite"),
        ("head0000/latent.pt", lambda p: p.write_bytes(b"x"), r"latent\.pt: cannot be read"),
        ("head0000/latent.pt", lambda p: torch.save(Hostile(), p), r"latent\.pt: cannot be read"),
        ("head0000/latent.pt", _latent(lambda s: s.pop("image")), r"latent\.pt: cannot be read"),
        ("head0000/latent.pt", _latent(lambda s: s.update(image=torch.zeros(()))), "no photograph has"),
        ("head0000/latent.pt", _latent(lambda s: s["w"].fill_(torch.nan)), "no photograph has"),
        ("head0000/latent.pt", _latent(lambda s: s.update(w=torch.zeros(1, 9))), "is no latent of"),
        ("head0000/weights", shutil.rmtree, "weights"),
    ],
)
def test_damaged_folders_get_one_line(
    file: str, damage: Callable[[Path], object], words: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    damage(runs / "base" / file)
    with pytest.raises((ConfigError, WeightsError), match=words) as caught:
        turners_of_run(read_run(runs / "base"), 8)["render"]([0.0])
    assert len(str(caught.value)) < 400
    assert not (runs / "owned").exists()


def test_damaged_depths_and_empty_folders(runs: Path) -> None:
    path = runs / "base" / "head0000" / "depths.npy"
    for depths in (np.zeros((2, SIZE, SIZE), "f4"), np.ones((2, 8, 8), "f4"), np.array([{}]), np.ones((2, SIZE, SIZE))):
        np.save(path, depths, allow_pickle=True)
        with pytest.raises(WeightsError, match=r"depths\.npy"):
            read_run(runs / "base").pictures[0].depths(SIZE)
    for picture in read_run(runs / "base").pictures:
        shutil.rmtree(picture.folder)
    with pytest.raises(ConfigError, match="no picture is finished"):
        read_run(runs / "base")
    with pytest.raises(ConfigError, match="is no folder of zoo run"):
        read_run(runs)


# ---------------------------------------------------------------- identity, rotation


def test_identity_of_a_run(
    made: Path, probe: PoseProbe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(identity, "train_pose_probe", lambda advance: probe)
    colours = lambda images: torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)  # noqa: E731
    monkeypatch.setattr(Identity, "embed", staticmethod(colours))
    base, flat = str(made / "base"), str(made / "flat")
    assert cli._run(["compare", base, "--benchmark", "identity", "--quick", "--json"], debug=False) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["n"]) for row in rows] == [
        ("true heads", 8), ("GAN2Shape (render)", 2), ("GAN2Shape (GAN)", 2)
    ]  # fmt: skip
    assert rows[1]["mean"] != rows[2]["mean"]
    assert cli._run(["compare", base, flat, "--benchmark", "identity", "--quick", "--json"], debug=False) == 0
    again = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in again[1:3]] == ["GAN2Shape base (render)", "GAN2Shape base (GAN)"]
    assert [row["seconds"] for row in again[:3]] == [row["seconds"] for row in rows]  # from disk


def test_rotating_a_2d_gan(
    gan: str, probe: PoseProbe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(frames, "train_pose_probe", lambda advance: probe)
    shared = ["rotate", gan, "--size", "16"]
    for by in ("sefa", "ganspace"):
        given = [*shared, "--seed", "0-1", "--yaws=-0.3,0.3", "--by", by, "--out", f"{by}.png"]
        assert cli._run(given, debug=False) == 0
    sefa, ganspace = (np.asarray(Image.open(f"{by}.png")) for by in ("sefa", "ganspace"))
    assert sefa.shape[1] == 4 * 16  # two heads from two angles
    assert not np.array_equal(sefa[:, :32], sefa[:, 32:])
    assert not np.array_equal(sefa, ganspace)
    assert cli._run([*shared, "--yaws=-0.3,0,0.3", "--out", "film.gif"], debug=False) == 0
    assert Image.open("film.gif").n_frames == 3  # type: ignore[attr-defined]
    capsys.readouterr()
    assert "use camera, sefa, ganspace" in failed(capsys, "rotate", gan, "--by", "eye")
    assert "without a camera" in failed(capsys, "rotate", gan, "--by", "camera")
    assert "--pitch 0.1" in failed(capsys, "rotate", gan, "--pitch", "0.1")
    assert "is no 2D GAN" in failed(capsys, "rotate", "pigan", "--by", "sefa")


# ---------------------------------------------------------------- pictures of BFM


@pytest.fixture(scope="module")
def bfm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bfm")
    write_bfm(place / "set", write_model(place, FORMATS[0]), n=16, size=96, background="black", progress=False)
    return place / "set"


def test_runs_over_bfm_are_compared_as_those_over_heads(
    bfm: Path, gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = instances.open_job("gan2shape", [*TINY, "data=synface", f"data.root={bfm}"], gan, tmp_path / "run", {})
    instances.run_all(opened, "bfm:1")
    run = read_run(tmp_path / "run")
    found = side_by_side([run], data_root=bfm, n_pairs=4)  # type: ignore[arg-type]
    average, fitted = map(plain, found.rows)
    assert found.benchmark.protocol == "instances-bfm-v1/size=32/n_pairs=4"
    assert (average.n, fitted.n, found.benchmark.rules.fov) == (1, 1, 10)  # type: ignore[attr-defined]
    subject, truth = run.pictures[0].subject(), SynfaceDataset(bfm, size=SIZE)[1]
    assert subject.depth is not None
    assert torch.equal(subject.depth[0], truth["depth"])
    again = score([subject], run.pictures[0].depths(SIZE)[-1:], 10.0)
    assert again["SIDE"] == pytest.approx(run.pictures[0].SIDE[-1], rel=1e-5)
    monkeypatch.chdir(bfm.parent)
    assert side_by_side([run], data_root=bfm.name, n_pairs=4).benchmark.data == found.benchmark.data  # type: ignore[arg-type]
    assert "synface folder" in " ".join(found.benchmark.words())
    with pytest.raises(ConfigError, match=r"give data\.root=DIR"):
        side_by_side([run])
    with pytest.raises(ConfigError, match=r"bfm:7 does not exist; the test split of .* has 0 to 1"):
        instances.run_all(opened, "bfm:7")
    with pytest.raises(ConfigError, match=r"bfm:0 needs data=synface data\.root=DIR"):
        instances.run_all(instances.open_job("gan2shape", TINY, gan, tmp_path / "other", {}), "bfm:0")


def test_a_gan_of_whole_pictures_is_shown_whole_pictures(bfm: Path, gan: str) -> None:
    network: Any = zoo.load(gan)
    model: Any = zoo.build("gan2shape", size=SIZE, nf=4, zdim=4, groups=2, encoder_nf=2, gan_crop=[256, 170])
    (whole,), (cut,) = (photographs("bfm:0", network, SIZE, root=str(bfm), whole=whole) for whole in (True, False))
    seen, truth = model.as_seen(whole.image), SynfaceDataset(bfm, size=SIZE)[0]
    assert torch.equal(cut.image[0], truth["image"])
    inside = truth["mask"] > 0
    assert (seen[0] - truth["image"]).abs().mean() < 0.05 < (whole.image[0] - truth["image"]).abs()[:, inside[0]].mean()
