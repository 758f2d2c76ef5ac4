"""One training run from a configuration: folder, data, trainer, resume."""

import logging
import shlex
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import lightning as L
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from ..config.regimes import regime
from ..config.schemas import RunConfig, TrainerConfig
from ..data.module import FaceData
from ..errors import ConfigError, Interrupted, ZooError
from ..generators.base import Generator
from ..runtime.files import tidy
from ..runtime.lock import locked
from ..runtime.memory import keep_memory
from ..runtime.signals import Signals, Stopped
from ..weights.checkpoints import images_of
from .adversarial import AdversarialSystem
from .base import TrainingSystem
from .callbacks import KimgProgress, RunLogger, Samples
from .checkpoints import AtomicCheckpointIO, KimgCheckpoint, last_words
from .folder import prepare, run_folder, starting_point
from .held_back import HeldBack, held_back
from .processes import environment

log = logging.getLogger(__name__)


def train(
    run: RunConfig,
    initial: Generator | None = None,
    initial_discriminator: dict[str, torch.Tensor] | None = None,
    *,
    command: str | None = None,
) -> Path:
    """Train, or go on training, and return the run's folder.

    The folder holds config.json, command.txt, environment.json, metrics.jsonl and .csv, samples/*.png,
    checkpoints/*.ckpt and, if images are held back, the best weights in best/.

    Args:
        run: The configuration.
        initial: Generator whose weights to start from (fine-tuning, growing).
        initial_discriminator: State of a discriminator to start from; a smaller one is grown.
        command: What command.txt calls the way to repeat it; by default this process's command line.

    Raises:
        ConfigError: The folder holds a run already and `resume` does not say to go on with it.
        WeightsError: `resume` names a checkpoint that this run cannot go on from.
        Interrupted: A signal ended it.
        ZooError: Another process is training in this folder; a gradient or a weight is not finite.
        OSError: The disk is full; the message says what is left on it.
    """
    system_class = regime(run.system.name).load()
    if not issubclass(system_class, TrainingSystem):
        method = run.generator["name"]
        raise ConfigError(f"{method} is fitted to single pictures, not trained: zoo run {method} photo.jpg --gan NAME")
    who = environment(run.trainer)
    folder = run_folder(run)
    signals = Signals(lambda: last_words(folder / "checkpoints"))
    first = rank_zero_only.rank == 0  # type: ignore[attr-defined]  # Lightning sets it on the function
    try:
        with signals.caught(), locked(folder) if first else nullcontext():
            start = starting_point(run, folder)
            if start is not None and round(run.trainer.max_kimg * 1000) <= images_of(start):
                log.info("%s has reached %g kimg already", folder, run.trainer.max_kimg)
                if first:  # what a kill after the last checkpoint left undone
                    tidy(folder)
                    RunLogger(folder, 1).write_csv()
                return folder
            if first:
                prepare(run, folder, start, command or shlex.join(["zoo", *sys.argv[1:]]))
            keep_memory()
            if run.trainer.threads:
                torch.set_num_threads(run.trainer.threads)
            system = make_system(run, initial, initial_discriminator, fresh=start is None)
            _fit(run, system, folder, start, signals, who)
    except Stopped:
        assert signals.received is not None
        raise Interrupted(
            f"stopped by {signals.received.name}; {last_words(folder / 'checkpoints')}", signals.received
        ) from None
    except RuntimeError as error:
        if run.trainer.devices == 1 or not any(word in str(error) for word in ("gloo", "NCCL", "Connection")):
            raise
        raise ZooError(
            f"another process of this training has ended, see its own message; {last_words(folder / 'checkpoints')}"
        ) from error
    if signals.received is not None:
        raise Interrupted(
            f"stopped by {signals.received.name} at {system.kimg:g} kimg, saved; "
            "the same command with resume=auto goes on",
            signals.received,
        )
    return folder


def make_system(
    run: RunConfig,
    initial: Generator | None = None,
    initial_discriminator: dict[str, torch.Tensor] | None = None,
    fresh: bool = True,
) -> TrainingSystem:
    """The networks of a run before its first step, compiled if the run asks for it; arguments as in `train`."""
    system: TrainingSystem = regime(run.system.name).load()(run, initial, fresh=fresh)
    if initial_discriminator is not None and isinstance(system, AdversarialSystem):
        system.start_discriminator(initial_discriminator)
    twice = getattr(run.system, "path_length", 0) > 0  # compiled code has no second derivatives
    if run.trainer.compile == "always" or (run.trainer.compile == "auto" and can_compile(run.trainer) and not twice):
        system.generator.compile_field()
        system.compiled = True
    return system


def _fit(
    run: RunConfig,
    system: TrainingSystem,
    folder: Path,
    start: Path | None,
    signals: Signals,
    who: ClusterEnvironment | None,
) -> None:
    data = FaceData(run.data, system.batch_at)
    judged = [HeldBack(folder, run, held_back(run, data))] if run.trainer.patience else []
    others = _extra_loggers(run, folder)
    logger = RunLogger(folder, run.trainer.log_every, others)
    if start is not None:
        logger.forget_after(images_of(start) / 1000)
        log.info("going on from %s", start)
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
        plugins=[AtomicCheckpointIO(), *([who] if who else [])],
        callbacks=[
            KimgProgress(run.trainer.max_kimg),  # first: drawing the first samples compiles
            Samples(folder / "samples", run.trainer.sample_kimg, run.system.hollow_patience, others),
            *judged,
            # Last, so that what the others found is saved.
            KimgCheckpoint(folder / "checkpoints", run.trainer, logger, signals),
        ],
    )
    trainer.fit(system, datamodule=data, ckpt_path=str(start) if start else None, weights_only=True)


def can_compile(trainer: TrainerConfig) -> bool:
    """Whether torch.compile has what it needs: a GPU, and a compiler. On a CPU fields have kernels of their own."""
    on_gpu = trainer.accelerator != "cpu" and torch.cuda.is_available()
    return on_gpu and any(shutil.which(name) for name in ("c++", "g++", "clang++"))


def _extra_loggers(run: RunConfig, folder: Path) -> list[Logger]:
    out: list[Logger] = []
    for name in run.trainer.loggers:
        if name == "tensorboard":
            out.append(TensorBoardLogger(folder, name="", version="tensorboard"))
        elif run.trainer.wandb_mode != "disabled":
            from lightning.pytorch.loggers import WandbLogger

            digits = folder.name.rpartition("-")[2]  # the same run there, too, when it goes on
            offline = run.trainer.wandb_mode != "online"
            out.append(WandbLogger(name=folder.name, id=digits, resume="allow", save_dir=folder, offline=offline))
    return out
