"""`import zoo; zoo.list()` stays light."""

import subprocess
import sys

HEAVY = ("torch", "lightning", "numpy", "pytorch3d", "trimesh", "PIL", "omegaconf", "yaml", "typer")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_list_imports_nothing_heavy() -> None:
    loaded = run(f"import sys, zoo; zoo.list(); print([m for m in {HEAVY} if m in sys.modules])")
    assert loaded == "[]"


def test_list_takes_little_work() -> None:
    # About 0.05 s of processor time on an idle machine; a busy one triples it. torch alone takes over a second.
    code = "import time; t = time.process_time(); import zoo; zoo.list(); print(time.process_time() - t)"
    assert min(float(run(code)) for _ in range(3)) < 0.6


def test_geometry_names_are_there_when_asked_for() -> None:
    code = "import zoo; from zoo import Camera, Light, Render; print(zoo.Camera is Camera, 'Light' in dir(zoo))"
    assert run(code) == "True True"


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert run("import zoo; print(hasattr(zoo, 'nothing'), hasattr(zoo, 'geometry'))") == "False False"


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys\nfrom zoo.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'lightning', 'numpy') if m in sys.modules])"
    )
    assert run(code).endswith("[]")
