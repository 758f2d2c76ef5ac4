"""One training run from a configuration: folder, data, trainer, resume."""

import json
import logging
import platform
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from .. import registry
from ..config.fill import fingerprint, to_dict
from ..config.regimes import regime
from ..config.schemas import RunConfig
from ..data.module import FaceData
from ..errors import ConfigError, Interrupted, WeightsError
from ..generators.base import Generator
from ..runtime.files import atomic_write
from ..runtime.memory import keep_memory
from ..weights.checkpoints import checkpoints, images_of, latest
from .adversarial import AdversarialSystem
from .base import TrainingSystem
from .callbacks import KimgProgress, RunLogger, Samples
from .checkpoints import AtomicCheckpointIO, KimgCheckpoint

log = logging.getLogger(__name__)


def run_folder(run: RunConfig) -> Path:
    """`<out>/<name>-<8 hex digits>`: the same experiment always has the same folder, however long it trains."""
    own = to_dict(registry.resolve(run.generator["name"]).Config())
    plain = to_dict(RunConfig(generator=own, system=type(run.system)()))
    departs = _departures(to_dict(run), plain)
    what = {k: departs.get(k) for k in ("seed", "init", "generator", "data", "system")}
    for how in ("workers", "cache", "on_error"):
        (what["data"] or {}).pop(how, None)
    return Path(run.out) / f"{run.name}-{fingerprint(what)}"


def _departures(values: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """What differs from the defaults.

    So a setting that a later version adds does not rename the runs of an earlier one.
    """
    out = {}
    for key, value in values.items():
        default = plain.get(key)
        if isinstance(value, dict) and isinstance(default, dict):
            value, default = _departures(value, default), {}
        if value != default:
            out[key] = value
    return out


def train(
    run: RunConfig,
    initial: Generator | None = None,
    initial_discriminator: dict[str, torch.Tensor] | None = None,
    *,
    command: str | None = None,
) -> Path:
    """Train, or go on training, and return the run's folder.

    The folder holds config.json, command.txt, environment.json, metrics.jsonl and .csv, samples/*.png and
    checkpoints/*.ckpt.

    Args:
        run: the configuration.
        initial: generator whose weights to start from (fine-tuning, growing).
        initial_discriminator: state of a discriminator to start from; a smaller one is grown.
        command: what command.txt calls the way to repeat it; by default this process's command line.

    Raises:
        ConfigError: the folder holds a run already and `resume` does not say to go on with it.
    """
    system_class = regime(run.system.name).load()
    if not issubclass(system_class, TrainingSystem):
        method = run.generator["name"]
        raise ConfigError(f"{method} is fitted to single pictures, not trained: zoo run {method} photo.jpg --gan NAME")
    folder = run_folder(run)
    start = _starting_point(run, folder)
    if start is not None and round(run.trainer.max_kimg * 1000) <= images_of(start):
        log.info("%s has reached %g kimg already", folder, run.trainer.max_kimg)
        return folder
    keep_memory()
    if run.trainer.threads:
        torch.set_num_threads(run.trainer.threads)
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]  # Lightning sets it on the function
        _describe(run, folder, command or shlex.join(["zoo", *sys.argv[1:]]))

    if start is None:
        (folder / "metrics.jsonl").unlink(missing_ok=True)  # of a run that ended before its first checkpoint
    for later in checkpoints(folder / "checkpoints"):
        if start is not None and images_of(later) > images_of(start):
            later.rename(later.with_suffix(".stale"))  # damaged, or of a branch that is now given up
    system = system_class(run, initial, fresh=start is None)
    if initial_discriminator is not None and isinstance(system, AdversarialSystem):
        system.start_discriminator(initial_discriminator)
    twice = getattr(run.system, "path_length", 0) > 0  # compiled code has no second derivatives
    if run.trainer.compile == "always" or (run.trainer.compile == "auto" and can_compile() and not twice):
        system.generator.compile_field()
    data = FaceData(run.data, system.batch_at)
    others = _extra_loggers(run, folder)
    logger = RunLogger(folder, run.trainer.log_every, others)
    if start is not None:
        logger.forget_after(images_of(start) / 1000)
        log.info("going on from %s", start)
    saver = KimgCheckpoint(folder / "checkpoints", run.trainer, logger)
    trainer = L.Trainer(
        accelerator=run.trainer.accelerator,
        devices=run.trainer.devices,
        strategy="ddp_find_unused_parameters_true" if run.trainer.devices > 1 else "auto",
        precision=run.trainer.precision,  # type: ignore[arg-type]
        max_epochs=-1,
        logger=[logger, *others],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        plugins=[AtomicCheckpointIO()],
        callbacks=[
            Samples(folder / "samples", run.trainer.sample_kimg, run.system.hollow_patience),
            saver,
            KimgProgress(run.trainer.max_kimg),
        ],
    )
    with saver.catching_signals():
        trainer.fit(system, datamodule=data, ckpt_path=str(start) if start else None, weights_only=True)
    if saver.stopped_by is not None:
        raise Interrupted(
            f"stopped by {saver.stopped_by.name} at {system.kimg:g} kimg, saved; "
            "the same command with resume=auto goes on",
            saver.stopped_by,
        )
    return folder


def can_compile() -> bool:
    """Whether torch.compile has what it needs: a C++ compiler, or a GPU."""
    return torch.cuda.is_available() or any(shutil.which(name) for name in ("c++", "g++", "clang++"))


def _starting_point(run: RunConfig, folder: Path) -> Path | None:
    if run.resume == "auto":
        for stale in (folder / "checkpoints").glob(".*.tmp"):
            stale.unlink(missing_ok=True)  # left behind by a kill in the middle of a write
        found = latest(folder / "checkpoints")
        if found is None:
            log.info("nothing to resume in %s: starting at 0", folder)
        return found
    if run.resume != "never":
        path = Path(run.resume)
        if not path.is_file():
            raise WeightsError(f"resume={run.resume}: no such checkpoint; use resume=auto for the newest of {folder}")
        return path
    if checkpoints(folder / "checkpoints"):
        raise ConfigError(f"{folder} holds this run already: add resume=auto to go on, or out=DIR to start elsewhere")
    return None


def _describe(run: RunConfig, folder: Path, command: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "lightning": L.__version__}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu"
    atomic_write(folder / "config.json", json.dumps(to_dict(run), indent=2))
    atomic_write(folder / "environment.json", json.dumps({**versions, "device": device}, indent=2))
    with (folder / "command.txt").open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(command + "\n")


def _extra_loggers(run: RunConfig, folder: Path) -> list[Logger]:
    out: list[Logger] = []
    for name in run.trainer.loggers:
        if name == "tensorboard":
            out.append(TensorBoardLogger(folder, name="", version="tensorboard"))
        elif name == "wandb":
            from lightning.pytorch.loggers import WandbLogger

            out.append(WandbLogger(name=folder.name, save_dir=folder, offline=run.trainer.wandb_mode != "online"))
        else:
            raise ConfigError(f"trainer.loggers: unknown logger {name!r}; known: tensorboard, wandb")
    return out
