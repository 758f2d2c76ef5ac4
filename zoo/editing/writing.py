"""A reconstruction as files: pictures, one sheet of them all, a mesh, and the file that `read` takes."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import ConfigError, WeightsError, ZooError
from ..geometry import Render
from ..images import resize
from ..output.colours import show_image, to_pil
from ..output.lights import preset_lights
from ..output.meshes import export
from ..output.sheets import MAPS, captioned, grid, save_png
from ..runtime.files import printable
from .reconstruction import Reconstruction, model_of

if TYPE_CHECKING:
    from PIL.Image import Image

RECONSTRUCTION = "reconstruction.safetensors"
_YAWS = (-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6)  # as many as a method with light has maps and lights
log = logging.getLogger(__name__)


def write_reconstruction(rec: Reconstruction, folder: Path, size: int, notes: Mapping[str, Any]) -> list[Path]:
    """Write every map, view and light of a reconstruction, a sheet of all of them, its mesh and the object itself.

    What an earlier reconstruction has left in the folder is removed. The object itself comes first, so that whatever
    happens afterwards loses no search; of one without a mesh a warning is logged.

    Args:
        rec: Is what inversion has found.
        folder: Takes the files; it is made if it is missing.
        size: Is the side of the pictures in pixels.
        notes: Tells the origin of each picture and of the mesh, see `save_png`; the name of the model is added.

    Returns:
        The files: `sheet.png`, one PNG for each picture, `mesh.glb` if there is one, and `reconstruction.safetensors`.
    """
    earlier = _names() if _holds_ours(folder) else set()  # else files of such names are somebody's own
    saved = rec.save(folder / RECONSTRUCTION)
    for name in earlier - {RECONSTRUCTION}:
        (folder / name).unlink(missing_ok=True)
    notes = {"model": rec.generator.name, **notes}
    rows = [row for row in (_maps(rec, size), _views(rec, size), _relit(rec, size)) if row]
    paths = [save_png(captioned(rows), folder / "sheet.png", notes)]
    for row in rows:
        paths += [save_png(image, folder / f"{_slug(caption)}.png", notes) for caption, image in row.items()]
    try:
        paths.append(export(rec.mesh(), folder / "mesh.glb", notes))
    except (ZooError, ValueError) as error:
        log.warning("%s: there is no mesh (%s); all else is written", printable(folder), " ".join(str(error).split()))
    return [*paths, saved]


def need_own(folder: Path, inputs: Iterable[Path]) -> None:
    """Refuse a folder, before the search, in which `write_reconstruction` would replace what somebody else has made.

    Args:
        folder: Where it would write.
        inputs: The pictures that it is made from.

    Raises:
        ConfigError: A file that would be written is one of the inputs, or lies in a folder without a reconstruction.
    """
    given, ours = [path for path in inputs if path.exists()], _holds_ours(folder)
    for place in (folder / name for name in sorted(_names())):
        if place.exists() and (not ours or any(map(place.samefile, given))):
            raise ConfigError(f"{printable(place)} would be replaced by what is found; name another folder")


def _holds_ours(folder: Path) -> bool:
    try:
        model_of(folder / RECONSTRUCTION)
    except WeightsError:
        return False
    return True


def _maps(rec: Reconstruction, size: int) -> "dict[str, Image]":
    """The photograph, and the object as seen in it."""
    own = rec.render(size=size)
    shown = own
    if own.shading is not None:  # bright light would leave nothing but white
        shown = replace(own, shading=own.shading / max(1.0, _strength(rec)))
    photograph = to_pil(show_image(resize(rec.image, size).clamp(-1, 1))[0])
    row = {"photograph": photograph, "reconstruction": _picture(own)}
    row |= {name: grid(shown, maps=[name]) for name in MAPS[1:] if getattr(own, name) is not None}
    if rec.light is not None and own.shading is not None:
        diffuse = (own.shading - rec.light.ambient) / rec.light.diffuse.clamp_min(1e-3)
        row["diffuse"] = to_pil(diffuse.clamp(0, 1).expand(-1, 3, -1, -1)[0])
    return row


def _views(rec: Reconstruction, size: int) -> "dict[str, Image]":
    """The object turned, at the pitch of its photograph."""
    pitch = rec.camera.pose[0, 0].item()
    cameras = {_yaw(yaw): rec.generator.camera(yaw, pitch, size) for yaw in _YAWS}
    return {caption: _picture(rec.render(camera)) for caption, camera in cameras.items()}


def _relit(rec: Reconstruction, size: int) -> "dict[str, Image]":
    """The object under other lights, which are as strong as its own, if its generator has any."""
    lights = {} if rec.light is None else preset_lights(rec.generator.device, _strength(rec))
    return {f"light {side}": _picture(rec.render(light=light, size=size)) for side, light in lights.items()}


def _strength(rec: Reconstruction) -> float:
    """How bright its light makes a surface that faces it."""
    return 1.0 if rec.light is None else max(0.0, (rec.light.ambient + rec.light.diffuse).item())


def _picture(render: Render) -> "Image":
    return grid(render, maps=["rgb"])


def _names() -> set[str]:
    """The names of all files that a reconstruction can have."""
    captions = ["photograph", "reconstruction", *MAPS[1:], "diffuse", *map(_yaw, _YAWS)]
    captions += [f"light {side}" for side in preset_lights(torch.device("cpu"))]
    return {"sheet.png", "mesh.glb", RECONSTRUCTION} | {f"{_slug(caption)}.png" for caption in captions}


def _yaw(yaw: float) -> str:
    return f"yaw {yaw:+.2f}"


def _slug(caption: str) -> str:
    return caption.replace(" ", "_").replace("+", "")
