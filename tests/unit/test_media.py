"""What TensorBoard and W&B get beside figures."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

import zoo
from tests.tiny import TINY
from zoo.config.recipes import load_run
from zoo.config.schemas import LOGGERS
from zoo.systems import media
from zoo.systems.callbacks import Samples
from zoo.systems.folder import prepare
from zoo.systems.run import _extra_loggers


def looked_at(model: Any, folder: Path, **above: torch.Tensor) -> tuple[Any, Any]:
    """The two loggers' own objects after a sample at 64 images."""
    board, run = MagicMock(spec=TensorBoardLogger), MagicMock(spec=WandbLogger)
    board.experiment, run.experiment = MagicMock(), MagicMock()
    system = SimpleNamespace(
        averaged=lambda: model, stage=lambda: (SimpleNamespace(size=16),), beside=lambda n: above, images=64
    )
    Samples(folder, 1.0, 1, (board, run)).draw(cast(Any, system), model.latents(2, seed=0))
    return board.experiment, run.experiment


def test_loggers_get_pictures_and_a_mesh(tmp_path: Path) -> None:
    model = zoo.build("pigan", **TINY, density_scale=30, mesh_level=1.0).eval()
    board, run = looked_at(model, tmp_path)
    names = [f"samples/{name}" for name in ("colour", "depth", "normals", "left", "right")]
    assert [call.args[0] for call in board.add_image.call_args_list] == names
    assert {call.args[2] for call in board.add_image.call_args_list} == {64}
    assert board.add_image.call_args.args[1].shape[-1] == 3
    mesh = board.add_mesh.call_args
    assert mesh.args[1].shape[::2] == mesh.kwargs["colors"].shape[::2] == mesh.kwargs["faces"].shape[::2] == (1, 3)
    assert mesh.kwargs["global_step"] == 64
    assert mesh.args[1].shape[1] < media._CELLS**3  # of noise; a head has some thousand
    (logged,) = run.log.call_args.args
    assert [*logged] == [*names, "samples/mesh", "trainer/global_step"]
    assert logged["trainer/global_step"] == 64
    assert logged["samples/mesh"]._path.endswith(".glb")


def test_a_field_without_a_surface_has_pictures_alone(tmp_path: Path) -> None:
    board, run = looked_at(zoo.build("pigan", **TINY, mesh_level=1e9).eval(), tmp_path)
    assert board.add_image.called
    assert not board.add_mesh.called
    assert "samples/mesh" not in run.log.call_args.args[0]


def test_pictures_only_have_no_mesh(tmp_path: Path) -> None:
    board, _ = looked_at(zoo.build("hologan", z_dim=8, size=32, channels=4).eval(), tmp_path)
    assert board.add_image.call_args_list[0].args[0] == "samples/colour"
    assert not board.add_mesh.called


def test_photographs_stand_above_what_was_made_of_them(tmp_path: Path) -> None:
    model = zoo.build("unsup3d", size=32, nf=8, zdim=8, groups=4, encoder_nf=4).eval()
    inputs = torch.rand(2, 3, 32, 32) * 2 - 1
    board, _ = looked_at(model, tmp_path, photograph=inputs)
    first, second = board.add_image.call_args_list[:2]
    assert (first.args[0], second.args[0]) == ("samples/photograph", "samples/colour")


def test_nobody_pays_for_a_mesh_that_nobody_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "_mesh", lambda *_: pytest.fail("a mesh was made"))
    media.show((), {}, cast(Any, None), cast(Any, None), 0)


def test_disabled_is_disabled(tmp_path: Path) -> None:
    run = load_run("pigan_heads32", [f"trainer.loggers=[{', '.join(LOGGERS)}]", "trainer.wandb_mode=disabled"])
    assert not any(isinstance(logger, WandbLogger) for logger in _extra_loggers(run, tmp_path))


def test_a_run_says_where_it_ran(tmp_path: Path) -> None:
    run = load_run("pigan_heads32", ["trainer.threads=3"])
    (tmp_path / "checkpoints").mkdir()
    prepare(run, tmp_path, None, "zoo train pigan_heads32")
    there = json.loads((tmp_path / "environment.json").read_text("utf-8"))
    assert there["zoo"] == zoo.__version__
    assert there["threads"] == 3
    assert [*there] == ["zoo", "commit", "python", "torch", "lightning", "device", "threads"]
