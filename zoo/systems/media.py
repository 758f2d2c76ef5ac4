"""What loggers see beside figures: the rows of the sample sheets as pictures, and the first object as a small mesh."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger

from ..errors import ZooError
from ..output.meshes import export

if TYPE_CHECKING:
    from PIL.Image import Image
    from pytorch3d.structures import Meshes

    from ..generators.base import Generator, Latents

log = logging.getLogger(__name__)

_CELLS = 48  # along a volume or across a sphere: some thousand vertices


def show(
    loggers: Sequence[Logger], pictures: Mapping[str, "Image"], generator: "Generator", latents: "Latents", images: int
) -> None:
    """Send pictures by their names and, of methods with a shape, the first object's mesh to TensorBoard and W&B.

    Args:
        loggers: Those of the run; other kinds are left out.
        pictures: What to show, by name.
        generator: Makes the mesh.
        latents: Are the objects in the pictures.
        images: How many images training has seen.
    """
    if not loggers:
        return
    meshes = _mesh(generator, latents[0]) if generator.is_3d else None
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            _to_tensorboard(logger.experiment, pictures, meshes, images)
        elif isinstance(logger, WandbLogger):
            _to_wandb(logger.experiment, pictures, meshes, images)


def _mesh(generator: "Generator", latents: "Latents") -> "Meshes | None":
    """None while there is no surface, as in the first samples of a field."""
    try:
        return generator.mesh(latents, resolution=_CELLS)
    except ValueError as error:
        log.debug("no mesh for the loggers: %s", error)
        return None


def _to_tensorboard(board: Any, pictures: Mapping[str, "Image"], meshes: "Meshes | None", images: int) -> None:
    for name, picture in pictures.items():
        board.add_image(f"samples/{name}", np.asarray(picture), images, dataformats="HWC")
    if meshes is not None:
        textures: Any = meshes.textures
        seen = getattr(textures, "verts_features_padded", None)  # a texture's colours lie between the vertices
        colours = None if seen is None else (255 * seen()).round().byte()
        vertices: Any = meshes.verts_padded()
        board.add_mesh("samples/mesh", vertices, colors=colours, faces=meshes.faces_padded(), global_step=images)


def _to_wandb(run: Any, pictures: Mapping[str, "Image"], meshes: "Meshes | None", images: int) -> None:
    import wandb

    shown: dict[str, Any] = {f"samples/{name}": wandb.Image(picture) for name, picture in pictures.items()}
    with tempfile.TemporaryDirectory() as folder:
        if meshes is not None:
            try:
                shown["samples/mesh"] = wandb.Object3D(str(export(meshes, Path(folder) / "mesh.glb")))
            except (ZooError, OSError) as error:  # not finite, or no room: nothing that a training should end for
                log.warning("no mesh for wandb: %s", error)
        run.log({**shown, "trainer/global_step": images})  # which copies the file
