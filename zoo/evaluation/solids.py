"""One mesh of each method in a report, to be turned by hand."""

import logging
from collections.abc import Mapping

from torch import Tensor

from ..errors import ZooError
from ..generators.base import Generator
from ..output.turning import front, glb
from .benchmark import Subject

log = logging.getLogger(__name__)
_RESOLUTION, _SEED, _PSI = 64, 0, 0.7
SAID = f"The first object of each method, seed {_SEED}, truncation {_PSI:g}, as a mesh in its own colours."


def meshes(subjects: Mapping[str, Subject]) -> list[tuple[str, bytes, Tensor]]:
    """Name, .glb and a picture (3,128,128) in [0,1] of an object of each method that makes shapes.

    A mesh that cannot be made costs the report nothing: it is left out, with a line in the log.
    """
    made = []
    for name, subject in subjects.items():
        if not isinstance(subject, Generator) or not subject.is_3d:
            continue
        latents = subject.latents(1, seed=_SEED, psi=_PSI)
        try:
            made.append((name, glb(subject.mesh(latents, resolution=_RESOLUTION)), front(subject, latents)))
        except (ZooError, ValueError) as error:  # formulas refuse without knowing whose numbers they are
            log.warning("%s: no mesh in the report: %s", name, error)
    return made
