"""What a visitor has chosen, which of it a method can honour, and the object and light that follow from it."""

from dataclasses import dataclass, field
from typing import Self

import torch

from ..editing.codes import at, truncate
from ..editing.reconstruction import Reconstruction
from ..generators.base import Explainer, Generator, Latents
from ..geometry import Light
from ..output.sheets import MAPS
from .view import View, clamp

MESH = "mesh"
SEEDS = 2**31 - 1  # the largest seed of the page, which a browser's numbers hold exactly
PSI, STRENGTH, SLOPE = (0.0, 1.0), (0.0, 1.0), (-2.0, 2.0)


@dataclass(frozen=True)
class Lamp:
    """A light as its sliders have it: strengths from 0 to 1, and slopes to the right and upwards, see `Light.of`."""

    ambient: float = 0.45
    diffuse: float = 0.55
    right: float = 0.0
    up: float = 0.0

    @classmethod
    def of(cls, light: Light) -> Self:
        """The sliders of the first light of a batch, to two decimals."""
        a, d, x, y = light.params[0].tolist()
        return cls(*(round(value, 2) for value in (a / 2 + 0.5, d / 2 + 0.5, x, y))).bounded()

    def bounded(self) -> Self:
        """The same lamp within the bounds of its sliders."""
        return type(self)(
            clamp(self.ambient, *STRENGTH), clamp(self.diffuse, *STRENGTH),
            clamp(self.right, *SLOPE), clamp(self.up, *SLOPE),
        )  # fmt: skip

    def light(self) -> Light:
        """The light that a generator takes."""
        return Light.of(self.ambient, self.diffuse, self.right, self.up)


@dataclass(frozen=True, eq=False)  # tensors cannot be compared at a glance; see `key`
class Thing:
    """An object: that of a seed or a photograph, and how far it has walked towards another seed.

    Attributes:
        seed: The seed, if there is no photograph.
        psi: Truncation from 0, the average object, to 1.
        other: The seed at the end of the walk.
        share: How much of the way has been walked, from 0 to 1.
        photo: What was found in a photograph, which then takes the place of `seed`.
    """

    seed: int = 0
    psi: float = 0.7
    other: int = 1
    share: float = 0.0
    photo: Reconstruction | None = None

    def bounded(self) -> Self:
        """The same thing with all numbers within the bounds of their sliders."""
        seed, other = (int(clamp(seed, 0, SEEDS)) for seed in (self.seed, self.other))
        return type(self)(seed, clamp(self.psi, *PSI), other, clamp(self.share, 0, 1), self.photo)

    @property
    def key(self) -> tuple[object, ...]:
        """What two equal things have in common."""
        walk = (self.other, self.share) if self.share else ()
        return (self.seed if self.photo is None else id(self.photo), self.psi, *walk)

    def latents(self, generator: Generator) -> Latents:
        """The object itself, as a batch of one."""
        with torch.no_grad():
            if self.photo is None:
                start = generator.latents(1, seed=self.seed, psi=self.psi)
            else:
                psi = self.psi if generator.interpolates else 1.0
                start = truncate(generator, self.photo.latents, psi)
            if not self.share or not generator.interpolates:
                return start
            end = generator.latents(1, seed=self.other, psi=self.psi)
            return at(generator, torch.lerp(generator.code(start), generator.code(end), self.share))

    @property
    def start(self) -> str:
        """The seed or the photograph, in words that can be part of a file's name."""
        return "photo" if self.photo is not None else f"seed{self.seed}"

    @property
    def walk(self) -> str:
        """The whole walk in such words."""
        return f"{self.start}-to-seed{self.other}"

    @property
    def title(self) -> str:
        """The thing itself in such words."""
        return f"{self.walk}-{self.share:.2f}" if self.share else self.start


@dataclass(frozen=True, eq=False)
class State:
    """All that decides how a picture looks: the object, where it is seen from, its light, and which map is shown."""

    thing: Thing = field(default_factory=Thing)
    view: View = field(default_factory=View)
    lamp: Lamp | None = None
    shown: str = "rgb"


@dataclass(frozen=True)
class Abilities:
    """What a method can honour; the page has no other controls.

    Attributes:
        maps: The maps that it renders, out of `MAPS`.
        camera: Whether a camera turns its objects.
        lamp: The mean light of its training data, if it has lights.
        codes: Whether objects lie between others, so that they can be truncated and walked between.
        photos: Whether it finds objects in photographs.
        mesh: Whether its objects have a mesh.
    """

    maps: tuple[str, ...]
    camera: bool
    lamp: Lamp | None
    codes: bool
    photos: bool
    mesh: bool

    @classmethod
    def of(cls, generator: Generator) -> Self:
        """Ask a generator, by one small render."""
        with torch.no_grad():
            render = generator(generator.latents(1), generator.camera(size=16))
        lamp = Lamp.of(generator.mean_light) if generator.uses_light else None
        solid = generator.is_3d
        return cls(
            tuple(name for name in MAPS if getattr(render, name) is not None),
            generator.uses_camera, lamp, generator.interpolates,
            solid and (generator.interpolates or isinstance(generator, Explainer)), solid,
        )  # fmt: skip

    @property
    def shown(self) -> tuple[str, ...]:
        """What can be shown: the maps, and the mesh."""
        return (*self.maps, MESH) if self.mesh else self.maps

    def first(self, photo: Reconstruction | None = None) -> State:
        """What is shown at first: a reconstruction as it was photographed, or seed 0 from the front."""
        lamp = self.lamp
        if photo is None:
            return State(lamp=lamp)
        pitch, yaw = photo.camera.pose[0].tolist()
        if photo.light is not None and lamp is not None:
            lamp = Lamp.of(photo.light)
        return State(Thing(psi=1.0, photo=photo), View(yaw, pitch), lamp)
