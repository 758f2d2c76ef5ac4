"""The panel beside the picture: sliders and buttons, only those that the loaded method can honour."""

import random
import re
import time
from collections.abc import Callable
from typing import Any

from ..editing.reconstruction import Reconstruction
from .state import MESH, PSI, SEEDS, SLOPE, STRENGTH, Abilities, Lamp, State, Thing
from .view import View, clamp

WORDS = {
    "rgb": "Colour", "albedo": "Albedo (colour without light)", "normal": "Normals", "depth": "Depth",
    "shading": "Shading", MESH: "Mesh",
}  # fmt: skip
_TURN, _NOD = 1.5, 0.8  # radians at the ends of the sliders; dragging goes further
_QUIET = 0.5  # seconds after a move of a view's slider in which the browser's camera only repeats it


class Controls:
    """The panel of one visitor.

    Args:
        gui: Is viser's `GuiApi` of the visitor, not of the server. Its setters take other types than its getters give,
            which type checkers refuse.
        able: Says which controls there are.
        title: Is the name of the weights, and what they are.
        first: Is what the controls say at first.
        changed: Is called when the picture should change; with True if the browser's camera has to follow.
    """

    def __init__(self, gui: Any, able: Abilities, title: str, first: State, changed: Callable[[bool], None]) -> None:
        self._gui, self._able, self._first, self._changed, self._slid = gui, able, first, changed, 0.0
        self.view: View = first.view
        self.photo: Reconstruction | None = None
        gui.add_markdown(title)
        self._note = gui.add_markdown("", visible=False)
        self._work = gui.add_markdown("", visible=False)
        self._bar = gui.add_progress_bar(0.0, visible=False, animated=True)
        self.cancel = gui.add_button("Cancel", visible=False, color="gray")
        self._words = {WORDS[name]: name for name in able.shown}
        self._shown = self._input(gui.add_dropdown("Show", tuple(self._words)))
        with gui.add_folder("Object"):
            self._object(gui, first.thing)
        if able.camera:
            with gui.add_folder("View"):
                self._angles(gui)
        if able.lamp is not None:
            with gui.add_folder("Light"):
                self._light(gui, first.lamp or able.lamp)
        if able.codes:
            with gui.add_folder("Walk"):
                hint = "The seed of the object at the end of the walk."
                self._other = self._input(gui.add_number("To seed", first.thing.other, min=0, max=SEEDS, hint=hint))
                hint = "0 is the object itself, 1 the other one."
                self._share = self._input(gui.add_slider("Way", 0.0, 1.0, 0.01, 0.0, hint=hint))
        if able.photos:
            with gui.add_folder("Photograph") as self._photos:
                self._photograph(gui)
        with gui.add_folder("Download"):
            self.files = {"picture": gui.add_button("Picture (.png)")}
            if able.mesh:
                self.files["mesh"] = gui.add_button("Mesh (.glb)")
            if able.camera:
                self.files["turntable"] = gui.add_button("Turntable (.mp4)")
            if able.codes:
                self.files["walk"] = gui.add_button("Walk (.mp4)")
        self.dark = gui.add_checkbox("Dark page", False)
        self._status = gui.add_markdown("")
        self.show_photo(first.thing.photo)

    def _object(self, gui: Any, thing: Thing) -> None:
        self._seed = gui.add_number("Seed", thing.seed, min=0, max=SEEDS, hint="Each seed is one object.")
        steps = gui.add_button_group("", ("Previous", "Next", "Random"))

        def seeded(event: Any) -> None:
            if self.photo is not None:
                self._use_photo.value = False
            self._changed(False)

        def step(event: Any) -> None:
            seed = int(clamp(self._seed.value, 0, SEEDS))
            move = {"Previous": seed - 1, "Next": seed + 1}.get(event.target.value, random.randrange(10_000))
            self._seed.value = int(clamp(move, 0, SEEDS))

        when(self._seed.on_update, seeded)
        when(steps.on_click, step)
        if self._able.codes:
            hint = "1 leaves the object as it is, 0 makes it the average one."
            self._psi = self._input(gui.add_slider("Truncation", *PSI, 0.01, thing.psi, hint=hint))

    def _photograph(self, gui: Any) -> None:
        self.upload = gui.add_upload_button("Choose a photograph", mime_type="image/*")
        self.example = gui.add_button("Try the example", color="gray")
        hint = "Off: the largest square in the middle is used as it is."
        self.align = gui.add_checkbox("Find the face", True, hint=hint)
        self._use_photo = self._input(gui.add_checkbox("Show its object", False, visible=False))
        self._thumb: Any = None

    def _angles(self, gui: Any) -> None:
        hint = "Radians; dragging the picture does the same. Positive turns the head to its left."
        self._yaw = gui.add_slider("Yaw", -_TURN, _TURN, 0.01, clamp(self.view.yaw, -_TURN, _TURN), hint=hint)
        hint = "Radians; positive raises the chin."
        self._pitch = gui.add_slider("Pitch", -_NOD, _NOD, 0.01, clamp(self.view.pitch, -_NOD, _NOD), hint=hint)

        def slid(event: Any) -> None:
            if event.client is not None:  # not if we have moved it ourselves, after the browser's camera
                self._slid = time.monotonic()
                yaw, pitch = clamp(self._yaw.value, -_TURN, _TURN), clamp(self._pitch.value, -_NOD, _NOD)
                self.view = View(yaw, pitch, self.view.zoom, self.view.target)
                self._changed(True)

        def reset(event: Any) -> None:
            self.look(self._of_photo() or View())
            self._changed(True)

        when(self._yaw.on_update, slid)
        when(self._pitch.on_update, slid)
        when(gui.add_button("Reset the view", color="gray").on_click, reset)

    def _light(self, gui: Any, lamp: Lamp) -> None:
        hint = "The slope of the light's direction."
        self._lamp = [
            gui.add_slider("Ambient", *STRENGTH, 0.01, lamp.ambient, hint="Strength of the light from all sides."),
            gui.add_slider("Diffuse", *STRENGTH, 0.01, lamp.diffuse, hint="Strength of the light from one side."),
            gui.add_slider("From the right", *SLOPE, 0.01, lamp.right, hint=hint),
            gui.add_slider("From above", *SLOPE, 0.01, lamp.up, hint=hint),
        ]
        for slider in self._lamp:
            self._input(slider)

        def reset(event: Any) -> None:
            light = self.photo.light if self.photo is not None and self._use_photo.value else None
            self._shine(Lamp.of(light) if light is not None else self._able.lamp or Lamp())

        when(gui.add_button("Reset the light", color="gray").on_click, reset)

    def _input(self, handle: Any) -> Any:
        """An input whose every change changes the picture."""
        when(handle.on_update, lambda event: self._changed(False))
        return handle

    # ---------------------------------------------------------------- what they say

    def state(self) -> State:
        """What the controls say now, within bounds."""
        able, first = self._able, self._first.thing
        other, share = (self._other.value, self._share.value) if able.codes else (first.other, 0.0)
        photo = self.photo if able.photos and self._use_photo.value else None
        psi = self._psi.value if able.codes else first.psi
        lamp = None if able.lamp is None else Lamp(*(slider.value for slider in self._lamp)).bounded()
        return State(
            Thing(self._seed.value, psi, other, share, photo).bounded(), self.view, lamp,
            self._words.get(self._shown.value, "rgb"),
        )  # fmt: skip

    def look(self, view: View, quiet: bool = False) -> bool:
        """Let the sliders follow a view; with `quiet` not while they are being moved themselves. Whether they did."""
        if quiet and time.monotonic() - self._slid < _QUIET:
            return False
        self.view = view
        if self._able.camera:
            self._yaw.value = round(clamp(view.yaw, -_TURN, _TURN), 2)
            self._pitch.value = round(clamp(view.pitch, -_NOD, _NOD), 2)
        return True

    def show_photo(self, photo: Reconstruction | None) -> None:
        """Take what was found in a photograph; object, view and light become its own."""
        if photo is None:
            return
        self.photo = photo
        image = (photo.image[0].clamp(-1, 1) / 2 + 0.5).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
        if self._thumb is None:
            with self._photos:
                self._thumb = self._gui.add_image(image, label="As it was cut for the search")
        self._thumb.image = image
        self._use_photo.visible = True
        self._use_photo.value = True
        if self._able.codes:
            self._psi.value, self._share.value = 1.0, 0.0
        self.look(self._of_photo() or View())
        if photo.light is not None and self._able.lamp is not None:
            self._shine(Lamp.of(photo.light))

    def _of_photo(self) -> View | None:
        """The view of the photograph, if it is what is shown."""
        if self.photo is None or not self._use_photo.value:
            return None
        pitch, yaw = self.photo.camera.pose[0].tolist()
        return View(yaw, pitch)

    def _shine(self, lamp: Lamp) -> None:
        for slider, value in zip(self._lamp, (lamp.ambient, lamp.diffuse, lamp.right, lamp.up), strict=True):
            slider.value = round(value, 2)

    # ---------------------------------------------------------------- what is said to the visitor

    def note(self, text: str) -> None:
        """Show one line above the controls until the next one; an empty text takes it away."""
        self._note.content = f"**{plain(text)}**"
        self._note.visible = bool(text)

    def working(self, what: str) -> None:
        """Show a job's name, its bar and the button that cancels it; an empty text takes them away."""
        self._work.content = what
        for handle in (self._work, self._bar, self.cancel):
            handle.visible = bool(what)
        self._bar.value = 0.0
        busy = bool(what)
        for button in (*self.files.values(), *((self.upload, self.example) if self._able.photos else ())):
            button.disabled = busy

    def progress(self, share: float) -> None:
        """Move the bar, 0 to 1."""
        self._bar.value = float(round(100 * clamp(share, 0, 1)))

    def status(self, text: str) -> None:
        """Show a line below the controls."""
        self._status.content = text


def when(register: Callable[[Any], Any], act: Callable[[Any], None]) -> None:
    """Let viser call `act` in its event loop, one event after the other, so that the newest wish is the last."""

    async def handler(event: Any) -> None:
        act(event)

    register(handler)


def plain(text: str) -> str:
    """Text in which nothing is taken for Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&-])", r"\\\1", text)
