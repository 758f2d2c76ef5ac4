"""What a fit is made to. Without Lightning, so that results are read in a moment."""

import hashlib
from dataclasses import dataclass

from torch import Tensor


@dataclass
class Subject:
    """A photograph to fit to, its place in the GAN, and what is known of it.

    Attributes:
        name: Stands in files and messages.
        image: (1,3,S,S) in [-1,1] is the photograph as the networks see it.
        w: (1,D) or (1,L,D) is its latent in the GAN.
        mask: (1,1,S,S) is the foreground in [0,1].
        shape: (1,1,S,S) is the initial canonical depth.
        depth: (1,1,S,S) is the true depth in the view of the photograph, if it is known.
        inside: (1,1,S,S) bool says where there is true depth, if it is known.
    """

    name: str
    image: Tensor
    w: Tensor
    mask: Tensor
    shape: Tensor
    depth: Tensor | None = None
    inside: Tensor | None = None


def digest(image: Tensor) -> str:
    """What tells one picture from another: the SHA-256 of its numbers."""
    return hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()
