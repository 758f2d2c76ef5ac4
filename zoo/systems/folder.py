"""The folder of a training run: its name, what is in it when a run starts, which checkpoint the run goes on from."""

import json
import logging
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch

from .. import registry
from ..config.fill import departures, fingerprint, to_dict
from ..config.schemas import RunConfig
from ..errors import ConfigError, WeightsError
from ..resources import user_path
from ..runtime.files import atomic_write, naming, printable, tidy
from ..runtime.machine import processor
from ..runtime.packages import commit
from ..version import __version__
from ..weights.checkpoints import checkpoints, digest_file, images_of, latest
from ..weights.places import newest

log = logging.getLogger(__name__)

_SAME = ("seed", "init", "generator", "data", "system")  # what makes two runs the same experiment
_HOW = ("workers", "cache", "on_error")  # of data: not what is learned, but how it is read


def run_folder(run: RunConfig) -> Path:
    """`<out>/<name>-<8 hex digits>`: the same experiment always has the same folder, however long it trains.

    Raises:
        ConfigError: `out` is no usable path.
    """
    own = to_dict(registry.resolve(run.generator["name"]).Config())
    plain = to_dict(RunConfig(generator=own, system=type(run.system)()))
    departs = departures(to_dict(run), plain)
    what = {k: departs.get(k) for k in _SAME}
    for how in _HOW:
        (what["data"] or {}).pop(how, None)
    return user_path(run.out, ConfigError, "out=") / f"{run.name}-{fingerprint(what)}"


def differences(there: Any, here: Any, key: str = "") -> Iterator[str]:
    """Settings that two configurations do not share: `system.betas ([0, 0.9] there, [0, 0.99] here)`."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in dict.fromkeys([*there, *here]):
            if name in there and name in here:  # settings that came or went with a version are no difference
                yield from differences(there[name], here[name], f"{key}.{name}" if key else str(name))
    elif there != here:
        yield printable(f"{key} ({_short(there)} there, {_short(here)} here)")


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def starting_point(run: RunConfig, folder: Path) -> Path | None:
    """The checkpoint to go on from; None: start at 0.

    Raises:
        ConfigError: The folder holds a run already and `resume` does not say to go on with it.
        WeightsError: `resume` is the path of nothing that can be resumed.
    """
    if run.resume == "auto":
        found = latest(folder / "checkpoints")
        if found is None:
            log.info("nothing to resume in %s: starting at 0%s", folder, _nearest(run, folder))
        return found
    if run.resume != "never":
        path = newest(user_path(run.resume, WeightsError, "resume="))
        if not path.is_file():
            raise WeightsError(f"resume={run.resume}: no such checkpoint; use resume=auto for the newest of {folder}")
        return path
    if checkpoints(folder / "checkpoints"):
        raise ConfigError(f"{folder} holds this run already: add resume=auto to go on, or out=DIR to start elsewhere")
    return None


def _nearest(run: RunConfig, folder: Path) -> str:
    """Which run of the same name is not continued, and why; empty if there is none."""
    here, others = to_dict(run), []
    for other in folder.parent.glob("*-????????"):
        if other != folder and other.name[:-9] == folder.name[:-9] and checkpoints(other / "checkpoints"):
            try:
                there = json.loads((other / "config.json").read_text("utf-8"))
                what = [d for key in _SAME for d in differences(there.get(key), here[key], key)]
            except (OSError, ValueError, AttributeError, RecursionError):
                continue  # of another kind or damaged: nothing to compare with
            what = [d for d in what if not d.startswith(tuple(f"data.{how} " for how in _HOW))]
            others.append((len(what), -images_of(checkpoints(other / "checkpoints")[-1]), str(other), what))
    if not others:
        return ""
    _, images, place, what = min(others)
    more = f" and {len(what) - 3} more" if len(what) > 3 else ""
    return (
        f". {place} (at {-images / 1000:g} kimg) is another experiment: {'; '.join(what[:3])}{more}. "
        f"To go on from it with the new settings: resume={place}"
    )


def prepare(run: RunConfig, folder: Path, start: Path | None, command: str) -> None:
    """Write what describes the run and put away what an earlier one left behind.

    The caller holds the folder's lock, and has read `start`: a mistyped `resume` must not cost the run that is there.
    """
    tidy(folder)
    saved = folder / "checkpoints"
    for digest in saved.glob("images*.ckpt.sha256"):
        if not digest.with_suffix("").exists():
            digest.unlink()
    given_up = [path for path in checkpoints(saved) if start is None or images_of(path) > images_of(start)]
    for later in given_up:
        # Damaged, or of a branch that is now given up; it goes when this one has a checkpoint.
        later.rename(later.with_suffix(".stale"))
        digest_file(later).unlink(missing_ok=True)
    records = folder / "metrics.jsonl"
    if start is None and given_up and records.exists():
        records.rename(records.with_suffix(".stale"))  # all that is left of a run whose checkpoints are damaged
    elif start is None:
        records.unlink(missing_ok=True)  # of a run that ended before its first checkpoint
    versions = {
        "zoo": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": L.__version__,
    }
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    threads = run.trainer.threads or torch.get_num_threads()
    atomic_write(folder / "config.json", json.dumps(to_dict(run), indent=2))
    atomic_write(folder / "environment.json", json.dumps({**versions, "device": device, "threads": threads}, indent=2))
    path = folder / "command.txt"
    with naming(path), path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(command + "\n")
