"""The page tells its controls what goes on, and the command opens it on a free port with what it is given."""

import socket
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

import zoo
from tests.unit.viewer_subjects import found_in, shadegan, tuned
from zoo import hub
from zoo.cli.view import RECONSTRUCTION, _subject
from zoo.editing.reconstruction import fingerprint
from zoo.errors import ConfigError, WeightsError
from zoo.generators.base import Generator
from zoo.viewer import page, server
from zoo.viewer.controls import plain
from zoo.viewer.page import Page
from zoo.viewer.state import MESH, Abilities, State, Thing
from zoo.viewer.view import View


@pytest.fixture(scope="module")
def shaded() -> Generator:
    return shadegan()


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
