"""Inversion: the object, camera and light of a generator that explain a photograph best.

Codes, poses and lights are searched in units of their own prior deviations, so that one learning rate serves them all
and the prior is a sum of squares, as it is for frequencies and phases in ShadeGAN's inversion. Random draws are
compared with the photograph first; the best few are refined together at low resolution, among the objects that the
generator itself draws. The best of these is refined at full resolution, and each number of its code is free then: a
generator draws a person's pose, light and hair, but hardly anybody's features. The published inversions never update
the pose, because they build rays without gradients; here gradients reach code, pose and light alike, through the
renderer and through the cut of the photograph.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..config.recipes import load_run, names
from ..errors import ConfigError, ZooError
from ..generators.base import Explainer, Explanation, Generator
from ..runtime.memory import keep_memory
from ..runtime.progress import counting
from .codes import at
from .photo import Photo, Source, frame_points, read_photo
from .problem import FAR, Guess, Perceptual, Problem
from .reconstruction import Fit, Reconstruction
from .tuning import STEPS
from .tuning import tune as tuned

DRAWS, DRAW_SIZE, DRAW_BATCH = 128, 16, 16  # random objects that are compared with the photograph first
STARTS = 3  # so many of them are refined
KEPT = 128  # least side, in pixels, of the photograph that a reconstruction keeps
_RATE = 0.06  # learning rate in prior deviations
_PATIENCE, _PROGRESS = 40, 0.005  # stop when so many steps have lowered the loss by less than this


def invert(
    generator: Generator,
    image: Source,
    *,
    steps: int = 150,
    size: int | None = None,
    align: bool = True,
    mask: Source | None = None,
    perceptual: Perceptual | None = None,
    prior: float = 1.0,
    free: bool = True,
    tune: bool = False,
    seed: int = 0,
    progress: bool = False,
    watch: Callable[[float], None] | None = None,
) -> Reconstruction:
    """Find the object, camera and light that explain a photograph. The generator is left exactly as it was.

    A method with an encoder, an `Explainer`, reads them off at once, whatever `steps`, `perceptual`, `prior`, `free`
    and `seed` are. Ctrl-C ends the search with the best so far, as does a loss that is no longer a number.

    Args:
        generator: Is any that `zoo.load` gives.
        image: Is the photograph, see `zoo.editing.photo.read_photo`.
        steps: Limits the steps of Adam; a search that no longer improves ends earlier.
        size: Is the side in pixels at which render and photograph are compared; by default that of the generator's
            images, or 64.
        align: Says whether to find the face first.
        mask: Is a picture that is white where the object is.
        perceptual: Is a further distance of images, e.g. `LPIPS.from_files(vgg, linear)`.
        prior: Says how strongly code, pose and light are pulled towards their averages; a larger value gives objects
            that are likelier and less similar.
        free: Lets every number of the code move, which likeness needs; False stays among the objects that the
            generator itself draws.
        tune: Teaches a copy of the generator the photograph afterwards, see `zoo.editing.tuning`; the reconstruction
            has that copy, with which it is turned, lit and saved.
        seed: Draws the candidates that the search starts from.
        progress: Shows a bar with the loss and the time left, on a terminal.
        watch: Is called often, with the share of the search that is done, from 0 to 1. What it raises ends the search.

    Raises:
        ConfigError: `steps`, `size` or `prior` is out of range, the method has no camera, or it
            is to be tuned and has no search.
        DataError: The photograph cannot be used.
        ZooError: The generator renders nothing but NaN.
    """
    if steps < 1 or not 0 <= prior < math.inf:
        raise ConfigError(f"steps={steps}, prior={prior}: use 1 step or more, and a finite prior of 0 or more")
    generator.need_3d("inversion")
    size = min(256, natural_size(generator)) if size is None else size
    if not 16 <= size <= 256:
        raise ConfigError(f"size={size}: use 16 to 256 pixels")
    keep_memory()
    with undisturbed(generator):
        photo = read_photo(image, generator, align=align, mask=mask)
        if isinstance(generator, Explainer):
            if tune:
                _need_search(generator)
            return read_off(generator, generator.explain, photo, size)
        problem = Problem(generator, photo, perceptual, prior)
        with _bar(steps, progress, watch) as show:
            guess, stopped, used = _search(problem, steps, size, free, torch.Generator().manual_seed(seed), show)
        try:
            found = _reconstruction(problem, guess, size, stopped, used)
            return _tuned(found, problem.photo, seed, progress) if tune and stopped != "interrupted" else found
        except KeyboardInterrupt:  # before or after the steps of tuning, which keep the best themselves
            return _reconstruction(problem, guess, size, "interrupted", used)


def tune_to(
    found: Reconstruction,
    image: Source,
    *,
    align: bool = True,
    mask: Source | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Reconstruction:
    """Teach a copy of the generator the photograph that was inverted, as `invert(..., tune=True)` does.

    Args:
        found: Is the reconstruction, of a generator that was not tuned yet.
        image: Is its photograph.
        align: Says whether the face was found first.
        mask: Is a picture that is white where the object is.
        seed: Draws the objects that the copy must go on showing as before.
        progress: Shows a bar with the time left, on a terminal.

    Raises:
        ConfigError: The reconstruction is tuned, or its method reads photographs off without a search.
        DataError: The photograph cannot be used.
    """
    generator = found.generator
    _need_search(generator)
    if found.origin:
        raise ConfigError("this reconstruction is tuned already; give the one before, or invert the photograph again")
    with undisturbed(generator):
        photo = read_photo(image, generator, align=align, mask=mask).to(generator.device)
        return _tuned(found, photo, seed, progress)


def _need_search(generator: Generator) -> None:
    if isinstance(generator, Explainer):
        raise ConfigError(f"{generator.name} reads photographs off without a search; leave tune out")


def _tuned(found: Reconstruction, photo: Photo, seed: int, progress: bool) -> Reconstruction:
    camera = found.camera
    with torch.no_grad():
        target = photo.cut(frame_points(found.generator, camera.pose, camera.size), camera.size)[0]
    with counting("tuning", STEPS, enabled=progress) as advance:
        found = tuned(found, target, seed=seed, advance=advance)
    with torch.no_grad():
        seen = measure(found.render().rgb, target, found.weight)
    return replace(found, fit=replace(found.fit, psnr=seen.psnr, l1=seen.l1))


def unless_interrupted(found: Reconstruction) -> Reconstruction:
    """What was found, for those who go on to the next photograph: after Ctrl-C they must not.

    Raises:
        KeyboardInterrupt: Its search was ended by one.
    """
    if found.fit.stopped == "interrupted":
        raise KeyboardInterrupt
    return found


def natural_size(generator: Generator) -> int:
    """Side of the images that a generator learnt from: its own, else that of the recipe on its card, else 64."""
    if generator.picture_size is not None:
        return generator.picture_size
    recipe = generator.card.recipe if generator.card is not None else ""
    return load_run(recipe).system.stages[-1].size if recipe in names() else 64


@contextmanager
def undisturbed(generator: nn.Module) -> Iterator[None]:
    """Keep a network in evaluation mode with gradients on; afterwards every part returns to the mode it had."""
    modes = {module: module.training for module in generator.modules()}
    generator.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _search(
    problem: Problem, steps: int, size: int, free: bool, source: torch.Generator, show: "_Show"
) -> tuple[Guess, str, int]:
    """Search for the best guess; also say why the search ended, and how many steps it took."""
    sampling = problem.generator.search_sampling()
    best = problem.draw(DRAWS, source)
    try:
        with torch.no_grad():
            rows = torch.arange(DRAWS, device=best.code.device).split(DRAW_BATCH)
            scores = torch.full((DRAWS,), math.inf, device=best.code.device)
            for part in rows:
                scores[part] = problem.losses(best.pick(part), DRAW_SIZE, sampling)[0]
                show(None)
        if not scores.isfinite().any():
            raise ZooError(f"{problem.generator.name}: every render is NaN; these weights are broken")
        best = best.pick(scores.nan_to_num(math.inf).argsort()[:STARTS])
        coarse, used = max(16, size // 2), 0
        best, stopped, used = _refine(problem, best, max(1, steps * 2 // 5), coarse, sampling, show)
        if stopped in ("", "plateau") and used < steps:
            best = problem.free(best) if free else best
            best, stopped, more = _refine(problem, best, steps - used, size, sampling, show)
            used += more
        return best, stopped, used
    except KeyboardInterrupt:  # while drawing: nothing better than the average is known yet
        return best.pick(torch.tensor([0], device=best.code.device)), "interrupted", 0


def _refine(
    problem: Problem, guess: Guess, steps: int, size: int, sampling: Any, show: "_Show"
) -> tuple[Guess, str, int]:
    """Refine all guesses at once by Adam; the result is the best single one that was ever seen."""
    parts = [part.requires_grad_() for part in guess.parts()]
    optimiser = torch.optim.Adam(parts, lr=_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, _RATE / 10)
    best, lowest, mark, since = guess.pick(torch.tensor([0], device=guess.code.device)), math.inf, math.inf, 0
    step = 0
    try:
        for step in range(1, steps + 1):
            losses, distances = problem.losses(guess, size, sampling)
            value, row = losses.detach().nan_to_num(math.inf).min(0)
            if not value.isfinite():
                return best, "not finite", step
            if value.item() < lowest:
                lowest, best = value.item(), guess.pick(row[None])
            since = 0 if lowest < mark - _PROGRESS else since + 1
            if since == 0:
                mark = lowest
            if since >= _PATIENCE:
                return best, "plateau", step
            gradients = torch.autograd.grad(losses.sum(), parts, allow_unused=True)
            for part, gradient in zip(parts, gradients, strict=True):
                part.grad = None if gradient is None else gradient.nan_to_num(0.0, 0.0, 0.0)
            optimiser.step()
            schedule.step()
            show(distances[row].item())
    except KeyboardInterrupt:
        return best, "interrupted", step
    return best, "", step


def _reconstruction(problem: Problem, guess: Guess, size: int, stopped: str, steps: int) -> Reconstruction:
    with torch.no_grad():
        pose = problem.pose(guess)
        camera = problem.generator.camera_at(pose, size)
        latents = at(problem.generator, problem.space.code(guess.code))
        light = problem.light(guess)
        render = problem.generator(latents, camera, light)
        image, known, mask = problem.target(guess, size)
        weight = problem.weigh(render, known)
        weight = weight if mask is None else weight * mask
    fit = measure(render.rgb, image, weight, steps=steps, stopped=stopped, warning="; ".join(_doubts(problem, guess)))
    image = problem.target(guess, max(size, KEPT))[0]
    return Reconstruction(problem.generator, latents, camera, light, image, weight, fit)


def _doubts(problem: Problem, guess: Guess) -> list[str]:
    """What makes the result doubtful, a sentence each."""
    notes = list(problem.photo.notes)
    for poses in (guess.pose, problem.seen_pose[None]):
        if (away := poses[0].abs().max().item()) > FAR:
            pitch, yaw = (problem.pose_mean + poses[0] * problem.pose_std).tolist()
            notes.append(
                f"pose (yaw {yaw:.2f}, pitch {pitch:.2f}) lies {away:.1f} deviations from what the model knows; "
                "do not trust the shape"
            )
            break
    return notes


def measure(rgb: Tensor, image: Tensor, weight: Tensor, **rest: Any) -> Fit:
    """Measure a render (1, 3, S, S) against the photograph, both in [-1, 1], over the pixels that count."""
    error, share = (rgb - image) / 2, weight.sum().clamp_min(1e-6) * 3
    mse = ((error.square() * weight).sum() / share).item()
    l1 = ((error.abs() * weight).sum() / share).item()
    return Fit(psnr=-10 * math.log10(max(mse, 1e-10)), l1=l1, **rest)


@torch.no_grad()
def read_off(
    generator: Generator, explain: Callable[[Tensor, int], Explanation], photo: Photo, size: int
) -> Reconstruction:
    """Read object, camera and light off a photograph by a method's encoder.

    Eyes and nose move with the pose that the encoder finds, so the photograph is cut twice.
    """
    photo = photo.to(generator.device)
    pose = torch.zeros(1, 2, device=generator.device)
    for _ in range(2):
        image, known, mask = photo.cut(frame_points(generator, pose, size), size)
        latents, camera, light = explain(image, size)
        pose = camera.pose
    latents = at(generator, generator.code(latents))
    render = generator(latents, camera, light)
    assert render.mask is not None
    weight = known * render.mask if mask is None else known * render.mask * mask
    fit = measure(render.rgb, image, weight, warning="; ".join(photo.notes))
    image = photo.cut(frame_points(generator, pose, size), max(size, KEPT))[0]
    return Reconstruction(generator, latents, camera, light, image, weight, fit)


class _Show(Protocol):
    def __call__(self, distance: float | None) -> None:
        """A step is done, with this loss; None before the first step, while random objects are compared."""


@contextmanager
def _bar(steps: int, visible: bool, watch: Callable[[float], None] | None) -> Iterator[_Show]:
    done, total = 0, steps + math.ceil(DRAWS / DRAW_BATCH)
    with counting("inverting: looking around", steps, enabled=visible) as advance:

        def show(distance: float | None) -> None:
            nonlocal done
            done += 1
            if distance is not None:
                advance(1, f"inverting: loss {distance:.4f}")
            if watch is not None:
                watch(done / total)

        yield show
