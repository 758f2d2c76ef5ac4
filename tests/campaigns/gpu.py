"""All that a GPU is needed for, in one go: `make gpu MINUTES=10 OUT=out/gpu [DATA=DIR] [WHEELS=DIR] [DEVICE=cpu]`.

Nothing but a checkout and a Python with torch is needed, and no network. A fifth of the time goes to the tests marked
`gpu`, two fifths to the benches, the rest to training. Everything in OUT is below 16 MB and lies flat: `report.md`,
`report.json`, `tests.txt`, and for each training an archive of weights, pictures and records.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NEEDED = ("lightning", "torchmetrics", "omegaconf", "yaml", "numpy", "PIL", "safetensors", "numba", "skimage", "scipy",
          "trimesh", "rich", "typer", "imageio", "pytorch3d")  # fmt: skip
BENCHES = ("fields", "train", "fit", "memory", "scaling")
RECIPES = ("meshgan_heads64", "shadegan_heads64", "stylegan2_heads64")
PIECE = 15 * 2**20  # bytes; larger archives are cut
GRACE = 60.0  # seconds that a training gets to finish its step and save
START = 300.0  # seconds until a training has written its first record


@dataclass
class Session:
    """What is asked for, and what has been found so far."""

    out: Path
    device: str
    seconds: float
    data: Path | None = None
    heads: int = 12000
    report: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "ZOO_TEST_DEVICE": self.device,
            "ZOO_CACHE": os.environ.get("ZOO_CACHE", str(self.out.parent / "cache")),
        }

    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.began)

    def run(
        self,
        arguments: list[str],
        seconds: float,
        stop: signal.Signals = signal.SIGKILL,
        started: Callable[[], bool] = lambda: True,
    ) -> tuple[int | None, str]:
        """Exit code, None if time was over, and what was said; through a file, as a full pipe would stop the child.

        The seconds count from `started` on, which has five minutes to come true.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
            command = [sys.executable, "-m", *arguments]
            child = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=said, stderr=subprocess.STDOUT)
            latest = time.monotonic() + START
            while child.poll() is None and not started() and time.monotonic() < latest:
                time.sleep(0.2)
            code: int | None = None
            try:
                code = child.wait(max(1.0, seconds))
            except subprocess.TimeoutExpired:
                child.send_signal(stop)
                try:
                    child.wait(GRACE)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
            said.seek(0)
            return code, said.read()


def tests(session: Session, seconds: float) -> None:
    if find_spec("pytest") is None:
        session.report["tests"] = "pytest is not here: add it to the wheels"
        return
    chosen = ["tests/unit/test_gpu.py", "tests/unit/test_rasterize.py"]
    code, said = session.run(["pytest", "-m", "gpu", "-p", "no:cacheprovider", "-rs", *chosen], seconds)
    (session.out / "tests.txt").write_text(said[-(2**20) :], "utf-8")
    words = said.strip().splitlines()
    session.report["tests"] = {"exit code": code, "last line": words[-1] if words else ""}


def benches(session: Session, seconds: float) -> None:
    found = session.report["benches"] = {}
    end = time.monotonic() + seconds
    for number, bench in enumerate(BENCHES):
        share = max(5.0, (end - time.monotonic()) / (len(BENCHES) - number))
        _, said = session.run(
            ["zoo", "bench", bench, "--json", "--device", session.device, "--seconds", f"{share / 2:.0f}"],
            max(60.0, 2 * share),
        )
        results = [line for line in said.splitlines() if line.startswith('{"machine"')]
        found[bench] = json.loads(results[-1]) if results else said.strip().splitlines()[-3:] or "not finished"


def trainings(session: Session, work: Path) -> None:
    found = session.report["trainings"] = {}
    for number, recipe in enumerate(RECIPES):
        share = max(3.0, (session.left() - GRACE / 6) / (len(RECIPES) - number))
        found[recipe] = training(session, work, recipe, share)


def training(session: Session, work: Path, recipe: str, seconds: float) -> dict[str, Any]:
    """Train until the time is over; SIGTERM makes zoo finish its step and save."""
    method = recipe.partition("_")[0]
    accelerator = "gpu" if session.device == "cuda" else "cpu"
    overrides = [f"out={work}", f"name={method}", "resume=auto", f"trainer.accelerator={accelerator}",
                 "trainer.max_kimg=1000000", "trainer.log_every=5", "trainer.checkpoint_kimg=1000",
                 "trainer.compile=never"]  # fmt: skip
    overrides += ["data=folder", f"data.root={session.data}", "data.size=64"] if session.data else [
        f"data.length={session.heads}"
    ]  # fmt: skip
    code, said = session.run(
        ["zoo", "train", recipe, *overrides],
        seconds,
        signal.SIGTERM,
        lambda: any(work.glob(f"{method}-*/metrics.jsonl")),
    )
    runs = sorted(work.glob(f"{method}-*"))
    if not runs or not list(runs[-1].glob("checkpoints/*.ckpt")):
        return {"exit code": code, "said": said.strip().splitlines()[-3:]}
    weights = work / f"weights-{method}"
    # Before the pictures, as `zoo sample` could take any of the two.
    session.run(["zoo", "save", str(runs[-1]), "--out", str(weights), "--overwrite"], 120)
    session.run(["zoo", "sample", f"file:{weights}", "--device", "cpu", "--out", str(weights / "samples.png")], 120)
    for name in ("metrics.csv", "config.json", "environment.json"):
        if (runs[-1] / name).is_file():
            shutil.copy(runs[-1] / name, weights / f"run-{name}")
    with tarfile.open(work / f"{method}.tar.gz", "w:gz") as archive:
        archive.add(weights, arcname=method)
    _cut(work / f"{method}.tar.gz", session.out)
    lines = (runs[-1] / "metrics.jsonl").read_text("utf-8").splitlines()
    progress = [line for line in said.splitlines() if "images/s" in line]
    return {"last record": json.loads(lines[-1]) if lines else {}, "progress": progress[-1:]}


def _cut(archive: Path, out: Path) -> None:
    """Copy a file, in pieces that `cat` joins if it is large."""
    content = archive.read_bytes()
    if len(content) <= PIECE:
        (out / archive.name).write_bytes(content)
        return
    for number, start in enumerate(range(0, len(content), PIECE)):
        (out / f"{archive.name}.{number:02d}").write_bytes(content[start : start + PIECE])


def page(report: dict[str, Any]) -> str:
    """The report for people: figures as tables, whatever went wrong in words."""
    from zoo.bench.report import markdown

    parts = [f"# {report['machine']}", f"Tests: {report.get('tests')}"]
    for bench, found in report.get("benches", {}).items():
        parts.append(f"## zoo bench {bench}")
        if not isinstance(found, dict) or not found["rows"]:
            parts.append(f"nothing was measured: {found}")
            continue
        keys = [k for k in found["rows"][0] if any(row[k] not in (None, "", {}) for row in found["rows"])]
        parts.append(markdown(keys, [[_cell(row[key]) for key in keys] for row in found["rows"]]))
    parts += [f"## {recipe}\n\n{found}" for recipe, found in report.get("trainings", {}).items()]
    return "\n\n".join(parts) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['median']:.4g} s" if "median" in value else ", ".join(f"{k} {v:.2f}" for k, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def prepared(wheels: Path | None) -> None:
    """Unpack carried packages and start again with them; end with one line if something is still missing."""
    if wheels is not None and "ZOO_GPU_SITE" not in os.environ:
        site = tempfile.mkdtemp(prefix="zoo-site-")
        files = sorted(map(str, wheels.glob("*.whl")))
        if not files:
            sys.exit(f"WHEELS={wheels}: no .whl file in it")
        install = ["pip", "install", "-q", "--no-index", "--no-deps", "--target", site, *files]
        subprocess.run([sys.executable, "-m", *install], check=True)
        path = os.pathsep.join(filter(None, [site, os.environ.get("PYTHONPATH")]))
        os.environ |= {"PYTHONPATH": path, "ZOO_GPU_SITE": site}
        os.execv(sys.executable, [sys.executable, "-m", "tests.campaigns.gpu", *sys.argv[1:]])
    if find_spec("torch") is None:
        sys.exit("torch is not here: give make a Python that has it, PYTHON=...")
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        sys.exit(f"not here: {', '.join(missing)}; carry their wheels in a folder, WHEELS=DIR")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="make gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--heads", type=int, default=12000, help="how many embedded heads are drawn to train on")
    given = parser.parse_args()
    prepared(given.wheels)
    import torch

    from zoo.bench.report import machine

    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device here; DEVICE=cpu rehearses")
    given.out.mkdir(parents=True, exist_ok=True)
    session = Session(given.out.resolve(), given.device, 60 * given.minutes, given.data, given.heads)
    session.report["machine"] = machine(given.device)
    with tempfile.TemporaryDirectory(prefix="zoo-gpu-") as work:
        for part in (
            lambda: tests(session, session.seconds / 5),
            lambda: benches(session, 2 * session.seconds / 5),
            lambda: trainings(session, Path(work)),
        ):
            part()
            # After each part: what was found is there even if the machine goes.
            (session.out / "report.json").write_text(json.dumps(session.report, indent=1), "utf-8")
            (session.out / "report.md").write_text(page(session.report), "utf-8")
    print(f"{session.out}: {', '.join(sorted(path.name for path in session.out.iterdir()))}")


if __name__ == "__main__":
    main()
