"""`make gpu`, rehearsed on a CPU: it ends, trains all three methods, and leaves small files that say what happened."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.campaigns import gpu


@pytest.mark.slow
@pytest.mark.skipif("ZOO_REHEARSE" not in os.environ, reason="takes five minutes and an idle machine: ZOO_REHEARSE=1")
def test_the_rehearsal_leaves_a_report_and_weights(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tests.campaigns.gpu", "--minutes", "0.5", "--device", "cpu", "--heads", "64"]
    done = subprocess.run([*command, "--out", str(out)], cwd=gpu.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert set(report["benches"]) == set(gpu.BENCHES)
    assert set(report["trainings"]) == set(gpu.RECIPES)
    assert (out / "report.md").read_text("utf-8").startswith("# ")
    assert all(path.stat().st_size < 16 * 2**20 for path in out.iterdir())
    for method in ("meshgan", "shadegan", "stylegan2"):
        with tarfile.open(out / f"{method}.tar.gz") as archive:
            assert f"{method}/model.safetensors" in archive.getnames()


def test_large_archives_are_cut_into_pieces_that_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "PIECE", 10)
    (tmp_path / "a.tar.gz").write_bytes(bytes(range(25)))
    (tmp_path / "out").mkdir()
    gpu._cut(tmp_path / "a.tar.gz", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.tar.gz.00", "a.tar.gz.01", "a.tar.gz.02"]
    assert b"".join((tmp_path / "out" / name).read_bytes() for name in names) == bytes(range(25))


def test_a_page_says_what_was_found_and_what_was_not() -> None:
    row = {"case": "field", "zoo": {"median": 0.5}, "ratio": 2.0, "other": "", "parts": None}
    benches = {"fields": {"machine": "m", "rows": [row]}, "train": "not finished"}
    text = gpu.page({"machine": "card", "benches": benches, "trainings": {"meshgan_heads64": {"last record": {}}}})
    assert text.startswith("# card\n")
    assert "| field | 0.5 s | 2 |" in text
    assert "nothing was measured: not finished" in text


def test_missing_packages_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "NEEDED", ("no_such_package", "numpy"))
    with pytest.raises(SystemExit, match="not here: no_such_package; carry"):
        gpu.prepared(None)
