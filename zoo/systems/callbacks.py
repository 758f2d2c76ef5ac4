"""What happens beside the training steps: logs, progress, pictures, checkpoints, the hollow-face sentinel, stopping."""

import csv
import io
import json
import logging
import math
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers.logger import Logger
from rich.progress import TextColumn
from torch import Tensor

from ..generators.base import Latents
from ..geometry import Render
from ..images import resize
from ..metrics.curvature import depth_curvature, depth_variety
from ..output.colours import show_depth, show_image, show_normal, tile
from ..runtime.files import atomic_write, naming
from ..runtime.launched import launch
from ..runtime.progress import LogLines, make_bar
from . import media
from .base import TrainingSystem
from .parts import shown
from .processes import means

log = logging.getLogger(__name__)

ALIKE = 1e-3  # variety below this is one shape for all objects; the shipped ones have 0.04 to 0.26
LEAST, MOST = 0.05, 0.95  # a cover outside of these is no object before a background


class RunLogger(Logger):
    """Appends every record to `metrics.jsonl`, the source of truth, and renders `metrics.csv` from it.

    A record averages all steps of all processes since the one before; the other loggers get the same records. Every
    process takes part, the first one writes. Scalars on a device are read when the record is written, all at once, so
    that no step waits for them. Lightning's own `self.log` is not used: it repeats the last value of quantities that
    are not there at every step.

    Args:
        folder: The folder of the run.
        every: Steps between two records.
        others: Loggers to pass the records on to.
    """

    def __init__(self, folder: Path, every: int, others: Sequence[Logger] = ()) -> None:
        super().__init__()
        self.folder, self.every, self.others = folder, every, others
        self._values: dict[str, list[float | Tensor]] = {}
        self._steps = 0

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The configuration is written as config.json when training starts."""

    def log_metrics(self, metrics: Mapping[str, float | Tensor], step: int | None = None) -> None:
        """Values of one step; `step` is the number of images seen, None for values that belong to no step."""
        for key, value in metrics.items():
            self._values.setdefault(key, []).append(value.detach() if isinstance(value, Tensor) else value)
        if step is not None:
            self._steps += 1
            if self._steps >= self.every:
                self.flush(step)

    def flush(self, images: int) -> None:
        """Write the averages of what came since the last record; all processes call it."""
        record = means(self._read())
        self._values.clear()
        self._steps = 0
        if not record or launch().rank > 0:
            return
        path = self.folder / "metrics.jsonl"
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kimg": images / 1000, **record}) + "\n")
        for other in self.others:
            other.log_metrics(record, step=images)

    def _read(self) -> dict[str, list[float]]:
        """All values as numbers, in one transfer."""
        scalars = [value for values in self._values.values() for value in values if isinstance(value, Tensor)]
        waiting = [value if value.dtype == torch.float64 else value.float() for value in scalars]
        read = iter(torch.stack(waiting).tolist() if waiting else ())
        return {
            key: [next(read) if isinstance(value, Tensor) else value for value in values]
            for key, values in self._values.items()
        }

    def forget_after(self, kimg: float) -> None:
        """Drop the records of steps that a resumed run will take again."""
        path = self.folder / "metrics.jsonl"
        if path.is_file():
            atomic_write(path, "".join(json.dumps(r) + "\n" for r in self.records() if r["kimg"] <= kimg))

    def records(self) -> list[dict[str, float]]:
        """Every record; a last line cut short by a kill is left out."""
        out = []
        for line in (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            try:
                out.append(json.loads(line))
            except json.JSONDecodeError:
                log.warning("%s: unreadable line left out", self.folder / "metrics.jsonl")
        return out

    def write_csv(self) -> None:
        """`metrics.csv` with one column per quantity."""
        if not (self.folder / "metrics.jsonl").is_file():
            return
        records = self.records()
        columns = list(dict.fromkeys(key for record in records for key in record))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(records)
        atomic_write(self.folder / "metrics.csv", text.getvalue())


class KimgProgress(L.Callback):
    """Progress in thousands of images, with images per second and the time left, both from the second step on.

    After `trainer.log_every` steps it also says which share of the time went to data, G, D and the rest.
    """

    def __init__(self, max_kimg: float) -> None:
        self.bar = make_bar(
            TextColumn("{task.completed:.1f}/{task.total:g} kimg"),
            TextColumn("{task.fields[detail]}"),
        )
        self.max_kimg = max_kimg
        self._say = LogLines(self.bar)

    def on_train_start(self, trainer: L.Trainer, pl_module: TrainingSystem) -> None:  # type: ignore[override]
        name = pl_module.run.name
        first = f"{name}: first {'step, compiling' if pl_module.compiled else 'step'}"
        self.bar.start()
        self.task = self.bar.add_task(
            first,
            total=self.max_kimg,
            completed=pl_module.kimg,  # type: ignore[arg-type]  # rich says int, and means any number
            detail="",
        )
        self._say.until_first(first)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: TrainingSystem, *_: Any) -> None:  # type: ignore[override]
        self.bar.update(self.task, completed=pl_module.kimg, description=pl_module.run.name)
        speed = next(task.speed for task in self.bar.tasks if task.id == self.task)
        said = [f"{speed * 1000:.1f} images/s"] if speed else []
        self.bar.update(self.task, detail=", ".join(said + [shown(pl_module.shares)] * bool(pl_module.shares)))
        self._say(self.task)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._say.stop()
        self.bar.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "")  # Lightning tears callbacks down only after a good end


class Every:
    """True once each time another `kimg` thousand images have passed."""

    def __init__(self, kimg: float) -> None:
        self.kimg = kimg
        self.done: int | None = None

    def __call__(self, kimg: float) -> bool:
        now = math.floor(kimg / self.kimg + 1e-9) if self.kimg > 0 else 0
        due = self.done is not None and now > self.done
        self.done = now
        return due


class Samples(L.Callback):
    """Pictures of the averaged generator from fixed latents, and the sentinels that read them.

    Columns are objects; rows are colour, depth and normals from the front, then colour from both sides. A method that
    takes photographs apart has two rows above these: the photographs, and what it makes of them. `others` are loggers
    that get the rows, and a mesh, too. The sentinels
    log `curvature`, the mean over the objects of the depth's curvature: above 0 faces stand out, below 0 they are
    pressed in; and `variety`, 0 if all objects have one shape. Methods with a background of their own also log `cover`,
    the share of the picture that objects fill, and show the backgrounds: near 1 the object is a wall on which the
    background is painted, near 0 the background has taken its place. A method that makes pictures only has one row and
    no sentinel.
    """

    def __init__(self, folder: Path, kimg: float, patience: int, others: Sequence[Logger] = (), n: int = 8) -> None:
        self.folder, self.patience, self.others, self.n = folder, patience, others, n
        self.due = Every(kimg)
        self.bad = dict.fromkeys(("hollow", "alike", "flat", "lost"), 0)  # bad readings in a row

    def on_train_start(self, trainer: L.Trainer, pl_module: TrainingSystem) -> None:  # type: ignore[override]
        self.due(pl_module.kimg)
        if trainer.is_global_zero and pl_module.kimg == 0:
            self._look(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: TrainingSystem, *_: Any) -> None:  # type: ignore[override]
        if self.due(pl_module.kimg):
            pl_module.need_finite()  # in every process; what pictures of such weights show helps nobody
            if trainer.is_global_zero:
                self._look(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.bad)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.bad = {name: int(state_dict.get(name, 0)) for name in self.bad}  # older runs lack some

    def _look(self, trainer: L.Trainer, system: TrainingSystem) -> None:
        latents = system.shown(self.n)
        if latents is None:
            return
        curvature, variety, cover = self.draw(system, latents)
        readings = {"curvature": curvature, "variety": variety, "cover": cover}
        if seen := {name: value for name, value in readings.items() if math.isfinite(value)}:
            trainer.loggers[0].log_metrics(seen)
        if math.isfinite(cover):
            fix = "restart with init=WEIGHTS of sound objects, or lower learning rates"
            self._count("flat", cover > MOST, system, "objects have been walls", f"cover {cover:.2f}", fix)
            self._count("lost", cover < LEAST, system, "backgrounds have hidden objects", f"cover {cover:.2f}", fix)
        if math.isfinite(curvature):
            fix = f"restart with {system.generator.hollow_advice or 'lower learning rates'} or another seed"
            reading = f"curvature {curvature:.3f}"
            self._count("hollow", curvature < 0, system, "the shapes have been hollow", reading, fix)
            reading, fix = f"variety {variety:.4f}", f"restart with {system.alike_advice}"
            self._count("alike", variety < ALIKE, system, "all objects have had one shape", reading, fix)

    def _count(self, name: str, bad: bool, system: TrainingSystem, what: str, reading: str, fix: str) -> None:
        """Count bad readings in a row, and say so when there are too many."""
        self.bad[name] = self.bad[name] + 1 if bad else 0
        if self.bad[name] == self.patience:
            many = f"in {self.patience} samples running"
            log.warning("%s %s (%s at %.1f kimg): %s", what, many, reading, system.kimg, fix)

    @torch.no_grad()
    def draw(self, system: TrainingSystem, latents: Latents) -> tuple[float, float, float]:
        """Write `<kimg>.png` and return mean curvature, variety and cover; NaN without depth, without a background."""
        g = system.averaged()
        size = system.stage()[0].size
        views = [g(latents, g.camera(yaw, size=size)) for yaw in ((0.0, -0.5, 0.5) if g.uses_camera else (0.0,))]
        front: Render = views[0]
        inside = torch.ones_like(front.rgb[:, :1]) > 0 if front.mask is None else front.mask > 0.5
        rows = {name: show_image(resize(images, size)) for name, images in system.beside(self.n).items()}
        rows["colour"] = show_image(front.rgb)
        if front.depth is not None:
            rows["depth"] = show_depth(front.depth, inside)
        if front.normal is not None:
            rows["normals"] = show_normal(front.normal, inside)
        if front.albedo is not None:
            rows["albedo"] = show_image(front.albedo)
        behind = g.own_maps(latents).get("background")
        if behind is not None:
            rows["background"] = show_image(resize(behind, size))
        rows |= {name: show_image(view.rgb) for name, view in zip(("left", "right"), views[1:], strict=False)}
        scale, picture = max(1, 96 // size), io.BytesIO()
        tile(list(rows.values()), scale=scale).save(picture, "PNG")
        atomic_write(self.folder / f"{system.images:09d}.png", picture.getvalue())
        strips = {name: tile([row], scale=scale) for name, row in rows.items()}
        media.show(self.others, strips, g, latents, system.images)
        if front.depth is None or front.mask is None:
            return math.nan, math.nan, math.nan
        cover = math.nan if behind is None else inside.float().mean().item()
        curvature = depth_curvature(front.depth, front.mask).nanmean().item()
        return curvature, depth_variety(front.depth, front.mask).item(), cover
