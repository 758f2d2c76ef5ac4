"""Packages of others that are installed and do not work: which one it is, and the fix; and which commit ours is of."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

_WITH_TORCH = ("torchvision", "torchaudio", "torchtext")  # each release works with one of torch; zoo needs none of them
_OURS = ("zoo", "__main__", "")


def culprit(error: BaseException) -> str | None:
    """The package whose import ended in an error, as pip names it; None if the error has another reason.

    It is that of the innermost module that was being run for the first time, or the one that was not found. A
    torchvision that does not fit torch raises somewhere in torch, and only after torchmetrics has asked for it.
    """
    for problem in reversed(list(_chain(error))):
        top = _missing(problem) or next(reversed(list(_running(problem))), "")
        if top not in _OURS:
            return next(iter(packages_distributions().get(top, [])), top)
    return None


def commit() -> str:
    """The commit of a source checkout, and whether files differ from it; empty for an installed package."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def repair(package: str) -> str:
    """The command that mends a package."""
    if package not in _WITH_TORCH:
        return f"pip install --force-reinstall {package}"
    try:
        release = f"torch {version('torch').partition('+')[0]}"
    except PackageNotFoundError:
        release = "your torch"
    return f"pip uninstall {package} (zoo does not need it), or install the one made for {release}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, the one that it came from, and so on."""
    for _ in range(20):
        if error is None:
            return
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _missing(error: BaseException) -> str:
    """The package that was not found, if it is not there at all."""
    top = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return top if top not in _OURS and top not in sys.modules and find_spec(top) is None else ""


def _running(error: BaseException) -> Iterator[str]:
    """Packages whose modules were being run for the first time, the outermost first."""
    trace = error.__traceback__
    while trace is not None:
        top = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if trace.tb_frame.f_code.co_name == "<module>" and top not in sys.stdlib_module_names:
            yield top
        trace = trace.tb_next
