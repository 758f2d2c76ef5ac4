"""One batch has one outcome, whether one process takes it whole or in parts, or several processes share it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.train import curves
from tests.train.conftest import TINY
from zoo.config.recipes import load_run
from zoo.errors import ConfigError, ZooError
from zoo.runtime import draws
from zoo.runtime.launched import launch, restarted
from zoo.systems import processes, run
from zoo.systems.folder import run_folder
from zoo.systems.run import train

Records = list[dict[str, float]]

LAUNCHERS = ("TORCHELASTIC", "SLURM_", "WORLD_SIZE", "RANK", "LOCAL_")


@pytest.fixture(autouse=True)
def nobody_launched_us(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(LAUNCHERS):
            monkeypatch.delenv(name)


def records(folder: Path) -> Records:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


def furthest(one: Records, other: Records) -> float:
    """The largest difference of any value of any step."""
    assert [record.keys() for record in one] == [record.keys() for record in other]
    return max(abs(a[key] - b[key]) for a, b in zip(one, other, strict=True) for key in a)


# ---------------------------------------------------------------- draws


@pytest.mark.parametrize("draw", [
    lambda n: draws.randn(n, 3), lambda n: draws.rand(n), lambda n: draws.randint(1, 9, n),
    lambda n: draws.randn_like(torch.empty(n, 2, 2)), lambda n: draws.rand_like(torch.empty(n, 20)),
])  # fmt: skip
def test_shares_of_a_draw_make_the_whole(draw: Callable[[int], torch.Tensor]) -> None:
    torch.manual_seed(3)
    whole, after = draw(12), torch.rand(())
    for row in range(3):
        torch.manual_seed(3)
        with draws.share(row, 3):
            assert torch.equal(draw(4), whole[row::3])
        assert torch.equal(torch.rand(()), after)  # and all stand where one process stands


def test_what_is_replayed_does_not_move_what_follows() -> None:
    cpu = torch.device("cpu")
    begin = draws.state(cpu)
    first, second = torch.rand(2), torch.rand(2)
    draws.restore(begin, cpu)
    torch.rand(2)
    with draws.replayed(begin, cpu):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.rand(2), second)


def test_micro_batches_follow_the_whole_batch(tiny: Callable[..., list[str]]) -> None:
    more = ["trainer.max_kimg=0.012", "system.ada_target=0.6", "system.ada_kimg=0.05"]
    whole = train(load_run("shadegan", tiny(*more, out="whole")))
    stage = "system.stages=[{size: 16, batch: 2}]"
    parts = train(load_run("shadegan", tiny(*more, stage, "trainer.accumulate=2", out="parts")))
    assert len(records(whole)) == 3
    assert furthest(records(whole), records(parts)) < 1e-3  # of float32; the slow test is strict


# ---------------------------------------------------------------- metrics, launchers


def test_means_of_uneven_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [{"a": (3.0, 1)}, {}, {"b": (0.0, 0)}]
    monkeypatch.setattr(processes, "gathered", lambda mine: [mine, *others])
    assert processes.means({"a": [1.0, 2.0], "c": [5.0]}) == {"a": 2.0, "c": 5.0}
    assert processes.gathered({"a": 1})[0] == {"a": 1}


TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "RANK": "3", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}
SRUN = {"SLURM_NTASKS": "4", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_NTASKS_PER_NODE": "2"}


@pytest.mark.parametrize(("who", "variables"), [("torchrun", TORCHRUN), ("srun", SRUN)])
def test_a_launcher_says_how_many_and_which(
    who: str, variables: dict[str, str], tiny: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for asked in ([], ["trainer.devices=2", "trainer.nodes=2"]):
        team = processes.processes(load_run("pigan", tiny(*asked)).trainer)
        assert (team.rank, team.devices, team.nodes, team.world, team.own) == (3, 2, 2, 4, False)
    with pytest.raises(ConfigError, match=rf"{who} started 4 processes, trainer.devices=3: .* trainer.nodes=2"):
        processes.processes(load_run("pigan", tiny("trainer.devices=3")).trainer)
    assert launch().who == who
    assert not restarted()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT" if who == "torchrun" else "SLURM_RESTART_COUNT", "1")
    assert restarted()


def test_what_no_launcher_can_mean_is_refused(tiny: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.nodes=2: .* torchrun or srun"):
        processes.processes(load_run("pigan", tiny("trainer.nodes=2")).trainer)
    for name, value in SRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(ConfigError, match="--ntasks-per-node"):
        processes.processes(load_run("pigan", tiny()).trainer)


def test_a_fit_is_one_process() -> None:
    for key in ("devices", "nodes", "accumulate"):
        with pytest.raises(ConfigError, match=rf"trainer\.{key}=2: .*one process"):
            load_run("gan2shape_heads64", [f"trainer.{key}=2"])


def test_processes_that_see_other_folders_do_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "gathered", lambda mine: [mine, 16])
    with pytest.raises(ZooError, match=r"from \[0, 16\] images: .*all machines see"):
        run._SameStart(None).setup(None, None, "fit")  # type: ignore[arg-type]


# ---------------------------------------------------------------- two processes


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Records]:
    """The records of trainings of 160 images, by what learns and in how many processes and parts: two, parts, whole.

    `style, resumed` went from two processes to two parts of one and, as torchrun starts jobs again, back to two.
    """
    place = tmp_path_factory.mktemp("curves")
    (place / "pictures").mkdir()
    for i in range(24):
        pixels = np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "pictures" / f"{i:02}.png")
    field = [each for each in TINY if each.startswith("generator.")]
    what = {
        "style": ("stylegan2_heads64", 32, curves.STYLE),
        "photo": ("unsup3d_heads64", 32, curves.PHOTO + curves.WITHOUT),
        "terms": ("unsup3d_heads64", 32, curves.PHOTO + curves.TERMS),
        "field": ("shadegan", 16, [*field, "system.r1_every=2"]),
    }

    def one(name: str, how: str, *more: str) -> curves.Run:
        recipe, size, own = what[name]
        batch = 8 if how == "whole" else 4
        parts = ["trainer.accumulate=2"] if how == "parts" else []
        stage = f"system.stages=[{{size: {size}, batch: {batch}}}]"
        given = [*curves.COMMON, *own, f"data.root={place / 'pictures'}", stage, "trainer.max_kimg=0.16", *parts]
        return recipe, [*given, f"out={place / name / how}", *more]

    resumed = f"out={place / 'style' / 'resumed'}"
    calls = [
        (2, [*(one(name, "two") for name in what), one("style", "two", resumed, "trainer.max_kimg=0.08")], {}),
        (1, [
            *(one(name, "parts") for name in what), *(one(name, "whole") for name in what if name != "terms"),
            one("style", "parts", resumed, "trainer.max_kimg=0.12", "resume=auto"),
        ], {}),
        (2, [one("style", "two", resumed)], {"TORCHELASTIC_RESTART_COUNT": "1"}),
    ]  # fmt: skip
    for number, runs, variables in calls:
        for process in curves.together(place, runs, number, free_port(), variables):
            assert process.returncode == 0, process.stderr[-3000:]

    def read(name: str, how: str) -> Records:
        (folder,) = (place / name / how).glob("*-????????")
        return records(folder)

    return read


@pytest.mark.slow
@pytest.mark.parametrize("name", ["style", "photo", "field"])
@pytest.mark.parametrize("how", ["two", "parts"])
def test_processes_and_parts_follow_one_curve(trained: Callable[[str, str], Records], name: str, how: str) -> None:
    whole = trained(name, "whole")
    assert len(whole) == 20
    assert abs(whole[0]["loss" if name == "photo" else "d"] - whole[-1]["loss" if name == "photo" else "d"]) > 1e-3
    if name == "style":
        assert {"r1", "path_length", "augment_p"} <= whole[0].keys()
        assert 0 < whole[-1]["augment_p"] < whole[0]["augment_p"]
    assert furthest(whole, trained(name, how)) < 1e-5


@pytest.mark.slow
def test_what_compares_images_goes_by_the_micro_batch(trained: Callable[[str, str], Records]) -> None:
    assert "rigid" in trained("terms", "two")[-1]
    assert furthest(trained("terms", "two"), trained("terms", "parts")) < 1e-5


@pytest.mark.slow
def test_another_number_of_processes_goes_on_with_the_curve(trained: Callable[[str, str], Records]) -> None:
    assert furthest(trained("style", "whole"), trained("style", "resumed")) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 0])
def test_the_others_say_which_process_has_died(rank: int, tiny: Callable[..., list[str]]) -> None:
    overrides = tiny("trainer.max_kimg=100", "trainer.devices=2")
    folder = run_folder(load_run("pigan", overrides))
    process = subprocess.Popen(
        [sys.executable, "-m", "zoo", "train", "pigan", *overrides], stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while not (folder / "metrics.jsonl").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ranks = [int(p) for p in children if b"LOCAL_RANK=1" in Path(f"/proc/{p}/environ").read_bytes()]
        os.kill(ranks[0] if rank == 1 else process.pid, signal.SIGKILL)
        _, said = process.communicate(timeout=300)  # ends when both have closed the stream
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    lines = [line for line in said.splitlines() if "has ended" in line]
    assert len(lines) == 1, said
    assert f"process {rank} of 2 has ended" in lines[0]
    assert "resume=auto" in lines[0]
    assert "Traceback" not in said
