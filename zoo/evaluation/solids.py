"""One mesh of each method in a report, to be turned by hand."""

import hashlib
import inspect
import io
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import resources
from ..errors import Interrupted
from ..generators.base import Generator
from ..output.pages import versions
from ..output.turning import front, glb
from ..runtime.files import atomic_write
from .benchmark import Subject
from .store import key_of

log = logging.getLogger(__name__)
Solid = tuple[bytes, Tensor]  # a .glb, and a picture (3,128,128) in [0,1]
_RESOLUTION, _SEED, _PSI = 64, 0, 0.7
SAID = f"The first object of each method, seed {_SEED}, truncation {_PSI:g}, as a mesh in its own colours."


def meshes(subjects: Mapping[str, Subject]) -> list[tuple[str, bytes, Tensor]]:
    """Name, .glb and a picture (3,128,128) in [0,1] of an object of each method that makes shapes.

    They are kept in the cache, by the method's weights and code, and by the versions of packages. A mesh that
    cannot be made costs the report nothing: it is left out, with a line in the log.
    """
    made = []
    for name, subject in subjects.items():
        if not isinstance(subject, Generator) or not subject.is_3d:
            continue
        kept = resources.cache() / "meshes" / f"{key_of(subject, _SEED)}-{_tail(subject)}.npz"
        try:
            solid = _found(kept) or _made(subject, kept)
        except Interrupted:
            raise
        except Exception as error:  # even a bug of one method must not cost the report
            log.warning("%s: no mesh in the report: %s", name, " ".join(str(error).split()) or type(error).__name__)
            continue
        made.append((name, *solid))
    return made


def _tail(subject: Generator) -> str:
    """Eight digits that change with packages, with how meshes are made, and with the method's own file."""
    code = Path(inspect.getfile(type(subject))).read_bytes()
    return hashlib.sha256(code + repr((versions(), _RESOLUTION, _PSI)).encode()).hexdigest()[:8]


def _found(kept: Path) -> Solid | None:
    """A mesh from an earlier report; None if there is none, or none that can be read."""
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            mesh, poster = arrays["mesh"].tobytes(), torch.from_numpy(arrays["poster"])
    except Exception:  # whatever damage does to a file: a mesh that is kept is a convenience
        return None
    return (mesh, poster) if mesh.startswith(b"glTF") and poster.ndim == 3 else None


def _made(subject: Generator, kept: Path) -> Solid:
    latents = subject.latents(1, seed=_SEED, psi=_PSI)
    mesh = glb(subject.mesh(latents, resolution=_RESOLUTION))
    poster = front(subject, latents)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, mesh=np.frombuffer(mesh, np.uint8), poster=poster.numpy())
    try:
        atomic_write(kept, buffer.getvalue())
    except OSError as error:
        log.warning("a mesh of the report is not kept: %s", error)
    return mesh, poster
