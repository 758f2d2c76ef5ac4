"""`zoo run`: a method fitted to each of the given pictures, and everything that is written about it.

Each picture has a folder of its own, whose files are written when they are complete, the result last. So the same
command goes on where it was stopped: what has a result is skipped, and a fit goes on from its last finished step.
"""

import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import hub, registry
from ..config import recipes
from ..config.fill import merge, to_dict
from ..config.schemas import InstanceConfig, RunConfig
from ..config.untrusted import from_json
from ..errors import ConfigError, Interrupted, ZooError
from ..generators.base import DepthPredictor, Generator, Latents, PictureGAN
from ..output.colours import show_image, tile, to_pil
from ..output.films import film
from ..output.sheets import save_png
from ..output.turning import glb
from ..renderers.depthmaps.obj import MATERIAL, obj_text
from ..runtime.files import atomic_write, tidy
from ..runtime.jobs import Died, Tell, side_by_side, threads_for
from ..runtime.lock import locked
from ..runtime.memory import keep_memory
from ..runtime.signals import Signals, Stopped
from ..runtime.workers import accelerator_of
from ..systems.start import matching, pair
from .fit import Progress, fit
from .gallery import write_index, write_object
from .runs import DEPTHS, LATENT, RESULT, SETTINGS, WEIGHTS, read_subject
from .steps import InstanceSystem, Step
from .subject import Subject, digest
from .subjects import SHAPES, Photograph, photographs, prepare
from .views import Fitted, sheets

STATE = "state.pt"
JOINT = "joint"  # folder of what several pictures share
FRAMES, FPS = 60, 20
PATIENCE = 30.0  # seconds for others to let go of the folder
GOES_ON = "the same command goes on from the last finished step"


@dataclass(frozen=True)
class Job:
    """What all pictures of a run have in common.

    Attributes:
        run: The configuration.
        gan: Frozen, on `device`.
        discriminator: State of the one trained beside it.
        out: Folder of the run.
        device: Where all networks lie.
        notes: What pictures and films say of themselves.
        joint: One set of networks for all pictures.
        initial: Fitted networks that every fit starts from; None: untrained ones.
    """

    run: RunConfig
    gan: PictureGAN
    discriminator: dict[str, Tensor] | None
    out: Path
    device: torch.device
    notes: Mapping[str, str]
    joint: bool = False
    initial: Generator | None = None

    @property
    def cfg(self) -> InstanceConfig:
        """How the fit goes."""
        assert isinstance(self.run.system, InstanceConfig)
        return self.run.system

    def system(self) -> InstanceSystem:
        """The networks as they are before a fit."""
        return InstanceSystem(self.run, self.gan, self.discriminator, self.initial)


def open_job(
    recipe: str, overrides: Sequence[str], gan: str, out: Path, notes: Mapping[str, str], *, joint: bool = False
) -> Job:
    """Read configuration and GAN.

    Args:
        recipe: A recipe, or a method, which takes the recipe of the GAN's tag, with its size or without, if there is
            one: gan2shape with stylegan2.heads64 is gan2shape_heads64, with mobilestylegan.ffhq256 gan2shape_ffhq.
        overrides: Other values for settings of the recipe.
        gan: What `hub.load` takes.
        out, notes, joint: See `Job`.

    Raises:
        ConfigError: Unknown names; a GAN that is none; a GPU that is not there; a folder of a run with other settings.
        WeightsError: See `hub.load`; `init` names weights of another architecture.
    """
    network, discriminator = pair(gan)
    if not isinstance(network, PictureGAN):
        raise ConfigError(f"gan={gan}: a 2D GAN is needed, e.g. stylegan2.heads64")
    run = recipes.load_run(_recipe_for(recipe, network.name.partition(".")[2]), overrides)
    if not isinstance(run.system, InstanceConfig):
        raise ConfigError(f"{recipe} is not fitted to single pictures: train it with zoo train {recipe}")
    device = torch.device(accelerator_of(run.trainer.accelerator))
    if device.type == "cuda" and not torch.cuda.is_available():
        fix = "leave it out, or see zoo doctor"
        raise ConfigError(f"trainer.accelerator={run.trainer.accelerator}: not on this machine; {fix}")
    if run.init and run.system.shape != "ellipsoid":
        fix = f"init={run.init} has a shape already; add init=null"
        raise ConfigError(f"system.shape={run.system.shape}: {fix}")
    run.generator["offset_dim"] = network.config.z_dim
    initial = matching(run)[0] if run.init else None
    settings = {"generator": run.generator, "system": to_dict(run.system), "seed": run.seed, "init": run.init}
    own = to_dict(registry.resolve(run.generator["name"]).Config())
    defaults = {"generator": own, "system": to_dict(type(run.system)())}
    _settle(out, settings | {"gan": gan, "joint": joint}, defaults)
    if run.trainer.threads:
        torch.set_num_threads(run.trainer.threads)
    return Job(run, network.to(device), discriminator, out, device, notes, joint, initial)


def _recipe_for(method: str, tag: str) -> str:
    """The recipe of a method for GANs with this tag; what was given, if there is none or it is a recipe."""
    tagged = [f"{method}_{tag}", f"{method}_{tag.rstrip('0123456789')}"] if method in registry.names() else []
    return next((name for name in tagged if name in recipes.names()), method)


def _settle(out: Path, settings: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Note the settings, or compare them with those of the folder. Shards begin at one moment, and wait their turn."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with locked(out):
                return _same_run(out, settings, defaults)
        except ConfigError:
            raise
        except ZooError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _filled(path: Path, defaults: dict[str, Any]) -> Any:
    """The settings of a run that is there, and for what its version did not know yet, the defaults."""
    try:
        found = from_json(path.read_text("utf-8"), path.name)
    except (ValueError, ConfigError):
        return None
    return merge(json.loads(json.dumps(defaults, default=str)), found) if isinstance(found, dict) else None


def _same_run(out: Path, settings: dict[str, Any], defaults: dict[str, Any]) -> None:
    path, text = out / SETTINGS, json.dumps(settings, indent=2, default=str)
    if path.is_file() and _filled(path, defaults) != json.loads(text):
        raise ConfigError(f"{out} holds a run with other settings ({SETTINGS}); use another folder, or delete it")
    atomic_write(path, text)


def run_all(
    job: Job,
    source: str,
    *,
    align: bool | None = False,
    psi: float = 0.7,
    part: slice = slice(None),
    jobs: int = 1,
    advance: Tell = lambda what, share: None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Fit to all pictures of a source and write everything about them; see `photographs` for the arguments.

    Several processes, also on several machines, may work in one folder: each picture has a lock of its own.

    Args:
        part: Picks some of the pictures by their places, for others to fit to the rest.
        jobs: Number of processes that fit to pictures side by side. Each uses `trainer.threads` CPU threads, by default
            an even share.
        advance: Called with what is being done and the finished share of the whole, if `jobs` is 1.
        progress: Show progress lines, if `jobs` is above 1.

    Returns:
        One result for each picture, as in its `result.json`.

    Raises:
        Interrupted: Ctrl-C or another signal; finished pictures and steps are kept.
        ConfigError: A joint fit was asked for in parts.
        ZooError: Another process is writing to a picture's folder, or one died; see the functions that this one calls.
    """
    if job.joint and (jobs > 1 or part != slice(None)):
        raise ConfigError("one set of networks for all pictures is fitted by one process: leave out --jobs and --shard")
    signals = Signals(lambda: GOES_ON)
    try:
        with signals.caught():
            own, data = job.run.generator, job.run.data
            root, whole = data.root if data.name == "synface" else None, bool(own["gan_crop"])
            pictures = photographs(
                source, job.gan, own["size"], align=align, psi=psi, root=root, whole=whole, mask=job.cfg.mask, part=part
            )
            keep_memory()
            return _run_pictures(job, pictures, jobs, advance, progress=progress)
    except Stopped:
        assert signals.received is not None
        raise Interrupted(f"stopped by {signals.received.name}; {GOES_ON}", signals.received) from None


def _run_pictures(
    job: Job, pictures: list[Photograph], jobs: int, advance: Tell, *, progress: bool
) -> list[dict[str, Any]]:
    groups = [pictures] if job.joint else [[picture] for picture in pictures]
    names = [f"{len(group)} pictures" if job.joint else group[0].name for group in groups if group]
    work, results, page, lost = _Fit(job), dict[str, list[dict[str, Any]]](), _Index(job), ""
    missing = {}
    for name, group in zip(names, groups, strict=False):
        if found := _results(job, group):
            results[name] = found
            advance(f"{name}: done before", len(results) / len(groups))
        else:
            missing[name] = group
    if jobs > 1:
        threads = job.run.trainer.threads or threads_for(jobs)
        with closing(side_by_side(_Tried(work), missing, jobs, threads, progress=progress)) as fitted:
            for name, found in fitted:
                if isinstance(found, Died):
                    lost = lost or f"{name}: {found.why}; {GOES_ON}"
                    continue
                if isinstance(found, ZooError):
                    lost = lost or f"{name}: {str(found).removeprefix(f'{name}: ')}"
                    continue
                results[name] = found
                page.write()
    else:
        for name, group in missing.items():
            before = len(results)

            def told(what: str, share: float, name: str = name, before: int = before) -> None:
                advance(f"{name} ({before + 1}/{len(groups)}): {what}", (before + share) / len(groups))

            results[name] = work(group, told)
            page.write()
    page.write()
    if lost:
        raise ZooError(lost)
    return [result for name in names for result in results[name]]


class _Index:
    """The page that lists whatever is finished in the folder, also by other processes."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.known: dict[str, Any] = {}

    def write(self) -> None:
        # Whoever writes last looks again after that, so it lists all, in whatever order several processes came here.
        while self._read() or not (self.job.out / "index.html").exists():
            results = [self.known[name] for name in sorted(self.known)]
            write_index(self.job.out / "index.html", results, self.job.notes.get("command", ""))

    def _read(self) -> bool:
        """Whether there is anything new."""
        paths = [path for path in self.job.out.glob(f"*/{RESULT}") if path.parent.name not in self.known]
        for path in paths:
            with suppress(ValueError):  # of somebody else
                self.known[path.parent.name] = json.loads(path.read_text("utf-8"))
        return any(path.parent.name in self.known for path in paths)


def _results(job: Job, group: list[Photograph]) -> list[dict[str, Any]]:
    """What was reached before; empty if a picture has no result yet."""
    folders = [job.out / photo.name for photo in group]
    if not all((folder / RESULT).is_file() for folder in folders):
        return []
    for photo, folder in zip(group, folders, strict=True):
        _known(photo, folder)
    return [json.loads((folder / RESULT).read_text("utf-8")) for folder in folders]


@dataclass(frozen=True)
class _Fit:
    """What a process needs to know to fit to a picture, or to several at once."""

    job: Job

    def __call__(self, group: list[Photograph], advance: Tell) -> list[dict[str, Any]]:
        shared = self.job.out / (JOINT if self.job.joint else group[0].name)
        with locked(shared):
            for photo in group:
                tidy(self.job.out / photo.name)
            return _results(self.job, group) or _run_group(self.job, group, shared, advance)


@dataclass(frozen=True)
class _Tried:
    """The same where several fits go on side by side: a picture that is refused does not end the others."""

    fit: _Fit

    def __call__(self, group: list[Photograph], advance: Tell) -> list[dict[str, Any]] | ZooError:
        try:
            return self.fit(group, advance)
        except ZooError as error:
            return error


def _run_group(job: Job, group: list[Photograph], shared: Path, advance: Tell) -> list[dict[str, Any]]:
    folders = [job.out / photo.name for photo in group]
    start, system = time.perf_counter(), job.system()
    system.generator.to(job.device)
    system.frozen.to(job.device)
    subjects = [_subject(job, system, *pair, advance) for pair in zip(group, folders, strict=True)]
    inverted, total, done = time.perf_counter() - start, sum(s.iterations for s in system.plan()), 0

    def count(step: Step) -> None:
        nonlocal done
        done += 1
        before = sum(s.iterations for s in system.plan()[: step.number])
        done = max(done, before + 1)
        advance(f"stage {step.stage}, {step.kind}" if step.stage else "initial shape", done / total)

    progress = fit(system, subjects, shared / STATE, count)
    advance("pictures, films and meshes", 1.0)
    system.generator.to(job.device).eval()
    job.gan.to(job.device)
    results = []
    for row, (subject, folder) in enumerate(zip(subjects, folders, strict=True)):
        fitted = Fitted(system.generator, job.gan, subject)
        own, share = progress.of(subjects, row, job.run.data.scene.fov), inverted / len(group)
        began = time.perf_counter()
        _write(job, fitted, own, folder)
        result = {
            "name": subject.name,
            "seconds": round(share + sum(r["seconds"] for r in own.records) + time.perf_counter() - began, 1),
            "inversion_seconds": round(share, 1),
            "records": own.records,
        }
        atomic_write(folder / RESULT, json.dumps(result, indent=2))
        results.append(result)
    (shared / STATE).unlink(missing_ok=True)
    return results


def _subject(job: Job, system: InstanceSystem, photo: Photograph, folder: Path, advance: Tell) -> Subject:
    known = _known(photo, folder)  # of the same picture: another --psi makes another one of a seed
    photo.w = known if photo.w is None else photo.w
    shape = job.cfg.shape
    other = None if shape in SHAPES else hub.load(shape, device=str(job.device))
    if other is not None and not isinstance(other, DepthPredictor):
        raise ConfigError(f"system.shape={shape}: has no depth network; use unsup3d weights, or {', '.join(SHAPES)}")
    counted = iter(range(1, job.cfg.inversion_steps + 1))
    subject = prepare(
        photo,
        system.generator,
        job.gan,
        job.cfg,
        system.frozen.features,
        None if other is None else other.predict_depth,
        lambda: advance(f"inversion, {next(counted)}/{job.cfg.inversion_steps}", 0.0),
    )
    file = io.BytesIO()
    torch.save(vars(subject) | {"picture": digest(photo.image)}, file)
    atomic_write(folder / LATENT, file.getvalue())
    return subject


def _known(photo: Photograph, folder: Path) -> Tensor | None:
    """The latent that was found before, if any. Raises ConfigError if it is another picture's, WeightsError."""
    path = folder / LATENT
    if not path.is_file():
        return None
    subject, picture = read_subject(path)
    if picture != digest(photo.image):
        raise ConfigError(f"{folder} belongs to another picture of that name; use another --out, or delete it")
    return subject.w


def _write(job: Job, fitted: Fitted, progress: Progress, folder: Path) -> None:
    """The files of one object: page, overview, depth after each stage, meshes, films, weights."""
    shown = sheets(fitted, progress.depths, job.cfg.category)
    save_png(
        tile([shown[0].rows[0][1]], scale=max(1, 128 // fitted.image.shape[-1])), folder / "overview.png", job.notes
    )

    file = io.BytesIO()
    np.save(file, torch.cat(progress.depths)[:, 0].numpy())
    atomic_write(folder / DEPTHS, file.getvalue())

    model, g = fitted.model, fitted.geometry
    latents = Latents(fitted.image.flatten(1), code=torch.cat([g.depth, fitted.albedo], 1))
    mesh = glb(model.mesh(latents), job.notes)
    atomic_write(folder / "mesh.glb", mesh)
    poster = show_image(fitted.albedo)[0].cpu()
    write_object(folder / "index.html", fitted.subject.name, shown, progress.records, mesh, poster)
    save_png(to_pil(show_image(fitted.albedo)[0]), folder / "mesh.png", job.notes)
    atomic_write(folder / "mesh.mtl", MATERIAL.format(texture="mesh.png"))
    atomic_write(folder / "mesh.obj", obj_text(g.depth.cpu(), model.map_camera, "mesh.mtl"))

    for name, (light, view) in fitted.paths(job.cfg.category, FRAMES).items():
        for kind, images in (("render", fitted.rendered(light, view)), ("gan", fitted.drawn(light, view))):
            side = images.shape[-1] * _scale(images)
            film(_frames(images), folder / f"{name}_{kind}.mp4", size=(side, side), fps=FPS, notes=job.notes)
    hub.save(model, folder / WEIGHTS, overwrite=True)


def _frames(images: Tensor) -> Iterator[Any]:
    return (tile([show_image(image[None])], scale=_scale(images)) for image in images)


def _scale(images: Tensor) -> int:
    """What makes the frames of a film at least 128 px wide, as published."""
    return max(1, -(-128 // images.shape[-1]))
