"""The viewer without a browser: views and cameras, what a method can honour, and the thread that draws."""

import copy
import math
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

import zoo
from tests.tiny import TINY
from zoo import hub, registry
from zoo.cli.view import RECONSTRUCTION, _subject
from zoo.editing import inversion
from zoo.editing.codes import at
from zoo.editing.reconstruction import Fit, Reconstruction, fingerprint
from zoo.errors import ConfigError, DataError, WeightsError, ZooError
from zoo.generators.base import Generator
from zoo.output.sheets import pictures
from zoo.priors import pose_prior
from zoo.viewer import files, page, server
from zoo.viewer.controls import plain
from zoo.viewer.page import Page, padded
from zoo.viewer.state import MESH, SEEDS, Abilities, Lamp, State, Thing
from zoo.viewer.view import View, aspect_of, fov_of
from zoo.viewer.worker import Cancelled, Worker, sizes_of

WAIT = 120.0


@pytest.fixture(scope="module")
def shaded() -> Generator:
    torch.manual_seed(0)
    return zoo.build("shadegan", **TINY).eval().requires_grad_(False)


def tiny(name: str) -> Generator:
    cls = registry.resolve(name)
    return cls(cls.tiny()).eval()


def found_in(generator: Generator) -> Reconstruction:
    """Seed 3, as if it had been found in a photograph."""
    image, weight = torch.zeros(1, 3, 128, 128), torch.ones(1, 1, 16, 16)
    latents = at(generator, generator.code(generator.latents(1, seed=3)))
    return Reconstruction(
        generator, latents, generator.camera(size=16), generator.mean_light, image, weight, Fit(20.0, 0.1)
    )


def tuned(found: Reconstruction) -> Reconstruction:
    """The same with weights of its own, as after tuning."""
    own = copy.deepcopy(found.generator)
    with torch.no_grad():
        for weight in own.parameters():
            weight.add_(0.1)
    return replace(found, generator=own, origin=fingerprint(found.generator))


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


# ---------------------------------------------------------------- views


@pytest.mark.parametrize(
    ("yaw", "pitch", "zoom"), [(0.0, 0.0, 1.0), (0.4, -0.3, 0.6), (-1.2, 0.5, 1.7), (3.0, 0.1, 1.0)]
)
@pytest.mark.parametrize("aspect", [0.5, 1.0, 1.9])
def test_a_view_returns_from_the_browser(
    shaded: Generator, yaw: float, pitch: float, zoom: float, aspect: float
) -> None:
    view, scene = View(yaw, pitch, zoom, (0.01, -0.02, 0.03)), shaded.scene
    back = View.seen(view.position(scene), view.target, fov_of(scene, aspect), aspect, scene)
    for one, other in zip(
        (back.yaw, back.pitch, back.zoom, *back.target), (yaw, pitch, zoom, *view.target), strict=True
    ):
        assert one == pytest.approx(other, abs=1e-6)


def test_our_camera_shows_what_the_browser_shows(shaded: Generator) -> None:
    """A point falls on the same share of the picture as a pinhole at the browser's camera would put it."""
    view, scene = View(0.5, -0.2, 0.8, (0.01, 0.02, 0.0)), shaded.scene
    eye, target = np.array(view.position(scene)), np.array(view.target)
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross([0, 1, 0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    camera = view.camera(shaded, 100)
    torch.testing.assert_close(
        camera.cam2world[0, :3, :3], torch.tensor(np.stack([right, up, back], 1)).float(), atol=1e-5, rtol=0
    )
    # In the plane through the target, zoom as distance and zoom as field of view are the same.
    point = target + 0.03 * right + 0.02 * up
    half = np.linalg.norm(eye - target) * math.tan(fov_of(scene, 1.0) / 2)
    wanted = ((np.array([0.03, -0.02]) / half) + 1) / 2 * 100 - 0.5
    pixels, _ = camera.project(torch.tensor(point).float().view(1, 1, 3))
    np.testing.assert_allclose(pixels[0, 0].numpy(), wanted, atol=1e-3)
    assert view.camera(shaded, 64).pose.shape == (1, 2)
    np.testing.assert_allclose(View(0.3, 0.1).camera(shaded, 64).pose[0], [0.1, 0.3], atol=1e-5)


@pytest.mark.parametrize("position", [(0.0, 0.0, 0.0), (math.nan, 0, 1), (math.inf, 0, 1), (0, 50, 0.001), (0, 0, 1e9)])
def test_cameras_of_hostile_browsers_give_views(shaded: Generator, position: tuple[float, float, float]) -> None:
    view = View.seen(position, (0.0, 0.0, 0.0), 0.2, 1.0, shaded.scene)
    assert view.camera(shaded, 16).cam2world.isfinite().all()
    assert View.seen((0, 0, 1), (math.nan, 0.0, 0.0), 0.2, 1.0, shaded.scene) == View()
    assert (aspect_of(0, 0), aspect_of(10**9, 1), aspect_of(800, 400)) == (0.2, 5.0, 2.0)
    far = View.seen((0, 0, 1), (90.0, 0.0, 0.0), 0.2, 1.0, shaded.scene)
    assert math.dist(far.target, (0, 0, 0)) < 0.2


# ---------------------------------------------------------------- states


def test_only_what_a_method_can_honour_is_offered(shaded: Generator) -> None:
    able = Abilities.of(shaded)
    assert able.shown == ("rgb", "albedo", "normal", "depth", "shading", MESH)
    assert able.lamp is not None
    assert able.camera
    assert able.codes
    assert able.photos
    plain = Abilities.of(zoo.build("pigan", **TINY).eval())
    assert plain.lamp is None
    assert "albedo" not in plain.shown
    flat = Abilities.of(tiny("stylegan2"))
    assert (flat.shown, flat.camera, flat.photos, flat.mesh, flat.codes) == (("rgb",), False, False, False, True)
    read = Abilities.of(tiny("unsup3d"))
    assert read.photos
    assert not read.codes


def test_numbers_from_a_browser_stay_within_bounds() -> None:
    thing = Thing(-5, math.nan, 2**60, 7.0).bounded()
    assert (thing.seed, thing.psi, thing.other, thing.share) == (0, 0.0, SEEDS, 1.0)
    assert Lamp(9, -9, math.nan, 9).bounded() == Lamp(1.0, 0.0, -2.0, 2.0)


def test_a_walk_goes_from_the_object_to_the_other_seed(shaded: Generator) -> None:
    first, other = (shaded.code(shaded.latents(1, seed=seed, psi=0.7)) for seed in (3, 8))
    for share in (0.0, 0.25, 1.0):
        code = shaded.code(Thing(3, 0.7, 8, share).latents(shaded))
        torch.testing.assert_close(code, torch.lerp(first, other, share))


def test_lamps_are_lights() -> None:
    light = zoo.Light.of(0.3, 0.6, x=0.5, y=-0.7)
    assert Lamp.of(light) == Lamp(0.3, 0.6, 0.5, -0.7)
    torch.testing.assert_close(Lamp.of(light).light().params, light.params)


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


# ---------------------------------------------------------------- the page


@pytest.fixture
def opened(shaded: Generator, monkeypatch: pytest.MonkeyPatch) -> Page:
    """A page whose browser, controls and worker only note what they are told."""
    controls = MagicMock(files={}, view=View(), state=lambda: State(shown=MESH))
    monkeypatch.setattr(page, "Controls", lambda *_: controls)
    client = MagicMock(camera=MagicMock(image_width=100, image_height=100))
    return Page(client, MagicMock(generator=shaded), Abilities.of(shaded), "", State())


def told(method: Any) -> list[str]:
    return [call.args[0] for call in method.call_args_list]


def test_buttons_come_back_after_a_job_that_ends_at_once(opened: Page) -> None:
    worker: Any = opened._worker
    worker.begin.side_effect = lambda visitor, work: visitor.ended("") or True
    for _ in range(2):
        opened._start("Making ...", lambda breathe: None)
    assert told(opened.controls.working) == ["Making ...", ""] * 2
    worker.begin.side_effect = lambda visitor, work: False  # it is closed
    opened._start("Making ...", lambda breathe: None)
    assert told(opened.controls.working)[-2:] == ["Making ...", ""]


def test_a_page_has_one_job_at_a_time(opened: Page) -> None:
    for what in ("first", "second"):
        opened._start(what, lambda breathe: None)
    assert told(opened.controls.working) == ["first"]
    assert opened._worker.begin.call_count == 1  # type: ignore[attr-defined]


def test_a_mesh_that_failed_is_no_longer_made(opened: Page) -> None:
    opened.failed("no surface")
    assert told(opened.controls.status)[-2:] == ["making the mesh ...", ""]
    assert told(opened.controls.note) == ["no surface"]


def chosen(opened: Page, seed: int) -> State:
    """Let the controls say this seed, as a visitor does, and the page hear of it."""
    state = State(Thing(seed), shown=MESH)
    opened.controls.state = lambda: state  # type: ignore[method-assign]
    opened._wish()
    return state


def test_the_mesh_is_that_of_the_object_that_the_controls_say(opened: Page) -> None:
    scene: Any = opened._client.scene
    first, other = chosen(opened, 3), chosen(opened, 8)
    opened.show(first, b"glTF", 1.0, True)  # made meanwhile
    assert not scene.add_glb.called
    opened.show(other, b"glTF", 1.0, True)
    assert scene.add_glb.call_count == 1
    worker: Any = opened._worker
    third = chosen(opened, 5)
    worker.withdraw.assert_not_called()
    chosen(opened, 8)  # again, before the third is there
    worker.withdraw.assert_called_once_with(opened)
    assert told(opened.controls.status)[-2:] == ["making the mesh ...", "mesh, 0.0 MB"]
    opened.show(third, b"glTF", 1.0, True)
    assert scene.add_glb.call_count == 1
    assert opened._mesh == other.thing.key


# ---------------------------------------------------------------- the server


def test_texts_of_strangers_are_texts() -> None:
    assert plain("<b>*bold*</b> [x](y)") == r"\<b\>\*bold\*\</b\> \[x\]\(y\)"


def test_a_taken_port_is_passed_over_and_a_wrong_host_is_a_line() -> None:
    first = server.free_port("127.0.0.1", 23456)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        assert server.free_port("127.0.0.1", first) > first
    with pytest.raises(ConfigError, match="not an address of this machine"):
        server.free_port("192.0.2.1", 8080)
    assert [server.is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "192.0.2.1")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_the_command_takes_names_and_what_invert_has_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = zoo.load("unsup3d", device="cpu")
    found = zoo.invert(generator, zoo.example_photo(), align=False)
    found.save(tmp_path / RECONSTRUCTION)
    devices, load = [], hub.load
    monkeypatch.setattr(hub, "load", lambda name, *, device: devices.append(device) or load(name, device=device))
    for what, source in ((str(tmp_path), None), ("unsup3d", tmp_path / RECONSTRUCTION)):
        generator, photo = _subject(what, source, "cpu")
        assert generator.name == "unsup3d.heads64"
        assert photo is not None
        first = Abilities.of(generator).first(photo)
        torch.testing.assert_close(first.thing.latents(generator).code, found.latents.code)
        pose = first.view.camera(generator, 64).pose
        torch.testing.assert_close(pose, found.camera.pose, atol=1e-4, rtol=0)
    assert devices == ["cpu", "cpu"]  # nothing was loaded elsewhere before
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / RECONSTRUCTION).write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="damaged or not a safetensors file"):
        _subject(str(tmp_path / "damaged"), None, "cpu")
    assert _subject("unsup3d", None, "cpu")[1] is None
    with pytest.raises(WeightsError, match="does not exist"):
        _subject("unsup3d", tmp_path / "other.safetensors", "cpu")


def test_photographs_of_visitors_meet_the_weights_before_tuning(tmp_path: Path) -> None:
    generator = zoo.load("unsup3d", device="cpu")
    found = tuned(zoo.invert(generator, zoo.example_photo(), align=False))
    found.save(tmp_path / RECONSTRUCTION)
    for what, source in ((str(tmp_path), None), ("unsup3d", tmp_path / RECONSTRUCTION)):
        page, photo = _subject(what, source, "cpu")
        assert fingerprint(page) == fingerprint(generator)
        assert photo is not None
        assert fingerprint(photo.generator) == fingerprint(found.generator)


def test_weights_that_only_the_user_knows_are_asked_for(shaded: Generator, tmp_path: Path) -> None:
    file = found_in(shaded).save(tmp_path / RECONSTRUCTION)
    with pytest.raises(WeightsError, match=f"made with 'shadegan'.*zoo view NAME --from {file}") as caught:
        _subject(str(tmp_path), None, "cpu")
    assert "\n" not in str(caught.value)
