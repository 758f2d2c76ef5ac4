"""One visitor's page: its camera, what is drawn for it, and the jobs that its buttons start."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from ..resources import example_photo
from . import files
from .controls import Controls, when
from .files import File
from .state import MESH, Abilities, Lamp, State
from .view import View, aspect_of, fov_of
from .worker import Breathe, Worker

_QUALITY = 90  # of the JPEGs that the browser gets
_SHARP = 512  # pixels to which smaller pictures are enlarged, since JPEG's blocks would show
_STILL = 1e-3  # radians, and shares of the zoom, below which the camera has not moved
_PLAIN = Lamp()  # shines on the meshes of methods whose light is part of their colours


class Page:
    """The page of one visitor, from the first word of the browser until `leave`.

    Args:
        client: Is viser's `ClientHandle` of the browser.
        worker: Draws.
        able: Says what the method can honour.
        title: Is the name of the weights, and what they are, in Markdown.
        first: Is what is shown at first.
    """

    def __init__(self, client: Any, worker: Worker, able: Abilities, title: str, first: State) -> None:
        self._client, self._worker, self._able = client, worker, able
        self._scene = worker.generator.scene
        self._gone, self._aspect = False, 0.0
        self._busy = False  # with a job, until the worker has said that it is over
        self._mesh: tuple[object, ...] = ()  # the key of what the mesh in the browser shows
        self._shape: Any = None  # the mesh in the browser's scene
        self._said = ""  # of that mesh, in the status
        self._turn = threading.Lock()  # of the browser's wishes and the worker's meshes
        self._pace = 0.0
        self.controls = Controls(client.gui, able, title, first, self._changed)
        self._connect()
        self._fit(client.camera)
        client.camera.on_update(self._moved)
        self._follow()
        self._changed(False)

    def leave(self) -> None:
        """Draw nothing more: the browser is gone."""
        self._gone = True
        self._worker.forget(self)

    # ---------------------------------------------------------------- from the browser

    def _connect(self) -> None:
        controls = self.controls
        for name, button in controls.files.items():
            when(button.on_click, partial(self._download, name))
        when(controls.cancel.on_click, lambda event: self._worker.cancel(self))
        when(controls.dark.on_update, lambda event: theme(self._client.gui, controls.dark.value))
        if self._able.photos:
            when(
                controls.upload.on_upload,
                lambda event: self._invert(event.target.value.content, event.target.value.name),
            )
            when(controls.example.on_click, lambda event: self._invert(example_photo().read_bytes(), "the example"))

    async def _moved(self, camera: Any) -> None:
        self._fit(camera)
        if not self._able.camera:
            return
        view = View.seen(camera.position.tolist(), camera.look_at.tolist(), camera.fov, self._aspect, self._scene)
        if _apart(view, self.controls.view) > _STILL and self.controls.look(view, quiet=True):
            self._wish()

    def _fit(self, camera: Any) -> None:
        """Let the picture fill the shorter side of a canvas that has another shape than before."""
        aspect = aspect_of(camera.image_width, camera.image_height)
        if abs(aspect - self._aspect) > 1e-3:
            self._aspect = aspect
            camera.fov = fov_of(self._scene, aspect)
            self._wish()

    def _changed(self, follow: bool) -> None:
        if follow:
            self._follow()
        self._wish()

    def _follow(self) -> None:
        """Move the browser's camera to the view of the controls."""
        view, camera = self.controls.view, self._client.camera
        with self._client.atomic():
            camera.position = view.position(self._scene)
            camera.look_at = view.target

    def _wish(self) -> None:
        """Ask for what the controls say, unless the browser can show it without us."""
        with self._turn:
            state = self.controls.state()
            if state.shown == MESH:
                self._light(state.lamp or _PLAIN)
                if state.thing.key == self._mesh:
                    self._worker.withdraw(self)  # the mesh of another object, asked for meanwhile
                    self.controls.status(self._said)
                    return
                self.controls.status("making the mesh ...")
            self._worker.ask(self, state)

    # ---------------------------------------------------------------- jobs

    def _download(self, name: str, event: Any) -> None:
        state, make = self.controls.state(), _FILES[name]

        def work(breathe: Breathe) -> None:
            file: File = make(self._worker, state, breathe)
            if not self._gone:
                self._client.send_file_download(file.name, file.data, save_immediately=True)

        self._start(f"Making the {name} ...", work)

    def _invert(self, data: bytes, name: str) -> None:
        align = bool(self.controls.align.value)

        def work(breathe: Breathe) -> None:
            found = files.photograph(self._worker, data, name, align, breathe)
            if self._gone:
                return
            self.controls.show_photo(found)
            self._changed(True)
            self.controls.note(found.fit.warning)

        self._start("Looking for the object in the photograph ...", work)

    def _start(self, what: str, work: Callable[[Breathe], None]) -> None:
        if self._busy:
            return
        # Said before the job begins: a short one ends at once, in the worker's thread, and frees the buttons.
        self._busy = True
        self.controls.note("")
        self.controls.working(what)
        if not self._worker.begin(self, work):
            self.ended("")

    # ---------------------------------------------------------------- from the worker

    def show(self, state: State, picture: np.ndarray | bytes, seconds: float, final: bool) -> None:
        """Put a picture or a mesh into the page, if its controls still say so."""
        with self._turn:
            wanted = self.controls.state()
            if self._gone or state.shown != wanted.shown:
                return
            if isinstance(picture, bytes):
                if state.thing.key == wanted.thing.key:  # else another object was chosen meanwhile
                    self._put(picture, state.thing.key)
                return
            if self._shape is not None:
                self._shape.remove()
                self._shape, self._mesh = None, ()
        self._client.scene.set_background_image(padded(picture, self._aspect), "jpeg", jpeg_quality=_QUALITY)
        now, pause = time.monotonic(), time.monotonic() - self._pace
        self._pace = now
        often = f", {1 / pause:.0f} pictures a second" if not final and pause < 2 else ""
        self.controls.status(f"{len(picture)} px, drawn in {seconds:.2f} s{often}")

    def _put(self, mesh: bytes, key: tuple[object, ...]) -> None:
        old, self._mesh = self._shape, key
        self._shape = self._client.scene.add_glb("/object", mesh, cast_shadow=False, receive_shadow=False)
        if old is None:
            self._client.scene.set_background_image(None)
        self._said = f"mesh, {len(mesh) / 2**20:.1f} MB"
        self.controls.status(self._said)

    def progress(self, share: float) -> None:
        """Show how far the job is."""
        if not self._gone:
            self.controls.progress(share)

    def ended(self, problem: str) -> None:
        """Free the buttons, and say what went wrong."""
        self._busy = False
        if not self._gone:
            self.controls.working("")
            if problem:
                self.controls.note(problem)

    def failed(self, problem: str) -> None:
        """Say what went wrong with a picture or a mesh, and no longer that it is being made."""
        if not self._gone:
            self.controls.status("")
            self.controls.note(problem)

    def _light(self, lamp: Lamp) -> None:
        """Light the browser's own scene, in which meshes are, as the sliders say."""
        scene = self._client.scene
        x, y, z = lamp.light().direction[0].tolist()
        # Three.js divides by pi what a matt surface sends back.
        scene.add_light_ambient("/ambient", intensity=np.pi * lamp.ambient)
        scene.add_light_directional("/diffuse", intensity=np.pi * lamp.diffuse, position=(x, y, z))


_FILES: dict[str, Callable[[Worker, State, Breathe], File]] = {
    "picture": files.picture, "mesh": files.mesh, "turntable": files.turntable, "walk": files.walk,
}  # fmt: skip


def theme(gui: Any, dark: bool) -> None:
    """Make a page light or dark, without viser's logo and its button for sharing over a server of others."""
    gui.configure_theme(dark_mode=dark, show_logo=False, show_share_button=False, brand_color=(47, 105, 120))


def padded(picture: np.ndarray, aspect: float) -> np.ndarray:
    """A square picture (S, S, 3), enlarged if small, on a canvas of this shape with the mean colour of its rim."""
    side = max(_SHARP, len(picture))
    picture = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))
    wide, high = round(side * max(1.0, aspect)), round(side / min(1.0, aspect))
    rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]).mean(0).round()
    canvas = np.empty((high, wide, 3), np.uint8)
    canvas[:] = rim.astype(np.uint8)
    top, left = (high - side) // 2, (wide - side) // 2
    canvas[top : top + side, left : left + side] = picture
    return canvas


def _apart(one: View, two: View) -> float:
    """How far two views differ."""
    pairs = zip((one.yaw, one.pitch, one.zoom, *one.target), (two.yaw, two.pitch, two.zoom, *two.target), strict=True)
    return max(abs(a - b) for a, b in pairs)
