"""`zoo bench raster`: what it reports, not how fast."""

import json

import pytest
import torch

from zoo.bench import raster
from zoo.cli import main as cli
from zoo.renderers import p3d

TINY = (raster.Case(5, 8, 1), raster.Case(6, 8, 2))
KEYS = {"case", "passes", "faces", "threads", "ours_s", "pytorch3d_s", "ratio", "differs"}
needs_kernel = pytest.mark.skipif(not p3d.native()[0], reason="PyTorch3D's native part does not load here")


@needs_kernel
def test_rows_say_what_was_measured() -> None:
    notes: list[str] = []
    rows = raster.compare(TINY, notes.append)
    assert [(row.case, row.passes) for row in rows] == [
        (name, passes) for name in ("grid5_px8_b1", "grid6_px8_b2") for passes in ("forward", "forward+backward")
    ]
    assert [row.faces for row in rows] == [32, 32, 100, 100]
    assert notes == ["grid5_px8_b1: 32 faces", "grid6_px8_b2: 100 faces"]
    for row in rows:
        assert row.ours_s > 0
        assert row.ratio == row.pytorch3d_s / row.ours_s
        assert row.threads == torch.get_num_threads()
        assert 0 <= row.differs < 0.2  # so coarse a grid has edges exactly on pixel centres


@needs_kernel
@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_prints_rows(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = raster.compare(TINY[:1])
    monkeypatch.setattr(raster, "compare", lambda progress: progress("at work") or rows)
    with pytest.raises(SystemExit) as done:
        cli.main(["bench", "raster", *(["--json"] if as_json else [])])
    out, err = capsys.readouterr()
    assert not done.value.code
    assert err == "at work\n"
    if as_json:
        assert [set(row) for row in json.loads(out)] == [KEYS] * 2
    else:
        assert "grid5_px8_b1" in out
        assert "forward+backward" in out


def test_without_the_kernel_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(p3d, "native", lambda: (False, "libc10_cuda.so is missing"))
    with pytest.raises(SystemExit) as done:
        cli.main(["bench", "raster"])
    out, err = capsys.readouterr()
    assert done.value.code == 1
    assert out == ""
    assert err.count("\n") == 1
    assert "libc10_cuda.so is missing" in err


def test_the_scene_fills_most_of_the_image() -> None:
    verts, faces = raster.depth_grids(16, 3)
    seen = raster.rasterize(p3d.pytorch3d().structures.Meshes(verts, faces.expand(3, -1, -1)), 32)
    assert (seen.pix_to_face >= 0).float().mean() > 0.7
    assert len(faces) == 2 * 15 * 15
