"""The viewer's thread draws the newest wish of each visitor, and does the jobs that end in files."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.unit.viewer_subjects import found_in, shadegan, tiny, tuned
from zoo.editing import inversion
from zoo.errors import DataError, ZooError
from zoo.generators.base import Generator
from zoo.output.sheets import pictures
from zoo.priors import pose_prior
from zoo.viewer import files
from zoo.viewer.page import padded
from zoo.viewer.state import MESH, Lamp, State, Thing
from zoo.viewer.view import View
from zoo.viewer.worker import Cancelled, Worker, sizes_of

WAIT = 120.0


@pytest.fixture(scope="module")
def shaded() -> Generator:
    return shadegan()


class Visitor:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.shown: list[tuple[State, Any, bool]] = []
        self.shares: list[float] = []
        self.problems: list[str] = []
        self.over = threading.Event()
        self.final = threading.Event()

    def show(self, state: State, picture: Any, seconds: float, final: bool) -> None:
        self.shown.append((state, picture, final))
        if final:
            self.final.set()

    def progress(self, share: float) -> None:
        self.shares.append(share)

    def ended(self, problem: str) -> None:
        self.problems.append(problem)
        self.over.set()

    def failed(self, problem: str) -> None:
        self.problems.append(problem)
        self.final.set()


# ---------------------------------------------------------------- the worker


@pytest.fixture
def worker(shaded: Generator):
    worker = Worker(shaded, (16, 24))
    yield worker
    worker.close()
    assert not worker._thread.is_alive()


def test_a_picture_comes_twice_small_and_sharp(worker: Worker, shaded: Generator) -> None:
    visitor, state = Visitor(), State(Thing(3), View(0.3), Lamp(), "normal")
    worker.ask(visitor, state)
    assert visitor.final.wait(WAIT)
    (_, small, first), (_, sharp, last) = visitor.shown
    assert (first, last) == (False, True)
    assert len(small) <= len(sharp)
    own = shaded(shaded.latents(1, seed=3, psi=0.7), View(0.3).camera(shaded, len(sharp)), Lamp().light())
    assert np.array_equal(sharp, np.asarray(pictures("normal", own)[0]))


def test_the_newest_wish_wins_and_nothing_piles_up(worker: Worker) -> None:
    """While the thread is held, a hundred wishes of two visitors become two pictures."""
    held, go, visitors = threading.Event(), threading.Event(), (Visitor(), Visitor())

    def hold(breathe: Any) -> None:
        held.set()
        assert go.wait(WAIT)

    assert worker.begin(Visitor(), hold)
    assert held.wait(WAIT)
    for seed in range(50):
        for visitor in visitors:
            worker.ask(visitor, State(Thing(seed)))
    go.set()
    for visitor in visitors:
        assert visitor.final.wait(WAIT)
        assert [state.thing.seed for state, _, _ in visitor.shown] == [49, 49]  # small, then sharp


def test_pictures_are_drawn_while_a_job_breathes(worker: Worker) -> None:
    artist, looker = Visitor(), Visitor()

    def work(breathe: Any) -> None:
        worker.ask(looker, State())
        breathe(0.5)
        assert looker.shown

    assert worker.begin(artist, work)
    assert not worker.begin(artist, work)  # one job for each visitor
    assert artist.over.wait(WAIT)
    assert artist.problems == [""]
    assert artist.shares == [0.0, 0.5]


def test_jobs_end_when_cancelled_or_left_and_failures_are_one_line(worker: Worker) -> None:
    def forever(breathe: Any) -> None:
        while True:
            breathe(0.1)
            time.sleep(0.001)

    for end in (worker.cancel, worker.forget):
        visitor = Visitor()
        assert worker.begin(visitor, forever)
        end(visitor)
        assert visitor.over.wait(WAIT)
        assert visitor.problems == ["cancelled"]

    def fail(breathe: Any) -> None:
        raise ZooError("one\ntwo")

    visitor = Visitor()
    assert worker.begin(visitor, fail)
    assert visitor.over.wait(WAIT)
    assert visitor.problems == ["one two"]
    worker.ask(visitor, State(shown="nothing"))  # nor does a bad picture end the thread
    assert visitor.final.wait(WAIT)
    assert "unknown map" in visitor.problems[1]
    later = Visitor()
    worker.ask(later, State())
    assert later.final.wait(WAIT)


def test_a_job_that_waits_is_cancelled_at_once(worker: Worker) -> None:
    held, go, first, second = threading.Event(), threading.Event(), Visitor(), Visitor()

    def hold(breathe: Any) -> None:
        held.set()
        assert go.wait(WAIT)

    assert worker.begin(first, hold)
    assert held.wait(WAIT)
    assert worker.begin(second, lambda breathe: pytest.fail("a cancelled job was done"))
    worker.cancel(second)
    assert second.problems == ["cancelled"]
    assert worker.begin(second, lambda breathe: None)  # it is free for the next one
    second.over.clear()
    go.set()
    assert second.over.wait(WAIT)
    assert second.problems == ["cancelled", ""]


def test_a_visitor_who_cannot_be_told_does_not_stop_the_others(worker: Worker) -> None:
    class Deaf(Visitor):
        def show(self, state: State, picture: Any, seconds: float, final: bool) -> None:
            raise ConnectionError("gone")

        failed = progress = ended = show  # type: ignore[assignment]

    deaf, looker = Deaf(), Visitor()
    worker.ask(deaf, State())
    assert worker.begin(deaf, lambda breathe: None)
    worker.ask(looker, State())
    assert looker.final.wait(WAIT)
    assert worker.begin(looker, lambda breathe: None)
    assert looker.over.wait(WAIT)
    assert looker.problems == [""]


def test_nothing_is_kept_of_visitors_who_leave(worker: Worker) -> None:
    for seed in range(40):
        visitor = Visitor()
        worker.ask(visitor, State(Thing(seed)))
        worker.forget(visitor)
    last = Visitor()
    for seed in range(40):
        worker.latents(Thing(seed))
    worker.ask(last, State())
    assert last.final.wait(WAIT)
    assert not worker._asked
    assert not worker._resting
    assert not worker._by
    assert len(worker._codes) <= 16


def test_a_withdrawn_wish_is_not_drawn_and_a_job_goes_on(worker: Worker) -> None:
    artist, looker = Visitor(), Visitor()

    def work(breathe: Any) -> None:
        worker.ask(artist, State())
        worker.withdraw(artist)
        worker.ask(looker, State())
        breathe(0.5)
        assert looker.shown
        assert not artist.shown

    assert worker.begin(artist, work)
    assert artist.over.wait(WAIT)
    assert artist.problems == [""]


def test_a_tuned_photograph_is_drawn_by_its_own_weights(
    worker: Worker, shaded: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = found_in(shaded)
    photo, camera = tuned(plain), View().camera(shaded, 16)
    things = Thing(psi=1.0, photo=photo), Thing(3, 1.0)
    shown, seed = (worker.picture(State(thing), 16, final=True).astype(int) for thing in things)
    own, before = (np.asarray(pictures("rgb", found.render(camera))[0], int) for found in (photo, plain))
    assert np.abs(shown - own).max() <= 1
    assert np.abs(seed - before).max() <= 1
    assert np.abs(shown - seed).max() > 9
    monkeypatch.setattr("zoo.viewer.worker.glb", lambda mesh, notes: mesh)
    photo.generator.mesh = lambda latents, cells: b"its own"  # type: ignore[method-assign, return-value]
    assert worker.mesh(State(Thing(photo=photo))) == b"its own"


def test_sizes_follow_what_pictures_took(shaded: Generator) -> None:
    worker = Worker(shaded, (32, 64, 128))
    worker.close()
    assert worker.size(0.15) == 32  # nothing is known yet
    worker._seconds = {32: 0.03}
    assert worker.size(0.15) == 64
    assert worker.size(0.8) == 128
    worker._seconds = {32: 0.5, 64: 0.5}
    assert worker.size(0.15) == 32
    flat, read = tiny("stylegan2"), tiny("unsup3d")
    assert sizes_of(flat) == (flat.picture_size,)
    assert sizes_of(read)[0] == read.picture_size
    assert sizes_of(read)[-1] == 256


# ---------------------------------------------------------------- files


def breathe(share: float) -> None:
    assert 0 <= share <= 1


def test_files_hold_what_is_shown(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FRAMES", 4), ("FILM", 16), ("PICTURE", 24), ("_CELLS", 24)):
        monkeypatch.setattr(files, name, value)
    state = State(Thing(3, 0.7, 8, 0.5), View(0.2), Lamp(), "albedo")
    name, data = files.picture(worker, state, breathe)
    assert name == "shadegan-seed3-to-seed8-0.50-albedo.png"
    assert data.startswith(b"\x89PNG")
    assert b"yaw 0.200" in data
    assert files.turntable(worker, state, breathe).data[4:8] == b"ftyp"
    walk = files.walk(worker, replace(state, shown=MESH), breathe)
    assert walk.name == "shadegan-seed3-to-seed8.mp4"
    assert walk.data[4:8] == b"ftyp"
    assert files.walk(worker, state, breathe).name == "shadegan-seed3-to-seed8-albedo.mp4"
    assert b"seed3-to-seed8" in walk.data
    assert b"seed3-to-seed8-0.50" not in walk.data
    said: list[dict[str, str]] = []
    monkeypatch.setattr(worker, "mesh", lambda state, cells, notes: said.append(notes) or b"glTF")
    assert files.mesh(worker, replace(state, shown=MESH), breathe).name == "shadegan-seed3-to-seed8-0.50.glb"
    assert said == [files.notes(worker, replace(state, shown=MESH))]


def test_a_large_picture_of_a_2d_gan_is_whole(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "sizes", (512,))
    asked: list[int] = []
    blank = np.zeros((512, 512, 3), np.uint8)
    monkeypatch.setattr(worker, "picture", lambda state, size, final: asked.append(size) or blank)
    assert files.picture(worker, State(), breathe).data.startswith(b"\x89PNG")
    assert asked == [512]
    assert len(padded(np.zeros((1024, 1024, 3), np.uint8), 1.0)) == 1024
    assert len(padded(blank[:64, :64], 1.0)) == 512


def test_films_are_framed_as_the_page_is(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FRAMES", 4)
    views: list[View] = []
    blank = np.zeros((128, 128, 3), np.uint8)
    monkeypatch.setattr(worker, "picture", lambda state, size, final: views.append(state.view) or blank[:size, :size])
    view = View(0.2, -0.1, 0.5, (0.01, 0.02, 0.0))
    state, reach = State(Thing(3, other=8), view), pose_prior(worker.generator.scene.pose).yaw_reach
    said = files.turntable(worker, state, breathe).data
    assert views == [replace(view, yaw=pytest.approx(yaw, abs=1e-9)) for yaw in (0, reach, 0, -reach)]
    assert f"yaw {-reach:.3f} to {reach:.3f}, pitch -0.100, zoom 0.500, middle 0.010 0.020 0.000".encode() in said
    views.clear()
    assert b"yaw 0.200, pitch" in files.walk(worker, state, breathe).data
    assert views == [view] * 4


def test_photographs_become_objects_or_a_line(worker: Worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inversion, "DRAWS", 4)
    with pytest.raises(DataError, match="not an image"):
        files.photograph(worker, b"no picture", "x.png", True, breathe)
    shares: list[float] = []

    def enough(share: float) -> None:
        shares.append(share)
        if len(shares) > 1:
            raise Cancelled

    data = zoo.example_photo().read_bytes()
    with pytest.raises(Cancelled):
        files.photograph(worker, data, "photo.png", False, enough)
    assert shares == pytest.approx([1 / 151, 2 / 151])


def test_a_picture_keeps_its_shape_on_any_canvas() -> None:
    picture = np.full((16, 16, 3), 7, np.uint8)
    picture[4:12, 4:12] = 200
    for aspect in (0.5, 1.0, 2.0):
        canvas = padded(picture, aspect)
        assert canvas.shape[1] / canvas.shape[0] == pytest.approx(aspect, rel=0.01)
        bright = canvas[..., 0] > 100
        assert bright.any(0).sum() == pytest.approx(bright.any(1).sum(), abs=2)
        assert canvas[0, 0, 0] == 7
