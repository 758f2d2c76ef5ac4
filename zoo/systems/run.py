"""One training run from a configuration: folder, data, trainer, resume."""

import logging
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from ..config.regimes import regime
from ..config.schemas import RunConfig, TrainerConfig
from ..data.module import FaceData
from ..errors import ConfigError, Interrupted, ZooError
from ..generators.base import Generator
from ..runtime.files import tidy
from ..runtime.launched import restarted
from ..runtime.lock import locked
from ..runtime.memory import keep_memory
from ..runtime.quiet import quiet
from ..runtime.signals import Signals, Stopped
from ..runtime.workers import accelerator_of
from ..weights.checkpoints import checkpoints, images_of
from .adversarial import AdversarialSystem
from .base import TrainingSystem
from .callbacks import KimgProgress, RunLogger, Samples
from .checkpoints import AtomicCheckpointIO, KimgCheckpoint, last_words
from .folder import prepare, run_folder, starting_point
from .processes import Processes, gathered, processes
from .stopping.held_back import HeldBack, held_back
from .watch import Watch

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
    team = processes(run.trainer)
    folder = run_folder(run)
    if restarted() and checkpoints(folder / "checkpoints"):  # the same job goes on
        run = replace(run, resume="auto")
    signals = Signals(lambda: last_words(folder / "checkpoints"))
    first = team.rank == 0
    try:
        with signals.caught(), quiet(), locked(folder) if first else nullcontext():
            start = starting_point(run, folder)
            if start is not None and round(run.trainer.max_kimg * 1000) <= images_of(start):
                log.info("%s has reached %g kimg already", folder, run.trainer.max_kimg)
                if first:  # what a kill after the last checkpoint left undone
                    tidy(folder)
                    RunLogger(folder, 1).write_csv()
                return folder
            keep_memory()
            if run.trainer.threads:
                torch.set_num_threads(run.trainer.threads)
            system = make_system(run, initial, initial_discriminator, fresh=start is None)
            _fit(run, system, folder, start, signals, team, command or shlex.join(["zoo", *sys.argv[1:]]))
    except Stopped:
        assert signals.received is not None
        if not first:
            raise SystemExit(128 + signals.received) from None
        raise Interrupted(
            f"stopped by {signals.received.name}; {last_words(folder / 'checkpoints')}", signals.received
        ) from None
    if signals.received is not None:
        if not first:  # the first process says it
            raise SystemExit(128 + signals.received)
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
    team: Processes,
    command: str,
) -> None:
    data = FaceData(run.data, system.batch_at)
    judged = [HeldBack(folder, run, held_back(run, data))] if run.trainer.patience else []
    others = _extra_loggers(run, folder)
    logger = RunLogger(folder, run.trainer.log_every, others)

    def begin() -> None:
        prepare(run, folder, start, command)
        if start is not None:
            logger.forget_after(images_of(start) / 1000)
            log.info("going on from %s", start)

    trainer = L.Trainer(
        accelerator=accelerator_of(run.trainer.accelerator),
        devices=team.devices,
        num_nodes=team.nodes,
        # A step of D leaves out G's parameters, and the other way round. Buffers are the same everywhere by themselves.
        strategy=DDPStrategy(find_unused_parameters=True, broadcast_buffers=False) if team.world > 1 else "auto",
        precision=run.trainer.precision,  # type: ignore[arg-type]
        max_epochs=-1,
        logger=[logger, *others],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        plugins=[AtomicCheckpointIO(), team.environment],
        callbacks=[
            _SameStart(start),
            _Begin(begin),
            KimgProgress(run.trainer.max_kimg),  # first: drawing the first samples compiles
            Samples(folder / "samples", run.trainer.sample_kimg, run.system.hollow_patience, others),
            *judged,
            # Last, so that what the others found is saved.
            KimgCheckpoint(folder / "checkpoints", run.trainer, logger, signals),
        ],
    )
    watch = Watch(trainer, team, lambda: last_words(folder / "checkpoints"))
    try:
        with watch.looking():
            trainer.fit(system, datamodule=data, ckpt_path=str(start) if start else None, weights_only=True)
    except RuntimeError as error:
        if team.world == 1 or not any(word in str(error) for word in ("gloo", "NCCL", "Connection")):
            raise
        raise ZooError(watch.gone()) from error


class _SameStart(L.Callback):
    """Refuses processes that do not go on from the same number of images. Raises ZooError."""

    def __init__(self, start: Path | None) -> None:
        self.images = 0 if start is None else images_of(start)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Compare, before anything is read."""
        if len(set(found := gathered(self.images))) > 1:
            fix = "out= must be a folder that all machines see, in the same state"
            raise ZooError(f"processes would start from {found} images: {fix}")


class _Begin(L.Callback):
    """Has the first process begin what changes the folder once all have read the checkpoint, and found that it fits."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self.begin = begin

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.begin()


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
