"""Running GAN2Shape's plan: step after step, what is kept between them, and how good the shape is so far."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..errors import Interrupted, WeightsError, ZooError
from ..geometry import Camera, depth_to_normal
from ..metrics import evaluation_mask
from ..metrics.depth import angle_per_image, side_per_image
from ..runtime.files import atomic_write
from ..runtime.quiet import quiet, quiet_trainer
from ..runtime.signals import interruptible
from ..weights.checkpoints import not_finite, read_plain
from .steps import Drawings, InstanceSystem, Step
from .subject import Subject, digest

Advance = Callable[[Step], None]
_SHAPING = ("shape", "joint")  # steps that change the depth


@dataclass
class Progress:
    """How far a fit is.

    Attributes:
        records: One entry for each finished step: stage, step, iterations, seconds, loss; where a stage ends and the
            true depth is known, also SIDE (in units of 1e-2) and MAD (degrees), means over the subjects.
        depths: Depth (N,1,S,S) after each stage, the initial shape first, in the view of the photographs.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    depths: list[Tensor] = field(default_factory=list)

    def scores(self) -> list[dict[str, Any]]:
        """The entries with SIDE and MAD."""
        return [record for record in self.records if "SIDE" in record]

    def of(self, subjects: list[Subject], row: int, fov: float) -> "Progress":
        """The part of one subject: its own SIDE, MAD and depths, and its share of the time."""
        depths, records = [depth[row : row + 1] for depth in self.depths], []
        unscored = iter(depths)
        for record in self.records:
            own = score([subjects[row]], next(unscored), fov) if record["step"] in _SHAPING else {}
            records.append(record | {"seconds": round(record["seconds"] / len(subjects), 2)} | own)
        return Progress(records, depths)


def fit(system: InstanceSystem, subjects: list[Subject], state: Path, advance: Advance = lambda step: None) -> Progress:
    """Run the steps of the plan that are not done yet; several subjects share one set of networks.

    Args:
        system: With its GAN.
        subjects: One (instance mode), or several (joint mode).
        state: File that is written after each step, and read first if it exists.
        advance: Called after each iteration.

    Raises:
        Interrupted: Ctrl-C; the finished steps are in `state`.
        WeightsError: `state` is damaged or belongs to another fit.
        ZooError: A gradient is not finite.
    """
    system.subjects = subjects
    progress = _load(system, state) if state.is_file() else Progress()
    for step in system.plan()[len(progress.records) :]:
        start = time.perf_counter()
        system.now, system.advance = step, advance
        _train(system, step.iterations)
        record = {"stage": step.stage, "step": step.kind, "iterations": step.iterations}
        record |= {"seconds": round(time.perf_counter() - start, 2), "loss": system.last_loss.item()}
        if step.kind in _SHAPING:
            progress.depths.append(system.generator.predict_depth(torch.cat([s.image for s in subjects])))
            record |= score(subjects, progress.depths[-1], system.run.data.scene.fov)
        progress.records.append(record)
        _save(system, progress, state)
    return progress


def _train(system: InstanceSystem, iterations: int) -> None:
    if not iterations:
        return
    try:
        with quiet(), interruptible():
            trainer = quiet_trainer(system.run.trainer.accelerator, max_epochs=1)
            trainer.fit(system, DataLoader(range(iterations)))  # type: ignore[arg-type]
    except KeyboardInterrupt:
        raise Interrupted("stopped; the same command goes on from the last finished step", SIGINT) from None


def score(subjects: list[Subject], depth: Tensor, fov: float) -> dict[str, float]:
    """SIDE in units of 1e-2 and MAD in degrees of depth (N,1,S,S), as `heads-v1` has them; empty without true depth."""
    if any(subject.depth is None for subject in subjects):
        return {}
    truth = torch.cat([s.depth for s in subjects if s.depth is not None])
    mask = evaluation_mask(torch.cat([s.inside for s in subjects if s.inside is not None]))
    camera = Camera.orbit(fov=fov, size=depth.shape[-1])
    angle = angle_per_image(depth_to_normal(depth, camera), depth_to_normal(truth, camera), mask)
    return {"SIDE": 100 * side_per_image(depth, truth, mask).mean().item(), "MAD": angle.mean().item()}


def _save(system: InstanceSystem, progress: Progress, state: Path) -> None:
    file = io.BytesIO()
    content = {
        "pictures": [digest(subject.image) for subject in system.subjects],
        "records": progress.records,
        "depths": progress.depths,
        "weights": system.generator.state_dict(),
        "drawings": [(d.image, d.mask) for d in system.drawings],
    }
    if bad := not_finite({"state_dict": content}):
        raise ZooError(f"{bad} is not finite: {state} is not written; lower learning rates (system.lr_joint, ...)")
    torch.save(content, file)
    atomic_write(state, file.getvalue())


def _load(system: InstanceSystem, state: Path) -> Progress:
    try:
        content, pictures = read_plain(state), [digest(subject.image) for subject in system.subjects]
        if content.get("pictures", pictures) != pictures:  # earlier versions did not note them
            raise ValueError("it belongs to other pictures")
        system.generator.load_state_dict(content["weights"])
        system.drawings = [Drawings(image, mask) for image, mask in content["drawings"]]
        return Progress(content["records"], content["depths"])
    except Exception as error:  # another kind of file, other networks
        reason, fix = " ".join(str(error).split())[:200], "use another --out, or delete it to start again"
        raise WeightsError(f"{state}: cannot go on from it ({reason}); {fix}") from None
