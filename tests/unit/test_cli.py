"""The command line as a user meets it: output, one-line errors, exit codes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import trimesh
import typer
from PIL import Image

import zoo
from tests.tiny import TINY
from zoo import resources
from zoo.api import MAX_SEED, seeds_of
from zoo.cli import main as cli
from zoo.cli import train as cli_train
from zoo.cli.evaluate import _is_setting
from zoo.config import recipes
from zoo.config.fill import to_dict
from zoo.config.schemas import Card, Metric
from zoo.errors import ConfigError
from zoo.registry import resolve
from zoo.weights.cards import markdown_table


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Checkpoints of our own in place of the shipped ones, and an empty working folder."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    monkeypatch.setattr(resources, "checkpoints", lambda: folder)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    metrics = [Metric("SIDE", 1.5, "heads-v1", 500, "zoo eval shadegan")]
    card = Card(
        name="shadegan.tiny", summary="a small one", recipe="shadegan_heads32", metrics=metrics, default=True,
        licence={"weights": "CC0-1.0"},
    )  # fmt: skip
    return zoo.save(zoo.build("shadegan", **TINY, mesh_level=0.01), tmp_path_factory.mktemp("saved") / "a", card=card)


@pytest.fixture
def weights(shelf: Path, saved: Path) -> Path:
    return Path(shutil.copytree(saved, shelf / "shadegan.tiny"))


def zoo_(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        cli.main([*arguments])
    return int(done.value.code or 0)


def test_save_keeps_what_the_card_of_the_weights_says(tmp_path: Path) -> None:
    card = Card(name="shadegan.tiny", summary="a small one", command="zoo train shadegan")
    best = zoo.save(zoo.build("shadegan", **TINY), tmp_path / "run" / "best", card=card)
    for given, summary in ((), "a small one"), (("--summary", "mine"), "mine"):
        out = tmp_path / f"shadegan.{summary[0]}"
        assert zoo_("save", str(best), "--out", str(out), *given) == 0
        kept = zoo.card(f"file:{out}")
        assert (kept.name, kept.summary, kept.command) == (out.name, summary, "zoo train shadegan")


def failed(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """The one line on the error stream of a command that must fail."""
    assert zoo_(*arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("zoo: ")
    return err


def all_commands(group: Any, *above: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from all_commands(command, *above, name)
        else:
            yield (*above, name)


COMMANDS = sorted(all_commands(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_teaches_by_example(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo_(*command, "--help") == 0
    text = capsys.readouterr().out
    assert "Example" in text
    assert f"zoo {' '.join(command)}" in text.partition("Example")[2]


@pytest.mark.parametrize(
    ("command", "words"), [("invert", "--vgg and --lpips change nothing"), ("export", "meshgan --resolution alone")]
)
def test_help_says_which_methods_use_an_option(command: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo_(command, "--help") == 0
    assert words in " ".join(capsys.readouterr().out.split())


def test_zoo_alone_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(COMMANDS) > 20
    assert zoo_() == 0
    assert "zoo sample shadegan" in capsys.readouterr().out


def test_list_and_info(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo_("list", "shade*", "--json") == 0
    method, row = json.loads(capsys.readouterr().out)
    assert method == {"name": "shadegan", "kind": "method"}
    assert (row["name"], row["default"], row["figures"][0]["value"]) == ("shadegan.tiny", True, 1.5)
    assert row["bytes"] == (weights / "model.safetensors").stat().st_size
    assert row["licence"] == {"weights": "CC0-1.0"}
    assert zoo_("list", "--pretrained") == 0
    size = f"{row['bytes'] / 1e6:.1f} MB"
    assert capsys.readouterr().out == f"shadegan.tiny  * a small one; {size}; SIDE 1.5; CC0-1.0\n"
    assert "nothing matches 'zzz*'" in failed(capsys, 1, "list", "zzz*")
    for form, nothing in (("--json", "[]\n"), ("--markdown", markdown_table([]))):
        assert zoo_("list", "zzz*", form) == 1
        out, err = capsys.readouterr()
        assert out == nothing
        assert "nothing matches 'zzz*'" in err
    assert zoo_("list", "--markdown") == 0
    assert "| `shadegan.tiny` | a small one |" in capsys.readouterr().out
    assert zoo_("info", "shadegan") == 0
    assert "SIDE 1.5 (heads-v1, n = 500): zoo eval shadegan" in capsys.readouterr().out
    assert zoo_("info", "shadegan", "--json") == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == "shadegan_heads32"


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo_("--version") == 0
    assert capsys.readouterr().out == f"zoo {zoo.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_names_at_once(shell: str) -> None:
    """As the script that `zoo --install-completion` writes asks for them; all that it waits for must be light."""
    words = "zoo sample shadegan.heads"
    environment = os.environ | {"_ZOO_COMPLETE": f"complete_{shell}", "COMP_WORDS": words, "COMP_CWORD": "2"}
    environment |= {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    code = (
        "import atexit, sys\nfrom zoo.cli.main import main\n"
        "atexit.register(lambda: print('heavy' if 'torch' in sys.modules else 'light', file=sys.stderr))\nmain([])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert "shadegan.heads32" in done.stdout
    assert "pigan" not in done.stdout
    assert done.stderr == "light\n"


def test_completion_is_offered_and_both_words_for_seeds_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo_("--help") == 0
    assert "--install-completion" in capsys.readouterr().out
    words: dict[str, set[str]] = {}
    for command in COMMANDS:
        inner: Any = typer.main.get_command(cli.app)
        for part in command:
            inner = inner.commands[part]
        options = {option for parameter in inner.params for option in parameter.opts}
        words[" ".join(command)] = options & {"--seed", "--seeds"}
    drawing = {name for name, found in words.items() if found}
    assert {"sample", "figure", "turntable", "export", "invert", "compare", "train", "run", "data heads"} <= drawing
    assert all(words[name] == {"--seed", "--seeds"} for name in drawing)
    assert zoo_("train", "shadegan_heads32", "seed=3", "--seed", "7", "--dry-run") == 0
    assert "\nseed: 7\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    ["data heads", "data bfm", "data shard", "invert pigan a.png", "eval average", "compare average", "export pigan"],
)
def test_a_seed_has_room_in_64_bits(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(MAX_SEED) in failed(capsys, 2, *command.split(), "--seed", str(2**64))


def test_near_names_are_offered_or_else_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Known" not in failed(capsys, 1, "info", "shadegn")
    assert "pigan" in failed(capsys, 1, "info", "wxyzwxyz").partition("Known:")[2]


def test_errors_are_one_line_with_a_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean 'shadegan'" in failed(capsys, 1, "info", "shadegn")
    assert "no usable path (Could not determine home directory)" in failed(capsys, 1, "info", "~nosuch/x")
    assert "no usable path" in failed(capsys, 1, "view", "~nosuch/x", "--no-open")
    assert "'max_kimg'" in failed(capsys, 1, "train", "shadegan", "trainer.max_kimgs=1", "--dry-run")
    assert "zoo --help" in failed(capsys, 2, "lst")
    assert "--bogus" in failed(capsys, 2, "list", "--bogus")
    assert "unknown setting" in failed(capsys, 2, "eval", "constant", "data.rot=x")
    assert "whole number" in failed(capsys, 2, "eval", "constant", "n_test=x")
    assert "0-7" in failed(capsys, 1, "sample", "shadegan", "--seeds", "a-b")


def test_devices_that_are_not_there_are_one_line(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'foo' is not on this machine" in failed(capsys, 1, "sample", "shadegan", "--device", "foo")
    assert "trainer.devices=0: use 1 or more" in failed(capsys, 1, "train", "shadegan", "trainer.devices=0")


def test_lightnings_refusals_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from zoo.systems import run as train

    def refuse(*_: object, **__: object) -> None:
        raise MisconfigurationException("no CUDA\nhere")

    monkeypatch.setattr(train, "train", refuse)
    monkeypatch.setattr(cli_train, "speak", lambda: None)
    line = failed(capsys, 1, "train", "shadegan_heads32", "trainer.accelerator=cuda", f"out={tmp_path}")
    assert "trainer.accelerator=cuda" in line
    assert "no CUDA here" in line


@pytest.mark.parametrize("option", ["--psi", "--yaw", "--pitch"])
def test_angles_and_psi_are_finite(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nan is not a finite number" in failed(capsys, 2, "sample", "shadegan", option, "nan")
    assert "inf is not a finite number" in failed(capsys, 2, "turntable", "shadegan", option, "inf")


def test_debug_shows_the_trace() -> None:
    with pytest.raises(ConfigError):
        cli.main(["info", "shadegn", "--debug"])


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.registry, "list_models", interrupt)
    assert "interrupted" in failed(capsys, 130, "list")


def test_bugs_say_that_they_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(cli.registry, "list_models", broken)
    assert "bug" in failed(capsys, 1, "list")


def test_a_folder_with_an_equals_sign_is_no_setting() -> None:
    Path("lr=0.1/x").mkdir(parents=True)
    assert not _is_setting("lr=0.1/x")
    assert not _is_setting("file:lr=0.1/x")
    assert _is_setting("data.root=lr=0.1/x")


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried ...")])
def test_too_little_memory_is_no_bug(error: Exception) -> None:
    line = cli._line(error)
    assert line.startswith("out of memory: ask for a smaller --size")
    assert "bug" not in line


def test_a_closed_pipe_is_quiet() -> None:
    # A reader that is gone before the first byte: what `zoo list | head -0` leads to, without the race.
    code = (
        "import os, subprocess, sys\nread, write = os.pipe(); os.close(read)\n"
        "done = subprocess.run([sys.executable, '-m', 'zoo', 'list'], stdout=write, stderr=subprocess.PIPE)\n"
        "print(done.returncode, done.stderr)"
    )
    root = Path(zoo.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=root)
    assert done.stdout.strip() == "1 b''"


def test_sample_writes_a_sheet_that_knows_its_origin(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo_("sample", "shadegan", "--seeds", "0-2,7", "--size", "16", "--out", "grid.png", "--relight") == 0
    assert capsys.readouterr().out == "grid.png\n"
    image = Image.open("grid.png")
    assert image.size == (64, 14 + (5 + 7) * 16)  # maps and lights
    assert image.info["model"] == "shadegan.tiny"
    assert image.info["seed"] == "0,1,2,7"
    assert image.info["command"].startswith("zoo")


def test_a_seed_is_the_same_object_alone_and_in_company(weights: Path) -> None:
    assert zoo_("sample", "shadegan", "--seeds", "0-2", "--size", "16", "--maps", "rgb", "--out", "three.png") == 0
    assert zoo_("sample", "shadegan", "--seeds", "2", "--size", "16", "--maps", "rgb", "--out", "one.png") == 0
    three, one = Image.open("three.png"), Image.open("one.png")
    assert three.crop((32, 14, 48, 30)).tobytes() == one.crop((0, 14, 16, 30)).tobytes()


def test_turntable_and_export(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo_("turntable", "shadegan", "--size", "16", "--frames", "2", "--out", "film.mp4") == 0
    assert Path("film.mp4").stat().st_size > 0
    level = zoo.load("shadegan").density(zoo.load("shadegan").latents(1, psi=0.7), 16).max() / 2
    assert zoo_("export", "shadegan", "--resolution", "16", "--level", f"{level:g}", "--out", "face.glb", "--html") == 0
    assert Path("face.html").read_text("utf-8").count("data:model/gltf-binary;base64,") == 1
    assert trimesh.load("face.glb", force="mesh").is_watertight
    assert "vertices" in capsys.readouterr().out


@pytest.mark.parametrize(("method", "key"), [("meshgan", "level"), ("unsup3d", "resolution"), ("stylegan2", "level")])
def test_settings_that_change_no_mesh_are_refused(
    method: str, key: str, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = resolve(method)
    zoo.save(kind(kind.tiny()), shelf / f"{method}.tiny")
    said = failed(capsys, 1, "export", f"{method}.tiny", f"--{key}", "32")
    no_shape = "StyleGAN2 makes pictures, without shape: it has no mesh"
    assert said.strip() == "zoo: " + (
        no_shape if method == "stylegan2" else f"{method}: its meshes have no {key}; leave out --{key}"
    )
    assert not Path("mesh.glb").exists()


def test_dry_run_prints_a_configuration_that_can_be_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    assert zoo_("train", "shadegan_heads32", "trainer.max_kimg=3", "--dry-run") == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert values == to_dict(recipes.load_run("shadegan_heads32", ["trainer.max_kimg=3"]))


def test_finetune_dry_run(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo_("finetune", "shadegan", "data=folder", "data.root=faces", "--dry-run") == 0
    text = capsys.readouterr().out
    assert "init: shadegan" in text
    assert "root: faces" in text
    assert "hidden_dim: 16" in text


def test_doctor_verifies_the_weights(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo_("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert {"python", "torch", "lightning", "pytorch3d", "device", "c++", "cache"} <= checks.keys()
    assert checks["weights shadegan.tiny"]["state"] == "ok"
    assert all(check["fix"] for check in checks.values() if check["state"] != "ok")
    (weights / "model.safetensors").write_bytes(b"x")
    assert zoo_("doctor", "--verify") == 1
    said = capsys.readouterr().out
    assert "install zoo again" in said
    assert "file shadegan.tiny/model.safetensors" in said


def test_doctor_flags_the_malicious_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo import doctor

    monkeypatch.setattr(doctor, "version", lambda name: "2.6.3" if name == "lightning" else "9")
    found = {check.name: check for check in doctor.examine()}
    assert found["lightning"].state == "broken"
    assert "steals credentials" in found["lightning"].found
    assert "pytorch3d" not in found  # nothing more is imported


def test_data_check_and_images(capsys: pytest.CaptureFixture[str]) -> None:
    Path("faces").mkdir()
    Image.new("RGB", (80, 80), "red").save("faces/a.png")
    assert zoo_("data", "check", "faces", "--json") == 0
    assert json.loads(capsys.readouterr().out)["total"] == 1
    Path("faces/b.png").write_bytes(b"no picture")
    assert zoo_("data", "check", "faces") == 1
    assert "b.png" in capsys.readouterr().out


def test_heads_are_written_at_the_size_of_their_layout(capsys: pytest.CaptureFixture[str]) -> None:
    for layout, image, size in (("images", "000000.png", 64), ("synface", "train/image/000000_image.png", 256)):
        assert zoo_("data", "heads", "--n", "1", "--layout", layout, "--out", layout) == 0
        assert capsys.readouterr().out == f"{layout}\n"
        assert Image.open(Path(layout, image)).size == (size, size)


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [3]), ("0-2", [0, 1, 2]), ("1,4-5", [1, 4, 5]), ("2,2", [2, 2]), (" 1 - 2 ", [1, 2])]
)
def test_seeds(text: str, seeds: list[int]) -> None:
    assert seeds_of(text) == seeds


@pytest.mark.parametrize(
    "text",
    ["", "a", "3-1", "-1", "2-", "0-999", "0-99999999999999", "9223372036854775808", "9" * 5000, "²", "1,,2", "1.5"],
)
def test_seeds_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError):
        seeds_of(text)


def test_eval_and_compare(weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from zoo.evaluation.benchmarks.heads import Heads
    from zoo.evaluation.depth.protocol import DepthProtocol

    small = DepthProtocol("heads-small", fov=12.0, n_test=2, n_pairs=2, steps=1, batch_size=2, n_surface=1)
    monkeypatch.setattr(Heads, "standard", small)
    assert zoo_("compare", "shadegan", "--benchmark", "heads", "--json", "--out", "report.html") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["constant", "average", "supervised", "mean shape", "shadegan"]
    assert {"SIDE", "MAD", "n", "protocol"} <= rows[0].keys()
    assert "<html" in Path("report.html").read_text(encoding="utf-8")
    assert zoo_("eval", "constant", "--benchmark", "heads", "--json") == 0
    one = json.loads(capsys.readouterr().out)

    def interrupted(*_: object, **__: object) -> list[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr("zoo.evaluation.depth.benchmark.model_sheets", interrupted)
    assert zoo_("compare", "shadegan", "--benchmark", "heads", "--json", "--fresh") == 130
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(Heads.baselines)
    # A flat map is wrong by about 2 % of the distance: SIDE in units of 1e-2.
    assert one["SIDE"] == rows[0]["SIDE"]
    assert 0.5 < one["SIDE"] < 5
