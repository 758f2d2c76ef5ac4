"""The one thread in which networks run: pictures for every visitor, and between them longer jobs.

A visitor who asks again before the picture is drawn gets only the newest one, so nothing piles up. While something
moves, pictures are small enough to come often; when it rests, one follows that is as large as patience allows. A job
(an inversion, a film, a mesh for a file) calls `breathe` between its steps, where waiting pictures are drawn and a
cancelled job ends. One thread means that no network, cache or kernel is ever used by two at once.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch

from ..errors import ZooError
from ..generators.base import Generator, Latents
from ..output.sheets import pictures
from ..output.turning import glb
from .state import MESH, State, Thing

MOVING, RESTING = 0.15, 0.8  # seconds that a picture may take while something moves, and when it rests
REST = 0.3  # seconds without a new wish after which a visitor's picture rests
SIZES = (32, 48, 64, 96, 128, 192, 256)  # sides of pictures in pixels
MESH_CELLS = 96  # of the mesh on the page; files have the finer one of `zoo export`
_KEPT = 16  # objects whose codes are kept
_log = logging.getLogger("zoo")
T = TypeVar("T")


class Cancelled(Exception):
    """The visitor has cancelled the job, or is gone."""


class Breathe(Protocol):
    """Draws pictures that visitors wait for. Jobs call it often, with the share of their work that is done, 0 to 1.

    Raises:
        Cancelled: The job is to end.
    """

    def __call__(self, share: float) -> None: ...


class Visitor(Protocol):
    """Whom pictures are drawn for. All is called in the worker's thread, or in that which cancels a waiting job."""

    def show(self, state: State, picture: np.ndarray | bytes, seconds: float, final: bool) -> None:
        """Take a picture (S, S, 3) of uint8, or a mesh as the bytes of a .glb."""

    def progress(self, share: float) -> None:
        """Take the share of the job that is done."""

    def ended(self, problem: str) -> None:
        """Take the news that the job is over, with one line if it failed, and nothing if not."""

    def failed(self, problem: str) -> None:
        """Take the news that a picture could not be drawn, in one line."""


@dataclass(frozen=True, eq=False)
class _Job:
    visitor: Visitor
    work: Callable[[Breathe], None]
    cancelled: threading.Event


class Worker:
    """Draws for visitors in a thread of its own, until `close`.

    Args:
        generator: Makes the pictures of seeds, and finds objects in photographs. Nobody else may use it meanwhile.
        sizes: The sides of pictures to choose from, in pixels, ascending; by default what suits the generator.
    """

    def __init__(self, generator: Generator, sizes: tuple[int, ...] = ()) -> None:
        self.generator = generator
        self.sizes = sizes or sizes_of(generator)
        self._seconds: dict[int, float] = {}  # what pictures of a size took lately
        self._asked: dict[Visitor, State] = {}
        self._resting: dict[Visitor, tuple[float, State]] = {}  # when to draw the large picture
        self._jobs: deque[_Job] = deque()
        self._by: dict[Visitor, _Job] = {}  # waiting and running ones
        self._codes: dict[tuple[object, ...], tuple[Thing, Latents]] = {}
        self._closed = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="zoo viewer", daemon=True)
        self._thread.start()

    def ask(self, visitor: Visitor, state: State) -> None:
        """Draw this state for a visitor as soon as possible, in place of what the visitor asked for before."""
        with self._wake:
            self._asked[visitor] = state
            self._resting.pop(visitor, None)
            self._wake.notify()

    def begin(self, visitor: Visitor, work: Callable[[Breathe], None]) -> bool:
        """Do a job for a visitor when its turn comes; False if the visitor's last one is not over."""
        with self._wake:
            if visitor in self._by or self._closed:
                return False
            job = self._by[visitor] = _Job(visitor, work, threading.Event())
            self._jobs.append(job)
            self._wake.notify()
            return True

    def cancel(self, visitor: Visitor) -> None:
        """End the visitor's job: at once while it waits for its turn, else at its next breath."""
        with self._wake:
            job = self._by.get(visitor)
            if job is None:
                return
            job.cancelled.set()
            waiting = job in self._jobs
            if waiting:
                self._jobs.remove(job)
                del self._by[visitor]
        if waiting:
            _tell(visitor.ended, "cancelled")

    def withdraw(self, visitor: Visitor) -> None:
        """Draw nothing of what the visitor has asked for and not got yet."""
        with self._wake:
            self._asked.pop(visitor, None)
            self._resting.pop(visitor, None)

    def forget(self, visitor: Visitor) -> None:
        """Do nothing more for a visitor who is gone."""
        self.withdraw(visitor)
        self.cancel(visitor)

    def close(self, seconds: float = 10.0) -> None:
        """End the thread after the picture in hand; wait for it, at most so many seconds."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(seconds)

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        while not self._closed:
            with self._wake:
                task = self._next()
                job = None if task or not self._jobs else self._jobs.popleft()
                if task is None and job is None and not self._closed:
                    due = min((when for when, _ in self._resting.values()), default=None)
                    self._wake.wait(None if due is None else max(0.0, due - time.monotonic()))
            if task:
                self._draw(*task)
            elif job:
                self._do(job)

    def _next(self) -> tuple[Visitor, State, bool] | None:
        """The picture to draw now, and whether it is the large one: whoever has waited longest comes first."""
        if self._asked:
            visitor = next(iter(self._asked))
            return visitor, self._asked.pop(visitor), False
        now = time.monotonic()
        for visitor, (due, state) in self._resting.items():
            if due <= now:
                del self._resting[visitor]
                return visitor, state, True
        return None

    def _draw(self, visitor: Visitor, state: State, final: bool) -> None:
        start = time.monotonic()
        size = self.size(RESTING if final else MOVING)
        try:
            if state.shown != MESH:
                picture = self.picture(state, size, final)
                seconds = self._learn(size, time.monotonic() - start)
                visitor.show(state, picture, seconds, final)
            elif final:  # a mesh takes seconds: none is made while something moves
                visitor.show(state, self.mesh(state), time.monotonic() - start, True)
        except Exception as error:
            _tell(visitor.failed, line(error))
            return
        if not final:
            with self._wake:
                if visitor not in self._asked:
                    self._resting[visitor] = (time.monotonic() + REST, state)

    def _do(self, job: _Job) -> None:
        def breathe(share: float) -> None:
            if job.cancelled.is_set() or self._closed:
                raise Cancelled
            _tell(job.visitor.progress, share)
            while True:
                with self._wake:
                    task = self._next()
                if task is None:
                    return
                self._draw(*task)

        problem = ""
        try:
            breathe(0.0)
            job.work(breathe)
        except Cancelled:
            problem = "cancelled"
        except Exception as error:
            problem = line(error)
        with self._wake:
            del self._by[job.visitor]
        _tell(job.visitor.ended, problem)

    # ---------------------------------------------------------------- pictures

    def size(self, patience: float) -> int:
        """The largest side in pixels whose picture should take no longer than these seconds; else the smallest."""
        best = self.sizes[0]
        for size in self.sizes[1:]:
            # Time grows no faster than the number of pixels.
            guesses = [took * (size / known) ** 2 for known, took in self._seconds.items() if known <= size]
            if guesses and min(guesses) <= patience:
                best = size
        return best

    def _learn(self, size: int, seconds: float) -> float:
        old = self._seconds.get(size, seconds)
        self._seconds[size] = 0.5 * (old + seconds)
        return seconds

    def maker(self, thing: Thing) -> Generator:
        """What draws a thing: the generator, or the copy of it that was tuned to the thing's photograph."""
        return self.generator if thing.photo is None else thing.photo.generator

    @torch.no_grad()
    def picture(self, state: State, size: int, final: bool) -> np.ndarray:
        """What the state looks like, (S, S, 3) uint8; unless it is the final picture, with cheaper sampling."""
        generator = self.maker(state.thing)
        light = None if state.lamp is None else state.lamp.light().to(generator.device)
        own = None if state.thing.photo is None else state.thing.photo.light
        sampling = generator.keeping_albedo(own, None if final else generator.search_sampling())
        render = generator(self.latents(state.thing), state.view.camera(generator, size), light, sampling)
        return np.asarray(pictures(state.shown, render)[0])

    def mesh(self, state: State, cells: int = MESH_CELLS, notes: Mapping[str, str] | None = None) -> bytes:
        """The state's object as the bytes of a .glb that says where it comes from."""
        return glb(self.maker(state.thing).mesh(self.latents(state.thing), cells), notes)

    def latents(self, thing: Thing) -> Latents:
        """The object's code, which is kept for the next pictures of it."""
        if thing.key not in self._codes:
            generator = self.maker(thing)
            drawn = thing.latents(generator)
            with torch.no_grad():
                # The thing keeps its photograph alive, whose identity is part of the key.
                self._codes[thing.key] = thing, Latents(drawn.z, code=generator.code(drawn))
            if len(self._codes) > _KEPT:
                del self._codes[next(iter(self._codes))]
        return self._codes[thing.key][1]


def _tell(hear: Callable[[T], None], news: T) -> None:
    """Tell a visitor something; what goes wrong there, such as a connection that breaks, is no matter of the others."""
    try:
        hear(news)
    except Exception:
        _log.exception("the viewer goes on after an error of a page")


def sizes_of(generator: Generator) -> tuple[int, ...]:
    """The sides of pictures that a generator can make good use of.

    Where networks make maps of one size, smaller pictures are no faster, and those of 2D GANs no larger.
    """
    own = generator.picture_size
    if own is None:
        return SIZES
    return (own, *(size for size in SIZES if size > own)) if generator.is_3d else (own,)


def line(error: Exception) -> str:
    """What went wrong, in one line; the trace of what nobody foresaw goes to the log."""
    if not isinstance(error, ZooError | ValueError | OSError):
        _log.exception("the viewer goes on after an error")
    return " ".join(str(error).split()) or type(error).__name__
